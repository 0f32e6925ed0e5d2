// The table: one list of columns, from which heads, cells, ranks and the list of commands are made.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tasks/compare.h"
#include "tasks/report.h"

typedef enum column_format { FORMAT_NUMBER, FORMAT_SHARE, FORMAT_COUNT, FORMAT_BYTES } column_format;

typedef struct column {
  const char *key, *group, *title, *unit, *explanation;
  int better;   // -1: less is better, 1: more is, 0: neither
  double scale; // of what is shown
  column_format format;
} column;

static const column columns[] = {
    {"fid", "Samples", "FID", "", "Fréchet distance of the features of samples and of held-out pictures", -1, 1, FORMAT_NUMBER},
    {"kid", "Samples", "KID", "", "kernel distance of the same features", -1, 1, FORMAT_NUMBER},
    {"precision", "Samples", "precision", "", "share of samples among the real pictures", 1, 1, FORMAT_SHARE},
    {"recall", "Samples", "recall", "", "share of real pictures among the samples", 1, 1, FORMAT_SHARE},
    {"likelihood", "Likelihood", "of 8-bit pixels", "bits/dim", "over 256 levels; only numbers of the same label compare", -1, 1,
     FORMAT_NUMBER},
    {"psnr", "Reconstruction", "PSNR", "dB", "peak signal to noise of reconstructions from a posterior sample", 1, 1, FORMAT_NUMBER},
    {"ssim", "Reconstruction", "SSIM", "", "structural similarity", 1, 1, FORMAT_SHARE},
    {"perceptual", "Reconstruction", "perceptual", "", "distance of features; 0 is the same picture, 1 another one", -1, 1, FORMAT_SHARE},
    {"calls", "Sampling", "calls", "", "of a network for one sample", 0, 1, FORMAT_COUNT},
    {"samples_per_s", "Sampling", "speed", "samples/s", "on this machine", 1, 1, FORMAT_NUMBER},
    {"training_speed", "Training", "speed", "samples/s", "on this machine, of the last stage", 0, 1, FORMAT_NUMBER},
    {"training_seconds", "Training", "time", "s", "of all stages, steps and preparations", 0, 1, FORMAT_NUMBER},
    {"training_flops", "Training", "work", "TFLOP", "of all stages, by the direct algorithm", 0, 1e-12, FORMAT_NUMBER},
    {"parameters", "Size", "parameters", "", "of the model that is used", 0, 1, FORMAT_COUNT},
    {"latent", "Size", "code", "numbers", "what the encoder keeps of a picture", 0, 1, FORMAT_COUNT},
    {"peak_memory", "Size", "memory", "MiB", "the most that training holds at once", 0, 1, FORMAT_BYTES},
    {"condition_accuracy", "Control", "obeyed", "", "share of samples that are what was asked for, read by another classifier", 1, 1,
     FORMAT_SHARE},
};
enum { COLUMNS = sizeof columns / sizeof *columns };
static const char *const likelihood_keys[] = {"likelihood_one", "likelihood_k", "likelihood_ode", "likelihood_exact"};
enum { LIKELIHOODS = sizeof likelihood_keys / sizeof *likelihood_keys };

static double number_of(const json_t *value, const char *key) {
  const json_t *v = json_object_get(value, key);
  return json_is_number(v) ? json_number_value(v) : NAN;
}

// --- numbers as they are shown ---

// With as many digits as the error leaves: 8.53 of 8.534 +- 0.27.
static void format_number(double v, double error, char *text, size_t size) {
  int digits = 0;
  if (error > 0 && isfinite(error)) {
    digits = 1 - (int)floor(log10(error));
    digits = digits < 0 ? 0 : digits > 6 ? 6 : digits;
    snprintf(text, size, "%.*f", digits, v);
  } else if (fabs(v) >= 1e4)
    snprintf(text, size, "%.0f", v);
  else
    snprintf(text, size, "%.4g", v);
}

static void format_value(const column *c, double v, double error, char *text, size_t size) {
  switch (c->format) {
  case FORMAT_COUNT: snprintf(text, size, "%.0f", v); break;
  case FORMAT_BYTES: snprintf(text, size, "%.0f", v / 1048576); break;
  case FORMAT_SHARE: snprintf(text, size, "%.3f", v); break;
  default: format_number(v, error, text, size);
  }
  if (strlen(text) > 4 && strspn(text, "0123456789") == strlen(text)) { // thin spaces between thousands
    char spaced[64];
    size_t n = strlen(text), to = 0;
    for (size_t i = 0; i < n && to + 8 < sizeof spaced; i++) {
      if (i && (n - i) % 3 == 0) to += (size_t)snprintf(spaced + to, sizeof spaced - to, "\xe2\x80\xaf");
      spaced[to++] = text[i];
    }
    spaced[to] = 0;
    snprintf(text, size, "%s", spaced);
  }
}

// --- ranks ---

// Whether nothing in the column is better by more than the two errors leave open. Only numbers of the same key, and so of the same label,
// are compared, and only where there are two at least.
static bool is_best(const comparison *c, const column *k, const char *key, const json_t *value) {
  double v = number_of(value, "value"), e = number_of(value, "stderr");
  int others = 0;
  if (!k->better || !isfinite(v)) return false;
  for (int i = 0; compare_row(c, i); i++) {
    const json_t *other = json_object_get(json_object_get(compare_row(c, i), "values"), key);
    double w = number_of(other, "value"), f = number_of(other, "stderr");
    if (other == value || !isfinite(w)) continue;
    others++;
    double apart = 2 * sqrt((isfinite(e) ? e * e : 0) + (isfinite(f) ? f * f : 0));
    if (k->better * (w - v) > apart) return false;
  }
  return others > 0;
}

// --- cells ---

static void add_tooltip(text_buffer *page, const json_t *value) {
  const char *note = json_string_value(json_object_get(value, "note")), *command = json_string_value(json_object_get(value, "command"));
  text_add(page, " title=\"");
  if (note) html_add_text(page, note), text_add(page, "&#10;");
  if (command) html_add_text(page, command);
  text_add(page, "\"");
}

static void add_number(const comparison *c, text_buffer *page, const column *k, const char *key, const json_t *value) {
  char text[64], error[64];
  double v = number_of(value, "value") * k->scale, e = number_of(value, "stderr") * k->scale;
  format_value(k, v, e, text, sizeof text);
  text_add(page, is_best(c, k, key, value) ? "<b>%s</b>" : "%s", text);
  if (!isfinite(e)) return;
  format_value(k, e, e, error, sizeof error);
  text_add(page, "<small>± %s</small>", error);
}

static bool opens_group(int i) { return i == 0 || strcmp(columns[i].group, columns[i - 1].group) != 0; }

static void add_missing(text_buffer *page, const json_t *value, const char *none) {
  const char *failed = json_string_value(json_object_get(value, "error")), *why = json_string_value(json_object_get(value, "none"));
  text_add(page, "<span class=\"soft\" title=\"");
  html_add_text(page, failed ? failed : why ? why : "");
  text_add(page, "\">%s</span>", failed ? "failed" : none);
}

// One number for each label that the model has.
static void add_likelihoods(const comparison *c, text_buffer *page, const column *k, const json_t *values) {
  bool any = false;
  text_add(page, "<td class=\"n first\">");
  for (int i = 0; i < LIKELIHOODS; i++) {
    const json_t *value = json_object_get(values, likelihood_keys[i]);
    const char *label = json_string_value(json_object_get(value, "label"));
    if (!isfinite(number_of(value, "value"))) continue;
    text_add(page, "<div");
    add_tooltip(page, value);
    text_add(page, ">");
    add_number(c, page, k, likelihood_keys[i], value);
    text_add(page, "<small class=\"label\">%s</small></div>", label ? label : "");
    any = true;
  }
  const json_t *missing = any ? NULL : json_object_get(values, "likelihood_one");
  if (missing) add_missing(page, missing, "none");
  text_add(page, "</td>");
}

// What a model can be told, in the words of a cell.
static void add_condition(text_buffer *page, const json_t *row) {
  const long long classes = (long long)json_integer_value(json_object_get(row, "classes")),
                  numbers = (long long)json_integer_value(json_object_get(row, "condition_dim"));
  if (classes) text_add(page, "<small>one of %lld classes</small>", classes);
  if (numbers) text_add(page, "<small>%lld numbers</small>", numbers);
}

static void add_cell(const comparison *c, text_buffer *page, const column *k, const json_t *row) {
  const json_t *values = json_object_get(row, "values");
  const json_t *value = json_object_get(values, k->key);
  bool there = isfinite(number_of(value, "value"));
  text_add(page, "<td class=\"n%s\"", opens_group((int)(k - columns)) ? " first" : "");
  if (there) add_tooltip(page, value);
  text_add(page, ">");
  if (there)
    add_number(c, page, k, k->key, value);
  else if (value)
    add_missing(page, value, "–");
  if (!strcmp(k->key, "condition_accuracy")) add_condition(page, row);
  text_add(page, "</td>");
}

static void add_stages(text_buffer *page, const json_t *row) {
  const json_t *training = json_object_get(row, "training"), *stages = json_object_get(training, "stages");
  text_add(page, "<td class=\"stages\">");
  for (size_t i = 0; i < json_array_size(stages); i++) {
    const json_t *s = json_array_get(stages, i);
    const char *name = json_string_value(json_object_get(s, "name")), *preset = json_string_value(json_object_get(s, "preset"));
    long long steps = (long long)json_integer_value(json_object_get(s, "steps"));
    long long batch = (long long)json_integer_value(json_object_get(s, "batch_size"));
    if (json_array_size(stages) == 1) {
      text_add(page, "one<small>%lld × %lld</small>", steps, batch);
      break;
    }
    text_add(page, "<div>");
    html_add_text(page, name && *name ? name : preset ? preset : "");
    text_add(page, "<small>%lld × %lld, %.0f s</small></div>", steps, batch, json_number_value(json_object_get(s, "seconds")));
  }
  text_add(page, "</td>");
}

// What a row lacks altogether stands across it.
static void add_row(const comparison *c, text_buffer *page, const json_t *row) {
  const char *of = json_string_value(json_object_get(row, "of")), *error = json_string_value(json_object_get(row, "error"));
  const char *kind = json_string_value(json_object_get(row, "kind"));
  text_add(page, of ? "<tr class=\"again\"><th scope=\"row\">" : "<tr><th scope=\"row\">");
  const json_t *way = json_object_get(row, "way");
  if (of) text_add(page, "its ");
  html_add_text(page, json_string_value(of ? json_array_get(way, 0) : json_object_get(row, "name")));
  if (kind) text_add(page, "<small>%s</small>", of ? json_string_value(json_array_get(way, 1)) : kind);
  text_add(page, "</th>");
  if (error) {
    text_add(page, "<td class=\"failed\" colspan=\"%d\">not compared: ", COLUMNS + 1);
    html_add_text(page, error);
    text_add(page, "</td></tr>\n");
    return;
  }
  const json_t *values = json_object_get(row, "values");
  for (int i = 0; i < COLUMNS; i++) {
    if (strcmp(columns[i].key, "likelihood") == 0)
      add_likelihoods(c, page, &columns[i], values);
    else
      add_cell(c, page, &columns[i], row);
  }
  add_stages(page, row);
  text_add(page, "</tr>\n");
}

static void add_head(text_buffer *page) {
  text_add(page, "<thead><tr><td></td>");
  for (int i = 0, n; i < COLUMNS; i += n) {
    for (n = 1; i + n < COLUMNS && !strcmp(columns[i].group, columns[i + n].group);) n++;
    text_add(page, "<th scope=\"colgroup\" colspan=\"%d\">%s</th>", n, columns[i].group);
  }
  text_add(page, "<th></th></tr><tr><td></td>");
  for (int i = 0; i < COLUMNS; i++) {
    const column *k = &columns[i];
    text_add(page, "<th scope=\"col\"%s title=\"%s\">%s%s", opens_group(i) ? " class=\"first\"" : "", k->explanation, k->title,
             k->better < 0   ? " ↓"
             : k->better > 0 ? " ↑"
                             : "");
    text_add(page, "<small>%s</small></th>", k->unit);
  }
  text_add(
      page,
      "<th scope=\"col\" class=\"stages\" title=\"trained one after the other\">stages<small>steps × batch</small></th></tr></thead>\n");
}

void compare_add_table(const comparison *c, text_buffer *page) {
  text_add(page, "<div class=\"wide\"><table class=\"compare\">");
  add_head(page);
  text_add(page, "<tbody>\n");
  for (int i = 0; compare_row(c, i); i++) add_row(c, page, compare_row(c, i));
  text_add(page, "</tbody></table></div>\n");
}

// --- the commands ---

static void add_value_line(text_buffer *page, const char *name, const json_t *value) {
  const char *command = json_string_value(json_object_get(value, "command")), *note = json_string_value(json_object_get(value, "note"));
  const char *why = json_string_value(json_object_get(value, json_object_get(value, "error") ? "error" : "none"));
  const char *unit = json_string_value(json_object_get(value, "unit"));
  double v = number_of(value, "value"), e = number_of(value, "stderr");
  text_add(page, "<tr><td>");
  html_add_text(page, name);
  text_add(page, "</td><td class=\"n\">");
  if (isfinite(v)) text_add(page, "%.6g", v);
  if (isfinite(e)) text_add(page, " ± %.2g", e);
  if (!isfinite(v)) text_add(page, json_object_get(value, "error") ? "failed" : "none");
  text_add(page, " %s</td><td class=\"soft\">", unit ? unit : "");
  html_add_text(page, note ? note : why ? why : "");
  if (json_object_get(value, "label")) text_add(page, "%s%s", note ? "; " : "", json_string_value(json_object_get(value, "label")));
  if (json_object_get(value, "n")) text_add(page, "; n = %lld", (long long)json_integer_value(json_object_get(value, "n")));
  text_add(page, "</td></tr>\n");
  if (!command) return;
  text_add(page, "<tr class=\"made\"><td colspan=\"3\"><code>");
  html_add_text(page, command);
  text_add(page, "</code></td></tr>\n");
}

// Values that one command makes stand together, the command below them.
static void add_values(text_buffer *page, const json_t *values) {
  const char *key;
  json_t *value;
  json_t *left = json_copy((json_t *)values);
  while (left && json_object_size(left)) {
    const char *command = NULL;
    json_t *taken = json_object(), *same = NULL;
    json_object_foreach(left, key, value) {
      const char *own = json_string_value(json_object_get(value, "command"));
      if (!json_object_size(taken)) command = own;
      if ((own && command && !strcmp(own, command)) || own == command) json_object_set(taken, key, value);
    }
    size_t at = 0, n = json_object_size(taken);
    json_object_foreach(taken, key, value) {
      same = json_copy(value);
      if (++at < n) json_object_del(same, "command");
      add_value_line(page, key, same);
      json_decref(same);
      json_object_del(left, key);
    }
    json_decref(taken);
  }
  json_decref(left);
}

void compare_add_commands(const comparison *c, text_buffer *page) {
  text_add(page, "<h2>Every number, and the command that makes it again</h2>\n");
  for (int i = 0; compare_row(c, i); i++) {
    const json_t *row = compare_row(c, i), *seconds = json_object_get(row, "seconds");
    if (json_object_get(row, "error")) continue;
    text_add(page, "<details><summary>");
    html_add_text(page, json_string_value(json_object_get(row, "name")));
    text_add(page, "<span class=\"soft\"> &middot; sampling took %.0f s, evaluation %.0f s</span></summary><table class=\"values\">\n",
             json_number_value(json_object_get(seconds, "sampling")), json_number_value(json_object_get(seconds, "evaluation")));
    add_values(page, json_object_get(row, "values"));
    text_add(page, "</table></details>\n");
  }
}
