#include "builder_check.h"

typedef struct params {
  int rank;
  int64_t dim[4], rows, width;
  bool square;
} params;

static elbo_tensor *build(elbo_graph *g, const void *arg) {
  const params *p = arg;
  elbo_tensor *table = elbo_input(g, "table", ELBO_F32, 2, (int64_t[]){p->rows, p->width});
  elbo_tensor *y = elbo_embedding(elbo_input(g, "index", ELBO_I32, p->rank, p->dim), table);
  return p->square ? elbo_square(y) : y;
}

static void test_random_shapes(void **state) {
  (void)state;
  test_random r = {.seed = test_seed()};
  for (int i = 0; i < 14; i++) {
    params p = {.rank = (int)test_below(&r, 0, 4), .rows = test_below(&r, 1, 9), .width = test_below(&r, 1, 35), .square = i % 3 == 0};
    char name[96];
    for (int d = 0; d < p.rank; d++) p.dim[d] = test_below(&r, 1, 4);
    if (p.square) p.width = test_below(&r, 1, 4);
    snprintf(name, sizeof name, "embedding (%d,%d), index of rank %d", (int)p.rows, (int)p.width, p.rank);
    op_check c = {.name = name, .seed = test_seed() + (uint64_t)i, .orders = p.square ? 2 : 1, .int_below = p.rows};
    assert_true(op_check_run(&c, build, &p));
  }
}

static void test_threads(void **state) {
  (void)state;
  assert_threads_change_nothing(build, &(params){2, {50, 60}, 300, 70, false});
}

// An index outside of the table is an error of the run, in every variant and in both directions.
static void test_out_of_range(void **state) {
  (void)state;
  for (int isa = 0; isa < ISA_COUNT; isa++) {
    elbo_ctx *ctx = test_ctx_isa(0, (isa_level)isa);
    if (!ctx) continue;
    for (int kind = 0; kind < 3; kind++) { // forward, gradient alone, reference
      elbo_graph *g = NULL;
      elbo_plan *plan = NULL;
      elbo_plan_config config;
      elbo_plan_defaults(&config);
      if (kind == 2) config.backend = ELBO_BACKEND_REFERENCE;
      assert_ok(ctx, elbo_graph_create(ctx, "range", &g));
      elbo_tensor *out = build(g, &(params){1, {3}, 5, 2, false}), *table = elbo_input(g, "table", ELBO_F32, 2, (int64_t[]){5, 2});
      if (kind == 1) assert_ok(ctx, elbo_gradient(elbo_sum(out, ELBO_ALL_AXES, 0), 1, &table, &out));
      assert_ok(ctx, elbo_plan_create(ctx, g, 1, &out, &config, &plan));
      int32_t *index = elbo_plan_input(plan, "index");
      const int32_t bad[] = {5, -1, INT32_MAX, INT32_MIN};
      for (int i = 0; i < 4; i++) {
        char part[80];
        index[0] = 4, index[1] = 0, index[2] = bad[i];
        snprintf(part, sizeof part, "index %d at position 2 is outside of the table's 5 rows", (int)bad[i]);
        assert_status(ctx, elbo_plan_run(plan, NULL), ELBO_ERROR_ARGUMENT, part);
      }
      index[2] = 1;
      assert_ok(ctx, elbo_plan_run(plan, NULL));
      elbo_plan_destroy(&plan);
      elbo_graph_destroy(&g);
    }
    elbo_ctx_destroy(&ctx);
  }
}

static elbo_tensor *build_float_index(elbo_graph *g, const void *arg) {
  (void)arg;
  elbo_tensor *x = elbo_input(g, "x", ELBO_F32, 2, (int64_t[]){3, 4});
  return elbo_embedding(x, x);
}

static void test_refused(void **state) {
  (void)state;
  assert_build_refused(build_float_index, NULL, "embedding: index is float32 (3,4), expected int32");
}

int main(int argc, char **argv) {
  op_check_bench_arguments(argc, argv);
  if (op_check_benching()) {
    op_check_bench(&(op_check){.name = "4096 of (1000,512)", .orders = 1, .int_below = 1000}, build,
                   &(params){1, {4096}, 1000, 512, false});
    return 0;
  }
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_random_shapes),
      cmocka_unit_test(test_threads),
      cmocka_unit_test(test_out_of_range),
      cmocka_unit_test(test_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
