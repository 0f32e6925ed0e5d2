#include "builder_check.h"

typedef struct params {
  int rank;
  int64_t dim[ELBO_MAX_RANK];
  bool weight, bias;
} params;

static elbo_tensor *build(elbo_graph *g, const void *arg) {
  const params *p = arg;
  int64_t c = p->dim[p->rank - 1];
  elbo_tensor *w = p->weight ? elbo_input(g, "weight", ELBO_F32, 1, &c) : NULL,
              *b = p->bias ? elbo_input(g, "bias", ELBO_F32, 1, &c) : NULL;
  return elbo_layer_norm(elbo_input(g, "x", ELBO_F32, p->rank, p->dim), w, b, 1e-5);
}

static void check(const params *p, uint64_t seed) {
  char name[128];
  snprintf(name, sizeof name, "layer_norm rank %d (%d,%d,%d,%d) weight %d bias %d", p->rank, (int)p->dim[0], (int)p->dim[1], (int)p->dim[2],
           (int)p->dim[3], p->weight, p->bias);
  assert_true(op_check_run(&(op_check){.name = name, .seed = seed, .orders = 1}, build, p));
}

static void test_random_shapes(void **state) {
  (void)state;
  test_random r = {.seed = test_seed()};
  for (int i = 0; i < 16; i++) {
    params p = {.rank = (int)test_below(&r, 1, 4), .weight = test_below(&r, 0, 3) > 0, .bias = test_below(&r, 0, 3) > 0};
    for (int d = 0; d < p.rank - 1; d++) p.dim[d] = test_below(&r, 1, 5);
    p.dim[p.rank - 1] = test_below(&r, 2, 90);
    check(&p, test_seed() + (uint64_t)i);
  }
  check(&(params){2, {131, 33}, true, true}, 40); // more rows than blocks, blocks longer than the float sums
  check(&(params){2, {2100, 5}, true, true}, 41);
}

static void test_threads(void **state) {
  (void)state;
  assert_threads_change_nothing(build, &(params){3, {40, 50, 23}, true, true});
}

static void test_refused(void **state) {
  (void)state;
  params p = {2, {3, 8}, true, true};
  assert_true(op_check_refused(&(op_check){.name = "layer_norm", .seed = 1}, 2, "layer_norm_grad", build, &p));
}

static elbo_tensor *build_wrong_weight(elbo_graph *g, const void *arg) {
  (void)arg;
  return elbo_layer_norm(elbo_input(g, "x", ELBO_F32, 2, (int64_t[]){3, 8}), elbo_input(g, "w", ELBO_F32, 1, (int64_t[]){7}), NULL, 1e-5);
}

static void test_wrong_shape(void **state) {
  (void)state;
  assert_build_refused(build_wrong_weight, NULL, "layer_norm of (3,8): weight is float32 (7), expected float32 (8)");
}

int main(int argc, char **argv) {
  op_check_bench_arguments(argc, argv);
  if (op_check_benching()) {
    op_check_bench(&(op_check){.name = "(8,1024,512)", .orders = 1}, build, &(params){3, {8, 1024, 512}, true, true});
    return 0;
  }
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_random_shapes),
      cmocka_unit_test(test_threads),
      cmocka_unit_test(test_refused),
      cmocka_unit_test(test_wrong_shape),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
