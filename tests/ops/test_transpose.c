
#include "builder_check.h"

typedef struct params {
  int rank;
  int64_t dim[ELBO_MAX_RANK];
  int perm[ELBO_MAX_RANK];
} params;

static elbo_tensor *build(elbo_graph *g, const void *arg) {
  const params *p = arg;
  return elbo_transpose(elbo_input(g, "x", ELBO_F32, p->rank, p->dim), p->perm);
}

static elbo_tensor *build_square(elbo_graph *g, const void *arg) { return elbo_square(build(g, arg)); }

static void check(const params *p, uint64_t seed) {
  char name[128];
  snprintf(name, sizeof name, "transpose rank %d (%d,%d,%d,%d,%d) by (%d,%d,%d,%d,%d)", p->rank, (int)p->dim[0], (int)p->dim[1],
           (int)p->dim[2], (int)p->dim[3], (int)p->dim[4], p->perm[0], p->perm[1], p->perm[2], p->perm[3], p->perm[4]);
  assert_true(op_check_run(&(op_check){.name = name, .seed = seed, .tolerance = 1e-9}, build, p)); // numbers are moved, not made
  assert_true(op_check_run(&(op_check){.name = name, .seed = seed, .orders = 1}, build, p));
}

static void test_random_permutations(void **state) {
  (void)state;
  test_random r = {.seed = test_seed()};
  for (int i = 0; i < 24; i++) {
    params p = {.rank = (int)test_below(&r, 1, 5)};
    int64_t most = p.rank <= 2 ? 75 : p.rank == 3 ? 37 : 7;
    for (int d = 0; d < p.rank; d++) p.dim[d] = test_below(&r, 1, most), p.perm[d] = d;
    for (int d = p.rank - 1; d > 0; d--) {
      int other = (int)test_below(&r, 0, d), kept = p.perm[d];
      p.perm[d] = p.perm[other], p.perm[other] = kept;
    }
    check(&p, test_seed() + (uint64_t)i);
  }
}

static void test_attention_heads(void **state) {
  (void)state;
  check(&(params){4, {2, 7, 3, 5}, {0, 2, 1, 3}}, 1);
  check(&(params){4, {2, 19, 4, 1}, {0, 2, 1, 3}}, 2);
  check(&(params){3, {3, 65, 34}, {0, 2, 1}}, 3); // more than one tile each way, with remainders
  check(&(params){4, {1, 9, 1, 33}, {3, 0, 2, 1}}, 4);
}

static void test_second(void **state) {
  (void)state;
  params p = {3, {2, 3, 5}, {2, 0, 1}};
  assert_true(op_check_run(&(op_check){.name = "transpose squared", .seed = 5, .orders = 2}, build_square, &p));
}

static elbo_tensor *build_index(elbo_graph *g, const void *arg) {
  const params *p = arg;
  return elbo_cast(elbo_transpose(elbo_input(g, "i", ELBO_I64, p->rank, p->dim), p->perm), ELBO_F32);
}

static void test_integers(void **state) {
  (void)state;
  params p = {3, {2, 33, 5}, {1, 0, 2}}, q = {2, {6, 35}, {1, 0}};
  assert_true(op_check_run(&(op_check){.name = "transpose of int64", .seed = 6, .int_below = 1000}, build_index, &p));
  assert_true(op_check_run(&(op_check){.name = "transpose of int64", .seed = 7, .int_below = 1000}, build_index, &q));
}

static void test_refused(void **state) {
  (void)state;
  assert_build_refused(build, &(params){2, {2, 3}, {1, 1}}, "transpose of (2,3): entry 1 of the permutation is 1");
  assert_build_refused(build, &(params){2, {2, 3}, {0, 2}}, "expected each of 0..1 once");
}

int main(int argc, char **argv) {
  op_check_bench_arguments(argc, argv);
  if (op_check_benching()) {
    op_check_bench(&(op_check){.name = "heads (8,1024,8,64)"}, build, &(params){4, {8, 1024, 8, 64}, {0, 2, 1, 3}});
    op_check_bench(&(op_check){.name = "NHWC to NCHW (64,32,32,128)"}, build, &(params){4, {64, 32, 32, 128}, {0, 3, 1, 2}});
    return 0;
  }
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_random_permutations),
      cmocka_unit_test(test_attention_heads),
      cmocka_unit_test(test_second),
      cmocka_unit_test(test_integers),
      cmocka_unit_test(test_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
