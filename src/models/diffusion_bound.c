#include "models/diffusion_bound.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/philox.h"
#include "eval/statistics.h"

void diffusion_bound_free(diffusion_bound *b) {
  free(b->total), free(b->prior), free(b->middle), free(b->decoder), free(b->draw_variance), free(b->each_step);
  *b = (diffusion_bound){0};
}

// --- the two plans: one term of the discrete bound; the error of epsilon ---

typedef struct scorer {
  elbo_model *m;
  const scored_examples *e;
  session plan;
  double *times; // (batch)
} scorer;

static elbo_tensor *score_graph(const diffusion_spec *s, elbo_graph *g, int64_t b, bool discrete) {
  int64_t dim[4] = {b, s->height, s->width, s->channels};
  elbo_tensor *x0 = diffusion_centred(s, elbo_input(g, "x", ELBO_F32, 4, dim)), *epsilon = elbo_random_normal(g, "epsilon", 4, dim);
  elbo_tensor *alpha = row_input(g, "alpha", b), *sigma = row_input(g, "sigma", b);
  elbo_tensor *state = elbo_add(elbo_mul(alpha, x0), elbo_mul(sigma, epsilon));
  diffusion_condition condition = diffusion_training_condition(s, g, b, x0, false);
  elbo_tensor *shown = s->model.prediction == PREDICT_EDM ? elbo_mul(state, row_input(g, "c_in", b)) : state;
  elbo_tensor *raw = diffusion_network(s, g, shown, elbo_input(g, "time", ELBO_F32, 1, &b), &condition, false), *fraction = NULL;
  if (diffusion_learned_variance(s)) {
    fraction = elbo_slice(raw, 3, s->channels, 2 * s->channels);
    raw = elbo_slice(raw, 3, 0, s->channels);
  }
  elbo_tensor *x0_hat = diffusion_x0(g, b, state, raw);
  if (discrete) // as samplers clip it, the model's mean is within the pictures' range
    return discrete_bound_term(s, g, b, x0, s->bits ? elbo_clamp(x0_hat, -1, 1) : x0_hat, fraction);
  elbo_tensor *epsilon_hat = elbo_div(elbo_sub(state, elbo_mul(alpha, x0_hat)), sigma);
  return elbo_sum_per_example(elbo_square(elbo_sub(epsilon, epsilon_hat)));
}

static elbo_status scorer_open(elbo_model *m, const scored_examples *e, bool discrete, scorer *out) {
  elbo_graph *g = NULL;
  const diffusion_spec *s = &m->diffusion->spec;
  *out = (scorer){.m = m, .e = e};
  int64_t batch = e->n < m->batch_size ? e->n : m->batch_size;
  TRY(array_new(m->ctx, (size_t)batch, sizeof(double), "times", (void **)&out->times));
  TRY(elbo_graph_create(m->ctx, "score", &g));
  elbo_tensor *value = score_graph(s, g, batch, discrete);
  return session_create(m->ctx, g, m->store, batch, 1, &value, &out->plan);
}

static void scorer_close(scorer *s) {
  session_destroy(&s->plan);
  free(s->times);
}

// The value of every example at its time.
static elbo_status scorer_run(scorer *s, const double *times, uint64_t seed, double *values) {
  int64_t batch = s->plan.batch, n = s->e->n;
  session_rows rows = {.x = s->e->x->data, .condition = s->e->label ? s->e->label->data : NULL, .seed = seed};
  for (int64_t at = 0; at < n; at += batch) {
    int64_t count = n - at < batch ? n - at : batch;
    for (int64_t i = 0; i < batch; i++) s->times[i] = times[at + (i < count ? i : 0)];
    session_fill_times(&s->plan, &s->m->diffusion->spec, NULL, s->m->diffusion->process, s->times);
    TRY(session_run(&s->plan, &rows, at, count));
    for (int64_t i = 0; i < count; i++) values[at + i] = (double)session_output(&s->plan, 0)[i];
  }
  return ELBO_OK;
}

elbo_status diffusion_epsilon_errors(elbo_model *m, const scored_examples *e, const double *times, uint64_t seed, double *errors) {
  scorer s;
  elbo_status status = scorer_open(m, e, false, &s);
  if (status == ELBO_OK) status = scorer_run(&s, times, seed, errors);
  scorer_close(&s);
  return status;
}

// --- the ends, in closed form or by one draw on the host ---

static double centred(const diffusion_spec *s, float x) { return s->bits ? 2 * (double)x - 1 : (double)x; }

// KL(q(x_1|x_0) || p(x_1)), p = N(0, I), or N(0, sigma_1^2 I) where the process keeps alpha
static double prior_kl(const diffusion_spec *s, const process_point *end, const float *x, int64_t size) {
  double sum = 0, a2 = end->alpha * end->alpha, s2 = end->sigma * end->sigma;
  bool exploding = s->model.process.type == PROCESS_EDM || s->model.process.type == PROCESS_VE;
  double width = exploding ? s2 : 1;
  for (int64_t i = 0; i < size; i++) {
    double v = centred(s, x[i]);
    sum += 0.5 * (a2 * v * v / width + s2 / width - log(s2 / width) - 1);
  }
  return sum;
}

// -log p(x|z_0) of 256 levels in proportion to N(z_0 / alpha_0; level, sigma_0^2 / alpha_0^2) [Kingma21 eq. 8]
static double level_nll(double x, double z, double precision) {
  const double step = 2.0 / 255;
  int reach = (int)ceil(fmin(sqrt(90 / precision) / step, 255)) + 1, own = (int)lround((x + 1) / step), from = own - reach,
      to = own + reach;
  double total = 0;
  for (int k = from < 0 ? 0 : from; k <= (to > 255 ? 255 : to); k++) {
    double level = k * step - 1, exponent = 0.5 * precision * ((z - x) * (z - x) - (z - level) * (z - level));
    total += exp(exponent < 700 ? exponent : 700);
  }
  return log(total);
}

static double decoder_nll(const diffusion_spec *s, const process_point *start, const float *x, int64_t size, uint64_t seed,
                          uint64_t index) {
  const uint32_t stream = philox_stream("eval.decoder");
  double precision = exp(start->logsnr), width = exp(-0.5 * start->logsnr), sum = 0;
  for (int64_t i = 0; i < size; i += 4) {
    uint32_t bits[4];
    double z[4];
    philox_draw(seed, stream, index, (uint32_t)(i / 4), bits);
    philox_normal2(bits[0], bits[1], z), philox_normal2(bits[2], bits[3], z + 2);
    for (int64_t k = i; k < size && k < i + 4; k++) {
      double v = centred(s, x[k]);
      sum += level_nll(v, v + width * z[k - i], precision);
    }
  }
  return sum;
}

// --- the bound ---

typedef struct bound_work {
  elbo_model *m;
  const scored_examples *e;
  scorer scorer;
  double *times, *value; // (n)
  diffusion_bound *out;
} bound_work;

static elbo_status report(const bound_work *w, int64_t done, int64_t total) {
  if (!w->e->progress || w->e->progress(w->e->user, "bound", done, total, "")) return ELBO_OK;
  return fail(w->m->ctx, ELBO_ERROR_STOPPED, "bound: stopped");
}

static elbo_status sum_all_steps(bound_work *w) {
  diffusion_bound *b = w->out;
  int64_t steps = process_steps(w->m->diffusion->process);
  TRY(array_new(w->m->ctx, (size_t)steps, sizeof(double), "a bound's terms", (void **)&b->each_step));
  b->steps = steps;
  for (int64_t i = 0; i < steps; i++) {
    for (int64_t k = 0; k < b->n; k++) w->times[k] = (double)(i + 1) / (double)steps;
    TRY(scorer_run(&w->scorer, w->times, seed_of_part(w->e->seed, (uint64_t)(1000 + i)), w->value));
    for (int64_t k = 0; k < b->n; k++) {
      *(i ? &b->middle[k] : &b->decoder[k]) += w->value[k];
      b->each_step[i] += w->value[k] / (double)b->n;
    }
    TRY(report(w, i + 1, steps));
  }
  return ELBO_OK;
}

// Stratum `draw` of `draws` in (0,1), from (seed, example)
static double stratified(uint64_t seed, int64_t example, int draw, int draws) {
  uint32_t bits[4];
  philox_draw(seed, philox_stream("eval.time"), (uint64_t)example, (uint32_t)draw, bits);
  return ((double)draw + philox_uniform(bits[0])) / (double)draws;
}

// Draws of the middle: terms 1 .. T-1 of a discrete process, each T - 1 times; the integrand of a continuous one.
static elbo_status draw_middle(bound_work *w, int draws) {
  diffusion_bound *b = w->out;
  const process *p = w->m->diffusion->process;
  int64_t steps = process_steps(p);
  double *square = b->draw_variance;
  if (steps == 1) return ELBO_OK; // the decoder is all there is
  for (int k = 0; k < draws; k++) {
    for (int64_t i = 0; i < b->n; i++) {
      double u = stratified(w->e->seed, i, k, draws);
      w->times[i] = steps ? (double)(2 + (int64_t)(u * (double)(steps - 1))) / (double)steps : u > 1e-9 ? u : 1e-9;
    }
    TRY(scorer_run(&w->scorer, w->times, seed_of_part(w->e->seed, (uint64_t)(1000 + k)), w->value));
    for (int64_t i = 0; i < b->n; i++) {
      double v = w->value[i] * (steps ? (double)(steps - 1) : -0.5 * process_at(p, w->times[i]).dlogsnr);
      b->middle[i] += v / draws;
      if (square) square[i] += v * v / draws;
    }
    TRY(report(w, k + 1, draws));
  }
  for (int64_t i = 0; square && i < b->n; i++) square[i] = (square[i] - b->middle[i] * b->middle[i]) / (draws - 1);
  return ELBO_OK;
}

static elbo_status fill_ends(bound_work *w) {
  diffusion_bound *b = w->out;
  const diffusion_spec *s = &w->m->diffusion->spec;
  const process *p = w->m->diffusion->process;
  int64_t size = s->height * s->width * s->channels, steps = process_steps(p);
  process_point end = process_at(p, 1), start = process_at(p, 0);
  for (int64_t i = 0; i < b->n; i++) {
    const float *x = (const float *)w->e->x->data + i * size;
    b->prior[i] = prior_kl(s, &end, x, size);
    if (!steps) b->decoder[i] = decoder_nll(s, &start, x, size, seed_of_part(w->e->seed, 999), (uint64_t)i);
  }
  return ELBO_OK;
}

static elbo_status estimate(bound_work *w, bool all, int draws) {
  diffusion_bound *b = w->out;
  elbo_ctx *ctx = w->m->ctx;
  size_t n = (size_t)b->n;
  int64_t steps = process_steps(w->m->diffusion->process);
  double **arrays[] = {&b->total, &b->prior, &b->middle, &b->decoder, &w->times, &w->value};
  for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) TRY(array_new(ctx, n, sizeof(double), "a bound", (void **)arrays[i]));
  TRY(fill_ends(w));
  TRY(scorer_open(w->m, w->e, steps > 0, &w->scorer));
  if (all && steps) {
    TRY(sum_all_steps(w));
  } else {
    if (draws > 1) TRY(array_new(ctx, n, sizeof(double), "a bound", (void **)&b->draw_variance));
    if (steps) { // L_0 by itself: it is the largest
      for (int64_t i = 0; i < b->n; i++) w->times[i] = 1.0 / (double)steps;
      TRY(scorer_run(&w->scorer, w->times, seed_of_part(w->e->seed, 999), b->decoder));
    }
    TRY(draw_middle(w, draws));
  }
  for (int64_t i = 0; i < b->n; i++) b->total[i] = b->prior[i] + b->middle[i] + b->decoder[i];
  return ELBO_OK;
}

elbo_status diffusion_bound_estimate(elbo_model *m, const scored_examples *e, bool all, int draws, diffusion_bound *out) {
  *out = (diffusion_bound){.n = e->n};
  bound_work w = {.m = m, .e = e, .out = out};
  elbo_status status = estimate(&w, all, draws);
  scorer_close(&w.scorer);
  free(w.times);
  free(w.value);
  if (status != ELBO_OK) diffusion_bound_free(out);
  return status;
}
