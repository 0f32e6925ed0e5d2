#include "models/vae_task.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <elbo/image.h>

#include "eval/pictures.h"
#include "eval/statistics.h"
#include "models/collapse_watch.h"
#include "models/estimate.h"

enum { VALID_LIMIT = 5000, PREVIEW_COUNT = 64, FIT_LIMIT = 5000, SIGMA_LIMIT = 2000 };

struct vae_task {
  elbo_ctx *ctx;
  vae_spec spec;
  objective_config objective;
  elbo_dataset *data;
  uint64_t seed;
  int64_t last_step; // that `schedule` saw
  collapse_watch watch;
  vae_training_graph graph;
  train_metric metric[12];
  train_phase phase;
  train_task task;
};

static bool task_schedule(void *user, int64_t step, int64_t steps, const char *input, float *value) {
  vae_task *t = user;
  t->last_step = step;
  if (strcmp(input, "beta") == 0)
    *value = (float)objective_beta_at(&t->objective, step, steps);
  else if (strcmp(input, "capacity") == 0)
    *value = (float)objective_capacity_at(&t->objective, step);
  else
    return false;
  return true;
}

static void task_watch(void *user, elbo_ctx *ctx, int64_t step, int n, const char *const *names, const int *counts,
                       const double *const *values) {
  vae_task *t = user;
  collapse_watch_interval(&t->watch, ctx, &t->spec, &t->objective, step, n, names, counts, values);
}

// How many pictures are read at once beside a training step: 16 MiB of them, so that its memory stays what the plan says.
static int64_t pictures_at_once(const vae_task *t, int64_t most) {
  const picture_shape *s = &t->spec.shape;
  int64_t n = (16 << 20) / (4 * s->height * s->width * s->channels);
  return n < 64 ? 64 : n < most ? n : most;
}

// The negative bound of up to VALID_LIMIT held-out examples, one draw each: always the same examples, binarisation and draws.
static elbo_status task_validate(void *user, elbo_store *weights, int64_t step, double *score) {
  vae_task *t = user;
  elbo_dataset_info info;
  elbo_dataset_get_info(t->data, &info);
  elbo_model m = model_of_weights(t->ctx, &t->spec, weights);
  elbo_array *x = NULL, *label = NULL;
  elbo_status status = ELBO_OK;
  bound_estimate estimate = {0};
  int64_t n = info.count[ELBO_SPLIT_VALID] < VALID_LIMIT ? info.count[ELBO_SPLIT_VALID] : VALID_LIMIT, part = pictures_at_once(t, n);
  int64_t index[VALID_LIMIT];
  double sum = 0;
  for (int64_t first = 0; first < n; first += part) {
    int64_t count = n - first < part ? n - first : part;
    for (int64_t i = 0; i < count; i++) index[i] = first + i;
    TRY_GOTO(read_conditioned(&t->spec, t->data, ELBO_SPLIT_VALID, first, count, 0, 0, &x, &label));
    prepare_pictures(&t->spec, t->seed, first, x);
    TRY_GOTO(estimate_bound(&m, x, label, index, 1, t->seed, NULL, NULL, &estimate));
    for (int64_t i = 0; i < estimate.n; i++) sum += estimate.elbo[i];
    if (first == 0) TRY_GOTO(collapse_check_codes(&t->watch, &m, x, label, t->seed, step));
    bound_estimate_free(&estimate);
    elbo_array_destroy(&x);
    elbo_array_destroy(&label);
  }
  *score = -sum / (double)n;
fail:
  bound_estimate_free(&estimate);
  elbo_array_destroy(&x);
  elbo_array_destroy(&label);
  return status;
}

// The mixture that samples are drawn from: fitted to draws of the posteriors of random training examples.
static elbo_status save_mixture(vae_task *t, elbo_store *weights, const char *directory) {
  elbo_model m = model_of_weights(t->ctx, &t->spec, weights);
  elbo_array *x = NULL, *all = NULL;
  code_sample codes = {0};
  gaussian_mixture mixture = {0};
  elbo_dataset_info info;
  elbo_dataset_get_info(t->data, &info);
  elbo_status status;
  int64_t n = info.count[ELBO_SPLIT_TRAIN] < FIT_LIMIT ? info.count[ELBO_SPLIT_TRAIN] : FIT_LIMIT, part = pictures_at_once(t, n),
          d = vae_code_size(&t->spec);
  TRY_GOTO(elbo_array_create(t->ctx, ELBO_F32, 2, (int64_t[]){n, d}, &all));
  for (int64_t first = 0; first < n; first += part) {
    int64_t count = n - first < part ? n - first : part;
    TRY_GOTO(elbo_dataset_read(t->data, ELBO_SPLIT_TRAIN, first, count, 1, t->seed, &x, NULL));
    prepare_pictures(&t->spec, t->seed, first, x);
    TRY_GOTO(sample_codes(&m, x, NULL, seed_of_part(t->seed, (uint64_t)first), &codes));
    memcpy((float *)all->data + first * d, codes.code->data, (size_t)(codes.n * d) * sizeof(float));
    code_sample_free(&codes);
    elbo_array_destroy(&x);
  }
  TRY_GOTO(gaussian_mixture_fit(t->ctx, all->data, n, d, t->spec.model.prior.fitted, t->seed, &mixture));
  TRY_GOTO(model_directory_write_mixture(t->ctx, directory, &mixture));
fail:
  gaussian_mixture_free(&mixture);
  code_sample_free(&codes);
  elbo_array_destroy(&x);
  elbo_array_destroy(&all);
  return status;
}

// sigma-VAE [Rybkin21]: with the weights that are written goes the width that is best for them on training examples.
static elbo_status freeze_sigma(vae_task *t, elbo_store *weights) {
  elbo_model m = model_of_weights(t->ctx, &t->spec, weights);
  elbo_array *x = NULL, *label = NULL, *y = NULL;
  elbo_dataset_info info;
  elbo_param_info p;
  elbo_status status;
  elbo_dataset_get_info(t->data, &info);
  int64_t n = info.count[ELBO_SPLIT_TRAIN] < SIGMA_LIMIT ? info.count[ELBO_SPLIT_TRAIN] : SIGMA_LIMIT,
          part = (pictures_at_once(t, n) + 1) / 2; // x and y
  double mse = 0;
  TRY_GOTO(elbo_store_find(weights, "decoder.log_sigma", &p));
  for (int64_t first = 0; first < n; first += part) {
    int64_t count = n - first < part ? n - first : part;
    TRY_GOTO(read_conditioned(&t->spec, t->data, ELBO_SPLIT_TRAIN, first, count, 1, t->seed, &x, &label));
    prepare_pictures(&t->spec, t->seed, first, x);
    TRY_GOTO(elbo_reconstruct(&m, x, label, 1, seed_of_part(t->seed, (uint64_t)first), &y));
    mse += picture_mean_squared_error(x->data, y->data, elbo_array_count(x)) * (double)count / (double)n;
    elbo_array_destroy(&x);
    elbo_array_destroy(&label);
    elbo_array_destroy(&y);
  }
  p.data[0] = (float)(0.5 * log(mse + 1e-8));
  elbo_store_touch(weights);
fail:
  elbo_array_destroy(&x);
  elbo_array_destroy(&label);
  elbo_array_destroy(&y);
  return status;
}

static elbo_status task_save(void *user, elbo_store *weights, const char *directory) {
  vae_task *t = user;
  bool sigma = t->spec.model.decoder.variance == WIDTH_OPTIMAL && t->data;
  elbo_store *copy = NULL;
  elbo_status status;
  if (sigma) { // the running width of the training itself stays as it is
    TRY(elbo_store_copy(t->ctx, weights, &copy));
    TRY_GOTO(freeze_sigma(t, copy));
  }
  TRY_GOTO(model_directory_write(t->ctx, directory, &t->spec, copy ? copy : weights, t->last_step + 1));
  if (t->spec.model.prior.fitted && t->data) TRY_GOTO(save_mixture(t, weights, directory));
  status = ELBO_OK;
fail:
  elbo_store_destroy(&copy);
  return status;
}

elbo_status vae_preview(elbo_ctx *ctx, const vae_spec *spec, elbo_dataset *data, uint64_t seed, elbo_store *weights, int64_t step,
                        const char *directory) {
  elbo_model m = model_of_weights(ctx, spec, weights);
  if (spec->shape.height * spec->shape.width < 4 || spec->shape.channels > 4) return ELBO_OK;
  elbo_sample_config config;
  elbo_sample_defaults(&config);
  config.n = PREVIEW_COUNT, config.seed = seed;
  elbo_array *x = NULL, *grid = NULL, *told = NULL;
  char path[PATH_MAX];
  snprintf(path, sizeof path, "%s/step-%lld.png", directory, (long long)step);
  elbo_status status = ELBO_OK;
  if (spec->model.condition.type == CONDITION_VECTOR && data) // those of random training examples
    status = elbo_dataset_read_condition(data, ELBO_SPLIT_TRAIN, 0, PREVIEW_COUNT, 1, seed, &told);
  config.condition = told;
  if (status == ELBO_OK) status = elbo_sample(&m, &config, &x);
  if (status == ELBO_OK) status = elbo_image_grid(ctx, x, 0, 400, &grid);
  if (status == ELBO_OK) status = elbo_image_write(ctx, path, grid);
  elbo_array_destroy(&told);
  elbo_array_destroy(&x);
  elbo_array_destroy(&grid);
  return status;
}

static elbo_status task_preview(void *user, elbo_store *weights, int64_t step, const char *directory) {
  vae_task *t = user;
  return vae_preview(t->ctx, &t->spec, t->data, t->seed, weights, step, directory);
}

elbo_status vae_task_create(elbo_ctx *ctx, const vae_spec *spec, const objective_config *objective, int64_t batch, elbo_dataset *data,
                            uint64_t seed, vae_task **out) {
  *out = NULL;
  vae_task *t = calloc(1, sizeof *t);
  if (!t) return fail_memory(ctx, sizeof *t, "a task");
  t->ctx = ctx, t->spec = *spec, t->objective = *objective, t->data = data, t->seed = seed, t->last_step = -1;
  elbo_dataset_info info = {0};
  if (data) elbo_dataset_get_info(data, &info);
  elbo_status status = vae_training_build(ctx, &t->spec, &t->objective, batch, info.count[ELBO_SPLIT_TRAIN], &t->graph);
  if (status != ELBO_OK) {
    vae_task_destroy(&t);
    return status;
  }
  for (int i = 0; i < t->graph.n_metrics; i++)
    t->metric[i] = (train_metric){t->graph.metric_name[i], t->graph.metric_unit[i], t->graph.metric[i], t->graph.metric_quiet[i]};
  t->phase = (train_phase){
      .name = "vae", .graph = t->graph.graph, .loss = t->graph.loss, .prefix = "", .n_metrics = t->graph.n_metrics, .metrics = t->metric};
  t->task = (train_task){.user = t,
                         .n_phases = 1,
                         .phases = &t->phase,
                         .schedule = task_schedule,
                         .watch = task_watch,
                         .validate = data && info.count[ELBO_SPLIT_VALID] > 0 ? task_validate : NULL,
                         .save = task_save,
                         .preview = task_preview};
  *out = t;
  return ELBO_OK;
}

void vae_task_destroy(vae_task **task) {
  if (!task || !*task) return;
  elbo_graph_destroy(&(*task)->graph.graph);
  free(*task);
  *task = NULL;
}

const train_task *vae_task_of(const vae_task *t) { return &t->task; }

static void destroy_of_recipe(void *self) {
  vae_task *t = self;
  vae_task_destroy(&t);
}

// Resolution, channels and classes come from the data.
static elbo_status spec_from_recipe(elbo_ctx *ctx, const preset_request *request, vae_spec *spec) {
  const vae_recipe *config = request->config;
  const elbo_dataset_info *info = &request->info;
  *spec = (vae_spec){.model = config->model,
                     .shape = {info->height, info->width, info->channels},
                     .classes = info->classes,
                     .bits = info->bits,
                     .binarize = request->stage->data.binarize,
                     .dequantize = request->stage->data.dequantize};
  if (spec->model.condition.type == CONDITION_VECTOR && info->condition_tokens)
    return fail(ctx, ELBO_ERROR_ARGUMENT,
                "%s: model.condition.type: vector, but the data give sequences of %d embeddings (data.condition), which are for diffusion "
                "models (context)",
                request->file, info->condition_tokens);
  TRY(vae_spec_fit_condition(ctx, spec, info->condition_dim, request->file));
  return vae_spec_check(ctx, spec, request->file);
}

static elbo_status create_from_recipe(elbo_ctx *ctx, const preset_request *request, preset_task *out) {
  const vae_recipe *config = request->config;
  vae_spec spec;
  TRY(spec_from_recipe(ctx, request, &spec));
  TRY(objective_check(ctx, &config->objective, &spec, request->file));
  vae_task *t;
  TRY(vae_task_create(ctx, &spec, &config->objective, request->micro_batch, request->data, (uint64_t)request->stage->train.seed, &t));
  *out = (preset_task){.self = t, .task = vae_task_of(t), .destroy = destroy_of_recipe};
  return ELBO_OK;
}

elbo_status vae_untrained(elbo_ctx *ctx, const vae_spec *spec, uint64_t seed, elbo_model **out) {
  elbo_model *m = calloc(1, sizeof *m);
  *out = NULL;
  if (!m) return fail_memory(ctx, sizeof *m, "a model");
  *m = model_of_weights(ctx, spec, NULL);
  elbo_status status = model_store_create(ctx, spec, seed, &m->store);
  if (status == ELBO_OK)
    *out = m;
  else
    elbo_model_destroy(&m);
  return status;
}

static elbo_status untrained_of_recipe(elbo_ctx *ctx, const preset_request *request, elbo_model **out) {
  vae_spec spec;
  TRY(spec_from_recipe(ctx, request, &spec));
  return vae_untrained(ctx, &spec, (uint64_t)request->stage->train.seed, out);
}

// Through the posterior's mean and back.
static elbo_status forward(elbo_ctx *ctx, const preset_request *request, elbo_graph **graph, elbo_tensor **out) {
  vae_spec spec;
  *graph = NULL;
  TRY(spec_from_recipe(ctx, request, &spec));
  TRY(elbo_graph_create(ctx, "forward", graph));
  latent_request pass = {.spec = &spec, .graph = *graph, .batch = request->micro_batch, .samples = 1, .mode = LATENT_MEAN};
  *out = vae_latent_pass(&pass).output;
  return ELBO_OK;
}

const preset_def preset_vae = {.name = "vae",
                               .summary = "a variational autoencoder",
                               .sections = &vae_sections,
                               .create = create_from_recipe,
                               .forward = forward,
                               .untrained = untrained_of_recipe};
