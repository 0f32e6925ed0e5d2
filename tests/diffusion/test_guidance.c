// Guidance: its formula, its rescaling, where it acts.
#include "diffusion/guidance.h"

#include <math.h>
#include <string.h>

#include "support/test.h"

enum { ROWS = 3, SIZE = 7 };

static double deviation(const double *v) {
  double mean = 0, square = 0;
  for (int i = 0; i < SIZE; i++) mean += v[i] / SIZE;
  for (int i = 0; i < SIZE; i++) square += (v[i] - mean) * (v[i] - mean);
  return sqrt(square / (SIZE - 1));
}

static void test_combination(void **state) {
  (void)state;
  test_random r = {test_seed(), 0};
  double strong[ROWS * SIZE], weak[ROWS * SIZE], out[ROWS * SIZE];
  for (int i = 0; i < ROWS * SIZE; i++) strong[i] = test_normal(&r), weak[i] = test_normal(&r);
  static const double scales[] = {1, 0, 3.5, -1};
  for (int k = 0; k < 4; k++)
    for (double rescale = 0; rescale <= 1; rescale += 0.5) {
      guidance_config g = {.scale = scales[k], .rescale = rescale};
      memcpy(out, strong, sizeof out);
      guidance_combine(&g, ROWS, SIZE, out, weak);
      for (int row = 0; row < ROWS; row++) { // [Lin24 eq. 15, 16]
        double plain[SIZE];
        for (int i = 0; i < SIZE; i++) plain[i] = (1 - scales[k]) * weak[row * SIZE + i] + scales[k] * strong[row * SIZE + i];
        double factor = rescale * deviation(strong + row * SIZE) / deviation(plain) + 1 - rescale;
        for (int i = 0; i < SIZE; i++) assert_near(out[row * SIZE + i], factor * plain[i], 1e-12);
        if (rescale == 1) assert_near(deviation(out + row * SIZE), deviation(strong + row * SIZE), 1e-12);
      }
    }
  // of two equal outputs nothing comes but the same, whatever the scale
  guidance_config g = {.scale = 7, .rescale = 0.7};
  memcpy(out, strong, sizeof out);
  guidance_combine(&g, ROWS, SIZE, out, strong);
  for (int i = 0; i < ROWS * SIZE; i++) assert_near(out[i], strong[i], 1e-14);
  double flat[2 * SIZE] = {0}; // no deviation to rescale by
  guidance_combine(&g, 2, SIZE, flat, flat);
  for (int i = 0; i < 2 * SIZE; i++) assert_true(flat[i] == 0);
}

static void test_interval(void **state) {
  (void)state;
  guidance_config g = {.scale = 2};
  assert_true(guidance_acts(&g, -30) && guidance_acts(&g, 30) && guidance_acts(&g, INFINITY));
  g.from = 3, g.to = -2; // either order
  for (int k = 0; k < 2; k++) {
    assert_true(guidance_acts(&g, 3) && guidance_acts(&g, 0) && guidance_acts(&g, -2));
    assert_true(!guidance_acts(&g, 3.01) && !guidance_acts(&g, -2.01) && !guidance_acts(&g, INFINITY));
    g.from = -2, g.to = 3;
  }
  g.scale = 1;
  assert_false(guidance_acts(&g, 0));
}

static void test_config(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  arena *a = arena_create(1 << 14);
  sampling_config c;
  yaml_node *root;
  const char *bad = "{guidance: {rescale: 1.5}}";
  assert_ok(ctx, config_load(ctx, a, &sampling_table, NULL, "sample", &c));
  assert_true(c.guidance.scale == 1 && c.guidance.rescale == 0 && c.batch_size == 64);
  assert_ok(ctx, yaml_parse(ctx, a, "r.yaml", bad, strlen(bad), &root));
  assert_status(ctx, config_load(ctx, a, &sampling_table, root, "sample", &c), ELBO_ERROR_ARGUMENT, "guidance.rescale");
  arena_destroy(&a);
  elbo_ctx_destroy(&ctx);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_combination), cmocka_unit_test(test_interval), cmocka_unit_test(test_config)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
