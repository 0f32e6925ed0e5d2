// libyaml's events as a tree.
#include <yaml.h>

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/config.h"
#include "core/file.h"
#include "core/json.h"

enum { YAML_SIZE_MAX = 1 << 20, YAML_DEPTH_MAX = 32, MAP_KEYS_MAX = 1000, PATH_PARTS_MAX = 32 };

typedef struct reader {
  elbo_ctx *ctx;
  arena *arena;
  const char *file;
  bool has_lines; // false: messages name no line
  yaml_parser_t parser;
} reader;

elbo_status yaml_fail(elbo_ctx *ctx, const yaml_node *node, const char *path, const char *format, ...) {
  char text[1024];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  const char *colon = path && path[0] ? ": " : "";
  if (!node || !node->file) return fail(ctx, ELBO_ERROR_ARGUMENT, "%s%s%s", path ? path : "", colon, text);
  if (node->line <= 0) return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: %s%s%s", node->file, path ? path : "", colon, text);
  return fail(ctx, ELBO_ERROR_ARGUMENT, "%s:%d: %s%s%s", node->file, node->line, path ? path : "", colon, text);
}

static elbo_status fail_at(const reader *r, const yaml_mark_t *mark, const char *text) {
  if (!r->has_lines) return fail(r->ctx, ELBO_ERROR_FORMAT, "%s: %s", r->file, text);
  return fail(r->ctx, ELBO_ERROR_FORMAT, "%s:%zu: %s", r->file, mark->line + 1, text);
}

// The next event; the caller deletes it.
static elbo_status next_event(reader *r, yaml_event_t *event) {
  char text[256];
  if (yaml_parser_parse(&r->parser, event)) return ELBO_OK;
  memset(event, 0, sizeof *event);
  if (r->parser.error == YAML_MEMORY_ERROR) return fail_memory(r->ctx, 0, r->file);
  const char *context = r->parser.context ? r->parser.context : "";
  snprintf(text, sizeof text, "not valid YAML: %s%s%s", r->parser.problem ? r->parser.problem : "unknown", *context ? ", " : "", context);
  return fail_at(r, &r->parser.problem_mark, text);
}

static yaml_node *new_node(reader *r, yaml_kind kind, const yaml_mark_t *mark) {
  yaml_node *node = arena_alloc(r->arena, sizeof *node);
  if (!node) return NULL;
  node->kind = kind;
  node->file = r->file;
  node->line = r->has_lines ? (int)mark->line + 1 : 0;
  return node;
}

// Grows an arena array of `count` elements when it is full: its room is always 4 or the next power of two.
static bool grow_in_arena(arena *a, void *items_address, int64_t count, size_t element) {
  void *items;
  if (count != 0 && (count < 4 || (count & (count - 1)) != 0)) return true;
  void *grown = arena_alloc(a, (size_t)(count ? count * 2 : 4) * element);
  if (!grown) return false;
  memcpy(&items, items_address, sizeof items);
  if (count) memcpy(grown, items, (size_t)count * element);
  memcpy(items_address, &grown, sizeof grown);
  return true;
}

static elbo_status append(elbo_ctx *ctx, arena *a, yaml_node *parent, const char *key, int key_line, yaml_node *child) {
  bool ok = grow_in_arena(a, &parent->child, parent->count, sizeof *parent->child);
  if (parent->kind == YAML_MAP) {
    ok = ok && grow_in_arena(a, &parent->key, parent->count, sizeof *parent->key);
    ok = ok && grow_in_arena(a, &parent->key_line, parent->count, sizeof *parent->key_line);
  }
  if (!ok) return fail_memory(ctx, sizeof child, "a YAML tree");
  if (parent->kind == YAML_MAP) {
    parent->key[parent->count] = key;
    parent->key_line[parent->count] = key_line;
  }
  parent->child[parent->count++] = child;
  return ELBO_OK;
}

static elbo_status read_node(reader *r, const yaml_event_t *event, int depth, yaml_node **out);

static elbo_status read_scalar(reader *r, const yaml_event_t *event, yaml_node **out) {
  const char *value = (const char *)event->data.scalar.value;
  if (event->data.scalar.anchor) return fail_at(r, &event->start_mark, "anchors (&) are not supported");
  if (event->data.scalar.tag) return fail_at(r, &event->start_mark, "tags (!) are not supported");
  if (strlen(value) != event->data.scalar.length) return fail_at(r, &event->start_mark, "a NUL character");
  yaml_node *node = new_node(r, YAML_SCALAR, &event->start_mark);
  char *text = arena_string(r->arena, value);
  if (!node || !text) return fail_memory(r->ctx, event->data.scalar.length, "a YAML tree");
  node->text = text;
  node->quoted = event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
  *out = node;
  return ELBO_OK;
}

static elbo_status read_list(reader *r, const yaml_event_t *start, int depth, yaml_node **out) {
  elbo_status status = ELBO_OK;
  if (start->data.sequence_start.anchor) return fail_at(r, &start->start_mark, "anchors (&) are not supported");
  if (start->data.sequence_start.tag) return fail_at(r, &start->start_mark, "tags (!) are not supported");
  yaml_node *node = new_node(r, YAML_LIST, &start->start_mark);
  if (!node) return fail_memory(r->ctx, sizeof *node, "a YAML tree");
  for (bool more = true; more && status == ELBO_OK;) {
    yaml_event_t event;
    yaml_node *child;
    TRY(next_event(r, &event));
    if (event.type == YAML_SEQUENCE_END_EVENT) {
      more = false;
    } else {
      status = read_node(r, &event, depth + 1, &child);
      if (status == ELBO_OK) status = append(r->ctx, r->arena, node, NULL, 0, child);
    }
    yaml_event_delete(&event);
  }
  *out = node;
  return status;
}

// One key, whose event is at hand, and its value.
static elbo_status read_pair(reader *r, const yaml_event_t *event, int depth, yaml_node *map) {
  char text[192];
  yaml_node *key, *value;
  yaml_event_t behind;
  if (event->type != YAML_SCALAR_EVENT) return fail_at(r, &event->start_mark, "a map's key; expected plain text");
  TRY(read_scalar(r, event, &key));
  for (int64_t i = 0; i < map->count; i++) {
    if (strcmp(map->key[i], key->text) != 0) continue;
    snprintf(text, sizeof text, "%.100s: given twice (before in line %d)", key->text, map->key_line[i]);
    return fail_at(r, &event->start_mark, text);
  }
  if (map->count == MAP_KEYS_MAX) return fail_at(r, &event->start_mark, "more than 1,000 keys in one map");
  TRY(next_event(r, &behind));
  elbo_status status = read_node(r, &behind, depth + 1, &value);
  if (status == ELBO_OK) status = append(r->ctx, r->arena, map, key->text, key->line, value);
  yaml_event_delete(&behind);
  return status;
}

static elbo_status read_map(reader *r, const yaml_event_t *start, int depth, yaml_node **out) {
  elbo_status status = ELBO_OK;
  if (start->data.mapping_start.anchor) return fail_at(r, &start->start_mark, "anchors (&) are not supported");
  if (start->data.mapping_start.tag) return fail_at(r, &start->start_mark, "tags (!) are not supported");
  yaml_node *node = new_node(r, YAML_MAP, &start->start_mark);
  if (!node) return fail_memory(r->ctx, sizeof *node, "a YAML tree");
  for (bool more = true; more && status == ELBO_OK;) {
    yaml_event_t event;
    TRY(next_event(r, &event));
    if (event.type == YAML_MAPPING_END_EVENT) {
      more = false;
    } else {
      status = read_pair(r, &event, depth, node);
    }
    yaml_event_delete(&event);
  }
  *out = node;
  return status;
}

static elbo_status read_node(reader *r, const yaml_event_t *event, int depth, yaml_node **out) {
  if (depth > YAML_DEPTH_MAX) return fail_at(r, &event->start_mark, "nested deeper than 32");
  switch (event->type) {
  case YAML_SCALAR_EVENT: return read_scalar(r, event, out);
  case YAML_SEQUENCE_START_EVENT: return read_list(r, event, depth, out);
  case YAML_MAPPING_START_EVENT: return read_map(r, event, depth, out);
  case YAML_ALIAS_EVENT: return fail_at(r, &event->start_mark, "aliases (*) are not supported");
  default: return fail_at(r, &event->start_mark, "unexpected end of the document");
  }
}

// STREAM-START, at most one document, STREAM-END.
static elbo_status read_stream(reader *r, yaml_node **out) {
  elbo_status status = ELBO_OK;
  for (bool more = true; more && status == ELBO_OK;) {
    yaml_event_t event;
    TRY(next_event(r, &event));
    switch (event.type) {
    case YAML_STREAM_START_EVENT:
    case YAML_DOCUMENT_END_EVENT: break;
    case YAML_DOCUMENT_START_EVENT:
      if (*out) status = fail_at(r, &event.start_mark, "a second document; expected one");
      break;
    case YAML_STREAM_END_EVENT: more = false; break;
    default: status = read_node(r, &event, 1, out);
    }
    yaml_event_delete(&event);
  }
  return status;
}

static elbo_status parse_text(elbo_ctx *ctx, arena *a, const char *name, bool has_lines, const char *text, size_t size, yaml_node **out) {
  static const yaml_mark_t beginning;
  *out = NULL;
  reader r = {.ctx = ctx, .arena = a, .file = arena_string(a, name), .has_lines = has_lines};
  if (!r.file) return fail_memory(ctx, strlen(name), "a YAML tree");
  if (size > YAML_SIZE_MAX) return fail(ctx, ELBO_ERROR_FORMAT, "%s: too large; expected at most %d bytes", name, YAML_SIZE_MAX);
  if (!yaml_parser_initialize(&r.parser)) return fail_memory(ctx, sizeof r.parser, name);
  yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, size);
  elbo_status status = read_stream(&r, out);
  yaml_parser_delete(&r.parser);
  if (status == ELBO_OK && !*out) {
    *out = new_node(&r, YAML_SCALAR, &beginning);
    if (!*out) return fail_memory(ctx, sizeof **out, "a YAML tree");
    (*out)->text = "";
  }
  if (status != ELBO_OK) *out = NULL;
  return status;
}

elbo_status yaml_parse(elbo_ctx *ctx, arena *a, const char *name, const char *text, size_t size, yaml_node **out) {
  return parse_text(ctx, a, name, true, text, size, out);
}

elbo_status yaml_read(elbo_ctx *ctx, arena *a, const char *path, yaml_node **out) {
  char *text;
  size_t size;
  *out = NULL;
  TRY(file_read(ctx, path, YAML_SIZE_MAX, &text, &size));
  elbo_status status = yaml_parse(ctx, a, path, text, size, out);
  size_t length = strlen(path);
  if (status == ELBO_ERROR_FORMAT && length > 5 && !strcmp(path + length - 5, ".json")) {
    char reason[1024];
    json_t *json = NULL;
    snprintf(reason, sizeof reason, "%s", elbo_ctx_message(ctx));
    elbo_status as_json = json_parse(ctx, path, text, size, &json);
    json_decref(json);
    status = as_json == ELBO_OK ? fail(ctx, status, "%s", reason) : as_json; // where both complain, of JSON
  }
  free(text);
  return status;
}

static int64_t find_key(const yaml_node *map, const char *key) {
  if (map && map->kind == YAML_MAP)
    for (int64_t i = 0; i < map->count; i++)
      if (strcmp(map->key[i], key) == 0) return i;
  return -1;
}

const yaml_node *yaml_get(const yaml_node *map, const char *key) {
  int64_t i = find_key(map, key);
  return i < 0 ? NULL : map->child[i];
}

bool yaml_is_null(const yaml_node *node) {
  return !node || (node->kind == YAML_SCALAR && !node->quoted &&
                   (!node->text[0] || strcmp(node->text, "~") == 0 || strcmp(node->text, "null") == 0));
}

// Where a path's part lies in a node: a map's key, or a list's index when it is one. -1: nowhere.
static int64_t find_part(const yaml_node *node, const char *part) {
  if (!node || node->kind != YAML_LIST) return find_key(node, part);
  if (!part[0] || strspn(part, "0123456789") != strlen(part) || strlen(part) > 9) return -1;
  int64_t i = atoll(part);
  return i < node->count ? i : -1;
}

// Cuts "a.b.c" at its dots, in place; -1 when a part is empty or there are too many.
static int split_path(char *path, char *parts[PATH_PARTS_MAX]) {
  int n = 0;
  for (char *dot;; path = dot + 1) {
    dot = strchr(path, '.');
    if (dot) *dot = 0;
    if (!*path || n == PATH_PARTS_MAX) return -1;
    parts[n++] = path;
    if (!dot) return n;
  }
}

bool yaml_has(const yaml_node *root, const char *path) {
  char copy[512], *parts[PATH_PARTS_MAX];
  if (strlen(path) >= sizeof copy) return false;
  strcpy(copy, path);
  int n = split_path(copy, parts);
  for (int p = 0; p < n; p++) {
    int64_t i = find_part(root, parts[p]);
    if (i < 0) return false;
    root = root->child[i];
  }
  return n > 0;
}

static elbo_status no_such_part(elbo_ctx *ctx, const char *source, const yaml_node *at, const char *part, const char *assignment) {
  if (at->kind == YAML_SCALAR)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: '%s': nothing can be set below a single value, as '%s' would be", source, assignment, part);
  return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: '%s': '%s' in a list of %lld; expected an element's number, from 0", source, assignment, part,
              (long long)at->count);
}

elbo_status yaml_set(elbo_ctx *ctx, arena *a, const char *source, yaml_node *root, const char *assignment) {
  char *parts[PATH_PARTS_MAX];
  yaml_node *value, *at = root;
  const char *equals = strchr(assignment, '=');
  if (!equals) return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: '%s'; expected key=value", source, assignment);
  char *path = arena_printf(a, "%.*s", (int)(equals - assignment), assignment);
  source = arena_string(a, source);
  if (!path || !source) return fail_memory(ctx, strlen(assignment), "a setting");
  TRY(parse_text(ctx, a, source, false, equals + 1, strlen(equals + 1), &value));
  int n = split_path(path, parts);
  if (n < 0) return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: '%s'; expected key.path=value", source, assignment);
  for (int p = 0; p < n; p++) {
    int64_t i = find_part(at, parts[p]);
    if (yaml_is_null(at)) *at = (yaml_node){.kind = YAML_MAP, .file = source}; // "train:" with nothing behind it
    if (i < 0 && at->kind != YAML_MAP) return no_such_part(ctx, source, at, parts[p], assignment);
    if (p == n - 1) { // the value itself
      if (i < 0) return append(ctx, a, at, parts[p], 0, value);
      at->child[i] = value;
      return ELBO_OK;
    }
    if (i < 0) {
      yaml_node *map = arena_alloc(a, sizeof *map);
      if (!map) return fail_memory(ctx, sizeof *map, "a setting");
      *map = (yaml_node){.kind = YAML_MAP, .file = source};
      TRY(append(ctx, a, at, parts[p], 0, map));
      i = at->count - 1;
    }
    at = at->child[i];
  }
  return ELBO_OK;
}

elbo_status yaml_override(elbo_ctx *ctx, arena *a, yaml_node *root, const char *assignment) {
  return yaml_set(ctx, a, "command line", root, assignment);
}
