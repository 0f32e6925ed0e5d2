#include "nn/dit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "backend/node.h"
#include "nn/attention_block.h"
#include "nn/time_embedding.h"

enum { TIME_WIDTH = 256, POSITIONS_MAX = 1 << 22 };

// The network's own sizes
typedef struct dit_shape {
  int64_t width;         // of a token
  int64_t rows, columns; // of patches
} dit_shape;

static const layer_init zero_layer = {{ELBO_INIT_KIND_ZEROS, 0, 0}, {ELBO_INIT_KIND_ZEROS, 0, 0}};
static const layer_init small_layer = {{ELBO_INIT_KIND_NORMAL, 0.02, 0}, {ELBO_INIT_KIND_ZEROS, 0, 0}};

static elbo_tensor *xavier_linear(elbo_tensor *x, const char *name, int64_t out) {
  if (!x) return NULL;
  layer_init init = scheme_init(INIT_XAVIER, 1, elbo_tensor_dim(x, -1), out);
  return linear_layer_from(x, name, out, &init);
}

// Sines and cosines of the column, then of the row, as Vaswani17 has them of a word's place: (rows*columns, width). Places are counted in
// patches of the trained size, so that a picture of another size is stretched over them.
static elbo_tensor *position_embedding(const dit_config *c, elbo_graph *g, const dit_shape *s) {
  int64_t quarter = s->width / 4, base = c->sample_size / c->patch_size, count;
  if (!checked_mul(s->rows, s->columns, &count) || !checked_mul(count, s->width, &count) || count > POSITIONS_MAX)
    return graph_fail(g, ELBO_ERROR_ARGUMENT, "pos_embed: %lld x %lld patches of width %lld; expected a table of at most %d numbers",
                      (long long)s->rows, (long long)s->columns, (long long)s->width, POSITIONS_MAX);
  float *table = malloc((size_t)count * sizeof *table);
  if (!table) return graph_fail(g, ELBO_ERROR_MEMORY, "out of memory for the position embedding");
  for (int64_t p = 0; p < s->rows * s->columns; p++) {
    const float place[2] = {(float)(p % s->columns) / ((float)s->columns / (float)base),
                            (float)(p / s->columns) / ((float)s->rows / (float)base)};
    float *row = table + p * s->width;
    for (int64_t i = 0; i < 2 * quarter; i++) {
      double angle = (double)place[i / quarter] * pow(10000, -(double)(i % quarter) / (double)quarter);
      row[i / quarter * 2 * quarter + i % quarter] = (float)sin(angle);
      row[i / quarter * 2 * quarter + i % quarter + quarter] = (float)cos(angle);
    }
  }
  elbo_tensor *t = elbo_constant_array(g, 2, (int64_t[]){s->rows * s->columns, s->width}, table);
  free(table);
  return t;
}

// (B,H,W,C) -> (B,N,width)
static elbo_tensor *embed_patches(const dit_config *c, elbo_tensor *x, const dit_shape *s) {
  elbo_graph *g = elbo_tensor_graph(x);
  int patch = (int)c->patch_size;
  int64_t fan_in = c->in_channels * patch * patch;
  layer_init init = scheme_init(INIT_XAVIER, 1, fan_in, s->width);
  x = conv_layer_from(x, "pos_embed.proj", s->width, patch, patch, (int[4]){0}, &init);
  x = elbo_reshape(x, 3, (int64_t[]){elbo_tensor_dim(x, 0), s->rows * s->columns, s->width});
  return elbo_add(x, position_embedding(c, g, s));
}

// Time and class as one vector, in the scope of a block, which each have their own: (B,width)
static elbo_tensor *condition(const dit_config *c, const denoiser_inputs *in, int64_t width) {
  elbo_graph *g = in->graph;
  const sinusoid_config sinusoid = {.width = TIME_WIDTH, .cosine_first = true, .freq_shift = 1};
  elbo_tensor *t = sinusoid_embedding(in->timestep, &sinusoid);
  t = linear_layer_from(t, "timestep_embedder.linear_1", width, &small_layer);
  t = linear_layer_from(elbo_silu(t), "timestep_embedder.linear_2", width, &small_layer);
  int64_t rows = c->num_embeds_ada_norm + 1;
  elbo_tensor *table =
      elbo_parameter(g, "class_embedder.embedding_table.weight", 2, (int64_t[]){rows, width}, ELBO_PARAM_TRAINED, small_layer.weight);
  elbo_tensor *label = in->class_labels ? elbo_embedding(in->class_labels, table) : elbo_slice(table, 0, rows - 1, rows);
  return elbo_add(t, label);
}

// x (1 + scale) + shift with scale, shift (B,width)
static elbo_tensor *modulate(elbo_tensor *x, elbo_tensor *shift, elbo_tensor *scale) {
  if (!x || !shift || !scale) return NULL;
  const int64_t dim[] = {elbo_tensor_dim(x, 0), 1, elbo_tensor_dim(x, 2)};
  return elbo_add(elbo_mul(x, elbo_scale(elbo_reshape(scale, 3, dim), 1, 1)), elbo_reshape(shift, 3, dim));
}

static elbo_tensor *gated(elbo_tensor *x, elbo_tensor *gate) {
  return x && gate ? elbo_mul(x, elbo_reshape(gate, 3, (int64_t[]){elbo_tensor_dim(x, 0), 1, elbo_tensor_dim(x, 2)})) : NULL;
}

static elbo_tensor *feed_forward(const dit_config *c, elbo_tensor *x, bool training) {
  if (!x) return NULL;
  int64_t width = elbo_tensor_dim(x, -1), inner = 4 * width;
  bool two = c->activation_fn == DIT_GEGLU || c->activation_fn == DIT_SWIGLU;
  elbo_tensor *h = xavier_linear(x, "net.0.proj", two ? 2 * inner : inner), *part[2] = {h, NULL};
  if (two && !elbo_split_axis(h, 2, 2, part)) return NULL;
  switch ((dit_activation)c->activation_fn) {
  case DIT_GELU_TANH: h = elbo_gelu_tanh(h); break;
  case DIT_GELU: h = elbo_gelu(h); break;
  case DIT_GEGLU: h = elbo_mul(part[0], elbo_gelu(part[1])); break;
  case DIT_GEGLU_APPROXIMATE: h = elbo_mul(h, elbo_sigmoid(elbo_scale(h, 1.702, 0))); break; // [Hendrycks16 section 2]
  case DIT_SWIGLU: h = elbo_mul(part[0], elbo_silu(part[1])); break;
  case DIT_LINEAR_SILU: h = elbo_silu(h); break;
  }
  if (training && c->dropout > 0) h = elbo_dropout(h, "net.1", c->dropout);
  return xavier_linear(h, "net.2", width);
}

static elbo_tensor *norm_before_mlp(const dit_config *c, elbo_tensor *x) {
  return c->norm_elementwise_affine ? layer_norm_layer(x, "norm3", c->norm_eps) : elbo_layer_norm(x, NULL, NULL, c->norm_eps);
}

// adaLN-Zero: shift, scale and gate of both halves from the condition; the gates begin at zero [Peebles23 section 3.2]
static elbo_tensor *dit_block(const dit_config *c, const denoiser_inputs *in, elbo_tensor *x, int64_t width, elbo_tensor **embedding) {
  elbo_graph *g = in->graph;
  elbo_tensor *part[6];
  elbo_scope_push(g, "norm1");
  elbo_scope_push(g, "emb");
  *embedding = condition(c, in, width);
  elbo_scope_pop(g);
  elbo_tensor *e = linear_layer_from(elbo_silu(*embedding), "linear", 6 * width, &zero_layer);
  elbo_scope_pop(g);
  if (!elbo_split_axis(e, 1, 6, part)) return NULL;
  elbo_tensor *h = modulate(elbo_layer_norm(x, NULL, NULL, 1e-6), part[0], part[1]);
  const attention_config attention = {
      .heads = c->num_attention_heads, .head_dim = c->attention_head_dim, .bias = c->attention_bias, .scheme = INIT_XAVIER};
  h = attention_layer(h, "attn1", &attention);
  if (in->training && c->dropout > 0) h = elbo_dropout(h, "attn1.to_out.1", c->dropout);
  x = elbo_add(gated(h, part[2]), x);
  h = modulate(norm_before_mlp(c, x), part[3], part[4]);
  elbo_scope_push(g, "ff");
  h = feed_forward(c, h, in->training);
  elbo_scope_pop(g);
  return elbo_add(gated(h, part[5]), x);
}

// (B,N,patch*patch*C) -> (B,H,W,C)
static elbo_tensor *unpatchify(elbo_tensor *x, const dit_config *c, const dit_shape *s) {
  if (!x) return NULL;
  int64_t b = elbo_tensor_dim(x, 0), p = c->patch_size;
  int64_t run = p * (c->out_channels ? c->out_channels : c->in_channels);
  x = elbo_reshape(x, 4, (int64_t[]){b * s->rows, s->columns, p, run});
  x = elbo_transpose(x, (int[]){0, 2, 1, 3});
  return elbo_reshape(x, 4, (int64_t[]){b, s->rows * p, s->columns * p, run / p});
}

elbo_tensor *dit_network(const dit_config *c, const denoiser_inputs *in) {
  elbo_graph *g = in->graph;
  const denoiser_needs needs = dit_needs(c);
  if (!denoiser_inputs_check(&needs, in)) return NULL;
  const dit_shape s = {c->num_attention_heads * c->attention_head_dim, elbo_tensor_dim(in->sample, 1) / c->patch_size,
                       elbo_tensor_dim(in->sample, 2) / c->patch_size};
  elbo_tensor *x = embed_patches(c, in->sample, &s), *first = NULL, *part[2];
  for (int i = 0; i < (int)c->num_layers && x; i++) {
    char name[48];
    elbo_tensor *embedding;
    snprintf(name, sizeof name, "transformer_blocks.%d", i);
    elbo_scope_push(g, name);
    x = dit_block(c, in, x, s.width, &embedding);
    elbo_scope_pop(g);
    if (i == 0) first = embedding;
  }
  elbo_tensor *e = linear_layer_from(elbo_silu(first), "proj_out_1", 2 * s.width, &zero_layer);
  if (!elbo_split_axis(e, 1, 2, part)) return NULL;
  x = modulate(elbo_layer_norm(x, NULL, NULL, 1e-6), part[0], part[1]);
  return unpatchify(linear_layer_from(x, "proj_out_2", c->patch_size * c->patch_size * needs.out_channels, &zero_layer), c, &s);
}
