#include <math.h>

#include "builder_check.h"
#include "support/kernel_check.h"

typedef struct params {
  int64_t batch, nq, nk, d;
  int heads;
  int bias_rank; // -1: none
  int64_t bias[4];
  double scale;
  int causal;
} params;

static elbo_tensor *build(elbo_graph *g, const void *arg) {
  const params *p = arg;
  int64_t q_dim[] = {p->batch, p->nq, p->heads * p->d}, k_dim[] = {p->batch, p->nk, p->heads * p->d};
  elbo_tensor *bias = p->bias_rank >= 0 ? elbo_input(g, "bias", ELBO_F32, p->bias_rank, p->bias) : NULL;
  return elbo_attention(elbo_input(g, "q", ELBO_F32, 3, q_dim), elbo_input(g, "k", ELBO_F32, 3, k_dim),
                        elbo_input(g, "v", ELBO_F32, 3, k_dim), bias, p->heads, p->scale, p->causal);
}

static void check(const params *p, uint64_t seed) {
  char name[128];
  snprintf(name, sizeof name, "attention B %d Nq %d Nk %d heads %d d %d bias (%d,%d,%d,%d) rank %d causal %d", (int)p->batch, (int)p->nq,
           (int)p->nk, p->heads, (int)p->d, (int)p->bias[0], (int)p->bias[1], (int)p->bias[2], (int)p->bias[3], p->bias_rank, p->causal);
  assert_true(op_check_run(&(op_check){.name = name, .seed = seed, .orders = 1}, build, p));
}

static void test_random_shapes(void **state) {
  (void)state;
  test_random r = {.seed = test_seed()};
  for (int i = 0; i < 16; i++) {
    params p = {.batch = test_below(&r, 1, 2), .nq = test_below(&r, 1, 11), .nk = test_below(&r, 1, 37), .d = test_below(&r, 1, 11)};
    p.heads = (int)test_below(&r, 1, 3), p.causal = test_below(&r, 0, 1) != 0;
    if (p.nk == 1) p.nk = 2; // one key alone: q and k have no gradient
    if (p.causal && p.nk < p.nq) p.nk = p.nq + 1;
    p.bias_rank = (int)test_below(&r, -1, 4);
    const int64_t full[] = {p.batch, p.heads, p.nq, p.nk};
    for (int d = 0; d < p.bias_rank; d++) p.bias[d] = test_below(&r, 0, 2) ? full[4 - p.bias_rank + d] : 1;
    if (p.bias_rank >= 0 && (p.bias_rank == 0 || p.bias[p.bias_rank - 1] == 1)) p.bias_rank = -1; // the same for all keys: no gradient
    check(&p, test_seed() + (uint64_t)i);
  }
}

static void test_chosen_shapes(void **state) {
  (void)state;
  check(&(params){1, 67, 150, 12, 1, -1, {0}, 0, 0}, 1);       // several tiles of keys
  check(&(params){1, 150, 150, 8, 1, -1, {0}, 0.4, 1}, 2);     // of queries too, causal: whole tiles unseen
  check(&(params){2, 3, 70, 8, 2, 4, {2, 2, 3, 70}, 0, 0}, 3); // one tile of queries
  check(&(params){3, 5, 1, 9, 2, -1, {0}, 0, 0}, 4);           // one key: y is v
  check(&(params){2, 9, 4, 5, 2, -1, {0}, 0, 1}, 5);           // causal with more queries than keys: some see nothing
  check(&(params){1, 5, 33, 300, 1, 3, {1, 1, 33}, 0, 0}, 6);  // wide heads
  check(&(params){2, 1, 1, 1, 1, -1, {0}, 0, 0}, 7);
  check(&(params){2, 64, 64, 8, 4, -1, {0}, 0, 0}, 8);                 // half a vector of channels at most
  check(&(params){1, 131, 77, 40, 2, -1, {0}, 0, 0}, 9);               // captions; an odd number of queries in the last tile
  check(&(params){1, 33, 81, 24, 1, -1, {0}, 0, 1}, 10);               // two tiles of keys, uneven
  check(&(params){1, 150, 170, 12, 2, 4, {1, 2, 150, 170}, 0, 0}, 11); // a bias over several tiles both ways
  check(&(params){1, 17, 20, 520, 1, -1, {0}, 0, 0}, 12);              // three rows of packed channels
  check(&(params){1, 2100, 90, 8, 16, -1, {0}, 0, 0}, 13);             // the largest tiles of queries, and one more
}

static elbo_status prepare_attention(compile_env *env, const node *n, kernel *k, const void *arg) {
  (void)arg;
  return cpu_op_find(n->op, env->isa)->prepare(env, n, k);
}

// In use, where the processor multiplies pairs at the full rate: queries, keys, values and weights rounded. Odd numbers of keys and
// channels, masks, several tiles each way, channels that are packed in several rows.
static void test_rounded(void **state) {
  (void)state;
  static const params cases[] = {
      {1, 67, 150, 12, 1, -1, {0}, 0, 0}, {1, 150, 151, 7, 1, -1, {0}, 0.4, 1}, {2, 3, 70, 8, 2, 4, {2, 2, 3, 70}, 0, 0},
      {3, 5, 1, 9, 2, -1, {0}, 0, 0},     {2, 9, 14, 5, 2, -1, {0}, 0, 1},      {1, 131, 77, 40, 2, -1, {0}, 0, 0},
      {1, 17, 21, 521, 1, -1, {0}, 0, 0}, {1, 2100, 90, 16, 4, -1, {0}, 0, 0},  {2, 64, 64, 80, 1, -1, {0}, 0, 0}};
  elbo_ctx *ctx = cpu_bf16() == BF16_NONE ? NULL : test_ctx_isa(2, ISA_V4);
  if (!ctx) print_message("skipped: this machine lacks v4 with AVX512_BF16\n");
  for (size_t i = 0; ctx && i < sizeof cases / sizeof cases[0]; i++) {
    elbo_graph *g;
    kernel k = {0};
    char label[64];
    snprintf(label, sizeof label, "rounded case %d", (int)i);
    kernel_check check = {
        .label = label, .seed = 3 + i, .tolerance = 0.01, .weights_constant = true, .bf16 = true, .bf16_unit = BF16_FULL_RATE};
    assert_ok(ctx, elbo_graph_create(ctx, "rounded", &g));
    const node *n = build(g, &cases[i])->producer;
    compile_env env = kernel_check_env(ctx, &check);
    assert_ok(ctx, prepare_attention(&env, n, &k, NULL));
    assert_string_equal(k.name, "own:attention_bf16_dot.v4");
    if (k.destroy) k.destroy(&k);
    assert_true(kernel_check_run(ctx, &check, n, prepare_attention, NULL));
    elbo_graph_destroy(&g);
  }
  elbo_ctx_destroy(&ctx);
}

static void test_threads(void **state) {
  (void)state;
  assert_threads_change_nothing(build, &(params){1, 150, 140, 16, 2, 2, {150, 140}, 0, 0}); // fewer heads than some of the threads
  assert_threads_change_nothing(build, &(params){3, 70, 70, 16, 4, -1, {0}, 0, 1});
}

// Scores that softmax without a running maximum could not hold, and queries that see nothing.
static void test_extremes(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(0);
  elbo_graph *g = NULL;
  elbo_plan *plan = NULL;
  assert_ok(ctx, elbo_graph_create(ctx, "extremes", &g));
  elbo_tensor *y = build(g, &(params){1, 2, 2, 1, 1, 1, {2}, 1, 0});
  const float x[] = {1000, -1000}, v[] = {3, 5};
  const struct { // biases of minus infinity, as masks are written
    float bias[2], y[2];
  } cases[] = {{{0, 0}, {3, 5}}, {{-INFINITY, 0}, {5, 5}}, {{-INFINITY, -INFINITY}, {0, 0}}};
  for (int rounded = 0; rounded <= (ctx->isa == ISA_V4 && cpu_bf16() != BF16_NONE); rounded++) { // all of these are bfloat16 numbers
    elbo_plan_config config;
    elbo_plan_defaults(&config);
    config.weights_constant = rounded, config.precision = rounded ? ELBO_PRECISION_BFLOAT16 : ELBO_PRECISION_FLOAT32;
    assert_ok(ctx, elbo_plan_create(ctx, g, 1, &y, &config, &plan));
    assert_ok(ctx, elbo_plan_set(plan, "q", x, 2));
    assert_ok(ctx, elbo_plan_set(plan, "k", x, 2));
    assert_ok(ctx, elbo_plan_set(plan, "v", v, 2));
    for (int i = 0; i < 3; i++) {
      assert_ok(ctx, elbo_plan_set(plan, "bias", cases[i].bias, 2));
      assert_ok(ctx, elbo_plan_run(plan, NULL));
      assert_close(elbo_plan_output(plan, 0), cases[i].y, 2, 1e-7);
    }
    elbo_plan_destroy(&plan);
  }
  elbo_graph_destroy(&g);
  elbo_ctx_destroy(&ctx);
}

// Scores that rise from tile to tile, fall, and hardly move: what was summed under an earlier maximum is brought to the later one.
static void test_rising_maximum(void **state) {
  (void)state;
  enum { NK = 200 };
  const float q[] = {1, -1, 0.02f};
  float k[NK], v[NK], y[3];
  for (int j = 0; j < NK; j++) k[j] = 0.5f * (float)j, v[j] = sinf((float)j);
  for (int i = 0; i < 3; i++) {
    double sum = 0, value = 0;
    for (int j = 0; j < NK; j++) {
      double p = exp((double)q[i] * (double)k[j] - (q[i] > 0 ? (double)q[i] * (double)k[NK - 1] : 0));
      sum += p, value += p * (double)v[j];
    }
    y[i] = (float)(value / sum);
  }
  for (int isa = 0; isa < ISA_COUNT; isa++) {
    elbo_ctx *ctx = test_ctx_isa(0, (isa_level)isa);
    elbo_graph *g = NULL;
    elbo_plan *plan = NULL;
    if (!ctx) continue;
    assert_ok(ctx, elbo_graph_create(ctx, "rising", &g));
    elbo_tensor *out = build(g, &(params){1, 3, NK, 1, 1, -1, {0}, 1, 0});
    assert_ok(ctx, elbo_plan_create(ctx, g, 1, &out, NULL, &plan));
    assert_ok(ctx, elbo_plan_set(plan, "q", q, 3));
    assert_ok(ctx, elbo_plan_set(plan, "k", k, NK));
    assert_ok(ctx, elbo_plan_set(plan, "v", v, NK));
    assert_ok(ctx, elbo_plan_run(plan, NULL));
    assert_close(elbo_plan_output(plan, 0), y, 3, 1e-5);
    elbo_plan_destroy(&plan);
    elbo_graph_destroy(&g);
    elbo_ctx_destroy(&ctx);
  }
}

static void test_memory(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(2);
  elbo_graph *g = NULL;
  elbo_plan *plan = NULL;
  elbo_plan_info info;
  assert_ok(ctx, elbo_graph_create(ctx, "memory", &g));
  elbo_tensor *y = build(g, &(params){1, 8192, 8192, 8, 1, -1, {0}, 0, 0}), *x[3], *out[4] = {y};
  x[0] = elbo_input(g, "q", ELBO_F32, 3, (int64_t[]){1, 8192, 8});
  x[1] = elbo_input(g, "k", ELBO_F32, 3, (int64_t[]){1, 8192, 8}), x[2] = elbo_input(g, "v", ELBO_F32, 3, (int64_t[]){1, 8192, 8});
  assert_ok(ctx, elbo_gradient(elbo_sum(y, ELBO_ALL_AXES, 0), 3, x, out + 1));
  assert_ok(ctx, elbo_plan_create(ctx, g, 4, out, NULL, &plan));
  elbo_plan_get_info(plan, &info);
  assert_in_range(info.arena_bytes, 1, 8 << 20); // the matrix of scores alone would be 256 MiB
  elbo_plan_destroy(&plan);
  elbo_graph_destroy(&g);
  elbo_ctx_destroy(&ctx);
}

static void test_refused(void **state) {
  (void)state;
  params p = {1, 3, 4, 2, 2, -1, {0}, 0, 0};
  assert_true(op_check_refused(&(op_check){.name = "attention", .seed = 1}, 2, "attention_grad", build, &p));
  assert_build_refused(build, &(params){1, 3, 4, 2, 2, 2, {3, 5}, 0, 0}, "bias (3,5) does not broadcast to (B,heads,Nq,Nk) = (1,2,3,4)");
}

static elbo_tensor *build_uneven(elbo_graph *g, const void *arg) {
  (void)arg;
  elbo_tensor *q = elbo_input(g, "q", ELBO_F32, 3, (int64_t[]){1, 2, 10});
  return elbo_attention(q, q, q, NULL, 3, 0, 0);
}

static void test_uneven_heads(void **state) {
  (void)state;
  assert_build_refused(build_uneven, NULL, "10 channels do not come apart into 3 heads");
}

int main(int argc, char **argv) {
  op_check_bench_arguments(argc, argv);
  if (op_check_benching()) {
    const params shapes[] = {
        {8, 256, 256, 8, 8, -1, {0}, 0, 0},    {32, 64, 64, 8, 8, -1, {0}, 0, 0},     {1, 4096, 4096, 40, 2, -1, {0}, 0, 0},
        {1, 4096, 77, 40, 8, -1, {0}, 0, 0},   {1, 256, 256, 160, 8, -1, {0}, 0, 0},  {1, 4096, 4096, 512, 1, -1, {0}, 0, 0},
        {8, 256, 256, 64, 4, -1, {0}, 0, 0},   {2, 1024, 1024, 64, 8, -1, {0}, 0, 0}, {8, 256, 256, 256, 1, -1, {0}, 0, 0},
        {1, 2048, 2048, 64, 1, -1, {0}, 0, 0}, {8, 256, 77, 40, 8, -1, {0}, 0, 0}};
    for (int i = 0; i < (int)(sizeof shapes / sizeof *shapes); i++) {
      const params *p = &shapes[i];
      char name[64];
      snprintf(name, sizeof name, "B %d Nq %d Nk %d heads %d d %d", (int)p->batch, (int)p->nq, (int)p->nk, p->heads, (int)p->d);
      op_check_bench(&(op_check){.name = name, .orders = 1}, build, p);
    }
    return 0;
  }
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_random_shapes), cmocka_unit_test(test_chosen_shapes), cmocka_unit_test(test_rounded),
      cmocka_unit_test(test_threads),       cmocka_unit_test(test_extremes),      cmocka_unit_test(test_memory),
      cmocka_unit_test(test_refused),       cmocka_unit_test(test_uneven_heads),  cmocka_unit_test(test_rising_maximum),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
