// Layers and blocks: small functions that add operations and parameters to a graph. Parameters are named as PyTorch and diffusers name
// them ("conv1.weight", "to_out.0.bias"), weights are in PyTorch's order. Like all builders they return NULL after an error.
#ifndef NN_LAYERS_H
#define NN_LAYERS_H

#include <stdbool.h>

#include <elbo/ops.h>

typedef enum activation_kind {
  ACTIVATION_RELU,
  ACTIVATION_SILU,
  ACTIVATION_GELU,
  ACTIVATION_LEAKY_RELU,
  ACTIVATION_TANH,
  ACTIVATION_SOFTPLUS
} activation_kind;
#define ACTIVATION_NAMES "relu|silu|gelu|leaky_relu|tanh|softplus"

elbo_tensor *activate(elbo_tensor *x, int kind);

// `gain` multiplies PyTorch's default initialisation U(+-1/sqrt(fan_in)) of the weight; 0: zeros. The bias is drawn likewise (gain 0:
// zeros).
// (...,I) -> (...,out)
elbo_tensor *linear_layer(elbo_tensor *x, const char *name, int64_t out, double gain);
// (B,H,W,I) -> (B,OH,OW,out), the same padding on every side
elbo_tensor *conv_layer(elbo_tensor *x, const char *name, int64_t out, int kernel, int stride, int pad, double gain);
// 4x4 with stride 2 and padding 1: doubles height and width
elbo_tensor *conv_transpose_layer(elbo_tensor *x, const char *name, int64_t out, double gain);
// Group norm with weight and bias; `groups` is lowered to the largest divisor of the channels; 0 groups: x itself.
elbo_tensor *norm_layer(elbo_tensor *x, const char *name, int groups);

typedef struct block_config {
  int64_t out;            // channels; 0: as many as come in
  int kernel;             // 3, or 1 for vectors as (B,1,1,C)
  int groups;             // of the norms; 0: no norm
  int activation;         // activation_kind
  double dropout;         // before the second convolution; 0 when not training
  double gain;            // of the last convolution
  elbo_tensor *embedding; // (B,E) or NULL: projected and added after the first convolution
} block_config;

// norm, activation, convolution, (+ projected embedding), norm, activation, dropout, convolution; + x, through a 1x1 when widths differ
elbo_tensor *residual_block(elbo_tensor *x, const char *name, const block_config *c);
// Self-attention over the positions of (B,H,W,C), one head a `head_dim` channels (0: one head), with its residual
elbo_tensor *attention_block(elbo_tensor *x, const char *name, int groups, int head_dim);

// (B,F) repeated: (B,...) -> (B*times,...), row b*times + i is row b of x
elbo_tensor *repeat_rows(elbo_tensor *x, int64_t times);
// (B,...) -> (B,F)
elbo_tensor *flatten_rows(elbo_tensor *x);
// All of (B, count) elements as (B,H,W,C)
elbo_tensor *as_map(elbo_tensor *x, int64_t h, int64_t w, int64_t c);

#endif
