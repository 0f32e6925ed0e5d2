#include "nn/akl_bands.h"

#include <stdio.h>

#include "nn/residual_block.h"

static int64_t width_of(const akl_config *c, int64_t level) { return c->block_out_channels.at[c->block_out_channels.count - 1 - level]; }

bool akl_band_upsamples(const akl_band *b) { return b->part != BAND_LAST && b->block == 0 && b->level > 0; }

// Rows of the block's own input beyond the band
static int64_t block_halo(const akl_band *b) {
  static const int64_t halo[] = {[BAND_UP] = 0, [BAND_FIRST] = 1, [BAND_BLOCK] = 2, [BAND_LAST] = 1};
  return halo[b->part];
}

int64_t akl_band_halo(const akl_band *b) {
  return akl_band_upsamples(b) ? (block_halo(b) + 2) / 2 : block_halo(b); // one more for the upsampler's convolution, at half the height
}

int64_t akl_band_in_channels(const akl_band *b) {
  return b->block == 0 && b->level > 0 && b->part != BAND_LAST ? width_of(b->config, b->level - 1) : width_of(b->config, b->level);
}

int64_t akl_band_out_channels(const akl_band *b) {
  if (b->part == BAND_LAST) return b->config->out_channels;
  return b->part == BAND_UP ? akl_band_in_channels(b) : width_of(b->config, b->level);
}

int64_t akl_band_inside_halo(const akl_band *b, int i) {
  const int64_t halo = block_halo(b);
  if (i == 0) return akl_band_upsamples(b) ? halo + 1 : -1;
  return i <= halo ? halo + 1 - i : -1;
}

const char *akl_band_norm(const akl_band *b, int i, char *text, size_t size) {
  const bool there = b->part == BAND_LAST ? i == 1 : i <= block_halo(b);
  text[0] = 0;
  if (there && b->part == BAND_LAST)
    snprintf(text, size, "decoder.conv_norm_out");
  else if (there)
    snprintf(text, size, "decoder.up_blocks.%lld.resnets.%lld.norm%d", (long long)b->level, (long long)b->block, i);
  return text;
}

static elbo_tensor *inside(const akl_band *b, elbo_tensor *x, int i) {
  char name[16];
  if (!x) return NULL;
  snprintf(name, sizeof name, "inside%d", i);
  return elbo_mul(x, elbo_input(elbo_tensor_graph(x), name, ELBO_F32, 4, (int64_t[]){1, b->rows + 2 * akl_band_inside_halo(b, i), 1, 1}));
}

// A norm whose sums are known, activated, zero beyond the map's ends
static elbo_tensor *normed(const akl_band *b, elbo_tensor *x, int i, int activation) {
  char scale[16], shift[16];
  if (!x) return NULL;
  elbo_graph *g = elbo_tensor_graph(x);
  const int64_t channels = elbo_tensor_dim(x, 3);
  snprintf(scale, sizeof scale, "scale%d", i), snprintf(shift, sizeof shift, "shift%d", i);
  x = elbo_add(elbo_mul(x, elbo_input(g, scale, ELBO_F32, 1, &channels)), elbo_input(g, shift, ELBO_F32, 1, &channels));
  return inside(b, activate(x, activation), i);
}

// A 3x3 convolution that eats a row above and below
static elbo_tensor *convolved(elbo_tensor *x, const char *name, int64_t out) {
  return conv_layer_padded(x, name, out, 3, 1, (const int[]){0, 1, 0, 1}, 1);
}

static elbo_tensor *rows_inside(elbo_tensor *x, int64_t cut) { return cut && x ? elbo_slice(x, 1, cut, elbo_tensor_dim(x, 1) - cut) : x; }

// The block's own input, from the map of the level before
static elbo_tensor *upsampled(const akl_band *b, elbo_tensor *x) {
  char name[64];
  const int64_t extra = 2 * akl_band_halo(b) - akl_band_inside_halo(b, 0);
  x = inside(b, rows_inside(resample_map(x, RESAMPLE_UP), extra), 0);
  snprintf(name, sizeof name, "up_blocks.%lld.upsamplers.0.conv", (long long)b->level - 1);
  return convolved(x, name, akl_band_in_channels(b));
}

static elbo_tensor *block(const akl_band *b, elbo_tensor *x) {
  const akl_config *c = b->config;
  const int64_t out = akl_band_out_channels(b);
  const int activation = diffusers_activation(c->act_fn);
  char name[64];
  if (!x) return NULL;
  elbo_graph *g = elbo_tensor_graph(x);
  snprintf(name, sizeof name, "up_blocks.%lld.resnets.%lld", (long long)b->level, (long long)b->block);
  elbo_scope_push(g, name);
  elbo_tensor *h = convolved(normed(b, x, 1, activation), "conv1", out);
  if (b->part == BAND_BLOCK) {
    elbo_tensor *skip = rows_inside(x, 2);
    if (akl_band_in_channels(b) != out) skip = conv_layer(skip, "conv_shortcut", out, 1, 1, 0, 1);
    h = elbo_add(skip, convolved(normed(b, h, 2, activation), "conv2", out));
  }
  elbo_scope_pop(g);
  return h;
}

elbo_tensor *akl_band_graph(const akl_band *b, elbo_graph *g) {
  const bool up = akl_band_upsamples(b);
  const int64_t under = up ? b->rows / 2 : b->rows;
  elbo_tensor *x =
      elbo_input(g, "x", ELBO_F32, 4, (int64_t[]){1, under + 2 * akl_band_halo(b), up ? b->width / 2 : b->width, akl_band_in_channels(b)});
  elbo_scope_push(g, "decoder");
  if (up) x = upsampled(b, x);
  if (b->part == BAND_LAST)
    x = convolved(normed(b, x, 1, ACTIVATION_SILU), "conv_out", akl_band_out_channels(b));
  else if (b->part != BAND_UP)
    x = block(b, x);
  elbo_scope_pop(g);
  return x;
}
