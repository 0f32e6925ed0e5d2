
#include "builder_check.h"

typedef struct params {
  int rank, axis;
  int64_t dim[ELBO_MAX_RANK];
  int64_t before, after;
  bool square;
} params;

static elbo_tensor *build(elbo_graph *g, const void *arg) {
  const params *p = arg;
  elbo_tensor *y = elbo_pad(elbo_input(g, "x", ELBO_F32, p->rank, p->dim), p->axis, p->before, p->after);
  return p->square ? elbo_square(y) : y;
}

static void test_random_shapes(void **state) {
  (void)state;
  test_random r = {.seed = test_seed()};
  for (int i = 0; i < 16; i++) {
    params p = {.rank = (int)test_below(&r, 1, 5), .square = i % 4 == 0, .before = test_below(&r, 0, 3), .after = test_below(&r, 0, 3)};
    char name[96];
    p.axis = (int)test_below(&r, 0, p.rank - 1);
    for (int d = 0; d < p.rank; d++) p.dim[d] = test_below(&r, 1, p.square ? 4 : 7);
    snprintf(name, sizeof name, "pad by %d and %d of axis %d of rank %d", (int)p.before, (int)p.after, p.axis, p.rank);
    assert_true(op_check_run(&(op_check){.name = name, .seed = test_seed() + (uint64_t)i, .orders = p.square ? 2 : 1}, build, &p));
  }
}

static void test_refused(void **state) {
  (void)state;
  assert_build_refused(build, &(params){2, 1, {2, 3}, -1, 0, false}, "pad of (2,3) along axis 1 by -1 and 0");
  assert_build_refused(build, &(params){2, 1, {2, 3}, INT64_MAX, 0, false}, "pad of (2,3)");
  assert_build_refused(build, &(params){2, 2, {2, 3}, 1, 0, false}, "there is no axis 2");
}

int main(int argc, char **argv) {
  op_check_bench_arguments(argc, argv);
  if (op_check_benching()) {
    params p = {4, 2, {64, 32, 32, 64}, 1, 1, false};
    op_check_bench(&(op_check){.name = "width of (64,32,32,64) by 1, 1", .orders = 1}, build, &p);
    return 0;
  }
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_random_shapes), cmocka_unit_test(test_refused)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
