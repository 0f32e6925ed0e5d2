// Philox against its published vectors, and the distributions made of it against their moments.
#include "support/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/philox.h"

// Known answers of Philox4x32-10 published with Random123 [Salmon11].
static void test_known_answers(void **state) {
  (void)state;
  static const struct {
    uint32_t counter[4], key[2], out[4];
  } known[] = {
      {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
      {{~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
      {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}, {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
  };
  for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
    uint32_t out[4];
    philox4x32(known[i].counter, known[i].key, out);
    assert_memory_equal(out, known[i].out, sizeof out);
  }
}

// The house's use of counter and key is part of the file format (a resumed run draws the same): block, sample low, sample high, stream.
static void test_layout(void **state) {
  (void)state;
  uint32_t a[4], b[4], counter[4] = {7, 0x55667788, 0x11223344, 9}, key[2] = {0x9abcdef0, 0x12345678};
  philox_draw(0x123456789abcdef0, 9, 0x1122334455667788, 7, a);
  philox4x32(counter, key, b);
  assert_memory_equal(a, b, sizeof a);
  assert_int_equal(philox_stream(""), 2166136261u);
  assert_int_equal(philox_stream("a"), 0xe40c292cu); // FNV-1a's published values
  assert_int_equal(philox_stream("foobar"), 0xbf9cf968u);
}

static void test_uniform_range(void **state) {
  (void)state;
  assert_true(philox_uniform(0) == 0);
  assert_true(philox_uniform(~0u) < 1 && (float)philox_uniform(~0u) < 1.0f);
  assert_true(philox_uniform_open(0) > 0 && philox_uniform_open(~0u) == 1);
}

// Moments to four standard errors: with N draws the k-th sample moment strays by sqrt(var(x^k) / N).
static void test_moments(void **state) {
  (void)state;
  enum { N = 400000 };
  uint64_t seed = test_seed();
  double u1 = 0, u2 = 0, z1 = 0, z2 = 0, z3 = 0, z4 = 0, zz = 0;
  int64_t bins[16] = {0};
  for (int i = 0; i < N; i++) {
    uint32_t bits[4];
    double z[2];
    philox_draw(seed, philox_stream("moments"), (uint64_t)i, 0, bits);
    double u = philox_uniform(bits[2]);
    bins[(int)(u * 16)]++;
    u1 += u, u2 += u * u;
    philox_normal2(bits[0], bits[1], z);
    z1 += z[0] + z[1], zz += z[0] * z[1];
    for (int j = 0; j < 2; j++) {
      double s = z[j] * z[j];
      z2 += s, z3 += s * z[j], z4 += s * s;
    }
  }
  assert_near(u1 / N, 0.5, 4 * sqrt(1.0 / 12 / N));
  assert_near(u2 / N, 1.0 / 3, 4 * sqrt(4.0 / 45 / N));
  assert_near(z1 / (2 * N), 0, 4 * sqrt(1.0 / (2 * N)));
  assert_near(z2 / (2 * N), 1, 4 * sqrt(2.0 / (2 * N)));
  assert_near(z3 / (2 * N), 0, 4 * sqrt(15.0 / (2 * N)));
  assert_near(z4 / (2 * N), 3, 4 * sqrt(96.0 / (2 * N)));
  assert_near(zz / N, 0, 4 * sqrt(1.0 / N));
  double chi = 0; // 15 degrees of freedom: mean 15, standard deviation 5.5; 45 is beyond one in 10,000
  for (int i = 0; i < 16; i++) chi += (bins[i] - N / 16.0) * (bins[i] - N / 16.0) / (N / 16.0);
  assert_true(chi <= 45);
}

static void test_below_range(void **state) {
  (void)state;
  uint64_t seed = test_seed();
  int64_t count[7] = {0};
  for (uint64_t i = 0; i < 70000; i++) {
    uint64_t x = philox_below(seed, 3, i, 7);
    assert_true(x < 7);
    count[x]++;
  }
  for (int i = 0; i < 7; i++) assert_near((double)count[i], 10000, 4 * sqrt(10000 * 6.0 / 7));
  assert_int_equal(philox_below(seed, 3, 5, 1), 0);
  assert_true(philox_below(seed, 3, 5, UINT64_MAX) < UINT64_MAX);
  // The multiplication keeps all 64 bits: about half of such draws lie in the upper half.
  int upper = 0;
  for (uint64_t i = 0; i < 1000; i++) upper += philox_below(seed, 4, i, UINT64_C(1) << 63) >> 62 != 0;
  assert_in_range(upper, 430, 570);
  uint32_t bits[4];
  philox_draw(seed, 4, 12, 0, bits);
  assert_int_equal(philox_below(seed, 4, 12, UINT64_C(1) << 63), ((uint64_t)bits[1] << 32 | bits[0]) >> 1);
}

static void test_permutation(void **state) {
  (void)state;
  enum { N = 1000 };
  int64_t a[N], b[N];
  bool seen[N] = {false};
  philox_permutation(test_seed(), 1, N, a);
  philox_permutation(test_seed(), 1, N, b);
  assert_memory_equal(a, b, sizeof a);
  philox_permutation(test_seed(), 2, N, b);
  assert_memory_not_equal(a, b, sizeof a);
  for (int i = 0; i < N; i++) {
    assert_in_range(a[i], 0, N - 1);
    assert_false(seen[a[i]]);
    seen[a[i]] = true;
  }
  // Every order of three is as frequent as any other.
  int count[27] = {0};
  for (uint64_t s = 0; s < 6000; s++) {
    philox_permutation(s, 5, 3, a);
    count[a[0] * 9 + a[1] * 3 + a[2]]++;
  }
  for (int i = 0; i < 27; i++)
    if (count[i]) assert_near(count[i], 1000, 4 * sqrt(1000 * 5.0 / 6));
  philox_permutation(1, 1, 0, a);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_known_answers), cmocka_unit_test(test_layout),      cmocka_unit_test(test_uniform_range),
      cmocka_unit_test(test_moments),       cmocka_unit_test(test_below_range), cmocka_unit_test(test_permutation),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
