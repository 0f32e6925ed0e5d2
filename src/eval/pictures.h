// How far one picture is from another; values in 0..1.
#ifndef EVAL_PICTURES_H
#define EVAL_PICTURES_H

#include <stdint.h>

double picture_mean_squared_error(const float *a, const float *b, int64_t n);
double decibels(double mean_squared_error); // peak signal-to-noise ratio, peak 1
// Structural similarity [Wang04]: Gaussian window 11x11 of standard deviation 1.5 (cut to the picture where it is smaller), constants
// 0.01^2 and 0.03^2, averaged over positions and channels. a, b: (h,w,c)
double structural_similarity(const float *a, const float *b, int64_t h, int64_t w, int64_t c);

#endif
