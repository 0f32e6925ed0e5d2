// The likelihood of a diffusion model by its probability flow: the change of variables along dx/dt = alpha' x0_hat + sigma' epsilon_hat
// [Song21 eq. 39, appendix D.2], which is linear in the state and in what the network says.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/philox.h"
#include "diffusion/ode.h"
#include "eval/statistics.h"
#include "models/diffusion_bound.h"

typedef struct flow {
  elbo_model *m;
  const scored_examples *e;
  session plan; // outputs: raw prediction (B,H,W,C); trace of its Jacobian, or the probe's product with it (B)
  int64_t size, first, count;
  session told; // makes the picture that the network is told; empty where it is told none
  float *probe; // (batch,size) +-1; NULL: the exact trace
} flow;

// The trace of d output / d sample of each row: v^T J v, or the sum over all numbers of the diagonal.
static elbo_tensor *trace_of(elbo_graph *g, const diffusion_spec *s, elbo_tensor *sample, elbo_tensor *output, int64_t batch, bool exact) {
  int64_t size = s->height * s->width * s->channels, dim[4] = {batch, s->height, s->width, s->channels};
  elbo_tensor *gradient = NULL, *total = NULL;
  if (!exact) {
    elbo_tensor *v = elbo_input(g, "probe", ELBO_F32, 4, dim);
    if (elbo_gradient(elbo_sum(elbo_mul(output, v), ELBO_ALL_AXES, 0), 1, &sample, &gradient) != ELBO_OK) return NULL;
    return elbo_sum_per_example(elbo_mul(gradient, v));
  }
  elbo_tensor *flat = elbo_reshape(output, 2, (int64_t[]){batch, size});
  for (int64_t i = 0; i < size && flat; i++) {
    elbo_tensor *one = elbo_sum(elbo_slice(flat, 1, i, i + 1), ELBO_ALL_AXES, 0);
    if (elbo_gradient(one, 1, &sample, &gradient) != ELBO_OK) return NULL;
    if (!gradient) continue; // does not depend on the state
    elbo_tensor *diagonal = elbo_slice(elbo_reshape(gradient, 2, (int64_t[]){batch, size}), 1, i, i + 1);
    total = total ? elbo_add(total, diagonal) : diagonal;
  }
  return elbo_reshape(total, 1, &batch);
}

static elbo_status flow_open(flow *f, bool exact) {
  const diffusion_spec *s = &f->m->diffusion->spec;
  elbo_graph *g = NULL;
  int64_t batch = f->e->n < f->m->batch_size ? f->e->n : f->m->batch_size;
  f->size = s->height * s->width * s->channels;
  TRY(condition_session_open(f->m, batch, &f->told));
  TRY(elbo_graph_create(f->m->ctx, "flow", &g));
  elbo_tensor *raw = diffusion_call_graph(s, g, batch);
  if (raw && diffusion_learned_variance(s)) raw = elbo_slice(raw, 3, 0, s->channels);
  elbo_tensor *sample = elbo_input(g, "sample", ELBO_F32, 4, (int64_t[]){batch, s->height, s->width, s->channels});
  elbo_tensor *outputs[2] = {raw, raw ? trace_of(g, s, sample, raw, batch, exact) : NULL};
  return session_create(f->m->ctx, g, f->m->store, batch, 2, outputs, &f->plan);
}

// A tenth of the first step, or of a thousandth: there the noise is thinner than a level of dequantised pictures, so that what is lost by
// not going on to the end, where log-SNR is infinite, does not show.
double diffusion_ode_start(const process *p) {
  int64_t steps = process_steps(p);
  return steps ? 0.1 / (double)steps : process_kind(p) == PROCESS_FLOW ? 1e-4 : 0;
}

// y: rows of (state, log-determinant)
static elbo_status flow_slope(void *user, double t, const double *y, double *dy) {
  flow *f = user;
  const diffusion_model *d = f->m->diffusion;
  const diffusion_config *c = &d->spec.model;
  process_point q = process_at(d->process, t);
  prediction_map map = prediction_coefficients(c->prediction, q.alpha, q.sigma, c->sigma_data);
  double shown = c->prediction == PREDICT_EDM ? 1 / sqrt(q.sigma * q.sigma + c->sigma_data * c->sigma_data * q.alpha * q.alpha) : 1;
  double of_state = q.dalpha * map.x0_x + q.dsigma * map.epsilon_x, of_output = q.dalpha * map.x0_output + q.dsigma * map.epsilon_output;
  int64_t batch = f->plan.batch, size = f->size;
  float *sample = elbo_plan_input(f->plan.plan, "sample");
  diffusion_set_time(f->plan.plan, diffusion_time_told(&d->spec, d->process, process_network_time(d->process, t)));
  for (int64_t r = 0; r < batch; r++) {
    const double *row = y + (r < f->count ? r : 0) * (size + 1);
    for (int64_t i = 0; i < size; i++) sample[r * size + i] = (float)(shown * row[i]);
  }
  TRY(elbo_plan_run(f->plan.plan, f->m->store));
  const float *output = session_output(&f->plan, 0), *trace = session_output(&f->plan, 1);
  for (int64_t r = 0; r < f->count; r++) {
    const double *row = y + r * (size + 1);
    double *out = dy + r * (size + 1);
    for (int64_t i = 0; i < size; i++) out[i] = of_state * row[i] + of_output * (double)output[r * size + i];
    out[size] = of_state * (double)size + of_output * shown * (double)trace[r];
  }
  return ELBO_OK;
}

static double log_prior(const diffusion_spec *s, const process_point *end, const double *x, int64_t size) {
  bool exploding = s->model.process.type == PROCESS_EDM || s->model.process.type == PROCESS_VE;
  double variance = exploding ? end->sigma * end->sigma : 1, sum = 0;
  for (int64_t i = 0; i < size; i++) sum += x[i] * x[i];
  return -0.5 * (sum / variance + (double)size * log(6.283185307179586 * variance));
}

// Row r of the present batch as the model has it: dequantised pictures, points as they are; noise by (seed, example).
static void start_row(const flow *f, int64_t r, uint64_t seed, double *out) {
  const float *x = (const float *)f->e->x->data + (f->first + r) * f->size;
  const uint32_t stream = philox_stream("eval.dequantize"), probe = philox_stream("eval.probe");
  bool pictures = f->m->diffusion->spec.bits == 8;
  for (int64_t i = 0; i < f->size; i++) {
    uint32_t bits[4];
    philox_draw(seed, stream, (uint64_t)(f->first + r), (uint32_t)i, bits);
    out[i] = pictures ? 2 * (floor((double)x[i] * 255 + 0.5) + philox_uniform(bits[0])) / 256 - 1 : (double)x[i];
    philox_draw(seed, probe, (uint64_t)(f->first + r), (uint32_t)i, bits);
    if (f->probe) f->probe[r * f->size + i] = bits[0] & 1 ? 1 : -1; // Rademacher: the least variance [Hutchinson89]
  }
  out[f->size] = 0;
}

// The conditions of the present batch: -log p(x | what the network is told of x).
static elbo_status tell_batch(flow *f) {
  for (int k = 0; k < 2; k++) {
    const char *name = k ? "condition" : "label"; // of a class, of a vector or a sequence: all of four-byte numbers
    char *to = elbo_plan_input(f->plan.plan, name);
    size_t row = to ? elbo_plan_input_bytes(f->plan.plan, name) / (size_t)f->plan.batch : 0;
    for (int64_t r = 0; to && r < f->plan.batch; r++)
      memcpy(to + (size_t)r * row, (const char *)f->e->label->data + (size_t)(f->first + (r < f->count ? r : 0)) * row, row);
  }
  float *picture = elbo_plan_input(f->plan.plan, "picture");
  if (!picture) return ELBO_OK;
  session_rows rows = {.x = f->e->x->data, .seed = f->e->seed};
  TRY(session_run(&f->told, &rows, f->first, f->count));
  memcpy(picture, session_output(&f->told, 0), elbo_plan_input_bytes(f->plan.plan, "picture"));
  return ELBO_OK;
}

static elbo_status score_batch(flow *f, const ode_options *o, uint64_t seed, double *y, double *nll, int64_t *calls) {
  const diffusion_model *d = f->m->diffusion;
  int64_t row = f->size + 1;
  for (int64_t r = 0; r < f->count; r++) start_row(f, r, seed, y + r * row);
  float *probe = elbo_plan_input(f->plan.plan, "probe");
  if (probe) memcpy(probe, f->probe, (size_t)(f->plan.batch * f->size) * sizeof(float));
  TRY(tell_batch(f));
  ode_request request = {
      .rows = f->count, .size = row, .from = o->t_min, .to = 1, .rtol = o->rtol, .atol = o->atol, .slope = flow_slope, .user = f};
  TRY(ode_solve(f->m->ctx, &request, y, calls));
  process_point end = process_at(d->process, 1);
  double levels = d->spec.bits == 8 ? (double)f->size * log(128.0) : 0; // a level is 2/256 wide
  for (int64_t r = 0; r < f->count; r++)
    nll[f->first + r] = -(log_prior(&d->spec, &end, y + r * row, f->size) + y[r * row + f->size]) + levels;
  return ELBO_OK;
}

elbo_status diffusion_ode_nll(elbo_model *m, const scored_examples *e, const ode_options *options, double *nll, double *variance,
                              int64_t *calls) {
  flow f = {.m = m, .e = e};
  elbo_status status;
  double *y = NULL, *one = NULL;
  *calls = 0;
  TRY_GOTO(flow_open(&f, options->exact));
  int64_t batch = f.plan.batch;
  TRY_GOTO(array_new(m->ctx, (size_t)(batch * (f.size + 1)), sizeof(double), "a flow", (void **)&y));
  TRY_GOTO(array_new(m->ctx, (size_t)e->n, sizeof(double), "a flow", (void **)&one));
  if (!options->exact) TRY_GOTO(array_new(m->ctx, (size_t)(batch * f.size), sizeof(float), "a probe", (void **)&f.probe));
  for (int64_t i = 0; i < e->n; i++) nll[i] = 0;
  for (int64_t i = 0; variance && i < e->n; i++) variance[i] = 0;
  for (int k = 0; k < options->draws; k++) {
    for (f.first = 0; f.first < e->n; f.first += batch) {
      f.count = e->n - f.first < batch ? e->n - f.first : batch;
      TRY_GOTO(score_batch(&f, options, seed_of_part(e->seed, (uint64_t)(2000 + k)), y, one, calls));
      if (e->progress && !e->progress(e->user, "ode", k * e->n + f.first + f.count, options->draws * e->n, ""))
        TRY_GOTO(fail(m->ctx, ELBO_ERROR_STOPPED, "ode: stopped"));
    }
    for (int64_t i = 0; i < e->n; i++) {
      nll[i] += one[i] / options->draws;
      if (variance) variance[i] += one[i] * one[i] / options->draws;
    }
  }
  for (int64_t i = 0; variance && i < e->n; i++)
    variance[i] = options->draws > 1 ? fmax(0, variance[i] - nll[i] * nll[i]) / (options->draws - 1) : NAN;
fail:
  session_destroy(&f.plan);
  session_destroy(&f.told);
  free(f.probe);
  free(one);
  free(y);
  return status;
}
