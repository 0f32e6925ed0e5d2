// elbo_report: one self-contained page about a run. A part that cannot be made (a model without pictures, data that are gone) says so in
// its place; the page is still written.
#include "tasks/report.h"

#include <elbo/image.h>
#include <elbo/model.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/ctx.h"
#include "core/file.h"
#include "core/json.h"
#include "core/memory.h"
#include "models/diffusion_decoder.h"
#include "train/run.h"
#include "train/run_stages.h"

enum {
  METRICS_LIMIT = 256 << 20,
  RECIPE_LIMIT = 1 << 20,
  MOST_CURVES = 64,
  SEEN = 256,
  SEEN_POINTS = 2000,
  LIMIT = 1000,
  TIMES = 10,
  SLOW_LIMIT = 200
};

typedef struct report {
  elbo_ctx *ctx;
  const char *run;
  char directory[4096]; // where its lines and its recipe lie: of several stages the last that is finished
  elbo_model *model;
  elbo_model_info info;
  elbo_dataset *data;
  elbo_split split;
  uint64_t seed;
  text_buffer page;
  json_t *lines;         // of metrics.jsonl
  elbo_array *x, *label; // some examples of the split, in the model's range
  elbo_array *condition; // their vectors, for a model that is conditioned on one
} report;

static void add_note(report *r, const char *what) {
  text_add(&r->page, "<p class=\"soft\">%s: ", what);
  html_add_text(&r->page, elbo_ctx_message(r->ctx));
  text_add(&r->page, "</p>\n");
}

// --- metrics.jsonl ---

static elbo_status read_lines(report *r) {
  char path[4096], *text = NULL;
  size_t size;
  r->lines = json_array();
  TRY(path_join(r->ctx, path, sizeof path, r->directory, "metrics.jsonl"));
  if (!file_exists(path)) return ELBO_OK;
  TRY(file_read(r->ctx, path, METRICS_LIMIT, &text, &size));
  for (char *at = text, *end; *at; at = end) {
    end = at + strcspn(at, "\n");
    if (*end) *end++ = 0;
    json_t *line = json_loads(at, 0, NULL); // the last one may be cut off
    if (json_is_object(line))
      json_array_append_new(r->lines, line);
    else
      json_decref(line);
  }
  free(text);
  return ELBO_OK;
}

static bool is_bookkeeping(const char *key) {
  static const char *const keys[] = {"step", "samples", "seconds", "weights", "skipped"};
  for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
    if (!strcmp(key, keys[i])) return true;
  return false;
}

// The names of all numbers that some line has, in the order of their first appearance.
static int curve_names(const report *r, const char **names) {
  int n = 0;
  for (size_t i = 0; i < json_array_size(r->lines); i++) {
    const char *key;
    json_t *value;
    json_object_foreach(json_array_get(r->lines, i), key, value) {
      bool known = is_bookkeeping(key) || !json_is_number(value);
      for (int k = 0; k < n && !known; k++) known = !strcmp(names[k], key);
      if (!known && n < MOST_CURVES) names[n++] = key;
    }
  }
  return n;
}

static elbo_status add_curves(report *r) {
  const char *names[MOST_CURVES];
  int n_names = curve_names(r, names);
  size_t n = json_array_size(r->lines);
  void *memory;
  if (!n_names) return ELBO_OK;
  TRY(array_new(r->ctx, 2 * n, sizeof(double), "the curves of a report", &memory));
  text_add(&r->page, "<h2>While it trained</h2><div class=\"charts\">\n");
  for (int k = 0; k < n_names; k++) {
    curve c = {.name = !strcmp(names[k], "valid") ? "held-out score (lower is better)" : names[k],
               .unit = "",
               .x = memory,
               .y = (double *)memory + n};
    for (size_t i = 0; i < n; i++) {
      json_t *line = json_array_get(r->lines, i), *value = json_object_get(line, names[k]);
      if (!json_is_number(value)) continue;
      ((double *)memory)[c.n] = (double)json_integer_value(json_object_get(line, "step"));
      ((double *)memory)[n + (size_t)c.n++] = json_number_value(value);
    }
    if (c.n > 1) html_add_curve(&r->page, &c);
  }
  text_add(&r->page, "</div>\n");
  free(memory);
  return ELBO_OK;
}

// --- pictures ---

static elbo_status add_grid(report *r, const elbo_array *x, int columns, const char *description) {
  elbo_array *unit = NULL, *grid = NULL;
  elbo_status status;
  TRY(elbo_array_convert(r->ctx, x, ELBO_F32, &unit));
  float *values = unit->data;
  double factor = r->info.high > r->info.low ? 1 / (r->info.high - r->info.low) : 1;
  for (int64_t i = 0; i < elbo_array_count(unit); i++) values[i] = (float)((values[i] - r->info.low) * factor);
  status = elbo_image_grid(r->ctx, unit, columns, 640, &grid);
  if (status == ELBO_OK) status = html_add_picture(r->ctx, &r->page, grid, description);
  elbo_array_destroy(&unit), elbo_array_destroy(&grid);
  return status;
}

static elbo_status add_samples(report *r) {
  elbo_sample_config config;
  elbo_array *x = NULL;
  elbo_sample_defaults(&config);
  const char *options[QUICK_OPTIONS];
  elbo_array told = {0};
  config.n = 80, config.seed = r->seed;
  if (r->condition) {
    told = *r->condition, config.condition = &told;
    config.n = told.dim[0] = told.dim[0] < config.n ? told.dim[0] : config.n;
  }
  if (r->model->prior) config.options = options, config.n_options = quick_sampling_options(&r->model->prior->diffusion->spec, options);
  if (r->model->diffusion) config.options = options, config.n_options = quick_sampling_options(&r->model->diffusion->spec, options);
  elbo_status status = elbo_sample(r->model, &config, &x);
  if (status == ELBO_OK) status = add_grid(r, x, 16, "samples");
  elbo_array_destroy(&x);
  return status;
}

// Example i of r->x as an array (1,H,W,C) that borrows its memory, and its label.
static elbo_array example(const report *r, int64_t i, int64_t n) {
  elbo_array one = *r->x;
  one.dim[0] = n;
  one.data = (float *)r->x->data + i * (elbo_array_count(r->x) / r->x->dim[0]);
  return one;
}

// What the model is told of the examples; NULL: nothing.
static const elbo_array *told_of(const report *r) { return r->condition ? r->condition : r->info.classes ? r->label : NULL; }

static elbo_status add_reconstructions(report *r) {
  elbo_array *y = NULL, *both = NULL;
  int64_t n = r->x->dim[0] < 32 ? r->x->dim[0] : 32, columns = n < 16 ? n : 16;
  n -= n % columns;
  elbo_array x = example(r, 0, n), told = {0};
  if (told_of(r)) told = *told_of(r), told.dim[0] = n;
  TRY(elbo_reconstruct(r->model, &x, told_of(r) ? &told : NULL, 0, r->seed, &y));
  int64_t row = columns * (elbo_array_count(&x) / n), dim[4] = {2 * n, x.dim[1], x.dim[2], x.dim[3]};
  elbo_status status = elbo_array_create(r->ctx, ELBO_F32, 4, dim, &both);
  for (int64_t i = 0; status == ELBO_OK && i < n / columns; i++) {
    memcpy((float *)both->data + 2 * i * row, (const float *)x.data + i * row, (size_t)row * sizeof(float));
    memcpy((float *)both->data + (2 * i + 1) * row, (const float *)y->data + i * row, (size_t)row * sizeof(float));
  }
  if (status == ELBO_OK) status = add_grid(r, both, (int)columns, "originals, each row above its reconstructions");
  elbo_array_destroy(&y), elbo_array_destroy(&both);
  return status;
}

static int64_t first_of_class(const report *r, int64_t from, int32_t wanted, int64_t otherwise) {
  for (int64_t i = from; r->label && i < r->x->dim[0]; i++)
    if (((const int32_t *)r->label->data)[i] == wanted) return i;
  return otherwise;
}

static elbo_status add_walk(report *r) {
  elbo_array *x = NULL;
  int64_t from = first_of_class(r, 0, 3, 0), to = first_of_class(r, 0, 8, r->x->dim[0] > 1 ? 1 : 0);
  int32_t label = r->info.classes && r->label ? ((const int32_t *)r->label->data)[from] : -1;
  if (label >= 0)
    to = first_of_class(r, from + 1, label, from); // a conditional model walks within one class
  else if (r->label && from == to)
    to = r->x->dim[0] - 1;
  elbo_array a = example(r, from, 1), b = example(r, to, 1);
  elbo_status status;
  if (r->condition) { // from the one's vector to the other's
    elbo_array *ends = NULL;
    status = elbo_array_create(r->ctx, ELBO_F32, 2, (int64_t[]){2, r->condition->dim[1]}, &ends);
    size_t row = (size_t)r->condition->dim[1] * sizeof(float);
    for (int i = 0; status == ELBO_OK && i < 2; i++)
      memcpy((char *)ends->data + (size_t)i * row, (const char *)r->condition->data + (size_t)(i ? to : from) * row, row);
    if (status == ELBO_OK) status = elbo_interpolate_conditioned(r->model, &a, &b, ends, 16, &x);
    elbo_array_destroy(&ends);
  } else
    status = elbo_interpolate(r->model, &a, &b, label, 16, &x);
  if (status == ELBO_OK) status = add_grid(r, x, 16, "a walk between two codes");
  elbo_array_destroy(&x);
  return status;
}

static elbo_status read_examples(report *r) {
  elbo_dataset_info about;
  elbo_dataset_get_info(r->data, &about);
  r->split = about.count[ELBO_SPLIT_TEST] ? ELBO_SPLIT_TEST : about.count[ELBO_SPLIT_VALID] ? ELBO_SPLIT_VALID : ELBO_SPLIT_TRAIN;
  int64_t most = about.height * about.width > 1 ? SEEN : SEEN_POINTS, n = about.count[r->split] < most ? about.count[r->split] : most;
  if (!n) return fail(r->ctx, ELBO_ERROR_ARGUMENT, "the data hold no examples");
  TRY(elbo_dataset_read(r->data, r->split, 0, n, 1, r->seed, &r->x, about.classes ? &r->label : NULL));
  if (r->info.condition_dim) TRY(elbo_dataset_read_condition(r->data, r->split, 0, n, 1, r->seed, &r->condition));
  if (r->x->dim[1] != r->info.height || r->x->dim[2] != r->info.width || r->x->dim[3] != r->info.channels)
    return fail(r->ctx, ELBO_ERROR_ARGUMENT, "examples are %lld x %lld x %lld, the model's are %d x %d x %d", (long long)r->x->dim[1],
                (long long)r->x->dim[2], (long long)r->x->dim[3], r->info.height, r->info.width, r->info.channels);
  float *values = r->x->data;
  for (int64_t i = 0; about.bits && i < elbo_array_count(r->x); i++)
    values[i] = (float)(r->info.low + values[i] * (r->info.high - r->info.low));
  return ELBO_OK;
}

static elbo_status add_plane(report *r) { return report_plane(r->model, r->x, r->seed, &r->page); }

typedef struct picture_part {
  const char *title, *text;
  elbo_status (*add)(report *r);
  bool needs_data;
} picture_part;

static void add_pictures(report *r) {
  static const picture_part of_vae[] = {
      {"What it invents", "Codes drawn from the prior, decoded. None of these was in the data.", add_samples, false},
      {"What it keeps", "Examples it was not trained on, and below each row their reconstructions.", add_reconstructions, true},
      {"From one to another", "The straight line between the codes of two examples, decoded along the way.", add_walk, true},
      {NULL, NULL, NULL, false}};
  static const picture_part of_autoencoder[] = {
      {"What it keeps", "Examples it was not trained on, and below each row their reconstructions.", add_reconstructions, true},
      {"From one to another", "The straight line between the codes of two examples, decoded along the way.", add_walk, true},
      {NULL, NULL, NULL, false}};
  static const picture_part of_diffusion[] = {
      {"What it invents", "Noise led to data, in at most 50 steps. None of these was in the data.", add_samples, false},
      {NULL, NULL, NULL, false}};
  static const picture_part of_plane[] = {
      {"What it has learned", "The density of the model (its root), samples of it, and examples.", add_plane, true},
      {NULL, NULL, NULL, false}};
  const diffusion_model *d = r->model->diffusion;
  const bool pictures = r->info.height > 1 || r->info.width > 1, plane = d && !pictures && r->info.channels == 2 && !r->info.bits;
  elbo_status ready = r->data ? read_examples(r) : fail(r->ctx, ELBO_ERROR_ARGUMENT, "no data");
  const picture_part *part = r->model->autoencoder ? of_autoencoder : !d || r->model->decoder ? of_vae : plane ? of_plane : of_diffusion;
  for (; (pictures || plane) && part->title; part++) {
    text_add(&r->page, "<h2>%s</h2><p class=\"soft\">%s</p>\n", part->title, part->text);
    if (part->needs_data && ready != ELBO_OK)
      add_note(r, "not made");
    else if (part->add(r) != ELBO_OK)
      add_note(r, "not made");
  }
}

// --- numbers ---

static void add_evaluation(report *r) {
  elbo_eval_config config;
  elbo_eval_result *result = NULL;
  if (!r->data) return;
  elbo_eval_defaults(&config);
  config.split = r->split, config.limit = LIMIT, config.seed = r->seed;
  if (r->model->diffusion) config.limit = SLOW_LIMIT, config.samples = TIMES; // every draw is a call of the network
  text_add(&r->page, "<h2>How good it is</h2>\n");
  if (elbo_evaluate(r->model, r->data, &config, &result) != ELBO_OK) {
    add_note(r, "not measured");
    return;
  }
  static const char *const splits[] = {"training", "held-out", "test"};
  text_add(&r->page, "<p class=\"soft\">On at most %d random %s examples; &plusmn; is one standard error.</p><table>\n", (int)config.limit,
           splits[r->split]);
  for (int i = 0; i < elbo_eval_count(result); i++) {
    const elbo_metric *m = elbo_eval_metric(result, i);
    text_add(&r->page, "<tr><td>");
    html_add_text(&r->page, m->name);
    if (m->k) text_add(&r->page, " (k = %d)", m->k);
    text_add(&r->page, "</td><td class=\"n\">%.6g</td><td class=\"n soft\">", m->value);
    if (isfinite(m->stderr_)) text_add(&r->page, "&plusmn; %.2g", m->stderr_);
    text_add(&r->page, "</td><td>");
    html_add_text(&r->page, m->unit);
    text_add(&r->page, "</td><td class=\"soft\">");
    html_add_text(&r->page, m->note);
    text_add(&r->page, "</td></tr>\n");
  }
  text_add(&r->page, "</table>\n");
  elbo_eval_destroy(&result);
}

// KL of every latent dimension: as training last logged it, or of the posteriors of the examples seen, against N(0, 1).
static elbo_status add_latents(report *r) {
  double *kl = NULL;
  int64_t n = 0;
  const char *from = "while it trained";
  void *memory;
  const decoder_model *decoder = r->model->decoder;
  if (!r->info.latent_dim || (decoder && decoder->spec.told == TOLD_CODE && !(decoder->spec.code.kl > 0))) return ELBO_OK;
  for (size_t i = json_array_size(r->lines); i > 0 && !n; i--) {
    const char *key;
    json_t *value;
    json_object_foreach(json_array_get(r->lines, i - 1), key, value) {
      if (strncmp(key, "kl", 2) || !json_is_array(value) || n) continue;
      TRY(array_new(r->ctx, json_array_size(value), sizeof *kl, "the KL of every dimension", &memory));
      kl = memory;
      for (; n < (int64_t)json_array_size(value); n++) kl[n] = json_number_value(json_array_get(value, (size_t)n));
    }
  }
  if (!n && r->x && !r->model->autoencoder && !r->model->diffusion) { // whose prior is no N(0, 1)
    elbo_array *mean = NULL, *deviation = NULL;
    TRY(elbo_encode(r->model, r->x, told_of(r), &mean, &deviation));
    elbo_status status = array_new(r->ctx, (size_t)mean->dim[1], sizeof *kl, "the KL of every dimension", &memory);
    if (status == ELBO_OK) {
      kl = memory, n = mean->dim[1], from = "over the examples above, against N(0, 1)";
      for (int64_t i = 0; i < elbo_array_count(mean); i++) {
        double m = ((const float *)mean->data)[i], s = ((const float *)deviation->data)[i];
        kl[i % n] += 0.5 * (m * m + s * s - 1 - 2 * log(s)) / (double)mean->dim[0]; // [Kingma14 app. B]
      }
    }
    elbo_array_destroy(&mean), elbo_array_destroy(&deviation);
    TRY(status);
  }
  if (!n) return ELBO_OK;
  int64_t used = 0;
  for (int64_t d = 0; d < n; d++) used += kl[d] >= 0.1;
  text_add(&r->page,
           "<h2>What every latent dimension carries</h2><p class=\"soft\">KL from the prior, %s. %lld of %lld carry a tenth of a nat or "
           "more.</p>\n",
           from, (long long)used, (long long)n);
  html_add_bars(&r->page, n, kl, "nats", 0.1);
  free(kl);
  return ELBO_OK;
}

// --- the page ---

static void add_heading(report *r) {
  size_t n = json_array_size(r->lines);
  json_t *last = NULL;
  for (; n > 0 && !json_object_get(last, "samples_per_s"); n--) last = json_array_get(r->lines, n - 1);
  text_add(&r->page, "<title>");
  html_add_text(&r->page, r->run);
  text_add(&r->page, "</title></head><body><main>\n<h1>");
  html_add_text(&r->page, r->run);
  text_add(&r->page, "</h1><p class=\"soft\">");
  html_add_text(&r->page, r->info.preset);
  text_add(&r->page, " of %lld parameters, %d x %d x %d, ", (long long)r->info.params, r->info.height, r->info.width, r->info.channels);
  if (r->info.latent_dim) text_add(&r->page, "%d latent numbers, ", r->info.latent_dim);
  text_add(&r->page, "likelihood ");
  html_add_text(&r->page, r->info.likelihood);
  if (r->info.step >= 0) text_add(&r->page, "; step %lld", (long long)r->info.step);
  if (last)
    text_add(&r->page, "; %lld samples in %.1f s of training", (long long)json_integer_value(json_object_get(last, "samples")),
             json_number_value(json_object_get(last, "seconds")));
  text_add(&r->page, "; %s weights.</p>\n", r->info.weights);
}

static void add_recipe_and_machine(report *r) {
  char path[4096], *text = NULL;
  size_t size;
  if (path_join(r->ctx, path, sizeof path, r->directory, "recipe.yaml") == ELBO_OK && file_exists(path) &&
      file_read(r->ctx, path, RECIPE_LIMIT, &text, &size) == ELBO_OK) {
    text_add(&r->page, "<h2>Recipe</h2><details><summary>every key, defaults included</summary><pre>");
    html_add_text(&r->page, text);
    text_add(&r->page, "</pre></details>\n");
  }
  free(text), text = NULL;
  if (elbo_describe_build(r->ctx, 0, &text) == ELBO_OK) {
    text_add(&r->page, "<h2>Machine that wrote this page</h2><pre>");
    html_add_text(&r->page, text);
    text_add(&r->page, "</pre>\n");
  }
  free(text);
}

static elbo_status write_page(report *r, const char *out) {
  text_add(&r->page, "%s", html_head);
  add_heading(r);
  add_pictures(r);
  add_evaluation(r);
  if (r->model->diffusion || r->model->prior) report_schedule(r->model->prior ? r->model->prior : r->model, &r->page);
  TRY(add_curves(r));
  if (add_latents(r) != ELBO_OK) add_note(r, "KL of every dimension: not made");
  add_recipe_and_machine(r);
  text_add(&r->page, "</main></body></html>\n");
  if (r->page.failed) return fail(r->ctx, ELBO_ERROR_MEMORY, "out of memory for a report");
  return file_write(r->ctx, out, r->page.at, r->page.length);
}

elbo_status elbo_report(elbo_ctx *ctx, const char *run, elbo_dataset *data, uint64_t seed, const char *out) {
  report r = {.ctx = ctx, .run = run, .data = data, .seed = seed};
  elbo_dataset *own = NULL;
  elbo_status status;
  if (!run || !out) return fail(ctx, ELBO_ERROR_ARGUMENT, "a report needs a run and the name of its page");
  TRY_GOTO(run_resolve(ctx, run, r.directory, sizeof r.directory));
  TRY_GOTO(elbo_model_load(ctx, run, NULL, &r.model));
  elbo_model_get_info(r.model, &r.info);
  TRY_GOTO(read_lines(&r));
  if (!data) { // the run's own; where they are gone the page says so
    if (elbo_model_open_data(ctx, run, NULL, 0, NULL, &own) == ELBO_OK) r.data = own;
  }
  status = write_page(&r, out);
fail:
  json_decref(r.lines);
  free(text_take(&r.page));
  elbo_array_destroy(&r.x), elbo_array_destroy(&r.label), elbo_array_destroy(&r.condition);
  elbo_model_destroy(&r.model);
  elbo_dataset_destroy(&own);
  return status;
}
