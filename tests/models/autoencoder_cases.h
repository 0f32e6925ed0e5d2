// Small autoencoders from YAML: trainings in a directory, and graphs on pictures of 8x8.
#ifndef TESTS_MODELS_AUTOENCODER_CASES_H
#define TESTS_MODELS_AUTOENCODER_CASES_H

#include "support/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <elbo/model.h>
#include <elbo/train.h>

#include "core/file.h"
#include "graph/store.h"
#include "models/autoencoder.h"
#include "models/autoencoder_training.h"
#include "models/train_job.h"

#define SMALL_WIDTHS                                                                                      \
  "in_channels: 1, out_channels: 1, latent_channels: 2, block_out_channels: [4, 8], norm_num_groups: 2, " \
  "down_block_types: [DownEncoderBlock2D, DownEncoderBlock2D], up_block_types: [UpDecoderBlock2D, UpDecoderBlock2D]"
#define SMALL_KL "network: kl, kl: {" SMALL_WIDTHS "}"
#define SMALL_VQ "network: vq, vq: {" SMALL_WIDTHS ", num_vq_embeddings: 16}"
#define SMALL_TINY                                                                                                                  \
  "network: tiny, tiny: {in_channels: 1, out_channels: 1, encoder_block_out_channels: [4, 4], decoder_block_out_channels: [4, 4], " \
  "num_encoder_blocks: [1, 1], num_decoder_blocks: [1, 1], latent_channels: 2}"
#define SMALL_DATA "data: {path: digits, size: 8, limit: 200, holdout: 40}\n"

// The sections of a recipe as YAML flow, on pictures of 8x8x1. Lists live in the arena.
static inline void spec_from_text(elbo_ctx *ctx, arena *a, const char *model, const char *objective, autoencoder_spec *out) {
  char text[2048];
  yaml_node *root = NULL;
  autoencoder_recipe recipe;
  const elbo_dataset_info info = {.height = 8, .width = 8, .channels = 1, .bits = 8};
  snprintf(text, sizeof text, "{model: {%s}, objective: %s}", model, objective);
  assert_ok(ctx, yaml_parse(ctx, a, "test", text, strlen(text), &root));
  assert_ok(ctx, config_load(ctx, a, &autoencoder_sections, root, "", &recipe));
  assert_ok(ctx, autoencoder_spec_make(ctx, &recipe, &info, "test", out));
}

#endif
