// Small VAE-GANs from a line of YAML, and their networks put together the plain way.
#ifndef TESTS_MODELS_GAN_CASES_H
#define TESTS_MODELS_GAN_CASES_H

#include "models/vae_cases.h"

#include "models/vae_gan_task.h"
#include "ops/op.h"

#define GAN_MODEL                                                                                                                      \
  "latent: {dim: 3}, encoder: {type: conv, channels: [4], hidden: [6], norm_groups: 0}, decoder: {type: conv, channels: [5], hidden: " \
  "[6], "                                                                                                                              \
  "norm_groups: 0}"
#define GAN_PICTURES "{" GAN_MODEL ", discriminator: {channels: [4, 6], activation: tanh, hidden: [5]}}"
#define GAN_CODES "{" GAN_MODEL ", discriminator: {type: mlp, hidden: [7, 6], activation: tanh}}"

// The sections of a vae-gan recipe as YAML flow; pictures of 8x8x1. Lists live in the arena.
static inline vae_gan_spec gan_spec_unchecked(elbo_ctx *ctx, arena *a, const char *model, const char *objective) {
  char text[2048];
  yaml_node *root = NULL;
  vae_gan_recipe recipe;
  snprintf(text, sizeof text, "{model: %s, objective: %s}", model, objective);
  assert_ok(ctx, yaml_parse(ctx, a, "test", text, strlen(text), &root));
  assert_ok(ctx, config_load(ctx, a, &vae_gan_sections, root, "", &recipe));
  vae_gan_spec s = {.vae = {.model = recipe.model.vae, .shape = {8, 8, 1}, .bits = 8},
                    .discriminator = recipe.model.discriminator,
                    .objective = recipe.objective};
  s.vae.model.preset = MODEL_VAE_GAN;
  return s;
}

static inline vae_gan_spec gan_spec(elbo_ctx *ctx, arena *a, const char *model, const char *objective) {
  vae_gan_spec s = gan_spec_unchecked(ctx, a, model, objective);
  assert_ok(ctx, vae_gan_check(ctx, &s, "test"));
  return s;
}

#endif
