#include <math.h>

#include "builder_check.h"

typedef struct params {
  int64_t dim[4];
  int kernel[2], stride[2], pad[4];
} params;

static elbo_tensor *build(elbo_graph *g, const void *arg) {
  const params *p = arg;
  elbo_tensor *x = elbo_input(g, "x", ELBO_F32, 4, p->dim);
  elbo_tensor *y = elbo_max_pool2d(x, p->kernel, p->stride, p->pad);
  // the square's gradient depends on which number was taken; the sum makes it more than a few isolated ones
  return y ? elbo_add(elbo_square(y), elbo_scale(elbo_mean(x, 1u << 1 | 1u << 2, 1), 0.25, 0)) : NULL;
}

static elbo_tensor *build_alone(elbo_graph *g, const void *arg) {
  const params *p = arg;
  return elbo_max_pool2d(elbo_input(g, "x", ELBO_F32, 4, p->dim), p->kernel, p->stride, p->pad);
}

static void test_random_shapes(void **state) {
  (void)state;
  test_random r = {.seed = test_seed()};
  for (int i = 0; i < 16; i++) {
    params p;
    char name[128];
    for (int k = 0; k < 2; k++) {
      p.kernel[k] = (int)test_below(&r, 1, 4), p.stride[k] = (int)test_below(&r, 0, 3);
      p.pad[k] = (int)test_below(&r, 0, p.kernel[k] - 1), p.pad[2 + k] = (int)test_below(&r, 0, p.kernel[k] - 1);
      p.dim[1 + k] = p.kernel[k] + test_below(&r, 0, 6);
    }
    p.dim[0] = test_below(&r, 1, 3), p.dim[3] = test_below(&r, 1, i % 3 ? 5 : 37);
    snprintf(name, sizeof name, "max_pool2d %d x %d, stride %d x %d, padding %d,%d,%d,%d of (%d,%d,%d,%d)", p.kernel[0], p.kernel[1],
             p.stride[0], p.stride[1], p.pad[0], p.pad[1], p.pad[2], p.pad[3], (int)p.dim[0], (int)p.dim[1], (int)p.dim[2], (int)p.dim[3]);
    assert_true(op_check_run(&(op_check){.name = name, .seed = test_seed() + (uint64_t)i, .orders = 1}, build, &p));
  }
}

static void test_threads(void **state) {
  (void)state;
  assert_threads_change_nothing(build_alone, &(params){{3, 33, 31, 19}, {3, 3}, {2, 2}, {1, 1, 1, 1}});
}

// A window of equal numbers gives its gradient to the first; a NaN comes through.
static void test_ties_and_nan(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  elbo_graph *g;
  elbo_plan *plan;
  assert_ok(ctx, elbo_graph_create(ctx, "ties", &g));
  elbo_tensor *x = elbo_input(g, "x", ELBO_F32, 4, (int64_t[]){1, 2, 4, 1}), *dx;
  elbo_tensor *y = elbo_max_pool2d(x, (int[]){2, 2}, (int[]){2, 2}, NULL);
  assert_ok(ctx, elbo_gradient(y, 1, &x, &dx));
  assert_ok(ctx, elbo_plan_create(ctx, g, 2, (elbo_tensor *[]){y, dx}, NULL, &plan));
  static const float values[8] = {1, 1, 0, -1, 1, 1, NAN, 5};
  memcpy(elbo_plan_input(plan, "x"), values, sizeof values);
  assert_ok(ctx, elbo_plan_run(plan, NULL));
  static const float want[8] = {1, 0, 0, 0, 0, 0, 1, 0};
  const float *out = elbo_plan_output(plan, 0);
  assert_true(out[0] == 1 && isnan(out[1]));
  assert_memory_equal(elbo_plan_output(plan, 1), want, sizeof want);
  elbo_plan_destroy(&plan);
  elbo_graph_destroy(&g);
  elbo_ctx_destroy(&ctx);
}

static void test_refused(void **state) {
  (void)state;
  assert_build_refused(build_alone, &(params){{1, 2, 8, 2}, {3, 3}, {1, 1}, {0}}, "max_pool2d of (1,2,8,2)");
  assert_build_refused(build_alone, &(params){{1, 8, 8, 2}, {2, 2}, {1, 1}, {2, 0, 0, 0}}, "padding (2,0,0,0)");
  assert_build_refused(build_alone, &(params){{1, 8, 8, 2}, {0, 2}, {1, 1}, {0}}, "windows of 0 x 2");
  assert_build_refused(build_alone, &(params){{1, 8, 8, 2}, {2, 2}, {-1, 1}, {0}}, "stride -1 x 1");
  assert_true(op_check_refused(&(op_check){.name = "max_pool2d", .seed = test_seed()}, 2, "max_pool2d_grad", build_alone,
                               &(params){{1, 4, 4, 1}, {2, 2}, {2, 2}, {0}}));
}

int main(int argc, char **argv) {
  op_check_bench_arguments(argc, argv);
  if (op_check_benching()) {
    op_check_bench(&(op_check){.name = "3 x 3, stride 2 of (8,147,147,64)", .orders = 1}, build_alone,
                   &(params){{8, 147, 147, 64}, {3, 3}, {2, 2}, {0}});
    return 0;
  }
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_random_shapes), cmocka_unit_test(test_threads),
                                     cmocka_unit_test(test_ties_and_nan), cmocka_unit_test(test_refused)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
