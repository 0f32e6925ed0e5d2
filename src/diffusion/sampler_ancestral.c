// The reverse chains of DDPM and DDIM.
#include <math.h>

#include "diffusion/sampling.h"

// The standard deviations of the step's noise, one number or (with a learned variance) one an element in `out`. The bounds are the
// posterior variance and beta [Ho20 section 3.2]; learned_range is their interpolation in the logarithm [Nichol21 eq. 15].
static double ddpm_deviation(const sampling *s, double posterior, double beta, double *out) {
  double least = posterior > 1e-20 ? posterior : 1e-20;
  switch ((scheduler_variance)s->plan.variance) {
  case VARIANCE_FIXED_SMALL:
  case VARIANCE_FIXED_SMALL_LOG: return sqrt(least);
  case VARIANCE_FIXED_LARGE:
  case VARIANCE_FIXED_LARGE_LOG: return sqrt(beta);
  case VARIANCE_LEARNED:
    for (int64_t i = 0; i < s->n; i++) out[i] = sqrt(s->variance[i]);
    return 0;
  case VARIANCE_LEARNED_RANGE: break;
  }
  double low = log(least), high = log(beta);
  for (int64_t i = 0; i < s->n; i++) {
    double part = (s->variance[i] + 1) / 2;
    out[i] = exp((part * high + (1 - part) * low) / 2);
  }
  return 0;
}

// q(x_s | x_t, x0) [Ho20 eq. 7] between any two times [Kingma21 eq. 25]: with a = alpha_t / alpha_s and b = sigma_t^2 - a^2 sigma_s^2,
// mean = a sigma_s^2 / sigma_t^2 x_t + alpha_s b / sigma_t^2 x0, variance = b sigma_s^2 / sigma_t^2.
elbo_status step_ddpm(sampling *s, int k) {
  solver_node from = s->plan.node[k], to = s->plan.target[k];
  double *x0 = s->work[0], *deviation = s->work[1];
  double ratio = from.alpha / to.alpha, s2 = from.sigma * from.sigma, t2 = to.sigma * to.sigma, beta = s2 - ratio * ratio * t2;
  TRY(predict(s, s->x, from, x0, NULL));
  combine2(s, s->x, ratio * t2 / s2, s->x, to.alpha * beta / s2, x0);
  if (s->plan.class_ == SCHEDULER_DDPM ? from.time <= 0 : to.sigma == 0) return ELBO_OK; // the last step is the mean
  draw_noise(s, s->noise);
  // beta of the discrete chain is 1 - ratio^2, which is `beta` where alpha^2 + sigma^2 = 1
  double fixed = ddpm_deviation(s, beta * t2 / s2, beta, deviation);
  if (!s->variance) {
    combine2(s, s->x, 1, s->x, fixed, s->noise);
  } else {
    for (int64_t i = 0; i < s->n; i++) s->x[i] += deviation[i] * s->noise[i];
  }
  return ELBO_OK;
}

// [Song21ddim eq. 12, 16]
elbo_status step_ddim(sampling *s, int k) {
  solver_node from = s->plan.node[k], to = s->plan.target[k];
  double *x0 = s->work[0], *epsilon = s->work[1], deviation = 0;
  TRY(predict(s, s->x, from, x0, epsilon));
  if (s->plan.eta > 0) {
    double ratio = from.alpha / to.alpha, s2 = from.sigma * from.sigma, t2 = to.sigma * to.sigma;
    deviation = s->plan.eta * sqrt(t2 / s2 * (s2 - ratio * ratio * t2));
    draw_noise(s, s->noise);
  }
  double left = to.sigma * to.sigma - deviation * deviation;
  combine3(s, s->x, to.alpha, x0, sqrt(left > 0 ? left : 0), epsilon, deviation, s->noise);
  return ELBO_OK;
}
