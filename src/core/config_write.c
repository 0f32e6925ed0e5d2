// Configs as text: YAML, the rows of the key reference, names.
#include "core/config.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/number.h"

void text_add(text_buffer *t, const char *format, ...) {
  va_list args, again;
  if (t->failed) return;
  va_start(args, format);
  va_copy(again, args);
  int n = vsnprintf(NULL, 0, format, args);
  size_t need = t->length + (n > 0 ? (size_t)n : 0) + 1;
  if (n < 0) t->failed = true;
  if (!t->failed && need > t->capacity) {
    size_t capacity = need < 256 ? 256 : need * 2;
    char *grown = realloc(t->at, capacity);
    if (grown) {
      t->at = grown;
      t->capacity = capacity;
    } else {
      t->failed = true;
    }
  }
  if (!t->failed) {
    vsnprintf(t->at + t->length, (size_t)n + 1, format, again);
    t->length += (size_t)n;
  }
  va_end(again);
  va_end(args);
}

char *text_take(text_buffer *t) {
  if (!t->at) text_add(t, "%s", "");
  char *text = t->failed ? NULL : t->at;
  if (t->failed) free(t->at);
  *t = (text_buffer){0};
  return text;
}

const char *config_enum_name(const char *names, int value, char *buffer, size_t size) {
  if (value < 0) return NULL;
  for (; value > 0; value--) {
    names = strchr(names, '|');
    if (!names) return NULL;
    names++;
  }
  snprintf(buffer, size, "%.*s", (int)strcspn(names, "|"), names);
  return buffer;
}

// Plain where no reader could take it for something else, in double quotes otherwise.
static void write_string(const char *text, text_buffer *out) {
  static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./";
  static const char *const words[] = {"true", "false", "null", "yes", "no", "on", "off"};
  double number;
  bool quote = !text[0] || strspn(text, plain) != strlen(text) || strchr("-.", text[0]) || number_parse(text, &number);
  for (size_t i = 0; i < sizeof words / sizeof *words; i++) quote = quote || strcmp(text, words[i]) == 0;
  if (!quote) {
    text_add(out, "%s", text);
    return;
  }
  text_add(out, "\"");
  for (const char *c = text; *c; c++) {
    if (*c == '"' || *c == '\\') {
      text_add(out, "\\%c", *c);
    } else if (*c == '\n') {
      text_add(out, "\\n");
    } else if ((unsigned char)*c < 32 || *c == 127) {
      text_add(out, "\\x%02x", (unsigned char)*c);
    } else {
      text_add(out, "%c", *c);
    }
  }
  text_add(out, "\"");
}

bool config_is_null(const config_field *f, const void *value) {
  if (!(f->flags & CONFIG_NULL)) return false;
  switch (f->type) {
  case CONFIG_TYPE_INT:
  case CONFIG_TYPE_BYTES: return *(const int64_t *)value == 0;
  case CONFIG_TYPE_FLOAT: return *(const double *)value == 0;
  case CONFIG_TYPE_STRING: return !*(const char *const *)value;
  case CONFIG_TYPE_INT_LIST: return ((const config_ints *)value)->count == 0;
  case CONFIG_TYPE_FLOAT_LIST: return ((const config_floats *)value)->count == 0;
  case CONFIG_TYPE_BOOL_LIST: return ((const config_bools *)value)->count == 0;
  case CONFIG_TYPE_STRING_LIST: return ((const config_strings *)value)->count == 0;
  case CONFIG_TYPE_INT_LISTS: return ((const config_int_lists *)value)->count == 0;
  case CONFIG_TYPE_BOOL:
  case CONFIG_TYPE_ENUM:
  case CONFIG_TYPE_SECTION:
  case CONFIG_TYPE_MAP: break;
  }
  return false;
}

// "[a, b]", or "a" where a single value stands for a list of one.
static void open_list(bool bare, text_buffer *out) { text_add(out, bare ? "" : "["); }
static void close_list(bool bare, text_buffer *out) { text_add(out, bare ? "" : "]"); }

static void write_ints(const config_ints *list, bool single, text_buffer *out) {
  bool bare = single && list->count == 1;
  open_list(bare, out);
  for (int64_t i = 0; i < list->count; i++) text_add(out, "%s%lld", i ? ", " : "", (long long)list->at[i]);
  close_list(bare, out);
}

static void write_list(const config_field *f, const void *in, text_buffer *out) {
  char number[NUMBER_TEXT];
  bool single = f->flags & CONFIG_SINGLE;
  if (f->type == CONFIG_TYPE_INT_LIST) {
    write_ints(in, single, out);
    return;
  }
  int64_t count = f->type == CONFIG_TYPE_FLOAT_LIST    ? ((const config_floats *)in)->count
                  : f->type == CONFIG_TYPE_BOOL_LIST   ? ((const config_bools *)in)->count
                  : f->type == CONFIG_TYPE_STRING_LIST ? ((const config_strings *)in)->count
                                                       : ((const config_int_lists *)in)->count;
  bool bare = single && count == 1 && (f->type != CONFIG_TYPE_INT_LISTS || ((const config_int_lists *)in)->at[0].count == 1);
  open_list(bare, out);
  for (int64_t i = 0; i < count; i++) {
    if (i) text_add(out, ", ");
    if (f->type == CONFIG_TYPE_FLOAT_LIST) text_add(out, "%s", number_text(((const config_floats *)in)->at[i], number));
    if (f->type == CONFIG_TYPE_BOOL_LIST) text_add(out, "%s", ((const config_bools *)in)->at[i] ? "true" : "false");
    if (f->type == CONFIG_TYPE_STRING_LIST) write_string(((const config_strings *)in)->at[i], out);
    if (f->type == CONFIG_TYPE_INT_LISTS) write_ints(&((const config_int_lists *)in)->at[i], true, out);
  }
  close_list(bare, out);
}

static void write_value(const config_field *f, const char *in, text_buffer *out) {
  char buffer[64], number[NUMBER_TEXT];
  if (config_is_null(f, in)) {
    text_add(out, "null");
    return;
  }
  switch (f->type) {
  case CONFIG_TYPE_INT:
  case CONFIG_TYPE_BYTES: text_add(out, "%lld", (long long)*(const int64_t *)(const void *)in); break;
  case CONFIG_TYPE_FLOAT: text_add(out, "%s", number_text(*(const double *)(const void *)in, number)); break;
  case CONFIG_TYPE_BOOL: text_add(out, "%s", *(const bool *)in ? "true" : "false"); break;
  case CONFIG_TYPE_STRING: {
    const char *text = *(const char *const *)(const void *)in;
    write_string(text ? text : "", out);
    break;
  }
  case CONFIG_TYPE_ENUM: {
    const char *name = config_enum_name(f->names, *(const int *)(const void *)in, buffer, sizeof buffer);
    text_add(out, "%s", name ? name : "?");
    break;
  }
  case CONFIG_TYPE_INT_LIST:
  case CONFIG_TYPE_FLOAT_LIST:
  case CONFIG_TYPE_BOOL_LIST:
  case CONFIG_TYPE_STRING_LIST:
  case CONFIG_TYPE_INT_LISTS: write_list(f, in, out); break;
  case CONFIG_TYPE_SECTION:
  case CONFIG_TYPE_MAP: break;
  }
}

static void write_map(const config_field *f, const config_map *map, int indent, bool comments, text_buffer *out) {
  text_add(out, map->count ? "\n" : " {}\n");
  for (int64_t i = 0; i < map->count; i++) {
    text_add(out, "%*s", indent, "");
    write_string(map->name[i], out);
    text_add(out, ":\n");
    config_write(f->section, (const char *)map->at + (size_t)i * f->section->struct_size, indent + 2, comments, out);
  }
}

void config_write(const config_table *table, const void *in, int indent, bool comments, text_buffer *out) {
  for (int i = 0; i < table->n_fields; i++) {
    const config_field *f = &table->fields[i];
    const char *at = (const char *)in + f->offset;
    text_add(out, "%*s%s:", indent, "", f->name);
    if (f->type == CONFIG_TYPE_MAP) {
      write_map(f, (const config_map *)(const void *)at, indent + 2, comments, out);
      continue;
    }
    if (f->type == CONFIG_TYPE_SECTION) {
      text_add(out, f->section->n_fields ? "\n" : " {}\n");
      config_write(f->section, at, indent + 2, comments, out);
      continue;
    }
    text_add(out, " ");
    write_value(f, at, out);
    if (comments && f->help && f->help[0]) {
      text_add(out, "  # %s", f->help);
      if (f->unit && f->unit[0]) text_add(out, " (%s)", f->unit);
    }
    text_add(out, "\n");
  }
}

bool config_value_text(const config_table *table, const void *in, const char *path, text_buffer *out) {
  const char *dot = strchr(path, '.');
  size_t n = dot ? (size_t)(dot - path) : strlen(path);
  for (int i = 0; i < table->n_fields; i++) {
    const config_field *f = &table->fields[i];
    if (strncmp(f->name, path, n) != 0 || f->name[n]) continue;
    const char *at = (const char *)in + f->offset;
    if (f->type == CONFIG_TYPE_SECTION && dot) return config_value_text(f->section, at, dot + 1, out);
    if (dot) return false;
    if (f->type == CONFIG_TYPE_MAP) {
      write_map(f, (const config_map *)(const void *)at, 0, false, out);
    } else if (f->type == CONFIG_TYPE_SECTION) {
      config_write(f->section, at, 0, false, out);
    } else if (f->type == CONFIG_TYPE_STRING) { // bare
      const char *text = *(const char *const *)(const void *)at;
      text_add(out, "%s", text ? text : "");
    } else {
      write_value(f, at, out);
    }
    return true;
  }
  return false;
}

static const char *type_text(config_type type) {
  switch (type) {
  case CONFIG_TYPE_INT: return "whole number";
  case CONFIG_TYPE_FLOAT: return "number";
  case CONFIG_TYPE_BOOL: return "true or false";
  case CONFIG_TYPE_STRING: return "text";
  case CONFIG_TYPE_ENUM: return "name";
  case CONFIG_TYPE_BYTES: return "size";
  case CONFIG_TYPE_INT_LIST: return "list of whole numbers";
  case CONFIG_TYPE_FLOAT_LIST: return "list of numbers";
  case CONFIG_TYPE_BOOL_LIST: return "list of true and false";
  case CONFIG_TYPE_STRING_LIST: return "list of texts";
  case CONFIG_TYPE_INT_LISTS: return "list of whole numbers or lists";
  case CONFIG_TYPE_SECTION:
  case CONFIG_TYPE_MAP: break;
  }
  return "";
}

// In a table's cell a bar would end it.
static void add_cell(const char *text, text_buffer *out) {
  for (; *text; text++) text_add(out, *text == '|' ? "\\%c" : "%c", *text);
}

static void add_range(const config_field *f, text_buffer *out) {
  char low[NUMBER_TEXT], high[NUMBER_TEXT], name[64];
  switch (f->type) {
  case CONFIG_TYPE_INT:
  case CONFIG_TYPE_FLOAT:
  case CONFIG_TYPE_INT_LIST:
  case CONFIG_TYPE_INT_LISTS:
  case CONFIG_TYPE_FLOAT_LIST: text_add(out, "%s to %s", number_text(f->min, low), number_text(f->max, high)); break;
  case CONFIG_TYPE_ENUM:
    for (int v = 0; config_enum_name(f->names, v, name, sizeof name); v++) text_add(out, "%s`%s`", v ? ", " : "", name);
    break;
  default: break;
  }
}

void config_markdown(const config_table *table, const char *path, text_buffer *out) {
  char full[256];
  for (int i = 0; i < table->n_fields; i++) {
    const config_field *f = &table->fields[i];
    snprintf(full, sizeof full, "%s%s%s", path, path[0] ? "." : "", f->name);
    if (f->type == CONFIG_TYPE_SECTION) {
      config_markdown(f->section, full, out);
      continue;
    }
    if (f->type == CONFIG_TYPE_MAP) {
      text_add(out, "| `%s` | map | `{}` | names | ", full);
      add_cell(f->help, out);
      text_add(out, " |\n");
      snprintf(full + strlen(full), sizeof full - strlen(full), ".NAME");
      config_markdown(f->section, full, out);
      continue;
    }
    text_add(out, "| `%s` | %s%s%s | ", full, f->flags & CONFIG_SINGLE ? "single or " : "", type_text(f->type),
             f->flags & CONFIG_NULL ? ", or null" : "");
    if (!f->default_text) {
      text_add(out, "required");
    } else if (f->default_text[0]) {
      text_add(out, "`");
      add_cell(f->default_text, out);
      text_add(out, "`");
    }
    text_add(out, " | ");
    add_range(f, out);
    text_add(out, " | ");
    add_cell(f->help ? f->help : "", out);
    if (f->unit && f->unit[0]) text_add(out, " (%s)", f->unit);
    text_add(out, " |\n");
  }
}
