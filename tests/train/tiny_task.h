// A task of a few numbers that has everything a real one has: random draws, a running statistic, a schedule, metrics, files.
#ifndef TESTS_TRAIN_TINY_TASK_H
#define TESTS_TRAIN_TINY_TASK_H

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <elbo/ops.h>

#include "support/test.h"

#include "core/file.h"
#include "core/philox.h"
#include "core/safetensors.h"
#include "graph/store.h"
#include "train/loop.h"
#include "train/run.h"

enum { TINY_IN = 4, TINY_OUT = 3, TINY_MAX_BATCH = 64 };

// --- data: example n of the stream is a function of n ---
typedef struct tiny_source {
  int64_t batch, position;
  int64_t nan_at; // sample whose x holds a NaN; -1: none
  float x[TINY_MAX_BATCH * TINY_IN], target[TINY_MAX_BATCH * TINY_OUT];
  int64_t index[TINY_MAX_BATCH], example[TINY_MAX_BATCH];
  data_batch out;
} tiny_source;

static inline elbo_status tiny_next(void *user, const data_batch **out) {
  tiny_source *s = user;
  for (int64_t b = 0; b < s->batch; b++) {
    int64_t n = s->position + b;
    uint32_t w[4];
    philox_draw(99, 1, (uint64_t)n, 0, w);
    for (int i = 0; i < TINY_IN; i++) s->x[b * TINY_IN + i] = (float)(2 * philox_uniform(w[i]) - 1);
    for (int o = 0; o < TINY_OUT; o++) s->target[b * TINY_OUT + o] = 0.5f * s->x[b * TINY_IN + o] - s->x[b * TINY_IN + 3] + (float)o;
    if (n == s->nan_at) s->x[b * TINY_IN + 2] = NAN;
    s->index[b] = n, s->example[b] = n % 1000;
  }
  s->position += s->batch;
  s->out = (data_batch){4,
                        {{"x", ELBO_F32, 2, {s->batch, TINY_IN}, s->x},
                         {"target", ELBO_F32, 2, {s->batch, TINY_OUT}, s->target},
                         {"sample_index", ELBO_I64, 1, {s->batch}, s->index},
                         {"example", ELBO_I64, 1, {s->batch}, s->example}},
                        s->batch};
  *out = &s->out;
  return ELBO_OK;
}

static inline elbo_status tiny_seek(void *user, int64_t samples) {
  ((tiny_source *)user)->position = samples;
  return ELBO_OK;
}

// --- the task ---
typedef struct tiny {
  elbo_ctx *ctx;
  elbo_graph *graph, *graph2;
  train_metric metrics[2];
  train_phase phases[2];
  train_task task;
  tiny_source data;
  train_source source;
  int64_t infinite_at; // step whose beta is infinite; -1: none
  int saves;           // so far
  int kill_in_save;    // the how-manieth save kills the process half-way; 0: none
  bool fail_save;
  double watched_loss;
  int watches, previews;
} tiny;

static inline bool tiny_schedule(void *user, int64_t step, int64_t steps, const char *input, float *value) {
  tiny *t = user;
  (void)steps;
  if (strcmp(input, "beta") != 0) return false;
  *value = step == t->infinite_at ? INFINITY : 1e-3f * (float)step;
  return true;
}

static inline void tiny_watch(void *user, elbo_ctx *ctx, int64_t step, int n, const char *const *names, const int *counts,
                              const double *const *values) {
  tiny *t = user;
  (void)ctx, (void)step;
  for (int i = 0; i < n; i++)
    if (strcmp(names[i], "loss") == 0 && counts[i] == 1) t->watched_loss = values[i][0];
  t->watches++;
}

// Wanders with the step, so that the best is not the last.
static inline elbo_status tiny_validate(void *user, elbo_store *weights, int64_t step, double *score) {
  (void)user;
  elbo_param_info w;
  TRY(elbo_store_find(weights, "net.w", &w));
  *score = (double)w.data[0] * 1e-3 + (double)((step * 7) % 11);
  return ELBO_OK;
}

static inline elbo_status tiny_save(void *user, elbo_store *weights, const char *directory) {
  tiny *t = user;
  char path[4096];
  tensor_view views[16];
  t->saves++;
  for (int i = 0; i < elbo_store_count(weights); i++) {
    elbo_param_info p;
    TRY(elbo_store_get(weights, i, &p));
    views[i] = (tensor_view){.name = p.name, .dtype = ELBO_F32, .rank = p.rank, .data = p.data, .bytes = (size_t)p.count * 4};
    memcpy(views[i].dim, p.dim, sizeof p.dim);
  }
  TRY(path_join(t->ctx, path, sizeof path, directory, "model.safetensors"));
  TRY(safetensors_write(t->ctx, path, elbo_store_count(weights), views, 0, NULL));
  if (t->kill_in_save == t->saves) raise(SIGKILL);
  if (t->fail_save) return fail(t->ctx, ELBO_ERROR_IO, "%s: no space left on device", path);
  TRY(path_join(t->ctx, path, sizeof path, directory, "model_index.json"));
  return file_write(t->ctx, path, "{}\n", 3);
}

static inline elbo_status tiny_preview(void *user, elbo_store *weights, int64_t step, const char *directory) {
  tiny *t = user;
  (void)weights;
  static const unsigned char png[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n', 0, 0, 0, 13, 'I', 'H', 'D', 'R', 0,
                                      0,    0,   1,   0,   0,    0,    1,    8,    0, 0, 0, 0,  0,   0,   0,   0};
  char path[4096];
  t->previews++;
  snprintf(path, sizeof path, "%s/step-%lld.png", directory, (long long)step);
  return file_write(t->ctx, path, png, sizeof png);
}

static inline elbo_tensor *tiny_square_error(elbo_tensor *y, elbo_tensor *target) {
  return elbo_mean(elbo_square(elbo_sub(y, target)), ELBO_ALL_AXES, 0);
}

// Phase 1: y = x w^T + b + 0.1 noise, squared error + beta mean(w^2), a running mean of y.
static inline void tiny_first_phase(tiny *t, int64_t batch) {
  elbo_graph *g;
  assert_ok(t->ctx, elbo_graph_create(t->ctx, "tiny", &g));
  t->graph = g;
  elbo_tensor *x = elbo_input(g, "x", ELBO_F32, 2, (int64_t[]){batch, TINY_IN});
  elbo_tensor *target = elbo_input(g, "target", ELBO_F32, 2, (int64_t[]){batch, TINY_OUT});
  elbo_tensor *beta = elbo_input(g, "beta", ELBO_F32, 0, NULL);
  elbo_scope_push(g, "net");
  elbo_tensor *w = elbo_parameter(g, "w", 2, (int64_t[]){TINY_OUT, TINY_IN}, ELBO_PARAM_TRAINED, ELBO_INIT_FAN_IN);
  elbo_tensor *b = elbo_parameter(g, "b", 1, (int64_t[]){TINY_OUT}, ELBO_PARAM_TRAINED, ELBO_INIT_ZEROS);
  elbo_tensor *mean = elbo_parameter(g, "mean", 1, (int64_t[]){TINY_OUT}, ELBO_PARAM_STATE, ELBO_INIT_ZEROS);
  elbo_parameter(g, "unused", 1, (int64_t[]){5}, ELBO_PARAM_TRAINED, ELBO_INIT_ONES);
  elbo_tensor *noise = elbo_random_normal(g, "noise", 2, (int64_t[]){batch, TINY_OUT});
  elbo_scope_pop(g);
  elbo_tensor *y = elbo_add(elbo_linear(x, w, b), elbo_scale(noise, 0.1, 0));
  elbo_state_update(mean, elbo_add(elbo_scale(mean, 0.9, 0), elbo_scale(elbo_mean(y, 1, 0), 0.1, 0)));
  elbo_tensor *mse = tiny_square_error(y, target);
  elbo_tensor *loss = elbo_add(mse, elbo_mul(beta, elbo_mean(elbo_square(w), ELBO_ALL_AXES, 0)));
  t->metrics[0] = (train_metric){"mse", "", mse, false};
  t->metrics[1] = (train_metric){"per_output", "", elbo_mean(elbo_square(elbo_sub(y, target)), 1, 0), true};
  t->phases[0] = (train_phase){.name = "vae", .graph = g, .loss = loss, .prefix = "net.", .n_metrics = 2, .metrics = t->metrics};
  assert_ok(t->ctx, elbo_graph_check(g));
}

// Phase 2: another graph with parameters of its own, switched on by the sign of the batch's first number when `switched`.
static inline void tiny_second_phase(tiny *t, int64_t batch, bool switched) {
  static const optimizer_config sgd = {OPTIMIZER_SGD, 0.05, 0.9, 0, 0, 0, 0};
  elbo_graph *g;
  assert_ok(t->ctx, elbo_graph_create(t->ctx, "critic", &g));
  t->graph2 = g;
  elbo_tensor *x = elbo_input(g, "x", ELBO_F32, 2, (int64_t[]){batch, TINY_IN});
  elbo_tensor *target = elbo_input(g, "target", ELBO_F32, 2, (int64_t[]){batch, TINY_OUT});
  elbo_tensor *w = elbo_parameter(g, "critic.w", 2, (int64_t[]){TINY_OUT, TINY_IN}, ELBO_PARAM_TRAINED, ELBO_INIT_FAN_IN);
  elbo_tensor *enable = elbo_less(elbo_constant(g, 0), elbo_mean(elbo_slice(x, 0, 0, 1), ELBO_ALL_AXES, 0));
  t->phases[1] = (train_phase){.name = "critic",
                               .graph = g,
                               .loss = tiny_square_error(elbo_linear(x, w, NULL), target),
                               .prefix = "critic.",
                               .optimizer = &sgd,
                               .enable = switched ? enable : NULL};
  assert_ok(t->ctx, elbo_graph_check(g));
  t->task.n_phases = 2;
}

static inline void tiny_create(tiny *t, elbo_ctx *ctx, const train_config *config) {
  memset(t, 0, sizeof *t);
  t->ctx = ctx, t->infinite_at = -1;
  t->data = (tiny_source){.batch = train_micro_batch(config), .nan_at = -1};
  t->source = (train_source){&t->data, tiny_next, tiny_seek, NULL, NULL};
  t->task = (train_task){.user = t,
                         .n_phases = 1,
                         .phases = t->phases,
                         .schedule = tiny_schedule,
                         .watch = tiny_watch,
                         .validate = tiny_validate,
                         .save = tiny_save,
                         .preview = tiny_preview};
  tiny_first_phase(t, t->data.batch);
}

static inline void tiny_destroy(tiny *t) {
  elbo_graph_destroy(&t->graph);
  elbo_graph_destroy(&t->graph2);
}

static const double tiny_decay[] = {0.9};

static inline train_config tiny_config(void) {
  return (train_config){.steps = 40,
                        .batch_size = 16,
                        .accumulate = 1,
                        .optimizer = OPTIMIZER_ADAMW,
                        .learning_rate = 0.05,
                        .beta1 = 0.9,
                        .beta2 = 0.99,
                        .epsilon = 1e-8,
                        .weight_decay = 0.01,
                        .clip_norm = 1,
                        .ema = {1, tiny_decay},
                        .ema_warmup = true,
                        .checkpoint_every = 7,
                        .keep = 2,
                        .log_every = 5,
                        .seed = 3,
                        .stop_on_nan = true};
}

#endif
