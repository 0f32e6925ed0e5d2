// Distances between sets of features: closed forms, NumPy, permutations, identical sets, what is refused.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/openblas.h"
#include "core/safetensors.h"
#include "eval/feature_sets.h"
#include "support/test.h"

static void random_set(uint64_t seed, int64_t n, int64_t d, double *out) {
  test_random r = {.seed = seed};
  for (int64_t i = 0; i < n * d; i++) out[i] = test_normal(&r);
}

static double *doubles(int64_t n) {
  double *v = calloc((size_t)n, sizeof *v);
  assert_non_null(v);
  return v;
}

// --- the Fréchet distance ---

static void set_gaussian(feature_gaussian *g, int64_t d, double mean, double variance) {
  *g = (feature_gaussian){d, doubles(d), doubles(d * d)};
  for (int64_t i = 0; i < d; i++) g->mean[i] = mean, g->covariance[i * d + i] = variance;
}

// N(a, s^2 I) and N(b, t^2 I): d (a - b)^2 + d (s - t)^2. And in one plane [[2,1],[1,2]] against the unit matrix: tr 4 + 2 - 2 (1 + sqrt
// 3).
static void test_gaussians(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  feature_gaussian a, b;
  double distance;
  for (int d = 1; d < 40; d += 13) {
    set_gaussian(&a, d, 0.5, 4), set_gaussian(&b, d, -1, 9);
    assert_ok(ctx, frechet_between(ctx, &a, &b, &distance));
    assert_near(distance, d * (2.25 + 1), 1e-9 * d);
    assert_ok(ctx, frechet_between(ctx, &a, &a, &distance));
    assert_near(distance, 0, 1e-9 * d);
    feature_gaussian_free(&a), feature_gaussian_free(&b);
  }
  set_gaussian(&a, 2, 0, 2), set_gaussian(&b, 2, 0, 1);
  a.covariance[1] = a.covariance[2] = 1;
  assert_ok(ctx, frechet_between(ctx, &a, &b, &distance));
  assert_near(distance, 6 - 2 * (1 + sqrt(3)), 1e-12);
  // a covariance without full rank: [[1,1],[1,1]] against the unit matrix, tr 2 + 2 - 2 sqrt 2
  a.covariance[0] = a.covariance[3] = 1;
  assert_ok(ctx, frechet_between(ctx, &a, &b, &distance));
  assert_near(distance, 4 - 2 * sqrt(2), 1e-7);
  a.mean[1] = NAN;
  assert_status(ctx, frechet_between(ctx, &a, &b, &distance), ELBO_ERROR_NUMERIC, "not finite");
  feature_gaussian_free(&a), feature_gaussian_free(&b);
  elbo_ctx_destroy(&ctx);
}

static void test_fit(void **state) {
  (void)state;
  static const double x[] = {1, 0, 3, 2, 5, 7}; // three points of the plane
  elbo_ctx *ctx = test_ctx(1);
  feature_gaussian g;
  assert_ok(ctx, feature_gaussian_fit(ctx, &(feature_set){3, 2, x}, &g));
  assert_near(g.mean[0], 3, 1e-12), assert_near(g.mean[1], 3, 1e-12);
  assert_near(g.covariance[0], 4, 1e-12), assert_near(g.covariance[1], 7, 1e-12);
  assert_near(g.covariance[2], 7, 1e-12), assert_near(g.covariance[3], 13, 1e-12);
  feature_gaussian_free(&g);
  assert_status(ctx, feature_gaussian_fit(ctx, &(feature_set){1, 2, x}, &g), ELBO_ERROR_ARGUMENT, "at least 2");
  elbo_ctx_destroy(&ctx);
}

// Eigenvectors as rows, values ascending, the matrix put together again.
static void test_eigen(void **state) {
  (void)state;
  enum { D = 17 };
  elbo_ctx *ctx = test_ctx(2);
  double x[D * D], s[D * D], v[D * D], values[D];
  random_set(test_seed(), D, D, x);
  assert_ok(ctx, openblas_product(ctx, true, false, D, D, D, x, x, s));
  memcpy(v, s, sizeof v);
  assert_ok(ctx, openblas_symmetric_eigen(ctx, D, true, v, values));
  for (int i = 0; i < D; i++)
    for (int j = 0; j < D; j++) {
      double sum = 0, plain = 0;
      for (int k = 0; k < D; k++) sum += values[k] * v[k * D + i] * v[k * D + j], plain += x[k * D + i] * x[k * D + j];
      assert_near(s[i * D + j], plain, 1e-11);
      assert_near(sum, s[i * D + j], 1e-11);
    }
  for (int i = 1; i < D; i++) assert_true(values[i] >= values[i - 1]);
  elbo_ctx_destroy(&ctx);
}

// --- against NumPy ---

static feature_set stored(safetensors *file, const char *name, const char *field) {
  char key[64];
  snprintf(key, sizeof key, "%s.%s", name, field);
  const tensor_view *v = safetensors_find(file, key);
  if (!v) fail_msg("%s is missing", key);
  return (feature_set){v->rank > 0 ? v->dim[0] : 1, v->rank > 1 ? v->dim[1] : 1, v->data};
}

static void test_golden(void **state) {
  (void)state;
  static const char *const names[] = {"small", "wide", "features"};
  elbo_ctx *ctx = test_ctx(1);
  safetensors *file;
  assert_ok(ctx, safetensors_open(ctx, test_repository_file("tests/golden/quality.safetensors"), &file));
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    feature_set a = stored(file, names[i], "a"), b = stored(file, names[i], "b");
    double distance, precision, recall, want = *stored(file, names[i], "fid").at;
    assert_ok(ctx, frechet_distance(ctx, &a, &b, &distance));
    assert_near(distance, want, 1e-6 * (1 + want));
    assert_ok(ctx, precision_recall(ctx, &a, &b, &precision, &recall));
    assert_near(precision, *stored(file, names[i], "precision").at, 1e-12);
    assert_near(recall, *stored(file, names[i], "recall").at, 1e-12);
    // subsets of half a set scatter about the value of the whole sets
    kernel_distance k;
    want = *stored(file, names[i], "mmd").at;
    assert_ok(ctx, kernel_distance_estimate(ctx, &a, &b, 200, test_seed(), &k));
    assert_true(k.error > 0);
    assert_near(k.value, want, 4 * k.error);
  }
  safetensors_close(&file);
  elbo_ctx_destroy(&ctx);
}

// --- the kernel distance ---

static void test_kernel_distance(void **state) {
  (void)state;
  enum { N = 40, D = 5 };
  elbo_ctx *ctx = test_ctx(1);
  double *a = doubles(N * D), *b = doubles(N * D);
  kernel_distance k[3];
  random_set(3, N, D, a), random_set(4, N, D, b);
  feature_set sa = {N, D, a}, sb = {N, D, b};
  assert_ok(ctx, kernel_distance_estimate(ctx, &sa, &sb, 50, 7, &k[0]));
  assert_ok(ctx, kernel_distance_estimate(ctx, &sa, &sb, 50, 7, &k[1]));
  assert_true(k[0].value == k[1].value && k[0].subset_size == N / 2 && k[0].subsets == 50);
  assert_ok(ctx, kernel_distance_estimate(ctx, &sa, &sb, 50, 8, &k[2]));
  assert_true(k[0].value != k[2].value);
  // unbiased: of one distribution, zero on average, both signs occurring
  double mean = 0, squares = 0;
  int below = 0;
  enum { TRIALS = 60 };
  for (int i = 0; i < TRIALS; i++) {
    random_set(100 + (uint64_t)i, N, D, a), random_set(200 + (uint64_t)i, N, D, b);
    assert_ok(ctx, kernel_distance_estimate(ctx, &sa, &sb, 4, 1, &k[0]));
    mean += k[0].value / TRIALS, squares += k[0].value * k[0].value / TRIALS, below += k[0].value < 0;
  }
  assert_near(mean, 0, 4 * sqrt(squares / TRIALS));
  assert_true(below > 5 && below < TRIALS - 5);
  // N(0,1) against N(m,1) in one dimension: E(xx' + 1)^3 - 2 E(xy + 1)^3 + E(yy' + 1)^3 = 3 m^2 + 3 m^4 + (3 m + m^3)^2
  enum { MANY = 4000 };
  double *c = doubles(MANY), *d = doubles(MANY), m = 1;
  random_set(5, MANY, 1, c), random_set(6, MANY, 1, d);
  for (int i = 0; i < MANY; i++) d[i] += m;
  assert_ok(ctx, kernel_distance_estimate(ctx, &(feature_set){MANY, 1, c}, &(feature_set){MANY, 1, d}, 20, 1, &k[0]));
  assert_int_equal(k[0].subset_size, 1000);
  assert_near(k[0].value, 3 * m * m + 3 * pow(m, 4) + pow(3 * m + pow(m, 3), 2), 2);
  free(a), free(b), free(c), free(d);
  elbo_ctx_destroy(&ctx);
}

// --- precision and recall ---

static void test_precision_recall(void **state) {
  (void)state;
  enum { N = 60, D = 8 };
  elbo_ctx *ctx = test_ctx(1);
  double *a = doubles(N * D), *b = doubles(N * D), precision, recall;
  random_set(1, N, D, a);
  feature_set sa = {N, D, a}, sb = {N, D, b};
  memcpy(b, a, N * D * sizeof *a); // identical sets
  assert_ok(ctx, precision_recall(ctx, &sa, &sb, &precision, &recall));
  assert_true(precision == 1 && recall == 1);
  for (int i = 0; i < N; i++) memcpy(b + i * D, a + (N - 1 - i) * D, D * sizeof *a); // in another order
  assert_ok(ctx, precision_recall(ctx, &sa, &sb, &precision, &recall));
  assert_true(precision == 1 && recall == 1);
  for (int i = 0; i < N * D; i++) b[i] = a[i] + 100; // far away
  assert_ok(ctx, precision_recall(ctx, &sa, &sb, &precision, &recall));
  assert_true(precision == 0 && recall == 0);
  for (int i = 0; i < N; i++) memcpy(b + i * D, a, D * sizeof *a); // one real picture again and again: precise, and recalls itself alone
  assert_ok(ctx, precision_recall(ctx, &sa, &sb, &precision, &recall));
  assert_true(precision == 1);
  assert_near(recall, 1.0 / N, 1e-12);
  // on the line, radii to the third neighbour: 0, 1, 2, 3, 4 have 3, 2, 2, 2, 3
  static const double line[] = {0, 1, 2, 3, 4}, samples[] = {-3, -3.1, 7, 7.1, 20, 2.5};
  assert_ok(ctx, precision_recall(ctx, &(feature_set){5, 1, line}, &(feature_set){6, 1, samples}, &precision, &recall));
  assert_near(precision, 3.0 / 6, 1e-12);
  free(a), free(b);
  elbo_ctx_destroy(&ctx);
}

// The order of the pictures changes neither; scaling all features scales FID by the square.
static void test_invariance(void **state) {
  (void)state;
  enum { N = 50, D = 6 };
  elbo_ctx *ctx = test_ctx(1);
  double *a = doubles(N * D), *b = doubles(N * D), *c = doubles(N * D), first, second;
  random_set(11, N, D, a), random_set(12, N, D, b);
  for (int i = 0; i < N; i++) memcpy(c + i * D, b + (i * 7 % N) * D, D * sizeof *b);
  feature_set sa = {N, D, a}, sb = {N, D, b}, sc = {N, D, c};
  assert_ok(ctx, frechet_distance(ctx, &sa, &sb, &first));
  assert_ok(ctx, frechet_distance(ctx, &sc, &sa, &second));
  assert_true(first > 0.01);
  assert_near(first, second, 1e-9);
  for (int i = 0; i < N * D; i++) a[i] *= 3, c[i] *= 3;
  assert_ok(ctx, frechet_distance(ctx, &sa, &sc, &second));
  assert_near(second, 9 * first, 1e-8);
  free(a), free(b), free(c);
  elbo_ctx_destroy(&ctx);
}

static void test_refused(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  static const double x[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, bad[12] = {NAN};
  double p, q;
  kernel_distance k;
  feature_set six = {6, 2, x}, four = {4, 3, x}, three = {3, 2, x}, nan = {6, 2, bad};
  assert_status(ctx, frechet_distance(ctx, &six, &four, &p), ELBO_ERROR_ARGUMENT, "features of 2 and of 3 numbers");
  assert_status(ctx, kernel_distance_estimate(ctx, &six, &four, 10, 0, &k), ELBO_ERROR_ARGUMENT, "features of 2 and of 3 numbers");
  assert_status(ctx, precision_recall(ctx, &six, &four, &p, &q), ELBO_ERROR_ARGUMENT, "features of 2 and of 3 numbers");
  assert_status(ctx, kernel_distance_estimate(ctx, &six, &three, 10, 0, &k), ELBO_ERROR_ARGUMENT, "at least 4");
  assert_status(ctx, kernel_distance_estimate(ctx, &six, &six, 0, 0, &k), ELBO_ERROR_ARGUMENT, "subsets");
  assert_status(ctx, precision_recall(ctx, &six, &three, &p, &q), ELBO_ERROR_ARGUMENT, "more than 3");
  assert_status(ctx, frechet_distance(ctx, &six, &nan, &p), ELBO_ERROR_NUMERIC, "not finite");
  assert_status(ctx, kernel_distance_estimate(ctx, &six, &nan, 10, 0, &k), ELBO_ERROR_NUMERIC, "not finite");
  assert_status(ctx, precision_recall(ctx, &six, &nan, &p, &q), ELBO_ERROR_NUMERIC, "not finite");
  elbo_ctx_destroy(&ctx);
}

int main(void) {
  if (!openblas_version()) {
    print_message("skipped: OpenBLAS cannot be opened\n");
    return 77;
  }
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_gaussians),       cmocka_unit_test(test_fit),
      cmocka_unit_test(test_eigen),           cmocka_unit_test(test_golden),
      cmocka_unit_test(test_kernel_distance), cmocka_unit_test(test_precision_recall),
      cmocka_unit_test(test_invariance),      cmocka_unit_test(test_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
