// The public training calls: one stage, or several one after the other.
#include <elbo/train.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/frozen_model.h"
#include "models/initial_weights.h"
#include "models/workload.h"
#include "train/run.h"
#include "train/run_directory.h"
#include "train/run_stages.h"

enum { PATH_SIZE = 4096 };

void elbo_train_defaults(elbo_train_config *config) { *config = (elbo_train_config){.size = sizeof *config}; }

// --- one stage ---

typedef struct weights_origin {
  elbo_ctx *ctx;
  const char *path;
  const train_task *task;
} weights_origin;

static elbo_status load_initial(void *user, elbo_store *weights) {
  const weights_origin *from = user;
  return initial_weights_load(from->ctx, from->path, from->task->training_only, from->task->may_be_new, weights);
}

// `init`: where train.init's weights lie; "": they are drawn. `frozen`: where the earlier stage lies that this one builds on; NULL: none.
static elbo_status train_stage(elbo_ctx *ctx, const elbo_recipe *recipe, const char *init, const char *frozen,
                               const elbo_train_config *config, elbo_train_result *out) {
  workload *w = NULL;
  char *text = NULL, hash[65] = "";
  elbo_status status;
  TRY_GOTO(elbo_recipe_text(recipe, &text));
  TRY_GOTO(workload_create(ctx, recipe, config->data, frozen, &w));
  if (workload_frozen(w)) TRY_GOTO(frozen_model_hash(workload_frozen(w), hash));
  weights_origin origin = {ctx, init, workload_task(w)};
  run_options options = {.out = config->out,
                         .resume = config->resume != 0,
                         .recipe_text = text,
                         .train = workload_train_config(w),
                         .frozen_key = recipe->preset->frozen.name,
                         .frozen_sha256 = hash,
                         .source = *workload_source(w),
                         .initialize = *init ? load_initial : NULL,
                         .initialize_user = &origin,
                         .progress = config->progress,
                         .progress_user = config->progress_user,
                         .stop_after = config->stop_after};
  status = run_training(ctx, &options, workload_task(w), out);
fail:
  workload_destroy(&w);
  free(text);
  return status;
}

// --- several ---

typedef struct stage_run {
  char path[PATH_SIZE]; // "" where nothing is written
  char init[PATH_SIZE];
  const struct stage_run *frozen; // the one that it builds on; NULL: none
  int64_t step, steps;            // done before this call; asked for. step -1: nothing of it is there
  bool finished;
} stage_run;

// Where each stage lies, how far it is, and what it begins with.
static elbo_status look_at_stages(elbo_ctx *ctx, const elbo_recipe *recipe, const char *out, stage_run *run) {
  for (int i = 0; i < recipe->n_stages; i++) {
    const elbo_recipe *stage = &recipe->stages[i];
    const train_config *train = &stage->stage->train;
    int64_t asked_then;
    TRY(run_stage_path(ctx, out, i, stage->stage_name, run[i].path, sizeof run[i].path));
    TRY(run_stage_progress(ctx, run[i].path, &run[i].step, &asked_then));
    run[i].steps = train->steps, run[i].finished = run[i].step >= train->steps;
    const elbo_recipe *from = recipe_earlier_stage(stage, train->init);
    snprintf(run[i].init, sizeof run[i].init, "%s", from ? run[from - recipe->stages].path : train->init);
    const elbo_recipe *base = frozen_model_stage(stage);
    run[i].frozen = base ? &run[base - recipe->stages] : NULL;
  }
  // What a stage was made from must still be what it was: an earlier stage neither goes on nor begins anew behind its back.
  for (int i = 1; i < recipe->n_stages; i++)
    for (int k = 0; k < i; k++)
      if (run[i].step >= 0 && !run[k].finished)
        return fail(ctx, ELBO_ERROR_STATE, "%s: stage %d (%s) has begun, but stage %d (%s) before it %s; %s", out, i + 1,
                    recipe->stages[i].stage_name, k + 1, recipe->stages[k].stage_name,
                    run[k].step < 0 ? "is not there" : "is asked for more steps than it has",
                    "restore it, or train into another directory");
  return ELBO_OK;
}

// A mistake in a later stage shows before the first has trained for an hour.
static elbo_status check_stages(elbo_ctx *ctx, const elbo_recipe *recipe, elbo_dataset *data, const stage_run *run) {
  for (int i = 0; i < recipe->n_stages; i++) {
    workload *w = NULL;
    if (run[i].finished) continue;
    const stage_run *base = run[i].frozen;
    elbo_status status = workload_create(ctx, &recipe->stages[i], data, base && base->finished ? base->path : NULL, &w);
    workload_destroy(&w);
    if (status != ELBO_OK) return fail_within(ctx, status, "stage %s", recipe->stages[i].stage_name);
  }
  return ELBO_OK;
}

typedef struct stage_progress {
  const elbo_train_config *config;
  char what[128];
} stage_progress;

static int report_progress(void *user, const char *what, int64_t done, int64_t total, const char *text) {
  const stage_progress *p = user;
  return p->config->progress(p->config->progress_user, strcmp(what, "train") ? what : p->what, done, total, text);
}

static elbo_status train_stages(elbo_ctx *ctx, const elbo_recipe *recipe, const elbo_train_config *config, stage_run *run,
                                elbo_train_result *out) {
  TRY(look_at_stages(ctx, recipe, config->out, run));
  TRY(check_stages(ctx, recipe, config->data, run));
  out->already_finished = 1;
  for (int i = 0; i < recipe->n_stages; i++) {
    stage_progress progress = {.config = config};
    elbo_train_config own = *config;
    elbo_train_result result;
    snprintf(progress.what, sizeof progress.what, "train %s", recipe->stages[i].stage_name);
    own.stop_after = config->stop_after ? config->stop_after + i : NULL;
    own.out = run[i].path, own.progress = config->progress ? report_progress : NULL, own.progress_user = &progress;
    const char *frozen = run[i].frozen ? run[i].frozen->path : NULL;
    elbo_status status = train_stage(ctx, &recipe->stages[i], run[i].init, frozen, &own, &result);
    out->steps += result.steps, out->samples += result.samples, out->seconds += result.seconds, out->flops += result.flops;
    out->loss = result.loss, out->resumed_from += result.resumed_from;
    out->already_finished = out->already_finished && result.already_finished;
    if (status != ELBO_OK) return status;
  }
  return ELBO_OK;
}

static elbo_status train_several(elbo_ctx *ctx, const elbo_recipe *recipe, const elbo_train_config *config, elbo_train_result *out) {
  if (!config->out)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: %d stages are trained in a run directory, where each finds what the one before it made",
                recipe->name, recipe->n_stages);
  char *text = NULL;
  void *memory = NULL;
  directory_lock *lock = NULL;
  elbo_status status;
  TRY_GOTO(elbo_recipe_text(recipe, &text));
  TRY_GOTO(array_new(ctx, (size_t)recipe->n_stages, sizeof(stage_run), "a run's stages", &memory));
  TRY_GOTO(run_directory_claim(ctx, config->out, config->resume != 0, text, &lock));
  status = train_stages(ctx, recipe, config, memory, out);
fail:
  lock_release(&lock);
  free(memory);
  free(text);
  return status;
}

elbo_status elbo_train(elbo_ctx *ctx, const elbo_recipe *recipe, const elbo_train_config *config, elbo_train_result *out) {
  *out = (elbo_train_result){0};
  if (recipe->n_stages) return train_several(ctx, recipe, config, out);
  return train_stage(ctx, recipe, recipe->stage->train.init, NULL, config, out);
}

elbo_status elbo_train_dry_run(elbo_ctx *ctx, const elbo_recipe *recipe, elbo_dataset *data, elbo_train_cost *out) {
  *out = (elbo_train_cost){0};
  workload *w = NULL;
  trainer *t = NULL;
  TRY(workload_create(ctx, recipe, data, NULL, &w));
  elbo_status status = trainer_create(ctx, workload_train_config(w), workload_task(w), workload_source(w), NULL, &t);
  weights_origin origin = {ctx, workload_train_config(w)->init, workload_task(w)};
  bool from_path = *origin.path && !recipe_earlier_stage(recipe, origin.path); // an earlier stage's weights are not there yet
  if (status == ELBO_OK && from_path) status = trainer_start_from(t, load_initial, &origin);
  if (status == ELBO_OK) trainer_get_cost(t, out);
  const train_task *task = workload_task(w);
  if (status == ELBO_OK && task->prepare_flops) status = task->prepare_flops(task->user, &out->prepare_flops);
  trainer_destroy(&t);
  workload_destroy(&w);
  return status;
}
