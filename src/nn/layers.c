#include "nn/layers.h"

#include <math.h>

elbo_tensor *activate(elbo_tensor *x, int kind) {
  switch ((activation_kind)kind) {
  case ACTIVATION_RELU: return elbo_relu(x);
  case ACTIVATION_SILU: return elbo_silu(x);
  case ACTIVATION_GELU: return elbo_gelu(x);
  case ACTIVATION_LEAKY_RELU: return elbo_leaky_relu(x, 0.2);
  case ACTIVATION_TANH: return elbo_tanh(x);
  case ACTIVATION_SOFTPLUS: return elbo_softplus(x);
  case ACTIVATION_MISH: return elbo_mul(x, elbo_tanh(elbo_softplus(x)));
  }
  return NULL;
}

int diffusers_activation(int i) {
  static const activation_kind kinds[] = {ACTIVATION_SILU, ACTIVATION_SILU, ACTIVATION_MISH, ACTIVATION_GELU, ACTIVATION_RELU};
  return (int)kinds[i];
}

static elbo_init init_of(double gain, int64_t fan_in) {
  if (gain == 0) return ELBO_INIT_ZEROS;
  return (elbo_init){ELBO_INIT_KIND_FAN_IN, gain, fan_in};
}

static elbo_tensor *scoped_parameter(elbo_graph *g, const char *scope, const char *name, int rank, const int64_t *dim, elbo_init init) {
  elbo_scope_push(g, scope);
  elbo_tensor *p = elbo_parameter(g, name, rank, dim, ELBO_PARAM_TRAINED, init);
  elbo_scope_pop(g);
  return p;
}

layer_init scheme_init(int scheme, double gain, int64_t fan_in, int64_t fan_out) {
  if (gain == 0) return (layer_init){ELBO_INIT_ZEROS, ELBO_INIT_ZEROS};
  if (scheme == INIT_TORCH) return (layer_init){init_of(gain, fan_in), init_of(gain, fan_in)};
  elbo_init weight = {ELBO_INIT_KIND_UNIFORM, gain * sqrt(6.0 / (double)(fan_in + fan_out)), 0};
  return (layer_init){weight, ELBO_INIT_ZEROS};
}

elbo_tensor *linear_layer_from(elbo_tensor *x, const char *name, int64_t out, const layer_init *init) {
  if (!x) return NULL;
  elbo_graph *g = elbo_tensor_graph(x);
  int64_t in = elbo_tensor_dim(x, -1);
  elbo_tensor *w = scoped_parameter(g, name, "weight", 2, (int64_t[]){out, in}, init->weight);
  elbo_tensor *b = scoped_parameter(g, name, "bias", 1, (int64_t[]){out}, init->bias);
  return elbo_linear(x, w, b);
}

elbo_tensor *linear_layer(elbo_tensor *x, const char *name, int64_t out, double gain) {
  if (!x) return NULL;
  layer_init init = scheme_init(INIT_TORCH, gain, elbo_tensor_dim(x, -1), out);
  return linear_layer_from(x, name, out, &init);
}

elbo_tensor *linear_layer_unbiased_from(elbo_tensor *x, const char *name, int64_t out, const layer_init *init) {
  if (!x) return NULL;
  int64_t in = elbo_tensor_dim(x, -1);
  elbo_tensor *w = scoped_parameter(elbo_tensor_graph(x), name, "weight", 2, (int64_t[]){out, in}, init->weight);
  return elbo_linear(x, w, NULL);
}

elbo_tensor *linear_layer_unbiased(elbo_tensor *x, const char *name, int64_t out) {
  if (!x) return NULL;
  layer_init init = scheme_init(INIT_TORCH, 1, elbo_tensor_dim(x, -1), out);
  return linear_layer_unbiased_from(x, name, out, &init);
}

elbo_tensor *conv_layer(elbo_tensor *x, const char *name, int64_t out, int kernel, int stride, int pad, double gain) {
  return conv_layer_padded(x, name, out, kernel, stride, (int[]){pad, pad, pad, pad}, gain);
}

elbo_tensor *conv_layer_padded(elbo_tensor *x, const char *name, int64_t out, int kernel, int stride, const int pad[4], double gain) {
  if (!x) return NULL;
  int64_t taps = (int64_t)kernel * kernel;
  layer_init init = scheme_init(INIT_TORCH, gain, elbo_tensor_dim(x, -1) * taps, out * taps);
  return conv_layer_from(x, name, out, kernel, stride, pad, &init);
}

elbo_tensor *conv_layer_from(elbo_tensor *x, const char *name, int64_t out, int kernel, int stride, const int pad[4],
                             const layer_init *init) {
  if (!x) return NULL;
  elbo_graph *g = elbo_tensor_graph(x);
  elbo_tensor *w = scoped_parameter(g, name, "weight", 4, (int64_t[]){out, elbo_tensor_dim(x, -1), kernel, kernel}, init->weight);
  elbo_tensor *b = scoped_parameter(g, name, "bias", 1, (int64_t[]){out}, init->bias);
  elbo_conv2d_config c = {.stride = {stride, stride}, .pad = {pad[0], pad[1], pad[2], pad[3]}};
  return elbo_conv2d(x, w, b, &c);
}

elbo_tensor *conv_transpose_layer(elbo_tensor *x, const char *name, int64_t out, double gain) {
  if (!x) return NULL;
  elbo_graph *g = elbo_tensor_graph(x);
  int64_t in = elbo_tensor_dim(x, -1);
  int64_t fan_in = in * 16 / 4; // an output sees a quarter of the 4x4 taps
  elbo_tensor *w = scoped_parameter(g, name, "weight", 4, (int64_t[]){in, out, 4, 4}, init_of(gain, fan_in));
  elbo_tensor *b = scoped_parameter(g, name, "bias", 1, (int64_t[]){out}, init_of(gain, fan_in));
  elbo_conv2d_config c = {.stride = {2, 2}, .pad = {1, 1, 1, 1}};
  return elbo_conv_transpose2d(x, w, b, &c, (int[]){0, 0});
}

elbo_tensor *norm_layer(elbo_tensor *x, const char *name, int groups) { return norm_layer_eps(x, name, groups, 1e-5); }

elbo_tensor *norm_layer_eps(elbo_tensor *x, const char *name, int groups, double eps) {
  if (!x || groups <= 0) return x;
  elbo_graph *g = elbo_tensor_graph(x);
  int64_t c = elbo_tensor_dim(x, -1);
  if (groups > c) groups = (int)c;
  while (c % groups) groups--;
  elbo_tensor *w = scoped_parameter(g, name, "weight", 1, &c, ELBO_INIT_ONES);
  elbo_tensor *b = scoped_parameter(g, name, "bias", 1, &c, ELBO_INIT_ZEROS);
  return elbo_group_norm(x, w, b, groups, eps);
}

elbo_tensor *layer_norm_layer(elbo_tensor *x, const char *name, double eps) {
  if (!x) return NULL;
  elbo_graph *g = elbo_tensor_graph(x);
  int64_t c = elbo_tensor_dim(x, -1);
  elbo_tensor *w = scoped_parameter(g, name, "weight", 1, &c, ELBO_INIT_ONES);
  elbo_tensor *b = scoped_parameter(g, name, "bias", 1, &c, ELBO_INIT_ZEROS);
  return elbo_layer_norm(x, w, b, eps);
}

elbo_tensor *embedding_layer(elbo_tensor *index, const char *name, int64_t rows, int64_t width) {
  if (!index) return NULL;
  elbo_init normal = {ELBO_INIT_KIND_NORMAL, 1, 0};
  return elbo_embedding(index, scoped_parameter(elbo_tensor_graph(index), name, "weight", 2, (int64_t[]){rows, width}, normal));
}

elbo_tensor *repeat_rows(elbo_tensor *x, int64_t times) {
  if (!x || times == 1) return x;
  int rank = elbo_tensor_rank(x);
  int64_t b = elbo_tensor_dim(x, 0), count = 1, out[ELBO_MAX_RANK] = {b * times};
  for (int i = 1; i < rank; i++) {
    out[i] = elbo_tensor_dim(x, i);
    count *= out[i];
  }
  elbo_tensor *y = elbo_reshape(x, 3, (int64_t[]){b, 1, count});
  y = elbo_broadcast_to(y, 3, (int64_t[]){b, times, count});
  return elbo_reshape(y, rank, out);
}

elbo_tensor *flatten_rows(elbo_tensor *x) {
  if (!x) return NULL;
  if (elbo_tensor_rank(x) == 2) return x;
  return elbo_reshape(x, 2, (int64_t[]){elbo_tensor_dim(x, 0), -1});
}

elbo_tensor *as_map(elbo_tensor *x, int64_t h, int64_t w, int64_t c) {
  if (!x) return NULL;
  return elbo_reshape(x, 4, (int64_t[]){elbo_tensor_dim(x, 0), h, w, c});
}
