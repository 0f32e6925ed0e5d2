// Tiles of images to their values at the points, for the forward and the weight gradient's products.
#include "ops/winograd.h"

// Pixel (i, j) of the tile is at x + i row + j column where bit i of rows and bit j of columns is set; zero elsewhere.
typedef struct tile_view {
  const float *x;
  int64_t row, column;
  unsigned rows, columns;
  int64_t lanes;
} tile_view;

WINOGRAD_INLINE vfloat pixel(const bool whole, const tile_view *v, int i, int j) {
  if (whole) return vload(v->x + i * v->row + j * v->column);
  if (!(v->rows >> i & 1) || !(v->columns >> j & 1)) return (vfloat){0};
  return load_upto(v->x + i * v->row + j * v->column, v->lanes);
}

WINOGRAD_INLINE void gather_tile(const int alpha, const bool whole, const tile_view *v, float *to, int64_t stride) {
  vfloat w[WINOGRAD_MAX_ALPHA][WINOGRAD_MAX_ALPHA], d[WINOGRAD_MAX_ALPHA], o[WINOGRAD_MAX_ALPHA];
  WINOGRAD_UNROLL
  for (int j = 0; j < alpha; j++) {
    WINOGRAD_UNROLL
    for (int i = 0; i < alpha; i++) d[i] = pixel(whole, v, i, j);
    winograd_data(alpha, d, o);
    WINOGRAD_UNROLL
    for (int i = 0; i < alpha; i++) w[i][j] = o[i];
  }
  WINOGRAD_UNROLL
  for (int i = 0; i < alpha; i++) {
    winograd_data(alpha, w[i], o);
    WINOGRAD_UNROLL
    for (int j = 0; j < alpha; j++) vstore(to + (i * alpha + j) * stride, o[j]);
  }
}

WINOGRAD_INLINE void spread_tile(const int alpha, const bool whole, const tile_view *v, float *to, int64_t stride) {
  const int m = winograd_m(alpha);
  vfloat w[WINOGRAD_MAX_ALPHA][4], d[4], o[WINOGRAD_MAX_ALPHA];
  WINOGRAD_UNROLL
  for (int j = 0; j < m; j++) {
    WINOGRAD_UNROLL
    for (int i = 0; i < m; i++) d[i] = pixel(whole, v, i, j);
    winograd_taps(alpha, m, d, o);
    WINOGRAD_UNROLL
    for (int i = 0; i < alpha; i++) w[i][j] = o[i];
  }
  WINOGRAD_UNROLL
  for (int i = 0; i < alpha; i++) {
    winograd_taps(alpha, m, w[i], o);
    WINOGRAD_UNROLL
    for (int j = 0; j < alpha; j++) vstore(to + (i * alpha + j) * stride, o[j]);
  }
}

// Bits of the positions first + i step, i < n, that lie in [0, size).
static unsigned inside(int64_t first, int n, int step, int64_t size) {
  unsigned bits = 0;
  for (int i = 0; i < n; i++)
    if (first + i * step >= 0 && first + i * step < size) bits |= 1u << i;
  return bits;
}

WINOGRAD_INLINE void tile_vectors(const int alpha, const bool spread, const winograd_image *g, const float *x, int64_t b, int64_t y0,
                                  int64_t x0, int64_t v0, int64_t v1, float *to, int64_t ld, int64_t stride) {
  const int width = spread ? winograd_m(alpha) : alpha;
  const unsigned all = (1u << width) - 1;
  tile_view view = {.row = g->step * g->W * g->C,
                    .column = g->step * g->C,
                    .rows = inside(y0, width, g->step, g->H),
                    .columns = inside(x0, width, g->step, g->W)};
  const float *corner = x + ((b * g->H + y0) * g->W + x0) * g->C;
  bool complete = view.rows == all && view.columns == all;
  for (int64_t v = v0; v < v1; v++) {
    float *dst = to + (v - v0) * ld * VW;
    view.x = corner + v * VW;
    view.lanes = g->C - v * VW;
    if (complete && view.lanes >= VW) {
      if (spread)
        spread_tile(alpha, true, &view, dst, stride);
      else
        gather_tile(alpha, true, &view, dst, stride);
    } else if (spread) {
      spread_tile(alpha, false, &view, dst, stride);
    } else {
      gather_tile(alpha, false, &view, dst, stride);
    }
  }
}

WINOGRAD_INLINE void tiles(const int alpha, const bool spread, const winograd_image *g, const float *x, int64_t t0, int64_t nt, int64_t v0,
                           int64_t v1, float *to, int64_t ld, int64_t stride) {
  int64_t per_image = g->tiles_y * g->tiles_x, b = t0 / per_image, ty = t0 % per_image / g->tiles_x, tx = t0 % g->tiles_x;
  int64_t distance = g->step * g->m;
  for (int64_t t = 0; t < nt; t++) {
    for (int p = 0; p < g->phases; p++)
      tile_vectors(alpha, spread, g, x, b, g->origin[0] + p / 2 + ty * distance, g->origin[1] + p % 2 + tx * distance, v0, v1,
                   to + (p * (v1 - v0) * ld + t) * VW, ld, stride);
    if (++tx == g->tiles_x) {
      tx = 0;
      if (++ty == g->tiles_y) ty = 0, b++;
    }
  }
}

#define TILES(alpha, spread) tiles(alpha, spread, g, x, t0, nt, v0, v1, to, ld, stride)

void ISA(winograd_gather)(int alpha, const winograd_image *g, const float *x, int64_t t0, int64_t nt, int64_t v0, int64_t v1, float *to,
                          int64_t ld, int64_t stride) {
  switch (alpha) {
  case 4: TILES(4, false); break;
  case 5: TILES(5, false); break;
  case 6: TILES(6, false); break;
  default: TILES(8, false);
  }
}

void ISA(winograd_spread)(int alpha, const winograd_image *g, const float *x, int64_t t0, int64_t nt, int64_t v0, int64_t v1, float *to,
                          int64_t ld, int64_t stride) {
  switch (alpha) {
  case 4: TILES(4, true); break;
  case 5: TILES(5, true); break;
  default: TILES(6, true);
  }
}
