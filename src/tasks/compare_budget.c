// What a budget is in steps of every stage of a recipe.
#include <elbo/recipe.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "tasks/compare.h"

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

elbo_status compare_load_recipe(comparison *c, const compared *m, int n_more, const char *const *more, elbo_recipe **out) {
  const elbo_compare_config *o = &c->config;
  void *memory = NULL;
  *out = NULL;
  char *data = o->data ? data_override(o->data) : NULL;
  elbo_status status = o->data && !data ? fail_memory(c->ctx, COMPARE_PATH, "the path of the data") : ELBO_OK;
  if (status == ELBO_OK) status = array_new(c->ctx, (size_t)(o->n_overrides + n_more + 1), sizeof(char *), "keys of a recipe", &memory);
  const char **keys = memory;
  int n = 0;
  if (status == ELBO_OK) {
    if (data) keys[n++] = data;
    for (int i = 0; i < o->n_overrides; i++) keys[n++] = o->overrides[i];
    for (int i = 0; i < n_more; i++) keys[n++] = more[i];
    status = elbo_recipe_load(c->ctx, m->source, n, keys, out);
  }
  free(keys);
  free(data);
  return status;
}
