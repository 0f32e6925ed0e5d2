// Two sets of pictures compared by their features: Fréchet distance, kernel distance, precision and recall. All in double precision;
// features row by row. ELBO_ERROR_UNSUPPORTED where OpenBLAS is absent.
#ifndef EVAL_FEATURE_SETS_H
#define EVAL_FEATURE_SETS_H

#include "core/ctx.h"

typedef struct feature_set {
  int64_t n, d;
  const double *at; // (n,d)
} feature_set;

// --- frechet.c ---
// Mean and unbiased covariance (divisor n - 1) of a set: what one Gaussian keeps of it.
typedef struct feature_gaussian {
  int64_t d;
  double *mean;       // (d)
  double *covariance; // (d,d)
} feature_gaussian;
elbo_status feature_gaussian_fit(elbo_ctx *ctx, const feature_set *set, feature_gaussian *out); // n at least 2
void feature_gaussian_free(feature_gaussian *g);
// |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) [Heusel17 eq. 6]
elbo_status frechet_between(elbo_ctx *ctx, const feature_gaussian *a, const feature_gaussian *b, double *distance);
elbo_status frechet_distance(elbo_ctx *ctx, const feature_set *a, const feature_set *b, double *distance);

// --- kid.c ---
typedef struct kernel_distance {
  double value;
  double error; // standard error of the mean over the subsets
  int64_t subsets, subset_size;
} kernel_distance;
// Unbiased squared maximum mean discrepancy under the kernel (x.y/d + 1)^3 [Binkowski18 sec. 4], averaged over random subsets of
// min(1000, n/2) of each set; a function of (sets, seed). Both sets need at least 4.
elbo_status kernel_distance_estimate(elbo_ctx *ctx, const feature_set *a, const feature_set *b, int64_t subsets, uint64_t seed,
                                     kernel_distance *out);

// --- precision_recall.c ---
enum { PRECISION_RECALL_LIMIT = 10000, PRECISION_RECALL_NEIGHBOURS = 3 };
// Precision: the share of samples within a ball around some real picture that reaches to its third-nearest real one; recall: the same with
// the sets' places changed [Kynkaanniemi19 eq. 2]. Of more than PRECISION_RECALL_LIMIT pictures the first so many.
elbo_status precision_recall(elbo_ctx *ctx, const feature_set *real, const feature_set *samples, double *precision, double *recall);

#endif
