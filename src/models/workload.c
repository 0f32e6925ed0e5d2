// From a recipe and data to what trains, and the public training calls.
#include "models/workload.h"

#include <stdlib.h>

#include "data/dataset.h"
#include "models/recipe.h"
#include "models/vae_task.h"
#include "train/run.h"

struct workload {
  elbo_dataset *data;
  bool owns_data;
  train_config train;
  vae_task *task;
  loader *loader;
  train_source source;
};

// Resolution, channels and classes come from the data.
static elbo_status fit_to_data(elbo_ctx *ctx, const elbo_recipe *recipe, elbo_dataset *data, vae_spec *spec) {
  elbo_dataset_info info;
  elbo_dataset_get_info(data, &info);
  *spec = (vae_spec){.model = recipe->config.model,
                     .shape = {info.height, info.width, info.channels},
                     .classes = info.classes,
                     .bits = info.bits,
                     .binarize = recipe->config.data.binarize,
                     .dequantize = recipe->config.data.dequantize};
  if (info.count[ELBO_SPLIT_TRAIN] < 1) return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: the data hold no training examples", recipe->name);
  TRY(vae_spec_check(ctx, spec, recipe->name));
  return objective_check(ctx, &recipe->config.objective, spec, recipe->name);
}

elbo_status workload_create(elbo_ctx *ctx, const elbo_recipe *recipe, elbo_dataset *data, workload **out) {
  *out = NULL;
  elbo_status status;
  workload *w = calloc(1, sizeof *w);
  if (!w) return fail_memory(ctx, sizeof *w, "a workload");
  w->data = data, w->train = recipe->config.train;
  vae_spec spec;
  if (!data) {
    TRY_GOTO(dataset_open_config(ctx, &recipe->config.data, &w->data));
    w->owns_data = true;
  }
  TRY_GOTO(fit_to_data(ctx, recipe, w->data, &spec));
  int64_t micro = train_micro_batch(&w->train);
  loader_config lc = {.split = ELBO_SPLIT_TRAIN, .batch_size = micro, .shuffle = true, .seed = (uint64_t)w->train.seed, .augment = true};
  TRY_GOTO(loader_create(ctx, w->data, &lc, &w->loader));
  w->source = train_source_of_loader(w->loader);
  TRY_GOTO(vae_task_create(ctx, &spec, &recipe->config.objective, micro, w->data, (uint64_t)w->train.seed, &w->task));
  *out = w;
  return ELBO_OK;
fail:
  workload_destroy(&w);
  return status;
}

void workload_destroy(workload **workload_) {
  if (!workload_ || !*workload_) return;
  workload *w = *workload_;
  vae_task_destroy(&w->task);
  if (w->loader) loader_destroy(&w->loader);
  if (w->owns_data) elbo_dataset_destroy(&w->data);
  free(w);
  *workload_ = NULL;
}

const train_task *workload_task(const workload *w) { return vae_task_of(w->task); }
const train_config *workload_train_config(const workload *w) { return &w->train; }
const train_source *workload_source(const workload *w) { return &w->source; }

void elbo_train_defaults(elbo_train_config *config) { *config = (elbo_train_config){.size = sizeof *config}; }

elbo_status elbo_train(elbo_ctx *ctx, const elbo_recipe *recipe, const elbo_train_config *config, elbo_train_result *out) {
  *out = (elbo_train_result){0};
  workload *w = NULL;
  char *text = NULL;
  elbo_status status;
  TRY_GOTO(elbo_recipe_text(recipe, &text));
  TRY_GOTO(workload_create(ctx, recipe, config->data, &w));
  run_options options = {.out = config->out,
                         .resume = config->resume != 0,
                         .recipe_text = text,
                         .train = &w->train,
                         .source = w->source,
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
  if (status == ELBO_OK) trainer_get_cost(t, out);
  trainer_destroy(&t);
  workload_destroy(&w);
  return status;
}
