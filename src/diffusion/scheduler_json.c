// scheduler_config.json, read and written as diffusers does.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/json.h"
#include "core/number.h"
#include "diffusion/scheduler_table.h"

enum { FILE_MAX = 1 << 20 };

// Python's json writes infinities bare, which JSON does not know: they become the text that number_parse reads, in quotes of a kind that
// no file can contain, so that they are told from strings. NaN is left for the parser to refuse.
static const char INFINITE_MARK[] = "\x01";

static void quote_infinities(const char *text, size_t size, text_buffer *out) {
  bool quoted = false;
  size_t begin = 0;
  for (size_t i = 0; i < size; i++) {
    if (quoted && text[i] == '\\') {
      i++;
    } else if (text[i] == '"') {
      quoted = !quoted;
    } else if (!quoted && size - i >= 8 && memcmp(text + i, "Infinity", 8) == 0) {
      bool negative = i > begin && text[i - 1] == '-';
      text_add(out, "%.*s\"\\u0001%s\"", (int)(i - negative - begin), text + begin, negative ? "-.inf" : ".inf");
      begin = i + 8;
      i += 7;
    }
  }
  text_add(out, "%.*s", (int)(size - begin), text + begin);
}

// --- JSON values as the tree that config tables read ---
static yaml_node *new_scalar(arena *a, const char *file, const char *text, bool quoted) {
  yaml_node *node = arena_alloc(a, sizeof *node);
  if (!node) return NULL;
  *node = (yaml_node){.kind = YAML_SCALAR, .file = file, .text = arena_string(a, text), .quoted = quoted};
  return node->text ? node : NULL;
}

static yaml_node *node_of(arena *a, const char *file, const json_t *json) {
  char number[NUMBER_TEXT];
  switch (json_typeof(json)) {
  case JSON_TRUE: return new_scalar(a, file, "true", false);
  case JSON_FALSE: return new_scalar(a, file, "false", false);
  case JSON_NULL: return new_scalar(a, file, "", false);
  case JSON_INTEGER: return new_scalar(a, file, arena_printf(a, "%lld", (long long)json_integer_value(json)), false);
  case JSON_REAL: return new_scalar(a, file, number_text(json_real_value(json), number), false);
  case JSON_STRING: {
    const char *text = json_string_value(json);
    bool infinite = text[0] == INFINITE_MARK[0];
    return new_scalar(a, file, infinite ? text + 1 : text, !infinite);
  }
  case JSON_ARRAY:
  case JSON_OBJECT: break;
  }
  yaml_node *node = arena_alloc(a, sizeof *node);
  if (!node) return NULL;
  *node = (yaml_node){.kind = json_is_array(json) ? YAML_LIST : YAML_MAP, .file = file};
  size_t n = json_is_array(json) ? json_array_size(json) : 0; // an object is refused wherever it stands: its kind is enough
  node->child = arena_alloc(a, (n + 1) * sizeof(yaml_node *));
  if (!node->child) return NULL;
  node->count = (int64_t)n;
  for (size_t i = 0; i < n; i++)
    if (!(node->child[i] = node_of(a, file, json_array_get(json, i)))) return NULL;
  return node;
}

// Keys of diffusers' other schedulers, which may stand in a file whose class was changed.
static bool is_foreign(const char *key) {
  static const char *const others[] = {"clip_sample_value", "set_alpha_to_zero", "eta", "gamma", "beta_min", "beta_max"};
  for (int c = SCHEDULER_OWN + 1; c < SCHEDULER_CLASS_COUNT; c++)
    if (scheduler_class_field(c, key)) return true;
  for (size_t i = 0; i < sizeof others / sizeof *others; i++)
    if (strcmp(key, others[i]) == 0) return true;
  return false;
}

static elbo_status tree_of(elbo_ctx *ctx, arena *a, const char *name, const json_t *json, int class_, yaml_node *map) {
  const char *key;
  json_t *value;
  size_t n = json_object_size(json);
  map->key = arena_alloc(a, (n + 1) * sizeof *map->key);
  map->key_line = arena_alloc(a, (n + 1) * sizeof *map->key_line);
  map->child = arena_alloc(a, (n + 1) * sizeof *map->child);
  if (!map->key || !map->key_line || !map->child) return fail_memory(ctx, n * sizeof(void *), name);
  json_object_foreach((json_t *)json, key, value) {
    const config_field *f = scheduler_class_field(class_, key);
    if (key[0] == '_') continue; // of the file, not of the scheduler
    if (!f && (json_is_null(value) || is_foreign(key))) {
      log_warning(ctx, "%s: %s: %s has no such key; ignored, as in diffusers", name, key, scheduler_class_name(class_));
      continue;
    }
    if (f && json_is_null(value) && scheduler_field_nullable(f)) continue;
    map->key[map->count] = arena_string(a, key);
    map->child[map->count] = node_of(a, name, value);
    if (!map->key[map->count] || !map->child[map->count]) return fail_memory(ctx, sizeof *map, name);
    map->count++;
  }
  return ELBO_OK;
}

static elbo_status find_class(elbo_ctx *ctx, const char *name, const json_t *json, int *out) {
  const char *wanted = json_string_value(json_object_get(json, "_class_name"));
  text_buffer known = {0};
  for (int c = SCHEDULER_OWN + 1; c < SCHEDULER_CLASS_COUNT; c++) {
    if (wanted && strcmp(wanted, scheduler_class_name(c)) == 0) {
      free(known.at);
      *out = c;
      return ELBO_OK;
    }
    text_add(&known, "%s%s", known.length ? ", " : "", scheduler_class_name(c));
  }
  char *list = text_take(&known);
  elbo_status status = wanted ? fail(ctx, ELBO_ERROR_UNSUPPORTED, "%s: _class_name: '%.100s' is not a known scheduler; the known ones: %s",
                                     name, wanted, list ? list : "")
                              : fail(ctx, ELBO_ERROR_FORMAT, "%s: _class_name: missing; expected one of %s", name, list ? list : "");
  free(list);
  return status;
}

static elbo_status read_json(elbo_ctx *ctx, arena *a, const char *name, const json_t *json, scheduler_config *out) {
  int class_ = SCHEDULER_OWN;
  if (!json_is_object(json)) return fail(ctx, ELBO_ERROR_FORMAT, "%s: not a JSON object", name);
  TRY(find_class(ctx, name, json, &class_));
  yaml_node *map = arena_alloc(a, sizeof *map);
  const char *file = arena_string(a, name);
  if (!map || !file) return fail_memory(ctx, sizeof *map, name);
  *map = (yaml_node){.kind = YAML_MAP, .file = file};
  TRY(tree_of(ctx, a, file, json, class_, map));
  TRY(config_load(ctx, a, scheduler_class_table(class_), map, "", out));
  out->class_ = class_;
  TRY(config_load(ctx, a, &sampler_table, NULL, "sampler", &out->own));
  return scheduler_settle(ctx, name, out);
}

elbo_status scheduler_parse(elbo_ctx *ctx, arena *a, const char *name, const char *text, size_t size, scheduler_config *out) {
  text_buffer clean = {0};
  json_t *json = NULL;
  *out = (scheduler_config){0};
  if (size > FILE_MAX) return fail(ctx, ELBO_ERROR_FORMAT, "%s: larger than 1 MiB", name);
  if (memchr(text, INFINITE_MARK[0], size) || memchr(text, 0, size))
    return fail(ctx, ELBO_ERROR_FORMAT, "%s: not valid JSON: a control character", name);
  quote_infinities(text, size, &clean);
  size_t length = clean.length;
  char *copy = text_take(&clean);
  if (!copy) return fail_memory(ctx, size, name);
  elbo_status status = json_parse(ctx, name, copy, length, &json);
  if (status == ELBO_OK) status = read_json(ctx, a, name, json, out);
  json_decref(json);
  free(copy);
  return status;
}

elbo_status scheduler_read(elbo_ctx *ctx, arena *a, const char *path, scheduler_config *out) {
  char *text;
  size_t size;
  *out = (scheduler_config){0};
  TRY(file_read(ctx, path, FILE_MAX, &text, &size));
  elbo_status status = scheduler_parse(ctx, a, path, text, size, out);
  free(text);
  return status;
}

elbo_status scheduler_defaults(elbo_ctx *ctx, arena *a, int class_, scheduler_config *out) {
  TRY(config_load(ctx, a, scheduler_class_table(class_), NULL, "", out));
  out->class_ = class_;
  TRY(config_load(ctx, a, &sampler_table, NULL, "sampler", &out->own));
  return scheduler_settle(ctx, scheduler_class_name(class_), out);
}

// --- writing ---
static void write_number(double value, text_buffer *out) {
  char text[NUMBER_TEXT];
  text_add(out, "%s", isinf(value) ? value < 0 ? "-Infinity" : "Infinity" : number_text(value, text));
}

static void write_field(const config_field *f, const char *at, text_buffer *out) {
  char name[64];
  const void *value = at;
  switch (f->type) {
  case CONFIG_TYPE_INT: text_add(out, "%lld", (long long)*(const int64_t *)value); return;
  case CONFIG_TYPE_BOOL: text_add(out, "%s", *(const bool *)value ? "true" : "false"); return;
  case CONFIG_TYPE_FLOAT: {
    double number = *(const double *)value;
    if (number == 0 && scheduler_field_nullable(f)) {
      text_add(out, "null");
    } else {
      write_number(number, out);
    }
    return;
  }
  case CONFIG_TYPE_ENUM: {
    int number = *(const int *)value;
    if (number == 0 && scheduler_field_nullable(f)) {
      text_add(out, "null");
    } else {
      text_add(out, "\"%s\"", config_enum_name(f->names, number, name, sizeof name));
    }
    return;
  }
  case CONFIG_TYPE_FLOAT_LIST: {
    const config_floats *list = value;
    if (!list->count) {
      text_add(out, "null");
      return;
    }
    for (int64_t i = 0; i < list->count; i++) {
      text_add(out, "%s", i ? ", " : "[");
      write_number(list->at[i], out);
    }
    text_add(out, "]");
    return;
  }
  case CONFIG_TYPE_INT_LIST: {
    const config_ints *list = value;
    text_add(out, "[");
    for (int64_t i = 0; i < list->count; i++) text_add(out, "%s%lld", i ? ", " : "", (long long)list->at[i]);
    text_add(out, "]");
    return;
  }
  case CONFIG_TYPE_STRING: // null alone is possible
  case CONFIG_TYPE_BYTES:
  case CONFIG_TYPE_BOOL_LIST:
  case CONFIG_TYPE_STRING_LIST:
  case CONFIG_TYPE_INT_LISTS:
  case CONFIG_TYPE_MAP:
  case CONFIG_TYPE_SECTION: text_add(out, "null"); return;
  }
}

static int by_name(const void *a, const void *b) {
  const config_field *const *p = a, *const *q = b;
  return strcmp((*p)->name, (*q)->name);
}

elbo_status scheduler_text(elbo_ctx *ctx, const scheduler_config *config, text_buffer *out) {
  const config_field *sorted[64];
  const char *name = scheduler_class_name(config->class_);
  if (!name) return fail(ctx, ELBO_ERROR_UNSUPPORTED, "this sampler has no scheduler class in diffusers, and cannot be written as one");
  const config_table *table = scheduler_class_table(config->class_);
  for (int i = 0; i < table->n_fields; i++) sorted[i] = &table->fields[i];
  qsort(sorted, (size_t)table->n_fields, sizeof *sorted, by_name);
  text_add(out, "{\n  \"_class_name\": \"%s\",\n  \"_diffusers_version\": \"0.36.0\"", name);
  for (int i = 0; i < table->n_fields; i++) {
    text_add(out, ",\n  \"%s\": ", sorted[i]->name);
    write_field(sorted[i], (const char *)config + sorted[i]->offset, out);
  }
  text_add(out, "\n}\n");
  return out->failed ? fail_memory(ctx, out->length, name) : ELBO_OK;
}

elbo_status scheduler_write(elbo_ctx *ctx, const scheduler_config *config, const char *path) {
  text_buffer t = {0};
  elbo_status status = scheduler_text(ctx, config, &t);
  size_t length = t.length;
  char *text = text_take(&t);
  if (status == ELBO_OK) status = text ? file_write(ctx, path, text, length) : fail_memory(ctx, length, path);
  free(text);
  return status;
}
