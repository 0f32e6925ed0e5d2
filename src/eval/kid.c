#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/openblas.h"
#include "core/memory.h"
#include "core/philox.h"
#include "eval/feature_sets.h"
#include "eval/statistics.h"

enum { SUBSET_LIMIT = 1000 };

typedef struct kid_scratch {
  int64_t m;           // of a subset
  int64_t *order;      // a permutation of the larger set
  double *x, *y;       // (m,d)
  double *product;     // (m,m)
  double *row;         // (m) sums of its rows
  double *discrepancy; // (subsets)
} kid_scratch;

// A random subset of m rows into `out`; each (seed, stream) another.
static void draw_subset(const feature_set *set, uint64_t seed, const char *stream, kid_scratch *s, double *out) {
  philox_permutation(seed, philox_stream(stream), set->n, s->order);
  for (int64_t i = 0; i < s->m; i++) memcpy(out + i * set->d, set->at + s->order[i] * set->d, (size_t)set->d * sizeof *out);
}

typedef struct kernel_rows {
  int64_t m;
  bool alike; // of one set with itself: the diagonal is left out
  double scale;
  const double *product; // (m,m)
  double *sum;           // (m), of each row
} kernel_rows;

enum { LANES = 8 }; // partial sums, so that an addition need not wait for the one before

static void sum_rows(void *arg, int64_t begin, int64_t end) {
  const kernel_rows *r = arg;
  for (int64_t i = begin; i < end; i++) {
    const double *row = r->product + i * r->m;
    double lane[LANES] = {0}, total = 0;
    for (int64_t j = 0; j < r->m; j++) {
      double k = row[j] * r->scale + 1;
      lane[j % LANES] += k * k * k;
    }
    for (int l = 0; l < LANES; l++) total += lane[l];
    double own = row[i] * r->scale + 1;
    r->sum[i] = r->alike ? total - own * own * own : total;
  }
}

// Sum of the kernel over all pairs of rows; without the diagonal where a is b.
static elbo_status kernel_sum(elbo_ctx *ctx, const kid_scratch *s, int64_t d, const double *a, const double *b, double *sum) {
  kernel_rows rows = {s->m, a == b, 1 / (double)d, s->product, s->row};
  TRY(openblas_product(ctx, false, true, s->m, s->m, d, a, b, s->product));
  parallel_for(&ctx->pool, s->m, 64, sum_rows, &rows);
  *sum = 0;
  for (int64_t i = 0; i < s->m; i++) *sum += s->row[i];
  return ELBO_OK;
}

static elbo_status one_discrepancy(elbo_ctx *ctx, const feature_set *a, const feature_set *b, uint64_t seed, kid_scratch *s, double *out) {
  double xx, yy, xy, m = (double)s->m;
  draw_subset(a, seed, "kid.a", s, s->x);
  draw_subset(b, seed, "kid.b", s, s->y);
  TRY(kernel_sum(ctx, s, a->d, s->x, s->x, &xx));
  TRY(kernel_sum(ctx, s, a->d, s->y, s->y, &yy));
  TRY(kernel_sum(ctx, s, a->d, s->x, s->y, &xy));
  *out = (xx + yy) / (m * (m - 1)) - 2 * xy / (m * m); // [Gretton12 eq. 3]
  return isfinite(*out) ? ELBO_OK : fail(ctx, ELBO_ERROR_NUMERIC, "features that are not finite");
}

elbo_status kernel_distance_estimate(elbo_ctx *ctx, const feature_set *a, const feature_set *b, int64_t subsets, uint64_t seed,
                                     kernel_distance *out) {
  int64_t least = a->n < b->n ? a->n : b->n, most = a->n > b->n ? a->n : b->n, d = a->d;
  kid_scratch s = {.m = least / 2 < SUBSET_LIMIT ? least / 2 : SUBSET_LIMIT};
  elbo_status status;
  *out = (kernel_distance){.value = NAN, .error = NAN, .subsets = subsets, .subset_size = s.m};
  if (a->d != b->d)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "features of %lld and of %lld numbers cannot be compared", (long long)a->d, (long long)b->d);
  if (least < 4) return fail(ctx, ELBO_ERROR_ARGUMENT, "a kernel distance of %lld pictures; at least 4 were expected", (long long)least);
  if (subsets < 1) return fail(ctx, ELBO_ERROR_ARGUMENT, "a kernel distance of no subsets");
  TRY_GOTO(array_new(ctx, (size_t)most, sizeof *s.order, "a subset", (void **)&s.order));
  TRY_GOTO(array_new(ctx, (size_t)(s.m * d), sizeof *s.x, "features", (void **)&s.x));
  TRY_GOTO(array_new(ctx, (size_t)(s.m * d), sizeof *s.y, "features", (void **)&s.y));
  TRY_GOTO(array_new(ctx, (size_t)(s.m * s.m), sizeof *s.product, "kernels", (void **)&s.product));
  TRY_GOTO(array_new(ctx, (size_t)s.m, sizeof *s.row, "kernels", (void **)&s.row));
  TRY_GOTO(array_new(ctx, (size_t)subsets, sizeof *s.discrepancy, "discrepancies", (void **)&s.discrepancy));
  for (int64_t i = 0; i < subsets; i++) TRY_GOTO(one_discrepancy(ctx, a, b, seed_of_part(seed, (uint64_t)i), &s, &s.discrepancy[i]));
  mean_and_error(s.discrepancy, subsets, &out->value, &out->error);
fail:
  free(s.order);
  free(s.x);
  free(s.y);
  free(s.product);
  free(s.row);
  free(s.discrepancy);
  return status;
}
