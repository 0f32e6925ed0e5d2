// What is measured of a trained model: each group of numbers by one call that the command line has too, so that the command beside a number
// makes it again. What was measured before, of the same weights by the same command, is taken from RUNS/NAME.json.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/memory.h"
#include "eval/statistics.h"
#include "models/condition_accuracy.h"
#include "tasks/compare.h"

enum { COMMAND = 3 * COMPARE_PATH, OPTIONS = SAMPLE_OPTIONS, TIMED_FIRST = 64, TIMED_MOST = 4096, TIMED_RUNS = 5 };

// --- commands ---

void add_word(text_buffer *command, const char *word) {
  bool plain = word[0] && word[strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:=,@%+")] == 0;
  text_add(command, plain ? " " : " '");
  for (; *word; word++) text_add(command, *word == '\'' ? "'\\''" : "%c", *word);
  if (!plain) text_add(command, "'");
}

void add_option(text_buffer *command, const char *name, const char *value) {
  if (!value || !*value) return;
  text_add(command, " %s", name);
  add_word(command, value);
}

static void add_number(text_buffer *command, const char *name, int64_t value) {
  if (value > 0) text_add(command, " %s %lld", name, (long long)value);
}

bool compare_encodes(const compared *m) { return m->model->kind->reconstruct && m->info.latent_dim > 0; }

drawing compare_drawing(const compared *m, int64_t calls, bool own, bool second) {
  const char *way = second ? m->can.other : m->can.usual;
  drawing d = {.draw = second && m->can.second_draws};
  if (m->model->kind->sample_within) d.n = m->model->kind->sample_within(m->model, calls, own, d.option);
  if (*way) snprintf(d.option[d.n++], sizeof *d.option, "%s", way);
  return d;
}

static void add_drawing(text_buffer *command, const drawing *d) {
  if (d->draw) text_add(command, " --draw");
  for (int i = 0; i < d->n; i++) text_add(command, " sample.%s", d->option[i]);
}

// --- values ---

static json_t *value_of_metric(const elbo_metric *m, const char *command) {
  json_t *v = json_pack("{s:s, s:I, s:s}", "unit", m->unit, "n", (json_int_t)m->n, "command", command);
  double error = m->stderr_;
  json_object_set_new(v, "value", json_number(m->value));
  if (isnan(error)) error = m->mc_stderr;
  json_object_set_new(v, "stderr", json_number(error));
  if (m->k) json_object_set_new(v, "k", json_integer(m->k));
  if (m->note[0]) json_object_set_new(v, "note", json_string(m->note));
  return v;
}

static void set_error(json_t *values, const char *keys, const char *why, const char *command) {
  char key[64];
  for (const char *at = keys; *at;) {
    size_t n = strcspn(at, ",");
    snprintf(key, sizeof key, "%.*s", (int)n, at);
    json_object_set_new(values, key, json_pack("{s:s, s:s}", "error", why, "command", command));
    at += n + (at[n] == ',');
  }
}

static void set_none(json_t *values, const char *keys, const char *why) {
  char key[64];
  for (const char *at = keys; *at;) {
    size_t n = strcspn(at, ",");
    snprintf(key, sizeof key, "%.*s", (int)n, at);
    json_object_set_new(values, key, json_pack("{s:s}", "none", why));
    at += n + (at[n] == ',');
  }
}

// --- groups ---

// One call whose numbers go together.
typedef struct group {
  const char *keys;     // of its values, "fid,kid"
  bool sampling;        // counts as sampling, else as evaluation
  const char *metrics;  // of elbo_evaluate; NULL: it is not one
  const char *features; // what was measured with: a change makes it stale
  int64_t n, limit;
  int samples, seeds;
  bool with_features, with_judge;
  drawing draw;
  // where it is no evaluation
  elbo_status (*run)(comparison *c, compared *m, const struct group *g, const char *command, json_t *made);
  const char *label;   // of the one value that it makes, as a likelihood
  const char *renamed; // its key there
} group;

static void eval_command(const comparison *c, const compared *m, const group *g, text_buffer *t) {
  text_add(t, "elbo eval"), add_word(t, m->run);
  add_option(t, "--data", c->config.data);
  add_option(t, "--metrics", g->metrics);
  if (g->with_features) add_option(t, "--features", c->config.features);
  if (g->with_judge) add_option(t, "--judge", c->config.judge);
  add_number(t, "-n", g->n), add_number(t, "--limit", g->limit), add_number(t, "--samples", g->samples);
  if (g->seeds && g->seeds != 3) add_number(t, "--seeds", g->seeds);
  if (g->with_features && c->config.force && !g->limit) text_add(t, " --force");
  text_add(t, " --seed %llu", (unsigned long long)c->config.seed);
  add_drawing(t, &g->draw);
}

static elbo_status run_evaluation(comparison *c, compared *m, const group *g, const char *command, json_t *made) {
  elbo_eval_config e;
  elbo_eval_result *r = NULL;
  elbo_eval_defaults(&e);
  e.metrics = g->metrics, e.split = c->split, e.samples = g->samples, e.limit = g->limit, e.seed = c->config.seed, e.n = g->n;
  e.features = g->with_features ? c->config.features : NULL, e.judge = g->with_judge ? c->config.judge : NULL;
  e.force = c->config.force, e.draw = g->draw.draw, e.seeds = g->seeds;
  const char *options[OPTIONS];
  for (int i = 0; i < g->draw.n; i++) options[i] = g->draw.option[i];
  e.n_options = g->draw.n, e.options = options, e.progress = compare_progress, e.progress_user = c;
  TRY(elbo_evaluate(m->model, m->data, &e, &r));
  for (int i = 0; i < elbo_eval_count(r); i++) {
    const elbo_metric *v = elbo_eval_metric(r, i);
    bool floor = strlen(v->name) > 6 && !strcmp(v->name + strlen(v->name) - 6, "_floor");
    if (!metric_asked(g->metrics, "", v->name) && !floor) continue;
    json_t *value = value_of_metric(v, command);
    if (g->label) json_object_set_new(value, "label", json_string(g->label));
    json_object_set_new(made, g->renamed ? g->renamed : v->name, value);
  }
  if (!json_object_size(made)) set_none(made, g->keys, "these data and this model have no such number");
  elbo_eval_destroy(&r);
  return ELBO_OK;
}

// Takes a group from what is known, or measures it; what fails is a value that says so.
static elbo_status measured(comparison *c, compared *m, const group *g, const char *command, json_t *values) {
  json_t *groups = json_object_get(m->known, "groups"), *known = json_object_get(groups, command), *made = json_object();
  const json_t *of = json_object_get(known, "of"), *with = json_object_get(known, "with"), *on = json_object_get(known, "on");
  const char *need = g->with_features ? c->features : g->with_judge ? c->judge : "";
  if (!json_is_string(of) || strcmp(json_string_value(of), m->identity) || !json_is_string(with) || strcmp(json_string_value(with), need) ||
      (on && strcmp(json_string_value(on), c->identity))) {
    double began = seconds_now();
    elbo_status status = g->run ? g->run(c, m, g, command, made) : run_evaluation(c, m, g, command, made);
    if (compare_stopped(c, status)) return json_decref(made), status;
    if (status != ELBO_OK) {
      set_error(values, g->keys, elbo_ctx_message(c->ctx), command);
      json_decref(made);
      return ELBO_OK;
    }
    known = json_pack("{s:s, s:s, s:s, s:f, s:o}", "of", m->identity, "with", need, "on", c->identity, "seconds", seconds_now() - began,
                      "values", made);
    json_object_set_new(groups, command, known);
    made = NULL;
    TRY(compare_save_known(c, m));
  }
  json_decref(made);
  json_t *spent = json_object_get(m->row, "seconds");
  const char *kind = g->sampling ? "sampling" : "evaluation";
  json_object_set_new(spent, kind,
                      json_real(json_number_value(json_object_get(spent, kind)) + json_number_value(json_object_get(known, "seconds"))));
  json_t *copy = json_deep_copy(json_object_get(known, "values"));
  json_object_update(values, copy);
  json_decref(copy);
  return ELBO_OK;
}

static elbo_status measure_evaluation(comparison *c, compared *m, const group *g, json_t *values) {
  text_buffer t = {0};
  eval_command(c, m, g, &t);
  char *command = text_take(&t);
  if (!command) return fail_memory(c->ctx, COMMAND, "a command");
  elbo_status status = measured(c, m, g, command, values);
  free(command);
  return status;
}

// --- how fast it samples ---

static elbo_status time_once(comparison *c, compared *m, const drawing *d, int64_t n, uint64_t seed, double *seconds, int64_t *calls) {
  elbo_sample_config s;
  elbo_array *x = NULL, *told = NULL;
  const char *options[OPTIONS];
  elbo_sample_defaults(&s);
  for (int i = 0; i < d->n; i++) options[i] = d->option[i];
  s.n = n, s.seed = seed, s.draw = d->draw, s.n_options = d->n, s.options = options, s.network_calls = calls;
  s.progress = compare_progress, s.progress_user = c;
  if (m->info.condition_dim) TRY(elbo_dataset_read_condition(m->data, c->split, 0, n, 1, seed, &told));
  if (told && told->dim[0] < n) s.n = told->dim[0];
  s.condition = told;
  double began = seconds_now();
  elbo_status status = elbo_sample(m->model, &s, &x);
  *seconds = (seconds_now() - began) / (double)s.n;
  elbo_array_destroy(&x);
  elbo_array_destroy(&told);
  return status;
}

// Batches as large as are worth timing, several times over: the error is over these.
static elbo_status run_timing(comparison *c, compared *m, const group *g, const char *command, json_t *made) {
  double each[TIMED_RUNS], rate[TIMED_RUNS], mean, error;
  int64_t n = TIMED_FIRST, calls = 0;
  int runs = 0;
  (void)command;
  TRY(time_once(c, m, &g->draw, n, c->config.seed, &each[0], &calls));
  while (each[0] * (double)n < 0.25 && n < TIMED_MOST) {
    n *= 4;
    TRY(time_once(c, m, &g->draw, n, c->config.seed, &each[0], &calls));
  }
  for (double spent = 0; runs < TIMED_RUNS && (runs < 3 || spent < 5); runs++) {
    TRY(time_once(c, m, &g->draw, n, c->config.seed + (uint64_t)runs, &each[runs], &calls));
    spent += each[runs] * (double)n, rate[runs] = 1 / each[runs];
  }
  text_buffer t = {0};
  text_add(&t, "elbo sample"), add_word(&t, m->run);
  text_add(&t, " -n %lld --json --out x.npy --seed %llu", (long long)n, (unsigned long long)c->config.seed);
  add_drawing(&t, &g->draw);
  char *again = text_take(&t), note[128];
  if (!again) return fail_memory(c->ctx, COMMAND, "a command");
  mean_and_error(rate, runs, &mean, &error);
  snprintf(note, sizeof note, "%lld at once, %d times, on %d thread%s", (long long)n, runs, elbo_ctx_threads(c->ctx),
           elbo_ctx_threads(c->ctx) > 1 ? "s" : "");
  json_object_set_new(made, "samples_per_s",
                      json_pack("{s:o, s:o, s:s, s:I, s:s, s:s}", "value", json_number(mean), "stderr", json_number(error), "unit",
                                "samples/s", "n", (json_int_t)n, "note", note, "command", again));
  error /= mean * mean, mean = 1 / mean; // of the same repetitions
  json_object_set_new(
      made, "seconds_per_sample",
      json_pack("{s:o, s:o, s:s, s:s}", "value", json_number(mean), "stderr", json_number(error), "unit", "s", "command", again));
  json_object_set_new(made, "calls",
                      json_pack("{s:I, s:n, s:s, s:s, s:s}", "value", (json_int_t)(calls ? calls : 1), "stderr", "unit", "calls", "note",
                                calls ? "of the network for one sample" : "of the decoder", "command", again));
  free(again);
  return ELBO_OK;
}

static elbo_status measure_timing(comparison *c, compared *m, const drawing *d, json_t *values) {
  text_buffer t = {0};
  group g = {.keys = "samples_per_s,calls", .sampling = true, .run = run_timing, .draw = *d};
  text_add(&t, "elbo sample"), add_word(&t, m->run), text_add(&t, " --seed %llu", (unsigned long long)c->config.seed);
  add_drawing(&t, d);
  text_add(&t, " on %d threads", elbo_ctx_threads(c->ctx)); // a key: the command itself says how many are drawn
  char *key = text_take(&t);
  if (!key) return fail_memory(c->ctx, COMMAND, "a command");
  elbo_status status = measured(c, m, &g, key, values);
  free(key);
  return status;
}

// --- the groups of a model ---

static elbo_status measure_quality(comparison *c, compared *m, const drawing *d, int seeds, const char *metrics, json_t *values) {
  if (!c->config.features) return set_none(values, metrics, "no features were given (--features)"), ELBO_OK;
  group g = {.keys = metrics, .sampling = true, .metrics = metrics, .n = c->config.n, .seeds = seeds, .with_features = true, .draw = *d};
  return measure_evaluation(c, m, &g, values);
}

const char *const score_names[SCORE_LABELS] = {"exact", "one-sample bound", "K-sample bound", "ODE with dequantisation"};
static const char *const score_keys[SCORE_LABELS] = {"likelihood_exact", "likelihood_one", "likelihood_k", "likelihood_ode"};
static const char *const score_options[SCORE_LABELS] = {"one", "one", "k", "ode"};

static elbo_status measure_likelihood(comparison *c, compared *m, json_t *values) {
  bool any = false;
  for (int i = 0; i < SCORE_LABELS; i++) {
    any = any || m->can.score[i];
    if (!m->can.score[i] || !metric_asked(c->config.likelihoods, "", score_options[i])) continue;
    group g = {
        .keys = score_keys[i], .metrics = m->can.score[i], .limit = c->config.limit, .label = score_names[i], .renamed = score_keys[i]};
    if (i != SCORE_ODE) g.samples = c->config.samples;
    TRY(measure_evaluation(c, m, &g, values));
  }
  if (!any) set_none(values, "likelihood_one", m->can.no_score ? m->can.no_score : "this kind of model has none");
  return ELBO_OK;
}

static elbo_status measure_reconstruction(comparison *c, compared *m, json_t *values) {
  static const char keys[] = "psnr,ssim,perceptual";
  if (!compare_encodes(m)) return set_none(values, keys, m->model->kind->why_not), ELBO_OK;
  bool features = c->config.features != NULL;
  group g = {.keys = features ? keys : "psnr,ssim", .limit = c->config.limit, .with_features = features};
  g.metrics = g.keys;
  if (!features) set_none(values, "perceptual", "no features were given (--features)");
  return measure_evaluation(c, m, &g, values);
}

static elbo_status measure_control(comparison *c, compared *m, const drawing *d, json_t *values) {
  static const char key[] = "condition_accuracy";
  char why[128];
  if (m->info.condition_dim) {
    if (m->info.condition_tokens)
      snprintf(why, sizeof why, "takes %d embeddings of %d numbers; judged are classes alone", m->info.condition_tokens,
               m->info.condition_dim);
    else
      snprintf(why, sizeof why, "takes a vector of %d numbers; judged are classes alone", m->info.condition_dim);
    return set_none(values, key, why), ELBO_OK;
  }
  if (!m->info.classes) return set_none(values, key, "takes no condition"), ELBO_OK;
  snprintf(why, sizeof why, "takes one of %d classes; no judge was given (--judge)", m->info.classes);
  if (!c->config.judge) return set_none(values, key, why), ELBO_OK;
  group g = {.keys = key, .sampling = true, .metrics = key, .n = c->config.judged, .with_judge = true, .draw = *d};
  return measure_evaluation(c, m, &g, values);
}

static void add_point(json_t *curve, const json_t *quality, const json_t *timing) {
  const json_t *fid = json_object_get(quality, "fid"), *calls = json_object_get(timing, "calls");
  const json_t *seconds = json_object_get(timing, "seconds_per_sample");
  if (!json_is_number(json_object_get(fid, "value")) || !json_is_number(json_object_get(seconds, "value"))) return;
  json_array_append_new(curve, json_pack("{s:O, s:O, s:O, s:O, s:O}", "calls", json_object_get(calls, "value"), "seconds_per_sample",
                                         json_object_get(seconds, "value"), "fid", json_object_get(fid, "value"), "stderr",
                                         json_object_get(fid, "stderr"), "command", json_object_get(fid, "command")));
}

// Quality at fewer calls, of a model that can choose; the table's own point is the last.
static elbo_status measure_curve(comparison *c, compared *m, bool second, json_t *row) {
  json_t *curve = json_object_get(row, "curve"), *values = json_object_get(row, "values");
  int64_t own = (int64_t)json_number_value(json_object_get(json_object_get(values, "calls"), "value"));
  elbo_status status = ELBO_OK;
  for (int i = 0; status == ELBO_OK && i < c->config.n_curve && m->model->kind->sample_within; i++) {
    if (c->config.curve[i] >= own) continue;
    drawing d = compare_drawing(m, c->config.curve[i], false, second);
    json_t *quality = json_object(), *timing = json_object();
    status = measure_quality(c, m, &d, 1, "fid", quality);
    if (status == ELBO_OK) status = measure_timing(c, m, &d, timing);
    if (status == ELBO_OK) add_point(curve, quality, timing);
    json_decref(quality);
    json_decref(timing);
  }
  if (status == ELBO_OK) add_point(curve, values, values);
  return status;
}

elbo_status compare_measure(comparison *c, compared *m) {
  static const char quality[] = "fid,kid,precision,recall";
  json_t *values = json_object_get(m->row, "values");
  drawing usual = compare_drawing(m, c->config.calls, true, false);
  TRY(measure_quality(c, m, &usual, c->config.seeds, quality, values));
  TRY(measure_timing(c, m, &usual, values));
  TRY(measure_likelihood(c, m, values));
  TRY(measure_reconstruction(c, m, values));
  TRY(measure_control(c, m, &usual, values));
  TRY(measure_curve(c, m, false, m->row));
  if (!m->second) return ELBO_OK;
  drawing other = compare_drawing(m, c->config.calls, true, true);
  values = json_object_get(m->second, "values");
  TRY(measure_quality(c, m, &other, c->config.seeds, quality, values));
  TRY(measure_timing(c, m, &other, values));
  TRY(measure_control(c, m, &other, values));
  return measure_curve(c, m, true, m->second);
}
