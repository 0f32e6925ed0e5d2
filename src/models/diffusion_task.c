#include "models/diffusion_task.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <elbo/image.h>

#include "data/loader.h"
#include "models/diffusion_density.h"
#include "models/latent_cache.h"

enum { VALID_LIMIT = 1000, PREVIEW_COUNT = 64, PREVIEW_POINTS = 1000 };

typedef struct diffusion_task {
  elbo_ctx *ctx;
  arena *arena; // lists of spec
  diffusion_hooks hooks;
  diffusion_spec spec;
  diffusion_objective objective;
  process *process; // NULL: learned
  elbo_dataset *data;
  uint64_t seed;
  int64_t last_step; // that `fill` saw
  time_config time;
  double *drawn; // (micro batch) times of the rows at hand, kept for `observe`: the history changes what would be drawn
  diffusion_training_graph graph;
  train_metric metric[8];
  train_phase phase;
  train_task task;
  // of a model of codes; spec.latent is in the arena
  data_config transforms;
  int scaling;
  loader_config loading;
  elbo_dataset *codes; // of the training examples: the cache
  loader *loader;      // over them
  elbo_array *valid;   // states of the examples that are validated on; NULL: not encoded yet
  train_source source;
} diffusion_task;

// --- times ---

static time_history history_of(const diffusion_task *t, elbo_store *weights) {
  elbo_param_info p;
  if (t->objective.time != TIME_IMPORTANCE || elbo_store_find(weights, TIME_HISTORY, &p) != ELBO_OK) return (time_history){0};
  return time_history_of(t->process, p.data);
}

// The time of row i: a function of seed, sample and, under importance, of the losses before this step.
static double time_of_row(const diffusion_task *t, const train_rows *rows, const time_history *h, int64_t i, double *weight) {
  uint64_t sample = rows->sample_index ? (uint64_t)rows->sample_index[i] : (uint64_t)(rows->step * rows->n + i);
  return time_draw(&t->time, t->process, t->seed, sample, h->seen ? h : NULL, weight);
}

static bool fill(void *user, const train_rows *rows, const char *input, int64_t count, float *values) {
  diffusion_task *t = user;
  t->last_step = rows->step;
  if (count != 1) return false;
  time_history h = history_of(t, rows->weights);
  for (int64_t i = 0; i < rows->n; i++) {
    double weight, at = time_of_row(t, rows, &h, i, &weight);
    if (!strcmp(input, "importance"))
      values[i] = (float)weight, t->drawn[i] = at;
    else if (!strcmp(input, "t"))
      values[i] = (float)at;
    else if (!t->process || !diffusion_fill(&t->spec, &t->objective, t->process, at, input, &values[i]))
      return false;
  }
  return true;
}

static void observe(void *user, const train_rows *rows, const float *values) {
  diffusion_task *t = user;
  time_history h = history_of(t, rows->weights);
  if (!h.seen) return;
  for (int64_t i = 0; i < rows->n; i++)
    if (!rows->weight || rows->weight[i] > 0) time_history_add(&h, t->drawn[i], (double)values[i]);
}

// --- codes ---

static latent_cache_request cache_of(diffusion_task *t) {
  return (latent_cache_request){.space = t->spec.latent,
                                .data = t->data,
                                .transforms = &t->transforms,
                                .moments = diffusion_draws_codes(&t->spec),
                                .scaling = t->scaling};
}

static elbo_status prepare_flops(void *user, int64_t *out) {
  const latent_cache_request request = cache_of(user);
  return latent_cache_flops(&request, out);
}

static elbo_status prepare(void *user, const char *run, elbo_progress_fn progress, void *progress_user) {
  diffusion_task *t = user;
  latent_cache_request request = cache_of(t);
  if (t->loader) return ELBO_OK;
  request.progress = progress, request.progress_user = progress_user;
  TRY(latent_cache_open(t->ctx, run, &request, &t->codes));
  return loader_create(t->ctx, t->codes, &t->loading, &t->loader);
}

static elbo_status unprepared(const diffusion_task *t) { return fail(t->ctx, ELBO_ERROR_STATE, "the codes are not made yet"); }
static elbo_status next_codes(void *user, const data_batch **out) {
  diffusion_task *t = user;
  return t->loader ? loader_next(t->loader, out) : unprepared(t);
}
static elbo_status seek_codes(void *user, int64_t samples) {
  diffusion_task *t = user;
  return t->loader ? loader_seek(t->loader, samples) : unprepared(t);
}
static int64_t bytes_of_codes(void *user) {
  diffusion_task *t = user;
  return t->loader ? loader_bytes(t->loader) : 0;
}

// Examples as the model has them.
static elbo_status read_states(diffusion_task *t, elbo_split split, int64_t first, int64_t count, elbo_array **x, elbo_array **told) {
  elbo_array *pictures = NULL;
  TRY(diffusion_read(&t->spec, t->data, split, first, count, x, told));
  if (!t->spec.latent) return ELBO_OK;
  pictures = *x;
  elbo_status status = latent_encode(t->spec.latent, pictures, x, NULL);
  elbo_array_destroy(&pictures);
  if (status != ELBO_OK) elbo_array_destroy(told);
  return status;
}

// The held-out codes stay what they are: encoded once.
static elbo_status read_valid(diffusion_task *t, int64_t n, int64_t first, int64_t count, elbo_array **x, elbo_array **told) {
  elbo_array *all = NULL;
  if (!t->spec.latent) return read_states(t, ELBO_SPLIT_VALID, first, count, x, told);
  if (!t->valid) TRY(read_states(t, ELBO_SPLIT_VALID, 0, n, &t->valid, &all));
  elbo_array_destroy(&all);
  TRY(diffusion_read(&t->spec, t->data, ELBO_SPLIT_VALID, first, count, x, told)); // for what they are told
  elbo_array_destroy(x);
  elbo_array part = *t->valid;
  const int64_t row = elbo_array_count(t->valid) / part.dim[0];
  part.dim[0] = count, part.data = (float *)t->valid->data + first * row;
  elbo_status status = elbo_array_convert(t->ctx, &part, ELBO_F32, x);
  if (status != ELBO_OK) elbo_array_destroy(told);
  return status;
}

// --- around the steps ---

static elbo_status validate(void *user, elbo_store *weights, int64_t step, double *score) {
  (void)step;
  diffusion_task *t = user;
  elbo_dataset_info info;
  elbo_dataset_get_info(t->data, &info);
  elbo_model m;
  elbo_array *x = NULL, *label = NULL;
  elbo_status status;
  int64_t n = info.count[ELBO_SPLIT_VALID] < VALID_LIMIT ? info.count[ELBO_SPLIT_VALID] : VALID_LIMIT;
  double sum = 0;
  TRY(diffusion_view(t->ctx, &t->spec, weights, &m));
  m.diffusion->source = t->hooks.source;
  int64_t part = 16 * m.batch_size;
  for (int64_t first = 0; first < n; first += part) {
    int64_t count = n - first < part ? n - first : part;
    TRY_GOTO(read_valid(t, n, first, count, &x, &label));
    TRY_GOTO(diffusion_validation_loss(&m, &t->objective, x, label, first, t->seed, &sum));
    elbo_array_destroy(&x);
    elbo_array_destroy(&label);
  }
  *score = sum / (double)n;
  status = ELBO_OK;
fail:
  elbo_array_destroy(&x);
  elbo_array_destroy(&label);
  diffusion_view_close(&m);
  return status;
}

static elbo_status initialize(void *user, elbo_store *weights) {
  diffusion_task *t = user;
  return t->hooks.initialize(t->hooks.user, weights);
}

static elbo_status save(void *user, elbo_store *weights, const char *directory) {
  diffusion_task *t = user;
  if (t->hooks.save) return t->hooks.save(t->hooks.user, weights, directory, t->last_step + 1);
  return diffusion_directory_write(t->ctx, directory, &t->spec, weights, t->last_step + 1);
}

// What the network is told while samples are drawn: that of the first examples of the held-out part, or of the training part.
static elbo_status read_conditions(diffusion_task *t, const elbo_model *m, int64_t most, elbo_array **x, elbo_array **condition) {
  const diffusion_spec *s = &t->spec;
  elbo_dataset_info info;
  elbo_dataset_get_info(t->data, &info);
  elbo_split split = info.count[ELBO_SPLIT_VALID] > 0 ? ELBO_SPLIT_VALID : ELBO_SPLIT_TRAIN;
  int64_t n = info.count[split] < most ? info.count[split] : most, dim[4] = {n, s->height, s->width, diffusion_picture_channels(s)};
  elbo_array *label = NULL;
  session told = {0};
  elbo_status status;
  *x = *condition = NULL;
  TRY_GOTO(diffusion_read(s, t->data, split, 0, n, x, &label));
  if (s->model.condition.type == DIFFUSION_VECTOR || s->model.condition.type == DIFFUSION_CONTEXT) *condition = label, label = NULL;
  if (dim[3]) {
    TRY_GOTO(condition_session_open(m, n, &told));
    TRY_GOTO(elbo_array_create(t->ctx, ELBO_F32, 4, dim, condition));
    session_rows rows = {.x = (*x)->data, .seed = t->seed};
    TRY_GOTO(session_run(&told, &rows, 0, n));
    memcpy((*condition)->data, session_output(&told, 0), elbo_array_bytes(*condition));
  }
  status = ELBO_OK;
fail:
  session_destroy(&told);
  elbo_array_destroy(&label);
  return status;
}

// Samples beside data, as dots in the plane.
static elbo_status plane_of_points(diffusion_task *t, const elbo_array *samples, const elbo_array *data, elbo_array **grid) {
  enum { SIDE = 192 };
  double reach = density_reach(data->data, data->dim[0]);
  elbo_array *panels = NULL;
  TRY(elbo_array_create(t->ctx, ELBO_F32, 4, (int64_t[]){2, SIDE, SIDE, 1}, &panels));
  density_points(samples->data, samples->dim[0], reach, SIDE, panels->data);
  density_points(data->data, data->dim[0], reach, SIDE, (float *)panels->data + SIDE * SIDE);
  elbo_status status = elbo_image_grid(t->ctx, panels, 2, 0, grid);
  elbo_array_destroy(&panels);
  return status;
}

static elbo_status preview(void *user, elbo_store *weights, int64_t step, const char *directory) {
  diffusion_task *t = user;
  if (t->hooks.preview) return t->hooks.preview(t->hooks.user, weights, step, directory);
  const diffusion_spec *s = &t->spec;
  const bool plane = !s->latent && s->height * s->width * s->channels == 2 && !s->bits;
  const picture_shape p = s->latent ? s->latent->picture : (picture_shape){s->height, s->width, s->channels};
  if (!plane && (p.height * p.width < 4 || p.channels > 4)) return ELBO_OK;
  elbo_model m;
  elbo_model_info info;
  elbo_array *x = NULL, *grid = NULL, *data = NULL, *condition = NULL;
  elbo_sample_config config;
  const char *options[QUICK_OPTIONS];
  char path[PATH_MAX];
  elbo_status status;
  TRY(diffusion_view(t->ctx, s, weights, &m));
  TRY_GOTO(read_conditions(t, &m, plane ? PREVIEW_POINTS : PREVIEW_COUNT, &data, &condition));
  elbo_sample_defaults(&config);
  config.n = plane || condition ? data->dim[0] : PREVIEW_COUNT, config.seed = t->seed, config.condition = condition;
  config.options = options, config.n_options = quick_sampling_options(s, options);
  snprintf(path, sizeof path, "%s/step-%lld.png", directory, (long long)step);
  TRY_GOTO(elbo_sample(&m, &config, &x));
  if (plane) {
    TRY_GOTO(plane_of_points(t, x, data, &grid));
  } else { // to 0..1
    float *v = x->data;
    elbo_model_get_info(&m, &info);
    const float low = (float)info.low, scale = (float)(1 / (info.high - info.low));
    for (int64_t i = 0, n = elbo_array_count(x); i < n; i++) v[i] = (v[i] - low) * scale;
    TRY_GOTO(elbo_image_grid(t->ctx, x, 0, 400, &grid));
  }
  status = elbo_image_write(t->ctx, path, grid);
fail:
  elbo_array_destroy(&x);
  elbo_array_destroy(&grid);
  elbo_array_destroy(&data);
  elbo_array_destroy(&condition);
  diffusion_view_close(&m);
  return status;
}

// --- from a recipe ---

static void destroy_task(void *self) {
  diffusion_task *t = self;
  if (!t) return;
  if (t->loader) loader_destroy(&t->loader);
  elbo_dataset_destroy(&t->codes);
  elbo_array_destroy(&t->valid);
  elbo_graph_destroy(&t->graph.graph);
  process_destroy(&t->process);
  if (t->arena) arena_destroy(&t->arena);
  if (t->hooks.destroy) t->hooks.destroy(t->hooks.user);
  free(t->drawn);
  free(t);
}

// A model of the codes of request->frozen, which the steps are fed with from a cache.
static elbo_status take_autoencoder(diffusion_task *t, const preset_request *request, latent_space **out) {
  const train_config *train = &request->stage->train;
  const picture_shape picture = {request->info.height, request->info.width, request->info.channels};
  char where[512];
  snprintf(where, sizeof where, "%s: model.autoencoder", request->file);
  TRY(latent_cache_check(t->ctx, &request->stage->data, request->file));
  TRY(latent_space_create(t->ctx, t->arena, request->frozen, &picture, request->info.bits, where, out));
  t->transforms = request->stage->data, t->scaling = ((const diffusion_recipe *)request->config)->model.latent.scale;
  t->loading = (loader_config){
      .split = ELBO_SPLIT_TRAIN, .batch_size = request->micro_batch, .shuffle = true, .seed = (uint64_t)train->seed, .augment = true};
  t->source = (train_source){t, next_codes, seek_codes, bytes_of_codes, NULL};
  return ELBO_OK;
}

// What is common to all tasks around a diffusion; spec, objective and hooks are set.
static elbo_status make_task(diffusion_task *t, const preset_request *request) {
  const train_config *train = &request->stage->train;
  elbo_ctx *ctx = t->ctx;
  elbo_dataset_info info;
  char where[512];
  elbo_dataset_get_info(request->data, &info);
  TRY(diffusion_objective_check(ctx, &t->objective, &t->spec, request->file));
  TRY(array_new(ctx, (size_t)request->micro_batch, sizeof(double), "times", (void **)&t->drawn));
  t->time = (time_config){t->objective.time, t->objective.time_mean, t->objective.time_std, train->batch_size};
  snprintf(where, sizeof where, "%s: model.process", request->file);
  if (t->spec.model.process.type != PROCESS_LEARNED) TRY(process_create(ctx, &t->spec.model.process, where, &t->process));
  TRY(diffusion_training_build_from(ctx, &t->spec, &t->objective, t->process, request->micro_batch, true, t->hooks.source, &t->graph));
  for (int i = 0; i < t->graph.n_metrics; i++)
    t->metric[i] = (train_metric){t->graph.metric_name[i], t->graph.metric_unit[i], t->graph.metric[i], false};
  t->phase = (train_phase){.name = "diffusion",
                           .graph = t->graph.graph,
                           .loss = t->graph.loss,
                           .prefix = t->hooks.prefix ? t->hooks.prefix : "",
                           .observed = t->graph.observed,
                           .n_metrics = t->graph.n_metrics,
                           .metrics = t->metric};
  t->task = (train_task){.user = t,
                         .n_phases = 1,
                         .phases = &t->phase,
                         .initialize = t->hooks.initialize ? initialize : NULL,
                         .fill = fill,
                         .observe = observe,
                         .prepare = t->spec.latent ? prepare : NULL,
                         .prepare_flops = t->spec.latent ? prepare_flops : NULL,
                         .validate = info.count[ELBO_SPLIT_VALID] > 0 ? validate : NULL,
                         .save = save,
                         .preview = preview};
  return ELBO_OK;
}

static elbo_status new_task(elbo_ctx *ctx, const preset_request *request, diffusion_task **out) {
  diffusion_task *t = calloc(1, sizeof *t);
  *out = t;
  if (!t) return fail_memory(ctx, sizeof *t, "a task");
  t->ctx = ctx, t->data = request->data, t->seed = (uint64_t)request->stage->train.seed, t->last_step = -1;
  return ELBO_OK;
}

static elbo_status finish_task(diffusion_task *t, elbo_status status, preset_task *out) {
  if (status != ELBO_OK)
    destroy_task(t);
  else
    *out = (preset_task){.self = t, .task = &t->task, .source = t->spec.latent ? &t->source : NULL, .destroy = destroy_task};
  return status;
}

elbo_status diffusion_task_create(elbo_ctx *ctx, const preset_request *request, const diffusion_spec *spec,
                                  const diffusion_objective *objective, const diffusion_hooks *hooks, preset_task *out) {
  diffusion_task *t;
  elbo_status status = new_task(ctx, request, &t);
  if (!t) {
    if (hooks->destroy) hooks->destroy(hooks->user);
    return status;
  }
  t->spec = *spec, t->objective = *objective, t->hooks = *hooks;
  return finish_task(t, make_task(t, request), out);
}

static elbo_status spec_of_recipe(diffusion_task *t, const preset_request *request) {
  const diffusion_recipe *recipe = request->config;
  t->arena = arena_create(1 << 12);
  if (!t->arena) return fail_memory(t->ctx, 1 << 12, "a task");
  elbo_dataset_info info;
  elbo_dataset_get_info(request->data, &info);
  latent_space *latent = NULL;
  if (request->frozen) TRY(take_autoencoder(t, request, &latent));
  t->objective = recipe->objective;
  return diffusion_spec_of_codes(t->ctx, t->arena, recipe, &info, latent, request->file, &t->spec);
}

static elbo_status create(elbo_ctx *ctx, const preset_request *request, preset_task *out) {
  diffusion_task *t;
  TRY(new_task(ctx, request, &t));
  elbo_status status = spec_of_recipe(t, request);
  if (status == ELBO_OK) status = make_task(t, request);
  return finish_task(t, status, out);
}

static elbo_status forward(elbo_ctx *ctx, const preset_request *request, elbo_graph **graph, elbo_tensor **out) {
  const diffusion_condition_config *c = &((const diffusion_recipe *)request->config)->model.condition;
  diffusion_spec spec;
  elbo_dataset_info info = request->info; // made up, conditions too
  info.condition_dim = (int)c->dim, info.condition_tokens = c->type == DIFFUSION_CONTEXT ? (int)c->tokens : 0;
  *graph = NULL;
  arena *a = arena_create(1 << 12);
  if (!a) return fail_memory(ctx, 1 << 12, "a network");
  elbo_status status = diffusion_spec_make(ctx, a, request->config, &info, request->file, &spec);
  if (status == ELBO_OK) status = elbo_graph_create(ctx, "forward", graph);
  if (status == ELBO_OK) *out = diffusion_call_graph(&spec, *graph, request->micro_batch);
  arena_destroy(&a);
  return status;
}

#define AUTOENCODER_KEY \
  { "model.autoencoder", offsetof(diffusion_recipe, model.autoencoder) }

const preset_def preset_ddpm = {.name = "ddpm",
                                .summary = "a diffusion model",
                                .sections = &diffusion_sections,
                                .create = create,
                                .forward = forward,
                                .frozen = AUTOENCODER_KEY};

static const char *const vdm_defaults[] = {"model.network=vdm",
                                           "model.process.type=learned",
                                           "model.process.logsnr_min=-5",
                                           "model.process.logsnr_max=13.3",
                                           "objective.weighting=bound",
                                           "objective.time=low_discrepancy",
                                           "sample.sampler=ddpm",
                                           "sample.steps=250",
                                           NULL};
const preset_def preset_vdm = {.name = "vdm",
                               .summary = "a diffusion model",
                               .sections = &diffusion_sections,
                               .defaults = vdm_defaults,
                               .create = create,
                               .forward = forward,
                               .frozen = AUTOENCODER_KEY};
