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

static void write_value(const config_field *f, const char *in, text_buffer *out) {
  char buffer[64], number[NUMBER_TEXT];
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
  case CONFIG_TYPE_INT_LIST: {
    const config_ints *list = (const config_ints *)(const void *)in;
    for (int64_t i = 0; i < list->count; i++) text_add(out, "%s%lld", i ? ", " : "[", (long long)list->at[i]);
    text_add(out, list->count ? "]" : "[]");
    break;
  }
  case CONFIG_TYPE_FLOAT_LIST: {
    const config_floats *list = (const config_floats *)(const void *)in;
    for (int64_t i = 0; i < list->count; i++) text_add(out, "%s%s", i ? ", " : "[", number_text(list->at[i], number));
    text_add(out, list->count ? "]" : "[]");
    break;
  }
  case CONFIG_TYPE_SECTION: break;
  }
}

void config_write(const config_table *table, const void *in, int indent, bool comments, text_buffer *out) {
  for (int i = 0; i < table->n_fields; i++) {
    const config_field *f = &table->fields[i];
    const char *at = (const char *)in + f->offset;
    text_add(out, "%*s%s:", indent, "", f->name);
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
    if (f->type == CONFIG_TYPE_SECTION) {
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
  case CONFIG_TYPE_SECTION: break;
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
    text_add(out, "| `%s` | %s | ", full, type_text(f->type));
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
