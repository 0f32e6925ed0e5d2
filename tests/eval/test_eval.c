// Statistics, picture distances and code diagnostics against closed forms and small cases worked by hand.
#include "support/test.h"

#include <math.h>
#include <stdlib.h>

#include "eval/codes.h"
#include "eval/gaussian_mixture.h"
#include "eval/pictures.h"
#include "eval/statistics.h"

static void test_statistics(void **state) {
  (void)state;
  static const double v[4] = {1, 2, 3, 6};
  double mean, error;
  mean_and_error(v, 4, &mean, &error);
  assert_near(mean, 3, 1e-12);
  assert_near(error, sqrt((4 + 1 + 0 + 9) / 3.0 / 4), 1e-12);
  mean_and_error(v, 1, &mean, &error);
  assert_true(isnan(error));
  static const double huge[3] = {-1e5, -1e5 + 1, -1e5 - 2};
  assert_near(log_sum_exp(huge, 3), -1e5 + log(1 + exp(1) + exp(-2)), 1e-9);
  assert_true(isinf(log_sum_exp(huge, 0)));
  weight_sum s = {0};
  for (int i = 0; i < 3; i++) weight_sum_add(&s, huge[i]);
  double w[3] = {1, exp(1), exp(-2)}, sum = w[0] + w[1] + w[2], squares = w[0] * w[0] + w[1] * w[1] + w[2] * w[2];
  assert_near(weight_sum_log_mean(&s), -1e5 + log(sum / 3), 1e-9);
  assert_near(weight_sum_effective(&s), sum * sum / squares, 1e-9);
  assert_near(weight_sum_log_variance(&s), (3 * squares / (sum * sum) - 1) / 3, 1e-9);
  assert_true(seed_of_part(1, 0) != seed_of_part(1, 1) && seed_of_part(1, 0) != seed_of_part(2, 0));
}

static void test_pictures(void **state) {
  (void)state;
  float a[16 * 16], b[16 * 16];
  test_random r = {test_seed(), 0};
  for (int i = 0; i < 256; i++) a[i] = (float)test_uniform(&r), b[i] = 1 - a[i];
  assert_near(structural_similarity(a, a, 16, 16, 1), 1, 1e-9);
  assert_true(structural_similarity(a, b, 16, 16, 1) < -0.5); // turned inside out
  // two flat pictures: only the means differ
  for (int i = 0; i < 256; i++) a[i] = 0.25f, b[i] = 0.75f;
  assert_near(structural_similarity(a, b, 16, 16, 1), (2 * 0.25 * 0.75 + 1e-4) / (0.0625 + 0.5625 + 1e-4), 1e-6);
  assert_near(structural_similarity(a, b, 8, 8, 4), (2 * 0.25 * 0.75 + 1e-4) / (0.0625 + 0.5625 + 1e-4), 1e-6); // smaller than the window
  assert_near(picture_mean_squared_error(a, b, 256), 0.25, 1e-12);
  assert_near(decibels(0.001), 30, 1e-12);
}

static void test_codes(void **state) {
  (void)state;
  enum { N = 400, D = 3 };
  elbo_ctx *ctx = test_ctx(0);
  test_random r = {test_seed(), 0};
  float *mean = calloc(N * D, 4), *std = calloc(N * D, 4), *code = calloc(N * D, 4), *other = calloc(N * D, 4);
  double *each = calloc(N, sizeof *each), variance[D], information, error, discrepancy, p;
  for (int i = 0; i < N; i++) {
    mean[i * D] = (float)test_normal(&r), mean[i * D + 1] = 0.05f * (float)test_normal(&r), mean[i * D + 2] = 0.5f;
    std[i * D] = 1e-4f, std[i * D + 1] = std[i * D + 2] = 1;
    for (int k = 0; k < D; k++) code[i * D + k] = mean[i * D + k] + std[i * D + k] * (float)test_normal(&r);
  }
  assert_int_equal(active_units(mean, N, D, variance), 1);
  assert_near(variance[0], 1, 0.3);
  assert_near(active_units_error(mean, N, D), 0, 1e-6); // all far from the threshold
  for (int i = 0; i < N; i++) mean[i * D + 2] = 0.1f * (float)test_normal(&r);
  double undecided = active_units_error(mean, N, D); // one at the threshold: active or not is nearly a coin
  assert_true(undecided > 0.2 && undecided <= 0.5);
  for (int i = 0; i < N; i++) mean[i * D + 2] = 0.5f;
  // posteriors that do not overlap: the code names the example
  assert_ok(ctx, index_code_information(ctx, mean, std, code, N, D, each));
  mean_and_error(each, N, &information, &error);
  assert_near(information, log(N), 0.05);
  // posteriors that are all one: it says nothing
  for (int i = 0; i < N * D; i++) mean[i] = 0, std[i] = 1, code[i] = (float)test_normal(&r);
  assert_ok(ctx, index_code_information(ctx, mean, std, code, N, D, each));
  mean_and_error(each, N, &information, &error);
  assert_near(information, 0, 1e-6);
  // one number with mean N(0,1) and width s: I = log(1 + 1/s^2) / 2, for s = 1 and many examples
  for (int i = 0; i < N; i++) mean[i] = (float)test_normal(&r), std[i] = 1, code[i] = mean[i] + (float)test_normal(&r);
  assert_ok(ctx, index_code_information(ctx, mean, std, code, N, 1, each));
  mean_and_error(each, N, &information, &error);
  assert_near(information, 0.5 * log(2), 5 * error + 0.02);
  // the two-sample test: silent on two draws of one law, loud on a shifted one
  for (int i = 0; i < N * D; i++) code[i] = (float)test_normal(&r), other[i] = (float)test_normal(&r);
  assert_ok(ctx, two_sample_test(ctx, code, other, 200, D, 99, 1, &discrepancy, &error, &p));
  assert_true(p > 0.02);
  assert_true(error > 0 && error < 0.01);
  assert_near(discrepancy, 0, 0.01);
  for (int i = 0; i < N * D; i++) other[i] += 0.5f;
  assert_ok(ctx, two_sample_test(ctx, code, other, 200, D, 99, 1, &discrepancy, &error, &p));
  assert_true(p <= 0.02);
  // its standard error is the spread over new draws
  double values[40], mean_of_values, of_mean, told = 0;
  for (int k = 0; k < 40; k++) {
    for (int i = 0; i < 200 * D; i++) code[i] = (float)test_normal(&r), other[i] = 0.5f + (float)test_normal(&r);
    assert_ok(ctx, two_sample_test(ctx, code, other, 200, D, 1, 1, &values[k], &error, &p));
    told += error / 40;
  }
  mean_and_error(values, 40, &mean_of_values, &of_mean);
  assert_near(told, of_mean * sqrt(40), 0.4 * told);
  free(mean), free(std), free(code), free(other), free(each);
  elbo_ctx_destroy(&ctx);
}

// Points of two correlated clusters: the fit finds weights, means and covariances, and its draws have them too.
static void test_mixture(void **state) {
  (void)state;
  enum { N = 4000, D = 2 };
  elbo_ctx *ctx = test_ctx(0);
  test_random r = {test_seed(), 0};
  float *x = calloc(N * D, 4), draw[D];
  for (int i = 0; i < N; i++) {
    bool first = test_uniform(&r) < 0.3;
    double u = test_normal(&r), v = test_normal(&r);
    x[i * D] = (float)((first ? -3 : 2) + u), x[i * D + 1] = (float)((first ? 1 : -1) + 0.8 * u + 0.6 * v);
  }
  gaussian_mixture m, again;
  assert_ok(ctx, gaussian_mixture_fit(ctx, x, N, D, 2, 1, &m));
  assert_ok(ctx, gaussian_mixture_fit(ctx, x, N, D, 2, 1, &again));
  assert_memory_equal(m.factor, again.factor, 2 * D * D * sizeof(float));
  gaussian_mixture_free(&again);
  int k = m.mean[0] < 0 ? 0 : 1; // the first cluster
  assert_near(m.weight[k], 0.3, 0.03);
  assert_near(m.mean[k * D], -3, 0.15);
  assert_near(m.mean[(1 - k) * D + 1], -1, 0.15);
  const float *l = m.factor + (1 - k) * D * D;
  assert_near((double)l[0] * l[0], 1, 0.1);
  assert_near((double)l[0] * l[2], 0.8, 0.1);
  // its own entropy by draws, against the density at the points
  double own = 0, points = 0, below = 0;
  for (int i = 0; i < N; i++) {
    gaussian_mixture_draw(&m, 7, (uint64_t)i, 1, draw);
    own += gaussian_mixture_log_density(&m, draw) / N, points += gaussian_mixture_log_density(&m, x + i * D) / N, below += draw[0] < -0.5;
  }
  assert_near(own, points, 0.08);
  assert_near(below / N, 0.3, 0.04);
  assert_status(ctx, gaussian_mixture_fit(ctx, x, 1, D, 2, 1, &again), ELBO_ERROR_ARGUMENT, "cannot be fitted");
  gaussian_mixture_free(&m);
  free(x);
  elbo_ctx_destroy(&ctx);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_statistics), cmocka_unit_test(test_pictures), cmocka_unit_test(test_codes),
                                     cmocka_unit_test(test_mixture)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
