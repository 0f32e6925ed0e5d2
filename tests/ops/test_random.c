// Random numbers: against the oracle, as distributions, and as a function of (seed, stream, sample, element) and nothing else.
#include <elbo/ops.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/philox.h"
#include "ops/initial_values.h"
#include "support/op_check.h"

typedef elbo_tensor *(*random_fn)(elbo_graph *g, const char *name, int rank, const int64_t *dim);

typedef struct random_case {
  random_fn draw;
  int rank;
  int64_t dim[ELBO_MAX_RANK];
} random_case;

static elbo_tensor *build_random(elbo_graph *g, const void *arg) {
  const random_case *c = arg;
  return c->draw(g, "noise", c->rank, c->dim);
}

static void test_shapes(void **state) {
  (void)state;
  static const random_case cases[] = {
      {elbo_random_normal, 1, {1}},          {elbo_random_normal, 1, {1031}},    {elbo_random_normal, 2, {7, 3}},
      {elbo_random_normal, 2, {130, 20}},    {elbo_random_normal, 2, {5, 1023}}, {elbo_random_normal, 4, {3, 9, 11, 5}},
      {elbo_random_uniform, 1, {517}},       {elbo_random_uniform, 2, {129, 5}}, {elbo_random_uniform, 5, {3, 2, 5, 7, 11}},
      {elbo_random_uniform, 3, {2, 64, 33}},
  };
  bool ok = true;
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    op_check check = {
        .name = cases[i].draw == elbo_random_normal ? "random_normal" : "random_uniform", .seed = test_seed() + i, .tolerance = 1e-6};
    ok &= op_check_run(&check, build_random, &cases[i]);
  }
  assert_true(ok);
}

// Draws of `batch` examples from global sample `first` on, in a graph with the given scope (NULL: none), into out.
static void draw(elbo_ctx *ctx, random_fn fn, const char *scope, const char *name, int64_t seed, int64_t first, int64_t batch,
                 int64_t per_sample, int fuse, float *out) {
  elbo_graph *g;
  elbo_plan *p;
  assert_ok(ctx, elbo_graph_create(ctx, "draw", &g));
  if (scope) elbo_scope_push(g, scope);
  elbo_tensor *x = fn(g, name, 2, (int64_t[]){batch, per_sample});
  elbo_tensor *outs[2] = {x, elbo_exp(elbo_scale(x, 0.5, 0.1))}; // something to fuse with
  elbo_plan_config config;
  elbo_plan_defaults(&config);
  config.fuse = fuse;
  assert_ok(ctx, elbo_plan_create(ctx, g, 2, outs, &config, &p));
  *(int64_t *)elbo_plan_input(p, "seed") = seed;
  for (int64_t b = 0; b < batch; b++) ((int64_t *)elbo_plan_input(p, "sample_index"))[b] = first + b;
  assert_ok(ctx, elbo_plan_run(p, NULL));
  memcpy(out, elbo_plan_output(p, 0), (size_t)(batch * per_sample) * sizeof *out);
  elbo_plan_destroy(&p);
  elbo_graph_destroy(&g);
}

// Batch split, threads and fusion change nothing; seed, name, scope and sample change everything.
static void test_invariance(void **state) {
  (void)state;
  static const int64_t lengths[] = {1, 3, 20, 400, 1001};
  static const random_fn fns[] = {elbo_random_normal, elbo_random_uniform};
  enum { B = 96 };
  float *whole = malloc(B * 1001 * sizeof *whole), *other = malloc(B * 1001 * sizeof *other);
  assert_non_null(whole);
  assert_non_null(other);
  elbo_ctx *one = test_ctx(1), *three = test_ctx(3);
  for (int f = 0; f < 2; f++)
    for (size_t l = 0; l < sizeof lengths / sizeof lengths[0]; l++) {
      int64_t n = lengths[l], first = ((int64_t)1 << 40) - 50;
      size_t bytes = (size_t)(B * n) * sizeof *whole;
      draw(one, fns[f], NULL, "noise", 7, first, B, n, 0, whole);
      draw(three, fns[f], NULL, "noise", 7, first, B, n, 0, other);
      assert_memory_equal(whole, other, bytes);
      draw(one, fns[f], NULL, "noise", 7, first, B, n, 1, other);
      assert_memory_equal(whole, other, bytes);
      draw(three, fns[f], NULL, "noise", 7, first, 37, n, 1, other);
      draw(one, fns[f], NULL, "noise", 7, first + 37, B - 37, n, 1, other + 37 * n);
      assert_memory_equal(whole, other, bytes);
      draw(one, fns[f], NULL, "noise", 8, first, B, n, 0, other);
      assert_memory_not_equal(whole, other, bytes);
      draw(one, fns[f], NULL, "noise", 7 + ((int64_t)1 << 32), first, B, n, 0, other);
      assert_memory_not_equal(whole, other, bytes);
      draw(one, fns[f], NULL, "noises", 7, first, B, n, 0, other);
      assert_memory_not_equal(whole, other, bytes);
      draw(one, fns[f], "decoder", "noise", 7, first, B, n, 0, other);
      assert_memory_not_equal(whole, other, bytes);
      draw(one, fns[f], NULL, "noise", 7, first + ((int64_t)1 << 32), B, n, 0, other);
      assert_memory_not_equal(whole, other, bytes);
    }
  elbo_ctx_destroy(&one);
  elbo_ctx_destroy(&three);
  free(whole);
  free(other);
}

// The scope is part of the name, and nothing else is.
static void test_scope(void **state) {
  (void)state;
  float a[60], b[60];
  elbo_ctx *ctx = test_ctx(1);
  draw(ctx, elbo_random_normal, "decoder", "noise", 1, 0, 3, 20, 0, a);
  draw(ctx, elbo_random_normal, NULL, "decoder.noise", 1, 0, 3, 20, 0, b);
  assert_memory_equal(a, b, sizeof a);
  elbo_ctx_destroy(&ctx);
}

// Uniform numbers to the bit, in every variant.
static void test_words(void **state) {
  (void)state;
  enum { B = 5, N = 77 };
  float x[B * N];
  for (int isa = 0; isa < ISA_COUNT; isa++) {
    elbo_ctx *ctx = test_ctx_isa(1, (isa_level)isa);
    if (!ctx) continue;
    draw(ctx, elbo_random_uniform, NULL, "u", -3, 1000, B, N, 0, x);
    for (int64_t b = 0; b < B; b++)
      for (int64_t e = 0; e < N; e++) {
        uint32_t word[4];
        philox_draw((uint64_t)-3, philox_stream("u"), (uint64_t)(1000 + b), (uint32_t)(e / 4), word);
        assert_true((double)x[b * N + e] == philox_uniform(word[e % 4]));
      }
    elbo_ctx_destroy(&ctx);
  }
}

// Moments of a million draws, within five standard errors, and the two ends of the range.
static void test_moments(void **state) {
  (void)state;
  enum { B = 1000, N = 1000, COUNT = B * N };
  float *x = malloc(COUNT * sizeof *x);
  assert_non_null(x);
  elbo_ctx *ctx = test_ctx(0);
  double m[5] = {0}, neighbours = 0;
  draw(ctx, elbo_random_normal, NULL, "noise", (int64_t)test_seed(), 0, B, N, 0, x);
  for (int i = 0; i < COUNT; i++) {
    double p = 1;
    for (int k = 0; k < 5; k++, p *= x[i]) m[k] += p / COUNT;
    if (i > 0) neighbours += (double)x[i] * x[i - 1] / COUNT;
  }
  assert_near(m[1], 0, 5 * sqrt(1.0 / COUNT));
  assert_near(m[2], 1, 5 * sqrt(2.0 / COUNT));
  assert_near(m[3], 0, 5 * sqrt(15.0 / COUNT));
  assert_near(m[4], 3, 5 * sqrt(96.0 / COUNT));
  assert_near(neighbours, 0, 5 * sqrt(1.0 / COUNT));
  draw(ctx, elbo_random_uniform, NULL, "noise", (int64_t)test_seed(), 0, B, N, 0, x);
  double mean = 0, square = 0, low = 1, high = 0;
  for (int i = 0; i < COUNT; i++) {
    mean += (double)x[i] / COUNT;
    square += (double)x[i] * x[i] / COUNT;
    low = fmin(low, x[i]);
    high = fmax(high, x[i]);
  }
  assert_near(mean, 0.5, 5 * sqrt(1.0 / 12 / COUNT));
  assert_near(square, 1.0 / 3, 5 * sqrt(4.0 / 45 / COUNT));
  assert_true(low >= 0 && low < 2e-5 && high < 1 && high > 1 - 2e-5);
  elbo_ctx_destroy(&ctx);
  free(x);
}

static void test_errors(void **state) {
  (void)state;
  static const char *const part[] = {"rank 0", "axis 1 has length 0", "needs a name"};
  for (int kind = 0; kind < 3; kind++) {
    elbo_ctx *ctx = test_ctx(1);
    elbo_graph *g;
    assert_ok(ctx, elbo_graph_create(ctx, "wrong", &g));
    assert_null(elbo_random_normal(g, kind == 2 ? "" : "noise", kind == 0 ? 0 : 2, (int64_t[]){3, kind == 1 ? 0 : 2}));
    assert_status(ctx, elbo_graph_check(g), ELBO_ERROR_ARGUMENT, part[kind]);
    elbo_graph_destroy(&g);
    elbo_ctx_destroy(&ctx);
  }
}

// Another stream's numbers are not mistaken for these.
static elbo_tensor *build_wrong_stream(elbo_graph *g, const void *arg) {
  const random_case *c = arg;
  return elbo_sub(c->draw(g, "noise", c->rank, c->dim), c->draw(g, "other", c->rank, c->dim));
}

static void test_streams_differ(void **state) {
  (void)state;
  random_case c = {elbo_random_uniform, 2, {20, 50}};
  elbo_ctx *ctx = test_ctx(1);
  elbo_graph *g;
  elbo_plan *p;
  assert_ok(ctx, elbo_graph_create(ctx, "streams", &g));
  elbo_tensor *y = build_wrong_stream(g, &c);
  assert_ok(ctx, elbo_plan_create(ctx, g, 1, &y, NULL, &p));
  assert_ok(ctx, elbo_plan_run(p, NULL));
  int equal = 0;
  for (int i = 0; i < 1000; i++) equal += ((const float *)elbo_plan_output(p, 0))[i] == 0.0f;
  assert_true(equal < 5);
  elbo_plan_destroy(&p);
  elbo_graph_destroy(&g);
  elbo_ctx_destroy(&ctx);
}

// First values of parameters: the scalar formula to the bit, wherever a thread's part begins and the parameter ends.
static void test_uniform_values(void **unused) {
  (void)unused;
  enum { COUNT = 403, BEGIN = 7 };
  const uint64_t seed = 0x123456789abcULL;
  const double scale = 0.07;
  for (int isa = 0; isa <= (int)isa_best(); isa++) {
    float x[COUNT + 1];
    for (int i = 0; i <= COUNT; i++) x[i] = 77;
    uniform_values_of((isa_level)isa)(seed, 9, scale, BEGIN, 40, COUNT, x);
    uniform_values_of((isa_level)isa)(seed, 9, scale, 40, (COUNT + 3) / 4, COUNT, x);
    for (int i = 0; i <= COUNT; i++) {
      uint32_t word[4];
      philox_draw(seed, 9, 0, (uint32_t)(i / 4), word);
      float wanted = i < 4 * BEGIN || i == COUNT ? 77 : (float)((2 * philox_uniform(word[i % 4]) - 1) * scale);
      if (x[i] != wanted) fail_msg("%s: value %d is %.9g, not %.9g", isa_name((isa_level)isa), i, (double)x[i], (double)wanted);
    }
  }
}

int main(int argc, char **argv) {
  op_check_bench_arguments(argc, argv);
  if (op_check_benching()) {
    static const random_case latent = {elbo_random_normal, 2, {128, 20}}, image = {elbo_random_normal, 2, {128, 3072}},
                             uniform = {elbo_random_uniform, 2, {128, 3072}};
    op_check_bench(&(op_check){.name = "normal, 128 x 20", .seed = 1}, build_random, &latent);
    op_check_bench(&(op_check){.name = "normal, 128 x 3072", .seed = 1}, build_random, &image);
    op_check_bench(&(op_check){.name = "uniform, 128 x 3072", .seed = 1}, build_random, &uniform);
    return 0;
  }
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_uniform_values), cmocka_unit_test(test_shapes),         cmocka_unit_test(test_invariance),
      cmocka_unit_test(test_scope),          cmocka_unit_test(test_words),          cmocka_unit_test(test_moments),
      cmocka_unit_test(test_errors),         cmocka_unit_test(test_streams_differ),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
