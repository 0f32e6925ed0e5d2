// Config structs and the one table each has: it drives parsing, bounds, help, documentation and the written file.
//
//   typedef struct train_config { int64_t steps; double learning_rate; int optimizer; } train_config;
//   static const config_field train_fields[] = {
//     CONFIG_INT(train_config, steps, 1, 1e12, "3000", "steps", "optimiser steps"),
//     CONFIG_FLOAT(train_config, learning_rate, 0, 10, "1e-3", "", "peak learning rate"),
//     CONFIG_ENUM(train_config, optimizer, "adamw", "sgd|adam|adamw|rmsprop", "update rule"),
//   };
//   const config_table train_table = CONFIG_TABLE("train", train_config, train_fields, "how it is trained");
#ifndef CORE_CONFIG_H
#define CORE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/memory.h"

// --- a YAML document as a tree that remembers where everything stood ---
typedef enum yaml_kind { YAML_SCALAR, YAML_LIST, YAML_MAP } yaml_kind;
typedef struct yaml_node yaml_node;
struct yaml_node {
  yaml_kind kind;
  const char *file; // "recipes/vae.yaml" or "command line"
  int line;         // 1-based; 0: a place without lines
  const char *text; // scalars
  bool quoted;
  int64_t count;
  const char **key;  // maps
  int *key_line;     // maps
  yaml_node **child; // maps and lists
};

// Trees live in the arena. A file: at most 1 MiB, depth 32, 1,000 keys a map, none twice; anchors, tags and several documents are refused.
// An empty document is an empty scalar, as is a key with nothing behind it.
elbo_status yaml_read(elbo_ctx *ctx, arena *a, const char *path, yaml_node **out);
elbo_status yaml_parse(elbo_ctx *ctx, arena *a, const char *name, const char *text, size_t size, yaml_node **out);
// Sets key.path=value (value is YAML flow: "[1, 2]", "{a: 1}", "3"), making maps on the way. A number in the path is an index into a list:
// "stages.0.train.steps=5".
elbo_status yaml_override(elbo_ctx *ctx, arena *a, yaml_node *root, const char *assignment);
// The same from elsewhere than the command line; `source` stands in messages.
elbo_status yaml_set(elbo_ctx *ctx, arena *a, const char *source, yaml_node *root, const char *assignment);
const yaml_node *yaml_get(const yaml_node *map, const char *key); // NULL when absent, or when map is NULL or no map
bool yaml_is_null(const yaml_node *node);                         // NULL, nothing, ~ or null
// Fails with "FILE:LINE: PATH: message".
elbo_status yaml_fail(elbo_ctx *ctx, const yaml_node *node, const char *path, const char *format, ...) ELBO_PRINTF(4, 5);

// --- tables ---
typedef enum config_type {
  CONFIG_TYPE_INT,         // int64_t; "60_000", "1e6" accepted when whole
  CONFIG_TYPE_FLOAT,       // double
  CONFIG_TYPE_BOOL,        // bool
  CONFIG_TYPE_STRING,      // const char *, in the arena
  CONFIG_TYPE_ENUM,        // int, index into the names
  CONFIG_TYPE_BYTES,       // int64_t; "1.5GiB", "200MB", "1000"
  CONFIG_TYPE_INT_LIST,    // config_ints
  CONFIG_TYPE_FLOAT_LIST,  // config_floats
  CONFIG_TYPE_BOOL_LIST,   // config_bools
  CONFIG_TYPE_STRING_LIST, // config_strings, in the arena
  CONFIG_TYPE_INT_LISTS,   // config_int_lists; an element may be a single number, which is a list of one
  CONFIG_TYPE_SECTION,     // a nested struct with its own table
  CONFIG_TYPE_MAP          // config_map: structs of one table by names of the user's choosing
} config_type;

// What a field takes beside its type's own values.
enum {
  CONFIG_SINGLE = 1, // of a list: a single value, which is a list of one; a list of one is written so
  CONFIG_NULL = 2    // null, which is the type's zero (0, false, an empty list); the zero is written so, but for false
};

typedef struct config_ints {
  int64_t count;
  const int64_t *at;
} config_ints;
typedef struct config_floats {
  int64_t count;
  const double *at;
} config_floats;

typedef struct config_bools {
  int64_t count;
  const bool *at;
} config_bools;
typedef struct config_strings {
  int64_t count;
  const char *const *at;
} config_strings;
typedef struct config_int_lists {
  int64_t count;
  const config_ints *at;
} config_int_lists;

// Item i is at `at` + i * struct_size of the field's table; in the order of the file.
typedef struct config_map {
  int64_t count;
  const char *const *name;
  void *at;
} config_map;

typedef struct config_table config_table;
typedef struct config_field {
  const char *name;
  config_type type;
  size_t offset;
  double min, max;          // of numbers, of every list element
  const char *default_text; // YAML; NULL: required
  const char *unit;         // "steps", "nats", ""
  const char *help;         // one line
  const char *names;        // enums: "a|b|c"; one of them may be "null"
  const config_table *section;
  unsigned flags; // CONFIG_SINGLE, CONFIG_NULL
} config_field;
struct config_table {
  const char *name;
  size_t struct_size;
  const config_field *fields;
  int n_fields;
  const char *help;
};

#define CONFIG_INT(S, F, MIN, MAX, DEF, UNIT, HELP) \
  { #F, CONFIG_TYPE_INT, offsetof(S, F), MIN, MAX, DEF, UNIT, HELP, NULL, NULL, 0 }
#define CONFIG_FLOAT(S, F, MIN, MAX, DEF, UNIT, HELP) \
  { #F, CONFIG_TYPE_FLOAT, offsetof(S, F), MIN, MAX, DEF, UNIT, HELP, NULL, NULL, 0 }
#define CONFIG_BOOL(S, F, DEF, HELP) \
  { #F, CONFIG_TYPE_BOOL, offsetof(S, F), 0, 1, DEF, "", HELP, NULL, NULL, 0 }
#define CONFIG_STRING(S, F, DEF, HELP) \
  { #F, CONFIG_TYPE_STRING, offsetof(S, F), 0, 0, DEF, "", HELP, NULL, NULL, 0 }
#define CONFIG_ENUM(S, F, DEF, NAMES, HELP) \
  { #F, CONFIG_TYPE_ENUM, offsetof(S, F), 0, 0, DEF, "", HELP, NAMES, NULL, 0 }
#define CONFIG_BYTES(S, F, DEF, HELP) \
  { #F, CONFIG_TYPE_BYTES, offsetof(S, F), 0, 9e18, DEF, "bytes", HELP, NULL, NULL, 0 }
#define CONFIG_INTS(S, F, MIN, MAX, DEF, UNIT, HELP) \
  { #F, CONFIG_TYPE_INT_LIST, offsetof(S, F), MIN, MAX, DEF, UNIT, HELP, NULL, NULL, 0 }
#define CONFIG_FLOATS(S, F, MIN, MAX, DEF, UNIT, HELP) \
  { #F, CONFIG_TYPE_FLOAT_LIST, offsetof(S, F), MIN, MAX, DEF, UNIT, HELP, NULL, NULL, 0 }
#define CONFIG_FLOATS_AS(S, F, MIN, MAX, DEF, UNIT, FLAGS, HELP) \
  { #F, CONFIG_TYPE_FLOAT_LIST, offsetof(S, F), MIN, MAX, DEF, UNIT, HELP, NULL, NULL, FLAGS }
#define CONFIG_INT_OR_NULL(S, F, MIN, MAX, UNIT, HELP) \
  { #F, CONFIG_TYPE_INT, offsetof(S, F), MIN, MAX, "null", UNIT, HELP, NULL, NULL, CONFIG_NULL }
#define CONFIG_BOOL_OR_NULL(S, F, HELP) \
  { #F, CONFIG_TYPE_BOOL, offsetof(S, F), 0, 1, "false", "", HELP, NULL, NULL, CONFIG_NULL }
#define CONFIG_INTS_AS(S, F, MIN, MAX, DEF, UNIT, FLAGS, HELP) \
  { #F, CONFIG_TYPE_INT_LIST, offsetof(S, F), MIN, MAX, DEF, UNIT, HELP, NULL, NULL, FLAGS }
#define CONFIG_BOOLS_AS(S, F, DEF, FLAGS, HELP) \
  { #F, CONFIG_TYPE_BOOL_LIST, offsetof(S, F), 0, 1, DEF, "", HELP, NULL, NULL, FLAGS }
#define CONFIG_STRINGS(S, F, DEF, HELP) \
  { #F, CONFIG_TYPE_STRING_LIST, offsetof(S, F), 0, 0, DEF, "", HELP, NULL, NULL, 0 }
#define CONFIG_INT_LISTS_AS(S, F, MIN, MAX, DEF, UNIT, FLAGS, HELP) \
  { #F, CONFIG_TYPE_INT_LISTS, offsetof(S, F), MIN, MAX, DEF, UNIT, HELP, NULL, NULL, FLAGS }
#define CONFIG_SECTION(S, F, TABLE) \
  { #F, CONFIG_TYPE_SECTION, offsetof(S, F), 0, 0, "{}", "", "", NULL, TABLE, 0 }
#define CONFIG_MAP(S, F, TABLE, HELP) \
  { #F, CONFIG_TYPE_MAP, offsetof(S, F), 0, 0, "{}", "", HELP, NULL, TABLE, 0 }
#define CONFIG_TABLE(NAME, S, FIELDS, HELP) \
  { NAME, sizeof(S), FIELDS, (int)(sizeof(FIELDS) / sizeof((FIELDS)[0])), HELP }

// Fills `out` (table->struct_size bytes) from `map` (NULL: all defaults). Unknown keys (nearest valid one suggested), wrong types and
// values out of range are errors "FILE:LINE: train.stepz: unknown key; did you mean 'steps'?". Strings and lists live in the arena.
elbo_status config_load(elbo_ctx *ctx, arena *a, const config_table *table, const yaml_node *map, const char *path, void *out);
// Same from "key=value" strings ("holdout=5000").
elbo_status config_load_options(elbo_ctx *ctx, arena *a, const config_table *table, int n, const char *const *options, void *out);
// The name in "a|b|c" that `text` may have been meant to be, in the buffer; NULL when none is near, or when it is one of them.
const char *config_nearest_name(const char *names, const char *text, char *buffer, size_t size);
// Whether the tree named this key (as opposed to the default having been taken): "train.steps"
bool yaml_has(const yaml_node *root, const char *path);

// A growing text.
typedef struct text_buffer {
  char *at;
  size_t length, capacity;
  bool failed;
} text_buffer;
void text_add(text_buffer *t, const char *format, ...) ELBO_PRINTF(2, 3);
char *text_take(text_buffer *t); // NUL-terminated, caller frees; NULL when memory ran out

// The struct as YAML, every key, two spaces an indent, `# help` behind leaf keys when comments is set. Reading it back gives the same
// struct.
void config_write(const config_table *table, const void *in, int indent, bool comments, text_buffer *out);
// The value of one key ("latent.dim") as text; strings bare, sections as YAML. false: no such key.
bool config_value_text(const config_table *table, const void *in, const char *path, text_buffer *out);
// "| key | type | default | range | meaning |" rows, nested keys with their path.
void config_markdown(const config_table *table, const char *path, text_buffer *out);
// Whether a field that takes null has it.
bool config_is_null(const config_field *f, const void *value);
// The name of an enum field's value: config_enum_name("a|b|c", 1, buffer, size) -> "b"; NULL when there is no such value.
const char *config_enum_name(const char *names, int value, char *buffer, size_t size);

#endif
