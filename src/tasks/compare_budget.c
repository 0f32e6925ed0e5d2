// What a budget is in steps of every stage of a recipe. A recipe's own numbers of steps say how its stages share; one factor for all of
// them spends the budget: its price is one a step, the FLOPs of a step, or the seconds of a step, which are measured.
#include <elbo/bench.h>
#include <elbo/train.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "models/recipe.h"
#include "tasks/compare.h"
#include "train/run.h"

enum { TIMED_STEPS = 8, KEY = 96 };
static const double timed_seconds = 1.5, spent_share = 0.98; // what is left over is for the noise of the clock

// data.path="..." as a quoted YAML scalar; of a file its full path, so that the run can be resumed from anywhere.
static char *data_override(const char *path) {
  char *full = elbo_dataset_is_builtin(path) ? NULL : realpath(path, NULL);
  text_buffer t = {0};
  text_add(&t, "data.path=\"");
  for (const char *at = full ? full : path; *at; at++) text_add(&t, *at == '"' || *at == '\\' ? "\\%c" : "%c", *at);
  text_add(&t, "\"");
  free(full);
  return text_take(&t);
}

elbo_status compare_load_recipe(comparison *c, const compared *m, const stage_plan *plan, elbo_recipe **out) {
  const elbo_compare_config *o = &c->config;
  char steps[2 * MAX_STAGES][KEY], stage[32] = "";
  void *memory = NULL;
  *out = NULL;
  char *data = o->data ? data_override(o->data) : NULL;
  elbo_status status = o->data && !data ? fail_memory(c->ctx, COMPARE_PATH, "the path of the data") : ELBO_OK;
  if (status == ELBO_OK)
    status = array_new(c->ctx, (size_t)(o->n_overrides + 2 * MAX_STAGES + 1), sizeof(char *), "keys of a recipe", &memory);
  const char **keys = memory;
  int n = 0, made = 0;
  if (status == ELBO_OK) {
    if (data) keys[n++] = data;
    for (int i = 0; i < o->n_overrides && !m->plain; i++) keys[n++] = o->overrides[i];
    for (int i = 0; plan && i < plan->n; i++) {
      if (plan->n > 1) snprintf(stage, sizeof stage, "stages.%d.", i);
      snprintf(steps[made], KEY, "%strain.steps=%lld", stage, (long long)plan->steps[i]);
      keys[n++] = steps[made++];
      if (plan->warmup[i] < 0) continue;
      snprintf(steps[made], KEY, "%strain.warmup_steps=%lld", stage, (long long)plan->warmup[i]);
      keys[n++] = steps[made++];
    }
    status = elbo_recipe_load(c->ctx, m->source, n, keys, out);
  }
  free(keys);
  free(data);
  return status;
}

// --- prices ---

// Seconds of a step, timed as it trains; of a stage that cannot be run before the one that it builds on, from its FLOPs and the speed of
// the last one that could.
static elbo_status time_step(comparison *c, const elbo_recipe *stage, double *seconds_of_flop, double *out) {
  elbo_bench_config bench;
  elbo_bench_result r;
  elbo_train_cost cost;
  elbo_bench_defaults(&bench);
  bench.seconds = timed_seconds, bench.min_steps = TIMED_STEPS, bench.progress = compare_progress, bench.progress_user = c;
  elbo_status status = elbo_bench_recipe(c->ctx, stage, &bench, &r);
  if (status == ELBO_OK) {
    *out = 1e-3 * r.step_median_ms;
    if (r.flops_per_step > 0) *seconds_of_flop = *out / (double)r.flops_per_step;
    elbo_bench_free(&r);
    return ELBO_OK;
  }
  if (compare_stopped(c, status) || !(*seconds_of_flop > 0)) return status;
  TRY(elbo_train_dry_run(c->ctx, stage, NULL, &cost));
  *out = *seconds_of_flop * (double)cost.flops_per_step;
  return ELBO_OK;
}

// price[i]: of a step of stage i. *before: what is spent before their first steps, whatever these are; of a budget of time stages are
// stopped by the clock, which runs then too.
static elbo_status price_steps(comparison *c, const elbo_recipe *recipe, double *price, double *before) {
  const elbo_compare_config *o = &c->config;
  double seconds_of_flop = 0;
  *before = 0;
  for (int i = 0; i < elbo_recipe_stage_count(recipe); i++) {
    const elbo_recipe *stage = elbo_recipe_stage(recipe, i);
    elbo_train_cost cost;
    price[i] = 1;
    if (o->budget_seconds > 0) TRY(time_step(c, stage, &seconds_of_flop, &price[i]));
    if (o->budget_flops > 0) {
      TRY(elbo_train_dry_run(c->ctx, stage, NULL, &cost));
      price[i] = (double)cost.flops_per_step, *before += (double)cost.prepare_flops;
    }
  }
  return ELBO_OK;
}

static elbo_status make_plan(comparison *c, const compared *m, const elbo_recipe *recipe, stage_plan *plan) {
  const elbo_compare_config *o = &c->config;
  double price[MAX_STAGES], before, whole = 0, budget = o->budget_steps > 0 ? (double)o->budget_steps : o->budget_flops;
  if (o->budget_seconds > 0) budget = spent_share * o->budget_seconds;
  *plan = (stage_plan){.n = elbo_recipe_stage_count(recipe)};
  TRY(price_steps(c, recipe, price, &before));
  if (before > 0 && before >= budget)
    return fail(c->ctx, ELBO_ERROR_ARGUMENT, "%s: a budget of %g FLOPs is spent before the first step, on codes of all examples: %g",
                m->name, budget, before);
  for (int i = 0; i < plan->n; i++) whole += price[i] * (double)elbo_recipe_stage(recipe, i)->stage->train.steps;
  double factor = budget > 0 ? (budget - before) / whole : 1;
  for (int i = 0; i < plan->n; i++) {
    const train_config *train = &elbo_recipe_stage(recipe, i)->stage->train;
    double steps = floor(factor * (double)train->steps + 1e-9);
    plan->steps[i] = steps >= 1 ? (int64_t)steps : 1;
    plan->seconds[i] = o->budget_seconds > 0 ? o->budget_seconds * price[i] * (double)train->steps / whole : 0;
    plan->warmup[i] = train->warmup_steps > plan->steps[i] / 4 ? plan->steps[i] / 4 : -1; // a rate that never rises says nothing
  }
  return ELBO_OK;
}

// --- kept ---

// What a plan is of: the recipe as it is without one, and the budget.
static json_t *describe(const elbo_compare_config *o, const char *recipe) {
  return json_pack("{s:s, s:f, s:I, s:f}", "recipe", recipe, "budget_seconds", o->budget_seconds, "budget_steps",
                   (json_int_t)o->budget_steps, "budget_flops", o->budget_flops);
}

// Whether what was kept is that. A recipe kept by an earlier version of the program is read again first: keys that are new since have their
// defaults then.
static bool same_training(comparison *c, const compared *m, const json_t *budget, const char *recipe) {
  const elbo_compare_config *o = &c->config;
  const char *kept = json_string_value(json_object_get(budget, "recipe"));
  if (!kept || json_number_value(json_object_get(budget, "budget_seconds")) != o->budget_seconds ||
      json_integer_value(json_object_get(budget, "budget_steps")) != o->budget_steps ||
      json_number_value(json_object_get(budget, "budget_flops")) != o->budget_flops)
    return false;
  if (!strcmp(kept, recipe)) return true;
  elbo_recipe *read = NULL;
  char *again = NULL;
  const bool same =
      recipe_parse(c->ctx, m->name, kept, &read) == ELBO_OK && elbo_recipe_text(read, &again) == ELBO_OK && !strcmp(again, recipe);
  free(again);
  elbo_recipe_destroy(&read);
  return same;
}

elbo_status compare_save_plan(comparison *c, compared *m, const stage_plan *plan) {
  json_t *stages = json_array(), *budget = json_object_get(m->known, "budget");
  for (int i = 0; i < plan->n; i++)
    json_array_append_new(stages, json_pack("{s:I, s:f, s:I}", "steps", (json_int_t)plan->steps[i], "seconds", plan->seconds[i], "warmup",
                                            (json_int_t)plan->warmup[i]));
  if (json_object_set_new(budget, "stages", stages)) return fail_memory(c->ctx, 256, "JSON");
  return compare_save_known(c, m);
}

static bool read_plan(const json_t *budget, const elbo_recipe *recipe, stage_plan *plan) {
  const json_t *stages = json_object_get(budget, "stages");
  *plan = (stage_plan){.n = (int)json_array_size(stages)};
  if (plan->n != elbo_recipe_stage_count(recipe)) return false;
  for (int i = 0; i < plan->n; i++) {
    const json_t *s = json_array_get(stages, (size_t)i);
    plan->steps[i] = json_integer_value(json_object_get(s, "steps")), plan->warmup[i] = json_integer_value(json_object_get(s, "warmup"));
    plan->seconds[i] = json_number_value(json_object_get(s, "seconds"));
    if (plan->steps[i] < 1) return false;
  }
  return true;
}

elbo_status compare_plan(comparison *c, compared *m, stage_plan *out) {
  elbo_recipe *recipe = NULL;
  char *text = NULL;
  elbo_status status;
  TRY(compare_load_recipe(c, m, NULL, &recipe));
  TRY_GOTO(elbo_recipe_text(recipe, &text));
  const json_t *budget = json_object_get(m->known, "budget");
  if (same_training(c, m, budget, text) && read_plan(budget, recipe, out)) goto fail;
  if (run_is_run(m->run)) {
    status = fail(c->ctx, ELBO_ERROR_STATE,
                  "%s: was trained by another recipe or under another budget; remove it, or choose another --runs", m->run);
    goto fail;
  }
  TRY_GOTO(make_plan(c, m, recipe, out));
  json_object_set_new(m->known, "budget", describe(&c->config, text));
  status = compare_save_plan(c, m, out);
fail:
  free(text);
  elbo_recipe_destroy(&recipe);
  return status;
}
