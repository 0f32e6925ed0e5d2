// safetensors: 8 bytes of little-endian header length, a JSON header, the data. Reader hardened: every length and offset is checked before
// use; header at most 100 MiB; tensors that overlap, leave gaps, lie outside the file or have another length than their shape are refused
// by name.
#ifndef CORE_SAFETENSORS_H
#define CORE_SAFETENSORS_H

#include <elbo/array.h>

#include "core/error.h"

typedef struct safetensors safetensors; // an open, mapped file: it must not be cut short by others meanwhile

typedef struct tensor_view {
  const char *name; // borrowed from the file
  elbo_dtype dtype;
  int rank;
  int64_t dim[8];   // safetensors knows no limit; more than 8 are refused
  const void *data; // in the mapping; may be unaligned for its type
  size_t bytes;
} tensor_view;

elbo_status safetensors_open(elbo_ctx *ctx, const char *path, safetensors **out);
void safetensors_close(safetensors **file);
int64_t safetensors_count(const safetensors *file);
const tensor_view *safetensors_at(const safetensors *file, int64_t i); // in name order
const tensor_view *safetensors_find(const safetensors *file, const char *name);
const char *safetensors_metadata(const safetensors *file, const char *key); // "__metadata__"; NULL when absent

// Writes (atomically, fsynced) n tensors, given in any order: the header in name order, the data with the larger element types first (so
// that all are aligned), then in name order, from a multiple of 64 bytes on; metadata: n_meta pairs of strings.
elbo_status safetensors_write(elbo_ctx *ctx, const char *path, int64_t n, const tensor_view *tensors, int n_meta,
                              const char *const *meta_pairs);

#endif
