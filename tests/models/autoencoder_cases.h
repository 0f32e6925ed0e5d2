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

#define SMALL_WIDTHS                                                                                      \
  "in_channels: 1, out_channels: 1, latent_channels: 2, block_out_channels: [4, 8], norm_num_groups: 2, " \
  "down_block_types: [DownEncoderBlock2D, DownEncoderBlock2D], up_block_types: [UpDecoderBlock2D, UpDecoderBlock2D]"
#define SMALL_KL "network: kl, kl: {" SMALL_WIDTHS "}"
#define SMALL_VQ "network: vq, vq: {" SMALL_WIDTHS ", num_vq_embeddings: 16}"
#define SMALL_TINY                                                                                                                  \
  "network: tiny, tiny: {in_channels: 1, out_channels: 1, encoder_block_out_channels: [4, 4], decoder_block_out_channels: [4, 4], " \
  "num_encoder_blocks: [1, 1], num_decoder_blocks: [1, 1], latent_channels: 2}"
#define SMALL_DATA "data: {path: digits, size: 8, limit: 200, holdout: 40}\n"

typedef struct job {
  const char *recipe, *out, *override;
  bool resume;
  int64_t stop_at;
} job;

static inline int stop_when(void *user, const char *what, int64_t done, int64_t total, const char *text) {
  (void)what, (void)total, (void)text;
  return done != ((const job *)user)->stop_at;
}

static inline elbo_status run_job(elbo_ctx *ctx, job j, elbo_train_result *result) {
  elbo_recipe *r;
  elbo_train_config config;
  const char *path = test_path("r.yaml");
  test_write_file(path, j.recipe, strlen(j.recipe));
  elbo_status status = elbo_recipe_load(ctx, path, j.override != NULL, &j.override, &r);
  if (status != ELBO_OK) return status;
  elbo_train_defaults(&config);
  config.out = j.out, config.resume = j.resume, config.progress = stop_when, config.progress_user = &j;
  status = elbo_train(ctx, r, &config, result);
  elbo_recipe_destroy(&r);
  return status;
}

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

static inline void assert_same_file(elbo_ctx *ctx, const char *a, const char *b, const char *name) {
  char path[2][8192], *text[2];
  size_t size[2];
  for (int k = 0; k < 2; k++) {
    snprintf(path[k], sizeof path[k], "%s/%s", k ? b : a, name);
    assert_ok(ctx, file_read(ctx, path[k], 1 << 24, &text[k], &size[k]));
  }
  if (size[0] != size[1] || memcmp(text[0], text[1], size[0]) != 0) fail_msg("%s and %s differ", path[0], path[1]);
  free(text[0]), free(text[1]);
}

#endif
