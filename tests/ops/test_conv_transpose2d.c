// conv_transpose2d and conv2d_weight_grad: gradients of both orders; their kernels are forced in test_conv2d.c.
#include "ops/conv_cases.h"

static elbo_tensor *build_transposed(elbo_graph *g, const void *arg) { return conv_case_build(g, arg, true); }
static elbo_tensor *build_weight_grad(elbo_graph *g, const void *arg) { return conv_case_weight_grad(g, arg); }

static void test_gradients(void **unused) {
  (void)unused;
  test_random r = {test_seed(), 0};
  for (int i = 0; i < 16; i++) {
    conv_case c = conv_case_random(&r, 5);
    c.B = 1 + i % 2;
    conv_case_describe(&c);
    op_check check = {.name = c.text, .seed = (uint64_t)i + 1, .orders = i % 4 == 0 ? 2 : 1};
    assert_true(op_check_run(&check, i % 2 ? build_weight_grad : build_transposed, &c));
  }
}

// An output padding larger than the stride (allowed when it is below the dilation): the gradient must not see a larger input.
static void test_padding_beyond_stride(void **unused) {
  (void)unused;
  conv_case c = {.B = 1, .H = 3, .W = 4, .I = 2, .O = 3, .kh = 2, .kw = 2, .bias = 1};
  c.config = (elbo_conv2d_config){.stride = {1, 2}, .dilation = {3, 3}, .pad = {1, 0, 0, 1}};
  c.output_padding[0] = c.output_padding[1] = 2;
  conv_case_describe(&c);
  op_check check = {.name = c.text, .seed = 5, .orders = 2};
  assert_true(op_check_run(&check, build_transposed, &c));
}

static void test_refused(void **unused) {
  (void)unused;
  elbo_ctx *ctx = test_ctx(0);
  conv_case c = {.B = 1, .H = 3, .W = 3, .I = 2, .O = 3, .kh = 2, .kw = 2, .config = {.stride = {2, 2}}, .output_padding = {2, 0}};
  elbo_graph *g;
  assert_ok(ctx, elbo_graph_create(ctx, "bad", &g));
  assert_null(conv_case_build(g, &c, true));
  assert_status(ctx, elbo_graph_check(g), ELBO_ERROR_ARGUMENT, "output padding");
  elbo_graph_destroy(&g);
  elbo_ctx_destroy(&ctx);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_gradients), cmocka_unit_test(test_padding_beyond_stride),
                                     cmocka_unit_test(test_refused)};
  return cmocka_run_group_tests_name("conv_transpose2d", tests, NULL, NULL);
}
