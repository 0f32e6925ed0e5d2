#include "models/autoencoder_task.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <elbo/image.h>

#include "models/autoencoder.h"
#include "models/autoencoder_training.h"
#include "models/code_restart.h"
#include "models/gan_watch.h"

enum { VALID_LIMIT = 2000, PREVIEW_COLUMNS = 8, PREVIEW_COUNT = 32, PIXELS_AT_ONCE = 1 << 16 };

typedef struct autoencoder_task {
  elbo_ctx *ctx;
  autoencoder_spec spec;
  elbo_dataset *data;
  uint64_t seed;
  code_restart restart; // of a VQModel
  perceptual *features; // NULL: no perceptual distance
  gan_watch watch;
  autoencoder_training graph[2]; // the autoencoder's; the adversary's, where there is one
  train_phase phase[2];
  train_task task;
} autoencoder_task;

static elbo_status task_initialize(void *user, elbo_store *weights) {
  return perceptual_fill(((const autoencoder_task *)user)->features, weights);
}

static bool task_schedule(void *user, int64_t step, int64_t steps, const char *input, float *value) {
  const autoencoder_objective *o = &((const autoencoder_task *)user)->spec.objective;
  (void)steps;
  if (strcmp(input, "adversarial") != 0) return false;
  *value = step >= o->adversarial_start ? (float)o->adversarial : 0;
  return true;
}

static void task_watch(void *user, elbo_ctx *ctx, int64_t step, int n, const char *const *names, const int *counts,
                       const double *const *values) {
  autoencoder_task *t = user;
  const autoencoder_objective *o = &t->spec.objective;
  const gan_watched about = {
      .loss = o->loss, .start = o->adversarial_start, .r1 = o->r1, .spectral_norm = t->spec.discriminator.spectral_norm};
  (void)counts;
  gan_watch_interval(&t->watch, ctx, &about, step, n, names, values);
}

static void task_observe(void *user, const train_rows *rows, const float *values) {
  autoencoder_task *t = user;
  code_restart_observe(&t->restart, rows, values);
}

static void task_after_step(void *user, int64_t step, elbo_store *weights, int n_averages, elbo_store *const *averages) {
  autoencoder_task *t = user;
  code_restart_step(&t->restart, step, weights, n_averages, averages);
}

// Pictures of one batch beside the training's own
static int64_t side_batch(const autoencoder_task *t) {
  const int64_t most = PIXELS_AT_ONCE / (t->spec.shape.height * t->spec.shape.width);
  return most < 1 ? 1 : most > 64 ? 64 : most;
}

// Outputs distance (B) and, of AutoencoderKL, the KL (B), through the posterior's mean
static elbo_status open_score(autoencoder_task *t, elbo_store *weights, session *s) {
  elbo_graph *g = NULL;
  TRY(elbo_graph_create(t->ctx, "validation", &g));
  autoencoder_pass pass = autoencoder_forward(&t->spec, g, side_batch(t), false);
  elbo_tensor *outputs[2] = {pass.error, elbo_sum_per_example(pass.kl)};
  return session_create(t->ctx, g, weights, side_batch(t), pass.kl ? 2 : 1, outputs, s);
}

// Distance and weighted KL of up to VALID_LIMIT held-out pictures
static elbo_status task_validate(void *user, elbo_store *weights, int64_t step, double *score) {
  autoencoder_task *t = user;
  const picture_shape *p = &t->spec.shape;
  const bool kl = t->spec.network.network == CODEC_KL;
  const double kl_weight = t->spec.objective.kl / (double)(p->height * p->width * p->channels);
  (void)step;
  elbo_dataset_info info;
  elbo_dataset_get_info(t->data, &info);
  session s = {0};
  elbo_array *x = NULL;
  elbo_status status;
  int64_t n = info.count[ELBO_SPLIT_VALID] < VALID_LIMIT ? info.count[ELBO_SPLIT_VALID] : VALID_LIMIT, batch = side_batch(t);
  double sum = 0;
  TRY_GOTO(open_score(t, weights, &s));
  for (int64_t first = 0; first < n; first += batch) {
    int64_t count = n - first < batch ? n - first : batch;
    TRY_GOTO(elbo_dataset_read(t->data, ELBO_SPLIT_VALID, first, count, 0, 0, &x, NULL));
    TRY_GOTO(session_run(&s, &(session_rows){.x = x->data}, 0, count));
    for (int64_t i = 0; i < count; i++) sum += session_output(&s, 0)[i] + (kl ? kl_weight * (double)session_output(&s, 1)[i] : 0);
    elbo_array_destroy(&x);
  }
  *score = sum / (double)n;
fail:
  session_destroy(&s);
  elbo_array_destroy(&x);
  return status;
}

static elbo_status task_save(void *user, elbo_store *weights, const char *directory) {
  autoencoder_task *t = user;
  return autoencoder_write_trained(t->ctx, directory, &t->spec.network, weights);
}

// Rows of pictures, each above its reconstructions: (2n,H,W,C) in 0..1
static elbo_status pair_up(elbo_ctx *ctx, const elbo_array *x, const elbo_array *y, elbo_array **out) {
  const int64_t n = x->dim[0] / PREVIEW_COLUMNS, row = PREVIEW_COLUMNS * (elbo_array_count(x) / x->dim[0]);
  TRY(elbo_array_create(ctx, ELBO_F32, 4, (int64_t[]){2 * n * PREVIEW_COLUMNS, x->dim[1], x->dim[2], x->dim[3]}, out));
  float *to = (*out)->data;
  for (int64_t i = 0; i < n; i++) {
    memcpy(to + 2 * i * row, (const float *)x->data + i * row, (size_t)row * sizeof *to);
    memcpy(to + (2 * i + 1) * row, (const float *)y->data + i * row, (size_t)row * sizeof *to);
  }
  for (int64_t i = 0, count = elbo_array_count(*out); i < count; i++) to[i] = 0.5f * to[i] + 0.5f;
  return ELBO_OK;
}

static elbo_status task_preview(void *user, elbo_store *weights, int64_t step, const char *directory) {
  autoencoder_task *t = user;
  elbo_dataset_info info;
  elbo_dataset_get_info(t->data, &info);
  const elbo_split split = info.count[ELBO_SPLIT_VALID] >= PREVIEW_COUNT ? ELBO_SPLIT_VALID : ELBO_SPLIT_TRAIN;
  if (t->spec.shape.channels > 4 || info.count[split] < PREVIEW_COUNT) return ELBO_OK;
  elbo_model m = autoencoder_of_weights(t->ctx, &t->spec.network, weights, (int)side_batch(t));
  elbo_array *x = NULL, *y = NULL, *pairs = NULL, *grid = NULL;
  char path[PATH_MAX];
  elbo_status status;
  snprintf(path, sizeof path, "%s/step-%lld.png", directory, (long long)step);
  TRY_GOTO(elbo_dataset_read(t->data, split, 0, PREVIEW_COUNT, 1, t->seed, &x, NULL));
  autoencoder_take_pictures(t->spec.bits, x);
  TRY_GOTO(elbo_reconstruct(&m, x, NULL, 0, t->seed, &y));
  TRY_GOTO(pair_up(t->ctx, x, y, &pairs));
  TRY_GOTO(elbo_image_grid(t->ctx, pairs, PREVIEW_COLUMNS, 400, &grid));
  status = elbo_image_write(t->ctx, path, grid);
fail:
  elbo_array_destroy(&x), elbo_array_destroy(&y), elbo_array_destroy(&pairs), elbo_array_destroy(&grid);
  return status;
}

static void destroy(void *self) {
  autoencoder_task *t = self;
  if (!t) return;
  for (int i = 0; i < 2; i++) elbo_graph_destroy(&t->graph[i].graph);
  code_restart_free(&t->restart);
  perceptual_close(&t->features);
  free(t);
}

static train_phase phase_of(const char *name, const char *prefix, const autoencoder_training *g) {
  return (train_phase){.name = name,
                       .graph = g->graph,
                       .loss = g->loss,
                       .prefix = prefix,
                       .enable = g->enable,
                       .observed = g->observed,
                       .n_metrics = g->n_metrics,
                       .metrics = g->metric};
}

static elbo_status open_features(autoencoder_task *t, const char *file) {
  const char *path = t->spec.objective.perceptual, *channels = t->spec.objective.perceptual_channels;
  char what[512];
  if (!*path && *channels)
    return fail(t->ctx, ELBO_ERROR_ARGUMENT, "%s: objective.perceptual_channels: of VGG-16, which objective.perceptual does not name",
                file);
  if (!*path) return ELBO_OK;
  snprintf(what, sizeof what, "%s: objective.perceptual", file);
  TRY(perceptual_open(t->ctx, what, path, channels, &t->spec.shape, &t->features));
  log_info(t->ctx, "perceptual distance by %s, %s, sha256 %s", perceptual_name(t->features), path, perceptual_hash(t->features));
  return ELBO_OK;
}

static elbo_status make_restart(autoencoder_task *t, int64_t batch) {
  const akl_config *c = &t->spec.network.vq;
  const int64_t dim = vq_code_channels(c), places = batch * autoencoder_code_size(&t->spec) / dim;
  return code_restart_create(t->ctx, "quantize.embedding.weight", c->num_vq_embeddings, dim, t->spec.objective.restart_steps, places,
                             t->seed, &t->restart);
}

static const char *const training_only[] = {"discriminator.", PERCEPTUAL_PREFIX, NULL};

static elbo_status make(autoencoder_task *t, const preset_request *request) {
  const elbo_dataset_info *info = &request->info;
  const int64_t batch = request->micro_batch;
  TRY(autoencoder_spec_make(t->ctx, request->config, info, request->file, &t->spec));
  TRY(open_features(t, request->file));
  const bool adversary = t->spec.objective.adversarial > 0;
  TRY(autoencoder_training_build(t->ctx, &t->spec, t->features, batch, &t->graph[0]));
  if (adversary) TRY(autoencoder_adversary_build(t->ctx, &t->spec, batch, &t->graph[1]));
  const bool restarts = t->graph[0].observed != NULL;
  if (restarts) TRY(make_restart(t, batch));
  t->phase[0] = phase_of("autoencoder", "", &t->graph[0]);
  t->phase[1] = phase_of("discriminator", "discriminator.", &t->graph[1]);
  t->task = (train_task){.user = t,
                         .n_phases = adversary ? 2 : 1,
                         .phases = t->phase,
                         .training_only = training_only,
                         .initialize = t->features ? task_initialize : NULL,
                         .schedule = task_schedule,
                         .observe = restarts ? task_observe : NULL,
                         .after_step = restarts ? task_after_step : NULL,
                         .watch = adversary ? task_watch : NULL,
                         .validate = info->count[ELBO_SPLIT_VALID] > 0 ? task_validate : NULL,
                         .save = task_save,
                         .preview = task_preview};
  return ELBO_OK;
}

elbo_status autoencoder_task_create(elbo_ctx *ctx, const preset_request *request, preset_task *out) {
  autoencoder_task *t = calloc(1, sizeof *t);
  *out = (preset_task){0};
  if (!t) return fail_memory(ctx, sizeof *t, "a task");
  t->ctx = ctx, t->data = request->data, t->seed = (uint64_t)request->stage->train.seed;
  elbo_status status = make(t, request);
  if (status != ELBO_OK) {
    destroy(t);
    return status;
  }
  *out = (preset_task){.self = t, .task = &t->task, .destroy = destroy};
  return ELBO_OK;
}
