#include "eval/statistics.h"

#include <math.h>

void mean_and_error(const double *v, int64_t n, double *mean, double *error) {
  double sum = 0, squares = 0;
  for (int64_t i = 0; i < n; i++) sum += v[i];
  *mean = n > 0 ? sum / (double)n : NAN;
  for (int64_t i = 0; i < n; i++) squares += (v[i] - *mean) * (v[i] - *mean);
  *error = n > 1 ? sqrt(squares / ((double)(n - 1) * (double)n)) : NAN;
}

double log_sum_exp(const double *v, int64_t n) {
  double largest = -INFINITY, sum = 0;
  for (int64_t i = 0; i < n; i++) largest = v[i] > largest ? v[i] : largest;
  if (!isfinite(largest)) return largest;
  for (int64_t i = 0; i < n; i++) sum += exp(v[i] - largest);
  return largest + log(sum);
}

void weight_sum_add(weight_sum *s, double w) {
  if (s->n++ == 0)
    s->largest = w, s->sum = s->sum_squares = 1;
  else if (w <= s->largest) {
    double e = exp(w - s->largest);
    s->sum += e, s->sum_squares += e * e;
  } else {
    double e = exp(s->largest - w);
    s->sum = s->sum * e + 1, s->sum_squares = s->sum_squares * e * e + 1, s->largest = w;
  }
}

double weight_sum_log_mean(const weight_sum *s) { return s->largest + log(s->sum / (double)s->n); }
double weight_sum_effective(const weight_sum *s) { return s->sum * s->sum / s->sum_squares; }
double weight_sum_log_variance(const weight_sum *s) { return ((double)s->n / weight_sum_effective(s) - 1) / (double)s->n; }

uint64_t seed_of_part(uint64_t seed, uint64_t i) {
  uint64_t z = seed + (i + 1) * 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return (z ^ (z >> 31)) >> 1; // seeds are written as int64
}
