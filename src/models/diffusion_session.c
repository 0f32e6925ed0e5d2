// Calling a diffusion model's network on arrays, batch by batch.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/ctx.h"
#include "models/diffusion_model.h"

enum { GRAIN = 16384 };

elbo_status denoiser_session_open(const elbo_model *m, int64_t batch, denoiser_session *out) {
  const diffusion_spec *s = &m->diffusion->spec;
  elbo_graph *g = NULL;
  *out = (denoiser_session){.spec = s, .process = m->diffusion->process, .size = s->height * s->width * s->channels};
  out->out_size = out->size * (diffusion_learned_variance(s) ? 2 : 1);
  TRY(elbo_graph_create(m->ctx, "denoiser", &g));
  elbo_tensor *raw = diffusion_call_graph(s, g, batch);
  return session_create(m->ctx, g, m->store, batch, 1, &raw, &out->plan);
}

void denoiser_session_close(denoiser_session *s) { session_destroy(&s->plan); }

// Rows of 4-byte elements into input `name`; from row `count` on the first one again. `rows` NULL: zeros, or for labels the null class.
static void fill_condition(denoiser_session *s, const char *name, const void *rows, int64_t count) {
  int64_t batch = s->plan.batch;
  char *to = elbo_plan_input(s->plan.plan, name);
  size_t row = to ? elbo_plan_input_bytes(s->plan.plan, name) / (size_t)batch : 0;
  for (int64_t i = 0; to && i < batch; i++) {
    if (rows)
      memcpy(to + (size_t)i * row, (const char *)rows + (size_t)(i < count ? i : 0) * row, row);
    else
      memset(to + (size_t)i * row, 0, row);
  }
  if (!to || rows || strcmp(name, "label")) return;
  int64_t none = diffusion_null_class(s->spec);
  for (int64_t i = 0; i < batch; i++) ((int32_t *)(void *)to)[i] = (int32_t)(none < 0 ? 0 : none);
}

// A learned variance stands behind the prediction in the channels; samplers want it behind the whole row.
static void split_variance(const float *from, int64_t pixels, int64_t channels, double *to) {
  for (int64_t p = 0; p < pixels; p++)
    for (int64_t c = 0; c < channels; c++) {
      to[p * channels + c] = (double)from[p * 2 * channels + c];
      to[(pixels + p) * channels + c] = (double)from[p * 2 * channels + channels + c];
    }
}

// Between the samplers' doubles and the network's floats.
typedef struct rounding {
  const double *wide;
  float *narrow;
  const float *from;
  double *to;
} rounding;

static void narrow_range(void *arg, int64_t begin, int64_t end) {
  const rounding *r = arg;
  for (int64_t i = begin; i < end; i++) r->narrow[i] = (float)r->wide[i];
}

static void widen_range(void *arg, int64_t begin, int64_t end) {
  const rounding *r = arg;
  for (int64_t i = begin; i < end; i++) r->to[i] = (double)r->from[i];
}

elbo_status denoiser_session_run(denoiser_session *s, const double *x, double timestep, const condition_rows *rows, int64_t count,
                                 double *output) {
  int64_t batch = s->plan.batch;
  float *state = elbo_plan_input(s->plan.plan, "sample");
  double told = s->process ? diffusion_time_told(s->spec, s->process, timestep) : timestep;
  const thread_pool *pool = &s->plan.ctx->pool;
  parallel_for(pool, batch * s->size, GRAIN, narrow_range, &(rounding){.wide = x, .narrow = state});
  diffusion_set_time(s->plan.plan, told);
  fill_condition(s, "label", rows ? rows->label : NULL, count);
  fill_condition(s, "condition", rows ? rows->numbers : NULL, count);
  fill_condition(s, "picture", rows ? rows->picture : NULL, count);
  const double began = seconds_now();
  TRY(elbo_plan_run(s->plan.plan, s->plan.store));
  s->seconds += seconds_now() - began;
  const float *raw = session_output(&s->plan, 0);
  if (s->out_size == s->size)
    parallel_for(pool, batch * s->size, GRAIN, widen_range, &(rounding){.from = raw, .to = output});
  else
    for (int64_t i = 0; i < batch; i++)
      split_variance(raw + i * s->out_size, s->spec->height * s->spec->width, s->spec->channels, output + i * s->out_size);
  return ELBO_OK;
}

elbo_status diffusion_read(const diffusion_spec *spec, elbo_dataset *data, elbo_split split, int64_t first, int64_t count, elbo_array **x,
                           elbo_array **told) {
  const int type = spec->model.condition.type;
  *told = NULL;
  TRY(elbo_dataset_read(data, split, first, count, 0, 0, x, type == DIFFUSION_CLASS ? told : NULL));
  if (type != DIFFUSION_VECTOR && type != DIFFUSION_CONTEXT) return ELBO_OK;
  elbo_status status = elbo_dataset_read_condition(data, split, first, count, 0, 0, told);
  if (status != ELBO_OK) elbo_array_destroy(x);
  return status;
}

elbo_status condition_session_open(const elbo_model *m, int64_t batch, session *out) {
  const diffusion_spec *s = &m->diffusion->spec;
  elbo_graph *g = NULL;
  *out = (session){0};
  if (!diffusion_picture_channels(s)) return ELBO_OK;
  TRY(elbo_graph_create(m->ctx, "condition", &g));
  elbo_tensor *x = elbo_input(g, "x", ELBO_F32, 4, (int64_t[]){batch, s->height, s->width, s->channels});
  elbo_tensor *picture = diffusion_training_condition(s, g, batch, diffusion_centred(s, x), false).picture;
  return session_create(m->ctx, g, m->store, batch, 1, &picture, out);
}

// --- inputs that depend on the time ---

void session_fill_times(session *s, const diffusion_spec *spec, const diffusion_objective *objective, const process *p,
                        const double *times) {
  static const char *const names[] = {"alpha",
                                      "sigma",
                                      "time",
                                      "c_in",
                                      "x0_of_state",
                                      "x0_of_output",
                                      "loss_weight",
                                      "log_beta",
                                      "first",
                                      "t",
                                      "posterior_log_variance",
                                      "mean_factor"};
  for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
    float *to = elbo_plan_input(s->plan, names[k]);
    for (int64_t i = 0; to && i < s->batch; i++) {
      if (!strcmp(names[k], "t"))
        to[i] = (float)times[i];
      else if (!p || !diffusion_fill(spec, objective, p, times[i], names[k], &to[i]))
        to[i] = NAN;
    }
  }
}

// --- validation ---

elbo_status diffusion_validation_loss(elbo_model *m, const diffusion_objective *objective, const elbo_array *x, const elbo_array *label,
                                      int64_t first, uint64_t seed, double *sum) {
  const diffusion_model *d = m->diffusion;
  const process *p = d->spec.model.process.type == PROCESS_LEARNED ? NULL : d->process;
  diffusion_training_graph t;
  session s = {0};
  int64_t n = x->dim[0], batch = m->batch_size;
  double *times = NULL;
  elbo_status status;
  TRY(diffusion_training_build_from(m->ctx, &d->spec, objective, p, batch, false, d->source, &t));
  TRY_GOTO(session_create(m->ctx, t.graph, m->store, batch, 1, &t.each, &s));
  TRY_GOTO(array_new(m->ctx, (size_t)batch, sizeof(double), "times", (void **)&times));
  session_rows rows = {.x = x->data, .condition = label ? label->data : NULL, .seed = seed};
  for (int64_t at = 0; at < n; at += batch) {
    int64_t count = n - at < batch ? n - at : batch, steps = process_steps(d->process);
    for (int64_t i = 0; i < batch; i++) { // the golden ratio's multiples lie evenly, however many there are
      double u = fmod(0.5 + 0.61803398874989485 * (double)(first + at + i), 1.0);
      times[i] = steps ? (floor(u * (double)steps) + 1) / (double)steps : u > 0 ? u : 0.5;
    }
    session_fill_times(&s, &d->spec, objective, p, times);
    TRY_GOTO(session_run(&s, &rows, at, count));
    for (int64_t i = 0; i < count; i++) *sum += (double)session_output(&s, 0)[i];
  }
fail:
  free(times);
  session_destroy(&s);
  return status;
}
