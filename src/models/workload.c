// From a recipe and data to what trains, and the public training calls.
#include "models/workload.h"

#include <stdlib.h>

#include "data/dataset.h"
#include "models/initial_weights.h"
#include "models/recipe.h"
#include "train/run.h"

struct workload {
  elbo_dataset *data;
  bool owns_data;
  train_config train;
  preset_task task;
  loader *loader;
  train_source source;
};

elbo_status workload_create(elbo_ctx *ctx, const elbo_recipe *recipe, elbo_dataset *data, workload **out) {
  *out = NULL;
  elbo_status status;
  workload *w = calloc(1, sizeof *w);
  if (!w) return fail_memory(ctx, sizeof *w, "a workload");
  w->data = data, w->train = recipe->stage->train;
  w->train.engine = recipe->stage->engine;
  if (!data) {
    TRY_GOTO(dataset_open_config(ctx, &recipe->stage->data, &w->data));
    w->owns_data = true;
  }
  elbo_dataset_info info;
  elbo_dataset_get_info(w->data, &info);
  if (info.count[ELBO_SPLIT_TRAIN] < 1) {
    status = fail(ctx, ELBO_ERROR_ARGUMENT, "%s: the data hold no training examples", recipe->name);
    goto fail;
  }
  int64_t micro = train_micro_batch(&w->train);
  loader_config lc = {.split = ELBO_SPLIT_TRAIN, .batch_size = micro, .shuffle = true, .seed = (uint64_t)w->train.seed, .augment = true};
  TRY_GOTO(loader_create(ctx, w->data, &lc, &w->loader));
  w->source = train_source_of_loader(w->loader);
  preset_request request = {
      .file = recipe->name, .stage = recipe->stage, .config = recipe->config, .data = w->data, .info = info, .micro_batch = micro};
  TRY_GOTO(recipe->preset->create(ctx, &request, &w->task));
  *out = w;
  return ELBO_OK;
fail:
  workload_destroy(&w);
  return status;
}

void workload_destroy(workload **workload_) {
  if (!workload_ || !*workload_) return;
  workload *w = *workload_;
  if (w->task.destroy) w->task.destroy(w->task.self);
  if (w->loader) loader_destroy(&w->loader);
  if (w->owns_data) elbo_dataset_destroy(&w->data);
  free(w);
  *workload_ = NULL;
}

const train_task *workload_task(const workload *w) { return w->task.task; }
const train_config *workload_train_config(const workload *w) { return &w->train; }
const train_source *workload_source(const workload *w) { return &w->source; }

typedef struct weights_origin {
  elbo_ctx *ctx;
  const char *path;
} weights_origin;

static elbo_status load_initial(void *user, elbo_store *weights) {
  const weights_origin *from = user;
  return initial_weights_load(from->ctx, from->path, weights);
}

void elbo_train_defaults(elbo_train_config *config) { *config = (elbo_train_config){.size = sizeof *config}; }

elbo_status elbo_train(elbo_ctx *ctx, const elbo_recipe *recipe, const elbo_train_config *config, elbo_train_result *out) {
  *out = (elbo_train_result){0};
  workload *w = NULL;
  char *text = NULL;
  elbo_status status;
  TRY_GOTO(elbo_recipe_text(recipe, &text));
  TRY_GOTO(workload_create(ctx, recipe, config->data, &w));
  weights_origin origin = {ctx, w->train.init};
  run_options options = {.out = config->out,
                         .resume = config->resume != 0,
                         .recipe_text = text,
                         .train = &w->train,
                         .source = w->source,
                         .initialize = *origin.path ? load_initial : NULL,
                         .initialize_user = &origin,
                         .progress = config->progress,
                         .progress_user = config->progress_user};
  status = run_training(ctx, &options, workload_task(w), out);
fail:
  workload_destroy(&w);
  free(text);
  return status;
}

elbo_status elbo_train_dry_run(elbo_ctx *ctx, const elbo_recipe *recipe, elbo_dataset *data, elbo_train_cost *out) {
  *out = (elbo_train_cost){0};
  workload *w = NULL;
  trainer *t = NULL;
  TRY(workload_create(ctx, recipe, data, &w));
  elbo_status status = trainer_create(ctx, &w->train, workload_task(w), &w->source, NULL, &t);
  weights_origin origin = {ctx, w->train.init};
  if (status == ELBO_OK && *origin.path) status = trainer_start_from(t, load_initial, &origin);
  if (status == ELBO_OK) trainer_get_cost(t, out);
  trainer_destroy(&t);
  workload_destroy(&w);
  return status;
}
