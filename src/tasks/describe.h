// Descriptions: JSON objects that can also be read.
#ifndef TASKS_DESCRIBE_H
#define TASKS_DESCRIBE_H

#include "core/json.h"

// `object` (may be NULL: out of memory) as JSON text or as indented lines. Owned by the caller: free().
elbo_status json_describe(elbo_ctx *ctx, json_t *object, int json, char **out);

#endif
