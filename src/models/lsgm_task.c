#include "models/lsgm_task.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <elbo/image.h>

#include "core/philox.h"
#include "models/collapse_watch.h"
#include "models/diffusion_model.h"
#include "models/lsgm_model.h"
#include "models/vae_task.h"

enum { VALID_LIMIT = 2000, VALID_PART = 500, VALID_TIMES = 8, PREVIEW_COUNT = 64 };

struct lsgm_task {
  elbo_ctx *ctx;
  arena *arena; // lists of spec, where the task has made them
  lsgm_spec spec;
  lsgm_objective objective;
  process *process;
  time_density *of_score, *of_bound; // under which their times are drawn; with one time for both, both times are the first's
  int64_t batch_size;
  elbo_dataset *data;
  uint64_t seed;
  int64_t last_step; // that `schedule` saw
  collapse_watch watch;
  lsgm_training_graph graph;
  train_phase phase;
  train_task task;
};

static objective_config plain_objective(const lsgm_task *t) {
  return (objective_config){.beta = t->objective.beta, .kl_warmup_steps = t->objective.kl_warmup_steps};
}

static bool schedule(void *user, int64_t step, int64_t steps, const char *input, float *value) {
  lsgm_task *t = user;
  objective_config o = plain_objective(t);
  t->last_step = step;
  if (strcmp(input, "beta") != 0) return false;
  *value = (float)objective_beta_at(&o, step, steps);
  return true;
}

// Times are a function of seed and sample. "score.weight" is half the weighting over the density that its time was drawn from.
static bool fill(void *user, const train_rows *rows, const char *input, int64_t count, float *values) {
  const lsgm_task *t = user;
  const bool bound = strncmp(input, "bound.", 6) == 0, own = bound && lsgm_separate(&t->objective);
  const uint32_t stream = philox_stream(own ? "bound.time" : "score.time");
  const time_density *density = own ? t->of_bound : t->of_score;
  const int weighting = bound ? SCORE_LIKELIHOOD : t->objective.weighting;
  if (count != 1 || (!bound && strncmp(input, "score.", 6) != 0)) return false;
  for (int64_t i = 0; i < rows->n; i++) {
    uint64_t sample = rows->sample_index ? (uint64_t)rows->sample_index[i] : (uint64_t)(rows->step * rows->n + i);
    double at = time_density_quantile(density, low_discrepancy_draw(stream, t->batch_size, t->seed, sample));
    if (strcmp(input + 6, "weight") == 0)
      values[i] = (float)(score_weight(weighting, t->process, at) / time_density_at(density, at));
    else if (!lsgm_fill(&t->spec, t->process, at, input + 6, &values[i]))
      return false;
  }
  return true;
}

static void watch(void *user, elbo_ctx *ctx, int64_t step, int n, const char *const *names, const int *counts,
                  const double *const *values) {
  lsgm_task *t = user;
  objective_config o = plain_objective(t);
  collapse_watch_interval(&t->watch, ctx, &t->spec.vae, &o, step, n, names, counts, values);
}

// The negative bound of held-out examples: always the same examples, draws and times.
static elbo_status validate(void *user, elbo_store *weights, int64_t step, double *score) {
  (void)step;
  lsgm_task *t = user;
  elbo_dataset_info info;
  elbo_dataset_get_info(t->data, &info);
  elbo_model m;
  elbo_array *x = NULL;
  bound_estimate estimate = {0};
  elbo_status status;
  int64_t n = info.count[ELBO_SPLIT_VALID] < VALID_LIMIT ? info.count[ELBO_SPLIT_VALID] : VALID_LIMIT;
  int64_t index[VALID_PART];
  double sum = 0;
  TRY(lsgm_view(t->ctx, &t->spec, weights, &m));
  for (int64_t first = 0; first < n; first += VALID_PART) {
    int64_t count = n - first < VALID_PART ? n - first : VALID_PART;
    for (int64_t i = 0; i < count; i++) index[i] = first + i;
    TRY_GOTO(elbo_dataset_read(t->data, ELBO_SPLIT_VALID, first, count, 0, 0, &x, NULL));
    prepare_pictures(&t->spec.vae, t->seed, first, x);
    TRY_GOTO(lsgm_bound(&m, x, index, 1, VALID_TIMES, t->seed, NULL, NULL, &estimate));
    for (int64_t i = 0; i < estimate.n; i++) sum += estimate.elbo[i];
    bound_estimate_free(&estimate);
    elbo_array_destroy(&x);
  }
  *score = -sum / (double)n;
  status = ELBO_OK;
fail:
  bound_estimate_free(&estimate);
  elbo_array_destroy(&x);
  lsgm_view_close(&m);
  return status;
}

static elbo_status save(void *user, elbo_store *weights, const char *directory) {
  lsgm_task *t = user;
  return lsgm_directory_write(t->ctx, directory, &t->spec, weights, t->last_step + 1);
}

static elbo_status preview(void *user, elbo_store *weights, int64_t step, const char *directory) {
  lsgm_task *t = user;
  const picture_shape *s = &t->spec.vae.shape;
  if (s->height * s->width < 4 || s->channels > 4) return ELBO_OK;
  elbo_model m;
  elbo_array *x = NULL, *grid = NULL;
  elbo_sample_config config;
  const char *options[QUICK_OPTIONS];
  char path[PATH_MAX];
  elbo_status status;
  TRY(lsgm_view(t->ctx, &t->spec, weights, &m));
  elbo_sample_defaults(&config);
  config.n = PREVIEW_COUNT, config.seed = t->seed;
  config.options = options, config.n_options = quick_sampling_options(&t->spec.prior, options);
  snprintf(path, sizeof path, "%s/step-%lld.png", directory, (long long)step);
  TRY_GOTO(elbo_sample(&m, &config, &x));
  TRY_GOTO(elbo_image_grid(t->ctx, x, 0, 400, &grid));
  status = elbo_image_write(t->ctx, path, grid);
fail:
  elbo_array_destroy(&x);
  elbo_array_destroy(&grid);
  lsgm_view_close(&m);
  return status;
}

static elbo_status make_task(lsgm_task *t, int64_t batch) {
  const lsgm_objective *o = &t->objective;
  elbo_dataset_info info = {0};
  if (t->data) elbo_dataset_get_info(t->data, &info);
  TRY(process_create(t->ctx, &t->spec.prior.model.process, "model.prior.process", &t->process));
  TRY(time_density_create(t->ctx, t->process, o->weighting, o->importance, &t->of_score));
  TRY(time_density_create(t->ctx, t->process, SCORE_LIKELIHOOD, o->importance, &t->of_bound));
  TRY(lsgm_training_build(t->ctx, &t->spec, o, t->process, batch, &t->graph));
  t->phase = (train_phase){.name = "lsgm",
                           .graph = t->graph.graph,
                           .loss = t->graph.loss,
                           .prefix = "",
                           .n_metrics = t->graph.n_metrics,
                           .metrics = t->graph.metric};
  t->task = (train_task){.user = t,
                         .n_phases = 1,
                         .phases = &t->phase,
                         .may_be_new = DENOISER_SCOPE ".",
                         .schedule = schedule,
                         .fill = fill,
                         .watch = watch,
                         .validate = info.count[ELBO_SPLIT_VALID] > 0 ? validate : NULL,
                         .save = save,
                         .preview = preview};
  return ELBO_OK;
}

elbo_status lsgm_task_create(elbo_ctx *ctx, const lsgm_spec *spec, const lsgm_objective *objective, int64_t batch, int64_t batch_size,
                             elbo_dataset *data, uint64_t seed, lsgm_task **out) {
  *out = NULL;
  lsgm_task *t = calloc(1, sizeof *t);
  if (!t) return fail_memory(ctx, sizeof *t, "a task");
  t->ctx = ctx, t->spec = *spec, t->objective = *objective, t->batch_size = batch_size, t->data = data, t->seed = seed, t->last_step = -1;
  elbo_status status = make_task(t, batch);
  if (status != ELBO_OK) lsgm_task_destroy(&t);
  *out = t;
  return status;
}

void lsgm_task_destroy(lsgm_task **task) {
  lsgm_task *t = task ? *task : NULL;
  if (!t) return;
  elbo_graph_destroy(&t->graph.graph);
  time_density_destroy(&t->of_score);
  time_density_destroy(&t->of_bound);
  process_destroy(&t->process);
  if (t->arena) arena_destroy(&t->arena);
  free(t);
  *task = NULL;
}

const train_task *lsgm_task_of(const lsgm_task *t) { return &t->task; }

// --- from a recipe ---

static elbo_status spec_from_recipe(elbo_ctx *ctx, arena *a, const preset_request *request, lsgm_spec *spec) {
  const lsgm_recipe *config = request->config;
  const elbo_dataset_info *info = &request->info;
  const vae_spec vae = {.model = config->model.vae,
                        .shape = {info->height, info->width, info->channels},
                        .classes = info->classes,
                        .bits = info->bits,
                        .binarize = request->stage->data.binarize,
                        .dequantize = request->stage->data.dequantize};
  return lsgm_spec_make(ctx, a, config, &vae, request->file, spec);
}

static void destroy_of_recipe(void *self) {
  lsgm_task *t = self;
  lsgm_task_destroy(&t);
}

static elbo_status create_from_recipe(elbo_ctx *ctx, const preset_request *request, preset_task *out) {
  const lsgm_recipe *config = request->config;
  const train_config *train = &request->stage->train;
  lsgm_spec spec;
  lsgm_task *t = NULL;
  arena *a = arena_create(1 << 12);
  if (!a) return fail_memory(ctx, 1 << 12, "a task");
  elbo_status status = spec_from_recipe(ctx, a, request, &spec);
  if (status == ELBO_OK)
    status =
        lsgm_task_create(ctx, &spec, &config->objective, request->micro_batch, train->batch_size, request->data, (uint64_t)train->seed, &t);
  if (status != ELBO_OK) {
    arena_destroy(&a);
    return status;
  }
  t->arena = a;
  *out = (preset_task){.self = t, .task = lsgm_task_of(t), .destroy = destroy_of_recipe};
  return ELBO_OK;
}

// One call of the prior's network on a batch of codes, which is what sampling is made of.
static elbo_status forward(elbo_ctx *ctx, const preset_request *request, elbo_graph **graph, elbo_tensor **out) {
  lsgm_spec spec;
  *graph = NULL;
  arena *a = arena_create(1 << 12);
  if (!a) return fail_memory(ctx, 1 << 12, "a network");
  elbo_status status = spec_from_recipe(ctx, a, request, &spec);
  if (status == ELBO_OK) status = elbo_graph_create(ctx, "forward", graph);
  if (status == ELBO_OK) *out = diffusion_call_graph(&spec.prior, *graph, request->micro_batch);
  arena_destroy(&a);
  return status;
}

static const char *const defaults[] = {"model.prior.process.type=cosine",
                                       "model.prior.process.logsnr_min=-10",
                                       "model.prior.process.logsnr_max=8",
                                       "sample.sampler=dpmpp_2m",
                                       "sample.steps=25",
                                       NULL};
const preset_def preset_lsgm = {.name = "lsgm",
                                .summary = "a VAE with a diffusion prior, trained by one bound",
                                .sections = &lsgm_sections,
                                .defaults = defaults,
                                .create = create_from_recipe,
                                .forward = forward};
