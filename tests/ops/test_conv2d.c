// conv2d, and every convolution kernel forced on every shape it supports, in all three directions.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/onednn.h"
#include "ops/conv_cases.h"
#include "ops/conv_cpu.h"
#include "ops/norm.h"

#define KERNELS(isa) extern const conv_kernel *const conv_kernels_##isa[];
KERNELS(base)
#ifdef __x86_64__
KERNELS(v3)
KERNELS(v4)
static const conv_kernel *const *tables[ISA_COUNT] = {conv_kernels_base, conv_kernels_v3, conv_kernels_v4};
#else
static const conv_kernel *const *tables[ISA_COUNT] = {conv_kernels_base};
#endif

static elbo_status prepare_forced(compile_env *env, const node *n, kernel *k, const void *arg) {
  const conv_kernel *c = arg;
  conv_problem p = conv_problem_of(env, n);
  return c->prepare(env, &p, k);
}

// Runs every kernel that supports the node; counts them.
static bool force_all(elbo_ctx *ctx, const kernel_check *check, const node *n, int *count) {
  compile_env env = kernel_check_env(ctx, check);
  conv_problem p = conv_problem_of(&env, n);
  for (int i = 0; tables[ctx->isa][i]; i++) {
    const conv_kernel *c = tables[ctx->isa][i];
    if (!conv_supports(c, &p)) continue;
    if (!(c->cost(&p) >= 0)) return false;
    if (c == &conv_onednn) { // it may refuse
      kernel k = {0};
      bool refused = prepare_forced(&env, n, &k, c) == ELBO_ERROR_UNSUPPORTED;
      if (k.destroy) k.destroy(&k);
      if (refused) continue;
    }
    count[i]++;
    if (!kernel_check_run(ctx, check, n, prepare_forced, c)) return false;
  }
  return true;
}

static elbo_tensor *fuse_randomly(elbo_graph *g, test_random *r, elbo_tensor *y) {
  if (!y) return NULL;
  contraction_epilogue e = {.alpha = test_below(r, 0, 1) ? 1.0 : 0.5,
                            .activation = (contraction_activation)test_below(r, 0, CONTRACTION_ACTIVATIONS - 1),
                            .slope = 0.1,
                            .keep_pre = (int)test_below(r, 0, 1)};
  elbo_tensor *residual = test_below(r, 0, 1) ? elbo_input(g, "residual", ELBO_F32, 4, y->shape.dim) : NULL;
  node *n = graph_add_fused(g, y->producer, residual, &e, NULL);
  return n ? n->out[0] : NULL;
}

static void test_forced(void **unused) {
  (void)unused;
  for (int isa = 0; isa < ISA_COUNT; isa++) {
    elbo_ctx *ctx = test_ctx_isa(0, (isa_level)isa);
    if (!ctx) {
      print_message("skipped: this machine lacks variant %s\n", isa_name((isa_level)isa));
      continue;
    }
    test_random r = {test_seed(), 0};
    int count[16] = {0};
    for (int i = 0; i < 80; i++) {
      conv_case c = conv_case_random(&r, i % 4 == 0 ? 50 : 20);
      if (i % 8 == 5) { // without taps beside the pixel itself
        c.kh = c.kw = 1, c.config = (elbo_conv2d_config){.groups = 1}, c.output_padding[0] = c.output_padding[1] = 0;
        conv_case_describe(&c);
      }
      kernel_check check = {.label = c.text, .seed = (uint64_t)i, .weights_constant = i % 2};
      for (int kind = 0; kind < 3; kind++) {
        elbo_graph *g;
        assert_ok(ctx, elbo_graph_create(ctx, "case", &g));
        elbo_tensor *y = kind == 2 ? conv_case_weight_grad(g, &c) : conv_case_build(g, &c, kind == 1);
        if (kind < 2 && i % 3 == 0) y = fuse_randomly(g, &r, y);
        assert_ok(ctx, elbo_graph_check(g));
        if (!force_all(ctx, &check, y->producer, count))
          fail_msg("%s, direction %d, seed %llu", c.text, kind, (unsigned long long)test_seed());
        elbo_graph_destroy(&g);
      }
    }
    for (int i = 0; tables[isa][i]; i++) {
      if (tables[isa][i] == &conv_onednn && !onednn_version()) {
        print_message("skipped: oneDNN cannot be opened on this machine\n");
        continue;
      }
      if (strstr(tables[isa][i]->name, "winograd")) continue; // test_three_by_three
      if (strstr(tables[isa][i]->name, "few")) continue;      // test_few
      if (!count[i]) print_message("kernel %s of %s met no shape it supports\n", tables[isa][i]->name, isa_name((isa_level)isa));
      assert_true(count[i] > 0);
    }
    elbo_ctx_destroy(&ctx);
  }
}

// Lets the map grow until the transposed convolution too has a size of at least 1.
static void fit_transposed(conv_case *c) {
  for (int j = 0; j < 2; j++) {
    int64_t *size = j ? &c->W : &c->H, stride = c->config.stride[j] ? c->config.stride[j] : 1;
    while ((*size - 1) * stride + (j ? c->kw : c->kh) - c->config.pad[j] - c->config.pad[j + 2] < 1) ++*size;
  }
}

// The shapes of Winograd's kernels: every remainder of tiles and vectors, every padding, all kernels of every instruction set; a third as
// if the second cache held 32 KiB, so that small shapes are cut as large ones are: into several groups and blocks.
static void test_three_by_three(void **unused) {
  (void)unused;
  for (int isa = 0; isa < ISA_COUNT; isa++) {
    test_random r = {test_seed() + 7, 0};
    int count[16] = {0};
    for (int i = 0; i < 180; i++) {
      elbo_ctx *ctx = test_ctx_isa(1 + i % 4, (isa_level)isa);
      if (!ctx) break;
      if (i >= 120) ctx->l2_bytes = 32 << 10;
      conv_case c = {.B = test_below(&r, 1, 3), .H = test_below(&r, 1, 13), .W = test_below(&r, 1, 13), .kh = 3, .kw = 3};
      if (i % 3 == 1) c.config.stride[0] = c.config.stride[1] = 2, c.kh = c.kw = 3 + i % 2;
      int64_t most = i % 10 == 0 ? 150 : 40;
      c.I = test_below(&r, 1, most), c.O = test_below(&r, 1, most);
      for (int j = 0; j < 4; j++) c.config.pad[j] = (int)(i % 4 ? 1 : test_below(&r, 0, 3));
      while (c.H + c.config.pad[0] + c.config.pad[2] < c.kh) c.H++;
      while (c.W + c.config.pad[1] + c.config.pad[3] < c.kw) c.W++;
      fit_transposed(&c);
      c.bias = (int)test_below(&r, 0, 1);
      conv_case_describe(&c);
      // errors are those of sums of 9 I terms of N(0,1), even where an activation keeps the result small
      kernel_check check = {.label = c.text,
                            .seed = (uint64_t)i,
                            .weights_constant = i % 2,
                            .weights_cached = i / 4 % 2,
                            .keep_bytes = i / 2 % 2 * (64 << 20),
                            .tolerance = 2e-5 + (i % 2 ? 0 : 5e-6 * sqrt(9.0 * (double)c.I))};
      for (int kind = 0; kind < 3; kind++) {
        elbo_graph *g;
        assert_ok(ctx, elbo_graph_create(ctx, "case", &g));
        elbo_tensor *y = kind == 2 ? conv_case_weight_grad(g, &c) : conv_case_build(g, &c, kind == 1);
        if (kind < 2 && i % 2 == 0) y = fuse_randomly(g, &r, y);
        assert_ok(ctx, elbo_graph_check(g));
        if (!force_all(ctx, &check, y->producer, count))
          fail_msg("%s, direction %d, seed %llu", c.text, kind, (unsigned long long)test_seed());
        elbo_graph_destroy(&g);
      }
      elbo_ctx_destroy(&ctx);
    }
    for (int i = 0; i < 16 && count[0] && tables[isa][i]; i++)
      if (strstr(tables[isa][i]->name, "winograd")) assert_true(count[i] >= 40);
  }
}

// The layer of the case on a norm of x (and, from channel `first` on, x2): the norm's channels are an input.
static elbo_tensor *normalised_case(elbo_graph *g, test_random *r, const conv_case *c, int64_t first, norm_act act, bool fused) {
  elbo_tensor *y = conv_case_build(g, c, false), *x = elbo_input(g, "part", ELBO_F32, 4, (int64_t[]){c->B, c->H, c->W, first});
  elbo_tensor *x2 = first < c->I ? elbo_input(g, "x2", ELBO_F32, 4, (int64_t[]){c->B, c->H, c->W, c->I - first}) : NULL;
  elbo_tensor *channels = elbo_input(g, "channels", ELBO_F32, 3, (int64_t[]){c->B, 3, c->I});
  if (fused) y = fuse_randomly(g, r, y);
  node *norm = graph_add_fused_group_norm(g, (elbo_tensor *[FUSED_NORM_INPUTS]){x}, 1, 1e-5, act, 0.2);
  if (!y || !norm) return NULL;
  const node *plain = y->producer;
  elbo_tensor *in[FUSED_INPUTS] = {NULL};
  for (int i = 0; i < plain->n_in; i++) in[i] = plain->in[i];
  in[plain->op == &op_conv2d ? 0 : FUSED_X] = x;
  node *n = graph_add_normalised_conv2d(g, plain, in, norm, channels, x2);
  return n ? n->out[0] : NULL;
}

// Kernels that normalise what they read: activations, two tensors of whole and of broken vectors, maps of one tile and of more rows than
// are normalised at once, tiles shared out in the middle of a row.
static void test_normalised(void **unused) {
  (void)unused;
  for (int isa = 0; isa < ISA_COUNT; isa++) {
    test_random r = {test_seed() + 11, 0};
    int count[16] = {0}, two = 0;
    for (int i = 0; i < 120; i++) {
      elbo_ctx *ctx = test_ctx_isa(i % 20 == 8 ? 1 : 1 + i % 3, (isa_level)isa);
      if (!ctx) break;
      bool large = i % 10 == 9;
      conv_case c = {.B = test_below(&r, 1, large ? 1 : 4), .kh = 3, .kw = 3};
      c.H = test_below(&r, large ? 60 : 1, large ? 90 : 20), c.W = test_below(&r, large ? 40 : 1, large ? 60 : 20);
      c.I = test_below(&r, 1, large ? 20 : 80), c.O = test_below(&r, 1, 20);
      if (i % 20 == 8) c.B = 1, c.H = 12, c.W = 400, c.I = 16; // a row of F(6x6)'s tiles is more than what is normalised at once
      for (int j = 0; j < 4; j++) c.config.pad[j] = (int)(i % 4 ? 1 : test_below(&r, 0, i % 8 ? 3 : 14));
      while (c.H + c.config.pad[0] + c.config.pad[2] < 3) c.H++;
      while (c.W + c.config.pad[1] + c.config.pad[3] < 3) c.W++;
      int64_t first = c.I;
      if (i % 3 == 0 && c.I > 16) first = 16 * test_below(&r, 1, (c.I - 1) / 16);
      c.bias = (int)test_below(&r, 0, 1);
      conv_case_describe(&c);
      kernel_check check = {.label = c.text,
                            .seed = (uint64_t)i,
                            .weights_constant = i % 2 || i % 20 == 8,
                            .tolerance = 2e-5 + 1e-5 * sqrt(9.0 * (double)c.I)};
      elbo_graph *g;
      assert_ok(ctx, elbo_graph_create(ctx, "case", &g));
      elbo_tensor *y = normalised_case(g, &r, &c, first, (norm_act)test_below(&r, 0, 3), i % 2 == 0);
      assert_ok(ctx, elbo_graph_check(g));
      int before = 0, after = 0;
      for (int k = 0; k < 16; k++) before += count[k];
      if (!force_all(ctx, &check, y->producer, count))
        fail_msg("%s, first %d, seed %llu", c.text, (int)first, (unsigned long long)test_seed());
      for (int k = 0; k < 16; k++) after += count[k];
      two += first < c.I && after > before;
      elbo_graph_destroy(&g);
      elbo_ctx_destroy(&ctx);
    }
    int all = 0;
    for (int i = 0; i < 16; i++) all += count[i];
    for (int i = 0; i < 16 && all && tables[isa][i]; i++) assert_true(tables[isa][i]->normalises ? count[i] >= 20 : count[i] == 0);
    assert_true(!all || two >= 10);
  }
}

// What only the fuse pass could get wrong.
static void test_normalised_refused(void **unused) {
  (void)unused;
  elbo_ctx *ctx = test_ctx(1);
  const int64_t like[] = {2, 8, 8, 16}, other[] = {2, 8, 7, 16};
  for (int i = 0; i < 4; i++) {
    static const char *const said[] = {"x2 is float32 (2,8,7,16); it must agree but for the channels",
                                       "the norm's channels are (2,3,16), expected (2,3,32)", "or reads two tensors",
                                       "only fused_conv2d normalises"};
    elbo_graph *g;
    assert_ok(ctx, elbo_graph_create(ctx, "case", &g));
    elbo_tensor *x = elbo_input(g, "x", ELBO_F32, 4, like), *x2 = elbo_input(g, "x2", ELBO_F32, 4, i == 0 ? other : like);
    elbo_tensor *channels = elbo_input(g, "channels", ELBO_F32, 3, (int64_t[]){2, 3, i == 1 ? 16 : 32});
    elbo_tensor *w = elbo_input(g, "w", ELBO_F32, 4, (int64_t[]){i == 3 ? 16 : 8, i == 3 ? 8 : 32, 3, 3});
    elbo_tensor *in[FUSED_INPUTS] = {
        [FUSED_WEIGHT] = w, [FUSED_NORM] = i == 2 ? NULL : channels, [FUSED_X] = x, [FUSED_X2] = i == 3 ? NULL : x2};
    fused_contraction_attr a = {.conv = {.stride = {1, 1}, .dilation = {1, 1}, .pad = {1, 1, 1, 1}, .groups = 1, .size = {8, 8}},
                                .epilogue = CONTRACTION_EPILOGUE_NONE};
    extern const op_def op_fused_conv2d, op_fused_conv_transpose2d;
    assert_null(graph_add_node(g, i == 3 ? &op_fused_conv_transpose2d : &op_fused_conv2d, &a, FUSED_INPUTS, in, NULL));
    assert_status(ctx, elbo_graph_check(g), i < 2 ? ELBO_ERROR_ARGUMENT : ELBO_ERROR_UNSUPPORTED, said[i]);
    elbo_graph_destroy(&g);
  }
  elbo_ctx_destroy(&ctx);
}

// Few result channels: every remainder of rows and vectors, every padding less than the kernel, more threads than rows.
static void test_few(void **unused) {
  (void)unused;
  for (int isa = 0; isa < ISA_COUNT; isa++) {
    test_random r = {test_seed() + 9, 0};
    int count[16] = {0};
    bool ran = false; // this machine has the variant
    for (int i = 0; i < 90; i++) {
      elbo_ctx *ctx = test_ctx_isa(1 + i % 4, (isa_level)isa);
      if (!ctx) break;
      ran = true;
      conv_case c = {.B = test_below(&r, 1, 3), .H = test_below(&r, 1, 9), .W = test_below(&r, 1, i % 3 ? 20 : 70)};
      c.kh = i % 2 ? 3 : test_below(&r, 1, 7), c.kw = i % 2 ? 3 : test_below(&r, 1, 7);
      c.I = test_below(&r, 4, i % 5 ? 40 : 150), c.O = 1 + i % 4;
      for (int j = 0; j < 4; j++) c.config.pad[j] = (int)test_below(&r, 0, (j % 2 ? c.kw : c.kh) - 1);
      if (i % 7 == 0) c.config.pad[2] = c.config.pad[3] = 9; // more than the kernel, below and to the right
      while (c.H + c.config.pad[0] + c.config.pad[2] < c.kh) c.H++;
      while (c.W + c.config.pad[1] + c.config.pad[3] < c.kw) c.W++;
      c.bias = (int)test_below(&r, 0, 1);
      conv_case_describe(&c);
      kernel_check check = {.label = c.text, .seed = (uint64_t)i, .weights_constant = i % 2};
      for (int kind = 0; kind < 3; kind += 2) {
        elbo_graph *g;
        assert_ok(ctx, elbo_graph_create(ctx, "case", &g));
        elbo_tensor *y = kind == 2 ? conv_case_weight_grad(g, &c) : conv_case_build(g, &c, false);
        if (kind == 0 && i % 3 == 0) y = fuse_randomly(g, &r, y);
        assert_ok(ctx, elbo_graph_check(g));
        compile_env env = {.ctx = ctx, .isa = ctx->isa, .pool = &ctx->pool};
        conv_problem p = conv_problem_of(&env, y->producer);
        for (int k = 0; tables[isa][k]; k++) {
          if (strncmp(tables[isa][k]->name, "few", 3) != 0 || !tables[isa][k]->supports(&p)) continue;
          count[k]++;
          if (!kernel_check_run(ctx, &check, y->producer, prepare_forced, tables[isa][k]))
            fail_msg("%s, direction %d, seed %llu", c.text, kind, (unsigned long long)test_seed());
        }
        elbo_graph_destroy(&g);
      }
      elbo_ctx_destroy(&ctx);
    }
    for (int i = 0; tables[isa][i]; i++)
      if (ran && strncmp(tables[isa][i]->name, "few", 3) == 0) assert_true(count[i] >= 30);
  }
}

// Convolutions from one to four channels: every stride, tail of pixels, taps and vectors, rows that reach past the map on every side,
// several rows at once and less than one.
static void test_from_few(void **unused) {
  (void)unused;
  for (int isa = 0; isa < ISA_COUNT; isa++) {
    test_random r = {test_seed() + 13, 0};
    int count[3] = {0};
    bool ran = false; // this machine has the variant
    for (int i = 0; i < 90; i++) {
      elbo_ctx *ctx = test_ctx_isa(1 + i % 4, (isa_level)isa);
      if (!ctx) break;
      ran = true;
      conv_case c = {.B = test_below(&r, 1, 3), .H = test_below(&r, 1, 11), .W = test_below(&r, 1, i % 3 ? 20 : 70)};
      c.kh = test_below(&r, 1, i % 2 ? 4 : 7), c.kw = test_below(&r, 1, i % 2 ? 4 : 7);
      c.I = 1 + i % 4, c.O = test_below(&r, 16, i % 5 ? 40 : 150);
      for (int j = 0; j < 2; j++) c.config.stride[j] = i % 3 == 2 ? 1 : (int)test_below(&r, 1, 3);
      for (int j = 0; j < 4; j++) c.config.pad[j] = (int)test_below(&r, 0, i % 7 ? 3 : 9);
      while (c.H + c.config.pad[0] + c.config.pad[2] < c.kh) c.H++;
      while (c.W + c.config.pad[1] + c.config.pad[3] < c.kw) c.W++;
      fit_transposed(&c);
      c.bias = (int)test_below(&r, 0, 1);
      conv_case_describe(&c);
      kernel_check check = {.label = c.text, .seed = (uint64_t)i, .weights_constant = i % 2};
      for (int kind = 0; kind < 3; kind++) {
        elbo_graph *g;
        assert_ok(ctx, elbo_graph_create(ctx, "case", &g));
        elbo_tensor *y = kind == 2 ? conv_case_weight_grad(g, &c) : conv_case_build(g, &c, kind == 1);
        if (kind < 2 && i % 2 == 0) y = fuse_randomly(g, &r, y);
        assert_ok(ctx, elbo_graph_check(g));
        compile_env env = {.ctx = ctx, .isa = ctx->isa, .pool = &ctx->pool};
        conv_problem p = conv_problem_of(&env, y->producer);
        for (int k = 0; tables[isa][k]; k++) {
          if (!strstr(tables[isa][k]->name, "from_few") || !tables[isa][k]->supports(&p)) continue;
          count[kind]++;
          if (!kernel_check_run(ctx, &check, y->producer, prepare_forced, tables[isa][k]))
            fail_msg("%s, direction %d, seed %llu", c.text, kind, (unsigned long long)test_seed());
        }
        elbo_graph_destroy(&g);
      }
      elbo_ctx_destroy(&ctx);
    }
    if (ran && (count[0] < 60 || count[1] < 15 || count[2] < 60))
      fail_msg("%s: %d, %d and %d cases", isa_name((isa_level)isa), count[0], count[1], count[2]);
  }
}

static const conv_kernel *kernel_named(const char *name, int isa) {
  for (int i = 0; tables[isa][i]; i++)
    if (!strcmp(tables[isa][i]->name, name)) return tables[isa][i];
  fail_msg("there is no kernel %s", name);
  return NULL;
}

// F(6x6) is for large images and weights that stay: no weights that are trained, no gradient, no small image.
static void test_large_images(void **unused) {
  (void)unused;
  static const struct {
    int64_t side;
    bool transposed, constant, taken;
  } cases[] = {{160, false, true, true}, {160, false, false, false}, {160, true, true, false}, {64, false, true, false}};
  for (int isa = 0; isa < ISA_COUNT; isa++) {
    elbo_ctx *ctx = test_ctx_isa(2, (isa_level)isa);
    for (size_t i = 0; ctx && i < sizeof cases / sizeof cases[0]; i++) {
      conv_case c = {.B = 1, .H = cases[i].side, .W = cases[i].side, .I = 64, .O = 64, .kh = 3, .kw = 3, .config = {.pad = {1, 1, 1, 1}}};
      elbo_graph *g;
      assert_ok(ctx, elbo_graph_create(ctx, "case", &g));
      compile_env env = {.ctx = ctx, .isa = ctx->isa, .pool = &ctx->pool};
      conv_problem p = conv_problem_of(&env, conv_case_build(g, &c, cases[i].transposed)->producer);
      p.weights_constant = cases[i].constant;
      const conv_kernel *large = kernel_named("winograd6", isa), *other = kernel_named("winograd4", isa);
      assert_int_equal(large->supports(&p) && large->cost(&p) < other->cost(&p), cases[i].taken);
      elbo_graph_destroy(&g);
    }
    elbo_ctx_destroy(&ctx);
  }
}

// Larger ones: several blocks of the inner dimension and of rows, more threads than work.
static void test_blocks(void **unused) {
  (void)unused;
  static const conv_case cases[] = {
      {.B = 3, .H = 9, .W = 11, .I = 67, .O = 35, .kh = 3, .kw = 3, .config = {.pad = {1, 1, 1, 1}}, .bias = 1},
      {.B = 2, .H = 8, .W = 8, .I = 40, .O = 80, .kh = 4, .kw = 4, .config = {.stride = {2, 2}, .pad = {1, 1, 1, 1}}, .bias = 1},
      {.B = 40, .H = 5, .W = 5, .I = 3, .O = 33, .kh = 4, .kw = 4, .config = {.stride = {2, 2}, .pad = {1, 1, 1, 1}}},
      {.B = 1, .H = 1, .W = 1, .I = 300, .O = 5, .kh = 1, .kw = 1, .bias = 1},
      {.B = 20, .H = 7, .W = 6, .I = 32, .O = 1, .kh = 3, .kw = 3, .config = {.pad = {1, 1, 1, 1}}, .bias = 1},
      {.B = 2, .H = 20, .W = 3, .I = 2, .O = 2, .kh = 11, .kw = 1, .config = {.pad = {5, 0, 5, 0}}},
      {.B = 1, .H = 6, .W = 6, .I = 1, .O = 2, .kh = 2, .kw = 2, .config = {.stride = {5, 5}}},
      // few tiles, and transformed weights larger than a second cache
      {.B = 1, .H = 7, .W = 9, .I = 187, .O = 203, .kh = 3, .kw = 3, .config = {.pad = {1, 1, 1, 1}}, .bias = 1},
  };
  for (int isa = 0; isa < ISA_COUNT; isa++)
    for (int threads = 1; threads <= 5; threads += 2) {
      elbo_ctx *ctx = test_ctx_isa(threads, (isa_level)isa);
      int count[16] = {0};
      for (size_t i = 0; ctx && i < sizeof cases / sizeof cases[0]; i++) {
        conv_case c = cases[i];
        conv_case_describe(&c);
        kernel_check check = {.label = c.text, .seed = i, .weights_constant = i % 2};
        for (int kind = 0; kind < 3; kind++) {
          elbo_graph *g;
          assert_ok(ctx, elbo_graph_create(ctx, "case", &g));
          elbo_tensor *y = kind == 2 ? conv_case_weight_grad(g, &c) : conv_case_build(g, &c, kind == 1);
          assert_ok(ctx, elbo_graph_check(g));
          assert_true(force_all(ctx, &check, y->producer, count));
          elbo_graph_destroy(&g);
        }
      }
      elbo_ctx_destroy(&ctx);
    }
}

// The checker itself: a kernel that leaves out one tap at one place must be caught.
static elbo_status (*honest_run)(const kernel *k, const kernel_args *a);
static elbo_status run_with_bug(const kernel *k, const kernel_args *a) {
  elbo_status status = honest_run(k, a);
  ((float *)a->out[0])[3] += 1e-3f;
  return status;
}
static elbo_status prepare_with_bug(compile_env *env, const node *n, kernel *k, const void *arg) {
  elbo_status status = prepare_forced(env, n, k, arg);
  honest_run = k->run;
  k->run = run_with_bug;
  return status;
}

static void test_checker(void **unused) {
  (void)unused;
  elbo_ctx *ctx = test_ctx(0);
  conv_case c = {.B = 1, .H = 4, .W = 4, .I = 2, .O = 3, .kh = 3, .kw = 3, .text = "planted bug (an error is expected here)"};
  elbo_graph *g;
  assert_ok(ctx, elbo_graph_create(ctx, "case", &g));
  elbo_tensor *y = conv_case_build(g, &c, false);
  kernel_check check = {.label = c.text};
  assert_false(kernel_check_run(ctx, &check, y->producer, prepare_with_bug, tables[ctx->isa][0]));
  assert_true(kernel_check_run(ctx, &check, y->producer, prepare_forced, tables[ctx->isa][0]));
  elbo_graph_destroy(&g);
  elbo_ctx_destroy(&ctx);
}

static elbo_tensor *build_layer(elbo_graph *g, const void *arg) { return conv_case_build(g, arg, false); }

static void test_gradients(void **unused) {
  (void)unused;
  test_random r = {test_seed() + 1, 0};
  for (int i = 0; i < 24; i++) {
    conv_case c = conv_case_random(&r, 6);
    c.B = 1 + i % 2;
    conv_case_describe(&c);
    op_check check = {.name = c.text, .seed = (uint64_t)i + 1, .orders = i % 3 == 0 ? 2 : 1};
    assert_true(op_check_run(&check, build_layer, &c));
  }
}

static void test_refused(void **unused) {
  (void)unused;
  elbo_ctx *ctx = test_ctx(0);
  static const struct {
    conv_case c;
    const char *message;
  } bad[] = {
      {{.B = 1, .H = 2, .W = 2, .I = 3, .O = 4, .kh = 3, .kw = 3}, "does not fit"},
      {{.B = 1, .H = 4, .W = 4, .I = 4, .O = 4, .kh = 3, .kw = 3, .config = {.stride = {-1, 1}}}, "stride"},
      {{.B = 1, .H = 4, .W = 4, .I = 4, .O = 4, .kh = 3, .kw = 3, .config = {.pad = {-1}}}, "padding"},
      {{.B = 1, .H = 4, .W = 4, .I = 4, .O = 5, .kh = 3, .kw = 3, .config = {.groups = 2}}, "groups"},
  };
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    elbo_graph *g;
    assert_ok(ctx, elbo_graph_create(ctx, "bad", &g));
    assert_null(conv_case_build(g, &bad[i].c, false));
    assert_status(ctx, elbo_graph_check(g), ELBO_ERROR_ARGUMENT, bad[i].message);
    elbo_graph_destroy(&g);
  }
  elbo_ctx_destroy(&ctx);
}

// --- timing: the layers of the benchmark workloads ---

static const struct {
  const char *name;
  conv_case c;
  bool transposed;
} layers[] = {
#define S2 .kh = 4, .kw = 4, .config = {.stride = {2, 2}, .pad = {1, 1, 1, 1}}, .bias = 1
#define K3 .kh = 3, .kw = 3, .config = {.pad = {1, 1, 1, 1}}, .bias = 1
    {"mnist down1", {.B = 128, .H = 28, .W = 28, .I = 1, .O = 32, S2}, false},
    {"mnist down2", {.B = 128, .H = 14, .W = 14, .I = 32, .O = 64, S2}, false},
    {"mnist up1", {.B = 128, .H = 7, .W = 7, .I = 64, .O = 32, S2}, true},
    {"mnist up2", {.B = 128, .H = 14, .W = 14, .I = 32, .O = 32, S2}, true},
    {"mnist last", {.B = 128, .H = 28, .W = 28, .I = 32, .O = 1, K3}, false},
    {"cifar down1", {.B = 128, .H = 32, .W = 32, .I = 3, .O = 64, S2}, false},
    {"cifar down2", {.B = 128, .H = 16, .W = 16, .I = 64, .O = 128, S2}, false},
    {"cifar down3", {.B = 128, .H = 8, .W = 8, .I = 128, .O = 256, S2}, false},
    {"cifar up1", {.B = 128, .H = 4, .W = 4, .I = 256, .O = 128, S2}, true},
    {"cifar up2", {.B = 128, .H = 8, .W = 8, .I = 128, .O = 64, S2}, true},
    {"cifar up3", {.B = 128, .H = 16, .W = 16, .I = 64, .O = 64, S2}, true},
    {"cifar last", {.B = 128, .H = 32, .W = 32, .I = 64, .O = 3, K3}, false},
    {"3x3 64", {.B = 64, .H = 16, .W = 16, .I = 64, .O = 64, K3}, false},
    {"3x3 128", {.B = 16, .H = 32, .W = 32, .I = 128, .O = 128, K3}, false},
    {"3x3 32", {.B = 64, .H = 32, .W = 32, .I = 32, .O = 32, K3}, false},
    {"3x3 256", {.B = 16, .H = 16, .W = 16, .I = 256, .O = 256, K3}, false},
    {"3x3 256 small", {.B = 16, .H = 8, .W = 8, .I = 256, .O = 256, K3}, false},
    {"3x3 256 least", {.B = 16, .H = 4, .W = 4, .I = 256, .O = 256, K3}, false},
    {"one 128", {.B = 1, .H = 32, .W = 32, .I = 128, .O = 128, K3}, false},
    {"one 256", {.B = 1, .H = 16, .W = 16, .I = 256, .O = 256, K3}, false},
    {"one 256 small", {.B = 1, .H = 8, .W = 8, .I = 256, .O = 256, K3}, false},
    {"one 320", {.B = 1, .H = 64, .W = 64, .I = 320, .O = 320, K3}, false},
    {"one 640", {.B = 1, .H = 32, .W = 32, .I = 640, .O = 640, K3}, false},
    {"one 256 large", {.B = 1, .H = 256, .W = 256, .I = 256, .O = 256, K3}, false},
};

static void bench_node(elbo_ctx *ctx, const char *layer, const char *what, const node *n) {
  compile_env env = {.ctx = ctx, .isa = ctx->isa, .pool = &ctx->pool};
  conv_problem p = conv_problem_of(&env, n);
  for (int i = 0; tables[ctx->isa][i]; i++) {
    const conv_kernel *c = tables[ctx->isa][i];
    char name[64];
    if (!c->supports(&p)) continue;
    double t = kernel_check_time(ctx, n, prepare_forced, c, 10, name);
    if (t > 0) print_message("%-12s %-9s %-36s %8.3f ms %7.1f GFLOP/s\n", layer, what, name, 1e3 * t, 1e-9 * (double)n->op->flops(n) / t);
  }
}

// ELBO_BENCH_LAYER: only layers whose names contain it.
static void bench(void) {
  const char *only = getenv("ELBO_BENCH_LAYER");
  for (int isa = ISA_COUNT - 1; isa >= ISA_V3; isa--) {
    elbo_ctx *ctx = test_ctx_isa(0, (isa_level)isa);
    for (size_t i = 0; ctx && i < sizeof layers / sizeof layers[0]; i++) {
      elbo_graph *g;
      if (only && !strstr(layers[i].name, only)) continue;
      if (elbo_graph_create(ctx, "bench", &g) != ELBO_OK) continue;
      elbo_tensor *y = conv_case_build(g, &layers[i].c, layers[i].transposed);
      elbo_tensor *gy = elbo_input(g, "gy", ELBO_F32, 4, y->shape.dim), *dx[3] = {0};
      bool wanted[3] = {layers[i].c.I > 4, true, false};
      bench_node(ctx, layers[i].name, "forward", y->producer);
      y->producer->op->gradient(g, y->producer, &gy, wanted, dx);
      if (dx[0]) bench_node(ctx, layers[i].name, "data", dx[0]->producer);
      bench_node(ctx, layers[i].name, "weights", dx[1]->producer);
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
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_forced),     cmocka_unit_test(test_three_by_three),
                                     cmocka_unit_test(test_few),        cmocka_unit_test(test_large_images),
                                     cmocka_unit_test(test_blocks),     cmocka_unit_test(test_checker),
                                     cmocka_unit_test(test_gradients),  cmocka_unit_test(test_refused),
                                     cmocka_unit_test(test_normalised), cmocka_unit_test(test_normalised_refused),
                                     cmocka_unit_test(test_from_few)};
  return cmocka_run_group_tests_name("conv2d", tests, NULL, NULL);
}
