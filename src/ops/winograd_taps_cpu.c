// Weights to their values at the points, in the panels that the products read.
#include "ops/winograd.h"

enum { MOST_TAPS = 16 };

// g: r x r taps; to[point * stride]
WINOGRAD_INLINE void evaluate_taps(const int alpha, const vfloat *g, float *to, int64_t stride) {
  const int r = winograd_r(alpha);
  vfloat w[WINOGRAD_MAX_ALPHA][3], o[WINOGRAD_MAX_ALPHA];
  WINOGRAD_UNROLL
  for (int j = 0; j < r; j++) {
    vfloat column[3];
    WINOGRAD_UNROLL
    for (int i = 0; i < r; i++) column[i] = g[r * i + j];
    winograd_taps(alpha, r, column, o);
    WINOGRAD_UNROLL
    for (int i = 0; i < alpha; i++) w[i][j] = o[i];
  }
  WINOGRAD_UNROLL
  for (int i = 0; i < alpha; i++) {
    winograd_taps(alpha, r, w[i], o);
    float *row = (float *)winograd_row(to + i * alpha * stride);
    WINOGRAD_UNROLL
    for (int j = 0; j < alpha; j++) vstore(row + j * stride, o[j]);
  }
}

// The phase's 2x2 taps among the side x side of a kernel of stride 2 (zero where it has none); flipped: in reverse order.
WINOGRAD_INLINE void phase_taps(const winograd_weights *g, int phase, const vfloat *all, vfloat *tap) {
  for (int i = 0; i < 4; i++) {
    int p = i / 2, q = i % 2;
    if (g->flipped) p = 1 - p, q = 1 - q;
    p = 2 * p + phase / 2, q = 2 * q + phase % 2;
    tap[i] = p < g->side && q < g->side ? all[p * g->side + q] : (vfloat){0};
  }
}

WINOGRAD_INLINE void evaluate_channel(const int alpha, const winograd_weights *g, const vfloat *all, float *to, int64_t stride) {
  vfloat tap[9];
  if (alpha == 5) {
    for (int phase = 0; phase < 4; phase++) {
      phase_taps(g, phase, all, tap);
      evaluate_taps(5, tap, to + phase * g->phase, stride);
    }
    return;
  }
  for (int i = 0; i < 9; i++) tap[i] = all[g->flipped ? 8 - i : i];
  evaluate_taps(alpha, tap, to, stride);
}

// All taps of channels [c0, c0 + n) of vector v of K, n <= 4: all[c * taps + tap]
WINOGRAD_INLINE void load_taps(const winograd_weights *g, const float *w, int64_t v, int64_t c0, int n, vfloat *all) {
  const int taps = g->side * g->side;
  int64_t lanes = g->K - v * VW;
  const float *from = w + v * VW * g->lane + c0 * g->channel;
  if (lanes >= VW && taps == 9 && g->channel == 9 && n == 4) { // the taps of four channels are one run
#pragma GCC unroll 9
    for (int i = 0; i < 9; i++) load_transposed4(from + 4 * i, g->lane, all + 4 * i);
  } else if (lanes >= VW) {
    for (int c = 0; c < n; c++) {
      vfloat *k = all + c * taps, last[4];
      for (int i = 0; i + 4 <= taps; i += 4) load_transposed4(from + c * g->channel + i, g->lane, k + i);
      if (taps == 9) {
        load_transposed4(from + c * g->channel + 5, g->lane, last);
        k[8] = last[3];
      }
    }
  } else {
    for (int i = 0; i < taps * n; i++) {
      float lane[VW] = {0};
      const float *tap = from + i / taps * g->channel + i % taps;
      for (int64_t l = 0; l < lanes; l++) lane[l] = tap[l * g->lane];
      all[i] = vload(lane);
    }
  }
}

// Channels [c0, c0 + n) of vector v of K, n <= 4: to[point * stride + c * width]
WINOGRAD_INLINE void evaluate_channels(const int alpha, const winograd_weights *g, const float *w, int64_t v, int64_t c0, int n, float *to,
                                       int64_t stride, int width) {
  vfloat all[4 * MOST_TAPS];
  load_taps(g, w, v, c0, n, all);
  for (int c = 0; c < n; c++) evaluate_channel(alpha, g, all + c * g->side * g->side, to + c * width, stride);
}

void ISA(winograd_evaluate_weights)(const winograd_weights *g, const float *w, int64_t v, int vectors, int64_t c0, int64_t c1, float *to,
                                    int64_t stride) {
  int width = vectors * VW;
  for (int i = 0; i < vectors; i++)
    for (int64_t c = c0; c < c1; c += 4) {
      int n = c1 - c < 4 ? (int)(c1 - c) : 4;
      float *at = to + c * width + i * VW;
      if (g->alpha == 4)
        evaluate_channels(4, g, w, v + i, c, n, at, stride, width);
      else if (g->alpha == 5)
        evaluate_channels(5, g, w, v + i, c, n, at, stride, width);
      else if (g->alpha == 6)
        evaluate_channels(6, g, w, v + i, c, n, at, stride, width);
      else
        evaluate_channels(8, g, w, v + i, c, n, at, stride, width);
    }
}

void ISA(winograd_pack_taps)(const winograd_weights *g, const float *w, int64_t v, int vectors, int64_t c0, int64_t c1, float *to) {
  const int width = vectors * VW, taps = g->side * g->side;
  for (int64_t c = c0; c < c1; c += 4)
    for (int i = 0; i < vectors; i++) {
      vfloat all[4 * MOST_TAPS];
      int n = c1 - c < 4 ? (int)(c1 - c) : 4;
      load_taps(g, w, v + i, c, n, all);
      for (int at = 0; at < n * taps; at++) {
        int tap = at % taps, first = at - tap;
        vstore(to + ((c - c0) * taps + first + (g->flipped ? taps - 1 - tap : tap)) * width + i * VW, all[at]);
      }
    }
}

WINOGRAD_INLINE void evaluate_packed(const int alpha, const int side, int64_t phase, const float *w, int vectors, int64_t n, float *to,
                                     int64_t stride) {
  const winograd_weights as_packed = {.alpha = alpha, .side = side, .phase = phase};
  const int width = vectors * VW;
  for (int64_t c = 0; c < n; c++, w += side * side * width, to += width)
    for (int i = 0; i < vectors; i++) {
      vfloat all[MOST_TAPS];
#pragma GCC unroll 16
      for (int tap = 0; tap < side * side; tap++) all[tap] = vload(w + tap * width + i * VW);
      evaluate_channel(alpha, &as_packed, all, to + i * VW, stride);
    }
}

void ISA(winograd_evaluate_packed)(const winograd_weights *g, const float *w, int vectors, int64_t n, float *to, int64_t stride) {
  if (g->alpha == 4)
    evaluate_packed(4, 3, 0, w, vectors, n, to, stride);
  else if (g->alpha == 6)
    evaluate_packed(6, 3, 0, w, vectors, n, to, stride);
  else if (g->side == 3)
    evaluate_packed(5, 3, g->phase, w, vectors, n, to, stride);
  else
    evaluate_packed(5, 4, g->phase, w, vectors, n, to, stride);
}
