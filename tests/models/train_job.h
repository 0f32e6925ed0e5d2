// Trainings of small recipes in a directory: stopped after so many steps, gone on with, and what they wrote compared.
#ifndef TESTS_MODELS_TRAIN_JOB_H
#define TESTS_MODELS_TRAIN_JOB_H

#include "support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <elbo/train.h>

#include "core/file.h"

typedef struct job {
  const char *recipe, *out, *override; // override: "key=value" or NULL
  bool resume;
  int64_t stop_at; // steps; -1: never
} job;

static inline int stop_when(void *user, const char *what, int64_t done, int64_t total, const char *text) {
  (void)what, (void)total, (void)text;
  return done != ((const job *)user)->stop_at;
}

// result may be NULL
static inline elbo_status run_job(elbo_ctx *ctx, job j, elbo_train_result *result) {
  elbo_recipe *r;
  elbo_train_config config;
  elbo_train_result own;
  const char *path = test_path("r.yaml");
  test_write_file(path, j.recipe, strlen(j.recipe));
  elbo_status status = elbo_recipe_load(ctx, path, j.override != NULL, &j.override, &r);
  if (status != ELBO_OK) return status;
  elbo_train_defaults(&config);
  config.out = j.out, config.resume = j.resume, config.progress = stop_when, config.progress_user = &j;
  status = elbo_train(ctx, r, &config, result ? result : &own);
  elbo_recipe_destroy(&r);
  return status;
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
