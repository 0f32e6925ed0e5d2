// Fusion for the CPU backend: contraction + bias + residual + activation, norm + activation, chains of element-wise operations with sums at
// their ends. Made only here, after differentiation.
#ifndef GRAPH_FUSE_H
#define GRAPH_FUSE_H

#include "backend/backend.h"

elbo_status fuse_graph(compile_env *env, const elbo_graph *from, int n, elbo_tensor **tensors, bool updates, elbo_graph **to);

#endif
