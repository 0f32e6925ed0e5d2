#include "nn/akl.h"

#include <stdio.h>
#include <string.h>

#include "backend/node.h"
#include "nn/attention_block.h"
#include "nn/residual_block.h"

static elbo_tensor *resnet(const akl_config *c, elbo_tensor *x, const char *name, int64_t out) {
  block_config block = {.out = out,
                        .kernel = 3,
                        .groups = (int)c->norm_num_groups,
                        .eps = AKL_NORM_EPS,
                        .activation = diffusers_activation(c->act_fn),
                        .gain = 1};
  return residual_block(x, name, &block);
}

static elbo_tensor *attention(const akl_config *c, elbo_tensor *x, const char *name) {
  return attention_block(x, name, &(attention_block_config){.groups = (int)c->norm_num_groups, .eps = AKL_NORM_EPS}); // one head
}

// The residual blocks of a level, and its attention where the block's type ("AttnDown…", "AttnUp…") has it
static elbo_tensor *level_blocks(const akl_config *c, elbo_tensor *x, const char *type, int64_t out, int64_t layers) {
  bool has_attention = strncmp(type, "Attn", 4) == 0;
  for (int64_t j = 0; j < layers; j++) {
    char name[32];
    snprintf(name, sizeof name, "resnets.%lld", (long long)j);
    x = resnet(c, x, name, out);
    snprintf(name, sizeof name, "attentions.%lld", (long long)j);
    if (has_attention) x = attention(c, x, name);
  }
  return x;
}

static elbo_tensor *middle(const akl_config *c, elbo_tensor *x) {
  if (!x) return NULL;
  elbo_graph *g = elbo_tensor_graph(x);
  int64_t width = elbo_tensor_dim(x, -1);
  elbo_scope_push(g, "mid_block");
  x = resnet(c, x, "resnets.0", width);
  if (c->mid_block_add_attention) x = attention(c, x, "attentions.0");
  x = resnet(c, x, "resnets.1", width);
  elbo_scope_pop(g);
  return x;
}

static elbo_tensor *last_layers(const akl_config *c, elbo_tensor *x, int64_t out) {
  x = elbo_silu(norm_layer_eps(x, "conv_norm_out", (int)c->norm_num_groups, AKL_NORM_EPS));
  return conv_layer(x, "conv_out", out, 3, 1, 1, 1);
}

static void push_level(elbo_graph *g, const char *name, int64_t i) {
  char text[64];
  snprintf(text, sizeof text, "%s.%lld", name, (long long)i);
  elbo_scope_push(g, text);
}

static elbo_tensor *encoder(const akl_config *c, elbo_tensor *x, int64_t out) {
  if (!x) return NULL;
  elbo_graph *g = elbo_tensor_graph(x);
  const config_ints *width = &c->block_out_channels;
  elbo_scope_push(g, "encoder");
  x = conv_layer(x, "conv_in", width->at[0], 3, 1, 1, 1);
  for (int64_t i = 0; i < width->count && x; i++) {
    push_level(g, "down_blocks", i);
    x = level_blocks(c, x, c->down_block_types.at[i], width->at[i], c->layers_per_block);
    if (i + 1 < width->count) x = conv_layer_padded(x, "downsamplers.0.conv", width->at[i], 3, 2, (int[]){0, 0, 1, 1}, 1);
    elbo_scope_pop(g);
  }
  x = last_layers(c, middle(c, x), out);
  elbo_scope_pop(g);
  return x;
}

// (B,h,w,width of the coarsest level)
static elbo_tensor *decoder_start(const akl_config *c, elbo_tensor *x) {
  if (!x) return NULL;
  elbo_graph *g = elbo_tensor_graph(x);
  elbo_scope_push(g, "decoder");
  x = middle(c, conv_layer(x, "conv_in", c->block_out_channels.at[c->block_out_channels.count - 1], 3, 1, 1, 1));
  elbo_scope_pop(g);
  return x;
}

static elbo_tensor *decoder(const akl_config *c, elbo_tensor *x) {
  x = decoder_start(c, x);
  if (!x) return NULL;
  elbo_graph *g = elbo_tensor_graph(x);
  const config_ints *width = &c->block_out_channels;
  elbo_scope_push(g, "decoder");
  for (int64_t i = 0; i < width->count && x; i++) {
    int64_t out = width->at[width->count - 1 - i];
    push_level(g, "up_blocks", i);
    x = level_blocks(c, x, c->up_block_types.at[i], out, c->layers_per_block + 1);
    if (i + 1 < width->count) x = conv_layer(resample_map(x, RESAMPLE_UP), "upsamplers.0.conv", out, 3, 1, 1, 1);
    elbo_scope_pop(g);
  }
  x = last_layers(c, x, c->out_channels);
  elbo_scope_pop(g);
  return x;
}

// --- AutoencoderKL ---

void kl_encoder(const akl_config *c, elbo_tensor *x, elbo_tensor **mean, elbo_tensor **logvar) {
  elbo_tensor *part[2] = {NULL, NULL}, *moments = encoder(c, x, 2 * c->latent_channels);
  if (c->use_quant_conv) moments = conv_layer(moments, "quant_conv", 2 * c->latent_channels, 1, 1, 0, 1);
  if (moments) elbo_split_axis(moments, 3, 2, part);
  *mean = part[0], *logvar = elbo_clamp(part[1], -30, 20);
}

static elbo_tensor *after_quant(const akl_config *c, elbo_tensor *z) {
  return c->use_post_quant_conv ? conv_layer(z, "post_quant_conv", c->latent_channels, 1, 1, 0, 1) : z;
}

elbo_tensor *kl_decoder(const akl_config *c, elbo_tensor *z) { return decoder(c, after_quant(c, z)); }

elbo_tensor *kl_decoder_start(const akl_config *c, elbo_tensor *z) { return decoder_start(c, after_quant(c, z)); }

// --- VQModel ---

int64_t vq_code_channels(const akl_config *c) { return c->vq_embed_dim ? c->vq_embed_dim : c->latent_channels; }

elbo_tensor *vq_encoder(const akl_config *c, elbo_tensor *x) {
  return conv_layer(encoder(c, x, c->latent_channels), "quant_conv", vq_code_channels(c), 1, 1, 0, 1);
}

elbo_tensor *vq_codebook(const akl_config *c, elbo_graph *g) {
  elbo_init init = {ELBO_INIT_KIND_UNIFORM, 1.0 / (double)c->num_vq_embeddings, 0}; // as diffusers draws it
  return elbo_parameter(g, "quantize.embedding.weight", 2, (int64_t[]){c->num_vq_embeddings, vq_code_channels(c)}, ELBO_PARAM_TRAINED,
                        init);
}

elbo_tensor *vq_decoder(const akl_config *c, elbo_tensor *z) {
  return decoder(c, conv_layer(z, "post_quant_conv", c->latent_channels, 1, 1, 0, 1));
}
