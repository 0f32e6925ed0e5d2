#include "nn/residual_block.h"

#include <stdlib.h>

#include "backend/node.h"

// A filter (1,3,3,1) x (1,3,3,1) / 64 for each channel alone, times `gain`: (C,1,4,4)
static elbo_tensor *fir_weight(elbo_graph *g, int64_t channels, double gain) {
  static const double row[4] = {0.125, 0.375, 0.375, 0.125};
  float *w = malloc((size_t)channels * 16 * sizeof *w);
  if (!w) return graph_fail(g, ELBO_ERROR_MEMORY, "out of memory for a filter");
  for (int64_t i = 0; i < channels * 16; i++) w[i] = (float)(gain * row[i % 4] * row[i / 4 % 4]);
  elbo_tensor *t = elbo_constant_array(g, 4, (int64_t[]){channels, 1, 4, 4}, w);
  free(w);
  return t;
}

elbo_tensor *resample_map(elbo_tensor *x, block_resample kind) {
  if (!x) return NULL;
  elbo_graph *g = elbo_tensor_graph(x);
  int64_t channels = elbo_tensor_dim(x, -1);
  elbo_conv2d_config each = {.stride = {2, 2}, .pad = {1, 1, 1, 1}, .groups = (int)channels}, inside = each;
  for (int i = 0; i < 4; i++) inside.pad[i] = 0;
  switch (kind) {
  case RESAMPLE_NONE: return x;
  case RESAMPLE_UP: return elbo_upsample_nearest(x, 2, 2);
  case RESAMPLE_DOWN: return elbo_avg_pool2d(x, 2, 2);
  case RESAMPLE_FIR_UP: return elbo_conv_transpose2d(x, fir_weight(g, channels, 4), NULL, &each, (int[]){0, 0});
  case RESAMPLE_FIR_DOWN: return elbo_conv2d(x, fir_weight(g, channels, 1), NULL, &each);
  case RESAMPLE_FIR_DOWN_INSIDE: return elbo_conv2d(x, fir_weight(g, channels, 1), NULL, &inside);
  }
  return NULL;
}

static const block_names diffusers_names = {"norm1", "conv1", "time_emb_proj", "norm2", "conv2", "conv_shortcut"};

static elbo_tensor *block_conv(elbo_tensor *x, const block_config *c, const char *name, int64_t out, int kernel, double gain) {
  if (!x) return NULL;
  int pad = kernel / 2;
  int64_t taps = (int64_t)kernel * kernel;
  layer_init init = scheme_init(c->scheme, gain, elbo_tensor_dim(x, -1) * taps, out * taps);
  return conv_layer_from(x, name, out, kernel, 1, (int[]){pad, pad, pad, pad}, &init);
}

static elbo_tensor *project_embedding(const block_config *c, const char *name, int64_t width) {
  elbo_tensor *e = c->embedding_as_is ? c->embedding : activate(c->embedding, c->activation);
  if (!e) return NULL;
  layer_init init = scheme_init(c->scheme, c->zero_projection ? 0 : 1, elbo_tensor_dim(e, -1), width);
  return as_map(linear_layer_from(e, name, width, &init), 1, 1, width);
}

// Norm and embedding between the two convolutions
static elbo_tensor *conditioned_norm(elbo_tensor *h, const block_config *c, const block_names *names, int64_t out, double eps) {
  int groups = c->groups_out ? c->groups_out : c->groups;
  if (!c->embedding) return norm_layer_eps(h, names->norm2, groups, eps);
  elbo_tensor *e = project_embedding(c, names->projection, c->scale_shift ? 2 * out : out), *part[2];
  if (!c->scale_shift) return norm_layer_eps(elbo_add(h, e), names->norm2, groups, eps);
  if (!elbo_split_axis(e, 3, 2, part)) return NULL;
  h = norm_layer_eps(h, names->norm2, groups, eps);
  return elbo_add(elbo_mul(h, elbo_scale(part[0], 1, 1)), part[1]);
}

elbo_tensor *residual_block(elbo_tensor *x, const char *name, const block_config *c) {
  if (!x) return NULL;
  elbo_graph *g = elbo_tensor_graph(x);
  const block_names *names = c->names ? c->names : &diffusers_names;
  int64_t in = elbo_tensor_dim(x, -1), out = c->out ? c->out : in;
  double eps = c->eps > 0 ? c->eps : 1e-5;
  elbo_scope_push(g, name);
  elbo_tensor *h = activate(norm_layer_eps(x, names->norm1, c->groups, eps), c->activation);
  h = resample_map(h, (block_resample)c->resample);
  x = resample_map(x, (block_resample)c->resample);
  h = block_conv(h, c, names->conv1, out, c->kernel, 1);
  h = activate(conditioned_norm(h, c, names, out, eps), c->activation);
  if (c->dropout > 0) h = elbo_dropout(h, "dropout", c->dropout);
  h = block_conv(h, c, names->conv2, out, c->kernel, c->gain);
  elbo_tensor *skip = in == out && !c->always_shortcut ? x : block_conv(x, c, names->shortcut, out, 1, 1);
  elbo_scope_pop(g);
  h = elbo_add(skip, h);
  return c->rescale > 0 && c->rescale != 1 ? elbo_scale(h, 1 / c->rescale, 0) : h;
}
