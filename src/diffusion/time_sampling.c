#include "diffusion/time_sampling.h"

#include <math.h>

#include "core/philox.h"

// --- the history ---

int64_t time_history_bins(const process *p) { return process_steps(p) ? process_steps(p) : HISTORY_BINS; }
int64_t time_history_size(const process *p) { return time_history_bins(p) * (1 + HISTORY_LENGTH); }

time_history time_history_of(const process *p, float *memory) {
  int64_t bins = time_history_bins(p);
  return (time_history){.seen = memory, .loss = memory + bins, .bins = bins};
}

// t in (0,1]: bin i holds (i/bins, (i+1)/bins]
static int64_t bin_of(const time_history *h, double t) {
  int64_t i = (int64_t)ceil(t * (double)h->bins - 1e-9) - 1;
  return i < 0 ? 0 : i < h->bins ? i : h->bins - 1;
}

void time_history_add(time_history *h, double t, double loss) {
  int64_t i = bin_of(h, t), n = (int64_t)h->seen[i];
  h->loss[i * HISTORY_LENGTH + n % HISTORY_LENGTH] = (float)loss;
  h->seen[i] = (float)(n + 1 < 2 * HISTORY_LENGTH ? n + 1 : HISTORY_LENGTH); // 10..19 and round again
}

static bool history_full(const time_history *h) {
  if (!h || !h->seen) return false;
  for (int64_t i = 0; i < h->bins; i++)
    if (h->seen[i] < HISTORY_LENGTH) return false;
  return true;
}

static double root_mean_square(const time_history *h, int64_t bin) {
  double sum = 0;
  for (int64_t k = 0; k < HISTORY_LENGTH; k++) {
    double v = (double)h->loss[bin * HISTORY_LENGTH + k];
    sum += v * v;
  }
  return sqrt(sum / HISTORY_LENGTH);
}

// The bin under quantile u of p(bin) ~ root mean square loss, mixed with a thousandth of uniform so that no bin starves; *weight is 1 /
// (bins p(bin)), *within the position left over inside the bin.
static int64_t important_bin(const time_history *h, double u, double *weight, double *within) {
  double total = 0, below = 0, share = 0;
  for (int64_t i = 0; i < h->bins; i++) total += root_mean_square(h, i);
  int64_t last = h->bins - 1;
  for (int64_t i = 0; i < h->bins; i++) {
    share = total > 0 ? 0.999 * root_mean_square(h, i) / total + 0.001 / (double)h->bins : 1.0 / (double)h->bins;
    if (u < below + share || i == last) {
      *weight = 1.0 / ((double)h->bins * share);
      double inside = (u - below) / share;
      *within = inside < 0 ? 0 : inside < 1 ? inside : 1 - 0x1p-24;
      return i;
    }
    below += share;
  }
  return last;
}

// --- drawing ---

double low_discrepancy_draw(uint32_t stream, int64_t batch_size, uint64_t seed, uint64_t sample) {
  uint64_t batch = batch_size > 0 ? (uint64_t)batch_size : 1;
  uint32_t bits[4];
  philox_draw(seed, stream, sample / batch, 0, bits);
  double u = philox_uniform(bits[0]) + (double)(sample % batch) / (double)batch;
  return u < 1 ? u : u - 1;
}

static double uniform_draw(const time_config *c, uint64_t seed, uint64_t sample) {
  const uint32_t stream = philox_stream("objective.time");
  uint32_t bits[4];
  if (c->sampling != TIME_LOW_DISCREPANCY) {
    philox_draw(seed, stream, sample, 0, bits);
    return philox_uniform(bits[0]);
  }
  return low_discrepancy_draw(stream, c->batch, seed, sample);
}

// A start from a rational approximation, sharpened by Halley's method on erfc to a relative error of about 1e-15.
double normal_quantile(double u) {
  // good to 1e-3 [Abramowitz64 26.2.23]
  double p = u < 0.5 ? u : 1 - u, s = sqrt(-2 * log(p));
  double x = s - (2.515517 + s * (0.802853 + s * 0.010328)) / (1 + s * (1.432788 + s * (0.189269 + s * 0.001308)));
  x = -x; // the lower tail
  for (int i = 0; i < 3; i++) {
    double error = 0.5 * erfc(-x * 0.70710678118654752440) - p, density = 0.39894228040143267794 * exp(-0.5 * x * x);
    double step = error / density;
    x -= step / (1 + 0.5 * x * step);
  }
  return u < 0.5 ? x : -x;
}

static double clamp_open(double u) { return u < 0x1p-25 ? 0x1p-25 : u > 1 - 0x1p-25 ? 1 - 0x1p-25 : u; }

double time_draw(const time_config *c, const process *p, uint64_t seed, uint64_t sample, const time_history *history, double *weight) {
  double u = uniform_draw(c, seed, sample), t = u;
  const int64_t steps = p ? process_steps(p) : 0;
  *weight = 1;
  switch (c->sampling) {
  case TIME_LOGNORMAL: {
    double log_sigma = c->mean + c->std * normal_quantile(clamp_open(u));
    t = process_time_of_logsnr(p, -2 * log_sigma);
    break;
  }
  case TIME_LOGIT_NORMAL: {
    double logit = c->mean + c->std * normal_quantile(clamp_open(u));
    t = 1 / (1 + exp(-logit));
    break;
  }
  case TIME_IMPORTANCE:
    if (history_full(history)) {
      double within = 0;
      int64_t bin = important_bin(history, u, weight, &within);
      t = ((double)bin + within) / (double)history->bins;
    }
    break;
  default: break;
  }
  if (steps) {
    int64_t i = (int64_t)(t * (double)steps);
    i = i < 0 ? 0 : i < steps ? i : steps - 1;
    return (double)(i + 1) / (double)steps;
  }
  return t > 0 ? t : 0x1p-24; // at 0 there is no noise to predict
}

// --- weighting ---

// What epsilon's squared error is of the prediction's: both are linear in each other at given x.
static double epsilon_error_factor(int prediction, double sigma_data, const process_point *q) {
  double a = q->alpha, s = q->sigma, snr = s > 0 ? a * a / (s * s) : INFINITY;
  switch (prediction) {
  case PREDICT_X0: return snr;
  case PREDICT_V: return a * a / ((a * a + s * s) * (a * a + s * s));
  case PREDICT_SCORE: return s * s;
  case PREDICT_FLOW: return a * a / ((a + s) * (a + s));
  case PREDICT_EDM: { // c_out^2 SNR, sigma in units of alpha [Karras22 table 1]
    double v = s / a;
    return sigma_data * sigma_data / (v * v + sigma_data * sigma_data);
  }
  default: return 1;
  }
}

// Of a discrete process the sum over its T terms, each (SNR(i-1) - SNR(i)) / 2 of x0's error, as T times their mean; the first, whose
// decoder has the width sigma/alpha, counts SNR(0) / 2 [Kingma21 eq. 13].
static double bound_weight(const process *p, double t, const process_point *q) {
  int64_t steps = process_steps(p);
  if (!steps) return -0.5 * q->dlogsnr;
  double snr = exp(q->logsnr);
  if (t <= 1.0 / (double)steps + 1e-12) return 0.5 * (double)steps;
  process_point before = process_at(p, t - 1.0 / (double)steps);
  return snr > 0 ? 0.5 * (double)steps * (exp(before.logsnr) / snr - 1) : 0;
}

double loss_weight_at(const weighting_config *c, const process *p, int prediction, double t) {
  process_point q = process_at(p, t);
  double snr = exp(q.logsnr), of_epsilon;
  switch (c->weighting) {
  case WEIGHTING_BOUND: of_epsilon = bound_weight(p, t, &q); break;
  case WEIGHTING_MIN_SNR: of_epsilon = snr > c->gamma ? c->gamma / snr : 1; break;
  case WEIGHTING_P2: of_epsilon = pow(c->p2_k + snr, -c->gamma); break;
  case WEIGHTING_EDM: of_epsilon = 1 + 1 / (snr * c->sigma_data * c->sigma_data); break;
  case WEIGHTING_SIGMOID: of_epsilon = 1 / (1 + exp(q.logsnr - c->bias)); break;
  default: return prediction == PREDICT_SCORE ? q.sigma * q.sigma : 1;
  }
  double w = of_epsilon * epsilon_error_factor(prediction, c->sigma_data, &q);
  return isfinite(w) ? w : 0;
}
