// The graphs of a diffusion model: its loss against host arithmetic on the network's own answers, the bound's terms against closed forms,
// the gradients that L_hybrid and the learned process divert, and the conditions.
#include "models/diffusion_cases.h"

#include "backend/node.h"
#include "diffusion/prediction.h"
#include "nn/gamma_network.h"

static elbo_ctx *ctx;
static arena *memory;

static void set_rows(elbo_plan *plan, const diffusion_spec *s, const diffusion_objective *o, const process *p, const double *t, int64_t n,
                     int64_t seed) {
  session view = {.ctx = ctx, .plan = plan, .batch = n};
  session_fill_times(&view, s, o, p, t);
  int64_t *index = elbo_plan_input(plan, "sample_index"), *at = elbo_plan_input(plan, "seed");
  for (int64_t i = 0; index && i < n; i++) index[i] = 100 + i;
  if (at) *at = seed;
}

// --- the loss ---

static double weight_of_epsilon(const diffusion_objective *o, const process_point *q, double sigma_data) {
  double snr = q->alpha * q->alpha / (q->sigma * q->sigma);
  switch (o->weighting) {
  case WEIGHTING_BOUND: return -0.5 * q->dlogsnr;
  case WEIGHTING_MIN_SNR: return fmin(snr, o->gamma) / snr;
  case WEIGHTING_P2: return pow(o->p2_k + snr, -o->p2_gamma);
  case WEIGHTING_EDM: return 1 + 1 / (snr * sigma_data * sigma_data);
  default: return 1 / (1 + exp(q->logsnr - o->bias));
  }
}

enum { B = 5, C = 3 };

// Mean over the examples that count of the weighted error, from the network's outputs on the states that are made here.
static double loss_by_hand(const diffusion_spec *s, const diffusion_objective *o, const process *p, elbo_store *store, const float *x,
                           const double *t, const float *weight, int64_t seed) {
  elbo_graph *g;
  elbo_plan *plan;
  double eps[B][C], state[B][C], sum = 0, count = 0, none[C];
  assert_ok(ctx, elbo_graph_create(ctx, "call", &g));
  elbo_tensor *out = diffusion_call_graph(s, g, B);
  assert_ok(ctx, elbo_plan_create(ctx, g, 1, &out, NULL, &plan));
  float *sample = elbo_plan_input(plan, "sample"), raw[B * C];
  const double d = s->model.sigma_data;
  for (int b = 0; b < B; b++) {
    process_point q = process_at(p, t[b]);
    noise_of((uint64_t)seed, "epsilon", 100 + b, C, eps[b]);
    double shown = s->model.prediction == PREDICT_EDM ? 1 / sqrt(q.sigma * q.sigma + d * d * q.alpha * q.alpha) : 1;
    for (int c = 0; c < C; c++) {
      state[b][c] = q.alpha * (double)x[b * C + c] + q.sigma * eps[b][c];
      sample[b * C + c] = (float)(shown * state[b][c]);
    }
  }
  for (int b = 0; b < B; b++) { // one call is at one time
    int64_t steps = process_steps(p);
    diffusion_set_time(plan, diffusion_time_told(s, p, steps ? round(t[b] * (double)steps) - 1 : process_network_time(p, t[b])));
    assert_ok(ctx, elbo_plan_run(plan, store));
    memcpy(raw + b * C, (const float *)elbo_plan_output(plan, 0) + b * C, C * sizeof(float));
  }
  for (int b = 0; b < B; b++) {
    process_point q = process_at(p, t[b]);
    double output[C], x0[C], target[C], eps_hat[C], of_raw = 0, of_epsilon = 0;
    for (int c = 0; c < C; c++) output[c] = (double)raw[b * C + c], x0[c] = (double)x[b * C + c];
    prediction_to_x0_epsilon(s->model.prediction, q.alpha, q.sigma, d, C, state[b], output, none, eps_hat);
    prediction_from_x0_epsilon(s->model.prediction, q.alpha, q.sigma, d, C, x0, eps[b], target);
    for (int c = 0; c < C; c++) {
      of_raw += (output[c] - target[c]) * (output[c] - target[c]) / C;
      of_epsilon += (eps_hat[c] - eps[b][c]) * (eps_hat[c] - eps[b][c]) / C;
    }
    double v = weight_of_epsilon(o, &q, d) * of_epsilon;
    if (o->weighting == WEIGHTING_SIMPLE) v = s->model.prediction == PREDICT_SCORE ? of_epsilon : of_raw;
    sum += (double)weight[b] * v, count += (double)weight[b];
  }
  elbo_plan_destroy(&plan);
  elbo_graph_destroy(&g);
  return sum / count;
}

static double loss_of_graph(const diffusion_spec *s, const diffusion_objective *o, const process *p, elbo_store *store, const float *x,
                            const double *t, const float *weight, int64_t seed) {
  diffusion_training_graph graph;
  elbo_plan *plan;
  assert_ok(ctx, diffusion_training_build(ctx, s, o, p, B, true, &graph));
  assert_ok(ctx, elbo_plan_create(ctx, graph.graph, 1, &graph.loss, NULL, &plan));
  memcpy(elbo_plan_input(plan, "x"), x, B * C * sizeof *x);
  memcpy(elbo_plan_input(plan, "weight"), weight, B * sizeof *weight);
  set_rows(plan, s, o, p, t, B, seed);
  assert_ok(ctx, elbo_plan_run(plan, store));
  double loss = (double)*(const float *)elbo_plan_output(plan, 0);
  elbo_plan_destroy(&plan);
  elbo_graph_destroy(&graph.graph);
  return loss;
}

static void test_losses(void **state) {
  (void)state;
  static const char *const processes[] = {"cosine", "edm", "flow, shift: 2", "linear, logsnr_min: -7, logsnr_max: 7"};
  const elbo_dataset_info info = {.height = 1, .width = 1, .channels = C};
  int checked = 0;
  for (size_t k = 0; k < sizeof processes / sizeof *processes; k++)
    for (int prediction = 0; prediction <= PREDICT_EDM; prediction++) {
      static const char *const names[] = {"epsilon", "x0", "v", "score", "flow", "edm"};
      // What a recipe of such a network would be refused for is right all the same.
      const bool unscaled = prediction == PREDICT_SCORE || (prediction == PREDICT_V && k == 1);
      char text[512];
      snprintf(text, sizeof text,
               "{model: {" TINY_MLP
               ", process: {type: %s}, prediction: %s, sigma_data: 0.7}, objective: {gamma: 1.5, p2_gamma: 1.2, bias: 0.5}}",
               processes[k], names[unscaled ? PREDICT_EPSILON : prediction]);
      diffusion_recipe recipe = recipe_of(ctx, memory, text);
      diffusion_spec s;
      process *p;
      elbo_store *store;
      elbo_status made = diffusion_spec_make(ctx, memory, &recipe, &info, "test", &s);
      if (prediction == PREDICT_FLOW && k != 2) {
        assert_status(ctx, made, ELBO_ERROR_ARGUMENT, "model.prediction: flow");
        continue;
      }
      assert_ok(ctx, made);
      s.model.prediction = prediction;
      assert_ok(ctx, process_create(ctx, &s.model.process, "test", &p));
      assert_ok(ctx, diffusion_store_create(ctx, &s, test_seed(), &store));
      shake(ctx, store, 0.3);
      float x[B * C];
      const float weight[B] = {1, 1, 0, 1, 0.5f};
      const double t[B] = {0.1, 0.3, 0.5, 0.72, 0.9};
      test_random r = {test_seed(), 3};
      test_fill_normal(&r, x, B * C, 1);
      for (int weighting = 0; weighting <= WEIGHTING_SIGMOID; weighting++) {
        recipe.objective.weighting = weighting;
        if (diffusion_objective_check(ctx, &recipe.objective, &s, "test") != ELBO_OK) continue;
        double want = loss_by_hand(&s, &recipe.objective, p, store, x, t, weight, 12),
               got = loss_of_graph(&s, &recipe.objective, p, store, x, t, weight, 12);
        if (!(fabs(got - want) <= 2e-4 * fabs(want) + 1e-6))
          fail_msg("%s, prediction %s, weighting %d: loss %.9g, by hand %.9g", processes[k], names[prediction], weighting, got, want);
        checked++;
      }
      elbo_store_destroy(&store);
      process_destroy(&p);
    }
  assert_int_equal(checked, 3 * 5 * 6 + 6 * 5); // the bound is refused with flow
}

// --- L_hybrid ---

#define UNET_OF_TWO "{model: {" TINY_UNET ", process: {steps: 20}, variance: learned_range}, objective: {variance_weight: %g}}"

// Gradient of the loss to conv_out's bias: (2 channels), and of everything before it, summed.
static void hybrid_gradients(double weight, double bias[2], double *rest, double *loss) {
  char text[600];
  const elbo_dataset_info info = {.height = 4, .width = 4, .channels = 1, .bits = 8};
  snprintf(text, sizeof text, UNET_OF_TWO, weight);
  diffusion_recipe recipe = recipe_of(ctx, memory, text);
  diffusion_spec s;
  process *p;
  elbo_store *store;
  diffusion_training_graph graph;
  elbo_plan *plan;
  elbo_tensor *wrt[2] = {0}, *gradient[2];
  assert_ok(ctx, diffusion_spec_make(ctx, memory, &recipe, &info, "test", &s));
  assert_ok(ctx, process_create(ctx, &s.model.process, "test", &p));
  assert_ok(ctx, diffusion_store_create(ctx, &s, test_seed(), &store));
  shake(ctx, store, 0.1);
  assert_ok(ctx, diffusion_training_build(ctx, &s, &recipe.objective, p, 4, true, &graph));
  for (int64_t i = 0; i < graph.graph->n_nodes; i++) {
    if (!strcmp(graph.graph->nodes[i]->name, "denoiser.conv_out.bias")) wrt[0] = graph.graph->nodes[i]->out[0];
    if (!strcmp(graph.graph->nodes[i]->name, "denoiser.conv_out.weight")) wrt[1] = graph.graph->nodes[i]->out[0];
  }
  assert_true(wrt[0] && wrt[1]);
  assert_ok(ctx, elbo_gradient(graph.loss, 2, wrt, gradient));
  assert_ok(ctx, elbo_plan_create(ctx, graph.graph, 3, (elbo_tensor *[]){gradient[0], gradient[1], graph.loss}, NULL, &plan));
  elbo_array *x = levels_of(ctx, 4, &s, 4);
  memcpy(elbo_plan_input(plan, "x"), x->data, elbo_array_bytes(x));
  float *w = elbo_plan_input(plan, "weight");
  for (int i = 0; i < 4; i++) w[i] = 1;
  const double t[4] = {0.05, 0.1, 0.5, 1}; // the decoder's term among them
  set_rows(plan, &s, &recipe.objective, p, t, 4, 12);
  assert_ok(ctx, elbo_plan_run(plan, store));
  for (int i = 0; i < 2; i++) bias[i] = (double)((const float *)elbo_plan_output(plan, 0))[i];
  const float *of_weight = elbo_plan_output(plan, 1); // (2,8,3,3)
  *rest = 0;
  for (int i = 0; i < 72; i++) *rest += (double)of_weight[i] * (i + 1);
  *loss = (double)*(const float *)elbo_plan_output(plan, 2);
  elbo_array_destroy(&x);
  elbo_plan_destroy(&plan);
  elbo_graph_destroy(&graph.graph);
  elbo_store_destroy(&store);
  process_destroy(&p);
}

static void test_hybrid(void **state) {
  (void)state;
  double bias[3][2], rest[3], loss[3];
  const double weights[3] = {0, 0.01, 0.02};
  for (int i = 0; i < 3; i++) hybrid_gradients(weights[i], bias[i], &rest[i], &loss[i]);
  for (int i = 1; i < 3; i++) { // the mean's are L_simple's, to the last bits
    assert_near(bias[i][0], bias[0][0], 1e-6 * fabs(bias[0][0]));
    assert_near(rest[i], rest[0], 1e-5 * fabs(rest[0]));
  }
  assert_true(bias[0][1] == 0 && fabs(bias[1][1]) > 1e-6 && fabs(bias[0][0]) > 1e-6);
  assert_near(bias[2][1], 2 * bias[1][1], 1e-4 * fabs(bias[2][1]));
  assert_near(loss[2] - loss[0], 2 * (loss[1] - loss[0]), 1e-4 * fabs(loss[2]));
  assert_true(loss[1] > loss[0]);
}

// --- the bound's terms ---

static void test_mass(void **state) {
  (void)state;
  enum { CASES = 6 };
  static const double mean[CASES] = {0, 0.3, -1.02, 1.4, 0.001, -0.9}, log_sigma[CASES] = {-1, -5, -3, -2, -2.5, 0.5};
  elbo_graph *g;
  elbo_plan *plan;
  elbo_plan_config config;
  const int64_t dim[2] = {CASES, 256};
  assert_ok(ctx, elbo_graph_create(ctx, "mass", &g));
  elbo_tensor *x = elbo_input(g, "x", ELBO_F32, 2, dim), *m = elbo_input(g, "mean", ELBO_F32, 2, dim),
              *s = elbo_input(g, "s", ELBO_F32, 2, dim), *out = discretized_gaussian_log_mass(x, m, s);
  elbo_plan_defaults(&config);
  config.backend = ELBO_BACKEND_REFERENCE;
  assert_ok(ctx, elbo_plan_create(ctx, g, 1, &out, &config, &plan));
  for (int i = 0; i < CASES * 256; i++) {
    ((double *)elbo_plan_input(plan, "x"))[i] = 2.0 * (i % 256) / 255 - 1;
    ((double *)elbo_plan_input(plan, "mean"))[i] = mean[i / 256];
    ((double *)elbo_plan_input(plan, "s"))[i] = log_sigma[i / 256];
  }
  assert_ok(ctx, elbo_plan_run(plan, NULL));
  const double *log_mass = elbo_plan_output(plan, 0);
  for (int k = 0; k < CASES; k++) {
    double sum = 0;
    for (int i = 0; i < 256; i++) {
      double level = 2.0 * i / 255 - 1, d = exp(log_sigma[k]) * sqrt(2);
      double above = i == 255 ? 1 : 0.5 * erfc(-(level + 1.0 / 255 - mean[k]) / d),
             below = i == 0 ? 0 : 0.5 * erfc(-(level - 1.0 / 255 - mean[k]) / d);
      if (above - below > 1e-9) assert_near(log_mass[k * 256 + i], log(above - below), 1e-6);
      sum += exp(log_mass[k * 256 + i]);
    }
    assert_near(sum, 1, 1e-8);
  }
  elbo_plan_destroy(&plan);
  elbo_graph_destroy(&g);
}

static double kl_of_gaussians(double m0, double v0, double m1, double v1) {
  return 0.5 * (log(v1 / v0) + (v0 + (m0 - m1) * (m0 - m1)) / v1 - 1);
}

// Every kind of variance at the decoder's step, the next and the last, against [Ho20 eq. 6, 7] written out.
static void test_terms(void **state) {
  (void)state;
  enum { N = 3, SIZE = 4, T = 10 };
  static const char *const kinds[] = {"fixed_small", "fixed_large", "learned_range"};
  test_random r = {test_seed(), 8};
  for (int kind = 0; kind < 3; kind++) {
    diffusion_spec s = {.height = 2, .width = 2, .channels = 1, .bits = 8, .model = {.variance = kind}};
    char text[256];
    snprintf(text, sizeof text, "{model: {process: {steps: %d, beta_start: 0.01, beta_end: 0.2}, variance: %s}}", T, kinds[kind]);
    s.model.process = recipe_of(ctx, memory, text).model.process;
    process *p;
    assert_ok(ctx, process_create(ctx, &s.model.process, "test", &p));
    elbo_graph *g;
    elbo_plan *plan;
    const int64_t dim[4] = {N, 2, 2, 1};
    const double t[N] = {1.0 / T, 2.0 / T, 1};
    assert_ok(ctx, elbo_graph_create(ctx, "term", &g));
    elbo_tensor *x = elbo_input(g, "x", ELBO_F32, 4, dim), *hat = elbo_input(g, "hat", ELBO_F32, 4, dim),
                *v = kind == REVERSE_LEARNED_RANGE ? elbo_input(g, "v", ELBO_F32, 4, dim) : NULL,
                *out = discrete_bound_term(&s, g, N, x, hat, v);
    assert_ok(ctx, elbo_plan_create(ctx, g, 1, &out, NULL, &plan));
    float x0[N * SIZE], x_hat[N * SIZE], fraction[N * SIZE];
    for (int i = 0; i < N * SIZE; i++) {
      x0[i] = (float)(2.0 * (double)test_below(&r, 0, 255) / 255 - 1), x_hat[i] = x0[i] + (float)(0.1 * test_normal(&r));
      fraction[i] = (float)(2 * test_uniform(&r) - 1);
    }
    assert_ok(ctx, elbo_plan_set(plan, "x", x0, N * SIZE));
    assert_ok(ctx, elbo_plan_set(plan, "hat", x_hat, N * SIZE));
    if (v) assert_ok(ctx, elbo_plan_set(plan, "v", fraction, N * SIZE));
    set_rows(plan, &s, NULL, p, t, N, 0);
    assert_ok(ctx, elbo_plan_run(plan, NULL));
    const double *bar = process_alpha_bar(p);
    double posterior_1 = (1 - bar[0]) / (1 - bar[1]) * (1 - bar[1] / bar[0]); // stands in for that of index 0
    for (int k = 0; k < N; k++) {
      int i = (int)lround(t[k] * T) - 1;
      double previous = i ? bar[i - 1] : 1, beta = 1 - bar[i] / previous, want = 0;
      double small = i ? (1 - previous) / (1 - bar[i]) * beta : posterior_1,
             large = i || kind == REVERSE_LEARNED_RANGE ? beta : posterior_1;
      for (int e = k * SIZE; e < (k + 1) * SIZE; e++) {
        double u = 0.5 * ((double)fraction[e] + 1), factor = sqrt(previous) * beta / (1 - bar[i]);
        double model = kind == 0 ? small : kind == 1 ? large : exp(u * log(large) + (1 - u) * log(small));
        if (i) {
          want += kl_of_gaussians(factor * (double)x0[e], small, factor * (double)x_hat[e], model);
        } else {
          double d = sqrt(2 * model), at = (double)x0[e], m = (double)x_hat[e];
          double above = at > 0.999 ? 1 : 0.5 * erfc(-(at + 1.0 / 255 - m) / d),
                 below = at < -0.999 ? 0 : 0.5 * erfc(-(at - 1.0 / 255 - m) / d);
          want -= log(fmax(above - below, 1e-12));
        }
      }
      double got = (double)((const float *)elbo_plan_output(plan, 0))[k];
      if (!(fabs(got - want) <= 2e-3 * (1 + fabs(want)))) fail_msg("%s, index %d: %.9g nats, by hand %.9g", kinds[kind], i, got, want);
    }
    elbo_plan_destroy(&plan);
    elbo_graph_destroy(&g);
    process_destroy(&p);
  }
}

// --- the learned process ---

typedef struct learned {
  diffusion_spec s;
  diffusion_objective o;
  elbo_store *store;
  elbo_array *x;
  double t[B];
} learned;

// L and the diffusion term of every example in double, one by one: what the gradients are checked against.
static void each_by_itself(const learned *l, double *loss, double *square) {
  diffusion_training_graph graph;
  elbo_plan *plan;
  elbo_plan_config config;
  elbo_tensor *out[2] = {0};
  assert_ok(ctx, diffusion_training_build(ctx, &l->s, &l->o, NULL, 1, false, &graph));
  out[0] = graph.each;
  for (int i = 0; i < graph.n_metrics; i++)
    if (!strcmp(graph.metric_name[i], "diffusion")) out[1] = graph.metric[i];
  elbo_plan_defaults(&config);
  config.backend = ELBO_BACKEND_REFERENCE;
  assert_ok(ctx, elbo_plan_create(ctx, graph.graph, 2, out, &config, &plan));
  *loss = *square = 0;
  for (int b = 0; b < B; b++) {
    for (int c = 0; c < C; c++) ((double *)elbo_plan_input(plan, "x"))[c] = (double)((const float *)l->x->data)[b * C + c];
    *(double *)elbo_plan_input(plan, "t") = l->t[b], *(double *)elbo_plan_input(plan, "weight") = 1;
    *(int64_t *)elbo_plan_input(plan, "sample_index") = b, *(int64_t *)elbo_plan_input(plan, "seed") = 5;
    assert_ok(ctx, elbo_plan_run(plan, l->store));
    double term = *(const double *)elbo_plan_output(plan, 1) * log(2);
    *loss += *(const double *)elbo_plan_output(plan, 0) / B, *square += term * term / B;
  }
  elbo_plan_destroy(&plan);
  elbo_graph_destroy(&graph.graph);
}

static void check_learned(const char *prediction) {
  static const char *const names[] = {"process.l1.weight", "process.l2.weight", "process.l2.bias",        "process.l3.weight",
                                      "process.gamma_0",   "process.gamma_1",   "denoiser.proj_in.weight"};
  enum { N = 7, INTERIOR = 4 };
  char text[400];
  const elbo_dataset_info info = {.height = 1, .width = 1, .channels = C, .bits = 8};
  snprintf(text, sizeof text,
           "{model: {preset: vdm, " TINY_MLP
           ", process: {type: learned, logsnr_min: -4, logsnr_max: 5}, time_input: logsnr, prediction: %s}, "
           "objective: {weighting: bound}}",
           prediction);
  diffusion_recipe recipe = recipe_of(ctx, memory, text);
  learned l = {.o = recipe.objective};
  diffusion_training_graph graph;
  elbo_plan *plan;
  elbo_plan_config config;
  elbo_tensor *wrt[N] = {0}, *gradient[N + 1];
  assert_ok(ctx, diffusion_spec_make(ctx, memory, &recipe, &info, "test", &l.s));
  assert_ok(ctx, diffusion_objective_check(ctx, &l.o, &l.s, "test"));
  assert_ok(ctx, diffusion_store_create(ctx, &l.s, test_seed(), &l.store));
  shake(ctx, l.store, 0.2);
  l.x = levels_of(ctx, B, &l.s, 6);
  for (int b = 0; b < B; b++) l.t[b] = (b + 0.4) / B;
  assert_ok(ctx, diffusion_training_build(ctx, &l.s, &l.o, NULL, B, true, &graph));
  for (int64_t i = 0; i < graph.graph->n_nodes; i++)
    for (int k = 0; k < N; k++)
      if (!strcmp(graph.graph->nodes[i]->name, names[k])) wrt[k] = graph.graph->nodes[i]->out[0];
  assert_ok(ctx, elbo_gradient(graph.loss, N, wrt, gradient));
  gradient[N] = graph.loss;
  elbo_plan_defaults(&config);
  config.backend = ELBO_BACKEND_REFERENCE;
  assert_ok(ctx, elbo_plan_create(ctx, graph.graph, N + 1, gradient, &config, &plan));
  for (int i = 0; i < B * C; i++) ((double *)elbo_plan_input(plan, "x"))[i] = (double)((const float *)l.x->data)[i];
  for (int b = 0; b < B; b++) {
    ((double *)elbo_plan_input(plan, "t"))[b] = l.t[b], ((double *)elbo_plan_input(plan, "weight"))[b] = 1;
    ((int64_t *)elbo_plan_input(plan, "sample_index"))[b] = b;
  }
  *(int64_t *)elbo_plan_input(plan, "seed") = 5;
  assert_ok(ctx, elbo_plan_run(plan, l.store));
  double mean, square;
  each_by_itself(&l, &mean, &square);
  assert_near(*(const double *)elbo_plan_output(plan, N), mean, 1e-6 * fabs(mean)); // the diversion does not show in the value
  for (int k = 0; k < N; k++) {
    elbo_param_info param;
    assert_ok(ctx, elbo_store_find(l.store, names[k], &param));
    const double *g = elbo_plan_output(plan, k);
    int64_t step = param.count > 4 ? param.count / 3 : 1, told = 0;
    for (int64_t i = 0; i < param.count; i += step) {
      double at = (double)param.data[i], side[2], where[2], unused;
      const double h = 0.01;
      for (int d = 0; d < 2; d++) {
        param.data[i] = (float)(at + (d ? h : -h)), where[d] = (double)param.data[i];
        elbo_store_touch(l.store);
        each_by_itself(&l, k < INTERIOR ? &unused : &side[d], k < INTERIOR ? &side[d] : &unused);
      }
      param.data[i] = (float)at;
      elbo_store_touch(l.store);
      double difference = (side[1] - side[0]) / (where[1] - where[0]);
      if (!(fabs(g[i] - difference) <= 2e-3 * fabs(difference) + 1e-6))
        fail_msg("%s, %s[%lld]: gradient %.9g, difference %.9g", prediction, names[k], (long long)i, g[i], difference);
      told += fabs(difference) > 1e-7;
    }
    if (!told) fail_msg("%s, %s: every gradient is zero", prediction, names[k]);
  }
  elbo_array_destroy(&l.x);
  elbo_plan_destroy(&plan);
  elbo_graph_destroy(&graph.graph);
  elbo_store_destroy(&l.store);
}

static void test_learned(void **state) {
  (void)state;
  check_learned("epsilon");
  check_learned("v");
  check_learned("x0");
}

// --- conditions ---

static void test_class_dropout(void **state) {
  (void)state;
  enum { N = 4000 };
  const elbo_dataset_info info = {.height = 1, .width = 1, .channels = 2, .classes = 3};
  diffusion_recipe recipe = recipe_of(ctx, memory, "{model: {" TINY_MLP ", condition: {type: class, dropout: 0.3}}}");
  diffusion_spec s;
  assert_ok(ctx, diffusion_spec_make(ctx, memory, &recipe, &info, "test", &s));
  assert_int_equal(diffusion_null_class(&s), 3);
  for (int drop = 0; drop < 2; drop++) {
    elbo_graph *g;
    elbo_plan *plan;
    assert_ok(ctx, elbo_graph_create(ctx, "condition", &g));
    elbo_tensor *x = elbo_input(g, "x", ELBO_F32, 4, (int64_t[]){N, 1, 1, 2});
    elbo_tensor *out = elbo_cast(diffusion_training_condition(&s, g, N, x, drop).label, ELBO_F32);
    assert_ok(ctx, elbo_plan_create(ctx, g, 1, &out, NULL, &plan));
    int32_t *label = elbo_plan_input(plan, "label");
    int64_t *index = elbo_plan_input(plan, "sample_index"), *seed = elbo_plan_input(plan, "seed"), dropped = 0;
    assert_true(drop == (index != NULL));
    for (int i = 0; i < N; i++) {
      label[i] = i % 3;
      if (index) index[i] = i;
    }
    if (seed) *seed = (int64_t)test_seed();
    assert_ok(ctx, elbo_plan_run(plan, NULL));
    const float *got = elbo_plan_output(plan, 0);
    for (int i = 0; i < N; i++) {
      bool none = got[i] == 3;
      dropped += none;
      if (!none) assert_true(got[i] == (float)(i % 3));
    }
    assert_near((double)dropped, drop ? 0.3 * N : 0, drop ? 4 * sqrt(0.21 * N) : 0);
    elbo_plan_destroy(&plan);
    elbo_graph_destroy(&g);
  }
}

static elbo_tensor *condition_picture(const char *text, elbo_graph *g, int64_t n, int64_t side) {
  const elbo_dataset_info info = {.height = (int)side, .width = (int)side, .channels = 1, .bits = 8};
  diffusion_recipe recipe = recipe_of(ctx, memory, text);
  diffusion_spec s;
  assert_ok(ctx, diffusion_spec_make(ctx, memory, &recipe, &info, "test", &s));
  elbo_tensor *x = elbo_input(g, "x", ELBO_F32, 4, (int64_t[]){n, side, side, 1});
  return diffusion_training_condition(&s, g, n, x, true).picture;
}

static void test_pictures(void **state) {
  (void)state;
  enum { N = 300, SIDE = 8 };
  test_random r = {test_seed(), 9};
  float x[N * SIDE * SIDE];
  for (int masked = 0; masked < 2; masked++) {
    elbo_graph *g;
    elbo_plan *plan;
    assert_ok(ctx, elbo_graph_create(ctx, "condition", &g));
    elbo_tensor *out = condition_picture(masked ? "{model: {" TINY_UNET ", condition: {type: masked}}}"
                                                : "{model: {" TINY_UNET ", condition: {type: lowres, factor: 4}}}",
                                         g, N, SIDE);
    assert_int_equal(elbo_tensor_dim(out, 3), 1 + masked);
    assert_ok(ctx, elbo_plan_create(ctx, g, 1, &out, NULL, &plan));
    test_fill_normal(&r, x, N * SIDE * SIDE, 1);
    assert_ok(ctx, elbo_plan_set(plan, "x", x, N * SIDE * SIDE));
    int64_t *index = elbo_plan_input(plan, "sample_index"), *seed = elbo_plan_input(plan, "seed");
    for (int i = 0; index && i < N; i++) index[i] = i;
    if (seed) *seed = (int64_t)test_seed();
    assert_ok(ctx, elbo_plan_run(plan, NULL));
    const float *got = elbo_plan_output(plan, 0);
    double area = 0;
    for (int k = 0; k < N; k++) {
      const float *own = x + k * SIDE * SIDE, *picture = got + k * SIDE * SIDE * (1 + masked);
      if (!masked) { // a corner is the mean of its 4 x 4 block
        double mean = 0;
        for (int i = 0; i < 16; i++) mean += (double)own[i / 4 * SIDE + i % 4] / 16;
        assert_near((double)picture[0], mean, 1e-5);
        continue;
      }
      int low[2] = {SIDE, SIDE}, high[2] = {-1, -1}, count = 0;
      for (int i = 0; i < SIDE * SIDE; i++) {
        bool inside = picture[2 * i + 1] == 1;
        assert_true(inside || picture[2 * i + 1] == 0);
        assert_true(picture[2 * i] == (inside ? 0 : own[i]));
        const int at[2] = {i / SIDE, i % SIDE};
        for (int d = 0; inside && d < 2; d++) low[d] = at[d] < low[d] ? at[d] : low[d], high[d] = at[d] > high[d] ? at[d] : high[d];
        count += inside;
      }
      const int sides[2] = {high[0] - low[0] + 1, high[1] - low[1] + 1};
      assert_int_equal(count, sides[0] * sides[1]); // a box, a quarter to three quarters of the picture's side but for rounding
      for (int d = 0; d < 2; d++) assert_true(sides[d] >= SIDE / 4 - 1 && sides[d] <= 3 * SIDE / 4 + 1);
      area += count / (double)(SIDE * SIDE * N);
    }
    if (masked) assert_near(area, 0.25, 0.03); // the mean side is a half
    elbo_plan_destroy(&plan);
    elbo_graph_destroy(&g);
  }
}

static int open(void **state) {
  (void)state;
  ctx = test_ctx(1);
  memory = arena_create(1 << 16);
  return 0;
}
static int close_all(void **state) {
  (void)state;
  arena_destroy(&memory);
  elbo_ctx_destroy(&ctx);
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_losses),  cmocka_unit_test(test_hybrid),        cmocka_unit_test(test_mass),     cmocka_unit_test(test_terms),
      cmocka_unit_test(test_learned), cmocka_unit_test(test_class_dropout), cmocka_unit_test(test_pictures),
  };
  return cmocka_run_group_tests(tests, open, close_all);
}
