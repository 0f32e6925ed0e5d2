#include "nn/transformer_block.h"

#include <stdio.h>

// hidden * gelu(gate) of one projection [Shazeer20]
static elbo_tensor *gated_layers(elbo_tensor *x, const char *name) {
  if (!x) return NULL;
  elbo_graph *g = elbo_tensor_graph(x);
  int64_t width = elbo_tensor_dim(x, -1);
  elbo_tensor *part[2];
  elbo_scope_push(g, name);
  elbo_tensor *h = linear_layer(x, "net.0.proj", 8 * width, 1);
  if (elbo_split_axis(h, elbo_tensor_rank(h) - 1, 2, part)) h = linear_layer(elbo_mul(part[0], elbo_gelu(part[1])), "net.2", width, 1);
  elbo_scope_pop(g);
  return h;
}

elbo_tensor *transformer_block(elbo_tensor *x, const char *name, const transformer_config *c) {
  if (!x) return NULL;
  elbo_graph *g = elbo_tensor_graph(x);
  attention_config first = {.heads = c->heads, .head_dim = c->head_dim, .context = c->only_context ? c->context : NULL};
  attention_config second = {.heads = c->heads, .head_dim = c->head_dim, .context = c->context};
  elbo_scope_push(g, name);
  x = elbo_add(x, attention_layer(layer_norm_layer(x, "norm1", 1e-5), "attn1", &first));
  if (c->context) x = elbo_add(x, attention_layer(layer_norm_layer(x, "norm2", 1e-5), "attn2", &second));
  x = elbo_add(x, gated_layers(layer_norm_layer(x, "norm3", 1e-5), "ff"));
  elbo_scope_pop(g);
  return x;
}

elbo_tensor *spatial_transformer(elbo_tensor *x, const char *name, int groups, int64_t depth, bool linear, const transformer_config *c) {
  if (!x) return NULL;
  elbo_graph *g = elbo_tensor_graph(x);
  int64_t b = elbo_tensor_dim(x, 0), h = elbo_tensor_dim(x, 1), w = elbo_tensor_dim(x, 2), channels = elbo_tensor_dim(x, 3);
  int64_t width = c->heads * c->head_dim;
  elbo_scope_push(g, name);
  elbo_tensor *y = norm_layer_eps(x, "norm", groups, 1e-6);
  y = linear ? linear_layer(y, "proj_in", width, 1) : conv_layer(y, "proj_in", width, 1, 1, 0, 1);
  if (y) y = elbo_reshape(y, 3, (int64_t[]){b, h * w, width});
  for (int64_t i = 0; i < depth && y; i++) {
    char block[48];
    snprintf(block, sizeof block, "transformer_blocks.%lld", (long long)i);
    y = transformer_block(y, block, c);
  }
  y = as_map(y, h, w, width);
  y = linear ? linear_layer(y, "proj_out", channels, 1) : conv_layer(y, "proj_out", channels, 1, 1, 0, 1);
  elbo_scope_pop(g);
  return elbo_add(x, y);
}
