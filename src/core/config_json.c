#include "core/config_json.h"

#include <string.h>

#include "core/json.h"

static json_t *name_json(const char *name) {
  if (!name || strcmp(name, "null") == 0) return json_null();
  if (strcmp(name, "true") == 0) return json_true();
  if (strcmp(name, "false") == 0) return json_false();
  return json_string(name);
}

// A list of one in its single form; `list` is consumed.
static json_t *unwrapped(json_t *list, bool single) {
  if (!single || json_array_size(list) != 1) return list;
  json_t *only = json_incref(json_array_get(list, 0));
  json_decref(list);
  return only;
}

static json_t *ints_json(const config_ints *v, bool single) {
  json_t *list = json_array();
  for (int64_t i = 0; i < v->count; i++) json_array_append_new(list, json_integer(v->at[i]));
  return unwrapped(list, single);
}

static json_t *list_json(const config_field *f, const void *at) {
  bool single = f->flags & CONFIG_SINGLE;
  json_t *list = json_array();
  const config_floats *floats = at;
  const config_bools *bools = at;
  const config_strings *strings = at;
  const config_int_lists *lists = at;
  if (f->type == CONFIG_TYPE_FLOAT_LIST)
    for (int64_t i = 0; i < floats->count; i++) json_array_append_new(list, json_number(floats->at[i]));
  if (f->type == CONFIG_TYPE_BOOL_LIST)
    for (int64_t i = 0; i < bools->count; i++) json_array_append_new(list, json_boolean(bools->at[i]));
  if (f->type == CONFIG_TYPE_STRING_LIST)
    for (int64_t i = 0; i < strings->count; i++) json_array_append_new(list, json_string(strings->at[i]));
  if (f->type == CONFIG_TYPE_INT_LISTS) {
    for (int64_t i = 0; i < lists->count; i++) json_array_append_new(list, ints_json(&lists->at[i], true));
    single = single && lists->count == 1 && lists->at[0].count == 1;
  }
  return unwrapped(list, single);
}

static json_t *map_json(const config_field *f, const config_map *map) {
  json_t *out = json_object();
  for (int64_t i = 0; i < map->count; i++)
    json_object_set_new(out, map->name[i], config_json(f->section, (const char *)map->at + (size_t)i * f->section->struct_size));
  return out;
}

json_t *config_field_json(const config_field *f, const void *in) {
  const void *at = (const char *)in + f->offset;
  char name[64];
  if (config_is_null(f, at)) return json_null();
  switch (f->type) {
  case CONFIG_TYPE_INT:
  case CONFIG_TYPE_BYTES: return json_integer(*(const int64_t *)at);
  case CONFIG_TYPE_FLOAT: return json_number(*(const double *)at);
  case CONFIG_TYPE_BOOL: return json_boolean(*(const bool *)at);
  case CONFIG_TYPE_STRING: return json_string(*(const char *const *)at);
  case CONFIG_TYPE_ENUM: return name_json(config_enum_name(f->names, *(const int *)at, name, sizeof name));
  case CONFIG_TYPE_INT_LIST: return ints_json(at, f->flags & CONFIG_SINGLE);
  case CONFIG_TYPE_FLOAT_LIST:
  case CONFIG_TYPE_BOOL_LIST:
  case CONFIG_TYPE_STRING_LIST:
  case CONFIG_TYPE_INT_LISTS: return list_json(f, at);
  case CONFIG_TYPE_SECTION: return config_json(f->section, at);
  case CONFIG_TYPE_MAP: return map_json(f, at);
  }
  return NULL;
}

json_t *config_json(const config_table *table, const void *in) {
  json_t *out = json_object();
  for (int i = 0; i < table->n_fields; i++) json_object_set_new(out, table->fields[i].name, config_field_json(&table->fields[i], in));
  return out;
}
