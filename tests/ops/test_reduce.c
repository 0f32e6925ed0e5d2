// Sums, means, maxima, log-sum-exp over any axes.
#include <elbo/ops.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/op_check.h"

typedef enum reduction { SUM, MEAN, MAX, LOGSUMEXP } reduction;
static const char *const reduction_name[] = {"sum", "mean", "max", "logsumexp"};

typedef struct reduce_case {
  reduction kind;
  int rank;
  int64_t dim[ELBO_MAX_RANK];
  unsigned axes;
  int keep;
} reduce_case;

static elbo_tensor *build_reduce(elbo_graph *g, const void *arg) {
  const reduce_case *c = arg;
  elbo_tensor *x = elbo_input(g, "x", ELBO_F32, c->rank, c->dim);
  switch (c->kind) {
  case SUM: return elbo_square(elbo_sum(x, c->axes, c->keep));
  case MEAN: return elbo_square(elbo_mean(x, c->axes, c->keep));
  // The sum makes the gradient more than a few isolated ones, which the checker refuses.
  case MAX: return elbo_add(elbo_max(x, c->axes, c->keep), elbo_scale(elbo_sum(x, c->axes, c->keep), 0.25, 0.0));
  default: return elbo_logsumexp(x, c->axes, c->keep);
  }
}

static bool check_case(const reduce_case *c, uint64_t seed, int orders) {
  char name[128];
  snprintf(name, sizeof name, "%s of (%d,%d,%d,%d,%d) rank %d, axes 0x%x, keep %d", reduction_name[c->kind], (int)c->dim[0], (int)c->dim[1],
           (int)c->dim[2], (int)c->dim[3], (int)c->dim[4], c->rank, c->axes, c->keep);
  op_check check = {.name = name, .seed = seed, .orders = c->kind == MAX && orders > 1 ? 1 : orders};
  return op_check_run(&check, build_reduce, c);
}

// Every mask of every rank, small, with derivatives.
static void test_all_masks(void **state) {
  (void)state;
  test_random r = {.seed = test_seed()};
  bool ok = true;
  for (int kind = SUM; kind <= LOGSUMEXP; kind++)
    for (int rank = 0; rank <= ELBO_MAX_RANK; rank++)
      for (unsigned axes = 0; axes < 1u << rank; axes++) {
        reduce_case c = {.kind = (reduction)kind, .rank = rank, .axes = axes, .keep = (int)test_below(&r, 0, 1)};
        for (int i = 0; i < rank; i++) c.dim[i] = test_below(&r, 1, 3);
        if (axes == (1u << rank) - 1u && test_below(&r, 0, 1)) c.axes = ELBO_ALL_AXES;
        bool curved = kind < MAX; // log-sum-exp of one number has no second derivative, which the checker refuses
        if (kind == LOGSUMEXP)
          for (int i = 0; i < rank; i++) curved |= (c.axes >> i & 1) && c.dim[i] > 1;
        ok &= check_case(&c, test_seed() + axes, rank <= 3 ? (curved ? 2 : 1) : 0);
      }
  assert_true(ok);
}

// Large ones, each way through the kernels: whole, trailing, leading, both, narrow columns, wide columns, many results.
static void test_large(void **state) {
  (void)state;
  static const reduce_case cases[] = {
      {SUM, 1, {100003}, 1, 0},     {SUM, 2, {129, 784}, 2, 0},     {SUM, 2, {3001, 3}, 1, 0},        {SUM, 2, {5003, 1}, 1, 1},
      {SUM, 2, {999, 20}, 1, 0},    {SUM, 2, {1037, 64}, 1, 0},     {SUM, 2, {130, 2500}, 1, 0},      {SUM, 4, {6, 14, 14, 33}, 7, 0},
      {SUM, 3, {7, 300, 33}, 2, 0}, {SUM, 4, {5, 12, 9, 31}, 5, 0}, {SUM, 4, {5, 12, 9, 31}, 10, 0},  {SUM, 5, {3, 8, 5, 9, 7}, 21, 0},
      {SUM, 2, {5000, 3}, 2, 0},    {MEAN, 3, {11, 64, 50}, 6, 0},  {MAX, 2, {129, 784}, 2, 0},       {MAX, 2, {3001, 3}, 1, 0},
      {MAX, 3, {7, 300, 33}, 2, 0}, {MAX, 1, {40009}, 1, 0},        {LOGSUMEXP, 2, {50, 1000}, 2, 0}, {LOGSUMEXP, 3, {9, 77, 10}, 2, 1},
  };
  bool ok = true;
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) ok &= check_case(&cases[i], test_seed() + i, 0);
  assert_true(ok);
}

static float run_one(elbo_ctx *ctx, elbo_tensor *(*reduce)(elbo_tensor *, unsigned, int), const float *x, int64_t n, float *out,
                     int64_t dim1) {
  elbo_graph *g;
  elbo_plan *p;
  assert_ok(ctx, elbo_graph_create(ctx, "one", &g));
  elbo_tensor *t = elbo_input(g, "x", ELBO_F32, 2, (int64_t[]){n / dim1, dim1});
  elbo_tensor *y = reduce(t, 1, 0);
  assert_ok(ctx, elbo_plan_create(ctx, g, 1, &y, NULL, &p));
  assert_ok(ctx, elbo_plan_set(p, "x", x, n));
  assert_ok(ctx, elbo_plan_run(p, NULL));
  memcpy(out, elbo_plan_output(p, 0), (size_t)dim1 * sizeof *out);
  elbo_plan_destroy(&p);
  elbo_graph_destroy(&g);
  return out[0];
}

// Ten million times 0.1: a running float sum would be off by ten percent.
static void test_precision(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(0);
  const int64_t n = 10000000;
  float *x = malloc((size_t)n * sizeof *x), out;
  assert_non_null(x);
  for (int64_t i = 0; i < n; i++) x[i] = 0.1f;
  assert_near(run_one(ctx, elbo_sum, x, n, &out, 1) / ((double)n * (double)0.1f), 1.0, 2e-7);
  free(x);
  elbo_ctx_destroy(&ctx);
}

// The same bytes whatever the number of threads.
static void test_threads(void **state) {
  (void)state;
  enum { N = 300000, C = 30 };
  float *x = malloc(N * sizeof *x), one[C], many[C];
  assert_non_null(x);
  test_random r = {.seed = test_seed()};
  test_fill_normal(&r, x, N, 1.0);
  for (int64_t columns = 1; columns <= C; columns += C - 1) {
    elbo_ctx *a = test_ctx(1), *b = test_ctx(3);
    run_one(a, elbo_sum, x, N, one, columns);
    run_one(b, elbo_sum, x, N, many, columns);
    assert_memory_equal(one, many, (size_t)columns * sizeof *one);
    elbo_ctx_destroy(&a);
    elbo_ctx_destroy(&b);
  }
  free(x);
}

static void test_not_numbers(void **state) {
  (void)state;
  for (int isa = 0; isa < ISA_COUNT; isa++) {
    elbo_ctx *ctx = test_ctx_isa(1, (isa_level)isa);
    if (!ctx) continue;
    float x[90], y[2];
    for (int at = 0; at < 90; at += 7) {
      for (int i = 0; i < 90; i++) x[i] = (float)i;
      x[at] = NAN;
      assert_true(isnan(run_one(ctx, elbo_max, x, 90, y, 1)));
      assert_true(isnan(run_one(ctx, elbo_sum, x, 90, y, 1)));
      run_one(ctx, elbo_max, x, 90, y, 2);
      assert_true(isnan(y[at % 2]) && !isnan(y[1 - at % 2]));
    }
    for (int i = 0; i < 90; i++) x[i] = -INFINITY;
    assert_true(run_one(ctx, elbo_logsumexp, x, 90, y, 1) == -INFINITY);
    for (int i = 0; i < 90; i++) x[i] = 1e4f;
    assert_near(run_one(ctx, elbo_logsumexp, x, 90, y, 1), 1e4 + log(90.0), 1e-3);
    elbo_ctx_destroy(&ctx);
  }
}

static void test_refused(void **state) {
  (void)state;
  reduce_case c = {MAX, 2, {3, 5}, 2, 0};
  op_check check = {.name = "max", .seed = test_seed()};
  assert_true(op_check_refused(&check, 2, "max_gradient", build_reduce, &c));
  elbo_ctx *ctx = test_ctx(1);
  elbo_graph *g;
  assert_ok(ctx, elbo_graph_create(ctx, "wrong", &g));
  assert_null(elbo_sum(elbo_input(g, "x", ELBO_F32, 2, (int64_t[]){2, 3}), 4, 0));
  assert_status(ctx, elbo_graph_check(g), ELBO_ERROR_ARGUMENT, "sum: axes 0x4 of a tensor of shape (2,3)");
  elbo_graph_destroy(&g);
  elbo_ctx_destroy(&ctx);
}

// A sum that forgets its last element is caught.
static elbo_tensor *build_short_sum(elbo_graph *g, const void *arg) {
  (void)arg;
  elbo_tensor *x = elbo_input(g, "x", ELBO_F32, 1, (int64_t[]){9});
  elbo_tensor *all = elbo_sum(x, 1, 0), *some = elbo_sum(elbo_slice(x, 0, 0, 8), 1, 0);
  return elbo_add(elbo_stop_gradient(elbo_sub(all, some)), some);
}

static void test_planted_bug(void **state) {
  (void)state;
  op_check check = {.name = "a planted bug (a failure below is expected)", .seed = test_seed(), .orders = 1};
  assert_false(op_check_run(&check, build_short_sum, NULL));
}

static elbo_tensor *build_plain_sum(elbo_graph *g, const void *arg) {
  const reduce_case *c = arg;
  return elbo_sum(elbo_input(g, "x", ELBO_F32, c->rank, c->dim), c->axes, c->keep);
}

static void bench(void) {
  static const reduce_case cases[] = {
      {SUM, 1, {3211264}, 1, 0},   {SUM, 2, {128, 25088}, 2, 0}, {SUM, 2, {100352, 32}, 1, 0},
      {SUM, 2, {100352, 3}, 1, 0}, {SUM, 2, {128, 25088}, 1, 0}, {SUM, 3, {128, 784, 32}, 2, 0},
  };
  static const char *const names[] = {"sum, all",        "sum, trailing",     "sum, 32 channels",
                                      "sum, 3 channels", "sum, wide columns", "sum, middle"};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
    op_check_bench(&(op_check){.name = names[i], .seed = 1}, build_plain_sum, &cases[i]);
}

int main(int argc, char **argv) {
  op_check_bench_arguments(argc, argv);
  if (op_check_benching()) {
    bench();
    return 0;
  }
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_all_masks),   cmocka_unit_test(test_large),       cmocka_unit_test(test_precision),
      cmocka_unit_test(test_threads),     cmocka_unit_test(test_not_numbers), cmocka_unit_test(test_refused),
      cmocka_unit_test(test_planted_bug),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
