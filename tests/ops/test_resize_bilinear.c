#include "builder_check.h"

typedef struct params {
  int64_t dim[4], h, w;
  bool square;
} params;

static elbo_tensor *build(elbo_graph *g, const void *arg) {
  const params *p = arg;
  elbo_tensor *y = elbo_resize_bilinear(elbo_input(g, "x", ELBO_F32, 4, p->dim), p->h, p->w);
  return p->square ? elbo_square(y) : y;
}

static void check(const params *p, uint64_t seed) {
  char name[96];
  snprintf(name, sizeof name, "resize_bilinear (%d,%d,%d,%d) to %d x %d", (int)p->dim[0], (int)p->dim[1], (int)p->dim[2], (int)p->dim[3],
           (int)p->h, (int)p->w);
  assert_true(op_check_run(&(op_check){.name = name, .seed = seed, .orders = p->square ? 2 : 1}, build, p));
}

static void test_random_shapes(void **state) {
  (void)state;
  test_random r = {.seed = test_seed()};
  for (int i = 0; i < 20; i++) {
    params p = {.h = test_below(&r, 1, 14), .w = test_below(&r, 1, 14), .square = i % 4 == 0};
    p.dim[0] = test_below(&r, 1, 2), p.dim[1] = test_below(&r, 1, 9), p.dim[2] = test_below(&r, 1, 9);
    p.dim[3] = test_below(&r, 1, p.square ? 3 : 21);
    check(&p, test_seed() + (uint64_t)i);
  }
}

static void test_chosen_shapes(void **state) {
  (void)state;
  check(&(params){{1, 32, 32, 3}, 7, 9, false}, 1); // pixels from which nothing is made
  check(&(params){{1, 3, 2, 5}, 96, 64, false}, 2);
  check(&(params){{2, 5, 4, 3}, 5, 4, false}, 3); // the same size: the identity
}

static void test_refused(void **state) {
  (void)state;
  assert_build_refused(build, &(params){{1, 8, 8, 2}, 0, 2, false}, "resize_bilinear of (1,8,8,2) to 0 x 2");
}

int main(int argc, char **argv) {
  op_check_bench_arguments(argc, argv);
  if (op_check_benching()) {
    op_check_bench(&(op_check){.name = "(32,32,32,64) to 64 x 64", .orders = 1}, build, &(params){{32, 32, 32, 64}, 64, 64, false});
    op_check_bench(&(op_check){.name = "(32,64,64,3) to 32 x 32", .orders = 1}, build, &(params){{32, 64, 64, 3}, 32, 32, false});
    return 0;
  }
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_random_shapes), cmocka_unit_test(test_chosen_shapes),
                                     cmocka_unit_test(test_refused)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
