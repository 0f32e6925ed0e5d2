// The linear layer's references and the two helpers that other products share.
#ifndef OPS_LINEAR_H
#define OPS_LINEAR_H

#include "ops/op.h"

elbo_tensor *as_matrix(elbo_tensor *x);       // (...,C) -> (-1,C)
elbo_tensor *sum_to_channels(elbo_tensor *y); // (...,C) -> (C): a bias's gradient

elbo_status linear_ref(elbo_ctx *ctx, const node *n, const void *const *in, void *const *out);
elbo_status fused_linear_ref(elbo_ctx *ctx, const node *n, const void *const *in, void *const *out);
// pre -> pre + bias + residual -> outputs of a fused contraction, in place of out[0] (which holds the plain product)
void fused_epilogue_ref(const node *n, const void *const *in, void *const *out);

#endif
