// elbo_compare: train, measure, write the page; every step of it can be interrupted and taken up again.
#include "tasks/compare.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/ctx.h"
#include "core/file.h"
#include "core/memory.h"
#include "data/dataset.h"
#include "models/condition_accuracy.h"
#include "models/feature_net.h"
#include "train/run.h"
#include "train/run_stages.h"

enum { KNOWN_LIMIT = 64 << 20 };

void elbo_compare_defaults(elbo_compare_config *config) { *config = (elbo_compare_config){.size = sizeof *config}; }

bool compare_stopped(const comparison *c, elbo_status status) { return status == ELBO_ERROR_STOPPED && c->stopped; }

int compare_progress(void *user, const char *what, int64_t done, int64_t total, const char *text) {
  comparison *c = user;
  char named[192];
  if (!c->config.progress) return 1;
  snprintf(named, sizeof named, "%s: %s", c->now ? c->now->name : "compare", what);
  if (!c->config.progress(c->config.progress_user, named, done, total, text)) c->stopped = true;
  return !c->stopped;
}

// --- the models ---

static bool is_model(elbo_ctx *ctx, const char *path) {
  char index[COMPARE_PATH];
  if (run_is_run(path)) return true;
  return path_join(ctx, index, sizeof index, path, "model_index.json") == ELBO_OK && file_exists(index);
}

// The last part of a path without .yaml, made the only one of its name.
static void name_model(const comparison *c, int i) {
  char base[64], path[COMPARE_PATH];
  snprintf(path, sizeof path, "%s", c->model[i].source);
  size_t n = strlen(path);
  while (n > 1 && path[n - 1] == '/') path[--n] = 0;
  const char *slash = strrchr(path, '/'), *from = slash && slash[1] ? slash + 1 : path;
  n = strlen(from);
  if (n > 5 && !strcmp(from + n - 5, ".yaml")) n -= 5;
  snprintf(base, sizeof base, "%.*s", (int)(n < 60 ? n : 60), from);
  snprintf(c->model[i].name, sizeof c->model[i].name, "%s", base);
  for (int k = 0, again = 2; k < i; k++) {
    if (strcmp(c->model[k].name, c->model[i].name)) continue;
    snprintf(c->model[i].name, sizeof c->model[i].name, "%s-%d", base, again++);
    k = -1;
  }
}

static elbo_status known_path(const comparison *c, const compared *m, char path[COMPARE_PATH]) {
  char name[128];
  snprintf(name, sizeof name, "%s.json", m->name);
  return path_join(c->ctx, path, COMPARE_PATH, c->runs, name);
}

elbo_status compare_save_known(comparison *c, compared *m) {
  char path[COMPARE_PATH];
  TRY(known_path(c, m, path));
  return json_write(c->ctx, path, m->known);
}

static elbo_status read_known(comparison *c, compared *m) {
  char path[COMPARE_PATH];
  TRY(known_path(c, m, path));
  if (file_exists(path)) TRY(json_read(c->ctx, path, KNOWN_LIMIT, &m->known));
  if (!json_is_object(m->known)) json_decref(m->known), m->known = json_object();
  if (!json_is_object(json_object_get(m->known, "groups"))) json_object_set_new(m->known, "groups", json_object());
  return ELBO_OK;
}

static json_t *new_row(const compared *m, const char *name) {
  return json_pack("{s:s, s:s, s:s, s:{}, s:[], s:{s:f, s:f}}", "name", name, "source", m->source, "run", m->run, "values", "curve",
                   "seconds", "evaluation", 0.0, "sampling", 0.0);
}

static elbo_status list_models(comparison *c) {
  void *memory;
  const elbo_compare_config *config = &c->config;
  if (config->n_models < 1 || config->n_models > ELBO_COMPARE_MODELS)
    return fail(c->ctx, ELBO_ERROR_ARGUMENT, "compare: %d models; 1 to %d recipes or runs were expected", config->n_models,
                ELBO_COMPARE_MODELS);
  TRY(array_new(c->ctx, (size_t)config->n_models, sizeof *c->model, "models to compare", &memory));
  c->model = memory, c->n = config->n_models;
  for (int i = 0; i < c->n; i++) {
    compared *m = &c->model[i];
    m->source = config->models[i], m->taken = is_model(c->ctx, m->source);
    name_model(c, i);
    if (m->taken)
      snprintf(m->run, sizeof m->run, "%s", m->source);
    else
      TRY(path_join(c->ctx, m->run, sizeof m->run, c->runs, m->name));
    TRY(read_known(c, m));
    m->row = new_row(m, m->name);
    if (!m->row) return fail_memory(c->ctx, 1024, "JSON");
  }
  return ELBO_OK;
}

// --- one model ---

// Of the weights that are measured: the checkpoint and when it was written.
static elbo_status identify(comparison *c, compared *m) {
  char directory[COMPARE_PATH], index[COMPARE_PATH];
  struct stat entry;
  int64_t step = -1;
  if (run_is_run(m->run))
    TRY(run_find_checkpoint(c->ctx, m->run, -1, directory, sizeof directory, &step));
  else
    snprintf(directory, sizeof directory, "%s", m->run);
  TRY(path_join(c->ctx, index, sizeof index, directory, "model_index.json"));
  if (stat(index, &entry)) return fail_errno(c->ctx, index, "cannot look at it");
  snprintf(m->identity, sizeof m->identity, "step %lld, written %lld.%09ld", (long long)step, (long long)entry.st_mtim.tv_sec,
           entry.st_mtim.tv_nsec);
  return ELBO_OK;
}

// All models see the same pictures: shapes that differ are a mistake in a recipe, not a property of a model.
static elbo_status check_pictures(comparison *c, const compared *m) {
  const elbo_model_info *a = &m->info;
  elbo_dataset_info d;
  elbo_dataset_get_info(m->data, &d);
  if (d.bits != 8 || m->data->config.binarize != BINARIZE_NONE)
    return fail(c->ctx, ELBO_ERROR_UNSUPPORTED, "%s: all are judged on the same 8-bit pixels; its data are %s", m->run,
                d.bits != 8 ? "of other depth" : "made black and white (data.binarize)");
  if (a->height * a->width < 2) return fail(c->ctx, ELBO_ERROR_UNSUPPORTED, "%s: its data are vectors; pictures are compared here", m->run);
  if (a->height != d.height || a->width != d.width || a->channels != d.channels)
    return fail(c->ctx, ELBO_ERROR_ARGUMENT, "%s: is of pictures %d x %d x %d; the data are %d x %d x %d", m->run, a->height, a->width,
                a->channels, d.height, d.width, d.channels);
  for (const compared *b = c->model; b < m; b++)
    if (b->info.height && (b->info.height != a->height || b->info.width != a->width || b->info.channels != a->channels))
      return fail(c->ctx, ELBO_ERROR_ARGUMENT, "%s: is of pictures %d x %d x %d; those of %s are %d x %d x %d", m->run, a->height, a->width,
                  a->channels, b->name, b->info.height, b->info.width, b->info.channels);
  return ELBO_OK;
}

// The page ranks the models, so they are judged on one set of pictures: without --data, their recipes must agree on it.
static elbo_status check_same_data(comparison *c, const compared *m, elbo_split before) {
  static const char *const splits[] = {"training", "held-out", "test"};
  char identity[65];
  TRY(dataset_identity(m->data, c->split, identity));
  if (*c->identity && (strcmp(c->identity, identity) != 0 || c->split != before)) {
    const elbo_split here = c->split;
    c->split = before;
    return fail(c->ctx, ELBO_ERROR_ARGUMENT,
                "%s: its %s pictures are not the %s pictures that the models before were judged on; --data gives all the same", m->run,
                splits[here], splits[before]);
  }
  snprintf(c->identity, sizeof c->identity, "%s", identity);
  return ELBO_OK;
}

static elbo_status open_model(comparison *c, compared *m) {
  elbo_dataset_info d;
  TRY(identify(c, m));
  TRY(elbo_model_load(c->ctx, m->run, NULL, &m->model));
  elbo_model_get_info(m->model, &m->info);
  if (!m->model->kind->sample) return fail(c->ctx, ELBO_ERROR_UNSUPPORTED, "%s: %s", m->run, m->model->kind->why_not);
  if (m->model->kind->abilities) m->model->kind->abilities(m->model, &m->can);
  TRY(elbo_model_open_data(c->ctx, m->run, c->config.data, 0, NULL, &m->data));
  elbo_dataset_get_info(m->data, &d);
  const elbo_split split = c->split;
  c->split = d.count[ELBO_SPLIT_TEST] ? ELBO_SPLIT_TEST : d.count[ELBO_SPLIT_VALID] ? ELBO_SPLIT_VALID : ELBO_SPLIT_TRAIN;
  TRY(check_pictures(c, m));
  TRY(check_same_data(c, m, split));
  json_object_set_new(m->row, "kind", json_string(m->info.preset));
  json_object_set_new(m->row, "classes", json_integer(m->info.classes));
  json_object_set_new(m->row, "condition_dim", json_integer(m->info.condition_dim));
  if (m->can.second && !m->second) {
    char name[128];
    snprintf(name, sizeof name, "%s, %s", m->name, m->can.second);
    m->second = new_row(m, name);
    json_object_set_new(m->second, "of", json_string(m->name));
    json_object_set_new(m->second, "way", json_pack("[s, s]", m->can.second, m->can.second_how));
    json_object_set_new(m->second, "kind", json_string(m->info.preset));
  }
  return ELBO_OK;
}

static void close_model(compared *m) {
  elbo_model_destroy(&m->model);
  elbo_dataset_destroy(&m->data);
}

// A failure is the row's; only a stop is everybody's.
static elbo_status measure_model(comparison *c, compared *m) {
  elbo_status status = open_model(c, m);
  if (status == ELBO_OK) status = compare_facts(c, m);
  if (status == ELBO_OK) status = compare_measure(c, m);
  if (status == ELBO_OK) status = compare_make_pictures(c, m);
  if (status != ELBO_OK && !compare_stopped(c, status)) {
    json_object_set_new(m->row, "error", json_string(elbo_ctx_message(c->ctx)));
    log_warning(c->ctx, "%s: %s", m->name, elbo_ctx_message(c->ctx));
    status = ELBO_OK;
  }
  close_model(m);
  return status;
}

static elbo_status train_model(comparison *c, compared *m) {
  if (m->taken) return ELBO_OK;
  elbo_status status = compare_train(c, m);
  if (status == ELBO_OK || compare_stopped(c, status)) return status;
  json_object_set_new(m->row, "error", json_string(elbo_ctx_message(c->ctx)));
  log_warning(c->ctx, "%s: %s", m->name, elbo_ctx_message(c->ctx));
  return ELBO_OK;
}

// --- all of it ---

// Features or judge given as a recipe of a classifier: trained once, as it says, to RUNS/NAME-network; *path is then that run.
static elbo_status train_network(comparison *c, const char *name, char run[COMPARE_PATH], const char **path) {
  size_t n = *path ? strlen(*path) : 0;
  if (n < 6 || strcmp(*path + n - 5, ".yaml") != 0) return ELBO_OK;
  compared m = {.source = *path, .plain = true};
  elbo_recipe *recipe = NULL;
  elbo_train_config train;
  elbo_train_result result;
  snprintf(m.name, sizeof m.name, "%s-network", name); // so that no model's run is called so
  TRY(path_join(c->ctx, run, COMPARE_PATH, c->runs, m.name));
  TRY(compare_load_recipe(c, &m, NULL, &recipe));
  elbo_train_defaults(&train);
  c->now = &m;
  train.out = run, train.resume = 1, train.progress = compare_progress, train.progress_user = c;
  elbo_status status = recipe->preset && strcmp(recipe->preset->name, "classifier") == 0
                           ? elbo_train(c->ctx, recipe, &train, &result)
                           : fail(c->ctx, ELBO_ERROR_ARGUMENT, "%s: %s: a recipe of preset classifier was expected", name, *path);
  elbo_recipe_destroy(&recipe);
  c->now = NULL, *path = run;
  return status;
}

static elbo_status name_network(comparison *c, const char *path, char *text, size_t size) {
  feature_net *net;
  if (!path) return ELBO_OK;
  TRY(feature_net_open(c->ctx, path, &net));
  snprintf(text, size, "%s of %lld numbers, sha256 %s", feature_net_name(net), (long long)feature_net_dim(net), feature_net_hash(net));
  feature_net_close(&net);
  return ELBO_OK;
}

static elbo_status open_networks(comparison *c) {
  elbo_compare_config *o = &c->config;
  TRY(train_network(c, "features", c->features_run, &o->features));
  TRY(train_network(c, "judge", c->judge_run, &o->judge));
  TRY(name_network(c, o->features, c->features, sizeof c->features));
  TRY(name_network(c, o->judge, c->judge, sizeof c->judge));
  if (o->features && o->judge && !strcmp(c->features, c->judge))
    return fail(c->ctx, ELBO_ERROR_ARGUMENT, "compare: the judge has the weights of the features; another classifier was expected: %s",
                o->judge);
  return ELBO_OK;
}

static elbo_status check(comparison *c) {
  elbo_compare_config *o = &c->config;
  int budgets = (o->budget_seconds > 0) + (o->budget_steps > 0) + (o->budget_flops > 0);
  if (budgets > 1) return fail(c->ctx, ELBO_ERROR_ARGUMENT, "compare: one budget was expected: of time, of steps or of FLOPs");
  if (o->seeds < 0 || o->seeds > 3) return fail(c->ctx, ELBO_ERROR_ARGUMENT, "compare: seeds: %d; 1 to 3 were expected", o->seeds);
  if (o->n_curve < 0 || o->n_curve > ELBO_COMPARE_CURVE)
    return fail(c->ctx, ELBO_ERROR_ARGUMENT, "compare: curve: %d points; at most %d were expected", o->n_curve, ELBO_COMPARE_CURVE);
  if (!o->out && !o->runs) return fail(c->ctx, ELBO_ERROR_ARGUMENT, "compare: the name of a page, or a directory of runs, was expected");
  TRY(metric_names_check(c->ctx, o->likelihoods, "one, k, ode"));
  if (!o->likelihoods) o->likelihoods = "one";
  if (!o->seeds) o->seeds = 3;
  if (!o->limit) o->limit = COMPARE_LIMIT;
  if (!o->judged) o->judged = JUDGED_N;
  if (!o->calls) o->calls = COMPARE_CALLS;
  if (o->runs)
    snprintf(c->runs, sizeof c->runs, "%s", o->runs);
  else
    snprintf(c->runs, sizeof c->runs, "%s.runs", o->out);
  return directory_make(c->ctx, c->runs);
}

const json_t *compare_row(const comparison *c, int i) {
  for (int k = 0; k < c->n; k++) {
    if (i-- == 0) return c->model[k].row;
    if (c->model[k].second && i-- == 0) return c->model[k].second;
  }
  return NULL;
}

static elbo_status make_json(const comparison *c, char **out) {
  const elbo_compare_config *o = &c->config;
  static const char *const splits[] = {"train", "valid", "test"};
  json_t *rows = json_array();
  for (int i = 0; compare_row(c, i); i++) json_array_append_new(rows, json_deep_copy(compare_row(c, i)));
  json_t *budget = json_object();
  if (o->budget_seconds > 0) json_object_set_new(budget, "seconds", json_real(o->budget_seconds));
  if (o->budget_steps > 0) json_object_set_new(budget, "steps", json_integer(o->budget_steps));
  if (o->budget_flops > 0) json_object_set_new(budget, "flops", json_real(o->budget_flops));
  json_t *all = json_pack("{s:o, s:o, s:s, s:s?, s:s?, s:s?, s:s?, s:s, s:s}", "rows", rows, "budget", budget, "split", splits[c->split],
                          "data", o->data, "page", o->out, "features", c->features[0] ? c->features : NULL, "judge",
                          c->judge[0] ? c->judge : NULL, "likelihoods", o->likelihoods, "version", elbo_version());
  *out = all ? json_dumps(all, JSON_INDENT(2) | JSON_SORT_KEYS) : NULL;
  json_decref(all);
  return *out ? ELBO_OK : fail_memory(c->ctx, 4096, "JSON");
}

static void destroy(comparison *c) {
  for (int i = 0; i < c->n; i++) {
    close_model(&c->model[i]);
    elbo_array_destroy(&c->model[i].samples);
    elbo_array_destroy(&c->model[i].reconstructions);
    for (int k = 0; k < COMPARE_WALKS; k++) elbo_array_destroy(&c->model[i].walk[k]);
    json_decref(c->model[i].row);
    json_decref(c->model[i].second);
    json_decref(c->model[i].known);
  }
  elbo_array_destroy(&c->inputs);
  free(c->model);
}

elbo_status elbo_compare(elbo_ctx *ctx, const elbo_compare_config *config, char **json) {
  comparison c = {.ctx = ctx, .config = *config, .split = ELBO_SPLIT_TEST};
  elbo_status status;
  if (json) *json = NULL;
  TRY_GOTO(check(&c));
  TRY_GOTO(open_networks(&c));
  TRY_GOTO(list_models(&c));
  for (int i = 0; i < c.n; i++) { // all are trained before the first is measured, one after the other: they compete for the same cores
    c.now = &c.model[i];
    TRY_GOTO(train_model(&c, &c.model[i]));
  }
  for (int i = 0; i < c.n; i++) {
    c.now = &c.model[i];
    if (json_object_get(c.model[i].row, "error")) continue;
    TRY_GOTO(measure_model(&c, &c.model[i]));
    if (c.config.out) TRY_GOTO(compare_write_page(&c));
  }
  c.now = NULL;
  if (c.config.out) TRY_GOTO(compare_write_page(&c));
  if (json) TRY_GOTO(make_json(&c, json));
fail:
  destroy(&c);
  return status;
}
