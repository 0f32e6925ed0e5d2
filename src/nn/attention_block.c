#include "nn/attention_block.h"

#include "backend/node.h"

// One of to_q, to_k, to_v
static elbo_tensor *project(elbo_tensor *x, const char *name, int64_t width, const attention_config *c) {
  if (!x) return NULL;
  layer_init init = scheme_init(c->scheme, 1, elbo_tensor_dim(x, -1), 3 * width);
  return c->bias ? linear_layer_from(x, name, width, &init) : linear_layer_unbiased_from(x, name, width, &init);
}

elbo_tensor *attention_layer(elbo_tensor *x, const char *name, const attention_config *c) {
  if (!x) return NULL;
  elbo_graph *g = elbo_tensor_graph(x);
  elbo_tensor *from = c->context ? c->context : x;
  int64_t width = c->heads * c->head_dim, out = elbo_tensor_dim(x, -1);
  layer_init init = scheme_init(c->scheme, c->zero_out ? 0 : 1, width, out);
  elbo_scope_push(g, name);
  elbo_tensor *q = project(x, "to_q", width, c), *k = project(from, "to_k", width, c), *v = project(from, "to_v", width, c);
  elbo_tensor *y = linear_layer_from(elbo_attention(q, k, v, NULL, (int)c->heads, 0, 0), "to_out.0", out, &init);
  elbo_scope_pop(g);
  return y;
}

// (B,H,W,C) -> (B,HW,C)
static elbo_tensor *as_tokens(elbo_tensor *x) {
  if (!x) return NULL;
  int64_t positions = elbo_tensor_dim(x, 1) * elbo_tensor_dim(x, 2);
  return elbo_reshape(x, 3, (int64_t[]){elbo_tensor_dim(x, 0), positions, elbo_tensor_dim(x, 3)});
}

elbo_tensor *attention_block(elbo_tensor *x, const char *name, const attention_block_config *c) {
  if (!x) return NULL;
  elbo_graph *g = elbo_tensor_graph(x);
  int64_t channels = elbo_tensor_dim(x, 3), head_dim = c->head_dim ? c->head_dim : channels;
  if (head_dim < 1 || head_dim > channels)
    return graph_fail(g, ELBO_ERROR_ARGUMENT, "%s: heads of %lld channels in %lld", name, (long long)head_dim, (long long)channels);
  attention_config inner = {.heads = channels / head_dim, .head_dim = head_dim, .bias = true, .zero_out = c->zero_out};
  elbo_scope_push(g, name);
  elbo_tensor *h = as_tokens(norm_layer_eps(x, "group_norm", c->groups, c->eps > 0 ? c->eps : 1e-5));
  elbo_scope_pop(g);
  h = attention_layer(h, name, &inner);
  h = elbo_add(x, as_map(h, elbo_tensor_dim(x, 1), elbo_tensor_dim(x, 2), channels));
  return c->rescale > 0 && c->rescale != 1 ? elbo_scale(h, 1 / c->rescale, 0) : h;
}

static elbo_tensor *normed_context(const added_attention_config *c) {
  if (c->norm == CONTEXT_NORM_LAYER) return layer_norm_layer(c->context, "norm_cross", 1e-5);
  if (c->norm == CONTEXT_NORM_GROUP) return norm_layer_eps(c->context, "norm_cross", 32, 1e-5);
  return c->context;
}

elbo_tensor *added_attention_block(elbo_tensor *x, const char *name, const added_attention_config *c) {
  if (!x || !c->context) return NULL;
  elbo_graph *g = elbo_tensor_graph(x);
  int64_t channels = elbo_tensor_dim(x, 3);
  if (c->head_dim < 1 || channels % c->head_dim)
    return graph_fail(g, ELBO_ERROR_ARGUMENT, "%s: heads of %lld channels in %lld", name, (long long)c->head_dim, (long long)channels);
  elbo_scope_push(g, name);
  elbo_tensor *context = normed_context(c);
  elbo_tensor *h = as_tokens(norm_layer_eps(x, "group_norm", c->groups, c->eps > 0 ? c->eps : 1e-5));
  elbo_tensor *q = linear_layer(h, "to_q", channels, 1);
  elbo_tensor *k = linear_layer(context, "add_k_proj", channels, 1), *v = linear_layer(context, "add_v_proj", channels, 1);
  if (!c->only_context) {
    k = elbo_concat(2, (elbo_tensor *[]){k, linear_layer(h, "to_k", channels, 1)}, 1);
    v = elbo_concat(2, (elbo_tensor *[]){v, linear_layer(h, "to_v", channels, 1)}, 1);
  }
  h = linear_layer(elbo_attention(q, k, v, NULL, (int)(channels / c->head_dim), 0, 0), "to_out.0", channels, 1);
  elbo_scope_pop(g);
  return elbo_add(x, as_map(h, elbo_tensor_dim(x, 1), elbo_tensor_dim(x, 2), channels));
}
