
#include "builder_check.h"

typedef struct params {
  int n, rank, axis;
  int64_t dim[ELBO_MAX_RANK];
  int64_t length[4]; // of the axis, by input
  bool square;
} params;

static elbo_tensor *build(elbo_graph *g, const void *arg) {
  const params *p = arg;
  elbo_tensor *x[4];
  for (int i = 0; i < p->n; i++) {
    const char *names[] = {"a", "b", "c", "d"};
    int64_t dim[ELBO_MAX_RANK];
    for (int d = 0; d < p->rank; d++) dim[d] = p->dim[d];
    dim[p->axis] = p->length[i];
    x[i] = elbo_input(g, names[i], ELBO_F32, p->rank, dim);
  }
  elbo_tensor *y = elbo_concat(p->n, x, p->axis);
  return p->square ? elbo_square(y) : y;
}

static void test_random_shapes(void **state) {
  (void)state;
  test_random r = {.seed = test_seed()};
  for (int i = 0; i < 16; i++) {
    params p = {.n = (int)test_below(&r, 2, 4), .rank = (int)test_below(&r, 1, 5), .square = i % 4 == 0};
    char name[96];
    p.axis = (int)test_below(&r, 0, p.rank - 1);
    for (int d = 0; d < p.rank; d++) p.dim[d] = test_below(&r, 1, p.square ? 3 : 6);
    for (int d = 0; d < p.n; d++) p.length[d] = test_below(&r, 1, p.square ? 3 : 9);
    snprintf(name, sizeof name, "concat of %d along axis %d of rank %d", p.n, p.axis, p.rank);
    assert_true(op_check_run(&(op_check){.name = name, .seed = test_seed() + (uint64_t)i, .orders = p.square ? 2 : 1}, build, &p));
  }
}

static elbo_tensor *build_twice(elbo_graph *g, const void *arg) {
  (void)arg;
  elbo_tensor *x = elbo_input(g, "x", ELBO_F32, 2, (int64_t[]){3, 5});
  return elbo_square(elbo_concat(3, (elbo_tensor *[]){x, elbo_square(x), x}, -1));
}

static void test_same_input_twice(void **state) {
  (void)state;
  assert_true(op_check_run(&(op_check){.name = "concat of x, x^2, x", .seed = 3, .orders = 2}, build_twice, NULL));
}

static elbo_tensor *build_uneven(elbo_graph *g, const void *arg) {
  (void)arg;
  elbo_tensor *x[] = {elbo_input(g, "a", ELBO_F32, 2, (int64_t[]){2, 3}), elbo_input(g, "b", ELBO_F32, 2, (int64_t[]){3, 3})};
  return elbo_concat(2, x, 1);
}

static elbo_tensor *build_no_axis(elbo_graph *g, const void *arg) {
  (void)arg;
  elbo_tensor *x = elbo_input(g, "a", ELBO_F32, 2, (int64_t[]){2, 3});
  return elbo_concat(2, (elbo_tensor *[]){x, x}, 2);
}

static void test_refused(void **state) {
  (void)state;
  assert_build_refused(build_uneven, NULL, "input 1 is float32 (3,3) and input 0 is float32 (2,3)");
  assert_build_refused(build_no_axis, NULL, "concat of (2,3): there is no axis 2");
}

int main(int argc, char **argv) {
  op_check_bench_arguments(argc, argv);
  if (op_check_benching()) {
    params p = {2, 4, 3, {64, 32, 32, 0}, {64, 128}, false};
    op_check_bench(&(op_check){.name = "channels (64,32,32,64+128)", .orders = 1}, build, &p);
    return 0;
  }
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_random_shapes),
      cmocka_unit_test(test_same_input_twice),
      cmocka_unit_test(test_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
