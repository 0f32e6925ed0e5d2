#include "models/picture_pyramid.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>

enum { MAX_CHANNELS = 4 };

// Rows are the axes. Colours: grey, red against blue, green against both; other pictures keep their channels.
static void axes_of(int64_t channels, double m[MAX_CHANNELS][MAX_CHANNELS]) {
  const double a = sqrt(1.0 / 3), b = sqrt(0.5), c = sqrt(1.0 / 6);
  const double colour[3][3] = {{a, a, a}, {b, 0, -b}, {c, -2 * c, c}};
  for (int64_t i = 0; i < channels; i++)
    for (int64_t j = 0; j < channels; j++) m[i][j] = channels == 3 ? colour[i][j] : (double)(i == j);
}

// x (...,C) times the axes or their transpose, times `scale`
static elbo_tensor *turn(elbo_tensor *x, bool back, double scale) {
  if (!x) return NULL;
  int64_t n = elbo_tensor_dim(x, -1);
  assert(n <= MAX_CHANNELS);
  double m[MAX_CHANNELS][MAX_CHANNELS];
  float w[MAX_CHANNELS * MAX_CHANNELS];
  axes_of(n, m);
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j < n; j++) w[i * n + j] = (float)(scale * (back ? m[j][i] : m[i][j]));
  return elbo_linear(x, elbo_constant_array(elbo_tensor_graph(x), 2, (int64_t[]){n, n}, w), NULL);
}

elbo_tensor *pyramid_axes(elbo_tensor *x) { return turn(elbo_scale(x, 1, -0.5), false, PYRAMID_SCALE); }
elbo_tensor *pyramid_picture(elbo_tensor *axes) { return elbo_scale(turn(axes, true, 1.0 / PYRAMID_SCALE), 1, 0.5); }

// (4C,C,2,2), each entry +-value
static elbo_tensor *haar(elbo_graph *g, int64_t channels, double value) {
  static const signed char sign[4][4] = {{1, 1, 1, 1}, {1, -1, 1, -1}, {1, 1, -1, -1}, {1, -1, -1, 1}};
  assert(channels <= MAX_CHANNELS);
  float w[4 * MAX_CHANNELS * MAX_CHANNELS * 4] = {0};
  for (int64_t c = 0; c < channels; c++)
    for (int band = 0; band < 4; band++) {
      int64_t row = band ? channels + 3 * c + band - 1 : c;
      for (int tap = 0; tap < 4; tap++) w[(row * channels + c) * 4 + tap] = (float)(value * sign[band][tap]);
    }
  return elbo_constant_array(g, 4, (int64_t[]){4 * channels, channels, 2, 2}, w);
}

elbo_tensor *pyramid_split(elbo_tensor *axes) {
  if (!axes) return NULL;
  elbo_conv2d_config config = {.stride = {2, 2}, .groups = 1};
  return elbo_conv2d(axes, haar(elbo_tensor_graph(axes), elbo_tensor_dim(axes, 3), 0.25), NULL, &config);
}

elbo_tensor *pyramid_join(elbo_tensor *coefficients) {
  if (!coefficients) return NULL;
  elbo_conv2d_config config = {.stride = {2, 2}, .groups = 1};
  elbo_tensor *weight = haar(elbo_tensor_graph(coefficients), elbo_tensor_dim(coefficients, 3) / 4, 1);
  return elbo_conv_transpose2d(coefficients, weight, NULL, &config, (int[]){0, 0});
}

int pyramid_parts(int64_t channels, int coarsest) { return (int)channels + (coarsest ? 1 : 0); }

void pyramid_part(int64_t channels, int coarsest, int64_t groups, int64_t index, int64_t *from, int64_t *to) {
  // in front of part i lie the means and the differences of the channels before
  int64_t first = coarsest ? 0 : channels, start = index;
  *from = !coarsest ? first + 3 * start : start ? channels + 3 * (start - 1) : 0;
  *to = index + 1 == groups ? 4 * channels : *from + (coarsest && !start ? channels : 3);
}
