#include "core/config_file.h"

#include <stdio.h>
#include <string.h>

#include "core/config_json.h"
#include "core/json.h"

// Whether `text` is one of "a|b|c"
static bool is_one_of(const char *names, const char *text) {
  char name[64];
  for (int i = 0; names && config_enum_name(names, i, name, sizeof name); i++)
    if (strcmp(name, text) == 0) return true;
  return false;
}

static const config_file_key *find_key(const config_file_key *keys, const char *name) {
  for (; keys && keys->name; keys++)
    if (strcmp(keys->name, name) == 0) return keys;
  return NULL;
}

static bool in_table(const config_table *table, const char *name) {
  for (int i = 0; i < table->n_fields; i++)
    if (strcmp(table->fields[i].name, name) == 0) return true;
  return false;
}

static elbo_status check_class(elbo_ctx *ctx, const config_file_form *form, const yaml_node *node) {
  char first[64];
  config_enum_name(form->classes, 0, first, sizeof first);
  if (node->kind == YAML_SCALAR && is_one_of(form->classes, node->text)) return ELBO_OK;
  return yaml_fail(ctx, node, "_class_name", "%s was expected, not %.100s", first,
                   node->kind == YAML_SCALAR ? node->text : "a list or a map");
}

// Whether a key beyond the table may be passed over
static elbo_status check_beyond(elbo_ctx *ctx, const config_file_form *form, const char *key, const yaml_node *node, bool *skip) {
  // what diffusers writes into every file
  static const char *const notes[] = {"_diffusers_version", "_name_or_path", "_use_default_values", "_commit_hash"};
  *skip = false;
  for (size_t i = 0; i < sizeof notes / sizeof *notes; i++) *skip = *skip || strcmp(key, notes[i]) == 0;
  if (strcmp(key, "_class_name") == 0) {
    *skip = true;
    return check_class(ctx, form, node);
  }
  const config_file_key *neutral = find_key(form->neutral, key);
  if (*skip || !neutral) return ELBO_OK;
  *skip = true;
  bool is_null = yaml_is_null(node), wants_null = strcmp(neutral->value, "null") == 0;
  if (is_null ? wants_null : node->kind == YAML_SCALAR && strcmp(node->text, neutral->value) == 0) return ELBO_OK;
  return yaml_fail(ctx, node, key, "%.100s is not implemented; expected %s",
                   is_null                     ? "null"
                   : node->kind == YAML_SCALAR ? node->text
                                               : "a list or a map",
                   neutral->value);
}

// A map with room for `room` keys
static elbo_status new_map(elbo_ctx *ctx, arena *a, const yaml_node *like, int64_t room, yaml_node *out) {
  size_t n = (size_t)room + 1;
  *out = (yaml_node){.kind = YAML_MAP, .file = like->file, .line = like->line};
  out->key = arena_alloc(a, n * sizeof *out->key);
  out->key_line = arena_alloc(a, n * sizeof *out->key_line);
  out->child = arena_alloc(a, n * sizeof *out->child);
  return out->key && out->key_line && out->child ? ELBO_OK : fail_memory(ctx, n * sizeof *out->child, like->file);
}

static void map_add(yaml_node *map, const char *key, int line, yaml_node *child) {
  map->key[map->count] = key;
  map->key_line[map->count] = line;
  map->child[map->count++] = child;
}

elbo_status config_file_read(elbo_ctx *ctx, arena *a, const config_table *table, const config_file_form *form, const char *path,
                             void *out) {
  yaml_node *root, map, *value;
  int64_t n_absent = 0;
  TRY(yaml_read(ctx, a, path, &root)); // JSON is YAML, and so come file and line into every message
  if (root->kind != YAML_MAP) return yaml_fail(ctx, root, "", "expected a JSON object of keys");
  while (form->absent && form->absent[n_absent].name) n_absent++;
  TRY(new_map(ctx, a, root, root->count + n_absent, &map));
  for (int64_t i = 0; i < root->count; i++) {
    const char *key = root->key[i];
    bool skip = false;
    if (!in_table(table, key)) TRY(check_beyond(ctx, form, key, root->child[i], &skip));
    if (!skip) map_add(&map, key, root->key_line[i], root->child[i]);
  }
  for (int64_t i = 0; i < n_absent; i++) {
    const config_file_key *k = &form->absent[i];
    if (yaml_get(root, k->name)) continue;
    TRY(yaml_parse(ctx, a, k->name, k->value, strlen(k->value), &value));
    map_add(&map, k->name, 0, value);
  }
  return config_load(ctx, a, table, &map, "", out);
}

elbo_status config_file_write(elbo_ctx *ctx, const config_table *table, const config_file_form *form, const void *in, const char *path) {
  char name[64];
  json_t *out = config_json(table, in);
  if (!out) return fail_memory(ctx, 1024, path);
  config_enum_name(form->classes, 0, name, sizeof name);
  json_object_set_new(out, "_class_name", json_string(name));
  if (form->version) json_object_set_new(out, "_diffusers_version", json_string(form->version));
  elbo_status status = json_write(ctx, path, out);
  json_decref(out);
  return status;
}
