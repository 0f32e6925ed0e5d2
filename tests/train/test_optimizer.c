// The fused update: against PyTorch's own results, against the double-precision oracle, on every instruction set.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "support/test.h"

#include "core/memory.h"
#include "core/safetensors.h"
#include "train/optimizer.h"

static const isa_level levels[] = {ISA_BASE, ISA_V3, ISA_V4};

// Runs `each` on every variant that this machine has.
static int for_every_isa(void (*each)(elbo_ctx *ctx)) {
  int ran = 0;
  for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
    elbo_ctx *ctx = test_ctx_isa(2, levels[i]);
    if (!ctx) {
      print_message("[ skip     ] variant %s: not on this machine\n", isa_name(levels[i]));
      continue;
    }
    each(ctx);
    elbo_ctx_destroy(&ctx);
    ran++;
  }
  return ran;
}

// --- PyTorch ---

static const float *golden(const safetensors *file, const char *name, const char *part) {
  char full[256];
  snprintf(full, sizeof full, "%s%s%s", name, part ? "." : "", part ? part : "");
  const tensor_view *v = safetensors_find(file, full);
  assert_non_null(v);
  return v->data;
}

static void check_case(elbo_ctx *ctx, const safetensors *file, const char *name) {
  const int64_t steps = 6, n = 19;
  float c[7], param[32] = {0};
  memcpy(c, golden(file, name, "config"), sizeof c);
  optimizer_config config = {(int)c[6], c[0], c[1], c[2], c[3], c[4], c[5]};
  const float *gradient = golden(file, "gradient", NULL), *expected = golden(file, name, "param");
  memcpy(param, golden(file, "start", NULL), (size_t)n * sizeof(float));
  optimizer *o;
  assert_ok(ctx, optimizer_create(ctx, &config, 1, &(flat_range){0, n}, &o));
  for (int64_t s = 0; s < steps; s++) {
    double norm = optimizer_norm(o, gradient + s * n, 1.0);
    optimizer_apply(o, config.learning_rate, 1.0, norm, param, gradient + s * n, NULL);
    int64_t worst;
    if (!test_close(param, expected + s * n, n, 2e-6, &worst))
      fail_msg("%s on %s, step %lld: element %lld is %.9g, PyTorch's %.9g", name, elbo_ctx_isa(ctx), (long long)s, (long long)worst,
               (double)param[worst], (double)expected[s * n + worst]);
  }
  optimizer_destroy(&o);
}

static void golden_on(elbo_ctx *ctx) {
  safetensors *file;
  assert_ok(ctx, safetensors_open(ctx, test_repository_file("tests/golden/optimizers.safetensors"), &file));
  int cases = 0;
  for (int64_t i = 0; i < safetensors_count(file); i++) {
    char name[128];
    snprintf(name, sizeof name, "%s", safetensors_at(file, i)->name);
    char *dot = strstr(name, ".config");
    if (!dot) continue;
    *dot = '\0';
    check_case(ctx, file, name);
    cases++;
  }
  assert_int_equal(cases, 9);
  safetensors_close(&file);
}

static void agrees_with_pytorch(void **state) {
  (void)state;
  assert_true(for_every_isa(golden_on) > 0);
}

// --- the oracle ---

typedef struct trial {
  int kind;
  bool momentum, ema, decay;
  int64_t n;
} trial;

// The fused update of `steps` updates against the oracle; the largest relative error. `tampered`: the oracle is given another beta2.
static double update_error(elbo_ctx *ctx, const trial *k, bool tampered) {
  const optimizer_kernels *kernels = optimizer_kernels_of(ctx->isa);
  test_random r = {test_seed(), 0};
  size_t n = (size_t)k->n;
  float *f[5];
  double *d[5], worst = 0;
  for (int i = 0; i < 5; i++) {
    f[i] = calloc(n + 1, sizeof(float));
    d[i] = calloc(n + 1, sizeof(double));
  }
  test_fill_normal(&r, f[0], k->n, 1);
  for (size_t i = 0; i < n; i++) d[0][i] = d[4][i] = (double)(f[4][i] = f[0][i]);
  bool adam = k->kind == OPTIMIZER_ADAM || k->kind == OPTIMIZER_ADAMW, m = adam || k->momentum, v = k->kind != OPTIMIZER_SGD;
  for (int step = 1; step <= 4; step++) {
    test_fill_normal(&r, f[1], k->n, step == 2 ? 1e3 : 1e-2);
    for (size_t i = 0; i < n; i++) d[1][i] = (double)f[1][i];
    optimizer_scalars s = {k->kind, 0.01, m ? 0.9 : 0, 0.99, 1e-8, k->decay ? 0.05 : 0, 0.5, 1 - pow(0.9, step), 1 - pow(0.99, step), 0.7};
    kernels->update(&s, k->n, f[0], f[1], m ? f[2] : NULL, v ? f[3] : NULL, k->ema ? f[4] : NULL);
    if (tampered) s.beta2 = 0.98;
    optimizer_update_ref(&s, k->n, d[0], d[1], m ? d[2] : NULL, v ? d[3] : NULL, k->ema ? d[4] : NULL);
  }
  for (int a = 0; a < 5; a++)
    for (size_t i = 0; i < n; i++) {
      double error = fabs((double)f[a][i] - d[a][i]) / (1 + fabs(d[a][i]));
      if (!(error <= worst)) worst = error;
    }
  assert_true(f[0][n] == 0 && f[4][n] == 0); // nothing is written past the end
  for (int i = 0; i < 5; i++) {
    free(f[i]);
    free(d[i]);
  }
  return worst;
}

static void oracle_on(elbo_ctx *ctx) {
  for (int kind = 0; kind < 4; kind++)
    for (int bits = 0; bits < 8; bits++)
      for (int64_t n = 1; n < 80; n += 13) {
        trial k = {kind, bits & 1, bits & 2, bits & 4, n};
        double error = update_error(ctx, &k, false);
        if (!(error <= 2e-6))
          fail_msg("kind %d momentum %d ema %d decay %d n %lld on %s, seed %llu: error %g", kind, k.momentum, k.ema, k.decay, (long long)n,
                   elbo_ctx_isa(ctx), (unsigned long long)test_seed(), error);
      }
}

static void agrees_with_the_oracle(void **state) {
  (void)state;
  assert_true(for_every_isa(oracle_on) > 0);
}

static void a_wrong_beta_is_caught(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  trial k = {OPTIMIZER_ADAMW, true, true, true, 33};
  assert_true(update_error(ctx, &k, true) > 2e-6);
  elbo_ctx_destroy(&ctx);
}

// --- groups ---

enum { FLAT = 100000 };

static const flat_range two_ranges[2] = {{16, 20017}, {40000, 99984}};

// Norm, parameters and averages after two updates of a group of two ranges.
static double run_group(elbo_ctx *ctx, float *param, float *ema) {
  optimizer_config config = {OPTIMIZER_ADAMW, 1e-2, 0.9, 0.99, 1e-8, 0.1, 1.0};
  float *gradient = calloc(FLAT, sizeof(float));
  test_random r = {5, 0};
  test_fill_normal(&r, param, FLAT, 1);
  memcpy(ema, param, FLAT * sizeof(float));
  optimizer *o;
  assert_ok(ctx, optimizer_create(ctx, &config, 2, two_ranges, &o));
  assert_int_equal(optimizer_size(o), 20001 + 59984);
  assert_int_equal(optimizer_packed_offset(o, 40001), 20002);
  assert_int_equal(optimizer_packed_offset(o, 30000), -1);
  double norm = 0;
  for (int step = 0; step < 2; step++) {
    test_fill_normal(&r, gradient, FLAT, 1);
    norm = optimizer_norm(o, gradient, 0.5);
    optimizer_apply(o, 1e-2, 0.5, norm, param, gradient, &(weight_averages){1, {ema}, {0.9}});
  }
  double sum = 0;
  for (int k = 0; k < 2; k++)
    for (int64_t i = two_ranges[k].begin; i < two_ranges[k].end; i++) sum += 0.25 * (double)gradient[i] * (double)gradient[i];
  assert_near(norm, sqrt(sum), 1e-9 * sqrt(sum));
  assert_int_equal(optimizer_updates(o), 2);
  optimizer_destroy(&o);
  free(gradient);
  return norm;
}

static void groups_leave_the_rest_alone_and_threads_change_nothing(void **state) {
  (void)state;
  float *a = calloc(FLAT, sizeof(float)), *b = calloc(FLAT, sizeof(float)), *ea = calloc(FLAT, sizeof(float)),
        *eb = calloc(FLAT, sizeof(float));
  elbo_ctx *one = test_ctx(1), *three = test_ctx(3);
  double norm1 = run_group(one, a, ea), norm3 = run_group(three, b, eb);
  assert_true(norm1 == norm3);
  assert_memory_equal(a, b, FLAT * sizeof(float));
  assert_memory_equal(ea, eb, FLAT * sizeof(float));
  test_random r = {5, 0};
  test_fill_normal(&r, b, FLAT, 1); // the start
  int64_t changed = 0;
  for (int64_t i = 0; i < FLAT; i++) {
    bool in = (i >= 16 && i < 20017) || (i >= 40000 && i < 99984);
    if (!in) assert_true(a[i] == b[i] && ea[i] == b[i]);
    changed += a[i] != b[i];
  }
  assert_true(changed > 79000);
  elbo_ctx_destroy(&one);
  elbo_ctx_destroy(&three);
  free(a), free(b), free(ea), free(eb);
}

static double first_norm;
static void norm_on(elbo_ctx *ctx) {
  float *a = calloc(FLAT, sizeof(float)), *b = calloc(FLAT, sizeof(float));
  double norm = run_group(ctx, a, b);
  if (first_norm == 0) first_norm = norm;
  assert_true(norm == first_norm); // to the bit, on every variant
  free(a), free(b);
}

static void norm_is_the_same_on_every_variant(void **state) {
  (void)state;
  first_norm = 0;
  assert_true(for_every_isa(norm_on) > 0);
}

static void norm_sees_what_is_not_finite(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(2);
  optimizer_config config = {OPTIMIZER_SGD, 1, 0, 0, 0, 0, 0};
  optimizer *o;
  float g[100] = {0};
  assert_ok(ctx, optimizer_create(ctx, &config, 1, &(flat_range){0, 100}, &o));
  assert_int_equal(optimizer_moments(o), 0);
  g[17] = 3e38f; // its square is past a float's range
  assert_near(optimizer_norm(o, g, 1), (double)3e38f, 1e30);
  g[99] = NAN;
  assert_true(isnan(optimizer_norm(o, g, 1)));
  g[99] = INFINITY;
  assert_true(isinf(optimizer_norm(o, g, 1)));
  optimizer_destroy(&o);
  elbo_ctx_destroy(&ctx);
}

static void bench_on(elbo_ctx *ctx) {
  const int64_t n = 4000000;
  optimizer_config config = {OPTIMIZER_ADAMW, 1e-3, 0.9, 0.999, 1e-8, 0.01, 1.0};
  optimizer *o;
  float *p, *g, *e;
  assert_ok(ctx, aligned_new(ctx, (size_t)n * 4, "bench", (void **)&p));
  assert_ok(ctx, aligned_new(ctx, (size_t)n * 4, "bench", (void **)&g));
  assert_ok(ctx, aligned_new(ctx, (size_t)n * 4, "bench", (void **)&e));
  assert_ok(ctx, optimizer_create(ctx, &config, 1, &(flat_range){0, n}, &o));
  test_random r = {1, 0};
  test_fill_normal(&r, g, n, 1);
  double best = 1e9;
  for (int i = 0; i < 12; i++) {
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    optimizer_apply(o, 1e-3, 1, optimizer_norm(o, g, 1), p, g, &(weight_averages){1, {e}, {0.999}});
    clock_gettime(CLOCK_MONOTONIC, &b);
    double s = (double)(b.tv_sec - a.tv_sec) + 1e-9 * (double)(b.tv_nsec - a.tv_nsec);
    if (s < best) best = s;
  }
  // norm: 4 bytes read; update: 5 read, 4 written
  print_message("adamw+ema+clip %s: %lld parameters in %.2f ms, %.1f GB/s\n", elbo_ctx_isa(ctx), (long long)n, 1e3 * best,
                (double)n * 40 / best * 1e-9);
  optimizer_destroy(&o);
  aligned_free(p), aligned_free(g), aligned_free(e);
}

int main(int argc, char **argv) {
  if (argc > 1 && strcmp(argv[1], "--bench") == 0) return for_every_isa(bench_on) > 0 ? 0 : 1;
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(agrees_with_pytorch),
      cmocka_unit_test(agrees_with_the_oracle),
      cmocka_unit_test(a_wrong_beta_is_caught),
      cmocka_unit_test(groups_leave_the_rest_alone_and_threads_change_nothing),
      cmocka_unit_test(norm_is_the_same_on_every_variant),
      cmocka_unit_test(norm_sees_what_is_not_finite),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
