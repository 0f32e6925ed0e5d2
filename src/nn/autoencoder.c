#include "nn/autoencoder.h"

#include <stdio.h>
#include <stdlib.h>

#include "backend/node.h"
#include "nn/attention_block.h"

enum { PLACES = 1u << 1 | 1u << 2 }; // the axes of a map

static const config_field encoder_fields[] = {
    CONFIG_ENUM(encoder_config, type, "conv", "mlp|conv|resnet", "kind of network"),
    CONFIG_INTS(encoder_config, channels, 1, 4096, "[32, 64]", "",
                "channels of each resolution, finest first; conv: each entry halves the picture; resnet: each but the last does"),
    CONFIG_INTS(encoder_config, hidden, 1, 1e6, "[]", "", "dense layers before the code; of an mlp all its layers"),
    CONFIG_INT(encoder_config, blocks, 1, 64, "1", "", "resnet: residual blocks at each resolution"),
    CONFIG_INT(encoder_config, stem, 1, 2, "1", "", "resnet: stride of the first convolution"),
    CONFIG_BOOL(encoder_config, attention, "false", "resnet: attention at the coarsest resolution"),
    CONFIG_ENUM(encoder_config, pool, "none", "none|mean|moments",
                "conv and resnet: what is seen of the last map: all of it; the mean of every channel [Preechakul22]; the mean and the "
                "first moments, across and down, which say where"),
    CONFIG_INT(encoder_config, norm_groups, 0, 1024, "8", "", "groups of the group norms; 0: no norm"),
    CONFIG_ENUM(encoder_config, activation, "silu", ACTIVATION_NAMES, "activation"),
    CONFIG_FLOAT(encoder_config, init_gain, 0.01, 100, "1", "",
                 "mlp and conv: initial weights in front of activations are PyTorch's times this; where there are no norms 2.4 (with relu "
                 "or leaky_relu) keeps a signal's size from layer to layer [He15]"),
    CONFIG_FLOAT(encoder_config, dropout, 0, 0.95, "0", "", "probability of dropping in residual blocks and behind dense layers"),
};
const config_table encoder_table = CONFIG_TABLE("encoder", encoder_config, encoder_fields, "the network of q(z|x)");

static const config_field decoder_fields[] = {
    CONFIG_ENUM(decoder_config, type, "conv", "mlp|conv|resnet", "kind of network"),
    CONFIG_INTS(decoder_config, channels, 1, 4096, "[64, 32]", "",
                "channels of each resolution, coarsest first; conv: each entry doubles the picture; resnet: each but the last does"),
    CONFIG_INTS(decoder_config, hidden, 1, 1e6, "[]", "", "dense layers behind the code; of an mlp all its layers"),
    CONFIG_INT(decoder_config, blocks, 1, 64, "1", "", "resnet: residual blocks at each resolution"),
    CONFIG_INT(decoder_config, stem, 1, 2, "1", "", "resnet: factor of the last step up, by a transposed convolution"),
    CONFIG_BOOL(decoder_config, attention, "false", "resnet: attention at the coarsest resolution"),
    CONFIG_INT(decoder_config, norm_groups, 0, 1024, "8", "", "groups of the group norms; 0: no norm"),
    CONFIG_ENUM(decoder_config, activation, "silu", ACTIVATION_NAMES, "activation"),
    CONFIG_FLOAT(decoder_config, init_gain, 0.01, 100, "1", "", "as the encoder's"),
    CONFIG_FLOAT(decoder_config, dropout, 0, 0.95, "0", "", "probability of dropping in residual blocks and behind dense layers"),
    CONFIG_ENUM(decoder_config, likelihood, "bernoulli", LIKELIHOOD_NAMES, "p(x|z)"),
    CONFIG_ENUM(decoder_config, variance, "auto", WIDTH_NAMES, "width of gaussian, laplace, discretized_logistic"),
    CONFIG_FLOAT(decoder_config, sigma, 1e-4, 1e4, "1", "units of x", "the fixed width, or where a learned one begins"),
    CONFIG_INT(decoder_config, mixtures, 1, 100, "5", "", "components of logistic_mixture"),
};
const config_table decoder_table = CONFIG_TABLE("decoder", decoder_config, decoder_fields, "the network of p(x|z) and its likelihood");

int encoder_halvings(const encoder_config *c) {
  if (c->type == NETWORK_MLP) return 0;
  if (c->type == NETWORK_CONV) return (int)c->channels.count;
  return (int)c->channels.count - 1 + (c->stem == 2);
}

int decoder_halvings(const decoder_config *c) {
  if (c->type == NETWORK_MLP) return 0;
  if (c->type == NETWORK_CONV) return (int)c->channels.count;
  return (int)c->channels.count - 1 + (c->stem == 2);
}

elbo_status check_halvings(elbo_ctx *ctx, const char *where, const picture_shape *s, int halvings) {
  int64_t h = s->height, w = s->width;
  for (int i = 0; i < halvings; i++, h /= 2, w /= 2)
    if (h % 2 || w % 2)
      return fail(ctx, ELBO_ERROR_ARGUMENT,
                  "%s: a %lldx%lld picture cannot be halved %d times: after %d it is %lldx%lld, which is odd; use fewer channels entries, "
                  "or data.size",
                  where, (long long)s->height, (long long)s->width, halvings, i, (long long)h, (long long)w);
  return ELBO_OK;
}

block_config encoder_block(const encoder_config *c, int64_t out, elbo_tensor *condition, bool training) {
  return (block_config){.out = out,
                        .kernel = 3,
                        .groups = (int)c->norm_groups,
                        .activation = c->activation,
                        .gain = 1,
                        .embedding = condition,
                        .dropout = training ? c->dropout : 0};
}

block_config decoder_block(const decoder_config *c, int64_t out, elbo_tensor *condition, bool training) {
  return (block_config){.out = out,
                        .kernel = 3,
                        .groups = (int)c->norm_groups,
                        .activation = c->activation,
                        .gain = 1,
                        .embedding = condition,
                        .dropout = training ? c->dropout : 0};
}

// Scopes "NAME.I"
static void push_index(elbo_graph *g, const char *name, int i) {
  char text[64];
  snprintf(text, sizeof text, "%s.%d", name, i);
  elbo_scope_push(g, text);
}

static elbo_tensor *dense(elbo_tensor *h, const config_ints *hidden, int activation, double gain, double dropout) {
  for (int i = 0; i < (int)hidden->count && h; i++) {
    char name[32], drop[32];
    snprintf(name, sizeof name, "fc.%d", i);
    snprintf(drop, sizeof drop, "fc.%d.dropout", i);
    h = activate(linear_layer(h, name, hidden->at[i], gain), activation);
    if (dropout > 0) h = elbo_dropout(h, drop, dropout);
  }
  return h;
}

static elbo_tensor *join(elbo_tensor *a, elbo_tensor *condition) {
  if (!condition || !a) return a;
  elbo_tensor *both[2] = {a, condition};
  return elbo_concat(2, both, 1);
}

static void conv_encoder(const encoder_config *c, elbo_tensor *h, encoder_features *out) {
  int n = (int)c->channels.count;
  for (int i = 0; i < n && h; i++) {
    char name[32], norm[32];
    snprintf(name, sizeof name, "conv.%d", i);
    snprintf(norm, sizeof norm, "norm.%d", i);
    h = activate(norm_layer(conv_layer(h, name, c->channels.at[i], 4, 2, 1, c->init_gain), norm, (int)c->norm_groups), c->activation);
    out->map[n - 1 - i] = h;
  }
  out->n_maps = n;
}

static elbo_tensor *middle(elbo_tensor *h, const block_config *block, int groups) {
  elbo_graph *g = h ? elbo_tensor_graph(h) : NULL;
  if (!g) return NULL;
  elbo_scope_push(g, "mid_block");
  h = residual_block(h, "resnets.0", block);
  h = attention_block(h, "attentions.0", &(attention_block_config){.groups = groups});
  h = residual_block(h, "resnets.1", block);
  elbo_scope_pop(g);
  return h;
}

static void resnet_encoder(const encoder_config *c, elbo_tensor *x, elbo_tensor *condition, bool training, encoder_features *out) {
  if (!x) return;
  elbo_graph *g = elbo_tensor_graph(x);
  int n = (int)c->channels.count;
  // pictures come centred
  elbo_tensor *h = elbo_scale(x, 2, -1);
  h = c->stem == 2 ? conv_layer(h, "conv_in", c->channels.at[0], 4, 2, 1, 1) : conv_layer(h, "conv_in", c->channels.at[0], 3, 1, 1, 1);
  for (int i = 0; i < n; i++) {
    push_index(g, "down_blocks", i);
    block_config block = encoder_block(c, c->channels.at[i], condition, training);
    for (int j = 0; j < (int)c->blocks; j++) {
      char name[32];
      snprintf(name, sizeof name, "resnets.%d", j);
      h = residual_block(h, name, &block);
    }
    out->map[n - 1 - i] = h;
    if (i + 1 < n) h = conv_layer(h, "downsamplers.0.conv", c->channels.at[i], 3, 2, 1, 1);
    elbo_scope_pop(g);
  }
  if (c->attention) {
    block_config block = encoder_block(c, 0, condition, training);
    h = middle(h, &block, (int)c->norm_groups);
  }
  out->map[0] = activate(norm_layer(h, "conv_norm_out", (int)c->norm_groups), c->activation);
  out->n_maps = n;
}

// The mean over places of h times the place, 0 in the middle and 1 at the far edge: (B,h,w,C) -> (B,C)
static elbo_tensor *first_moment(elbo_tensor *h, int axis) {
  const int64_t n = elbo_tensor_dim(h, axis), dim[4] = {1, axis == 1 ? n : 1, axis == 2 ? n : 1, 1};
  elbo_graph *g = elbo_tensor_graph(h);
  float *place = malloc((size_t)n * sizeof *place);
  if (!place) return graph_fail(g, ELBO_ERROR_MEMORY, "out of memory for the places of a map");
  for (int64_t i = 0; i < n; i++) place[i] = (float)((double)(2 * i + 1) / (double)n - 1);
  elbo_tensor *weight = elbo_constant_array(g, 4, dim, place);
  free(place);
  return elbo_mean(elbo_mul(h, weight), PLACES, 0);
}

static elbo_tensor *pooled(elbo_tensor *h, int pool) {
  if (!h || pool == POOL_NONE) return h;
  elbo_tensor *mean = elbo_mean(h, PLACES, 0);
  if (pool == POOL_MEAN) return mean;
  return elbo_concat(3, (elbo_tensor *[]){mean, first_moment(h, 1), first_moment(h, 2)}, 1);
}

encoder_features encoder_network(const encoder_config *c, elbo_tensor *x, elbo_tensor *condition, bool training) {
  encoder_features f = {0};
  if (!x) return f;
  double dropout = training ? c->dropout : 0;
  elbo_tensor *h = x;
  if (c->type == NETWORK_CONV) conv_encoder(c, x, &f);
  if (c->type == NETWORK_RESNET) resnet_encoder(c, x, condition, training, &f);
  if (c->type != NETWORK_MLP) h = pooled(f.map[0], c->pool);
  f.vector = dense(join(flatten_rows(h), condition), &c->hidden, c->activation, c->init_gain, dropout);
  return f;
}

int decoder_levels(const decoder_config *c) { return c->type == NETWORK_MLP ? 0 : (int)c->channels.count; }

elbo_tensor *decoder_first_map(const decoder_config *c, const picture_shape *s, elbo_tensor *vector) {
  int halvings = decoder_halvings(c);
  int64_t h = s->height >> halvings, w = s->width >> halvings, channels = c->channels.at[0];
  return as_map(linear_layer(vector, "fc_map", h * w * channels, c->init_gain), h, w, channels);
}

elbo_tensor *decoder_level(const decoder_config *c, int level, elbo_tensor *h, elbo_tensor *condition, bool training) {
  if (!h || c->type != NETWORK_RESNET) return h;
  elbo_graph *g = elbo_tensor_graph(h);
  block_config block = decoder_block(c, c->channels.at[level], condition, training);
  if (level == 0 && c->attention) h = middle(h, &block, (int)c->norm_groups);
  push_index(g, "up_blocks", level);
  for (int j = 0; j < (int)c->blocks; j++) {
    char name[32];
    snprintf(name, sizeof name, "resnets.%d", j);
    h = residual_block(h, name, &block);
  }
  elbo_scope_pop(g);
  return h;
}

elbo_tensor *decoder_step_up(const decoder_config *c, int level, elbo_tensor *h) {
  if (!h) return NULL;
  char name[64], norm[32];
  int n = (int)c->channels.count, next = level + 1 < n ? level + 1 : n - 1;
  if (c->type == NETWORK_CONV) {
    snprintf(name, sizeof name, "conv.%d", level);
    snprintf(norm, sizeof norm, "norm.%d", level);
    return activate(norm_layer(conv_transpose_layer(h, name, c->channels.at[next], c->init_gain), norm, (int)c->norm_groups),
                    c->activation);
  }
  if (level + 1 == n) return h;
  snprintf(name, sizeof name, "up_blocks.%d.upsamplers.0.conv", level);
  return conv_layer(elbo_upsample_nearest(h, 2, 2), name, c->channels.at[level], 3, 1, 1, 1);
}

elbo_tensor *decoder_last(const decoder_config *c, elbo_tensor *h, int64_t width, double gain) {
  if (c->type == NETWORK_CONV) return conv_layer(h, "conv_out", width, 3, 1, 1, gain);
  h = activate(norm_layer(h, "conv_norm_out", (int)c->norm_groups), c->activation);
  return c->stem == 2 ? conv_transpose_layer(h, "conv_out", width, gain) : conv_layer(h, "conv_out", width, 3, 1, 1, gain);
}

elbo_tensor *decoder_network(const decoder_config *c, const picture_shape *s, int64_t width, elbo_tensor *code, elbo_tensor *condition,
                             bool training) {
  elbo_tensor *h = dense(join(code, condition), &c->hidden, c->activation, c->init_gain, training ? c->dropout : 0);
  if (c->type == NETWORK_MLP) return as_map(linear_layer(h, "fc_out", s->height * s->width * width, 1), s->height, s->width, width);
  h = decoder_first_map(c, s, h);
  for (int level = 0; level < decoder_levels(c); level++) {
    h = decoder_level(c, level, h, condition, training);
    h = decoder_step_up(c, level, h);
  }
  return decoder_last(c, h, width, 1);
}
