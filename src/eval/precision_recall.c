#include <math.h>
#include <stdlib.h>

#include "backend/openblas.h"
#include "core/memory.h"
#include "eval/feature_sets.h"

enum { ROWS_AT_ONCE = 512 };

static elbo_status squared_norms(elbo_ctx *ctx, const feature_set *s, double **out) {
  TRY(array_new(ctx, (size_t)s->n, sizeof **out, "norms", (void **)out));
  for (int64_t i = 0; i < s->n; i++) {
    for (int64_t j = 0; j < s->d; j++) (*out)[i] += s->at[i * s->d + j] * s->at[i * s->d + j];
    if (!isfinite((*out)[i])) return fail(ctx, ELBO_ERROR_NUMERIC, "features that are not finite");
  }
  return ELBO_OK;
}

// Squared distances of rows [first, first + count) of a to all of b: (count, b.n). What is below rounding is zero, so that a picture lies
// at its twin.
static elbo_status squared_distances(elbo_ctx *ctx, const feature_set *a, const double *norm_a, int64_t first, int64_t count,
                                     const feature_set *b, const double *norm_b, double *out) {
  TRY(openblas_product(ctx, false, true, count, b->n, a->d, a->at + first * a->d, b->at, out));
  for (int64_t i = 0; i < count; i++)
    for (int64_t j = 0; j < b->n; j++) {
      double sum = norm_a[first + i] + norm_b[j], squared = sum - 2 * out[i * b->n + j];
      out[i * b->n + j] = squared > 1e-13 * sum ? squared : 0;
    }
  return ELBO_OK;
}

// The k-th smallest but for entry `self`
static double kth_smallest(const double *v, int64_t n, int64_t self) {
  double least[PRECISION_RECALL_NEIGHBOURS];
  int held = 0;
  for (int64_t i = 0; i < n; i++) {
    if (i == self || (held == PRECISION_RECALL_NEIGHBOURS && v[i] >= least[held - 1])) continue;
    int at = held < PRECISION_RECALL_NEIGHBOURS ? held++ : held - 1;
    for (; at > 0 && least[at - 1] > v[i]; at--) least[at] = least[at - 1];
    least[at] = v[i];
  }
  return least[held - 1];
}

// The share of `points` within some ball of `set`.
static elbo_status coverage(elbo_ctx *ctx, const feature_set *set, const double *norm_set, const feature_set *points,
                            const double *norm_points, double *scratch, double *radius, double *share) {
  for (int64_t first = 0; first < set->n; first += ROWS_AT_ONCE) {
    int64_t count = set->n - first < ROWS_AT_ONCE ? set->n - first : ROWS_AT_ONCE;
    TRY(squared_distances(ctx, set, norm_set, first, count, set, norm_set, scratch));
    for (int64_t i = 0; i < count; i++) radius[first + i] = kth_smallest(scratch + i * set->n, set->n, first + i);
  }
  int64_t within = 0;
  for (int64_t first = 0; first < points->n; first += ROWS_AT_ONCE) {
    int64_t count = points->n - first < ROWS_AT_ONCE ? points->n - first : ROWS_AT_ONCE;
    TRY(squared_distances(ctx, points, norm_points, first, count, set, norm_set, scratch));
    for (int64_t i = 0; i < count; i++) {
      bool inside = false;
      for (int64_t j = 0; j < set->n && !inside; j++) inside = scratch[i * set->n + j] <= radius[j];
      within += inside;
    }
  }
  *share = (double)within / (double)points->n;
  return ELBO_OK;
}

elbo_status precision_recall(elbo_ctx *ctx, const feature_set *real, const feature_set *samples, double *precision, double *recall) {
  feature_set r = *real, s = *samples;
  double *norm_r = NULL, *norm_s = NULL, *scratch = NULL, *radius = NULL;
  elbo_status status;
  if (r.n > PRECISION_RECALL_LIMIT) r.n = PRECISION_RECALL_LIMIT;
  if (s.n > PRECISION_RECALL_LIMIT) s.n = PRECISION_RECALL_LIMIT;
  if (r.d != s.d)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "features of %lld and of %lld numbers cannot be compared", (long long)r.d, (long long)s.d);
  if (r.n <= PRECISION_RECALL_NEIGHBOURS || s.n <= PRECISION_RECALL_NEIGHBOURS)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "precision and recall of %lld and %lld pictures; more than %d of each were expected",
                (long long)r.n, (long long)s.n, PRECISION_RECALL_NEIGHBOURS);
  int64_t most = r.n > s.n ? r.n : s.n;
  TRY_GOTO(squared_norms(ctx, &r, &norm_r));
  TRY_GOTO(squared_norms(ctx, &s, &norm_s));
  TRY_GOTO(array_new(ctx, (size_t)(ROWS_AT_ONCE * most), sizeof *scratch, "distances", (void **)&scratch));
  TRY_GOTO(array_new(ctx, (size_t)most, sizeof *radius, "radii", (void **)&radius));
  TRY_GOTO(coverage(ctx, &r, norm_r, &s, norm_s, scratch, radius, precision));
  TRY_GOTO(coverage(ctx, &s, norm_s, &r, norm_r, scratch, radius, recall));
fail:
  free(norm_r);
  free(norm_s);
  free(scratch);
  free(radius);
  return status;
}
