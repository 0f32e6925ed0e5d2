#include "nn/tiny_autoencoder.h"

#include <stdio.h>
#include <string.h>

#include "backend/node.h"
#include "core/config_file.h"

enum { MAX_WIDTH = 1 << 20, POOL_GROUPS = 4, POOL_WIDENING = 4 };

static const config_field tiny_fields[] = {
    CONFIG_INT(tiny_config, in_channels, 1, MAX_WIDTH, "3", "", "of the pictures"),
    CONFIG_INT(tiny_config, out_channels, 1, MAX_WIDTH, "3", "", "of what is decoded"),
    CONFIG_INTS(tiny_config, encoder_block_out_channels, 1, MAX_WIDTH, "[64, 64, 64, 64]", "", "width of each stage, finest first"),
    CONFIG_INTS(tiny_config, decoder_block_out_channels, 1, MAX_WIDTH, "[64, 64, 64, 64]", "", "width of each stage, coarsest first"),
    CONFIG_ENUM(tiny_config, act_fn, "relu", DIFFUSERS_ACTIVATION_NAMES, "activation within blocks; behind their sums it is relu"),
    CONFIG_ENUM(tiny_config, upsample_fn, "nearest", "nearest", "how the decoder doubles; only nearest"),
    CONFIG_INT(tiny_config, latent_channels, 1, MAX_WIDTH, "4", "", "numbers at each place of the code"),
    CONFIG_INT(tiny_config, upsampling_scaling_factor, 1, 16, "2", "", "what each stage of the decoder multiplies height and width by"),
    CONFIG_INTS(tiny_config, num_encoder_blocks, 0, 256, "[1, 3, 3, 3]", "", "residual blocks of each stage, finest first"),
    CONFIG_INTS(tiny_config, num_decoder_blocks, 0, 256, "[3, 3, 3, 1]", "", "residual blocks of each stage, coarsest first"),
    CONFIG_FLOAT(tiny_config, latent_magnitude, 1e-9, 1e9, "3", "", "codes as 8-bit pictures reach from minus this to this"),
    CONFIG_FLOAT(tiny_config, latent_shift, -1e9, 1e9, "0.5", "", "where their zero lies, of 0..1"),
    CONFIG_BOOL(tiny_config, force_upcast, "false", "of no effect: everything is computed in single precision"),
    CONFIG_FLOAT(tiny_config, scaling_factor, 1e-9, 1e9, "1", "", "a prior sees (z - shift_factor) times this"),
    CONFIG_FLOAT(tiny_config, shift_factor, -1e9, 1e9, "0", "", "subtracted from codes before a prior sees them"),
    CONFIG_INTS_AS(tiny_config, block_out_channels, 1, MAX_WIDTH, "null", "", CONFIG_NULL,
                   "as decoder_block_out_channels; diffusers writes it"),
    CONFIG_BOOL(tiny_config, use_midblock_gn, "false",
                "not of diffusers: normed branches over the whole map in the coarsest stage, as those for FLUX.2 have them"),
};
const config_table tiny_table = CONFIG_TABLE("tiny", tiny_config, tiny_fields, "diffusers' AutoencoderTiny");
// What diffusers' class has: all but the last.
static const config_table plain_table = {"tiny", sizeof(tiny_config), tiny_fields, sizeof tiny_fields / sizeof *tiny_fields - 1, ""};

static elbo_status check_stages(elbo_ctx *ctx, const config_ints *width, const config_ints *blocks, const char *key, const char *where) {
  if (width->count >= 1 && width->count <= 16 && width->count == blocks->count) return ELBO_OK;
  return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: num_%s_blocks: %lld stages; %s_block_out_channels has %lld widths", where, key,
              (long long)blocks->count, key, (long long)width->count);
}

elbo_status tiny_check(elbo_ctx *ctx, const tiny_config *c, const char *where) {
  const config_ints *encoder = &c->encoder_block_out_channels, *decoder = &c->decoder_block_out_channels;
  TRY(check_stages(ctx, encoder, &c->num_encoder_blocks, "encoder", where));
  TRY(check_stages(ctx, decoder, &c->num_decoder_blocks, "decoder", where));
  // strided convolutions and those behind an upsampling keep the width, in diffusers' class too
  const config_ints *const both[] = {encoder, decoder};
  for (int k = 0; k < 2; k++)
    for (int64_t i = 1; i < both[k]->count; i++)
      if (both[k]->at[i] != both[k]->at[0])
        return fail(ctx, ELBO_ERROR_ARGUMENT,
                    "%s: %s_block_out_channels[%lld]: %lld; expected %lld, as in the first: no layer changes the width", where,
                    k ? "decoder" : "encoder", (long long)i, (long long)both[k]->at[i], (long long)both[k]->at[0]);
  bool same = c->block_out_channels.count == decoder->count;
  for (int64_t i = 0; same && i < decoder->count; i++) same = c->block_out_channels.at[i] == decoder->at[i];
  if (c->block_out_channels.count && !same)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: block_out_channels: not the same as decoder_block_out_channels", where);
  return ELBO_OK;
}

// A network that diffusers would load without its normed branches has a class name that it does not know.
static const config_file_form plain_form = {.classes = "AutoencoderTiny", .version = "0.32.0"}, own_form = {.classes = TINY_OWN_CLASS};

elbo_status tiny_config_read(elbo_ctx *ctx, arena *a, const char *path, bool own, tiny_config *out) {
  *out = (tiny_config){0};
  TRY(own ? config_file_read(ctx, a, &tiny_table, &own_form, path, out) : config_file_read(ctx, a, &plain_table, &plain_form, path, out));
  return tiny_check(ctx, out, path);
}

elbo_status tiny_config_write(elbo_ctx *ctx, const char *path, const tiny_config *c) {
  tiny_config full = *c;
  full.block_out_channels = c->decoder_block_out_channels;
  return c->use_midblock_gn ? config_file_write(ctx, &tiny_table, &own_form, &full, path)
                            : config_file_write(ctx, &plain_table, &plain_form, &full, path);
}

// --- the networks: layers.0, layers.1, ... as in a sequence, where activations and upsamplings have numbers too ---

typedef struct layer_sequence {
  const tiny_config *config;
  elbo_tensor *x;
  int next; // number
} layer_sequence;

static void named(char name[32], const char *format, int number) { snprintf(name, 32, format, number); }

static elbo_tensor *conv_unbiased(elbo_tensor *x, const char *name, int64_t out, int kernel, int stride) {
  if (!x) return NULL;
  elbo_graph *g = elbo_tensor_graph(x);
  int pad = kernel / 2;
  elbo_scope_push(g, name);
  elbo_tensor *w =
      elbo_parameter(g, "weight", 4, (int64_t[]){out, elbo_tensor_dim(x, -1), kernel, kernel}, ELBO_PARAM_TRAINED, ELBO_INIT_FAN_IN);
  elbo_scope_pop(g);
  return elbo_conv2d(x, w, NULL, &(elbo_conv2d_config){.stride = {stride, stride}, .pad = {pad, pad, pad, pad}});
}

static void add_conv(layer_sequence *s, int64_t out, int stride, bool bias) {
  char name[32];
  named(name, "layers.%d", s->next++);
  s->x = bias ? conv_layer(s->x, name, out, 3, stride, 1, 1) : conv_unbiased(s->x, name, out, 3, stride);
}

// x + conv(relu(norm(conv(x)))): the norm's means over the map are all that a block sees of the whole picture
static elbo_tensor *pooled_branch(elbo_tensor *x) {
  if (!x) return NULL;
  int64_t width = elbo_tensor_dim(x, -1);
  elbo_tensor *h = conv_unbiased(x, "pool.0", POOL_WIDENING * width, 1, 1);
  h = elbo_relu(norm_layer(h, "pool.1", POOL_GROUPS));
  return elbo_add(x, conv_unbiased(h, "pool.3", width, 1, 1));
}

static void add_blocks(layer_sequence *s, int64_t n, int64_t width, bool pooled) {
  int kind = diffusers_activation(s->config->act_fn);
  for (int64_t i = 0; i < n && s->x; i++) {
    elbo_graph *g = elbo_tensor_graph(s->x);
    char name[32];
    named(name, "layers.%d", s->next++);
    elbo_scope_push(g, name);
    elbo_tensor *x = pooled ? pooled_branch(s->x) : s->x;
    elbo_tensor *h = activate(conv_layer(x, "conv.0", width, 3, 1, 1, 1), kind);
    h = activate(conv_layer(h, "conv.2", width, 3, 1, 1, 1), kind);
    s->x = elbo_relu(elbo_add(conv_layer(h, "conv.4", width, 3, 1, 1, 1), x));
    elbo_scope_pop(g);
  }
}

elbo_tensor *tiny_encoder(const tiny_config *c, elbo_tensor *x) {
  if (!x) return NULL;
  elbo_graph *g = elbo_tensor_graph(x);
  const config_ints *width = &c->encoder_block_out_channels, *blocks = &c->num_encoder_blocks;
  layer_sequence s = {.config = c, .x = elbo_scale(x, 0.5, 0.5)}; // it was made for 0..1
  elbo_scope_push(g, "encoder");
  for (int64_t i = 0; i < width->count; i++) {
    add_conv(&s, width->at[i], i ? 2 : 1, i == 0);
    add_blocks(&s, blocks->at[i], width->at[i], c->use_midblock_gn && i + 1 == width->count);
  }
  add_conv(&s, c->latent_channels, 1, true);
  elbo_scope_pop(g);
  return s.x;
}

elbo_tensor *tiny_decoder(const tiny_config *c, elbo_tensor *z) {
  if (!z) return NULL;
  elbo_graph *g = elbo_tensor_graph(z);
  const config_ints *width = &c->decoder_block_out_channels, *blocks = &c->num_decoder_blocks;
  int factor = (int)c->upsampling_scaling_factor;
  layer_sequence s = {.config = c, .x = elbo_scale(elbo_tanh(elbo_scale(z, 1.0 / 3, 0)), 3, 0)};
  elbo_scope_push(g, "decoder");
  add_conv(&s, width->at[0], 1, true);
  s.x = activate(s.x, diffusers_activation(c->act_fn)), s.next++;
  for (int64_t i = 0; i < width->count; i++) {
    bool last = i + 1 == width->count;
    add_blocks(&s, blocks->at[i], width->at[i], c->use_midblock_gn && i == 0);
    if (!last) s.x = factor > 1 ? elbo_upsample_nearest(s.x, factor, factor) : s.x, s.next++;
    add_conv(&s, last ? c->out_channels : width->at[i], 1, last);
  }
  elbo_scope_pop(g);
  return elbo_scale(s.x, 2, -1);
}
