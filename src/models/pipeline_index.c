#include "models/pipeline_index.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/memory.h"

#define INDEX_NAME "model_index.json"
#define INDEX_LIMIT ((size_t)4 << 20) // some hold the names of a thousand classes

bool pipeline_index_is_there(const char *directory) {
  char path[PATH_MAX];
  return path_join(NULL, path, sizeof path, directory, INDEX_NAME) == ELBO_OK && file_exists(path);
}

// A pair of texts or of nulls under a name that is no remark.
static bool is_component(const char *key, const json_t *value) {
  const json_t *library = json_array_get(value, 0), *class_name = json_array_get(value, 1);
  if (key[0] == '_' || json_array_size(value) != 2) return false;
  return (json_is_string(library) || json_is_null(library)) && (json_is_string(class_name) || json_is_null(class_name));
}

static elbo_status read_component(elbo_ctx *ctx, const char *path, const char *directory, const char *name, const json_t *value,
                                  pipeline_component *c) {
  char folder[PATH_MAX];
  c->name = name;
  c->library = json_string_value(json_array_get(value, 0)), c->class_name = json_string_value(json_array_get(value, 1));
  if (!c->class_name) {
    c->library = NULL;
    return ELBO_OK;
  }
  if (!name[0] || name[0] == '.' || strchr(name, '/'))
    return fail(ctx, ELBO_ERROR_FORMAT, "%s: component '%.200s'; expected the name of a folder", path, name);
  TRY(path_join(ctx, folder, sizeof folder, directory, name));
  if (!directory_exists(folder))
    return fail(ctx, ELBO_ERROR_FORMAT, "%s: component %s (%s) is missing: there is no folder %s", path, name, c->class_name, folder);
  c->folder = string_copy(folder);
  return c->folder ? ELBO_OK : fail_memory(ctx, strlen(folder), path);
}

static elbo_status read_index(elbo_ctx *ctx, const char *path, const char *directory, pipeline_index *index) {
  const char *key;
  json_t *value;
  TRY(json_read(ctx, path, INDEX_LIMIT, &index->json));
  index->class_name = json_string_value(json_object_get(index->json, "_class_name")); // NULL of anything but an object
  index->version = json_string_value(json_object_get(index->json, "_diffusers_version"));
  if (!index->class_name) return fail(ctx, ELBO_ERROR_FORMAT, "%s: _class_name; expected the name of a pipeline", path);
  TRY(array_new(ctx, json_object_size(index->json), sizeof *index->components, path, (void **)&index->components));
  json_object_foreach(index->json, key, value) {
    if (is_component(key, value)) TRY(read_component(ctx, path, directory, key, value, &index->components[index->n++]));
  }
  return ELBO_OK;
}

elbo_status pipeline_index_open(elbo_ctx *ctx, const char *directory, pipeline_index **out) {
  char path[PATH_MAX];
  *out = NULL;
  if (!directory_exists(directory)) return fail(ctx, ELBO_ERROR_IO, "%s: no such directory; a pipeline's was expected", directory);
  TRY(path_join(ctx, path, sizeof path, directory, INDEX_NAME));
  pipeline_index *index = calloc(1, sizeof *index);
  if (!index) return fail_memory(ctx, sizeof *index, path);
  elbo_status status = read_index(ctx, path, directory, index);
  if (status == ELBO_OK)
    *out = index;
  else
    pipeline_index_close(&index);
  return status;
}

void pipeline_index_close(pipeline_index **index) {
  if (!index || !*index) return;
  for (int i = 0; i < (*index)->n; i++) free((*index)->components[i].folder);
  free((*index)->components);
  json_decref((*index)->json);
  free(*index);
  *index = NULL;
}

const pipeline_component *pipeline_index_find(const pipeline_index *index, const char *name) {
  for (int i = 0; i < index->n; i++)
    if (!strcmp(index->components[i].name, name)) return index->components[i].class_name ? &index->components[i] : NULL;
  return NULL;
}

const json_t *pipeline_index_value(const pipeline_index *index, const char *key) {
  const json_t *value = json_object_get(index->json, key);
  return value && !is_component(key, value) ? value : NULL;
}
