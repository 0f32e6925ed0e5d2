// JSON through jansson, with the house's errors. Documents read from files: at most `limit` bytes, depth 64.
#ifndef CORE_JSON_H
#define CORE_JSON_H

#include <jansson.h>

#include "core/error.h"

elbo_status json_read(elbo_ctx *ctx, const char *path, size_t limit, json_t **out);
// The same from memory; `name` stands in messages. Keys that occur twice are refused.
elbo_status json_parse(elbo_ctx *ctx, const char *name, const char *text, size_t size, json_t **out);
elbo_status json_write(elbo_ctx *ctx, const char *path, const json_t *json); // indented, sorted keys, atomically
// Numbers that are not finite become null; jansson refuses them.
json_t *json_number(double value);

#endif
