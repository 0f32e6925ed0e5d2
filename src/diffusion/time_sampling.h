// Which times a training step looks at, and how much each counts. Host arithmetic in double: a draw is a function of (seed, sample index),
// and of the losses seen so far where these decide.
#ifndef DIFFUSION_TIME_SAMPLING_H
#define DIFFUSION_TIME_SAMPLING_H

#include "diffusion/prediction.h"
#include "diffusion/process.h"

typedef enum time_sampling {
  TIME_UNIFORM,         // independent
  TIME_LOW_DISCREPANCY, // one offset a batch, then evenly spaced [Kingma21 app. I.1]
  TIME_LOGNORMAL,       // log sigma/alpha is normal [Karras22 table 1]
  TIME_LOGIT_NORMAL,    // logit t is normal [Esser24 eq. 19]
  TIME_IMPORTANCE       // in proportion to the root of the mean squared loss at t, divided out again [Nichol21 eq. 18]
} time_sampling;
#define TIME_SAMPLING_NAMES "uniform|low_discrepancy|lognormal|logit_normal|importance"

typedef enum loss_weighting {
  WEIGHTING_SIMPLE,  // none, in the space of the prediction (score: of epsilon)
  WEIGHTING_BOUND,   // what the variational bound says, nats a dimension
  WEIGHTING_MIN_SNR, // min(SNR, gamma) of x0's error [Hang23 eq. 6]
  WEIGHTING_P2,      // 1 / (k + SNR)^gamma of epsilon's error [Choi22 eq. 8]
  WEIGHTING_EDM,     // lambda(sigma) [Karras22 table 1]
  WEIGHTING_SIGMOID  // sigmoid(bias - logsnr) of epsilon's error [Kingma23]
} loss_weighting;
#define LOSS_WEIGHTING_NAMES "simple|bound|min_snr|p2|edm|sigmoid"

enum { HISTORY_BINS = 100, HISTORY_LENGTH = 10 };

typedef struct time_config {
  int sampling;     // time_sampling
  double mean, std; // of lognormal and logit_normal
  int64_t batch;    // low_discrepancy: examples of a whole training batch
} time_config;
typedef struct weighting_config {
  int weighting; // loss_weighting
  double gamma;  // of min_snr and p2
  double p2_k, bias, sigma_data;
} weighting_config;

// Losses seen at the times of each bin: how many (at most HISTORY_LENGTH count) and the newest, in a ring. Lives in a state parameter of
// time_history_size floats, so that it is part of checkpoints.
typedef struct time_history {
  float *seen; // (bins)
  float *loss; // (bins, HISTORY_LENGTH)
  int64_t bins;
} time_history;
int64_t time_history_bins(const process *p); // T, or HISTORY_BINS of a continuous one
int64_t time_history_size(const process *p);
time_history time_history_of(const process *p, float *memory);
void time_history_add(time_history *h, double t, double loss);

// The time of one example: t in (0,1], of a discrete process (i + 1) / T; *weight: what its loss is to be multiplied with (1 but under
// importance). history NULL or not yet full: uniform. p NULL: a learned process, whose times are uniform or of low discrepancy.
double time_draw(const time_config *c, const process *p, uint64_t seed, uint64_t sample, const time_history *history, double *weight);

// Uniform in [0,1): of the examples of one batch one offset and even spaces [Kingma21 app. I.1].
double low_discrepancy_draw(uint32_t stream, int64_t batch_size, uint64_t seed, uint64_t sample);

// What the squared error of the raw prediction, averaged over dimensions, is multiplied with at time t.
double loss_weight_at(const weighting_config *c, const process *p, int prediction, double t);

// The inverse of the standard normal distribution function, 0 < u < 1.
double normal_quantile(double u);

#endif
