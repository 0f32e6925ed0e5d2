// Specs from a line of YAML, and small things that the tests of models share.
#ifndef TESTS_MODELS_VAE_CASES_H
#define TESTS_MODELS_VAE_CASES_H

#include "support/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/model.h"

// `text` is the `model:` section as YAML flow. Lists live in the arena.
static inline vae_spec spec_of(elbo_ctx *ctx, arena *a, const char *text, int64_t h, int64_t w, int64_t c, int classes) {
  yaml_node *root = NULL;
  vae_spec spec = {.shape = {h, w, c}, .classes = classes, .bits = 8};
  assert_ok(ctx, yaml_parse(ctx, a, "test", text, strlen(text), &root));
  assert_ok(ctx, config_load(ctx, a, &model_table, root, "model", &spec.model));
  assert_ok(ctx, vae_spec_fit_condition(ctx, &spec, spec.model.condition.dim, "test"));
  assert_ok(ctx, vae_spec_check(ctx, &spec, "test"));
  return spec;
}

static inline objective_config objective_of(elbo_ctx *ctx, arena *a, const char *text) {
  yaml_node *root = NULL;
  objective_config o;
  assert_ok(ctx, yaml_parse(ctx, a, "test", text, strlen(text), &root));
  assert_ok(ctx, config_load(ctx, a, &objective_table, root, "objective", &o));
  return o;
}

static inline float *weights_of(elbo_ctx *ctx, elbo_store *store, const char *name, int64_t *count) {
  elbo_param_info p;
  assert_ok(ctx, elbo_store_find(store, name, &p));
  if (count) *count = p.count;
  return p.data;
}

static inline int64_t trained_count(elbo_ctx *ctx, elbo_store *store) {
  int64_t n = 0;
  for (int i = 0; i < elbo_store_count(store); i++) {
    elbo_param_info p;
    assert_ok(ctx, elbo_store_get(store, i, &p));
    if (p.kind == ELBO_PARAM_TRAINED) n += p.count;
  }
  return n;
}

static inline elbo_array *pictures(elbo_ctx *ctx, int64_t n, const picture_shape *s, uint64_t stream, bool binary) {
  elbo_array *x;
  assert_ok(ctx, elbo_array_create(ctx, ELBO_F32, 4, (int64_t[]){n, s->height, s->width, s->channels}, &x));
  test_random r = {test_seed(), stream << 32};
  for (int64_t i = 0; i < elbo_array_count(x); i++) {
    double u = test_uniform(&r);
    ((float *)x->data)[i] = binary ? (float)(u < 0.4) : (float)u;
  }
  return x;
}

#endif
