#include <math.h>

#include "builder_check.h"

typedef struct params {
  int rank;
  int64_t dim[ELBO_MAX_RANK];
} params;

static elbo_tensor *build(elbo_graph *g, const void *arg) {
  const params *p = arg;
  return elbo_softmax(elbo_input(g, "x", ELBO_F32, p->rank, p->dim));
}

static void test_random_shapes(void **state) {
  (void)state;
  test_random r = {.seed = test_seed()};
  for (int i = 0; i < 16; i++) {
    params p = {.rank = (int)test_below(&r, 1, 4)};
    char name[64];
    for (int d = 0; d < p.rank - 1; d++) p.dim[d] = test_below(&r, 1, 4);
    p.dim[p.rank - 1] = test_below(&r, 2, 70);
    snprintf(name, sizeof name, "softmax of %d, rank %d", (int)p.dim[p.rank - 1], p.rank);
    assert_true(op_check_run(&(op_check){.name = name, .seed = test_seed() + (uint64_t)i, .orders = 1}, build, &p));
  }
}

static void test_second(void **state) {
  (void)state;
  assert_true(op_check_run(&(op_check){.name = "softmax", .seed = 2, .orders = 2}, build, &(params){2, {3, 7}}));
}

static void test_large_numbers(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(0);
  elbo_graph *g = NULL;
  elbo_plan *plan = NULL;
  assert_ok(ctx, elbo_graph_create(ctx, "large", &g));
  elbo_tensor *y = build(g, &(params){2, {2, 3}});
  assert_ok(ctx, elbo_plan_create(ctx, g, 1, &y, NULL, &plan));
  const float x[] = {1e4f, 1e4f, -1e4f, -INFINITY, 0.0f, 3e38f}, expected[] = {0.5f, 0.5f, 0, 0, 0, 1};
  assert_ok(ctx, elbo_plan_set(plan, "x", x, 6));
  assert_ok(ctx, elbo_plan_run(plan, NULL));
  assert_close(elbo_plan_output(plan, 0), expected, 6, 1e-7);
  elbo_plan_destroy(&plan);
  elbo_graph_destroy(&g);
  elbo_ctx_destroy(&ctx);
}

static void test_refused(void **state) {
  (void)state;
  assert_build_refused(build, &(params){0, {0}}, "softmax of float32 ()");
}

int main(int argc, char **argv) {
  op_check_bench_arguments(argc, argv);
  if (op_check_benching()) {
    op_check_bench(&(op_check){.name = "(4096,1024)", .orders = 1}, build, &(params){2, {4096, 1024}});
    return 0;
  }
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_random_shapes),
      cmocka_unit_test(test_second),
      cmocka_unit_test(test_large_numbers),
      cmocka_unit_test(test_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
