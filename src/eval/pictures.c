#include "eval/pictures.h"

#include <math.h>

double picture_mean_squared_error(const float *a, const float *b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++) sum += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
  return sum / (double)n;
}

double decibels(double mean_squared_error) { return -10 * log10(mean_squared_error); }

double structural_similarity(const float *a, const float *b, int64_t h, int64_t w, int64_t c) {
  enum { SIDE = 11 };
  int64_t kh = h < SIDE ? h : SIDE, kw = w < SIDE ? w : SIDE;
  double gy[SIDE], gx[SIDE], total = 0, sy = 0, sx = 0;
  for (int64_t i = 0; i < kh; i++) sy += gy[i] = exp(-((double)i - (double)(kh - 1) / 2) * ((double)i - (double)(kh - 1) / 2) / 4.5);
  for (int64_t i = 0; i < kw; i++) sx += gx[i] = exp(-((double)i - (double)(kw - 1) / 2) * ((double)i - (double)(kw - 1) / 2) / 4.5);
  for (int64_t y = 0; y + kh <= h; y++)
    for (int64_t x = 0; x + kw <= w; x++)
      for (int64_t k = 0; k < c; k++) {
        double ma = 0, mb = 0, aa = 0, bb = 0, ab = 0;
        for (int64_t i = 0; i < kh; i++)
          for (int64_t j = 0; j < kw; j++) {
            double g = gy[i] * gx[j] / (sy * sx), u = a[((y + i) * w + x + j) * c + k], v = b[((y + i) * w + x + j) * c + k];
            ma += g * u, mb += g * v, aa += g * u * u, bb += g * v * v, ab += g * u * v;
          }
        double c1 = 1e-4, c2 = 9e-4, va = aa - ma * ma, vb = bb - mb * mb, cov = ab - ma * mb;
        total += (2 * ma * mb + c1) * (2 * cov + c2) / ((ma * ma + mb * mb + c1) * (va + vb + c2));
      }
  return total / (double)((h - kh + 1) * (w - kw + 1) * c);
}
