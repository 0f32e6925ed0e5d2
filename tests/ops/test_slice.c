
#include "builder_check.h"

typedef struct params {
  int rank, axis;
  int64_t dim[ELBO_MAX_RANK];
  int64_t begin, end;
  bool square;
} params;

static elbo_tensor *build(elbo_graph *g, const void *arg) {
  const params *p = arg;
  elbo_tensor *y = elbo_slice(elbo_input(g, "x", ELBO_F32, p->rank, p->dim), p->axis, p->begin, p->end);
  return p->square ? elbo_square(y) : y;
}

static void test_random_shapes(void **state) {
  (void)state;
  test_random r = {.seed = test_seed()};
  for (int i = 0; i < 16; i++) {
    params p = {.rank = (int)test_below(&r, 1, 5), .square = i % 4 == 0};
    char name[96];
    p.axis = (int)test_below(&r, 0, p.rank - 1);
    for (int d = 0; d < p.rank; d++) p.dim[d] = test_below(&r, 1, p.square ? 4 : 7);
    p.begin = test_below(&r, 0, p.dim[p.axis] - 1);
    p.end = test_below(&r, p.begin + 1, p.dim[p.axis]);
    snprintf(name, sizeof name, "slice [%d,%d) of axis %d of rank %d", (int)p.begin, (int)p.end, p.axis, p.rank);
    assert_true(op_check_run(&(op_check){.name = name, .seed = test_seed() + (uint64_t)i, .orders = p.square ? 2 : 1}, build, &p));
  }
}

// a tensor that is split, one part squared, and put together in another order
static elbo_tensor *build_split(elbo_graph *g, const void *arg) {
  (void)arg;
  elbo_tensor *part[3], *x = elbo_input(g, "x", ELBO_F32, 3, (int64_t[]){2, 5, 9});
  if (elbo_split_axis(x, -1, 3, part) != 3) return NULL;
  return elbo_concat(3, (elbo_tensor *[]){part[2], elbo_square(part[0]), elbo_mul(part[1], part[2])}, 2);
}

static void test_split(void **state) {
  (void)state;
  assert_true(op_check_run(&(op_check){.name = "split in three", .seed = 9, .orders = 2}, build_split, NULL));
}

static elbo_tensor *build_split_uneven(elbo_graph *g, const void *arg) {
  (void)arg;
  elbo_tensor *part[4] = {NULL, NULL, NULL, NULL};
  assert_int_equal(elbo_split_axis(elbo_input(g, "x", ELBO_F32, 2, (int64_t[]){2, 10}), 1, 4, part), 0);
  return part[0];
}

static void test_refused(void **state) {
  (void)state;
  assert_build_refused(build, &(params){2, 1, {2, 3}, 1, 4, false}, "slice of (2,3) along axis 1: [1,4) is empty or reaches outside");
  assert_build_refused(build, &(params){2, 0, {2, 3}, 1, 1, false}, "is empty");
  assert_build_refused(build, &(params){2, 3, {2, 3}, 0, 1, false}, "there is no axis 3");
  assert_build_refused(build_split_uneven, NULL, "axis 1 does not come apart into 4 equal slices");
}

int main(int argc, char **argv) {
  op_check_bench_arguments(argc, argv);
  if (op_check_benching()) {
    params p = {4, 3, {64, 32, 32, 192}, 64, 128, false};
    op_check_bench(&(op_check){.name = "channels 64..128 of (64,32,32,192)", .orders = 1}, build, &p);
    return 0;
  }
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_random_shapes), cmocka_unit_test(test_split), cmocka_unit_test(test_refused)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
