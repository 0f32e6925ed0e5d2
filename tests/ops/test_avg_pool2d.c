#include "builder_check.h"

typedef struct params {
  int64_t dim[4];
  int kh, kw;
  bool square;
} params;

static elbo_tensor *build(elbo_graph *g, const void *arg) {
  const params *p = arg;
  elbo_tensor *y = elbo_avg_pool2d(elbo_input(g, "x", ELBO_F32, 4, p->dim), p->kh, p->kw);
  return p->square ? elbo_square(y) : y;
}

static void test_random_shapes(void **state) {
  (void)state;
  test_random r = {.seed = test_seed()};
  for (int i = 0; i < 14; i++) {
    params p = {.kh = (int)test_below(&r, 1, 3), .kw = (int)test_below(&r, 1, 4), .square = i % 3 == 0};
    char name[96];
    p.dim[0] = test_below(&r, 1, 3), p.dim[1] = p.kh * test_below(&r, 1, 4), p.dim[2] = p.kw * test_below(&r, 1, 4);
    p.dim[3] = test_below(&r, 1, p.square ? 4 : 37);
    snprintf(name, sizeof name, "avg_pool2d %d x %d of (%d,%d,%d,%d)", p.kh, p.kw, (int)p.dim[0], (int)p.dim[1], (int)p.dim[2],
             (int)p.dim[3]);
    assert_true(op_check_run(&(op_check){.name = name, .seed = test_seed() + (uint64_t)i, .orders = p.square ? 2 : 1}, build, &p));
  }
}

static void test_refused(void **state) {
  (void)state;
  assert_build_refused(build, &(params){{1, 7, 8, 2}, 2, 2, false}, "avg_pool2d of (1,7,8,2)");
  assert_build_refused(build, &(params){{1, 8, 8, 2}, 0, 2, false}, "windows of 0 x 2");
}

int main(int argc, char **argv) {
  op_check_bench_arguments(argc, argv);
  if (op_check_benching()) {
    op_check_bench(&(op_check){.name = "2 x 2 of (64,32,32,128)", .orders = 1}, build, &(params){{64, 32, 32, 128}, 2, 2, false});
    return 0;
  }
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_random_shapes), cmocka_unit_test(test_refused)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
