#include "eval/codes.h"

#include <math.h>
#include <stdlib.h>

#include "core/ctx.h"
#include "core/memory.h"
#include "core/philox.h"
#include "eval/statistics.h"

int64_t active_units(const float *mean, int64_t n, int64_t d, double *variance) {
  int64_t active = 0;
  for (int64_t j = 0; j < d; j++) {
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < n; i++) sum += mean[i * d + j];
    double centre = sum / (double)n;
    for (int64_t i = 0; i < n; i++) squares += (mean[i * d + j] - centre) * (mean[i * d + j] - centre);
    double v = n > 1 ? squares / (double)(n - 1) : 0;
    active += v > 0.01;
    if (variance) variance[j] = v;
  }
  return active;
}

double active_units_error(const float *mean, int64_t n, int64_t d) {
  double variance = 0;
  for (int64_t j = 0; n > 3 && j < d; j++) {
    double sum = 0, second = 0, fourth = 0;
    for (int64_t i = 0; i < n; i++) sum += mean[i * d + j];
    for (int64_t i = 0; i < n; i++) {
      double u = (mean[i * d + j] - sum / (double)n) * (mean[i * d + j] - sum / (double)n);
      second += u / (double)n, fourth += u * u / (double)n;
    }
    double error = sqrt(fmax(fourth - second * second, 0) / (double)n); // of a sample variance
    double active = error > 0 ? 0.5 * erfc((0.01 - second) / (error * sqrt(2))) : second > 0.01;
    variance += active * (1 - active);
  }
  return n > 3 ? sqrt(variance) : NAN;
}

typedef struct pair_work {
  const float *mean, *std, *code;
  int64_t n, d;
  double *each;
  double *log_norm; // (n) sum of log std
} pair_work;

static void information_rows(void *arg, int64_t begin, int64_t end) {
  pair_work *w = arg;
  for (int64_t i = begin; i < end; i++) {
    weight_sum all = {0};
    double own = 0;
    for (int64_t j = 0; j < w->n; j++) {
      double sum = -w->log_norm[j];
      for (int64_t k = 0; k < w->d; k++) {
        double u = ((double)w->code[i * w->d + k] - w->mean[j * w->d + k]) / w->std[j * w->d + k];
        sum -= 0.5 * u * u;
      }
      if (j == i) own = sum;
      weight_sum_add(&all, sum);
    }
    w->each[i] = own - weight_sum_log_mean(&all);
  }
}

elbo_status index_code_information(elbo_ctx *ctx, const float *mean, const float *std, const float *code, int64_t n, int64_t d,
                                   double *each) {
  pair_work w = {.mean = mean, .std = std, .code = code, .n = n, .d = d, .each = each};
  TRY(array_new(ctx, (size_t)n, sizeof(double), "posterior widths", (void **)&w.log_norm));
  for (int64_t i = 0; i < n; i++)
    for (int64_t k = 0; k < d; k++) w.log_norm[i] += log((double)std[i * d + k]);
  parallel_for(&ctx->pool, n, 8, information_rows, &w);
  free(w.log_norm);
  return ELBO_OK;
}

typedef struct kernel_work {
  const float *a, *b;
  int64_t n, d;
  float *k; // (2n,2n)
} kernel_work;

static void kernel_rows(void *arg, int64_t begin, int64_t end) {
  kernel_work *w = arg;
  int64_t all = 2 * w->n, d = w->d;
  for (int64_t i = begin; i < end; i++)
    for (int64_t j = 0; j < all; j++) {
      const float *u = i < w->n ? w->a + i * d : w->b + (i - w->n) * d, *v = j < w->n ? w->a + j * d : w->b + (j - w->n) * d;
      double distance = 0;
      for (int64_t k = 0; k < d; k++) distance += ((double)u[k] - v[k]) * ((double)u[k] - v[k]);
      w->k[i * all + j] = (float)(2.0 * (double)d / (2.0 * (double)d + distance));
    }
}

// Unbiased estimate, the first n of `order` against the rest.
static double squared_discrepancy(const float *k, const int64_t *order, int64_t n) {
  double same = 0, cross = 0;
  for (int64_t i = 0; i < 2 * n; i++) {
    const float *row = k + order[i] * 2 * n;
    double first = 0, second = 0;
    for (int64_t j = 0; j < n; j++) first += row[order[j]];
    for (int64_t j = n; j < 2 * n; j++) second += row[order[j]];
    same += (i < n ? first : second) - 1; // k(x,x) = 1 left out
    cross += i < n ? second : 0;
  }
  return same / ((double)n * (double)(n - 1)) - 2 * cross / ((double)n * (double)n);
}

// Standard error of squared_discrepancy in the given order, to first order in 1/n: 2 sd(h_i)/sqrt(n), h_i the mean of the U-statistic's
// kernel over the partners of the pair (a_i, b_i) [Gretton12 sec. 6].
static double discrepancy_error(const float *k, int64_t n) {
  double sum = 0, squares = 0;
  for (int64_t i = 0; i < n; i++) {
    double h = 0;
    const float *a = k + i * 2 * n, *b = k + (n + i) * 2 * n;
    for (int64_t j = 0; j < n; j++)
      if (j != i) h += (double)a[j] + b[n + j] - a[n + j] - b[j];
    h /= (double)(n - 1);
    sum += h, squares += h * h;
  }
  double mean = sum / (double)n;
  return 2 * sqrt(fmax(squares / (double)n - mean * mean, 0) / (double)(n - 1));
}

elbo_status two_sample_test(elbo_ctx *ctx, const float *a, const float *b, int64_t n, int64_t d, int relabellings, uint64_t seed,
                            double *discrepancy, double *error, double *p_value) {
  kernel_work w = {.a = a, .b = b, .n = n, .d = d};
  int64_t *order = NULL, cells = 0;
  elbo_status status;
  if (n < 2 || !checked_mul(4 * n, n, &cells)) return fail(ctx, ELBO_ERROR_ARGUMENT, "two-sample test: %lld codes", (long long)n);
  TRY_GOTO(array_new(ctx, (size_t)cells, sizeof(float), "kernel matrix", (void **)&w.k));
  TRY_GOTO(array_new(ctx, (size_t)(2 * n), sizeof *order, "relabelling", (void **)&order));
  parallel_for(&ctx->pool, 2 * n, 8, kernel_rows, &w);
  for (int64_t i = 0; i < 2 * n; i++) order[i] = i;
  *discrepancy = squared_discrepancy(w.k, order, n);
  *error = discrepancy_error(w.k, n);
  int at_least = 0;
  for (int r = 0; r < relabellings; r++) {
    philox_permutation(seed, philox_stream("relabelling") + (uint32_t)r, 2 * n, order);
    at_least += squared_discrepancy(w.k, order, n) >= *discrepancy;
  }
  *p_value = (1.0 + at_least) / (1.0 + relabellings);
fail:
  free(w.k);
  free(order);
  return status;
}
