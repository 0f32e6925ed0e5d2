// elbo_model_open_data: the data section of a run's recipe, as options for another path.
#include <elbo/model.h>
#include <elbo/recipe.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/config.h"
#include "core/file.h"
#include "train/run_stages.h"

// The recipe of the run that `model_path` is, or is a checkpoint of (RUN/checkpoints/step-N); false: there is none.
static bool find_recipe(elbo_ctx *ctx, const char *model_path, char *out, size_t size) {
  static const char *const places[] = {"recipe.yaml", "../../recipe.yaml"};
  char stage[4096];
  if (run_has_stages(model_path)) { // the recipe of the stage whose model this is
    if (run_resolve(ctx, model_path, stage, sizeof stage) != ELBO_OK) return false;
    model_path = stage;
  }
  for (int i = 0; i < 2; i++)
    if (path_join(ctx, out, size, model_path, places[i]) == ELBO_OK && file_exists(out)) return true;
  return false;
}

static void add_flow(text_buffer *t, const yaml_node *value) {
  if (value->kind == YAML_SCALAR && !value->quoted)
    text_add(t, "%s", value->text);
  else if (value->kind == YAML_SCALAR) {
    text_add(t, "\"");
    for (const char *c = value->text; *c; c++) text_add(t, *c == '"' || *c == '\\' ? "\\%c" : "%c", *c);
    text_add(t, "\"");
  } else {
    text_add(t, value->kind == YAML_LIST ? "[" : "{");
    for (int64_t i = 0; i < value->count; i++) {
      if (i) text_add(t, ", ");
      if (value->kind == YAML_MAP) text_add(t, "%s: ", value->key[i]);
      add_flow(t, value->child[i]);
    }
    text_add(t, value->kind == YAML_LIST ? "]" : "}");
  }
}

enum { MOST_OPTIONS = 128 };

// "key=value" of every key of the section but `path`, which lands in *path when that is NULL. Strings are the caller's.
static elbo_status section_options(elbo_ctx *ctx, const yaml_node *data, char **options, int *n, char **path) {
  for (int64_t i = 0; data && data->kind == YAML_MAP && i < data->count; i++) {
    text_buffer t = {0};
    bool is_path = !strcmp(data->key[i], "path");
    if (is_path && *path) continue;
    if (is_path)
      text_add(&t, "%s", data->child[i]->kind == YAML_SCALAR ? data->child[i]->text : "");
    else {
      if (*n >= MOST_OPTIONS) return fail(ctx, ELBO_ERROR_FORMAT, "%s:%d: more than %d keys", data->file, data->line, MOST_OPTIONS);
      text_add(&t, "%s=", data->key[i]);
      add_flow(&t, data->child[i]);
    }
    char *text = text_take(&t);
    if (!text) return fail(ctx, ELBO_ERROR_MEMORY, "out of memory for the options of a data set");
    if (is_path)
      *path = text;
    else
      options[(*n)++] = text;
  }
  return ELBO_OK;
}

elbo_status elbo_model_open_data(elbo_ctx *ctx, const char *model_path, const char *path, int n_options, const char *const *options,
                                 elbo_dataset **out) {
  char recipe_path[4096], *made[MOST_OPTIONS], *own_path = path ? string_copy(path) : NULL, *text = NULL;
  const char *all[MOST_OPTIONS];
  int n = 0;
  elbo_recipe *recipe = NULL;
  yaml_node *root = NULL;
  arena *a = arena_create(1 << 14);
  elbo_status status = ELBO_OK;
  *out = NULL;
  if (!a || (path && !own_path)) status = fail(ctx, ELBO_ERROR_MEMORY, "out of memory for the options of a data set");
  if (status == ELBO_OK && find_recipe(ctx, model_path, recipe_path, sizeof recipe_path)) {
    status = elbo_recipe_load(ctx, recipe_path, 0, NULL, &recipe);
    if (status == ELBO_OK) status = elbo_recipe_text(recipe, &text);
    if (status == ELBO_OK) status = yaml_parse(ctx, a, recipe_path, text, strlen(text), &root);
    if (status == ELBO_OK) status = section_options(ctx, yaml_get(root, "data"), made, &n, &own_path);
  }
  if (status == ELBO_OK && (!own_path || !own_path[0]))
    status = fail(ctx, ELBO_ERROR_ARGUMENT, "%s: no recipe names its data; expected the path of a data set", model_path);
  int count = 0;
  for (int i = 0; i < n; i++) all[count++] = made[i];
  for (int i = 0; i < n_options && status == ELBO_OK; i++) { // later ones win
    if (count < MOST_OPTIONS)
      all[count++] = options[i];
    else
      status = fail(ctx, ELBO_ERROR_ARGUMENT, "more than %d options", MOST_OPTIONS);
  }
  if (status == ELBO_OK) status = elbo_dataset_open(ctx, own_path, count, all, out);
  for (int i = 0; i < n; i++) free(made[i]);
  free(own_path), free(text);
  elbo_recipe_destroy(&recipe);
  if (a) arena_destroy(&a);
  return status;
}
