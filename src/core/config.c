// Reading configs through their tables.
#include "core/config.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/number.h"

enum { LIST_MAX = 4096, NAME_MAX_LENGTH = 64, PATH_BYTES = 256 };

// Restricted Damerau-Levenshtein distance (a swap of neighbours counts one); texts beyond 64 characters are far from everything.
static int edit_distance(const char *a, const char *b) {
  int row[3][NAME_MAX_LENGTH + 1];
  size_t la = strlen(a), lb = strlen(b);
  if (la > NAME_MAX_LENGTH || lb > NAME_MAX_LENGTH) return 1000;
  int n = (int)la, m = (int)lb;
  for (int j = 0; j <= m; j++) row[0][j] = j;
  for (int i = 1; i <= n; i++) {
    int *now = row[i % 3], *before = row[(i + 2) % 3], *earlier = row[(i + 1) % 3];
    now[0] = i;
    for (int j = 1; j <= m; j++) {
      int best = before[j - 1] + (a[i - 1] != b[j - 1]);
      if (before[j] + 1 < best) best = before[j] + 1;
      if (now[j - 1] + 1 < best) best = now[j - 1] + 1;
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && earlier[j - 2] + 1 < best) best = earlier[j - 2] + 1;
      now[j] = best;
    }
  }
  return row[n % 3][m];
}

// Whether a mistake of that size may be a slip of `name`: up to a third of its letters, and two in short names of at least four.
static bool is_near(const char *name, int distance) {
  int length = (int)strlen(name), allowed = length >= 6 ? length / 3 : length >= 4 ? 2 : 1;
  return distance <= allowed;
}

static const char *nearest_key(const config_table *table, const char *key) {
  const char *best = NULL;
  int least = 1000;
  for (int i = 0; i < table->n_fields; i++) {
    int d = edit_distance(key, table->fields[i].name);
    if (d < least) least = d, best = table->fields[i].name;
  }
  return best && is_near(best, least) ? best : NULL;
}

static const char *join_path(const char *path, const char *name, char buffer[PATH_BYTES]) {
  snprintf(buffer, PATH_BYTES, "%s%s%s", path ? path : "", path && path[0] ? "." : "", name);
  return buffer;
}

static elbo_status unknown_key(elbo_ctx *ctx, const config_table *table, const yaml_node *map, int64_t i, const char *path) {
  char full[PATH_BYTES], list[640] = "";
  yaml_node place = {.file = map->file, .line = map->key_line[i]};
  if (place.line == 0) place.file = map->child[i]->file; // set from elsewhere than the map's own file
  const char *key = map->key[i], *near = nearest_key(table, key);
  join_path(path, key, full);
  if (near) return yaml_fail(ctx, &place, full, "unknown key; did you mean '%s'?", near);
  for (int f = 0; f < table->n_fields; f++) {
    size_t n = strlen(list);
    snprintf(list + n, sizeof list - n, "%s%s", n ? ", " : "", table->fields[f].name);
  }
  return yaml_fail(ctx, &place, full, "unknown key; expected one of %s", list);
}

static const char *type_expected(const config_field *f) {
  bool single = f->flags & CONFIG_SINGLE;
  switch (f->type) {
  case CONFIG_TYPE_INT: return "a whole number";
  case CONFIG_TYPE_FLOAT: return "a number";
  case CONFIG_TYPE_BOOL: return "true or false";
  case CONFIG_TYPE_STRING: return "text";
  case CONFIG_TYPE_BYTES: return "a size such as 1000, 200MB or 1.5GiB";
  case CONFIG_TYPE_INT_LIST: return single ? "a whole number or a list of them," : "a list of whole numbers";
  case CONFIG_TYPE_FLOAT_LIST: return single ? "a number or a list of them," : "a list of numbers";
  case CONFIG_TYPE_BOOL_LIST: return single ? "true, false or a list of them" : "a list of true and false";
  case CONFIG_TYPE_STRING_LIST: return single ? "text or a list of texts" : "a list of texts";
  case CONFIG_TYPE_INT_LISTS:
    return single ? "a whole number or a list of them or of lists of them," : "a list of whole numbers or lists of them,";
  case CONFIG_TYPE_SECTION: return "a map of keys";
  case CONFIG_TYPE_MAP: return "a map from names to maps of keys";
  case CONFIG_TYPE_ENUM: break;
  }
  return "one of ";
}

static bool has_range(config_type type) {
  return type == CONFIG_TYPE_INT || type == CONFIG_TYPE_FLOAT || type == CONFIG_TYPE_INT_LIST || type == CONFIG_TYPE_FLOAT_LIST ||
         type == CONFIG_TYPE_INT_LISTS;
}

// What a field takes, for messages: "a whole number from 1 to 1e12".
static const char *expectation(const config_field *f, char *buffer, size_t size) {
  char low[NUMBER_TEXT], high[NUMBER_TEXT];
  size_t n = (size_t)snprintf(buffer, size, "%s", type_expected(f));
  if (f->type == CONFIG_TYPE_ENUM) {
    for (const char *c = f->names; *c && n + 3 < size; c++) {
      buffer[n++] = *c == '|' ? ',' : *c;
      if (*c == '|') buffer[n++] = ' ';
    }
    buffer[n] = 0;
  }
  if (has_range(f->type))
    n += (size_t)snprintf(buffer + n, size - n, " from %s to %s", number_text(f->min, low), number_text(f->max, high));
  if (f->flags & CONFIG_NULL && n < size) snprintf(buffer + n, size - n, ", or null");
  return buffer;
}

static elbo_status wrong_value(elbo_ctx *ctx, const config_field *f, const yaml_node *node, const char *path) {
  char wanted[640];
  expectation(f, wanted, sizeof wanted);
  if (node->kind == YAML_MAP) return yaml_fail(ctx, node, path, "is a map; expected %s", wanted);
  if (node->kind == YAML_LIST) return yaml_fail(ctx, node, path, "is a list; expected %s", wanted);
  if (yaml_is_null(node)) return yaml_fail(ctx, node, path, "has no value; expected %s", wanted);
  const char *quote = node->quoted ? "\"" : "'";
  return yaml_fail(ctx, node, path, "%s%.100s%s; expected %s", quote, node->text, quote, wanted);
}

static bool read_int(const config_field *f, const yaml_node *node, int64_t *out) {
  return node->kind == YAML_SCALAR && !node->quoted && integer_parse(node->text, out) && (double)*out >= f->min && (double)*out <= f->max;
}

static bool read_float(const config_field *f, const yaml_node *node, double *out) {
  return node->kind == YAML_SCALAR && !node->quoted && number_parse(node->text, out) && *out >= f->min && *out <= f->max;
}

static bool read_bool(const yaml_node *node, bool *out) {
  static const char *const words[] = {"false", "true", "False", "True", "FALSE", "TRUE"};
  if (node->kind != YAML_SCALAR || node->quoted) return false;
  for (int i = 0; i < 6; i++) {
    if (strcmp(node->text, words[i]) != 0) continue;
    *out = i % 2;
    return true;
  }
  return false;
}

static bool read_bytes(const config_field *f, const yaml_node *node, int64_t *out) {
  if (node->kind != YAML_SCALAR || node->quoted || !bytes_parse(node->text, out)) return false;
  return (double)*out >= f->min && (double)*out <= f->max;
}

// "a|b|c": the place of `text`, or -1; *near gets the nearest name (in the buffer) when it may have been meant.
static int find_name(const char *names, const char *text, char *near, size_t size) {
  char name[NAME_MAX_LENGTH + 1];
  int least = 1000;
  near[0] = 0;
  for (int i = 0; config_enum_name(names, i, name, sizeof name); i++) {
    if (strcmp(name, text) == 0) return i;
    int d = edit_distance(text, name);
    if (d < least && is_near(name, d)) {
      least = d;
      snprintf(near, size, "%s", name);
    }
  }
  return -1;
}

const char *config_nearest_name(const char *names, const char *text, char *buffer, size_t size) {
  return find_name(names, text, buffer, size) < 0 && buffer[0] ? buffer : NULL;
}

static elbo_status read_enum(elbo_ctx *ctx, const config_field *f, const yaml_node *node, const char *path, int *out) {
  char near[NAME_MAX_LENGTH + 1], wanted[640];
  if (node->kind != YAML_SCALAR) return wrong_value(ctx, f, node, path);
  *out = find_name(f->names, yaml_is_null(node) ? "null" : node->text, near, sizeof near);
  if (*out >= 0) return ELBO_OK;
  if (!near[0]) return wrong_value(ctx, f, node, path);
  return yaml_fail(ctx, node, path, "'%.100s'; did you mean '%s'? expected %s", node->text, near, expectation(f, wanted, sizeof wanted));
}

static size_t list_element_size(config_type type) {
  switch (type) {
  case CONFIG_TYPE_BOOL_LIST: return sizeof(bool);
  case CONFIG_TYPE_STRING_LIST: return sizeof(const char *);
  case CONFIG_TYPE_INT_LISTS: return sizeof(config_ints);
  default: return sizeof(double); // as large as int64_t
  }
}

// The field that one element of a list is.
static config_field list_element(const config_field *f) {
  config_field element = *f;
  element.flags = 0;
  switch (f->type) {
  case CONFIG_TYPE_INT_LIST: element.type = CONFIG_TYPE_INT; break;
  case CONFIG_TYPE_FLOAT_LIST: element.type = CONFIG_TYPE_FLOAT; break;
  case CONFIG_TYPE_BOOL_LIST: element.type = CONFIG_TYPE_BOOL; break;
  case CONFIG_TYPE_STRING_LIST: element.type = CONFIG_TYPE_STRING; break;
  default: element.type = CONFIG_TYPE_INT_LIST, element.flags = CONFIG_SINGLE; break;
  }
  return element;
}

static elbo_status read_field(elbo_ctx *ctx, arena *a, const config_field *f, const yaml_node *node, const char *path, char *out);

static void store_list(config_type type, void *out, int64_t count, const void *items) {
  switch (type) {
  case CONFIG_TYPE_INT_LIST: *(config_ints *)out = (config_ints){count, items}; break;
  case CONFIG_TYPE_FLOAT_LIST: *(config_floats *)out = (config_floats){count, items}; break;
  case CONFIG_TYPE_BOOL_LIST: *(config_bools *)out = (config_bools){count, items}; break;
  case CONFIG_TYPE_STRING_LIST: *(config_strings *)out = (config_strings){count, items}; break;
  default: *(config_int_lists *)out = (config_int_lists){count, items}; break;
  }
}

static elbo_status read_list_field(elbo_ctx *ctx, arena *a, const config_field *f, const yaml_node *node, const char *path, void *out) {
  bool single = f->flags & CONFIG_SINGLE && node->kind == YAML_SCALAR && !yaml_is_null(node);
  if (node->kind != YAML_LIST && !single) return wrong_value(ctx, f, node, path);
  int64_t count = single ? 1 : node->count;
  if (count > LIST_MAX) return yaml_fail(ctx, node, path, "a list of %lld; expected at most %d", (long long)count, LIST_MAX);
  config_field element = list_element(f);
  size_t size = list_element_size(f->type);
  char *items = arena_alloc(a, (size_t)count * size);
  if (!items) return fail_memory(ctx, (size_t)count * size, path);
  for (int64_t i = 0; i < count; i++) {
    char full[PATH_BYTES];
    snprintf(full, sizeof full, single ? "%s" : "%s[%lld]", path, (long long)i);
    TRY(read_field(ctx, a, &element, single ? node : node->child[i], full, items + (size_t)i * size));
  }
  store_list(f->type, out, count, items);
  return ELBO_OK;
}

static elbo_status read_string(elbo_ctx *ctx, arena *a, const config_field *f, const yaml_node *node, const char *path, const char **out) {
  if (node->kind != YAML_SCALAR) return wrong_value(ctx, f, node, path);
  *out = yaml_is_null(node) ? "" : arena_string(a, node->text);
  return *out ? ELBO_OK : fail_memory(ctx, strlen(node->text), path);
}

static elbo_status read_map(elbo_ctx *ctx, arena *a, const config_field *f, const yaml_node *node, const char *path, config_map *out) {
  bool empty = yaml_is_null(node);
  if (node->kind != YAML_MAP && !empty) return wrong_value(ctx, f, node, path);
  int64_t n = empty ? 0 : node->count;
  if (n > LIST_MAX) return yaml_fail(ctx, node, path, "a map of %lld; expected at most %d", (long long)n, LIST_MAX);
  size_t bytes = (size_t)n * f->section->struct_size;
  char *items = arena_alloc(a, bytes ? bytes : 1);
  if (!items) return fail_memory(ctx, bytes, path);
  *out = (config_map){n, n ? node->key : NULL, items};
  for (int64_t i = 0; i < n; i++) {
    char full[PATH_BYTES];
    join_path(path, node->key[i], full);
    TRY(config_load(ctx, a, f->section, node->child[i], full, items + (size_t)i * f->section->struct_size));
  }
  return ELBO_OK;
}

static elbo_status read_field(elbo_ctx *ctx, arena *a, const config_field *f, const yaml_node *node, const char *path, char *out) {
  bool good = false;
  if (f->flags & CONFIG_NULL && yaml_is_null(node)) return ELBO_OK; // the zero that is there
  switch (f->type) {
  case CONFIG_TYPE_INT: good = read_int(f, node, (int64_t *)(void *)out); break;
  case CONFIG_TYPE_FLOAT: good = read_float(f, node, (double *)(void *)out); break;
  case CONFIG_TYPE_BOOL: good = read_bool(node, (bool *)out); break;
  case CONFIG_TYPE_BYTES: good = read_bytes(f, node, (int64_t *)(void *)out); break;
  case CONFIG_TYPE_STRING: return read_string(ctx, a, f, node, path, (const char **)(void *)out);
  case CONFIG_TYPE_ENUM: return read_enum(ctx, f, node, path, (int *)(void *)out);
  case CONFIG_TYPE_INT_LIST:
  case CONFIG_TYPE_FLOAT_LIST:
  case CONFIG_TYPE_BOOL_LIST:
  case CONFIG_TYPE_STRING_LIST:
  case CONFIG_TYPE_INT_LISTS: return read_list_field(ctx, a, f, node, path, out);
  case CONFIG_TYPE_SECTION: return config_load(ctx, a, f->section, node, path, out);
  case CONFIG_TYPE_MAP: return read_map(ctx, a, f, node, path, (config_map *)(void *)out);
  }
  return good ? ELBO_OK : wrong_value(ctx, f, node, path);
}

static elbo_status load_default(elbo_ctx *ctx, arena *a, const config_field *f, const yaml_node *map, const char *path, char *out) {
  char source[PATH_BYTES + 32], wanted[640];
  yaml_node *node;
  if (f->type == CONFIG_TYPE_SECTION) return config_load(ctx, a, f->section, NULL, path, out);
  if (!f->default_text) return yaml_fail(ctx, map, path, "missing; expected %s", expectation(f, wanted, sizeof wanted));
  snprintf(source, sizeof source, "default of %s", path);
  TRY(yaml_parse(ctx, a, source, f->default_text, strlen(f->default_text), &node));
  return read_field(ctx, a, f, node, path, out);
}

elbo_status config_load(elbo_ctx *ctx, arena *a, const config_table *table, const yaml_node *map, const char *path, void *out) {
  char full[PATH_BYTES];
  memset(out, 0, table->struct_size);
  if (map && map->kind != YAML_MAP && !yaml_is_null(map))
    return yaml_fail(ctx, map, path, "is %s; expected a map of keys", map->kind == YAML_LIST ? "a list" : "a single value");
  bool present = map && map->kind == YAML_MAP;
  for (int64_t i = 0; present && i < map->count; i++) {
    int f = 0;
    while (f < table->n_fields && strcmp(map->key[i], table->fields[f].name) != 0) f++;
    if (f == table->n_fields) return unknown_key(ctx, table, map, i, path);
  }
  for (int i = 0; i < table->n_fields; i++) {
    const config_field *f = &table->fields[i];
    const yaml_node *node = present ? yaml_get(map, f->name) : NULL;
    join_path(path, f->name, full);
    if (node) {
      TRY(read_field(ctx, a, f, node, full, (char *)out + f->offset));
    } else {
      TRY(load_default(ctx, a, f, map, full, (char *)out + f->offset));
    }
  }
  return ELBO_OK;
}

elbo_status config_load_options(elbo_ctx *ctx, arena *a, const config_table *table, int n, const char *const *options, void *out) {
  yaml_node root = {.kind = YAML_MAP, .file = "options"};
  for (int i = 0; i < n; i++) TRY(yaml_set(ctx, a, "options", &root, options[i]));
  return config_load(ctx, a, table, &root, "", out);
}
