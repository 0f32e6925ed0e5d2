// Checked sizes, aligned allocations, growing arrays, the arena; half-precision conversions and SHA-256.
#include "support/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/half.h"
#include "core/memory.h"
#include "core/sha256.h"

static void test_checked(void **state) {
  (void)state;
  int64_t out = 7;
  assert_true(checked_mul(3, 4, &out) && out == 12);
  assert_true(checked_mul(0, INT64_MAX, &out) && out == 0);
  assert_false(checked_mul(INT64_C(1) << 32, INT64_C(1) << 31, &out));
  assert_false(checked_mul(-1, 2, &out));
  assert_true(checked_add(INT64_MAX, 0, &out) && out == INT64_MAX);
  assert_false(checked_add(INT64_MAX, 1, &out));
  assert_false(checked_add(5, -1, &out));
  assert_true(out == INT64_MAX);
}

static void test_aligned(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  static const size_t sizes[] = {0, 1, 63, 64, 65, 4096, 1 << 20, 9 << 20};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    unsigned char *p;
    assert_ok(ctx, aligned_new(ctx, sizes[i], "a test", (void **)&p));
    assert_int_equal((uintptr_t)p % 64, 0);
    size_t n = sizes[i] ? (sizes[i] + 63) / 64 * 64 : 64;
    for (size_t j = 0; j < n; j++) assert_int_equal(p[j], 0);
    memset(p, 0xa5, n);
    aligned_free(p);
  }
  aligned_free(NULL);
  void *out = &out;
  assert_status(ctx, aligned_new(ctx, SIZE_MAX - 10, "a test", &out), ELBO_ERROR_MEMORY, "for a test");
  assert_null(out);
  assert_status(ctx, array_new(ctx, SIZE_MAX / 2, 4, "numbers", &out), ELBO_ERROR_MEMORY, "for numbers");
  assert_null(out);
  assert_ok(ctx, array_new(ctx, 0, 4, "numbers", &out));
  assert_non_null(out);
  free(out);
  char *copy = string_copy("abc");
  assert_string_equal(copy, "abc");
  free(copy);
  assert_null(string_copy(NULL));
  elbo_ctx_destroy(&ctx);
}

static void test_grow(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  int *items = NULL;
  int64_t capacity = 0;
  for (int i = 0; i < 1000; i++) {
    assert_ok(ctx, array_grow(ctx, &items, &capacity, i + 1, sizeof *items));
    assert_int_equal(items[i], 0);
    items[i] = i;
  }
  for (int i = 0; i < 1000; i++) assert_int_equal(items[i], i);
  for (int64_t i = 1000; i < capacity; i++) assert_int_equal(items[i], 0);
  assert_status(ctx, array_grow(ctx, &items, &capacity, INT64_MAX, sizeof *items), ELBO_ERROR_MEMORY, NULL);
  assert_int_equal(items[999], 999);
  free(items);
  elbo_ctx_destroy(&ctx);
}

static void test_arena(void **state) {
  (void)state;
  arena *a = arena_create(1000);
  assert_non_null(a);
  struct {
    unsigned char *at;
    size_t size;
  } piece[500];
  test_random r = {test_seed(), 0};
  for (int i = 0; i < 500; i++) {
    piece[i].size = (size_t)test_below(&r, 0, i % 50 == 0 ? 5000 : 200);
    piece[i].at = arena_alloc(a, piece[i].size);
    assert_non_null(piece[i].at);
    assert_int_equal((uintptr_t)piece[i].at % 16, 0);
    for (size_t j = 0; j < piece[i].size; j++) assert_int_equal(piece[i].at[j], 0);
    memset(piece[i].at, i & 255, piece[i].size);
  }
  for (int i = 0; i < 500; i++)
    for (size_t j = 0; j < piece[i].size; j++) assert_int_equal(piece[i].at[j], i & 255);
  assert_string_equal(arena_string(a, "name"), "name");
  assert_string_equal(arena_printf(a, "%s.%d", "block", 12), "block.12");
  assert_null(arena_alloc(a, SIZE_MAX));
  assert_null(arena_string(a, NULL));
  assert_null(arena_alloc(NULL, 5));
  arena_destroy(&a);
  assert_null(a);
  arena_destroy(&a);
}

// Every bit pattern of both formats survives, and conversions from float32 round to the nearest, ties to even.
static void test_half(void **state) {
  (void)state;
  for (uint32_t h = 0; h < 65536; h++) {
    float f = f16_to_f32((uint16_t)h), b = bf16_to_f32((uint16_t)h);
    if (isnan(f)) {
      assert_true(isnan(f16_to_f32(f32_to_f16(f))));
    } else {
      assert_int_equal(f32_to_f16(f), h);
    }
    if (isnan(b)) {
      assert_true(isnan(bf16_to_f32(f32_to_bf16(b))));
    } else {
      assert_int_equal(f32_to_bf16(b), h);
    }
  }
  // Between each two neighbours: below the middle down, above it up, the middle to the even one.
  for (uint32_t h = 0; h < 0x7bff; h++) {
    float low = f16_to_f32((uint16_t)h), high = f16_to_f32((uint16_t)(h + 1)), middle = (low + high) / 2; // exact in float32
    assert_int_equal(f32_to_f16(nextafterf(middle, 0)), h);
    assert_int_equal(f32_to_f16(nextafterf(middle, INFINITY)), h + 1);
    assert_int_equal(f32_to_f16(middle), h + (h & 1));
    assert_int_equal(f32_to_f16(-middle), 0x8000 | (h + (h & 1)));
  }
  for (uint32_t h = 0; h < 0x7f7f; h++) {
    float middle = float_of_bits(h << 16 | 0x8000u);
    assert_int_equal(f32_to_bf16(float_of_bits(h << 16 | 0x7fffu)), h);
    assert_int_equal(f32_to_bf16(float_of_bits(h << 16 | 0x8001u)), h + 1);
    assert_int_equal(f32_to_bf16(middle), h + (h & 1));
  }
  assert_int_equal(f32_to_f16(65519.996f), 0x7bff);
  assert_int_equal(f32_to_f16(65520), 0x7c00);
  assert_int_equal(f32_to_f16(INFINITY), 0x7c00);
  assert_int_equal(f32_to_f16(1e-10f), 0);
  assert_int_equal(f32_to_bf16(INFINITY), 0x7f80);
  assert_true(isnan(bf16_to_f32(f32_to_bf16(float_of_bits(0x7f800001)))));
  assert_true(isnan(f16_to_f32(f32_to_f16(float_of_bits(0x7f800001)))));
}

static void check_hash(const char *text, size_t repeat, const char *expected) {
  sha256 s;
  char hex[65];
  sha256_begin(&s);
  for (size_t i = 0; i < repeat; i++) sha256_add(&s, text, strlen(text));
  sha256_end_hex(&s, hex);
  assert_string_equal(hex, expected);
}

// The examples published with the standard.
static void test_sha256(void **state) {
  (void)state;
  check_hash("", 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  check_hash("abc", 1, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  check_hash("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1,
             "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  check_hash("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu", 1,
             "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
  check_hash("aaaaaaaaaa", 100000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  // However the message is cut, the digest is the same.
  uint8_t message[300], whole[32], cut[32];
  for (int i = 0; i < 300; i++) message[i] = (uint8_t)(i * 7);
  for (size_t n = 0; n <= 300; n += 13) {
    sha256 s;
    sha256_begin(&s);
    sha256_add(&s, message, n);
    sha256_end(&s, whole);
    for (size_t step = 1; step < 130; step += 21) {
      sha256_begin(&s);
      for (size_t at = 0; at < n; at += step) sha256_add(&s, message + at, n - at < step ? n - at : step);
      sha256_end(&s, cut);
      assert_memory_equal(whole, cut, 32);
    }
  }
  uint8_t bytes[3];
  char hex[7];
  assert_true(hex_decode("00fFa5", 3, bytes));
  hex_encode(bytes, 3, hex);
  assert_string_equal(hex, "00ffa5");
  assert_false(hex_decode("00ffa", 3, bytes));
  assert_false(hex_decode("00ffa5b", 3, bytes));
  assert_false(hex_decode("00fga5", 3, bytes));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_checked), cmocka_unit_test(test_aligned), cmocka_unit_test(test_grow),
      cmocka_unit_test(test_arena),   cmocka_unit_test(test_half),    cmocka_unit_test(test_sha256),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
