// Trading time for memory: what is cheap to compute again need not be kept from the forward to the backward pass.
#ifndef GRAPH_RECOMPUTE_H
#define GRAPH_RECOMPUTE_H

#include "backend/backend.h"

// Rewrites *graph until its plan fits into `limit` bytes of arena; *recomputed: operations that run twice. ELBO_ERROR_MEMORY with the least
// figure that was reached when it cannot be done.
elbo_status recompute_to_fit(compile_env *env, const backend *b, int64_t limit, int n, elbo_tensor **tensors, const unsigned char *external,
                             bool updates, elbo_graph **graph, int *recomputed);

#endif
