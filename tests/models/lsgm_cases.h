// Small LSGMs from a line of YAML.
#ifndef TESTS_MODELS_LSGM_CASES_H
#define TESTS_MODELS_LSGM_CASES_H

#include "models/vae_cases.h"

#include "models/diffusion_model.h"
#include "models/lsgm_graph.h"
#include "models/lsgm_model.h"
#include "models/lsgm_task.h"

#define LSGM_VAE                                                                                                                       \
  "latent: {dim: 3}, encoder: {type: conv, channels: [4], hidden: [6], norm_groups: 0}, decoder: {type: conv, channels: [5], hidden: " \
  "[6], norm_groups: 0}"
#define LSGM_MLP "mlp: {width: 8, layers: 1, time_width: 8}"
#define LSGM_PROCESS "process: {type: cosine, logsnr_min: -10, logsnr_max: 8}"
#define LSGM_FLAT "{" LSGM_VAE ", prior: {" LSGM_PROCESS ", " LSGM_MLP "}}"
// a map of 4x4x2
#define LSGM_MAP                                                                                                                   \
  "{latent: {groups: [0, 1], channels: 2, width: 6}, encoder: {type: conv, channels: [4], norm_groups: 2}, decoder: {type: conv, " \
  "channels: "                                                                                                                     \
  "[4], norm_groups: 2}, prior: {" LSGM_PROCESS ", network: unet, unet: {block_out_channels: [8, 8], layers_per_block: 1, "        \
  "down_block_types: [DownBlock2D, DownBlock2D], up_block_types: [UpBlock2D, UpBlock2D], norm_num_groups: 4}}}"
// two vectors of 3 and a map of 4x4x2
#define LSGM_GROUPS                                                                                                                  \
  "{latent: {dim: 3, groups: [2, 1], channels: 2, width: 6}, encoder: {type: conv, channels: [4], norm_groups: 2}, decoder: {type: " \
  "conv, channels: [4], norm_groups: 2}, prior: {" LSGM_PROCESS ", " LSGM_MLP "}}"

// A lsgm recipe's sections as YAML flow.
static inline lsgm_recipe lsgm_recipe_of(elbo_ctx *ctx, arena *a, const char *model, const char *objective) {
  char text[4096];
  yaml_node *root = NULL;
  lsgm_recipe recipe;
  snprintf(text, sizeof text, "{model: %s, objective: %s}", model, objective);
  assert_ok(ctx, yaml_parse(ctx, a, "test", text, strlen(text), &root));
  assert_ok(ctx, config_load(ctx, a, &lsgm_sections, root, "", &recipe));
  return recipe;
}

// Of 8x8x1 pictures. Lists live in the arena.
static inline elbo_status lsgm_spec_try(elbo_ctx *ctx, arena *a, const lsgm_recipe *recipe, lsgm_spec *out) {
  const vae_spec vae = {.model = recipe->model.vae, .shape = {8, 8, 1}, .bits = 8};
  return lsgm_spec_make(ctx, a, recipe, &vae, "r.yaml", out);
}

static inline lsgm_spec lsgm_spec_of(elbo_ctx *ctx, arena *a, const char *model) {
  lsgm_recipe recipe = lsgm_recipe_of(ctx, a, model, "{}");
  lsgm_spec s;
  assert_ok(ctx, lsgm_spec_try(ctx, a, &recipe, &s));
  return s;
}

static inline void lsgm_shake(elbo_ctx *ctx, elbo_store *store, double scale) {
  test_random r = {test_seed(), 99};
  for (int i = 0; i < elbo_store_count(store); i++) {
    elbo_param_info p;
    assert_ok(ctx, elbo_store_get(store, i, &p));
    for (int64_t k = 0; p.kind == ELBO_PARAM_TRAINED && k < p.count; k++) p.data[k] += (float)(scale * test_normal(&r));
  }
  elbo_store_touch(store);
}

#endif
