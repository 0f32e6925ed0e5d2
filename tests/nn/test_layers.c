// Layers as they run: what fusion makes of them is what they say.
#include "support/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "nn/attention_block.h"
#include "nn/autoencoder.h"
#include "nn/residual_block.h"

static void run(elbo_ctx *ctx, elbo_tensor *(*build)(elbo_graph *g), int fuse, elbo_backend_kind backend, double *out, int64_t n) {
  elbo_graph *g;
  elbo_store *store;
  elbo_plan *plan;
  elbo_plan_config config;
  assert_ok(ctx, elbo_graph_create(ctx, "layers", &g));
  elbo_tensor *y = build(g);
  assert_ok(ctx, elbo_graph_check(g));
  assert_ok(ctx, elbo_store_create(ctx, 1, &g, test_seed(), &store));
  elbo_plan_defaults(&config);
  config.fuse = fuse, config.backend = backend;
  assert_ok(ctx, elbo_plan_create(ctx, g, 1, &y, &config, &plan));
  static const char *const names[] = {"a", "b"};
  for (int k = 0; k < 2; k++) {
    int64_t count = (int64_t)(elbo_plan_input_bytes(plan, names[k]) / (backend == ELBO_BACKEND_REFERENCE ? 8 : 4));
    float *v = malloc((size_t)count * sizeof *v + 1);
    test_random r = {test_seed(), (uint64_t)k << 32};
    test_fill_normal(&r, v, count, 1);
    if (count) assert_ok(ctx, elbo_plan_set(plan, names[k], v, count));
    free(v);
  }
  assert_ok(ctx, elbo_plan_run(plan, store));
  for (int64_t i = 0; i < n; i++)
    out[i] = backend == ELBO_BACKEND_REFERENCE ? ((const double *)elbo_plan_output(plan, 0))[i]
                                               : (double)((const float *)elbo_plan_output(plan, 0))[i];
  elbo_plan_destroy(&plan);
  elbo_store_destroy(&store);
  elbo_graph_destroy(&g);
}

enum { COUNT = 2 * 4 * 4 * 8 };

static elbo_tensor *map_a(elbo_graph *g) { return elbo_input(g, "a", ELBO_F32, 4, (int64_t[]){2, 4, 4, 8}); }
static elbo_tensor *map_b(elbo_graph *g) { return elbo_input(g, "b", ELBO_F32, 4, (int64_t[]){2, 4, 4, 3}); }

static elbo_tensor *two_convolutions(elbo_graph *g) {
  return elbo_add(conv_layer(map_a(g), "c1", 8, 3, 1, 1, 1), conv_layer(map_b(g), "c2", 8, 1, 1, 0, 1));
}
static elbo_tensor *activated_sum(elbo_graph *g) { return activate(two_convolutions(g), ACTIVATION_SILU); }
static elbo_tensor *block(elbo_graph *g) {
  block_config c = {.out = 8,
                    .kernel = 3,
                    .groups = 4,
                    .activation = ACTIVATION_SILU,
                    .gain = 1,
                    .embedding = elbo_input(g, "b", ELBO_F32, 2, (int64_t[]){2, 3})};
  return residual_block(residual_block(map_a(g), "one", &c), "two", &c);
}
static elbo_tensor *wider(elbo_graph *g) {
  block_config c = {.out = 8, .kernel = 3, .groups = 4, .activation = ACTIVATION_GELU, .gain = 0.5};
  return attention_block(residual_block(map_b(g), "one", &c), "attention", &(attention_block_config){.groups = 4, .head_dim = 4});
}
// what the diffusion networks ask of the blocks
static elbo_tensor *resampled(elbo_graph *g) {
  block_config c = {.out = 8,
                    .kernel = 3,
                    .groups = 4,
                    .groups_out = 2,
                    .activation = ACTIVATION_MISH,
                    .gain = 1,
                    .rescale = 1.5,
                    .embedding = elbo_input(g, "b", ELBO_F32, 2, (int64_t[]){2, 3}),
                    .scale_shift = true,
                    .always_shortcut = true,
                    .resample = RESAMPLE_FIR_DOWN};
  elbo_tensor *x = residual_block(map_a(g), "down", &c);
  c.resample = RESAMPLE_FIR_UP, c.embedding_as_is = true;
  return residual_block(x, "up", &c);
}
static elbo_tensor *transposed(elbo_graph *g) {
  elbo_tensor *x = elbo_input(g, "a", ELBO_F32, 4, (int64_t[]){2, 2, 2, 5});
  return activate(norm_layer(conv_transpose_layer(x, "up", 8, 1), "norm", 3),
                  ACTIVATION_LEAKY_RELU); // 3 groups of 8 channels: lowered to 2
}

static void test_against_reference(void **state) {
  (void)state;
  elbo_tensor *(*const builds[])(elbo_graph * g) = {two_convolutions, activated_sum, block, wider, resampled, transposed};
  elbo_ctx *ctx = test_ctx(0);
  for (size_t i = 0; i < sizeof builds / sizeof *builds; i++) {
    double want[COUNT], got[COUNT];
    run(ctx, builds[i], 0, ELBO_BACKEND_REFERENCE, want, COUNT);
    for (int fuse = 0; fuse < 2; fuse++) {
      run(ctx, builds[i], fuse, ELBO_BACKEND_CPU, got, COUNT);
      for (int k = 0; k < COUNT; k++)
        if (!(fabs(got[k] - want[k]) <= 1e-4))
          fail_msg("network %zu, fuse %d, seed %llu, element %d: %.7g, the reference gives %.7g", i, fuse, (unsigned long long)test_seed(),
                   k, got[k], want[k]);
    }
  }
  elbo_ctx_destroy(&ctx);
}

// The last map, 2 x 2, and behind it what is pooled of it.
enum { POOLED = 5, POOLED_ROW = 4 * POOLED + 3 * POOLED };
static elbo_tensor *pooled(elbo_graph *g) {
  const int64_t channels = POOLED;
  encoder_config c = {.type = NETWORK_CONV, .channels = {1, &channels}, .pool = POOL_MOMENTS, .init_gain = 1};
  encoder_features f = encoder_network(&c, map_b(g), NULL, false);
  return elbo_concat(2, (elbo_tensor *[]){flatten_rows(f.map[0]), f.vector}, 1);
}

static void test_pooled_features(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(0);
  double y[2 * POOLED_ROW];
  run(ctx, pooled, 1, ELBO_BACKEND_CPU, y, 2 * POOLED_ROW);
  for (int b = 0; b < 2; b++)
    for (int c = 0; c < POOLED; c++) {
      const double *row = y + b * POOLED_ROW, *got = row + 4 * POOLED + c;
      const double a[4] = {row[c], row[POOLED + c], row[2 * POOLED + c], row[3 * POOLED + c]};
      assert_true(fabs(got[0] - (a[0] + a[1] + a[2] + a[3]) / 4) < 1e-6);
      assert_true(fabs(got[POOLED] - (a[2] + a[3] - a[0] - a[1]) / 8) < 1e-6);     // down
      assert_true(fabs(got[2 * POOLED] - (a[1] + a[3] - a[0] - a[2]) / 8) < 1e-6); // across
    }
  elbo_ctx_destroy(&ctx);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_against_reference), cmocka_unit_test(test_pooled_features)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
