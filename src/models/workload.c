// From a recipe of one stage and data to what trains.
#include "models/workload.h"

#include <stdlib.h>

#include "data/dataset.h"
#include "models/frozen_model.h"

struct workload {
  elbo_dataset *data;
  bool owns_data;
  elbo_model *frozen;
  train_config train;
  preset_task task;
  loader *loader;
  train_source source;
};

elbo_status workload_create(elbo_ctx *ctx, const elbo_recipe *recipe, elbo_dataset *data, const char *frozen, workload **out) {
  *out = NULL;
  TRY(recipe_check_single(recipe, "training's graph"));
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
  TRY_GOTO(frozen_model_open(ctx, recipe, frozen, data, &w->frozen));
  preset_request request = {.file = recipe->name,
                            .stage = recipe->stage,
                            .config = recipe->config,
                            .data = w->data,
                            .info = info,
                            .micro_batch = micro,
                            .frozen = w->frozen};
  TRY_GOTO(recipe->preset->create(ctx, &request, &w->task));
  if (w->task.source) {
    w->source = *w->task.source;
  } else {
    loader_config lc = {.split = ELBO_SPLIT_TRAIN, .batch_size = micro, .shuffle = true, .seed = (uint64_t)w->train.seed, .augment = true};
    TRY_GOTO(loader_create(ctx, w->data, &lc, &w->loader));
    w->source = train_source_of_loader(w->loader);
  }
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
  elbo_model_destroy(&w->frozen);
  free(w);
  *workload_ = NULL;
}

const train_task *workload_task(const workload *w) { return w->task.task; }
const train_config *workload_train_config(const workload *w) { return &w->train; }
const train_source *workload_source(const workload *w) { return &w->source; }
const elbo_model *workload_frozen(const workload *w) { return w->frozen; }
