// JSON objects as text for people: one indented "key value" line each, lists of named things as tables.
#include <string.h>

#include "core/config.h"
#include "tasks/describe.h"

static bool is_flat(const json_t *value) {
  for (size_t i = 0; i < json_array_size(value); i++) {
    const json_t *item = json_array_get(value, i);
    if (json_is_object(item) || json_is_array(item)) return false;
  }
  return json_is_array(value);
}

static void add_scalar(text_buffer *out, const json_t *value) {
  if (json_is_string(value))
    text_add(out, "%s", json_string_value(value));
  else if (json_is_integer(value))
    text_add(out, "%lld", (long long)json_integer_value(value));
  else if (json_is_real(value))
    text_add(out, "%.6g", json_real_value(value));
  else if (json_is_boolean(value))
    text_add(out, json_is_true(value) ? "yes" : "no");
  else if (is_flat(value)) {
    text_add(out, "[");
    for (size_t i = 0; i < json_array_size(value); i++) {
      if (i) text_add(out, ", ");
      add_scalar(out, json_array_get(value, i));
    }
    text_add(out, "]");
  } else
    text_add(out, "none");
}

static void add_value(text_buffer *out, const json_t *value, int indent) {
  const char *key;
  json_t *item;
  json_object_foreach((json_t *)value, key, item) {
    bool nested = json_is_object(item) || (json_is_array(item) && !is_flat(item));
    int pad = 22 - indent;
    if (nested)
      text_add(out, "%*s%s\n", indent, "", key);
    else
      text_add(out, "%*s%-*s ", indent, "", pad > 0 ? pad : 0, key);
    if (nested)
      add_value(out, item, indent + 2);
    else
      add_scalar(out, item), text_add(out, "\n");
  }
  int width = 0;
  for (size_t i = 0; i < json_array_size(value); i++) {
    const char *name = json_string_value(json_object_get(json_array_get(value, i), "name"));
    if (name && (int)strlen(name) > width) width = (int)strlen(name);
  }
  if (width < 21 - indent) width = 21 - indent;
  for (size_t i = 0; i < json_array_size(value); i++) { // things with a name, one line each
    json_t *row = json_array_get(value, i), *cell;
    const char *name = json_string_value(json_object_get(row, "name")), *column;
    text_add(out, "%*s%-*s ", indent, "", width, name ? name : "");
    json_object_foreach(row, column, cell) {
      if (!strcmp(column, "name")) continue;
      text_add(out, " ");
      add_scalar(out, cell);
      if (json_is_integer(cell)) text_add(out, " %s", column);
    }
    text_add(out, "\n");
  }
}

elbo_status json_describe(elbo_ctx *ctx, json_t *object, int json, char **out) {
  *out = NULL;
  if (object && json) *out = json_dumps(object, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
  if (object && !json) {
    text_buffer text = {0};
    add_value(&text, object, 0);
    *out = text_take(&text);
  }
  return *out ? ELBO_OK : fail(ctx, ELBO_ERROR_MEMORY, "out of memory for a description");
}
