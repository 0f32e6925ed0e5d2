// The trainings of a comparison: runs as `elbo train` makes them, resumed where they stopped, ended where their time is up.
#include <elbo/train.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tasks/compare.h"
#include "train/run_stages.h"

// The first stage that is not at its end, and how far it is (-1: nothing of it is there); -1: there is none.
static elbo_status find_unfinished(comparison *c, const compared *m, const elbo_recipe *recipe, const stage_plan *plan, int *at,
                                   int64_t *step) {
  char path[COMPARE_PATH];
  int64_t asked;
  *at = -1;
  for (int i = 0; i < plan->n && *at < 0; i++) {
    if (plan->n > 1)
      TRY(run_stage_path(c->ctx, m->run, i, elbo_recipe_stage_name(elbo_recipe_stage(recipe, i)), path, sizeof path));
    else
      snprintf(path, sizeof path, "%s", m->run);
    TRY(run_stage_progress(c->ctx, path, step, &asked));
    if (*step < plan->steps[i]) *at = i;
  }
  return ELBO_OK;
}

// A stage whose time is up ends where it is. One that was stopped because something was prepared for it, and what comes after, share what
// the preparation left.
static elbo_status shorten(comparison *c, compared *m, const elbo_recipe *recipe, stage_plan *plan) {
  int at;
  int64_t step;
  TRY(find_unfinished(c, m, recipe, plan, &at, &step));
  if (at < 0) return ELBO_OK;
  if (!c->replan) {
    plan->steps[at] = step > 0 ? step : 1;
    return compare_save_plan(c, m, plan);
  }
  double left = 0, took = c->preparation - c->planned_preparation;
  for (int i = at; i < plan->n; i++) left += plan->seconds[i];
  double factor = left > took ? (left - took) / left : 0;
  for (int i = at; i < plan->n; i++) {
    int64_t steps = (int64_t)(factor * (double)plan->steps[i]);
    plan->steps[i] = steps > step + 1 || i > at ? steps : step + 1;
    if (plan->steps[i] < 1) plan->steps[i] = 1;
    plan->seconds[i] *= factor;
  }
  c->planned_preparation = c->preparation, c->replan = false;
  return compare_save_plan(c, m, plan);
}

elbo_status compare_train(comparison *c, compared *m) {
  stage_plan plan;
  elbo_status status = compare_plan(c, m, &plan);
  while (status == ELBO_OK) {
    elbo_recipe *recipe = NULL;
    elbo_train_config train;
    elbo_train_result result;
    TRY(compare_load_recipe(c, m, &plan, &recipe));
    elbo_train_defaults(&train);
    train.out = m->run, train.resume = 1, train.progress = compare_progress, train.progress_user = c;
    train.stop_after = c->config.budget_seconds > 0 ? plan.seconds : NULL;
    c->heard = compare_clock();
    status = elbo_train(c->ctx, recipe, &train, &result);
    bool early = status == ELBO_ERROR_STOPPED && !c->stopped;
    if (early) status = shorten(c, m, recipe, &plan);
    elbo_recipe_destroy(&recipe);
    if (!early) break;
  }
  if (status == ELBO_OK) return compare_save_plan(c, m, &plan);
  if (compare_stopped(c, status)) TRY(compare_save_plan(c, m, &plan)); // with the preparation so far
  return status;
}
