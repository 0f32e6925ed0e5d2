// What a run tells about its training: steps, seconds and FLOPs of every stage, its speed, its parameters and its memory.
#include <elbo/train.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/memory.h"
#include "eval/statistics.h"
#include "models/recipe.h"
#include "tasks/compare.h"
#include "train/checkpoint.h"
#include "train/run.h"
#include "train/run_stages.h"

enum { METRICS_LIMIT = 256 << 20 };

// samples/s of every logging interval but the first, in which memory is met for the first time.
static elbo_status read_rates(elbo_ctx *ctx, const char *run, double *mean, double *error, int64_t *n) {
  char path[COMPARE_PATH], *text = NULL;
  size_t size;
  double *rate = NULL;
  void *memory;
  *mean = *error = NAN, *n = 0;
  TRY(path_join(ctx, path, sizeof path, run, "metrics.jsonl"));
  if (!file_exists(path)) return ELBO_OK;
  TRY(file_read(ctx, path, METRICS_LIMIT, &text, &size));
  int64_t lines = 0;
  for (const char *at = text; *at; at++) lines += *at == '\n';
  elbo_status status = array_new(ctx, (size_t)lines + 1, sizeof *rate, "a run's speed", &memory);
  rate = status == ELBO_OK ? memory : NULL;
  for (char *at = text, *end; status == ELBO_OK && *at && *n < lines; at = end) {
    end = at + strcspn(at, "\n");
    if (*end) *end++ = 0;
    json_t *line = json_loads(at, 0, NULL), *value = json_object_get(line, "samples_per_s");
    if (json_is_number(value)) rate[(*n)++] = json_number_value(value);
    json_decref(line);
  }
  int64_t skip = *n > 2 ? 1 : 0;
  if (status == ELBO_OK && *n > 0) mean_and_error(rate + skip, *n -= skip, mean, error);
  free(rate);
  free(text);
  return status;
}

static elbo_status add_stage(comparison *c, const char *path, const elbo_recipe *recipe, json_t *stages, double *seconds, double *flops) {
  int64_t *steps, n, step;
  char checkpoint[COMPARE_PATH];
  run_record record;
  TRY(checkpoint_list(c->ctx, path, &steps, &n));
  step = n ? steps[n - 1] : -1;
  free(steps);
  if (step < 0) return fail(c->ctx, ELBO_ERROR_STATE, "%s: has no checkpoint", path);
  TRY(checkpoint_path(c->ctx, path, step, checkpoint, sizeof checkpoint));
  TRY(checkpoint_read_record(c->ctx, checkpoint, &record, &step));
  *seconds += record.seconds, *flops += record.flops;
  return json_array_append_new(stages,
                               json_pack("{s:s, s:s, s:s, s:I, s:I, s:f, s:f}", "name", elbo_recipe_stage_name(recipe), "preset",
                                         recipe->preset->name, "path", path, "steps", (json_int_t)step, "batch_size",
                                         (json_int_t)recipe->stage->train.batch_size, "seconds", record.seconds, "flops", record.flops))
             ? fail_memory(c->ctx, 256, "JSON")
             : ELBO_OK;
}

static void set_value(json_t *values, const char *key, double value, double error, const char *unit, const char *note,
                      const char *command) {
  json_t *v = json_pack("{s:o, s:s, s:s}", "value", json_number(value), "unit", unit, "command", command);
  json_object_set_new(v, "stderr", json_number(error));
  if (note && *note) json_object_set_new(v, "note", json_string(note));
  json_object_set_new(values, key, v);
}

static void set_none(json_t *values, const char *const *keys, const char *why) {
  for (; *keys; keys++) json_object_set_new(values, *keys, json_pack("{s:s}", "none", why));
}

// Of all stages: what is trained, adversaries included, and the most that training plans to hold at once.
static elbo_status add_costs(comparison *c, compared *m, const elbo_recipe *recipe, const char *again) {
  json_t *values = json_object_get(m->row, "values");
  int64_t trained = 0, peak = 0;
  int n = elbo_recipe_stage_count(recipe);
  int64_t params[MAX_STAGES] = {0};
  char note[128];
  for (int i = 0; i < n; i++) {
    elbo_train_cost cost;
    TRY(elbo_train_dry_run(c->ctx, elbo_recipe_stage(recipe, i), m->data, &cost));
    trained += cost.params;
    // what goes on training with an earlier stage's weights has them already
    const elbo_recipe *stage = elbo_recipe_stage(recipe, i), *from = recipe_earlier_stage(stage, stage->stage->train.init);
    params[i] = cost.params;
    if (from) trained -= params[from - elbo_recipe_stage(recipe, 0)];
    if (cost.planned_bytes > peak) peak = cost.planned_bytes;
  }
  snprintf(note, sizeof note, "most at once in training, as planned%s", n > 1 ? ", of all stages" : "");
  set_value(values, "peak_memory", (double)peak, NAN, "bytes", note, again);
  json_t *parameters = json_object_get(values, "parameters");
  snprintf(note, sizeof note, "%lld are trained, of all stages, adversaries included", (long long)trained);
  json_object_set_new(parameters, "note", json_string(note));
  json_object_set_new(parameters, "trained", json_integer((json_int_t)trained));
  return ELBO_OK;
}

static elbo_status add_training(comparison *c, compared *m, const elbo_recipe *recipe, const char *command) {
  json_t *stages = json_array(), *values = json_object_get(m->row, "values");
  double seconds = 0, flops = 0, mean = NAN, error = NAN;
  char path[COMPARE_PATH], note[160];
  int n = elbo_recipe_stage_count(recipe);
  int64_t intervals = 0;
  elbo_status status = ELBO_OK;
  for (int i = 0; status == ELBO_OK && i < n; i++) {
    const elbo_recipe *stage = elbo_recipe_stage(recipe, i);
    if (run_has_stages(m->run))
      status = run_stage_path(c->ctx, m->run, i, elbo_recipe_stage_name(stage), path, sizeof path);
    else
      snprintf(path, sizeof path, "%s", m->run);
    if (status == ELBO_OK) status = add_stage(c, path, stage, stages, &seconds, &flops);
    if (status == ELBO_OK) status = read_rates(c->ctx, path, &mean, &error, &intervals);
  }
  json_t *training = json_pack("{s:f, s:f, s:o}", "seconds", seconds, "flops", flops, "stages", stages);
  const json_t *planned = json_object_get(m->known, "budget");
  if (planned) json_object_set_new(training, "budget", json_deep_copy(planned));
  json_object_set_new(m->row, "training", training);
  TRY(status);
  const json_t *last = json_array_get(stages, (size_t)n - 1);
  if (!intervals) // so short that it logged nothing
    mean = (double)(json_integer_value(json_object_get(last, "steps")) * json_integer_value(json_object_get(last, "batch_size"))) /
           json_number_value(json_object_get(last, "seconds"));
  snprintf(note, sizeof note, "mean of %lld logging intervals%s%s", (long long)intervals, n > 1 ? " of the last stage, " : "",
           n > 1 ? elbo_recipe_stage_name(elbo_recipe_stage(recipe, n - 1)) : "");
  set_value(values, "training_speed", mean, error, "samples/s", note, command);
  set_value(values, "training_seconds", seconds, NAN, "s", "steps, and caches made for them, of all stages", command);
  set_value(values, "training_flops", flops, NAN, "FLOP", "direct algorithm, 2 per multiply-add", command);
  return ELBO_OK;
}

elbo_status compare_facts(comparison *c, compared *m) {
  static const char *const of_runs[] = {"training_speed", "training_seconds", "training_flops", "peak_memory", NULL};
  json_t *values = json_object_get(m->row, "values");
  char path[COMPARE_PATH], again[COMPARE_PATH + 64], size[96] = "";
  text_buffer t = {0};
  elbo_recipe *recipe = NULL;
  elbo_status status = path_join(c->ctx, path, sizeof path, m->run, "recipe.yaml");
  TRY(status);
  text_add(&t, "elbo info"), add_word(&t, m->run);
  set_value(values, "parameters", (double)m->info.params, NAN, "", "", t.at ? t.at : "");
  if (m->info.latent_dim) {
    if (m->info.latent_groups > 1) snprintf(size, sizeof size, "in %d groups", m->info.latent_groups);
    set_value(values, "latent", m->info.latent_dim, NAN, "numbers", size, t.at ? t.at : "");
  } else {
    json_t *why = json_sprintf("no code: noise of the picture's size, %d numbers", m->info.height * m->info.width * m->info.channels);
    json_object_set_new(values, "latent", json_pack("{s:o}", "none", why));
  }
  free(text_take(&t));
  if (!run_is_run(m->run)) {
    set_none(values, of_runs, "a model without its run");
    return ELBO_OK;
  }
  TRY(elbo_recipe_load(c->ctx, path, 0, NULL, &recipe));
  t = (text_buffer){0};
  text_add(&t, "elbo train"), add_word(&t, path);
  snprintf(again, sizeof again, "%s --dry-run", t.at ? t.at : "");
  text_add(&t, " --out AGAIN");
  status = add_training(c, m, recipe, t.at ? t.at : "");
  if (status == ELBO_OK && add_costs(c, m, recipe, again) != ELBO_OK)
    json_object_set_new(values, "peak_memory", json_pack("{s:s, s:s}", "error", elbo_ctx_message(c->ctx), "command", again));
  free(text_take(&t));
  elbo_recipe_destroy(&recipe);
  return status;
}
