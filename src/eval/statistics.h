// Numbers from many numbers, in double precision.
#ifndef EVAL_STATISTICS_H
#define EVAL_STATISTICS_H

#include <stdint.h>

// Mean and its standard error (NaN below two values).
void mean_and_error(const double *v, int64_t n, double *mean, double *error);

double log_sum_exp(const double *v, int64_t n); // -inf for none

// Importance weights that come one by one as logarithms: the sums are kept relative to the largest so far.
typedef struct weight_sum {
  double largest, sum, sum_squares;
  int64_t n;
} weight_sum;
void weight_sum_add(weight_sum *s, double log_weight);
double weight_sum_log_mean(const weight_sum *s);     // log (1/n sum w)
double weight_sum_effective(const weight_sum *s);    // (sum w)^2 / sum w^2
double weight_sum_log_variance(const weight_sum *s); // of log_mean over draws, to first order: (n / effective - 1) / n

// A seed for part `i` of what `seed` governs (SplitMix64).
uint64_t seed_of_part(uint64_t seed, uint64_t i);

#endif
