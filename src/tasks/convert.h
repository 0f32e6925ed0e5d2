// What conversions share: configs checked, directories that appear whole.
#ifndef TASKS_CONVERT_H
#define TASKS_CONVERT_H

#include <elbo/convert.h>
#include <limits.h>

elbo_status convert_check_config(elbo_ctx *ctx, const elbo_convert_config *c);

// ELBO_ERROR_IO unless it is new or empty.
elbo_status directory_check_free(elbo_ctx *ctx, const char *out);

// A directory that is made under another name, and has its own when it is whole.
typedef struct staged_directory {
  const char *out; // borrowed
  char path[PATH_MAX];
} staged_directory;
elbo_status staged_directory_open(elbo_ctx *ctx, const char *out, staged_directory *s);
// Renames it after an ELBO_OK, else removes it; returns what went wrong first.
elbo_status staged_directory_close(elbo_ctx *ctx, const staged_directory *s, elbo_status status);

#endif
