#include <math.h>

#include "builder_check.h"

typedef struct params {
  int rank;
  int64_t dim[ELBO_MAX_RANK];
  bool weight, bias, training;
} params;

static elbo_tensor *build(elbo_graph *g, const void *arg) {
  const params *p = arg;
  int64_t c = p->dim[p->rank - 1];
  elbo_tensor *w = p->weight ? elbo_input(g, "weight", ELBO_F32, 1, &c) : NULL,
              *b = p->bias ? elbo_input(g, "bias", ELBO_F32, 1, &c) : NULL;
  elbo_tensor *x = elbo_input(g, "x", ELBO_F32, p->rank, p->dim);
  elbo_tensor *mean, *var;
  if (p->training) {
    mean = elbo_parameter(g, "running_mean", 1, &c, ELBO_PARAM_STATE, ELBO_INIT_ZEROS);
    var = elbo_parameter(g, "running_var", 1, &c, ELBO_PARAM_STATE, ELBO_INIT_ONES);
  } else { // as inputs, for the checker to fill
    mean = elbo_input(g, "running_mean", ELBO_F32, 1, &c);
    var = elbo_input(g, "running_var", ELBO_F32, 1, &c);
  }
  return elbo_batch_norm(x, w, b, mean, var, 0.1, 1e-5, p->training);
}

// The node that training makes, without the state updates: the checker runs plans without a store.
static elbo_tensor *build_node(elbo_graph *g, const void *arg) {
  const params *p = arg;
  int64_t c = p->dim[p->rank - 1];
  elbo_tensor *in[] = {elbo_input(g, "x", ELBO_F32, p->rank, p->dim), NULL, NULL};
  if (p->weight) in[1] = elbo_input(g, "weight", ELBO_F32, 1, &c);
  if (p->bias) in[2] = elbo_input(g, "bias", ELBO_F32, 1, &c);
  double eps = 1e-5;
  node *n = graph_add_node(g, &op_batch_norm, &eps, 3, in, NULL);
  return n ? n->out[0] : NULL;
}

static void check(const params *p, uint64_t seed) {
  char name[128];
  snprintf(name, sizeof name, "batch_norm rank %d (%d,%d,%d,%d) weight %d bias %d", p->rank, (int)p->dim[0], (int)p->dim[1], (int)p->dim[2],
           (int)p->dim[3], p->weight, p->bias);
  assert_true(op_check_run(&(op_check){.name = name, .seed = seed, .orders = 1}, build_node, p));
}

static void test_training(void **state) {
  (void)state;
  test_random r = {.seed = test_seed()};
  for (int i = 0; i < 12; i++) {
    params p = {.rank = (int)test_below(&r, 2, 4), .weight = test_below(&r, 0, 3) > 0, .bias = test_below(&r, 0, 3) > 0};
    p.dim[0] = test_below(&r, 3, 9);
    for (int d = 1; d < p.rank - 1; d++) p.dim[d] = test_below(&r, 1, 5);
    p.dim[p.rank - 1] = test_below(&r, 1, 70);
    check(&p, test_seed() + (uint64_t)i);
  }
  check(&(params){4, {7, 11, 13, 19}, true, true, true}, 50); // several chunks of uneven rows
}

static void test_inference(void **state) {
  (void)state;
  params p = {4, {2, 2, 3, 5}, true, true, false}, q = {2, {3, 7}, false, false, false};
  op_check c = {.name = "batch_norm at inference", .seed = 3, .orders = 2, .low = 0.5, .high = 1.5};
  assert_true(op_check_run(&c, build, &p));
  assert_true(op_check_run(&c, build, &q));
}

static void test_threads(void **state) {
  (void)state;
  assert_threads_change_nothing(build_node, &(params){4, {9, 17, 13, 21}, true, true, true});
}

// One run moves the running statistics by momentum, the variance unbiased.
static void test_running_statistics(void **state) {
  (void)state;
  enum { ROWS = 5, C = 3 };
  elbo_ctx *ctx = test_ctx(0);
  elbo_graph *g = NULL;
  elbo_plan *plan = NULL;
  elbo_store *store = NULL;
  elbo_param_info mean, var;
  test_random r = {.seed = test_seed()};
  params p = {2, {ROWS, C}, false, false, true};
  assert_ok(ctx, elbo_graph_create(ctx, "running", &g));
  elbo_tensor *y = build(g, &p);
  assert_ok(ctx, elbo_graph_check(g));
  assert_ok(ctx, elbo_store_create(ctx, 1, &g, 0, &store));
  assert_ok(ctx, elbo_plan_create(ctx, g, 1, &y, NULL, &plan));
  float *x = elbo_plan_input(plan, "x");
  test_fill_normal(&r, x, ROWS * C, 2);
  assert_ok(ctx, elbo_plan_run(plan, store));
  assert_ok(ctx, elbo_store_find(store, "running_mean", &mean));
  assert_ok(ctx, elbo_store_find(store, "running_var", &var));
  for (int c = 0; c < C; c++) {
    double m = 0, v = 0;
    for (int i = 0; i < ROWS; i++) m += (double)x[i * C + c] / ROWS;
    for (int i = 0; i < ROWS; i++) v += pow((double)x[i * C + c] - m, 2) / (ROWS - 1);
    assert_near((double)mean.data[c], 0.1 * m, 1e-6);
    assert_near((double)var.data[c], 0.9 + 0.1 * v, 1e-6);
  }
  elbo_plan_destroy(&plan);
  elbo_store_destroy(&store);
  elbo_graph_destroy(&g);
  elbo_ctx_destroy(&ctx);
}

static void test_refused(void **state) {
  (void)state;
  params p = {2, {3, 8}, true, true, true};
  assert_true(op_check_refused(&(op_check){.name = "batch_norm", .seed = 1}, 2, "batch_norm_grad", build_node, &p));
  assert_build_refused(build, &(params){2, {1, 8}, true, true, true}, "training needs more than one value per channel");
}

int main(int argc, char **argv) {
  op_check_bench_arguments(argc, argv);
  if (op_check_benching()) {
    params p = {4, {128, 16, 16, 64}, true, true, true};
    op_check_bench(&(op_check){.name = "(128,16,16,64)", .orders = 1}, build_node, &p);
    return 0;
  }
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_training),           cmocka_unit_test(test_inference), cmocka_unit_test(test_threads),
      cmocka_unit_test(test_running_statistics), cmocka_unit_test(test_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
