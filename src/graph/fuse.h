// Fusion, of the patterns that a backend declares. Made only here, after differentiation: upsampling with its convolution, concatenations
// with their readers, norms and contractions with their activations, then chains of element-wise operations, with the sums at their ends,
// into programs that pass once over memory; last, norms with the convolutions that read them.
#ifndef GRAPH_FUSE_H
#define GRAPH_FUSE_H

#include "backend/backend.h"

// The whole pass: makes a new graph of a cleaned one, which it destroys. `tensors`: of `from` on entry, what stands for them in *to
// afterwards.
elbo_status fuse_graph(const compile_env *env, const backend *b, elbo_graph *from, int n, elbo_tensor **tensors, bool updates,
                       elbo_graph **to);

// Its parts, of the same form.
elbo_status fuse_upsampling(elbo_ctx *ctx, const elbo_graph *from, int n, elbo_tensor **tensors, bool updates, elbo_graph **to);
elbo_status fuse_norms(elbo_ctx *ctx, const elbo_graph *from, int n, elbo_tensor **tensors, bool updates, elbo_graph **to);
elbo_status fuse_concats(elbo_ctx *ctx, const elbo_graph *from, int n, elbo_tensor **tensors, bool updates, elbo_graph **to);
elbo_status fuse_contractions(elbo_ctx *ctx, const elbo_graph *from, int n, elbo_tensor **tensors, bool updates, elbo_graph **to);
elbo_status fuse_norm_gradients(elbo_ctx *ctx, const elbo_graph *from, int n, elbo_tensor **tensors, bool updates, elbo_graph **to);
elbo_status fuse_elementwise(elbo_ctx *ctx, const elbo_graph *from, int n, elbo_tensor **tensors, bool updates, elbo_graph **to);
// Of the same form, but asks the backend.
elbo_status fuse_norm_reads(const compile_env *env, const backend *b, const elbo_graph *from, int n, elbo_tensor **tensors, bool updates,
                            elbo_graph **to);

// By tensor id: how many nodes read it, plus one for each time it stands in `tensors` or in a state update. Freed by the caller.
elbo_status count_uses(elbo_ctx *ctx, const elbo_graph *g, int n, elbo_tensor *const *tensors, bool updates, int **uses);

#endif
