// Arrays and .npy/.npz: conversions, layouts, round trips, files of NumPy's own making, hostile files.
#include <elbo/array.h>
#include <math.h>
#include <string.h>

#include "data/npy.h"
#include "support/npz.h"

static void conversion_saturates_and_rounds(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  elbo_array *a, *b;
  const double values[] = {-1e30, -1.5, -0.5, 0.5, 1.5, 254.5, 300, NAN};
  assert_ok(ctx, elbo_array_create(ctx, ELBO_F64, 1, (int64_t[]){8}, &a));
  memcpy(a->data, values, sizeof values);
  assert_ok(ctx, elbo_array_convert(ctx, a, ELBO_U8, &b));
  assert_memory_equal(b->data, ((uint8_t[]){0, 0, 0, 0, 2, 254, 255, 0}), 8);
  elbo_array_destroy(&b);
  assert_ok(ctx, elbo_array_convert(ctx, a, ELBO_I64, &b));
  assert_memory_equal(b->data, ((int64_t[]){INT64_MIN, -2, 0, 0, 2, 254, 300, 0}), 64);
  elbo_array_destroy(&b);
  elbo_array_destroy(&a);
  assert_ok(ctx, elbo_array_create(ctx, ELBO_U64, 1, (int64_t[]){2}, &a));
  ((uint64_t *)a->data)[0] = UINT64_MAX, ((uint64_t *)a->data)[1] = (1ull << 53) + 1;
  assert_ok(ctx, elbo_array_convert(ctx, a, ELBO_I64, &b));
  assert_memory_equal(b->data, ((int64_t[]){INT64_MAX, (1ll << 53) + 1}), 16); // not through a double
  elbo_array_destroy(&b), elbo_array_destroy(&a);
  // every dtype holds 0 and 1
  for (int from = 0; from < ELBO_DTYPE_COUNT; from++)
    for (int to = 0; to < ELBO_DTYPE_COUNT; to++) {
      elbo_array *u, *c;
      assert_ok(ctx, elbo_array_create(ctx, ELBO_U8, 1, (int64_t[]){2}, &u));
      ((uint8_t *)u->data)[1] = 1;
      assert_ok(ctx, elbo_array_convert(ctx, u, (elbo_dtype)from, &a));
      assert_ok(ctx, elbo_array_convert(ctx, a, (elbo_dtype)to, &b));
      assert_ok(ctx, elbo_array_convert(ctx, b, ELBO_U8, &c));
      assert_memory_equal(c->data, u->data, 2);
      elbo_array_destroy(&u), elbo_array_destroy(&a), elbo_array_destroy(&b), elbo_array_destroy(&c);
    }
  assert_status(ctx, elbo_array_create(ctx, ELBO_F32, 3, (int64_t[]){1 << 30, 1 << 30, 1 << 30}, &a), ELBO_ERROR_ARGUMENT, "overflows");
  assert_status(ctx, elbo_array_create(ctx, ELBO_F32, 6, (int64_t[]){1, 1, 1, 1, 1, 1}, &a), ELBO_ERROR_ARGUMENT, "rank 6");
  assert_null(a);
  elbo_ctx_destroy(&ctx);
}

static void layouts_are_inverse(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  elbo_array *a, *b, *c;
  assert_ok(ctx, elbo_array_create(ctx, ELBO_I32, 4, (int64_t[]){2, 3, 4, 5}, &a));
  for (int i = 0; i < 120; i++) ((int32_t *)a->data)[i] = i;
  assert_ok(ctx, elbo_array_to_nchw(ctx, a, &b));
  assert_int_equal(b->dim[1], 5);
  // (1,2,3) row 2, column 3, channel 4 of image 1
  assert_int_equal(((int32_t *)b->data)[((1 * 5 + 4) * 3 + 2) * 4 + 3], ((1 * 3 + 2) * 4 + 3) * 5 + 4);
  assert_ok(ctx, elbo_array_to_nhwc(ctx, b, &c));
  assert_memory_equal(a->data, c->data, elbo_array_bytes(a));
  elbo_array_destroy(&a), elbo_array_destroy(&b), elbo_array_destroy(&c);
  elbo_ctx_destroy(&ctx);
}

static void npy_round_trip(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  const char *path = test_path("round.npy");
  for (int dtype = 0; dtype < ELBO_DTYPE_COUNT; dtype++)
    for (int rank = 0; rank <= 5; rank++) {
      elbo_array *a, *b;
      int64_t dim[5] = {2, 3, rank == 3 ? 0 : 1, 4, 2};
      assert_ok(ctx, elbo_array_create(ctx, (elbo_dtype)dtype, rank, dim, &a));
      for (size_t i = 0; i < elbo_array_bytes(a); i++) ((uint8_t *)a->data)[i] = dtype == ELBO_BOOL ? i & 1 : (uint8_t)(i * 7 % 63);
      assert_ok(ctx, elbo_npy_write(ctx, path, a));
      assert_ok(ctx, elbo_npy_read(ctx, path, &b));
      assert_int_equal(b->dtype, dtype == ELBO_BF16 ? ELBO_F32 : dtype);
      assert_int_equal(b->rank, rank);
      assert_memory_equal(a->dim, b->dim, (size_t)rank * sizeof *dim);
      if (dtype != ELBO_BF16) assert_memory_equal(a->data, b->data, elbo_array_bytes(a));
      elbo_array_destroy(&a), elbo_array_destroy(&b);
    }
  elbo_ctx_destroy(&ctx);
}

// A .npy from header text and data.
static size_t make_npy(char *out, int version, const char *header, const void *data, size_t bytes) {
  size_t length = strlen(header), start = version == 1 ? 10 : 12;
  memcpy(out, "\x93NUMPY", 6);
  out[6] = (char)version, out[7] = 0;
  out[8] = (char)(length & 255), out[9] = (char)(length >> 8);
  if (version > 1) out[10] = out[11] = 0;
  memcpy(out + start, header, length);
  memcpy(out + start + length, data, bytes);
  return start + length + bytes;
}

static void npy_variants(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  char file[512];
  elbo_array *a;
  // big-endian, Fortran order, version 3, another key order, double quotes
  const uint8_t big[] = {0, 1, 0, 4, 0, 2, 0, 5, 0, 3, 0, 6};
  size_t n = make_npy(file, 3, "{\"shape\": (2, 3), 'fortran_order':True,'descr': '>i2'}  \n", big, sizeof big);
  assert_ok(ctx, npy_parse(ctx, "variant", file, n, &a));
  assert_int_equal(a->dtype, ELBO_I16);
  assert_memory_equal(a->data, ((int16_t[]){1, 2, 3, 4, 5, 6}), 12);
  elbo_array_destroy(&a);
  for (size_t cut = 0; cut < n; cut++) { // every prefix is refused
    char copy[512];
    memcpy(copy, file, cut);
    assert_int_not_equal(npy_parse(ctx, "cut", copy, cut, &a), ELBO_OK);
    assert_null(a);
  }
  static const struct {
    const char *header, *message;
  } BAD[] = {
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }", "too large"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4), }", "overflows"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000,), }", "cut off"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 1, 1, 1, 1), }", "more than 5"},
      {"{'descr': '<c8', 'fortran_order': False, 'shape': (1,), }", "'<c8'"},
      {"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", "records"},
      {"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", "'|O'"},
      {"{'descr': '<f4', 'fortran_order': Maybe, 'shape': (1,), }", "fortran_order"},
      {"{'descr': '<f4', 'fortran_order': False, }", "lacks 'shape'"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }", "whole number"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'evil': 1}", "unexpected key 'evil'"},
      {"[1, 2]", "not a dictionary"},
      {"", "not a dictionary"},
  };
  for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++) {
    n = make_npy(file, 1, BAD[i].header, "\0\0\0\0", 4);
    elbo_status status = npy_parse(ctx, "bad.npy", file, n, &a);
    if (status == ELBO_OK || !strstr(elbo_ctx_message(ctx), BAD[i].message) || !strstr(elbo_ctx_message(ctx), "bad.npy"))
      fail_msg("%s: status %d, message '%s'", BAD[i].header, (int)status, elbo_ctx_message(ctx));
    assert_null(a);
  }
  assert_status(ctx, elbo_npy_read(ctx, test_path("not-there.npy"), &a), ELBO_ERROR_IO, "not-there.npy");
  elbo_ctx_destroy(&ctx);
}

static void npz_by_name(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  elbo_array *pair[2], *a;
  assert_ok(ctx, elbo_array_create(ctx, ELBO_F32, 2, (int64_t[]){3, 4}, &pair[0]));
  assert_ok(ctx, elbo_array_create(ctx, ELBO_I64, 1, (int64_t[]){3}, &pair[1]));
  for (int i = 0; i < 12; i++) ((float *)pair[0]->data)[i] = (float)i;
  for (int i = 0; i < 3; i++) ((int64_t *)pair[1]->data)[i] = 100 + i;
  const char *path = test_path("two.npz");
  write_npz(ctx, path, 2, (const char *const[]){"x", "y"}, pair);
  assert_ok(ctx, elbo_npz_read(ctx, path, "y", &a));
  assert_memory_equal(a->data, pair[1]->data, 24);
  elbo_array_destroy(&a);
  assert_ok(ctx, elbo_npz_read(ctx, path, "x", &a));
  assert_memory_equal(a->data, pair[0]->data, 48);
  elbo_array_destroy(&a);
  assert_status(ctx, elbo_npz_read(ctx, path, "z", &a), ELBO_ERROR_FORMAT, "no array 'z'");
  assert_status(ctx, elbo_npz_read(ctx, path, NULL, &a), ELBO_ERROR_ARGUMENT, "several arrays");
  write_npz(ctx, path, 1, (const char *const[]){"x"}, pair);
  assert_ok(ctx, elbo_npz_read(ctx, path, NULL, &a));
  elbo_array_destroy(&a);
  test_write_file(path, "PK\3\4 no zip at all, really not, though it begins like one", 50);
  assert_status(ctx, elbo_npz_read(ctx, path, "x", &a), ELBO_ERROR_FORMAT, "two.npz");
  assert_null(a);
  elbo_array_destroy(&pair[0]), elbo_array_destroy(&pair[1]);
  elbo_ctx_destroy(&ctx);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(conversion_saturates_and_rounds),
      cmocka_unit_test(layouts_are_inverse),
      cmocka_unit_test(npy_round_trip),
      cmocka_unit_test(npy_variants),
      cmocka_unit_test(npz_by_name),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
