#ifndef OPS_MATMUL_H
#define OPS_MATMUL_H

#include "ops/linear.h"

typedef struct matmul_sizes {
  int64_t batch, M, N, K;
  int64_t a_step, b_step; // elements from one product to the next; 0: shared
} matmul_sizes;
matmul_sizes matmul_sizes_of(const node *n);

elbo_status matmul_ref(elbo_ctx *ctx, const node *n, const void *const *in, void *const *out);

#endif
