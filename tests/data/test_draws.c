// Draws in vectors are the draws of core/philox.h, bit by bit, in every instruction set.
#include "data/draws.h"

#include <string.h>

#include "core/philox.h"
#include "support/test.h"

enum { MOST = 3 * 28 * 28 };

static const int64_t SIZES[] = {1, 3, 4, 5, 63, 64, 65, 127, 784, 785, MOST};
static const uint64_t SAMPLES[] = {0, 7, 0xffffffffu, 0x123456789abcdefu};

static void check_words(const draw_kernels *k, uint64_t seed, uint32_t stream, uint64_t sample) {
  static uint32_t got[MOST];
  for (int n = 1; n <= 70; n += 3) {
    memset(got, 0, sizeof got);
    k->words(seed, stream, sample, 0xfffffff0u, n, got); // over the counter's end as well
    for (int b = 0; b < n; b++) {
      uint32_t word[4];
      philox_draw(seed, stream, sample, 0xfffffff0u + (uint32_t)b, word);
      assert_memory_equal(got + 4 * b, word, sizeof word);
    }
    assert_int_equal(got[4 * n], 0);
  }
}

static void check_binarize(const draw_kernels *k, uint64_t seed, uint32_t stream, uint64_t sample, int64_t n) {
  static uint8_t v[MOST];
  static float x[MOST + 1], y[MOST + 1];
  test_random r = {test_seed(), (uint64_t)n << 20};
  int64_t ones = 0;
  for (int64_t i = 0; i < n; i++) { // black stretches, white ones, and every grey between
    double u = test_uniform(&r);
    v[i] = (i / 90) % 3 == 0 || u < 0.3 ? 0 : u < 0.4 ? 255 : (uint8_t)test_below(&r, 0, 255);
    y[i] = (float)v[i] / 255.0f;
  }
  x[n] = y[n] = -5;
  k->binarize_bytes(seed, stream, sample, n, v, x);
  k->binarize(seed, stream, sample, n, y);
  for (int64_t i = 0; i < n; i++) {
    uint32_t word[4];
    philox_draw(seed, stream, sample, (uint32_t)(i / 4), word);
    float wanted = philox_uniform(word[i % 4]) < (double)((float)v[i] / 255.0f) ? 1.0f : 0.0f;
    if (!(x[i] == wanted && y[i] == wanted))
      fail_msg("n %d, element %d of grey %d: bytes %g, floats %g, expected %g", (int)n, (int)i, v[i], (double)x[i], (double)y[i],
               (double)wanted);
    ones += wanted > 0 && v[i] < 255;
  }
  assert_true(x[n] == -5 && y[n] == -5);
  assert_true(n < 200 || ones > 10);
}

static void test_every_variant(void **state) {
  (void)state;
  int met = 0;
  for (int isa = 0; isa <= ISA_V4; isa++) {
    elbo_ctx *ctx = test_ctx_isa(1, (isa_level)isa);
    if (!ctx) continue;
    const draw_kernels *k = draw_kernels_of((isa_level)isa);
    met++;
    for (size_t s = 0; s < sizeof SAMPLES / sizeof *SAMPLES; s++) {
      check_words(k, 0x9876543210abcdefu, 77, SAMPLES[s]);
      for (size_t i = 0; i < sizeof SIZES / sizeof *SIZES; i++) check_binarize(k, 3, 0xfffffff7u, SAMPLES[s], SIZES[i]);
    }
    elbo_ctx_destroy(&ctx);
  }
  assert_true(met > 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_variant)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
