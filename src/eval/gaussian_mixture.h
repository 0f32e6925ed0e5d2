// A mixture of Gaussians with full covariances, fitted to points by expectation-maximisation: what codes are drawn from when the aggregate
// posterior is not the prior [Ghosh20 sec. 5].
#ifndef EVAL_GAUSSIAN_MIXTURE_H
#define EVAL_GAUSSIAN_MIXTURE_H

#include "core/error.h"

typedef struct gaussian_mixture {
  int64_t components, d;
  float *weight; // (components)
  float *mean;   // (components,d)
  float *factor; // (components,d,d) lower Cholesky factors of the covariances
} gaussian_mixture;

// x: (n,d), n at least components. A function of (x, seed). On failure *out is empty.
elbo_status gaussian_mixture_fit(elbo_ctx *ctx, const float *x, int64_t n, int64_t d, int64_t components, uint64_t seed,
                                 gaussian_mixture *out);
elbo_status gaussian_mixture_new(elbo_ctx *ctx, int64_t components, int64_t d, gaussian_mixture *out); // zeros
void gaussian_mixture_free(gaussian_mixture *m);

double gaussian_mixture_log_density(const gaussian_mixture *m, const float *x); // x (d)
// Draw `index` of `seed` into out (d), deviations from the component's mean times `temperature`.
void gaussian_mixture_draw(const gaussian_mixture *m, uint64_t seed, uint64_t index, double temperature, float *out);

#endif
