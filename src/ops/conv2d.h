// The three convolutions' shared geometry and references.
#ifndef OPS_CONV2D_H
#define OPS_CONV2D_H

#include <elbo/ops.h>

#include "ops/contraction.h"

// Reads a public config (NULL: all defaults); `size` is left 0. Records the graph's error and returns false.
bool conv2d_attr_of(elbo_graph *g, const char *op, const elbo_conv2d_config *config, conv2d_attr *a);
conv2d_attr conv2d_attr_sized(const conv2d_attr *a, int64_t h, int64_t w);

// The form's sizes: x (B,H,W,groups I), w (groups O,I,kh,kw), y (B,OH,OW,groups O).
typedef struct conv_sizes {
  int64_t B, H, W, OH, OW, I, O, kh, kw, groups;
} conv_sizes;
conv_sizes conv_sizes_of(const conv2d_attr *a, const elbo_tensor *x, const elbo_tensor *w, const elbo_tensor *y);

// Whether the kernel that a conv2d or fused_conv2d node gets can normalise what it reads in place of `norm`, a group norm (and activation).
typedef bool (*conv_normalises_fn)(const compile_env *env, const node *conv, const node *norm);
bool conv2d_normalises(const compile_env *env, const node *conv, const node *norm);
extern const conv_normalises_fn conv_normalises_cpu_base, conv_normalises_cpu_v3, conv_normalises_cpu_v4;

elbo_status conv2d_ref(elbo_ctx *ctx, const node *n, const void *const *in, void *const *out);
elbo_status fused_conv2d_ref(elbo_ctx *ctx, const node *n, const void *const *in, void *const *out);
elbo_status conv_transpose2d_ref(elbo_ctx *ctx, const node *n, const void *const *in, void *const *out);
elbo_status fused_conv_transpose2d_ref(elbo_ctx *ctx, const node *n, const void *const *in, void *const *out);
elbo_status conv2d_weight_grad_ref(elbo_ctx *ctx, const node *n, const void *const *in, void *const *out);

#endif
