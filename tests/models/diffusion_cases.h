// Diffusion models from a line of YAML, weights that are not zero anywhere, and the noise that graphs draw, for the tests of models.
#ifndef TESTS_MODELS_DIFFUSION_CASES_H
#define TESTS_MODELS_DIFFUSION_CASES_H

#include "support/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/philox.h"
#include "models/diffusion_model.h"

#define TINY_UNET                                                                                                             \
  "network: unet, unet: {block_out_channels: [8, 8], layers_per_block: 1, down_block_types: [DownBlock2D, AttnDownBlock2D], " \
  "up_block_types: [AttnUpBlock2D, UpBlock2D], norm_num_groups: 4, attention_head_dim: 4}"
#define SONG_UNET /* divides by the sigma that it is told */                                                              \
  "network: unet, unet: {block_out_channels: [8, 8], layers_per_block: 1, down_block_types: [DownBlock2D, DownBlock2D], " \
  "up_block_types: [UpBlock2D, UpBlock2D], norm_num_groups: 4, time_embedding_type: fourier}"
#define TINY_MLP "network: mlp, mlp: {width: 8, layers: 1, time_width: 8}"

static inline diffusion_recipe recipe_of(elbo_ctx *ctx, arena *a, const char *text) {
  yaml_node *root = NULL;
  diffusion_recipe recipe;
  assert_ok(ctx, yaml_parse(ctx, a, "test", text, strlen(text), &root));
  assert_ok(ctx, config_load(ctx, a, &diffusion_sections, root, "", &recipe));
  return recipe;
}

// Adds noise to every trained parameter: initial weights are zero where a network begins as the identity.
static inline void shake(elbo_ctx *ctx, elbo_store *store, double scale) {
  test_random r = {test_seed(), 77};
  for (int i = 0; i < elbo_store_count(store); i++) {
    elbo_param_info p;
    assert_ok(ctx, elbo_store_get(store, i, &p));
    if (p.kind != ELBO_PARAM_TRAINED || strstr(p.name, "gamma_")) continue;
    for (int64_t k = 0; k < p.count; k++) p.data[k] += (float)(scale * test_normal(&r));
  }
  elbo_store_touch(store);
}

// What elbo_random_normal gives sample `sample` under the name `name`.
static inline void noise_of(uint64_t seed, const char *name, int64_t sample, int64_t n, double *out) {
  for (int64_t k = 0; k < n; k += 4) {
    uint32_t bits[4];
    double z[4];
    philox_draw(seed, philox_stream(name), (uint64_t)sample, (uint32_t)(k / 4), bits);
    philox_normal2(bits[0], bits[1], z), philox_normal2(bits[2], bits[3], z + 2);
    for (int64_t j = 0; j < 4 && k + j < n; j++) out[k + j] = z[j];
  }
}

static inline elbo_array *array_of(elbo_ctx *ctx, int rank, const int64_t *dim) {
  elbo_array *x;
  assert_ok(ctx, elbo_array_create(ctx, ELBO_F32, rank, dim, &x));
  return x;
}

// Pictures of 256 levels, 0..1.
static inline elbo_array *levels_of(elbo_ctx *ctx, int64_t n, const diffusion_spec *s, uint64_t stream) {
  elbo_array *x = array_of(ctx, 4, (int64_t[]){n, s->height, s->width, s->channels});
  test_random r = {test_seed(), stream << 32};
  for (int64_t i = 0; i < elbo_array_count(x); i++) ((float *)x->data)[i] = (float)test_below(&r, 0, 255) / 255;
  return x;
}

#endif
