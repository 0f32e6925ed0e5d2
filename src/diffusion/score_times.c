#include "diffusion/score_times.h"

#include <math.h>
#include <stdlib.h>

#include "core/memory.h"

double score_weight(int weighting, const process *p, double t) {
  process_point q = process_at(p, t);
  switch (weighting) {
  case SCORE_LIKELIHOOD: return -0.5 * q.dlogsnr;
  case SCORE_REWEIGHTED: return -0.5 * q.dlogsnr * q.sigma * q.sigma;
  default: return 0.5;
  }
}

// 1 - sigma^2 has no integral in closed form under most schedules: there the density is constant within cells, which is unbiased as any
// density is, and as good as the curve itself.
enum { CELLS = 1024 };

struct time_density {
  const process *p;
  int weighting;
  bool importance;
  double first, last; // ends of what grows evenly with the share
  double *below;      // (CELLS + 1) share below the edges of the cells; NULL: in closed form
};

static double sigma2_of(double logsnr) { return 1 / (1 + exp(logsnr)); }
static double softplus(double x) { return x > 30 ? x : log1p(exp(x)); }

// The quantity that is uniform under the density, and back: sigma^2, or log sigma^2 = -softplus(l), which is also the integral of
// 1 - sigma^2 = sigmoid(l) where log-SNR is linear in t.
static double even_of(int weighting, double logsnr) { return weighting == SCORE_REWEIGHTED ? sigma2_of(logsnr) : -softplus(logsnr); }

static double logsnr_of_even(int weighting, double v) { return weighting == SCORE_REWEIGHTED ? log1p(-v) - log(v) : log(expm1(-v)); }

static void fill_cells(time_density *d) {
  d->below[0] = 0;
  for (int i = 0; i < CELLS; i++) {
    double left = process_at(d->p, (double)i / CELLS).logsnr, middle = process_at(d->p, (i + 0.5) / CELLS).logsnr,
           right = process_at(d->p, (i + 1.0) / CELLS).logsnr;
    double mass = (sigma2_of(-left) + 4 * sigma2_of(-middle) + sigma2_of(-right)) / 6; // Simpson's rule
    d->below[i + 1] = d->below[i] + mass;
  }
  for (int i = 1; i <= CELLS; i++) d->below[i] /= d->below[CELLS];
}

elbo_status time_density_create(elbo_ctx *ctx, const process *p, int weighting, bool importance, time_density **out) {
  *out = NULL;
  time_density *d;
  TRY(array_new(ctx, 1, sizeof *d, "times", (void **)&d));
  d->p = p, d->weighting = weighting, d->importance = importance;
  d->first = even_of(weighting, process_at(p, 0).logsnr), d->last = even_of(weighting, process_at(p, 1).logsnr);
  if (importance && weighting == SCORE_UNWEIGHTED && process_kind(p) != PROCESS_LINEAR) {
    elbo_status status = array_new(ctx, CELLS + 1, sizeof(double), "times", (void **)&d->below);
    if (status != ELBO_OK) {
      free(d);
      return status;
    }
    fill_cells(d);
  }
  *out = d;
  return ELBO_OK;
}

void time_density_destroy(time_density **d) {
  if (!*d) return;
  free((*d)->below);
  free(*d);
  *d = NULL;
}

double time_density_at(const time_density *d, double t) {
  if (!d->importance) return 1;
  if (d->below) {
    int i = (int)ceil(t * CELLS) - 1;
    i = i < 0 ? 0 : i < CELLS ? i : CELLS - 1;
    return (d->below[i + 1] - d->below[i]) * CELLS;
  }
  // d even / dt = d even / dl l'
  process_point q = process_at(d->p, t);
  double alpha2 = q.alpha * q.alpha, slope = d->weighting == SCORE_REWEIGHTED ? alpha2 * q.sigma * q.sigma : alpha2;
  return -q.dlogsnr * slope / (d->last - d->first);
}

static double quantile_of_cells(const time_density *d, double u) {
  int low = 0, high = CELLS; // below[low] <= u < below[high]
  while (high - low > 1) {
    int middle = (low + high) / 2;
    if (d->below[middle] <= u)
      low = middle;
    else
      high = middle;
  }
  return ((double)low + (u - d->below[low]) / (d->below[high] - d->below[low])) / CELLS;
}

double time_density_quantile(const time_density *d, double u) {
  double t = u;
  if (d->importance && d->below)
    t = quantile_of_cells(d, u);
  else if (d->importance)
    t = process_time_of_logsnr(d->p, logsnr_of_even(d->weighting, d->first + u * (d->last - d->first)));
  return t > 0 ? t : 0x1p-24; // at 0 there is no noise to predict
}
