// matmul: every transposition, batched on either side.
#include "ops/product_cases.h"

typedef struct matmul_case {
  int64_t lead[2], M, N, K;
  int rank_a, rank_b, transpose_a, transpose_b;
  char text[128];
} matmul_case;

static matmul_case random_case(test_random *r, int64_t most) {
  matmul_case c = {.lead = {test_below(r, 1, 4), test_below(r, 1, 5)},
                   .M = test_below(r, 1, most),
                   .N = test_below(r, 1, most),
                   .K = test_below(r, 1, most),
                   .transpose_a = (int)test_below(r, 0, 1),
                   .transpose_b = (int)test_below(r, 0, 1)};
  int rank = (int)test_below(r, 2, 4), absent = (int)test_below(r, 0, 2);
  c.rank_a = absent == 1 ? 2 : rank;
  c.rank_b = absent == 2 ? 2 : rank;
  snprintf(c.text, sizeof c.text, "matmul lead (%d,%d) M %d N %d K %d ranks %d,%d transposed %d,%d", (int)c.lead[0], (int)c.lead[1],
           (int)c.M, (int)c.N, (int)c.K, c.rank_a, c.rank_b, c.transpose_a, c.transpose_b);
  return c;
}

static elbo_tensor *side(elbo_graph *g, const char *name, const matmul_case *c, int rank, int64_t rows, int64_t columns) {
  int64_t dim[4] = {c->lead[0], c->lead[1], 0, 0};
  dim[rank - 2] = rows;
  dim[rank - 1] = columns;
  return elbo_input(g, name, ELBO_F32, rank, dim);
}

static elbo_tensor *build(elbo_graph *g, const void *arg) {
  const matmul_case *c = arg;
  elbo_tensor *a = side(g, "a", c, c->rank_a, c->transpose_a ? c->K : c->M, c->transpose_a ? c->M : c->K);
  elbo_tensor *b = side(g, "b", c, c->rank_b, c->transpose_b ? c->N : c->K, c->transpose_b ? c->K : c->N);
  return elbo_matmul(a, b, c->transpose_a, c->transpose_b);
}

static void test_kernels(void **unused) {
  (void)unused;
  static const matmul_case large[] = {
      {.M = 1088, .N = 64, .K = 80, .rank_a = 2, .rank_b = 2, .text = "a tall layer's gradient by its input"},
      {.M = 80, .N = 64, .K = 1088, .rank_a = 2, .rank_b = 2, .transpose_a = 1, .text = "a tall layer's gradient by its weight"},
      {.M = 400, .N = 784, .K = 128, .rank_a = 2, .rank_b = 2, .transpose_a = 1, .text = "weight gradient 400 x 784"},
      {.M = 128, .N = 400, .K = 784, .rank_a = 2, .rank_b = 2, .text = "128 x 784 x 400"},
      {.M = 3, .N = 5, .K = 1300, .rank_a = 2, .rank_b = 2, .transpose_a = 1, .transpose_b = 1, .text = "3 x 1300 x 5"},
      {.M = 70, .N = 1101, .K = 601, .rank_a = 2, .rank_b = 2, .text = "several blocks each way"},
      {.M = 70, .N = 1101, .K = 601, .rank_a = 2, .rank_b = 2, .transpose_b = 1, .text = "several blocks each way, transposed"},
      {.M = 700, .N = 530, .K = 300, .rank_a = 2, .rank_b = 2, .text = "rows too many to pack by block"},
      {.M = 300, .N = 40, .K = 601, .rank_a = 2, .rank_b = 2, .transpose_a = 1, .text = "panel by panel, rows shared out, transposed"},
      {.M = 301, .N = 303, .K = 401, .rank_a = 2, .rank_b = 2, .transpose_a = 1, .transpose_b = 1, .text = "panel by panel, transposed"},
      {.lead = {3, 3}, .M = 9, .N = 520, .K = 300, .rank_a = 4, .rank_b = 2, .transpose_a = 1, .text = "one B for many A"}};
  enum { LARGE = sizeof large / sizeof large[0] };
  for (int isa = 0; isa < ISA_COUNT; isa++) {
    test_random r = {test_seed(), 0};
    for (int i = 0; i < 150; i++) {
      elbo_ctx *ctx = test_ctx_isa(1 + i % 4, (isa_level)isa);
      if (!ctx) {
        print_message("skipped: this machine lacks variant %s\n", isa_name((isa_level)isa));
        break;
      }
      matmul_case c = i < LARGE ? large[i] : random_case(&r, 60);
      kernel_check check = {.label = c.text, .seed = (uint64_t)i};
      elbo_graph *g;
      assert_ok(ctx, elbo_graph_create(ctx, "case", &g));
      elbo_tensor *y = build(g, &c);
      assert_ok(ctx, elbo_graph_check(g));
      if (!kernel_check_run(ctx, &check, y->producer, prepare_registered, NULL))
        fail_msg("%s, seed %llu", c.text, (unsigned long long)test_seed());
      elbo_graph_destroy(&g);
      elbo_ctx_destroy(&ctx);
    }
  }
}

static void test_gradients(void **unused) {
  (void)unused;
  test_random r = {test_seed(), 0};
  for (int i = 0; i < 12; i++) {
    matmul_case c = random_case(&r, 5);
    op_check check = {.name = c.text, .seed = (uint64_t)i + 1, .orders = 2};
    assert_true(op_check_run(&check, build, &c));
  }
}

static void test_refused(void **unused) {
  (void)unused;
  elbo_ctx *ctx = test_ctx(0);
  static const matmul_case fits = {.M = 2, .N = 3, .K = 4, .rank_a = 2, .rank_b = 2};
  for (int i = 0; i < 2; i++) {
    elbo_graph *g;
    assert_ok(ctx, elbo_graph_create(ctx, "bad", &g));
    elbo_tensor *a = side(g, "a", &fits, 2, 2, 4), *b = elbo_input(g, "b", ELBO_F32, i ? 1 : 2, (int64_t[]){5, 3});
    assert_null(elbo_matmul(a, b, 0, 0));
    assert_status(ctx, elbo_graph_check(g), ELBO_ERROR_ARGUMENT, "matmul");
    elbo_graph_destroy(&g);
  }
  elbo_ctx_destroy(&ctx);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_kernels), cmocka_unit_test(test_gradients), cmocka_unit_test(test_refused)};
  return cmocka_run_group_tests_name("matmul", tests, NULL, NULL);
}
