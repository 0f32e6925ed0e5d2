#include "models/eval_result.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/philox.h"

const char *split_text(elbo_split split) {
  static const char *const name[] = {"train", "valid", "test"};
  return name[split];
}

elbo_status eval_result_new(elbo_ctx *ctx, elbo_eval_result **out) {
  *out = calloc(1, sizeof **out);
  return *out ? ELBO_OK : fail_memory(ctx, sizeof **out, "a result");
}

void elbo_eval_destroy(elbo_eval_result **result) {
  if (!result || !*result) return;
  elbo_eval_result *r = *result;
  for (int i = 0; i < r->count; i++) free(r->per_image[i]);
  json_decref(r->more);
  free(r->json);
  free(r);
  *result = NULL;
}

elbo_metric *eval_result_add(elbo_eval_result *r, const char *name, const char *unit, double value, double error, int64_t n,
                             double *per_image) {
  if (r->count == MAX_METRICS) {
    free(per_image);
    return &r->metric[MAX_METRICS - 1];
  }
  elbo_metric *m = &r->metric[r->count];
  r->per_image[r->count++] = per_image;
  *m = (elbo_metric){.value = value, .stderr_ = error, .mc_stderr = NAN, .n = n};
  snprintf(m->name, sizeof m->name, "%s", name);
  snprintf(m->unit, sizeof m->unit, "%s", unit);
  return m;
}

void metric_note(elbo_metric *m, const char *text) { snprintf(m->note, sizeof m->note, "%s", text); }

double *doubles_copy(const double *v, int64_t n) {
  double *out = malloc((size_t)(n ? n : 1) * sizeof *out);
  if (out) memcpy(out, v, (size_t)n * sizeof *out);
  return out;
}

void eval_result_list(elbo_eval_result *r, const char *name, const double *v, int64_t n) {
  json_t *list = json_array();
  for (int64_t i = 0; i < n; i++) json_array_append_new(list, json_number(v[i]));
  if (!r->more) r->more = json_object();
  json_object_set_new(r->more, name, list);
}

elbo_status eval_result_finish(const elbo_model *m, const elbo_eval_config *config, elbo_eval_result *r) {
  json_t *all = json_object(), *metrics = json_object();
  for (int i = 0; i < r->count; i++) {
    const elbo_metric *v = &r->metric[i];
    json_t *one = json_object();
    json_object_set_new(one, "value", json_number(v->value));
    json_object_set_new(one, "stderr", json_number(v->stderr_));
    json_object_set_new(one, "unit", json_string(v->unit));
    json_object_set_new(one, "n", json_integer(v->n));
    if (!isnan(v->mc_stderr)) json_object_set_new(one, "mc_stderr", json_number(v->mc_stderr));
    if (v->k) json_object_set_new(one, "k", json_integer(v->k));
    if (v->note[0]) json_object_set_new(one, "note", json_string(v->note));
    json_object_set_new(metrics, v->name, one);
  }
  json_object_set_new(all, "metrics", metrics);
  if (m) {
    json_object_set_new(all, "weights", json_string(m->weights));
    json_object_set_new(all, "step", json_integer(m->step));
  }
  json_object_set_new(all, "split", json_string(split_text(config->split)));
  json_object_set_new(all, "seed", // JSON's whole numbers end at 2^63 here
                      config->seed <= INT64_MAX ? json_integer((json_int_t)config->seed)
                                                : json_sprintf("%llu", (unsigned long long)config->seed));
  json_object_update(all, r->more);
  r->json = json_dumps(all, JSON_INDENT(2) | JSON_SORT_KEYS);
  json_decref(all);
  return r->json ? ELBO_OK : fail_memory(m ? m->ctx : NULL, 4096, "JSON");
}

bool metric_asked(const char *list, const char *usual, const char *name) {
  size_t length = strlen(name);
  for (const char *at = list ? list : usual; *at;) {
    at += strspn(at, ", ");
    size_t n = strcspn(at, ", ");
    if (n == length && strncmp(at, name, n) == 0) return true;
    at += n;
  }
  return false;
}

elbo_status metric_names_check(elbo_ctx *ctx, const char *list, const char *known) {
  char one[64];
  for (const char *at = list ? list : ""; *at;) {
    at += strspn(at, ", ");
    size_t n = strcspn(at, ", ");
    snprintf(one, sizeof one, "%.*s", (int)n, at);
    if (n && (n >= sizeof one || !metric_asked(known, NULL, one)))
      return fail(ctx, ELBO_ERROR_ARGUMENT, "metrics: unknown name '%.*s'; known are %s", (int)n, at, known);
    at += n;
  }
  return ELBO_OK;
}

void row_copy(elbo_array *to, int64_t i, const elbo_array *from, int64_t j) {
  size_t row = elbo_array_bytes(from) / (size_t)from->dim[0];
  memmove((char *)to->data + (size_t)i * row, (const char *)from->data + (size_t)j * row, row);
}

elbo_status examples_subset(elbo_ctx *ctx, uint64_t seed, int64_t limit, elbo_array *x, elbo_array *label) {
  int64_t *order = NULL, n = x->dim[0], to = 0;
  char *chosen = NULL;
  elbo_status status;
  TRY_GOTO(array_new(ctx, (size_t)n, sizeof *order, "subset", (void **)&order));
  TRY_GOTO(array_new(ctx, (size_t)n, 1, "subset", (void **)&chosen));
  philox_permutation(seed, philox_stream("eval.limit"), n, order);
  for (int64_t i = 0; i < limit; i++) chosen[order[i]] = 1;
  for (int64_t i = 0; i < n; i++) {
    if (!chosen[i]) continue;
    row_copy(x, to, x, i);
    if (label) row_copy(label, to, label, i);
    to++;
  }
  x->dim[0] = limit;
  if (label) label->dim[0] = limit;
fail:
  free(chosen);
  free(order);
  return status;
}

// --- the calls ---

void elbo_eval_defaults(elbo_eval_config *config) { *config = (elbo_eval_config){.size = sizeof *config, .split = ELBO_SPLIT_TEST}; }

int elbo_eval_count(const elbo_eval_result *result) { return result->count; }
const elbo_metric *elbo_eval_metric(const elbo_eval_result *result, int i) {
  return i >= 0 && i < result->count ? &result->metric[i] : NULL;
}
const char *elbo_eval_json(const elbo_eval_result *result) { return result->json; }

const double *elbo_eval_per_image(const elbo_eval_result *result, const char *metric, int64_t *n) {
  for (int i = 0; i < result->count; i++)
    if (strcmp(result->metric[i].name, metric) == 0) {
      *n = result->per_image[i] ? result->metric[i].n : 0;
      return result->per_image[i];
    }
  *n = 0;
  return NULL;
}
