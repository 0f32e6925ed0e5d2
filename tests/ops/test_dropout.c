// Dropout: against the oracle, its gradient (the same mask, drawn anew), how much it drops.
#include <elbo/ops.h>
#include <math.h>
#include <stdlib.h>

#include "support/op_check.h"

typedef struct dropout_case {
  int rank;
  int64_t dim[ELBO_MAX_RANK];
  double probability;
} dropout_case;

static elbo_tensor *build_dropout(elbo_graph *g, const void *arg) {
  const dropout_case *c = arg;
  return elbo_square(elbo_dropout(elbo_input(g, "x", ELBO_F32, c->rank, c->dim), "drop", c->probability));
}

static void test_shapes(void **state) {
  (void)state;
  static const dropout_case cases[] = {
      {1, {9}, 0.5}, {2, {5, 7}, 0.1}, {4, {2, 3, 3, 5}, 0.3}, {2, {3, 1}, 0.0}, {2, {130, 1001}, 0.2}, {3, {65, 33, 3}, 0.9},
  };
  bool ok = true;
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    op_check check = {.name = "dropout", .seed = test_seed() + i, .orders = i < 4 ? 2 : 0};
    ok &= op_check_run(&check, build_dropout, &cases[i]);
  }
  assert_true(ok);
}

// Of a million numbers the right share is dropped, the rest divided by 1-p, the gradient is dropped with them; fused and not.
static void test_share(void **state) {
  (void)state;
  enum { B = 500, N = 2000, COUNT = B * N };
  static const double probabilities[] = {0.1, 0.5, 0.75};
  float *x = malloc(COUNT * sizeof *x);
  assert_non_null(x);
  for (int i = 0; i < COUNT; i++) x[i] = 1.0f + (float)i / COUNT;
  elbo_ctx *ctx = test_ctx(0);
  for (int k = 0; k < 3; k++)
    for (int fuse = 0; fuse < 2; fuse++) {
      double p = probabilities[k];
      elbo_graph *g;
      elbo_plan *plan;
      assert_ok(ctx, elbo_graph_create(ctx, "share", &g));
      elbo_tensor *in = elbo_input(g, "x", ELBO_F32, 2, (int64_t[]){B, N}), *out[2] = {elbo_dropout(in, "drop", p)};
      assert_ok(ctx, elbo_gradient(out[0], 1, &in, &out[1]));
      elbo_plan_config config;
      elbo_plan_defaults(&config);
      config.fuse = fuse;
      assert_ok(ctx, elbo_plan_create(ctx, g, 2, out, &config, &plan));
      assert_ok(ctx, elbo_plan_set(plan, "x", x, COUNT));
      *(int64_t *)elbo_plan_input(plan, "seed") = (int64_t)test_seed();
      for (int64_t b = 0; b < B; b++) ((int64_t *)elbo_plan_input(plan, "sample_index"))[b] = b;
      assert_ok(ctx, elbo_plan_run(plan, NULL));
      const float *y = elbo_plan_output(plan, 0), *dx = elbo_plan_output(plan, 1);
      int64_t dropped = 0;
      for (int i = 0; i < COUNT; i++) {
        dropped += y[i] == 0.0f;
        assert_true((y[i] == 0.0f) == (dx[i] == 0.0f));
        if (y[i] != 0.0f) {
          assert_near(y[i], x[i] / (1 - p), 1e-6 * x[i] / (1 - p));
          assert_near(dx[i], 1 / (1 - p), 1e-6 / (1 - p));
        }
      }
      assert_near((double)dropped / COUNT, p, 5 * sqrt(p * (1 - p) / COUNT));
      elbo_plan_destroy(&plan);
      elbo_graph_destroy(&g);
    }
  elbo_ctx_destroy(&ctx);
  free(x);
}

// Rows that are several draws of an example, where another operation draws once for each: every draw has a mask of its own.
static void test_draws(void **state) {
  (void)state;
  enum { B = 3, K = 4, N = 64 };
  elbo_ctx *ctx = test_ctx(0);
  elbo_graph *g;
  elbo_plan *plan;
  assert_ok(ctx, elbo_graph_create(ctx, "draws", &g));
  elbo_tensor *z = elbo_reshape(elbo_random_uniform(g, "z", 2, (int64_t[]){B, K * N}), 3, (int64_t[]){B * K, 8, N / 8});
  elbo_tensor *y = elbo_dropout(z, "drop", 0.5);
  assert_ok(ctx, elbo_graph_check(g));
  assert_ok(ctx, elbo_plan_create(ctx, g, 1, &y, NULL, &plan));
  for (int64_t b = 0; b < B; b++) ((int64_t *)elbo_plan_input(plan, "sample_index"))[b] = 10 + b;
  assert_ok(ctx, elbo_plan_run(plan, NULL));
  const float *out = elbo_plan_output(plan, 0);
  for (int i = 0; i < B * K; i++)
    for (int k = 0; k < i; k++) {
      int differ = 0;
      for (int e = 0; e < N; e++) differ += (out[i * N + e] == 0) != (out[k * N + e] == 0);
      assert_in_range(differ, 10, N - 10);
    }
  elbo_plan_destroy(&plan);
  elbo_graph_destroy(&g);
  elbo_ctx_destroy(&ctx);
}

static void test_errors(void **state) {
  (void)state;
  static const double wrong[] = {1.0, -0.1, NAN};
  for (int k = 0; k < 3; k++) {
    elbo_ctx *ctx = test_ctx(1);
    elbo_graph *g;
    assert_ok(ctx, elbo_graph_create(ctx, "wrong", &g));
    assert_null(elbo_dropout(elbo_input(g, "x", ELBO_F32, 1, (int64_t[]){3}), "drop", wrong[k]));
    assert_status(ctx, elbo_graph_check(g), ELBO_ERROR_ARGUMENT, "dropout: probability");
    elbo_graph_destroy(&g);
    elbo_ctx_destroy(&ctx);
  }
}

// A gradient with another mask is caught.
static elbo_tensor *build_other_mask(elbo_graph *g, const void *arg) {
  (void)arg;
  elbo_tensor *x = elbo_input(g, "x", ELBO_F32, 2, (int64_t[]){4, 9});
  elbo_tensor *right = elbo_dropout(x, "drop", 0.5), *wrong = elbo_dropout(x, "other", 0.5);
  return elbo_add(elbo_stop_gradient(elbo_sub(right, wrong)), wrong);
}

static void test_planted_bug(void **state) {
  (void)state;
  op_check check = {.name = "a planted bug (a failure below is expected)", .seed = test_seed(), .orders = 1};
  assert_false(op_check_run(&check, build_other_mask, NULL));
}

int main(int argc, char **argv) {
  op_check_bench_arguments(argc, argv);
  if (op_check_benching()) {
    static const dropout_case large = {2, {128, 25088}, 0.1};
    op_check_bench(&(op_check){.name = "dropout, 128 x 25088", .seed = 1}, build_dropout, &large);
    return 0;
  }
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_shapes), cmocka_unit_test(test_share),       cmocka_unit_test(test_draws),
      cmocka_unit_test(test_errors), cmocka_unit_test(test_planted_bug),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
