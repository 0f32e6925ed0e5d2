// Layers: small functions that add operations and parameters to a graph. Parameters are named as PyTorch and diffusers name
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
  ACTIVATION_SOFTPLUS,
  ACTIVATION_MISH // x tanh(softplus(x)) [Misra20]
} activation_kind;
#define ACTIVATION_NAMES "relu|silu|gelu|leaky_relu|tanh|softplus|mish"

elbo_tensor *activate(elbo_tensor *x, int kind);

// act_fn of diffusers' convolutional networks, and the activation_kind of the i-th of these names
#define DIFFUSERS_ACTIVATION_NAMES "silu|swish|mish|gelu|relu"
int diffusers_activation(int i);

// Where training starts from. Parameters may also come from a file; then nothing of this matters.
typedef enum init_scheme {
  INIT_TORCH, // weight and bias U(+-gain / sqrt(fan_in)), PyTorch's default at gain 1
  INIT_XAVIER // weight U(+-gain sqrt(6 / (fan_in + fan_out))), bias 0 [Glorot10 eq. 16]
} init_scheme;
typedef struct layer_init {
  elbo_init weight, bias;
} layer_init;
layer_init scheme_init(int scheme, double gain, int64_t fan_in, int64_t fan_out); // gain 0: zeros

// `gain` multiplies PyTorch's default initialisation U(+-1/sqrt(fan_in)) of the weight; 0: zeros. The bias is drawn likewise (gain 0:
// zeros).
// (...,I) -> (...,out)
elbo_tensor *linear_layer(elbo_tensor *x, const char *name, int64_t out, double gain);
elbo_tensor *linear_layer_from(elbo_tensor *x, const char *name, int64_t out, const layer_init *init);
// The same without a bias, at gain 1
elbo_tensor *linear_layer_unbiased(elbo_tensor *x, const char *name, int64_t out);
elbo_tensor *linear_layer_unbiased_from(elbo_tensor *x, const char *name, int64_t out, const layer_init *init);
// (B,H,W,I) -> (B,OH,OW,out), the same padding on every side
elbo_tensor *conv_layer(elbo_tensor *x, const char *name, int64_t out, int kernel, int stride, int pad, double gain);
// The same with `pad` at top, left, bottom, right
elbo_tensor *conv_layer_padded(elbo_tensor *x, const char *name, int64_t out, int kernel, int stride, const int pad[4], double gain);
elbo_tensor *conv_layer_from(elbo_tensor *x, const char *name, int64_t out, int kernel, int stride, const int pad[4],
                             const layer_init *init);
// 4x4 with stride 2 and padding 1: doubles height and width
elbo_tensor *conv_transpose_layer(elbo_tensor *x, const char *name, int64_t out, double gain);
// Group norm with weight and bias; `groups` is lowered to the largest divisor of the channels; 0 groups: x itself.
elbo_tensor *norm_layer(elbo_tensor *x, const char *name, int groups);
// The same with an eps of the caller's
elbo_tensor *norm_layer_eps(elbo_tensor *x, const char *name, int groups, double eps);
// Over the last axis, with weight and bias
elbo_tensor *layer_norm_layer(elbo_tensor *x, const char *name, double eps);
// int32 (...) -> (...,width), from a table of `rows` rows drawn from N(0,1)
elbo_tensor *embedding_layer(elbo_tensor *index, const char *name, int64_t rows, int64_t width);

// (B,F) repeated: (B,...) -> (B*times,...), row b*times + i is row b of x
elbo_tensor *repeat_rows(elbo_tensor *x, int64_t times);
// (B,...) -> (B,F)
elbo_tensor *flatten_rows(elbo_tensor *x);
// All of (B, count) elements as (B,H,W,C)
elbo_tensor *as_map(elbo_tensor *x, int64_t h, int64_t w, int64_t c);

#endif
