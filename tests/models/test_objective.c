// The objective's terms against what they are made of, and DReG's gradient against IWAE's.
#include "models/vae_cases.h"

#define LINEAR "{latent: {dim: 2}, encoder: {type: mlp, hidden: []}, decoder: {type: mlp, hidden: [], likelihood: gaussian, sigma: 0.5}}"

typedef struct training {
  vae_training_graph graph;
  elbo_plan *plan;
  int n_outputs;
} training;

// Loss, every metric, and gradients of the parameters named.
static training build(elbo_ctx *ctx, const vae_spec *spec, const objective_config *o, int64_t batch, int n_wrt, const char *const *wrt) {
  training t;
  assert_ok(ctx, vae_training_build(ctx, spec, o, batch, 100, &t.graph));
  elbo_tensor *outputs[20] = {t.graph.loss};
  t.n_outputs = 1;
  for (int i = 0; i < t.graph.n_metrics; i++) outputs[t.n_outputs++] = t.graph.metric[i];
  elbo_tensor *p[4], *g[4];
  static const int64_t dims[4][2] = {{4, 6}, {6, 2}, {4, 0}, {6, 0}};
  for (int i = 0; i < n_wrt; i++) {
    bool bias = strstr(wrt[i], "bias") != NULL, encoder = strstr(wrt[i], "encoder") != NULL;
    const int64_t *d = dims[(bias ? 2 : 0) + (encoder ? 0 : 1)];
    int64_t fan_in = encoder ? 6 : 2;
    p[i] = elbo_parameter(t.graph.graph, wrt[i], bias ? 1 : 2, d, ELBO_PARAM_TRAINED, (elbo_init){ELBO_INIT_KIND_FAN_IN, 1, fan_in});
  }
  assert_ok(ctx, elbo_graph_check(t.graph.graph));
  if (n_wrt) assert_ok(ctx, elbo_gradient(t.graph.loss, n_wrt, p, g));
  for (int i = 0; i < n_wrt; i++) {
    assert_non_null(g[i]);
    outputs[t.n_outputs++] = g[i];
  }
  assert_ok(ctx, elbo_plan_create(ctx, t.graph.graph, t.n_outputs, outputs, NULL, &t.plan));
  return t;
}

static void run(elbo_ctx *ctx, training *t, elbo_store *store, const elbo_array *x, double beta, double capacity, int64_t seed) {
  int64_t batch = x->dim[0];
  assert_ok(ctx, elbo_plan_set(t->plan, "x", x->data, elbo_array_count(x)));
  float *weight = elbo_plan_input(t->plan, "weight"), *b = elbo_plan_input(t->plan, "beta"), *c = elbo_plan_input(t->plan, "capacity");
  int64_t *index = elbo_plan_input(t->plan, "sample_index"), *s = elbo_plan_input(t->plan, "seed");
  for (int64_t i = 0; i < batch; i++) weight[i] = 1, index[i] = i;
  if (b) *b = (float)beta;
  if (c) *c = (float)capacity;
  *s = seed;
  assert_ok(ctx, elbo_plan_run(t->plan, store));
}

static double metric(const training *t, const char *name, int i) {
  for (int k = 0; k < t->graph.n_metrics; k++)
    if (strcmp(t->graph.metric_name[k], name) == 0) return ((const float *)elbo_plan_output(t->plan, 1 + k))[i];
  fail_msg("no metric %s", name);
  return NAN;
}

static void finish(training *t) {
  elbo_plan_destroy(&t->plan);
  elbo_graph_destroy(&t->graph.graph);
}

static void test_terms(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  arena *a = arena_create(1 << 14);
  vae_spec spec = spec_of(ctx, a, LINEAR, 1, 1, 6, 0);
  elbo_store *store;
  assert_ok(ctx, model_store_create(ctx, &spec, test_seed(), &store));
  elbo_array *x = pictures(ctx, 16, &spec.shape, 2, false);
  static const char *const texts[] = {"{}",      "{beta: 4}", "{free_bits: 0.3}", "{capacity: 2, beta: 3}",       "{mmd: 7}",
                                      "{tc: 1}", "{tc: 5}",   "{samples: 3}",     "{estimator: iwae, samples: 1}"};
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    objective_config o = objective_of(ctx, a, texts[i]);
    training t = build(ctx, &spec, &o, 16, 0, NULL);
    run(ctx, &t, store, x, o.beta, 1.5, 3);
    double loss = ((const float *)elbo_plan_output(t.plan, 0))[0], recon = metric(&t, "recon", 0), kl = metric(&t, "kl", 0), want = 0;
    double each[2] = {metric(&t, "kl_dim", 0), metric(&t, "kl_dim", 1)};
    assert_near(each[0] + each[1], kl, 1e-4);
    assert_near(metric(&t, "elbo", 0), recon - kl, 1e-4);
    switch (i) {
    case 0:
    case 1:
    case 7: want = -recon + o.beta * kl; break;
    case 2: want = -recon + fmax(each[0], 0.3) + fmax(each[1], 0.3); break;
    case 3: want = -recon + 3 * fabs(kl - 1.5); break;
    case 4: want = -recon + kl + 7 * metric(&t, "mmd", 0); break;
    // with all weights 1 the three parts add up to the KL of the draws: what iwae with one draw subtracts too
    case 5:
    case 6: {
      objective_config one = objective_of(ctx, a, "{estimator: iwae, samples: 1}");
      training u = build(ctx, &spec, &one, 16, 0, NULL);
      run(ctx, &u, store, x, 1, 0, 3);
      want = -metric(&u, "iwae", 0) + (o.tc - 1) * metric(&t, "tc", 0);
      finish(&u);
      break;
    }
    default: want = -metric(&t, "iwae", 0); break;
    }
    if (!(fabs(loss - want) <= 2e-4 * (1 + fabs(want)))) fail_msg("objective %s: loss %g, its terms make %g", texts[i], loss, want);
    finish(&t);
  }
  elbo_array_destroy(&x);
  elbo_store_destroy(&store);
  arena_destroy(&a);
  elbo_ctx_destroy(&ctx);
}

// Both are unbiased for the gradient of the same bound: over many draws the encoder's gradients agree, DReG's with less variance; the
// decoder's agree draw by draw.
static void test_dreg(void **state) {
  (void)state;
  enum { ROUNDS = 300, SIZE = 24, B = 32 };
  elbo_ctx *ctx = test_ctx(1);
  arena *a = arena_create(1 << 14);
  vae_spec spec = spec_of(ctx, a, LINEAR, 1, 1, 6, 0);
  elbo_store *store;
  assert_ok(ctx, model_store_create(ctx, &spec, test_seed(), &store));
  elbo_array *x = pictures(ctx, B, &spec.shape, 2, false);
  static const char *const wrt[2] = {"encoder.head.weight", "decoder.fc_out.weight"};
  objective_config o[2] = {objective_of(ctx, a, "{estimator: iwae, samples: 8}"), objective_of(ctx, a, "{estimator: dreg, samples: 8}")};
  training t[2] = {build(ctx, &spec, &o[0], B, 2, wrt), build(ctx, &spec, &o[1], B, 2, wrt)};
  double mean[2][SIZE] = {{0}}, square[2][SIZE] = {{0}};
  for (int round = 0; round < ROUNDS; round++) {
    for (int i = 0; i < 2; i++) {
      run(ctx, &t[i], store, x, 1, 0, 1000 + round);
      const float *g = elbo_plan_output(t[i].plan, t[i].n_outputs - 2);
      for (int k = 0; k < SIZE; k++) mean[i][k] += g[k] / (double)ROUNDS, square[i][k] += (double)g[k] * g[k] / ROUNDS;
    }
    if (round < 3) assert_close(elbo_plan_output(t[0].plan, t[0].n_outputs - 1), elbo_plan_output(t[1].plan, t[1].n_outputs - 1), 12, 1e-4);
    assert_near(metric(&t[0], "iwae", 0), metric(&t[1], "iwae", 0), 1e-4);
  }
  double variance[2] = {0}, size = 0;
  for (int k = 0; k < SIZE; k++) {
    double error = 0;
    for (int i = 0; i < 2; i++) {
      double v = square[i][k] - mean[i][k] * mean[i][k];
      variance[i] += v, error += v / ROUNDS;
    }
    size = fmax(size, fabs(mean[0][k]));
    if (!(fabs(mean[0][k] - mean[1][k]) <= 5 * sqrt(error) + 1e-4))
      fail_msg("seed %llu, element %d: IWAE %g, DReG %g +- %g", (unsigned long long)test_seed(), k, mean[0][k], mean[1][k], sqrt(error));
  }
  assert_true(size > 0.05);
  assert_true(variance[1] < variance[0]);
  for (int i = 0; i < 2; i++) finish(&t[i]);
  elbo_array_destroy(&x);
  elbo_store_destroy(&store);
  arena_destroy(&a);
  elbo_ctx_destroy(&ctx);
}

static void test_schedules(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  arena *a = arena_create(1 << 14);
  objective_config o = objective_of(ctx, a, "{beta: 2, kl_warmup_steps: 99}");
  assert_near(objective_beta_at(&o, 0, 1000), 0.02, 1e-12);
  assert_near(objective_beta_at(&o, 49, 1000), 1, 1e-12);
  assert_near(objective_beta_at(&o, 99, 1000), 2, 1e-12);
  assert_near(objective_beta_at(&o, 999, 1000), 2, 1e-12);
  o = objective_of(ctx, a, "{kl_warmup: cyclical, kl_cycles: 4}");
  for (int64_t step = 0; step < 1000; step += 250) {
    assert_true(objective_beta_at(&o, step, 1000) < 0.02);
    assert_near(objective_beta_at(&o, step + 124, 1000), 125.0 / 126, 1e-9);
    assert_near(objective_beta_at(&o, step + 200, 1000), 1, 1e-12);
  }
  o = objective_of(ctx, a, "{capacity: 10, capacity_steps: 100}");
  assert_near(objective_capacity_at(&o, 49), 5, 1e-12);
  assert_near(objective_capacity_at(&o, 5000), 10, 1e-12);
  arena_destroy(&a);
  elbo_ctx_destroy(&ctx);
}

static void test_refused(void **state) {
  (void)state;
  static const struct {
    const char *model, *objective, *part;
    int bits;
  } bad[] = {
      {"{}", "{estimator: iwae, free_bits: 1}", "objective.estimator", 8},
      {"{latent: {groups: [2]}}", "{estimator: dreg}", "objective.estimator", 8},
      {"{latent: {groups: [2]}}", "{tc: 1}", "objective", 8},
      {"{prior: {type: vamp}}", "{mmd: 1}", "objective.mmd", 8},
      {"{prior: {type: mixture}}", "{tc: 1}", "objective.tc", 8},
      {"{}", "{capacity: 1, free_bits: 1}", "objective.capacity", 8},
      {"{decoder: {likelihood: logistic_mixture}}", "{}", "256 levels needs 8-bit pictures", 0},
  };
  elbo_ctx *ctx = test_ctx(1);
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    arena *a = arena_create(1 << 14);
    vae_spec spec = spec_of(ctx, a, bad[i].model, 28, 28, 1, 0);
    spec.bits = bad[i].bits;
    objective_config o = objective_of(ctx, a, bad[i].objective);
    assert_status(ctx, objective_check(ctx, &o, &spec, "r.yaml"), ELBO_ERROR_ARGUMENT, bad[i].part);
    arena_destroy(&a);
  }
  elbo_ctx_destroy(&ctx);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_terms),
      cmocka_unit_test(test_dreg),
      cmocka_unit_test(test_schedules),
      cmocka_unit_test(test_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
