// Casts between float32, int32 and int64: every pair, special values, what carries a gradient.
#include <elbo/ops.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "support/op_check.h"

// Runs cast(x) under a backend; float operands are doubles under the reference. The result is copied to out.
static void run_cast(elbo_ctx *ctx, elbo_backend_kind kind, elbo_dtype from, elbo_dtype to, const void *x, size_t x_bytes, int64_t n,
                     void *out, size_t out_bytes) {
  elbo_graph *g;
  elbo_plan *p;
  assert_ok(ctx, elbo_graph_create(ctx, "cast", &g));
  elbo_tensor *y = elbo_cast(elbo_input(g, "x", from, 1, &n), to);
  elbo_plan_config config;
  elbo_plan_defaults(&config);
  config.backend = kind;
  assert_ok(ctx, elbo_plan_create(ctx, g, 1, &y, &config, &p));
  assert_int_equal(elbo_plan_input_bytes(p, "x"), x_bytes);
  memcpy(elbo_plan_input(p, "x"), x, x_bytes);
  assert_ok(ctx, elbo_plan_run(p, NULL));
  memcpy(out, elbo_plan_output(p, 0), out_bytes);
  elbo_plan_destroy(&p);
  elbo_graph_destroy(&g);
}

static void test_from_float(void **state) {
  (void)state;
  static const float x[] = {0.0f, -0.0f, 0.9f,  -0.9f,  1.5f,     -2.5f,     16777217.0f, 2147483648.0f, -2147483648.0f,
                            3e9f, -3e9f, 1e19f, -1e19f, INFINITY, -INFINITY, NAN,         1e-40f};
  static const int32_t want32[] = {0,         0,         0,         0,         1,         -2,        16777216, INT32_MAX, INT32_MIN,
                                   INT32_MAX, INT32_MIN, INT32_MAX, INT32_MIN, INT32_MAX, INT32_MIN, 0,        0};
  static const int64_t want64[] = {0,          0,           0,         0,         1,         -2,        16777216, 2147483648, -2147483648,
                                   3000000000, -3000000000, INT64_MAX, INT64_MIN, INT64_MAX, INT64_MIN, 0,        0};
  enum { N = sizeof x / sizeof x[0] };
  double wide[N];
  for (int i = 0; i < N; i++) wide[i] = x[i];
  for (int isa = 0; isa < ISA_COUNT; isa++) {
    elbo_ctx *ctx = test_ctx_isa(1, (isa_level)isa);
    if (!ctx) continue;
    int32_t y32[N];
    int64_t y64[N];
    run_cast(ctx, ELBO_BACKEND_CPU, ELBO_F32, ELBO_I32, x, sizeof x, N, y32, sizeof y32);
    assert_memory_equal(y32, want32, sizeof y32);
    run_cast(ctx, ELBO_BACKEND_CPU, ELBO_F32, ELBO_I64, x, sizeof x, N, y64, sizeof y64);
    assert_memory_equal(y64, want64, sizeof y64);
    run_cast(ctx, ELBO_BACKEND_REFERENCE, ELBO_F32, ELBO_I32, wide, sizeof wide, N, y32, sizeof y32);
    assert_memory_equal(y32, want32, sizeof y32);
    run_cast(ctx, ELBO_BACKEND_REFERENCE, ELBO_F32, ELBO_I64, wide, sizeof wide, N, y64, sizeof y64);
    assert_memory_equal(y64, want64, sizeof y64);
    elbo_ctx_destroy(&ctx);
  }
}

static void test_from_integer(void **state) {
  (void)state;
  static const int32_t x32[] = {0, 1, -1, 7, INT32_MAX, INT32_MIN};
  static const int64_t x64[] = {0, 1, -1, 7, INT64_MAX, INT64_MIN};
  static const int64_t widened[] = {0, 1, -1, 7, INT32_MAX, INT32_MIN};
  static const float float32[] = {0, 1, -1, 7, 2147483648.0f, -2147483648.0f}, float64[] = {0, 1, -1, 7, 0x1p63f, -0x1p63f};
  float y[6];
  int32_t y32[6];
  int64_t y64[6];
  for (int isa = 0; isa < ISA_COUNT; isa++) {
    elbo_ctx *ctx = test_ctx_isa(1, (isa_level)isa);
    if (!ctx) continue;
    run_cast(ctx, ELBO_BACKEND_CPU, ELBO_I32, ELBO_F32, x32, sizeof x32, 6, y, sizeof y);
    assert_memory_equal(y, float32, sizeof y);
    run_cast(ctx, ELBO_BACKEND_CPU, ELBO_I64, ELBO_F32, x64, sizeof x64, 6, y, sizeof y);
    assert_memory_equal(y, float64, sizeof y);
    for (int kind = ELBO_BACKEND_CPU; kind <= ELBO_BACKEND_REFERENCE; kind++) {
      run_cast(ctx, (elbo_backend_kind)kind, ELBO_I64, ELBO_I32, x64, sizeof x64, 6, y32, sizeof y32);
      assert_memory_equal(y32, x32, sizeof y32); // saturates
      run_cast(ctx, (elbo_backend_kind)kind, ELBO_I32, ELBO_I64, x32, sizeof x32, 6, y64, sizeof y64);
      assert_memory_equal(y64, widened, sizeof y64);
    }
    elbo_ctx_destroy(&ctx);
  }
}

static elbo_tensor *build_weighted(elbo_graph *g, const void *arg) {
  (void)arg;
  elbo_tensor *label = elbo_input(g, "label", ELBO_I32, 1, (int64_t[]){517}), *x = elbo_input(g, "x", ELBO_F32, 1, (int64_t[]){517});
  return elbo_mul(elbo_cast(label, ELBO_F32), elbo_tanh(x));
}

static void test_in_a_graph(void **state) {
  (void)state;
  op_check check = {.name = "cast of labels", .seed = test_seed(), .orders = 1, .int_below = 10};
  assert_true(op_check_run(&check, build_weighted, NULL));
}

// Nothing flows through an integer; the cast to the type it has is the tensor itself; other types are refused by name.
static void test_rules(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  elbo_graph *g;
  assert_ok(ctx, elbo_graph_create(ctx, "rules", &g));
  elbo_tensor *x = elbo_input(g, "x", ELBO_F32, 1, (int64_t[]){4}), *dx;
  assert_ptr_equal(elbo_cast(x, ELBO_F32), x);
  assert_ok(ctx, elbo_gradient(elbo_cast(elbo_cast(x, ELBO_I32), ELBO_F32), 1, &x, &dx));
  assert_null(dx);
  assert_null(elbo_cast(x, ELBO_U8));
  assert_status(ctx, elbo_graph_check(g), ELBO_ERROR_ARGUMENT, "cast: float32 to uint8");
  elbo_graph_destroy(&g);
  elbo_ctx_destroy(&ctx);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_from_float),
      cmocka_unit_test(test_from_integer),
      cmocka_unit_test(test_in_a_graph),
      cmocka_unit_test(test_rules),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
