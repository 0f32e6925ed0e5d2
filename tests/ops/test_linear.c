// linear and fused_linear.
#include "ops/product_cases.h"

typedef struct linear_case {
  int rank;
  int64_t dim[4], O;
  int bias;
  char text[96];
} linear_case;

static linear_case random_case(test_random *r, int64_t most) {
  linear_case c = {.rank = (int)test_below(r, 1, 4), .O = test_below(r, 1, most), .bias = (int)test_below(r, 0, 1)};
  for (int i = 0; i < c.rank; i++) c.dim[i] = test_below(r, 1, i == c.rank - 1 ? most : 7);
  snprintf(c.text, sizeof c.text, "linear rank %d (%d,%d,%d,%d) -> %d bias %d", c.rank, (int)c.dim[0], (int)c.dim[1], (int)c.dim[2],
           (int)c.dim[3], (int)c.O, c.bias);
  return c;
}

static elbo_tensor *build(elbo_graph *g, const void *arg) {
  const linear_case *c = arg;
  elbo_tensor *x = elbo_input(g, "x", ELBO_F32, c->rank, c->dim);
  elbo_tensor *w = elbo_input(g, "w", ELBO_F32, 2, (int64_t[]){c->O, c->dim[c->rank - 1]});
  return elbo_linear(x, w, c->bias ? elbo_input(g, "b", ELBO_F32, 1, &c->O) : NULL);
}

static void test_kernels(void **unused) {
  (void)unused;
  static const linear_case large[] = {
      {.rank = 2, .dim = {1088, 64}, .O = 80, .bias = 1, .text = "1088 x 64 -> 80, tall"}, // plain, its weights not constant
      {.rank = 2, .dim = {128, 784}, .O = 400, .bias = 1, .text = "128 x 784 -> 400"},
      {.rank = 2, .dim = {1, 513}, .O = 33, .text = "1 x 513 -> 33"},
      {.rank = 2, .dim = {211, 20}, .O = 7, .bias = 1, .text = "211 x 20 -> 7"},
      {.rank = 2, .dim = {57, 257}, .O = 49, .bias = 1, .text = "57 x 257 -> 49"},
      {.rank = 2, .dim = {15, 330}, .O = 2200, .bias = 1, .text = "15 x 330 -> 2200, several panels, kept"},
      {.rank = 2, .dim = {57, 321}, .O = 49, .bias = 1, .text = "57 x 321 -> 49"},
      {.rank = 2, .dim = {131, 601}, .O = 117, .bias = 1, .text = "131 x 601 -> 117, kept"},
      {.rank = 2, .dim = {131, 601}, .O = 117, .bias = 1, .text = "131 x 601 -> 117, panel by panel, several blocks each"},
      {.rank = 2, .dim = {64, 100}, .O = 5, .text = "64 x 100 -> 5, kept"},
      {.rank = 2, .dim = {311, 300}, .O = 70, .text = "311 x 300 -> 70, panel by panel, rows shared out"}};
  enum { LARGE = sizeof large / sizeof large[0] };
  for (int isa = 0; isa < ISA_COUNT; isa++) {
    test_random r = {test_seed(), 0};
    for (int i = 0; i < 150; i++) {
      elbo_ctx *ctx = test_ctx_isa(1 + i % 4, (isa_level)isa);
      if (!ctx) {
        print_message("skipped: this machine lacks variant %s\n", isa_name((isa_level)isa));
        break;
      }
      linear_case c = i < LARGE ? large[i] : random_case(&r, 80);
      kernel_check check = {.label = c.text, .seed = (uint64_t)i, .weights_constant = i % 2};
      elbo_graph *g;
      assert_ok(ctx, elbo_graph_create(ctx, "case", &g));
      elbo_tensor *y = build(g, &c);
      assert_ok(ctx, elbo_graph_check(g));
      const node *n = i % 3 ? fused_at_random(g, &r, y) : y->producer;
      assert_non_null(n);
      if (!kernel_check_run(ctx, &check, n, prepare_registered, NULL)) fail_msg("%s, seed %llu", c.text, (unsigned long long)test_seed());
      elbo_graph_destroy(&g);
      elbo_ctx_destroy(&ctx);
    }
  }
}

static void test_gradients(void **unused) {
  (void)unused;
  test_random r = {test_seed(), 0};
  for (int i = 0; i < 8; i++) {
    linear_case c = random_case(&r, 9);
    op_check check = {.name = c.text, .seed = (uint64_t)i + 1, .orders = 2};
    assert_true(op_check_run(&check, build, &c));
  }
}

static elbo_tensor *activated(elbo_graph *g, const void *arg) {
  const linear_case *c = arg;
  elbo_tensor *y = build(g, c);
  switch (c->O % 5) {
  case 0: return elbo_silu(y);
  case 1: return elbo_relu(y);
  case 2: return elbo_tanh(elbo_add(y, elbo_input(g, "r", ELBO_F32, c->rank, y->shape.dim)));
  case 3: return elbo_gelu(y);
  default: return elbo_softplus(y);
  }
}

// Through the fuse pass, with and without gradients (which need the value before the activation).
static void test_fused_in_graphs(void **unused) {
  (void)unused;
  test_random r = {test_seed() + 2, 0};
  for (int i = 0; i < 5; i++) {
    linear_case c = random_case(&r, 9);
    c.O = 5 + i;
    op_check check = {.name = c.text, .seed = (uint64_t)i + 1, .orders = 1};
    assert_true(op_check_run(&check, activated, &c));
  }
}

static void test_refused(void **unused) {
  (void)unused;
  elbo_ctx *ctx = test_ctx(0);
  elbo_graph *g;
  assert_ok(ctx, elbo_graph_create(ctx, "bad", &g));
  elbo_tensor *x = elbo_input(g, "x", ELBO_F32, 2, (int64_t[]){4, 5}), *w = elbo_input(g, "w", ELBO_F32, 2, (int64_t[]){3, 6});
  assert_null(elbo_linear(x, w, NULL));
  assert_status(ctx, elbo_graph_check(g), ELBO_ERROR_ARGUMENT, "linear");
  elbo_graph_destroy(&g);
  elbo_ctx_destroy(&ctx);
}

static void bench(void) {
  static const int64_t sizes[][3] = {{128, 784, 400}, {128, 400, 40}, {128, 20, 400}, {128, 400, 784}, {2048, 512, 512}, {1, 784, 400}};
  for (int isa = ISA_COUNT - 1; isa >= ISA_V3; isa--) {
    elbo_ctx *ctx = test_ctx_isa(0, (isa_level)isa);
    for (size_t i = 0; ctx && i < sizeof sizes / sizeof sizes[0]; i++) {
      linear_case c = {.rank = 2, .dim = {sizes[i][0], sizes[i][1]}, .O = sizes[i][2], .bias = 1};
      elbo_graph *g;
      if (elbo_graph_create(ctx, "bench", &g) != ELBO_OK) continue;
      elbo_tensor *y = build(g, &c), *gy = elbo_input(g, "gy", ELBO_F32, 2, y->shape.dim);
      const node *nodes[] = {y->producer, elbo_matmul(gy, y->producer->in[1], 0, 0)->producer,
                             elbo_matmul(gy, y->producer->in[0], 1, 0)->producer};
      const char *what[] = {"forward", "data", "weights"};
      for (int k = 0; k < 3; k++) {
        char name[64];
        double t = kernel_check_time(ctx, nodes[k], prepare_registered, NULL, 50, name);
        if (t > 0)
          print_message("%4dx%3d->%3d %-8s %-14s %8.3f ms %7.1f GFLOP/s\n", (int)sizes[i][0], (int)sizes[i][1], (int)sizes[i][2], what[k],
                        name, 1e3 * t, 1e-9 * (double)nodes[k]->op->flops(nodes[k]) / t);
      }
      elbo_graph_destroy(&g);
    }
    elbo_ctx_destroy(&ctx);
  }
}

int main(int argc, char **argv) {
  op_check_bench_arguments(argc, argv);
  if (op_check_benching()) {
    bench();
    return 0;
  }
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_kernels), cmocka_unit_test(test_gradients),
                                     cmocka_unit_test(test_fused_in_graphs), cmocka_unit_test(test_refused)};
  return cmocka_run_group_tests_name("linear", tests, NULL, NULL);
}
