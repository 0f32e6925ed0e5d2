// Products of operands rounded to bfloat16: every kernel that has them, by float32 multiply-adds and by the processor's own instruction,
// against double precision on rounded operands.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <elbo/bench.h>

#include "backend/onednn.h"
#include "core/half.h"
#include "ops/conv_cases.h"
#include "ops/conv_cpu.h"
#include "ops/linear.h"
#include "ops/product_cases.h"

// Widened; pairs, whatever the processor's rate; and as with a matrix unit, where oneDNN takes by pairs what it would take by tiles.
enum { WAYS = 3 };
static const bf16_unit units[WAYS] = {BF16_NONE, BF16_FULL_RATE, BF16_MATRIX};

// A context for case i, or NULL, said once, where this machine has no such kernels.
static elbo_ctx *context_for(int i, int isa, bf16_unit unit) {
  bool lacks = isa == ISA_V4 && unit != BF16_NONE && cpu_bf16() == BF16_NONE;
  elbo_ctx *ctx = lacks ? NULL : test_ctx_isa(1 + i % 4, (isa_level)isa);
  if (!ctx && i == 0) print_message("skipped: this machine lacks %s%s\n", isa_name((isa_level)isa), lacks ? " with AVX512_BF16" : "");
  return ctx;
}

typedef elbo_tensor *(*build_fn)(elbo_graph *g, test_random *r, int i, char text[160]);

static elbo_tensor *build_linear(elbo_graph *g, test_random *r, int i, char text[160]) {
  static const int64_t large[][3] = {{57, 513, 49},  {3, 1025, 70},  {211, 20, 7},   {1, 257, 33}, {300, 600, 600},
                                     {130, 511, 64}, {77, 144, 320}, {128, 96, 160}, {16, 32, 16}, {64, 1040, 48}};
  bool given = i < 10;
  int64_t M = given ? large[i][0] : test_below(r, 1, 70), K = given ? large[i][1] : test_below(r, 1, 80),
          N = given ? large[i][2] : test_below(r, 1, 80);
  snprintf(text, 160, "linear %dx%d -> %d", (int)M, (int)K, (int)N);
  elbo_tensor *x = elbo_input(g, "x", ELBO_F32, 2, (int64_t[]){M, K}), *w = elbo_input(g, "w", ELBO_F32, 2, (int64_t[]){N, K});
  return elbo_linear(x, w, i % 2 ? elbo_input(g, "b", ELBO_F32, 1, &N) : NULL);
}

static elbo_tensor *build_matmul(elbo_graph *g, test_random *r, int i, char text[160]) {
  int ta = i % 2, tb = i / 2 % 2;
  int64_t B = i % 7 == 0 ? 9 : test_below(r, 1, 3), most = i % 5 == 0 ? 600 : 70, M = test_below(r, 1, 70), K = test_below(r, 1, most),
          N = test_below(r, 1, 70);
  if (i < 8) B = 1, M = 48 + 32 * (i % 3), K = 80 + 16 * i, N = 48, tb = 0; // gradients of a layer
  snprintf(text, 160, "matmul %d times %dx%dx%d, transposed %d %d", (int)B, (int)M, (int)N, (int)K, ta, tb);
  elbo_tensor *a = elbo_input(g, "a", ELBO_F32, 3, (int64_t[]){B, ta ? K : M, ta ? M : K});
  return elbo_matmul(a, elbo_input(g, "b", ELBO_F32, 3, (int64_t[]){B, tb ? N : K, tb ? K : N}), ta, tb);
}

static const node *with_residual(elbo_graph *g, elbo_tensor *y) {
  elbo_tensor *residual = elbo_input(g, "residual", ELBO_F32, y->shape.rank, y->shape.dim);
  return graph_add_fused(g, y->producer, residual, &CONTRACTION_EPILOGUE_NONE, NULL);
}

static void check_products(build_fn build, int cases) {
  for (int isa = 0; isa < ISA_COUNT; isa++)
    for (int way = 0; way < WAYS; way++) {
      test_random r = {test_seed(), 0};
      for (int i = 0; i < cases; i++) {
        char text[160];
        elbo_graph *g;
        elbo_ctx *ctx = context_for(i, isa, units[way]);
        if (!ctx) break;
        assert_ok(ctx, elbo_graph_create(ctx, "case", &g));
        elbo_tensor *y = build(g, &r, i, text);
        assert_ok(ctx, elbo_graph_check(g));
        const node *n = build == build_linear && i % 3 ? fused_at_random(g, &r, y) : y->producer;
        if (build == build_linear && i >= 6 && i < 10) n = with_residual(g, y);
        kernel_check check = {.label = text, .seed = (uint64_t)i, .weights_constant = i / 2 % 2, .bf16 = true, .bf16_unit = units[way]};
        if (!kernel_check_run(ctx, &check, n, prepare_registered, NULL)) fail_msg("%s, seed %llu", text, (unsigned long long)test_seed());
        elbo_graph_destroy(&g);
        elbo_ctx_destroy(&ctx);
      }
    }
}

static void test_linear_products(void **unused) {
  (void)unused;
  check_products(build_linear, 60);
}
static void test_matmul_products(void **unused) {
  (void)unused;
  check_products(build_matmul, 60);
}

static elbo_status prepare_by_name(compile_env *env, const node *n, kernel *k, const void *arg) {
  env->kernel = arg;
  return cpu_op_find(n->op, env->isa)->prepare(env, n, k);
}

// Whether the kernel does this at all: a library may refuse.
static bool takes(elbo_ctx *ctx, const kernel_check *check, const node *n, const char *name) {
  compile_env env = kernel_check_env(ctx, check);
  kernel k = {0};
  elbo_status status = prepare_by_name(&env, n, &k, name);
  if (k.destroy) k.destroy(&k);
  return status == ELBO_OK;
}

// A layer as networks have them, which alone oneDNN is given.
static void usual_layer(conv_case *c, test_random *r) {
  int64_t k = test_below(r, 1, 5), stride = test_below(r, 1, 2);
  c->I = (c->I + 15) / 16 * 16, c->O = (c->O + 15) / 16 * 16;
  c->kh = c->kw = k;
  c->H = test_below(r, k, 13), c->W = test_below(r, k, 13);
  c->config = (elbo_conv2d_config){.groups = 1, .stride = {(int)stride, (int)stride}, .dilation = {1, 1}};
  for (int i = 0; i < 4; i++) c->config.pad[i] = (int)test_below(r, 0, k / 2);
  for (int i = 0; i < 2; i++) c->output_padding[i] = 0;
  conv_case_describe(c);
}

// oneDNN's, of operands that it is given as float32; and that a matrix unit is left to it.
static void test_onednn(void **unused) {
  (void)unused;
  test_random r = {test_seed() + 5, 0};
  int taken[3] = {0};
  if (!onednn_version()) print_message("skipped: oneDNN cannot be opened on this machine\n");
  for (int i = 0; i < 60 && onednn_version(); i++) {
    elbo_ctx *ctx = context_for(i, ISA_V4, BF16_MATRIX);
    if (!ctx) return;
    conv_case c = conv_case_random(&r, i % 4 == 0 ? 90 : 25);
    if (i % 3) usual_layer(&c, &r);
    if (i % 8 == 1) { // the one that is turned
      usual_layer(&c, &r);
      c.kh = c.kw = 1, c.config = (elbo_conv2d_config){.groups = 1};
      conv_case_describe(&c);
    }
    for (int kind = 0; kind < 3; kind++) {
      elbo_graph *g;
      if (kind == 1) c.bias = 0; // it adds none
      assert_ok(ctx, elbo_graph_create(ctx, "case", &g));
      elbo_tensor *y = kind == 2 ? conv_case_weight_grad(g, &c) : conv_case_build(g, &c, kind == 1);
      assert_ok(ctx, elbo_graph_check(g));
      kernel_check check = {
          .label = c.text, .seed = (uint64_t)i, .weights_constant = i / 2 % 2, .bf16 = c.config.groups <= 1, .bf16_unit = BF16_MATRIX};
      if (takes(ctx, &check, y->producer, "onednn")) {
        taken[kind]++;
        if (!kernel_check_run(ctx, &check, y->producer, prepare_by_name, "onednn"))
          fail_msg("%s, direction %d, seed %llu", c.text, kind, (unsigned long long)test_seed());
      }
      elbo_graph_destroy(&g);
    }
    elbo_ctx_destroy(&ctx);
  }
  for (int kind = 0; kind < 3 && onednn_version(); kind++) assert_true(taken[kind] >= 30);
  // what it gets wrong: the weights of the first and last column see nothing but padding
  elbo_ctx *ctx = context_for(1, ISA_V4, BF16_MATRIX);
  if (!ctx) return;
  elbo_graph *g;
  conv_case narrow = {.B = 2, .H = 6, .W = 1, .I = 32, .O = 64, .kh = 3, .kw = 3, .config = {.stride = {2, 2}, .pad = {1, 1, 1, 1}}};
  assert_ok(ctx, elbo_graph_create(ctx, "narrow", &g));
  elbo_tensor *y = conv_case_weight_grad(g, &narrow);
  kernel_check check = {.label = "narrow", .bf16 = true, .bf16_unit = BF16_MATRIX};
  assert_false(takes(ctx, &check, y->producer, "onednn"));
  elbo_graph_destroy(&g);
  elbo_ctx_destroy(&ctx);
}

// With a matrix unit it is oneDNN that is chosen for what fills tiles, in every direction, and for products of any number of rows.
static void test_choice_with_a_matrix_unit(void **unused) {
  (void)unused;
  elbo_ctx *ctx = onednn_version() ? context_for(0, ISA_V4, BF16_MATRIX) : NULL;
  if (!ctx) return;
  for (int unit = BF16_FULL_RATE; unit <= BF16_MATRIX; unit++)
    for (int kind = 0; kind < 5; kind++) {
      elbo_graph *g;
      kernel k = {0};
      kernel_check check = {.label = "choice", .bf16 = true, .bf16_unit = (bf16_unit)unit};
      compile_env env = kernel_check_env(ctx, &check);
      conv_case c = {.B = 4, .H = 16, .W = 16, .I = 128, .O = 128, .kh = 3, .kw = 3, .config.pad = {1, 1, 1, 1}};
      assert_ok(ctx, elbo_graph_create(ctx, "case", &g));
      elbo_tensor *x = elbo_input(g, "lx", ELBO_F32, 2, (int64_t[]){77, 768}), *w = elbo_input(g, "lw", ELBO_F32, 2, (int64_t[]){320, 768});
      elbo_tensor *y = kind == 3   ? elbo_linear(x, w, NULL)
                       : kind == 4 ? elbo_matmul(elbo_linear(x, w, NULL), w, 0, 0)
                       : kind == 2 ? conv_case_weight_grad(g, &c)
                                   : conv_case_build(g, &c, kind == 1);
      assert_ok(ctx, elbo_graph_check(g));
      assert_ok(ctx, cpu_op_find(y->producer->op, env.isa)->prepare(&env, y->producer, &k));
      if (!strncmp(k.name, "onednn:", 7) != (unit == BF16_MATRIX)) fail_msg("%s for kind %d with unit %d", k.name, kind, unit);
      if (k.destroy) k.destroy(&k);
      elbo_graph_destroy(&g);
    }
  elbo_ctx_destroy(&ctx);
}

static void test_convolutions(void **unused) {
  (void)unused;
  for (int isa = 0; isa < ISA_COUNT; isa++)
    for (int way = 0; way < WAYS; way++) {
      test_random r = {test_seed() + 3, 0};
      for (int i = 0; i < 40; i++) {
        elbo_ctx *ctx = context_for(i, isa, units[way]);
        if (!ctx) break;
        conv_case c = conv_case_random(&r, i % 4 == 0 ? 90 : 25);
        for (int kind = 0; kind < 3; kind++) {
          elbo_graph *g;
          assert_ok(ctx, elbo_graph_create(ctx, "case", &g));
          elbo_tensor *y = kind == 2 ? conv_case_weight_grad(g, &c) : conv_case_build(g, &c, kind == 1);
          assert_ok(ctx, elbo_graph_check(g));
          kernel_check check = {.label = c.text, .seed = (uint64_t)i, .weights_constant = i % 2, .bf16 = true, .bf16_unit = units[way]};
          if (!kernel_check_run(ctx, &check, y->producer, prepare_by_name, kind == 2 ? "patch_gemm_weight" : "patch_gemm"))
            fail_msg("%s, direction %d, seed %llu", c.text, kind, (unsigned long long)test_seed());
          elbo_graph_destroy(&g);
        }
        elbo_ctx_destroy(&ctx);
      }
    }
}

// A product with 1 is the rounded number itself: ties, carries into the exponent, infinities, NaNs of every payload.
static void test_rounding(void **unused) {
  (void)unused;
  enum { N = 4096 };
  static float x[N];
  static const uint32_t edges[] = {0x3f808000u, 0x3f818000u, 0x3f807fffu, 0x3f808001u, 0x7f7fffffu, 0x7f800000u, 0xff800000u, 0x7f800001u,
                                   0x7fffffffu, 0xffffffffu, 0xffc00000u, 0x80000000u, 0x00000000u, 0x3fffffffu, 0x00800000u, 0xbf7f8000u};
  test_random r = {test_seed(), 0};
  for (int i = 0; i < N; i++) {
    uint32_t bits = (uint32_t)test_below(&r, 0, 0xffffffffLL);
    if (!(bits & 0x7f800000u)) bits |= 0x3f800000u; // the instruction takes denormals for zero
    x[i] = float_of_bits(i < 16 ? edges[i] : bits);
  }
  for (int isa = 0; isa < ISA_COUNT; isa++)
    for (int threads = 1; threads <= 2; threads++) {
      elbo_ctx *ctx = test_ctx_isa(threads, (isa_level)isa);
      elbo_graph *g;
      elbo_plan *plan;
      elbo_store *store;
      elbo_plan_config config;
      if (!ctx) continue;
      bool own = isa == ISA_V4 && cpu_bf16() != BF16_NONE;
      for (int precision = ELBO_PRECISION_BFLOAT16_EMULATED; precision >= (own ? ELBO_PRECISION_BFLOAT16 : 2); precision--) {
        assert_ok(ctx, elbo_graph_create(ctx, "round", &g));
        elbo_tensor *in = elbo_input(g, "x", ELBO_F32, 2, (int64_t[]){1, 1}); // one row: the instruction, where there is one
        elbo_tensor *y = elbo_matmul(in, elbo_input(g, "w", ELBO_F32, 2, (int64_t[]){1, N}), 0, 0);
        elbo_plan_defaults(&config);
        config.precision = precision;
        assert_ok(ctx, elbo_store_create(ctx, 1, &g, 0, &store));
        assert_ok(ctx, elbo_plan_create(ctx, g, 1, &y, &config, &plan));
        assert_ok(ctx, elbo_plan_set(plan, "x", (const float[]){1}, 1));
        assert_ok(ctx, elbo_plan_set(plan, "w", x, N));
        assert_ok(ctx, elbo_plan_run(plan, store));
        const float *got = elbo_plan_output(plan, 0);
        for (int i = 0; i < N; i++) {
          float wanted = bf16_to_f32(f32_to_bf16(x[i]));
          if (!(got[i] == wanted || (isnan(got[i]) && isnan(wanted))))
            fail_msg("%s, precision %d: %08x became %.9g, not %.9g", isa_name((isa_level)isa), precision, float_bits(x[i]), (double)got[i],
                     (double)wanted);
        }
        elbo_plan_destroy(&plan);
        elbo_store_destroy(&store);
        elbo_graph_destroy(&g);
      }
      elbo_ctx_destroy(&ctx);
    }
}

static elbo_status plan_of(elbo_ctx *ctx, int precision, char kernel_name[64], int64_t *kept) {
  elbo_graph *g;
  elbo_plan *plan = NULL;
  elbo_plan_config config;
  elbo_step_info step;
  elbo_plan_info info;
  elbo_plan_defaults(&config);
  config.precision = precision, config.weights_constant = 1;
  assert_ok(ctx, elbo_graph_create(ctx, "plan", &g));
  elbo_tensor *x = elbo_input(g, "x", ELBO_F32, 2, (int64_t[]){8, 256});
  elbo_tensor *y = elbo_linear(x, elbo_parameter(g, "w", 2, (int64_t[]){256, 256}, ELBO_PARAM_TRAINED, ELBO_INIT_FAN_IN), NULL);
  elbo_status status = elbo_plan_create(ctx, g, 1, &y, &config, &plan);
  if (status == ELBO_OK) {
    assert_ok(ctx, elbo_plan_get_step(plan, 0, &step));
    snprintf(kernel_name, 64, "%s", step.kernel);
    elbo_plan_get_info(plan, &info);
    *kept = info.packed_bytes;
  }
  elbo_plan_destroy(&plan);
  elbo_graph_destroy(&g);
  return status;
}

// Refused where the kernels lack it, by whoever asks; the emulation never is, and both keep packed weights in half of the memory.
static void test_plans(void **unused) {
  (void)unused;
  char name[64], message[512];
  int64_t float32 = 0, bf16 = 0;
  for (int isa = 0; isa < ISA_COUNT; isa++) {
    elbo_ctx *ctx = test_ctx_isa(1, (isa_level)isa), *never, *always;
    if (!ctx) continue;
    assert_ok(ctx, plan_of(ctx, ELBO_PRECISION_FLOAT32, name, &float32));
    assert_null(strstr(name, "bf16"));
    assert_ok(ctx, plan_of(ctx, ELBO_PRECISION_BFLOAT16_EMULATED, name, &bf16));
    assert_non_null(strstr(name, "bf16"));
    assert_true(bf16 < float32 * 0.51);
    elbo_status status = plan_of(ctx, ELBO_PRECISION_BFLOAT16, name, &bf16);
    if (isa == ISA_V4 && cpu_bf16() != BF16_NONE) {
      assert_ok(ctx, status);
      assert_non_null(strstr(name, "bf16"));
    } else {
      assert_status(ctx, status, ELBO_ERROR_UNSUPPORTED, "engine.precision: bfloat16 needs a processor with AVX512_BF16");
      assert_non_null(strstr(elbo_ctx_message(ctx), isa_name((isa_level)isa)));
    }
    elbo_ctx_config config;
    elbo_ctx_defaults(&config);
    config.isa = isa_name((isa_level)isa), config.precision = "float32"; // the context has the last word
    assert_int_equal(elbo_ctx_create(&config, message, sizeof message, &never), ELBO_OK);
    config.precision = "bfloat16-emulated";
    assert_int_equal(elbo_ctx_create(&config, message, sizeof message, &always), ELBO_OK);
    assert_ok(never, plan_of(never, ELBO_PRECISION_BFLOAT16, name, &bf16));
    assert_null(strstr(name, "bf16"));
    assert_ok(always, plan_of(always, ELBO_PRECISION_FLOAT32, name, &bf16));
    assert_non_null(strstr(name, "bf16"));
    elbo_ctx_destroy(&never);
    elbo_ctx_destroy(&always);
    elbo_ctx_destroy(&ctx);
  }
  elbo_ctx_config config;
  elbo_ctx *none;
  elbo_ctx_defaults(&config);
  config.precision = "half";
  assert_int_equal(elbo_ctx_create(&config, message, sizeof message, &none), ELBO_ERROR_ARGUMENT);
  assert_non_null(strstr(message, "precision: 'half'; one of float32, bfloat16, bfloat16-emulated was expected"));
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_linear_products),
                                     cmocka_unit_test(test_matmul_products),
                                     cmocka_unit_test(test_convolutions),
                                     cmocka_unit_test(test_onednn),
                                     cmocka_unit_test(test_choice_with_a_matrix_unit),
                                     cmocka_unit_test(test_rounding),
                                     cmocka_unit_test(test_plans)};
  return cmocka_run_group_tests_name("bf16", tests, NULL, NULL);
}
