#include "eval/gaussian_mixture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/ctx.h"
#include "core/memory.h"
#include "core/philox.h"
#include "eval/statistics.h"

enum { MOST_ROUNDS = 60 };
#define TINY 1e-4 // added to variances: a component may not shrink to a point

elbo_status gaussian_mixture_new(elbo_ctx *ctx, int64_t components, int64_t d, gaussian_mixture *out) {
  *out = (gaussian_mixture){.components = components, .d = d};
  int64_t cells;
  elbo_status status;
  if (!checked_mul(components, d, &cells) || !checked_mul(cells, d, &cells) || cells > (1 << 28))
    return fail(ctx, ELBO_ERROR_ARGUMENT, "a mixture of %lld components in %lld dimensions is out of range", (long long)components,
                (long long)d);
  TRY_GOTO(array_new(ctx, (size_t)components, sizeof(float), "a mixture", (void **)&out->weight));
  TRY_GOTO(array_new(ctx, (size_t)(components * d), sizeof(float), "a mixture", (void **)&out->mean));
  TRY_GOTO(array_new(ctx, (size_t)cells, sizeof(float), "a mixture", (void **)&out->factor));
  return ELBO_OK;
fail:
  gaussian_mixture_free(out);
  return status;
}

void gaussian_mixture_free(gaussian_mixture *m) {
  free(m->weight);
  free(m->mean);
  free(m->factor);
  *m = (gaussian_mixture){0};
}

// log weight + log density of one component; u: (d) scratch
static double component_log_density(const gaussian_mixture *m, int64_t k, const float *x, double *u) {
  int64_t d = m->d;
  const float *l = m->factor + k * d * d, *mean = m->mean + k * d;
  double total = log((double)m->weight[k]) - 0.91893853320467274178 * (double)d;
  for (int64_t i = 0; i < d; i++) { // forward substitution: l u = x - mean
    double v = (double)x[i] - mean[i];
    for (int64_t j = 0; j < i; j++) v -= l[i * d + j] * u[j];
    u[i] = v / l[i * d + i];
    total -= 0.5 * u[i] * u[i] + log((double)l[i * d + i]);
  }
  return total;
}

double gaussian_mixture_log_density(const gaussian_mixture *m, const float *x) {
  double *u = malloc((size_t)m->d * sizeof *u);
  weight_sum sum = {0};
  if (!u) return NAN;
  for (int64_t k = 0; k < m->components; k++)
    if (m->weight[k] > 0) weight_sum_add(&sum, component_log_density(m, k, x, u));
  free(u);
  return sum.largest + log(sum.sum);
}

void gaussian_mixture_draw(const gaussian_mixture *m, uint64_t seed, uint64_t index, double temperature, float *out) {
  uint32_t word[4], stream = philox_stream("mixture");
  philox_draw(seed, stream, index, UINT32_MAX, word);
  double u = philox_uniform(word[0]), before = 0;
  int64_t k = 0, d = m->d;
  while (k + 1 < m->components && (before += m->weight[k]) <= u) k++;
  const float *l = m->factor + k * d * d;
  for (int64_t i = 0; i < d; i++) out[i] = m->mean[k * d + i];
  for (int64_t j = 0; j < d; j++) {
    double pair[2];
    philox_draw(seed, stream, index, (uint32_t)(j / 2), word);
    philox_normal2(word[0], word[1], pair);
    for (int64_t i = j; i < d; i++) out[i] += (float)(temperature * l[i * d + j] * pair[j % 2]);
  }
}

// covariance (d,d) to its lower factor, in place in `to`
static bool cholesky(const double *covariance, int64_t d, float *to) {
  memset(to, 0, (size_t)(d * d) * sizeof *to);
  for (int64_t i = 0; i < d; i++)
    for (int64_t j = 0; j <= i; j++) {
      double v = covariance[i * d + j];
      for (int64_t k = 0; k < j; k++) v -= (double)to[i * d + k] * to[j * d + k];
      if (i == j && !(v > 0)) return false;
      to[i * d + j] = (float)(i == j ? sqrt(v) : v / to[j * d + j]);
    }
  return true;
}

typedef struct fit_work {
  const gaussian_mixture *m;
  gaussian_mixture *next;
  const float *x;
  int64_t n;
  double *share;    // (n,components)
  double *log_p;    // (n)
  bool *degenerate; // (components)
} fit_work;

static void expectation(void *arg, int64_t begin, int64_t end) {
  fit_work *w = arg;
  int64_t components = w->m->components, d = w->m->d;
  double *u = malloc((size_t)d * sizeof *u);
  for (int64_t i = begin; i < end && u; i++) {
    double *share = w->share + i * components;
    for (int64_t k = 0; k < components; k++) share[k] = w->m->weight[k] > 0 ? component_log_density(w->m, k, w->x + i * d, u) : -INFINITY;
    w->log_p[i] = log_sum_exp(share, components);
    for (int64_t k = 0; k < components; k++) share[k] = exp(share[k] - w->log_p[i]);
  }
  free(u);
}

static void maximisation(void *arg, int64_t begin, int64_t end) {
  fit_work *w = arg;
  int64_t components = w->next->components, d = w->next->d;
  double *mean = malloc((size_t)d * sizeof *mean), *covariance = malloc((size_t)(d * d) * sizeof *covariance);
  for (int64_t k = begin; k < end && mean && covariance; k++) {
    double total = 1e-9;
    memset(mean, 0, (size_t)d * sizeof *mean);
    memset(covariance, 0, (size_t)(d * d) * sizeof *covariance);
    for (int64_t i = 0; i < w->n; i++) {
      double s = w->share[i * components + k];
      total += s;
      for (int64_t j = 0; j < d; j++) mean[j] += s * w->x[i * d + j];
    }
    for (int64_t j = 0; j < d; j++) mean[j] /= total;
    for (int64_t i = 0; i < w->n; i++) {
      double s = w->share[i * components + k];
      if (s < 1e-8) continue;
      for (int64_t a = 0; a < d; a++)
        for (int64_t b = 0; b <= a; b++) covariance[a * d + b] += s * (w->x[i * d + a] - mean[a]) * (w->x[i * d + b] - mean[b]);
    }
    for (int64_t a = 0; a < d * d; a++) covariance[a] /= total;
    for (int64_t a = 0; a < d; a++) covariance[a * d + a] += TINY;
    w->degenerate[k] = !cholesky(covariance, d, w->next->factor + k * d * d);
    w->next->weight[k] = (float)(total / (double)w->n);
    for (int64_t j = 0; j < d; j++) w->next->mean[k * d + j] = (float)mean[j];
  }
  free(mean);
  free(covariance);
}

elbo_status gaussian_mixture_fit(elbo_ctx *ctx, const float *x, int64_t n, int64_t d, int64_t components, uint64_t seed,
                                 gaussian_mixture *out) {
  *out = (gaussian_mixture){0};
  if (components < 1 || n < components)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "a mixture of %lld components cannot be fitted to %lld points", (long long)components,
                (long long)n);
  elbo_status status;
  int64_t *order = NULL;
  fit_work w = {.m = out, .next = out, .x = x, .n = n};
  TRY(gaussian_mixture_new(ctx, components, d, out));
  TRY_GOTO(array_new(ctx, (size_t)n, sizeof *order, "a mixture", (void **)&order));
  TRY_GOTO(array_new(ctx, (size_t)(n * components), sizeof(double), "a mixture", (void **)&w.share));
  TRY_GOTO(array_new(ctx, (size_t)n, sizeof(double), "a mixture", (void **)&w.log_p));
  TRY_GOTO(array_new(ctx, (size_t)components, sizeof(bool), "a mixture", (void **)&w.degenerate));
  // begins with the points assigned to the nearest of some of them
  philox_permutation(seed, philox_stream("mixture.fit"), n, order);
  for (int64_t i = 0; i < n; i++) {
    double least = INFINITY;
    int64_t nearest = 0;
    for (int64_t k = 0; k < components; k++) {
      double distance = 0;
      for (int64_t j = 0; j < d; j++)
        distance += ((double)x[i * d + j] - x[order[k] * d + j]) * ((double)x[i * d + j] - x[order[k] * d + j]);
      if (distance < least) least = distance, nearest = k;
    }
    w.share[i * components + nearest] = 1;
  }
  double last = -INFINITY;
  for (int round = 0; round < MOST_ROUNDS; round++) {
    parallel_for(&ctx->pool, components, 1, maximisation, &w);
    for (int64_t k = 0; k < components; k++)
      if (w.degenerate[k]) {
        status = fail(ctx, ELBO_ERROR_NUMERIC, "fitting a mixture: component %lld has no covariance", (long long)k);
        goto fail;
      }
    parallel_for(&ctx->pool, n, 64, expectation, &w);
    double mean, error;
    mean_and_error(w.log_p, n, &mean, &error);
    if (mean - last < 1e-4) break;
    last = mean;
  }
  free(order), free(w.share), free(w.log_p), free(w.degenerate);
  return ELBO_OK;
fail:
  free(order), free(w.share), free(w.log_p), free(w.degenerate);
  gaussian_mixture_free(out);
  return status;
}
