// The trainings of a comparison: runs as `elbo train` makes them, resumed where they stopped, ended where their time is up.
//
// Of a budget of time, steps are timed before they are trained, by a machine that may be slower or faster then: at a half and at four
// fifths of its share a stage is stopped and given as many more steps as the rest is good for, so that schedules of the learning rate end
// with it.
#include <elbo/train.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tasks/compare.h"
#include "train/checkpoint.h"
#include "train/run_stages.h"

static const double stops[] = {0.5, 0.8, 1};

// How far a stage is. step 0: nothing of it is there.
typedef struct stage_state {
  int64_t step;
  double seconds;
} stage_state;

static elbo_status look_at_stage(comparison *c, const compared *m, const elbo_recipe *recipe, int n, int i, stage_state *out) {
  char path[COMPARE_PATH], checkpoint[COMPARE_PATH];
  int64_t *steps, count;
  run_record record;
  *out = (stage_state){0};
  if (n > 1)
    TRY(run_stage_path(c->ctx, m->run, i, elbo_recipe_stage_name(elbo_recipe_stage(recipe, i)), path, sizeof path));
  else
    snprintf(path, sizeof path, "%s", m->run);
  TRY(checkpoint_list(c->ctx, path, &steps, &count));
  if (count) out->step = steps[count - 1];
  free(steps);
  if (!count) return ELBO_OK;
  TRY(checkpoint_path(c->ctx, path, out->step, checkpoint, sizeof checkpoint));
  TRY(checkpoint_read_record(c->ctx, checkpoint, &record, &out->step));
  out->seconds = record.seconds;
  return ELBO_OK;
}

// When each stage is to be stopped: at the next of its stops.
static elbo_status next_stops(comparison *c, const compared *m, const elbo_recipe *recipe, const stage_plan *plan, double *limit) {
  for (int i = 0; i < plan->n; i++) {
    stage_state at;
    size_t k = 0;
    TRY(look_at_stage(c, m, recipe, plan->n, i, &at));
    while (k + 1 < sizeof stops / sizeof *stops && at.seconds >= stops[k] * plan->seconds[i]) k++;
    limit[i] = stops[k] * plan->seconds[i];
  }
  return ELBO_OK;
}

// After a stop: the stage under way gets the steps that the rest of its share is good for. Its record counts what was prepared for it (a
// cache of codes) as the steps themselves.
static elbo_status plan_anew(comparison *c, compared *m, const elbo_recipe *recipe, stage_plan *plan) {
  stage_state at = {0};
  int now = 0;
  for (; now < plan->n; now++) {
    TRY(look_at_stage(c, m, recipe, plan->n, now, &at));
    if (at.step < plan->steps[now]) break;
  }
  if (now == plan->n) return ELBO_OK;
  double rest = plan->seconds[now] - at.seconds;
  if (at.step > 1 && at.seconds > 0) // one step is no measure of their speed
    plan->steps[now] = at.step + (rest > 0 ? (int64_t)(rest * (double)at.step / at.seconds) : 0);
  else if (rest <= 0)
    plan->steps[now] = at.step;
  for (int i = now; i < plan->n; i++)
    if (plan->steps[i] < 1) plan->steps[i] = 1;
  if (plan->steps[now] < at.step) plan->steps[now] = at.step;
  return compare_save_plan(c, m, plan);
}

elbo_status compare_train(comparison *c, compared *m) {
  stage_plan plan;
  double limit[MAX_STAGES];
  elbo_status status = compare_plan(c, m, &plan);
  bool early = true;
  while (status == ELBO_OK && early) {
    elbo_recipe *recipe = NULL;
    elbo_train_config train;
    elbo_train_result result;
    TRY(compare_load_recipe(c, m, &plan, &recipe));
    elbo_train_defaults(&train);
    train.out = m->run, train.resume = 1, train.progress = compare_progress, train.progress_user = c;
    if (c->config.budget_seconds > 0) {
      status = next_stops(c, m, recipe, &plan, limit);
      train.stop_after = limit;
    }
    if (status == ELBO_OK) status = elbo_train(c->ctx, recipe, &train, &result);
    early = status == ELBO_ERROR_STOPPED && !c->stopped;
    if (early) status = plan_anew(c, m, recipe, &plan);
    elbo_recipe_destroy(&recipe);
  }
  return status == ELBO_OK ? compare_save_plan(c, m, &plan) : status;
}
