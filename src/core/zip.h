// The members of a zip file in memory, by name. Members that were stored as they are (all that PyTorch writes) are given out in place; what
// is compressed is listed, and refused when it is asked for. Hardened: every offset and length is checked, names are relative paths without
// "..", and none occurs twice. zip64 is read.
#ifndef CORE_ZIP_H
#define CORE_ZIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

typedef struct zip zip;

typedef struct zip_member {
  const char *name;
  const void *data; // in the file's bytes; NULL: compressed
  size_t size;
} zip_member;

// `bytes` are borrowed until zip_close; `path` stands in messages.
elbo_status zip_open(elbo_ctx *ctx, const char *path, const void *bytes, size_t size, zip **out);
void zip_close(zip **z);
int64_t zip_count(const zip *z);
const zip_member *zip_at(const zip *z, int64_t i);                                  // in name order
const zip_member *zip_find(const zip *z, const char *name);                         // NULL when absent
elbo_status zip_check_stored(elbo_ctx *ctx, const char *path, const zip_member *m); // fails for a compressed member

#endif
