// Tiles of images, as they are or normalised on the way, to their values at the points, for the forward and the weight gradient's products.
#include "ops/norm_act.h"
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
  return vload_upto(v->x + i * v->row + j * v->column, v->lanes);
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

// What the tile beside this one has and this one has not comes into the cache meanwhile: no prefetcher of the processor's follows tiles.
WINOGRAD_INLINE void call_for(const int width, const int m, const tile_view *v) {
  const float *next = v->x + width * v->column;
  WINOGRAD_UNROLL
  for (int i = 0; i < width; i++) {
    WINOGRAD_UNROLL
    for (int j = 0; j < m; j++) __builtin_prefetch(next + i * v->row + j * v->column, 0, 3);
  }
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
    if (v * VW % 16 == 0) call_for(width, winograd_m(alpha), &view);
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

// --- normalised -------------------------------------------------------------------------------------------------------------------

enum {
  STAGED_FLOATS = 24 << 10, // normalised at once, where a row of tiles does with less: beside V in the second cache
  STAGED_VECTORS = 4        // and so many vectors of channels at most: a few cache lines of a pixel
};

// Tiles [tx, tx + columns) of rows [ty, ty + rows) of image b, and their pixels, (width) to a row.
typedef struct rectangle {
  int64_t b, ty, tx, rows, columns, height, width;
} rectangle;

static void measure(int alpha, const winograd_image *g, rectangle *r) {
  r->height = (r->rows - 1) * g->m + alpha, r->width = (r->columns - 1) * g->m + alpha;
}

// The first of the tiles [t, end) that are a rectangle: whole rows of tiles, as many as there is room for, or what is left of one.
static rectangle rectangle_of(int alpha, const winograd_image *g, int64_t t, int64_t end) {
  int64_t per_image = g->tiles_y * g->tiles_x, most = (end - t) / g->tiles_x;
  rectangle r = {.b = t / per_image, .ty = t % per_image / g->tiles_x, .tx = t % g->tiles_x, .rows = 1};
  r.columns = g->tiles_x - r.tx < end - t ? g->tiles_x - r.tx : end - t;
  measure(alpha, g, &r);
  if (r.tx || r.columns < g->tiles_x) return r;
  if (most > g->tiles_y - r.ty) most = g->tiles_y - r.ty;
  while (r.rows < most && (r.height + g->m) * r.width * VW <= STAGED_FLOATS) r.rows++, r.height += g->m;
  return r;
}

int64_t ISA(winograd_norm_floats)(int alpha, const winograd_image *g, int64_t nt) {
  rectangle r = {.rows = nt / g->tiles_x, .columns = nt < g->tiles_x ? nt : g->tiles_x};
  r.rows = r.rows < 1 ? 1 : r.rows > g->tiles_y ? g->tiles_y : r.rows;
  measure(alpha, g, &r);
  int64_t row = alpha * r.width * VW, all = STAGED_VECTORS * r.height * r.width * VW;
  if (all > STAGED_FLOATS) all = STAGED_FLOATS;
  return round_up(row > all ? row : all, 16);
}

// n pixels, `stride` apart, of up to `lanes` channels
VEC_INLINE void normalise_pixels(const float *x, int64_t stride, int64_t n, int64_t lanes, vfloat mean, vfloat scale, vfloat bias,
                                 const int64_t act, float slope, float *to) {
  if (lanes >= VW) {
    for (int64_t i = 0; i < n; i++) vstore(to + i * VW, act_value((vload(x + i * stride) - mean) * scale + bias, act, slope));
  } else {
    for (int64_t i = 0; i < n; i++) vstore(to + i * VW, act_value((vload_upto(x + i * stride, lanes) - mean) * scale + bias, act, slope));
  }
}

// Row y of the image into a row of r, vector v of the channels; zeros outside of the image.
static void stage_row(const winograd_image *g, const winograd_norm *n, const float *x, const rectangle *r, int64_t y, int64_t v,
                      float *to) {
  int64_t x0 = g->origin[1] + r->tx * g->m, before = x0 < 0 ? -x0 : 0, c = v * VW, own = n->first;
  if (y < 0 || y >= g->H || before > r->width) before = r->width;
  int64_t inside = g->W - x0 - before;
  inside = before == r->width || inside < 0 ? 0 : inside < r->width - before ? inside : r->width - before;
  memset(to, 0, (size_t)(before * VW) * sizeof *to);
  memset(to + (before + inside) * VW, 0, (size_t)((r->width - before - inside) * VW) * sizeof *to);
  if (!inside) return;
  const float *channels = n->channels + r->b * 3 * g->C + c;
  int64_t lanes = g->C - c;
  vfloat mean = vload_upto(channels, lanes), scale = vload_upto(channels + g->C, lanes), bias = vload_upto(channels + 2 * g->C, lanes);
  if (c >= n->first) x = n->x2, own = g->C - n->first, c -= n->first;
  const float *from = x + ((r->b * g->H + y) * g->W + x0 + before) * own + c;
#define CALL(act) normalise_pixels(from, own, inside, lanes, mean, scale, bias, act, n->slope, to + before * VW)
  BY_ACT(n->act, CALL)
#undef CALL
}

// The tiles of r from the normalised vectors [v0, v1); `to`: of the first tile, vector 0
WINOGRAD_INLINE void gather_staged(const int alpha, const winograd_image *g, const winograd_norm *n, const rectangle *r, int64_t v0,
                                   int64_t v1, float *to, int64_t ld, int64_t stride) {
  tile_view view = {.row = r->width * VW, .column = VW, .lanes = VW};
  for (int64_t t = 0; t < r->rows * r->columns; t++)
    for (int64_t v = v0; v < v1; v++) {
      view.x = n->pixels + (((v - v0) * r->height + t / r->columns * g->m) * r->width + t % r->columns * g->m) * VW;
      gather_tile(alpha, true, &view, to + (v * ld + t) * VW, stride);
    }
}

void ISA(winograd_gather_normalised)(int alpha, const winograd_image *g, const winograd_norm *n, const float *x, int64_t t0, int64_t nt,
                                     float *to, int64_t ld, int64_t stride) {
  int64_t vectors = (g->C + VW - 1) / VW;
  for (int64_t t = t0; t < t0 + nt;) {
    rectangle r = rectangle_of(alpha, g, t, t0 + nt);
    int64_t fit = STAGED_FLOATS / (r.height * r.width * VW), step = fit < 1 ? 1 : fit < STAGED_VECTORS ? fit : STAGED_VECTORS;
    float *tiles_of = to + (t - t0) * VW;
    for (int64_t v0 = 0; v0 < vectors; v0 += step) {
      int64_t v1 = v0 + step < vectors ? v0 + step : vectors;
      for (int64_t i = 0; i < r.height; i++)
        for (int64_t v = v0; v < v1; v++)
          stage_row(g, n, x, &r, g->origin[0] + r.ty * g->m + i, v, n->pixels + ((v - v0) * r.height + i) * r.width * VW);
      switch (alpha) {
      case 4: gather_staged(4, g, n, &r, v0, v1, tiles_of, ld, stride); break;
      case 6: gather_staged(6, g, n, &r, v0, v1, tiles_of, ld, stride); break;
      default: gather_staged(8, g, n, &r, v0, v1, tiles_of, ld, stride);
      }
    }
    t += r.rows * r.columns;
  }
}
