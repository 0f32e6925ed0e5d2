#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/openblas.h"
#include "core/memory.h"
#include "eval/feature_sets.h"

void feature_gaussian_free(feature_gaussian *g) {
  free(g->mean);
  free(g->covariance);
  *g = (feature_gaussian){0};
}

static elbo_status matrix_new(elbo_ctx *ctx, int64_t rows, int64_t columns, double **out) {
  int64_t count;
  *out = NULL;
  if (!checked_mul(rows, columns, &count)) return fail(ctx, ELBO_ERROR_ARGUMENT, "a matrix of features is out of range");
  return array_new(ctx, (size_t)count, sizeof **out, "features", (void **)out);
}

elbo_status feature_gaussian_fit(elbo_ctx *ctx, const feature_set *set, feature_gaussian *out) {
  int64_t n = set->n, d = set->d;
  double *centred = NULL;
  elbo_status status;
  *out = (feature_gaussian){.d = d};
  if (n < 2) return fail(ctx, ELBO_ERROR_ARGUMENT, "a covariance of %lld pictures; at least 2 were expected", (long long)n);
  TRY_GOTO(matrix_new(ctx, 1, d, &out->mean));
  TRY_GOTO(matrix_new(ctx, d, d, &out->covariance));
  TRY_GOTO(matrix_new(ctx, n, d, &centred));
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j < d; j++) out->mean[j] += set->at[i * d + j];
  for (int64_t j = 0; j < d; j++) out->mean[j] /= (double)n;
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j < d; j++) centred[i * d + j] = set->at[i * d + j] - out->mean[j];
  TRY_GOTO(openblas_product(ctx, true, false, d, d, n, centred, centred, out->covariance));
  for (int64_t i = 0; i < d * d; i++) out->covariance[i] /= (double)(n - 1);
fail:
  free(centred);
  if (status != ELBO_OK) feature_gaussian_free(out);
  return status;
}

// root (d,d): the symmetric square root of s, whose eigenvalues below zero are rounding
static elbo_status symmetric_root(elbo_ctx *ctx, int64_t d, const double *s, double *root) {
  double *vectors = NULL, *scaled = NULL, *values = NULL;
  elbo_status status;
  TRY_GOTO(matrix_new(ctx, d, d, &vectors));
  TRY_GOTO(matrix_new(ctx, d, d, &scaled));
  TRY_GOTO(matrix_new(ctx, 1, d, &values));
  memcpy(vectors, s, (size_t)(d * d) * sizeof *s);
  TRY_GOTO(openblas_symmetric_eigen(ctx, d, true, vectors, values));
  for (int64_t i = 0; i < d; i++)
    for (int64_t j = 0; j < d; j++) scaled[i * d + j] = vectors[i * d + j] * sqrt(values[i] > 0 ? values[i] : 0);
  status = openblas_product(ctx, true, false, d, d, d, vectors, scaled, root);
fail:
  free(vectors);
  free(scaled);
  free(values);
  return status;
}

// tr (S1 S2)^(1/2): S1 S2 has the eigenvalues of the symmetric R S2 R with R R = S1, and these are not negative.
static elbo_status trace_of_root(elbo_ctx *ctx, int64_t d, const double *s1, const double *s2, double *trace) {
  double *root = NULL, *half = NULL, *product = NULL, *values = NULL;
  elbo_status status;
  TRY_GOTO(matrix_new(ctx, d, d, &root));
  TRY_GOTO(matrix_new(ctx, d, d, &half));
  TRY_GOTO(matrix_new(ctx, d, d, &product));
  TRY_GOTO(matrix_new(ctx, 1, d, &values));
  TRY_GOTO(symmetric_root(ctx, d, s1, root));
  TRY_GOTO(openblas_product(ctx, false, false, d, d, d, root, s2, half));
  TRY_GOTO(openblas_product(ctx, false, false, d, d, d, half, root, product));
  TRY_GOTO(openblas_symmetric_eigen(ctx, d, false, product, values));
  *trace = 0;
  for (int64_t i = 0; i < d; i++) *trace += sqrt(values[i] > 0 ? values[i] : 0);
fail:
  free(root);
  free(half);
  free(product);
  free(values);
  return status;
}

elbo_status frechet_between(elbo_ctx *ctx, const feature_gaussian *a, const feature_gaussian *b, double *distance) {
  double trace, sum = 0;
  if (a->d != b->d)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "features of %lld and of %lld numbers cannot be compared", (long long)a->d, (long long)b->d);
  for (int64_t i = 0; i < a->d; i++) {
    double difference = a->mean[i] - b->mean[i], diagonal = a->covariance[i * a->d + i] + b->covariance[i * a->d + i];
    sum += difference * difference + diagonal;
  }
  if (!isfinite(sum)) return fail(ctx, ELBO_ERROR_NUMERIC, "features that are not finite");
  TRY(trace_of_root(ctx, a->d, a->covariance, b->covariance, &trace));
  *distance = sum - 2 * trace;
  return ELBO_OK;
}

elbo_status frechet_distance(elbo_ctx *ctx, const feature_set *a, const feature_set *b, double *distance) {
  feature_gaussian ga = {0}, gb = {0};
  elbo_status status;
  TRY_GOTO(feature_gaussian_fit(ctx, a, &ga));
  TRY_GOTO(feature_gaussian_fit(ctx, b, &gb));
  status = frechet_between(ctx, &ga, &gb, distance);
fail:
  feature_gaussian_free(&ga);
  feature_gaussian_free(&gb);
  return status;
}
