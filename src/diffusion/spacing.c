// Spacings of noise levels.
#include <math.h>

#include "diffusion/schedule.h"

void spacing_linear(double first, double last, int n, double *out) {
  double step = n > 1 ? (last - first) / (double)(n - 1) : 0;
  for (int i = 0; i < n; i++) out[i] = first + (double)i * step;
  if (n > 1) out[n - 1] = last;
}

void spacing_karras(double high, double low, double rho, int n, double *out) {
  double a = pow(high, 1 / rho), b = pow(low, 1 / rho);
  spacing_linear(0, 1, n, out);
  for (int i = 0; i < n; i++) out[i] = pow(a + out[i] * (b - a), rho);
}

void spacing_exponential(double high, double low, int n, double *out) {
  spacing_linear(log(high), log(low), n, out);
  for (int i = 0; i < n; i++) out[i] = exp(out[i]);
}

void spacing_beta(double high, double low, int n, double *out) {
  spacing_linear(1, 0, n, out);
  for (int i = 0; i < n; i++) out[i] = low + beta_quantile(out[i], 0.6, 0.6) * (high - low);
}

// The regularised incomplete beta function by its continued fraction (Lentz's method) [Press92 section 6.4].
static double beta_fraction(double x, double a, double b) {
  const double tiny = 1e-300;
  double c = 1, d = 1 - (a + b) * x / (a + 1);
  d = 1 / (fabs(d) < tiny ? tiny : d);
  double h = d;
  for (int m = 1; m <= 500; m++) {
    double m2 = 2.0 * m;
    for (int odd = 0; odd < 2; odd++) {
      double k = odd ? -(a + m) * (a + b + m) * x / ((a + m2) * (a + m2 + 1)) : m * (b - m) * x / ((a + m2 - 1) * (a + m2));
      d = 1 + k * d;
      c = 1 + k / c;
      if (fabs(d) < tiny) d = tiny;
      if (fabs(c) < tiny) c = tiny;
      d = 1 / d;
      h *= d * c;
    }
    if (fabs(d * c - 1) < 1e-16) break;
  }
  return h;
}

static double beta_probability(double x, double a, double b) {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  double front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x));
  return x < (a + 1) / (a + b + 2) ? front * beta_fraction(x, a, b) / a : 1 - front * beta_fraction(1 - x, b, a) / b;
}

double beta_quantile(double p, double a, double b) {
  if (p <= 0) return 0;
  if (p >= 1) return 1;
  double low = 0, high = 1;
  for (int i = 0; i < 200 && high - low > 1e-17; i++) {
    double middle = (low + high) / 2;
    if (beta_probability(middle, a, b) < p) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return (low + high) / 2;
}
