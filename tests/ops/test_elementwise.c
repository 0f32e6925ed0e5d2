// The element-wise family: every instruction against the oracle and its derivatives, broadcasting, in-place safety, and the vector
// functions against the C library over all of float.
#include <elbo/ops.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ops/fused_elementwise.h"
#include "support/op_check.h"

// --- one operand ----------------------------------------------------------------------------------------------------------------

typedef struct unary_case {
  const char *name;
  elbo_tensor *(*build)(elbo_tensor *x);
  double low, high; // where it is smooth
} unary_case;

static elbo_tensor *leaky(elbo_tensor *x) { return elbo_leaky_relu(x, 0.2); }
static elbo_tensor *leaky_negative(elbo_tensor *x) { return elbo_leaky_relu(x, -0.5); }
static elbo_tensor *clamp(elbo_tensor *x) { return elbo_mul(elbo_clamp(x, -0.5, 0.75), x); }
static elbo_tensor *scale(elbo_tensor *x) { return elbo_mul(elbo_scale(x, 1.5, -0.25), x); }
static elbo_tensor *negate(elbo_tensor *x) { return elbo_mul(elbo_neg(x), x); }
static elbo_tensor *absolute(elbo_tensor *x) { return elbo_mul(elbo_abs(x), x); }
static elbo_tensor *rectify(elbo_tensor *x) { return elbo_mul(elbo_relu(x), x); }
static elbo_tensor *leak(elbo_tensor *x) { return elbo_mul(leaky(x), x); }
static elbo_tensor *leak_negative(elbo_tensor *x) { return elbo_mul(leaky_negative(x), x); }
static elbo_tensor *signed_square(elbo_tensor *x) { return elbo_mul(elbo_sign(x), elbo_square(x)); }

// Factors of x where the second derivative would be zero everywhere, which the checker refuses.
static const unary_case unary_cases[] = {
    {"neg", negate, 0, 0},
    {"abs", absolute, 0.1, 2},
    {"sign", signed_square, 0.1, 2},
    {"exp", elbo_exp, 0, 0},
    {"log", elbo_log, 0.2, 3},
    {"log1p", elbo_log1p, -0.7, 3},
    {"expm1", elbo_expm1, 0, 0},
    {"sqrt", elbo_sqrt, 0.2, 3},
    {"rsqrt", elbo_rsqrt, 0.3, 3},
    {"square", elbo_square, 0, 0},
    {"reciprocal", elbo_reciprocal, 0.4, 3},
    {"sin", elbo_sin, -5, 5},
    {"cos", elbo_cos, -5, 5},
    {"tanh", elbo_tanh, 0, 0},
    {"sigmoid", elbo_sigmoid, 0, 0},
    {"softplus", elbo_softplus, 0, 0},
    {"relu", rectify, 0.1, 2},
    {"relu below zero", leak, -2, -0.1},
    {"leaky_relu", leak, 0.1, 2},
    {"leaky_relu, negative slope", leak_negative, -2, -0.1},
    {"gelu", elbo_gelu, 0, 0},
    {"gelu_tanh", elbo_gelu_tanh, 0, 0},
    {"silu", elbo_silu, 0, 0},
    {"erf", elbo_erf, 0, 0},
    {"clamp", clamp, -0.4, 0.7},
    {"scale", scale, 0, 0},
};
enum { UNARY_CASES = sizeof unary_cases / sizeof unary_cases[0] };

typedef struct shape_case {
  int rank;
  int64_t dim[ELBO_MAX_RANK];
  const unary_case *unary;
} shape_case;

static elbo_tensor *build_unary(elbo_graph *g, const void *arg) {
  const shape_case *c = arg;
  return c->unary->build(elbo_input(g, "x", ELBO_F32, c->rank, c->dim));
}

static void test_unary(void **state) {
  (void)state;
  test_random r = {.seed = test_seed()};
  bool ok = true;
  for (int i = 0; i < UNARY_CASES; i++) {
    shape_case c = {3, {test_below(&r, 1, 3), test_below(&r, 1, 5), test_below(&r, 1, 7)}, &unary_cases[i]};
    op_check check = {.name = unary_cases[i].name,
                      .seed = test_seed() + (uint64_t)i,
                      .orders = 2,
                      .low = unary_cases[i].low,
                      .high = unary_cases[i].high};
    ok &= op_check_run(&check, build_unary, &c);
    shape_case longer = {2, {7, test_below(&r, 500, 1100)}, &unary_cases[i]};
    check.orders = 0;
    ok &= op_check_run(&check, build_unary, &longer);
  }
  assert_true(ok);
}

// --- two and three --------------------------------------------------------------------------------------------------------------

typedef struct binary_case {
  const char *name;
  elbo_tensor *(*build)(elbo_tensor *a, elbo_tensor *b);
} binary_case;

static elbo_tensor *less_times(elbo_tensor *a, elbo_tensor *b) { return elbo_mul(elbo_scale(elbo_less(a, b), 1.0, 0.5), elbo_mul(a, b)); }
static elbo_tensor *add_cubed(elbo_tensor *a, elbo_tensor *b) {
  elbo_tensor *y = elbo_add(a, b);
  return elbo_mul(y, elbo_square(y));
}
static elbo_tensor *sub_cubed(elbo_tensor *a, elbo_tensor *b) {
  elbo_tensor *y = elbo_sub(a, b);
  return elbo_mul(y, elbo_square(y));
}
static elbo_tensor *maximum_squared(elbo_tensor *a, elbo_tensor *b) { return elbo_square(elbo_maximum(a, b)); }
static elbo_tensor *minimum_squared(elbo_tensor *a, elbo_tensor *b) { return elbo_square(elbo_minimum(a, b)); }
static elbo_tensor *where_of(elbo_tensor *a, elbo_tensor *b) {
  return elbo_where(elbo_less(a, b), elbo_mul(a, elbo_square(b)), elbo_exp(elbo_sub(a, b)));
}
static const binary_case binary_cases[] = {
    {"add", add_cubed},           {"sub", sub_cubed},           {"mul", elbo_mul},    {"div", elbo_div},
    {"maximum", maximum_squared}, {"minimum", minimum_squared}, {"less", less_times}, {"where", where_of},
};
enum { BINARY_CASES = sizeof binary_cases / sizeof binary_cases[0] };

typedef struct pair_case {
  int rank_a, rank_b;
  int64_t a[ELBO_MAX_RANK], b[ELBO_MAX_RANK];
  const binary_case *binary;
} pair_case;

static elbo_tensor *build_binary(elbo_graph *g, const void *arg) {
  const pair_case *c = arg;
  return c->binary->build(elbo_input(g, "a", ELBO_F32, c->rank_a, c->a), elbo_input(g, "b", ELBO_F32, c->rank_b, c->b));
}

// A random pair of shapes that broadcast together.
static pair_case random_pair(test_random *r, int64_t longest) {
  pair_case c = {0};
  int rank = (int)test_below(r, 0, 5);
  c.rank_a = rank;
  c.rank_b = (int)test_below(r, 0, rank);
  for (int i = 0; i < rank; i++) c.a[i] = test_below(r, 1, longest);
  for (int i = 0; i < c.rank_b; i++) {
    int64_t *a = &c.a[rank - c.rank_b + i];
    int64_t kind = test_below(r, 0, 3);
    c.b[i] = kind == 0 ? 1 : *a;
    if (kind == 1) *a = 1;
  }
  return c;
}

static void test_binary(void **state) {
  (void)state;
  test_random r = {.seed = test_seed()};
  bool ok = true;
  for (int i = 0; i < BINARY_CASES; i++)
    for (int trial = 0; trial < 4; trial++) {
      pair_case c = random_pair(&r, trial < 2 ? 3 : 9);
      c.binary = &binary_cases[i];
      op_check check = {
          .name = binary_cases[i].name, .seed = test_seed() + (uint64_t)trial, .orders = trial < 2 ? 2 : 0, .low = 0.3, .high = 2};
      ok &= op_check_run(&check, build_binary, &c);
    }
  assert_true(ok);
}

// Shapes that exercise every way of reading an operand: rows longer than a block, short rows, periods, one number, both sides broadcast.
static void test_broadcast(void **state) {
  (void)state;
  static const pair_case cases[] = {
      {2, 1, {5, 784}, {784}, NULL},
      {2, 1, {700, 3}, {3}, NULL},
      {2, 2, {300, 20}, {300, 1}, NULL},
      {3, 3, {4, 196, 64}, {4, 1, 64}, NULL},
      {3, 3, {3, 50, 7}, {3, 50, 1}, NULL},
      {2, 0, {33, 40}, {0}, NULL},
      {2, 2, {600, 1}, {1, 5}, NULL},
      {4, 3, {2, 1, 9, 1}, {11, 1, 13}, NULL},
      {1, 1, {1}, {1}, NULL},
      {3, 2, {2, 900, 2}, {900, 2}, NULL},
      {5, 5, {2, 3, 1, 5, 1}, {1, 3, 4, 1, 6}, NULL},
  };
  bool ok = true;
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    pair_case c = cases[i];
    char name[64];
    c.binary = &(binary_case){"sub", elbo_sub};
    snprintf(name, sizeof name, "sub, broadcast case %d", (int)i);
    op_check check = {.name = name, .seed = test_seed() + i};
    ok &= op_check_run(&check, build_binary, &c);
    pair_case swapped = {c.rank_b, c.rank_a, {0}, {0}, c.binary};
    memcpy(swapped.a, c.b, sizeof c.b);
    memcpy(swapped.b, c.a, sizeof c.a);
    ok &= op_check_run(&check, build_binary, &swapped);
  }
  assert_true(ok);
}

static elbo_tensor *build_broadcast_to(elbo_graph *g, const void *arg) {
  (void)arg;
  return elbo_square(elbo_broadcast_to(elbo_input(g, "x", ELBO_F32, 2, (int64_t[]){3, 1}), 4, (int64_t[]){2, 1, 3, 5}));
}

static void test_broadcast_to(void **state) {
  (void)state;
  op_check check = {.name = "broadcast_to", .seed = test_seed(), .orders = 2};
  assert_true(op_check_run(&check, build_broadcast_to, NULL));
}

// --- special values, errors -----------------------------------------------------------------------------------------------------

static void test_special_values(void **state) {
  (void)state;
  static const float values[] = {0.0f,      -0.0f,    INFINITY, -INFINITY, NAN,     1e-45f, -1e-45f, FLT_MIN, -FLT_MIN, FLT_MAX, -FLT_MAX,
                                 88.72283f, 88.7229f, -87.4f,   -103.9f,   -104.1f, 1.0f,   -1.0f,   10.5f,   -10.5f,   1e-8f,   20000.5f};
  enum { COUNT = sizeof values / sizeof values[0] };
  for (int isa = 0; isa < ISA_COUNT; isa++) {
    elbo_ctx *ctx = test_ctx_isa(1, (isa_level)isa);
    if (!ctx) continue;
    for (int code = EW_NEG; code <= EW_SCALE; code++) {
      elbo_graph *g;
      elbo_plan *p;
      assert_ok(ctx, elbo_graph_create(ctx, "special", &g));
      elbo_tensor *x = elbo_input(g, "x", ELBO_F32, 1, (int64_t[]){COUNT});
      elementwise_attr attr = {code, code == EW_CLAMP ? -2.0 : 0.5, code == EW_CLAMP ? 2.0 : 0.25};
      elbo_tensor *y = graph_add(g, &op_unary, &attr, 1, &x, NULL);
      assert_non_null(y);
      assert_ok(ctx, elbo_plan_create(ctx, g, 1, &y, NULL, &p));
      assert_ok(ctx, elbo_plan_set(p, "x", values, COUNT));
      assert_ok(ctx, elbo_plan_run(p, NULL));
      const float *out = elbo_plan_output(p, 0);
      for (int i = 0; i < COUNT; i++) {
        double u = values[i], want = elementwise_evaluate((elementwise_code)code, attr.a, attr.b, &u);
        bool composite = code == EW_GELU || code == EW_GELU_TANH || code == EW_SILU; // x times 0 at minus infinity
        if (composite && isinf(u)) continue;
        float rounded = (float)want;
        double tolerance = composite ? 1e-6 * (1 + fabs(u)) : 4e-7 * fabs(want) + 3e-45;
        bool same = isnan(want) ? isnan(out[i]) : out[i] == rounded || fabs(out[i] - want) <= tolerance;
        if (!same)
          print_error("%s, %s: f(%g) = %g, expected %g\n", elementwise_code_name((elementwise_code)code), isa_name((isa_level)isa), u,
                      out[i], want);
        assert_true(same);
      }
      elbo_plan_destroy(&p);
      elbo_graph_destroy(&g);
    }
    elbo_ctx_destroy(&ctx);
  }
}

// --- accuracy -------------------------------------------------------------------------------------------------------------------

// |got - want| in units in the last place of float at `want`.
static double ulps(float got, double want) {
  int exponent;
  if (isnan(want) || isnan(got)) return isnan(want) && isnan(got) ? 0.0 : INFINITY;
  if (isinf((float)want) || isinf(got))
    return got == (float)want || (fabs(want) > 3.4028e38 && fabs((double)got) > 3.4028e38) ? 0.0 : INFINITY;
  frexp(want, &exponent);
  if (want == 0.0 || exponent < -125) exponent = -125;
  return fabs((double)got - want) / ldexp(1.0, exponent - 24);
}

// What ops/vec.h says of its functions, over all of float, denormals, infinities and NaN included.
static void test_accuracy(void **state) {
  (void)state;
  static const struct {
    elementwise_code code;
    double ulp;
  } cases[] = {
      {EW_EXP, 1.5},     {EW_LOG, 1.5},    {EW_LOG1P, 2.5}, {EW_EXPM1, 2.5}, {EW_TANH, 3},
      {EW_SIGMOID, 2.5}, {EW_SOFTPLUS, 3}, {EW_ERF, 2},     {EW_SIN, 2},     {EW_COS, 2},
  };
  enum { STEP = 4001 };
  const int64_t count = (int64_t)(0x100000000 / STEP);
  float *x = malloc((size_t)count * sizeof *x);
  double *want = malloc((size_t)count * sizeof *want);
  assert_non_null(x);
  assert_non_null(want);
  for (int64_t i = 0; i < count; i++) {
    uint32_t bits = (uint32_t)(i * STEP);
    memcpy(x + i, &bits, sizeof bits);
  }
  for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
    for (int64_t i = 0; i < count; i++) {
      double u = x[i];
      want[i] = elementwise_evaluate(cases[c].code, 0.0, 0.0, &u);
    }
    for (int isa = 0; isa < ISA_COUNT; isa++) {
      elbo_ctx *ctx = test_ctx_isa(0, (isa_level)isa);
      if (!ctx) continue;
      elbo_graph *g;
      elbo_plan *p;
      assert_ok(ctx, elbo_graph_create(ctx, "accuracy", &g));
      elbo_tensor *in = elbo_input(g, "x", ELBO_F32, 1, &count);
      elementwise_attr attr = {cases[c].code, 0.0, 0.0};
      elbo_tensor *y = graph_add(g, &op_unary, &attr, 1, &in, NULL);
      assert_ok(ctx, elbo_plan_create(ctx, g, 1, &y, NULL, &p));
      assert_ok(ctx, elbo_plan_set(p, "x", x, count));
      assert_ok(ctx, elbo_plan_run(p, NULL));
      const float *out = elbo_plan_output(p, 0);
      int64_t worst = 0;
      for (int64_t i = 0; i < count; i++)
        if (ulps(out[i], want[i]) > ulps(out[worst], want[worst])) worst = i;
      double error = ulps(out[worst], want[worst]);
      if (!(error <= cases[c].ulp))
        print_error("%s, %s: f(%a) = %a, expected %a: %.3g ulp, at most %.3g\n", elementwise_code_name(cases[c].code),
                    isa_name((isa_level)isa), (double)x[worst], (double)out[worst], want[worst], error, cases[c].ulp);
      assert_true(error <= cases[c].ulp);
      elbo_plan_destroy(&p);
      elbo_graph_destroy(&g);
      elbo_ctx_destroy(&ctx);
    }
  }
  free(x);
  free(want);
}

static void test_errors(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  elbo_graph *g;
  assert_ok(ctx, elbo_graph_create(ctx, "wrong", &g));
  elbo_tensor *a = elbo_input(g, "a", ELBO_F32, 2, (int64_t[]){2, 3}), *b = elbo_input(g, "b", ELBO_F32, 2, (int64_t[]){2, 4});
  assert_null(elbo_exp(elbo_mul(a, b)));
  assert_status(ctx, elbo_graph_check(g), ELBO_ERROR_ARGUMENT, "mul: shapes (2,3) and (2,4)");
  elbo_graph_destroy(&g);
  assert_ok(ctx, elbo_graph_create(ctx, "wrong", &g));
  elbo_tensor *index = elbo_input(g, "i", ELBO_I32, 1, (int64_t[]){3});
  assert_null(elbo_tanh(index));
  assert_status(ctx, elbo_graph_check(g), ELBO_ERROR_ARGUMENT, "tanh: operand 0 is int32");
  elbo_graph_destroy(&g);
  elbo_ctx_destroy(&ctx);
}

// A wrong derivative is caught: silu's with relu's slope.
static elbo_tensor *build_wrong(elbo_graph *g, const void *arg) {
  (void)arg;
  elbo_tensor *x = elbo_input(g, "x", ELBO_F32, 1, (int64_t[]){9});
  elbo_tensor *wrong = elbo_sub(elbo_silu(x), elbo_relu(x)); // value of silu, gradient of relu
  return elbo_add(elbo_stop_gradient(wrong), elbo_relu(x));
}

static void test_planted_bug(void **state) {
  (void)state;
  op_check check = {.name = "a planted bug (a failure below is expected)", .seed = test_seed(), .orders = 1};
  assert_false(op_check_run(&check, build_wrong, NULL));
}

// --- benchmark ------------------------------------------------------------------------------------------------------------------

static void bench(void) {
  static const char *const names[] = {"relu", "exp", "silu", "tanh", "erf", "log"};
  static elbo_tensor *(*const builds[])(elbo_tensor *) = {elbo_relu, elbo_exp, elbo_silu, elbo_tanh, elbo_erf, elbo_log};
  for (int i = 0; i < 6; i++) {
    unary_case u = {names[i], builds[i], 0, 0};
    shape_case c = {4, {128, 28, 28, 32}, &u};
    op_check_bench(&(op_check){.name = names[i], .seed = 1, .low = 0.1, .high = 2}, build_unary, &c);
  }
  static const pair_case pairs[] = {{4, 4, {128, 28, 28, 32}, {128, 28, 28, 32}, NULL},
                                    {4, 1, {128, 28, 28, 32}, {32}, NULL},
                                    {4, 4, {128, 28, 28, 3}, {128, 28, 28, 1}, NULL}};
  static const char *const pair_names[] = {"add", "add, one a channel", "add, one a pixel of 3 channels"};
  for (int i = 0; i < 3; i++) {
    pair_case c = pairs[i];
    c.binary = &(binary_case){"add", elbo_add};
    op_check_bench(&(op_check){.name = pair_names[i], .seed = 1}, build_binary, &c);
  }
}

int main(int argc, char **argv) {
  op_check_bench_arguments(argc, argv);
  if (op_check_benching()) {
    bench();
    return 0;
  }
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_unary),        cmocka_unit_test(test_binary),         cmocka_unit_test(test_broadcast),
      cmocka_unit_test(test_broadcast_to), cmocka_unit_test(test_special_values), cmocka_unit_test(test_accuracy),
      cmocka_unit_test(test_errors),       cmocka_unit_test(test_planted_bug),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
