// Small pictures with labels and a small autoencoder, for the tests of models of codes.
#ifndef TESTS_MODELS_LATENT_CASES_H
#define TESTS_MODELS_LATENT_CASES_H

#include "models/diffusion_cases.h"

#include "models/latent_cache.h"

enum { CASE_SIDE = 8, CASE_EXAMPLES = 24 };

// (n,8,8,3) smooth in the examples' own ways, so that codes differ
static inline elbo_array *case_pictures(elbo_ctx *ctx, int64_t n) {
  elbo_array *x;
  assert_ok(ctx, elbo_array_create(ctx, ELBO_U8, 4, (int64_t[]){n, CASE_SIDE, CASE_SIDE, 3}, &x));
  uint8_t *v = x->data;
  test_random r = {test_seed(), (uint64_t)5 << 32};
  for (int64_t i = 0; i < n; i++) {
    double a = test_uniform(&r), b = test_uniform(&r), c = test_uniform(&r);
    for (int64_t p = 0; p < CASE_SIDE * CASE_SIDE * 3; p++)
      v[i * CASE_SIDE * CASE_SIDE * 3 + p] =
          (uint8_t)(127 + 120 * sin(a * 6 + (double)(p / 3 % 8) * b + (double)(p / 24) * c + (double)(p % 3)));
  }
  return x;
}

static inline elbo_array *case_labels(elbo_ctx *ctx, int64_t n) {
  elbo_array *x;
  assert_ok(ctx, elbo_array_create(ctx, ELBO_I32, 1, &n, &x));
  for (int64_t i = 0; i < n; i++) ((int32_t *)x->data)[i] = (int32_t)(i * 7 % 3);
  return x;
}

// A copy of the autoencoder of tests/golden/autoencoders, "kl", "vq" or "tiny", as a directory of the test's own.
static inline const char *case_autoencoder(const char *kind, const char *name) {
  char command[1024], golden[128];
  const char *path = test_path(name);
  snprintf(golden, sizeof golden, "tests/golden/autoencoders/%s", kind);
  snprintf(command, sizeof command, "cp -r '%s' '%s' && chmod -R u+w '%s'", test_repository_file(golden), path, path);
  assert_int_equal(test_run(command, NULL), 0);
  return path;
}

#endif
