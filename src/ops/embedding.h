// embedding and its gradient.
#ifndef OPS_EMBEDDING_H
#define OPS_EMBEDDING_H

#include "ops/kernel_util.h"

// embedding: in index int32 (...), table (V,D); out (...,D)
// embedding_grad: in index int32 (...), dy (...,D); out dtable (V,D), rows that several indices name summed in their order
typedef struct embedding_attr {
  int64_t rows; // V; of embedding_grad
} embedding_attr;

// An error that names position, index and the table's size when an index lies outside of 0..rows-1.
static inline elbo_status embedding_check(elbo_ctx *ctx, const int32_t *index, int64_t count, int64_t rows) {
  for (int64_t i = 0; i < count; i++)
    if (index[i] < 0 || index[i] >= rows)
      return fail(ctx, ELBO_ERROR_ARGUMENT, "embedding: index %d at position %lld is outside of the table's %lld rows", (int)index[i],
                  (long long)i, (long long)rows);
  return ELBO_OK;
}

OP_REFERENCE(embedding);
OP_REFERENCE(embedding_grad);

#endif
