// The config.json of a model directory: config structs through their tables, in the manner of diffusers' files.
#ifndef CORE_CONFIG_FILE_H
#define CORE_CONFIG_FILE_H

#include "core/config.h"

typedef struct config_file_key {
  const char *name, *value; // YAML: "null", "false", "4"
} config_file_key;

// How the files of one class differ from the table that reads them.
typedef struct config_file_form {
  const char *classes;            // "A|B": what "_class_name" may say; A is written
  const char *version;            // of diffusers, written as "_diffusers_version"; NULL: not written
  const char *nullable;           // "a|b": whole numbers that may be null, which is 0 here
  const config_file_key *absent;  // ends at a name of NULL: what a missing key stands for where that is not the table's default
  const config_file_key *neutral; // ends at a name of NULL: keys beyond the table, with the one value at which they change nothing
} config_file_form;

// Strict: keys that are neither in the table nor neutral are unknown, neutral ones at other values are refused by name. Messages carry file
// and line. Strings and lists live in the arena.
elbo_status config_file_read(elbo_ctx *ctx, arena *a, const config_table *table, const config_file_form *form, const char *path, void *out);
elbo_status config_file_write(elbo_ctx *ctx, const config_table *table, const config_file_form *form, const void *in, const char *path);

#endif
