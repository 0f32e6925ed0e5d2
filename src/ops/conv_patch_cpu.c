#include "ops/conv_patch.h"
#include "ops/gemm_cpu.h"

// The copies of one run of taps: n_rows patches, elements [q0, q1) of the run, to dst[r * GEMM_LD]. `at` is the index of the run's first
// element in x, were it inside; `x0` its first column.
typedef struct patch_row {
  int64_t at;    // of (b, 0, 0) in x
  int64_t y, x0; // u step, v step
} patch_row;

static inline __attribute__((always_inline)) void copy_run(const conv_patches *s, const float *x, const patch_row *row, int64_t rows,
                                                           int64_t shift_y, const conv_run *run, int64_t q0, int64_t q1, int64_t length,
                                                           float *dst) {
  for (int64_t r = 0; r < rows; r++, dst += GEMM_LD) {
    int64_t y = row[r].y + shift_y, x0 = row[r].x0 + run->shift;
    if (y < 0 || y >= s->H) {
      clear_floats(dst, length);
      continue;
    }
    const float *src = x + row[r].at + (y * s->W + x0) * s->C + q0;
    if (x0 >= 0 && x0 + run->pixels <= s->W) {
      copy_floats(dst, src, length);
      continue;
    }
    int64_t low = x0 < 0 ? -x0 * s->channels : 0, high = (s->W - x0) * s->channels;
    low = low < q0 ? q0 : low > q1 ? q1 : low;
    high = high < low ? low : high > q1 ? q1 : high;
    clear_floats(dst, low - q0);
    copy_floats(dst + (low - q0), src + (low - q0), high - low);
    clear_floats(dst + (high - q0), q1 - high);
  }
}

// Calls for what the next `rows` patches see first of all: the last columns of their last kernel row.
static void prefetch_patches(const conv_patches *s, const float *x, int64_t m0, int64_t rows) {
  if (m0 + rows > s->rows || s->n_runs == 0 || s->tap_rows == 0) return;
  const conv_run *run = s->runs + s->n_runs - 1;
  int64_t pixels = s->step[1] < run->pixels ? s->step[1] : run->pixels, shift_x = run->shift + run->pixels - pixels;
  int64_t v = m0 % s->grid_w, u = m0 / s->grid_w % s->grid_h, b = m0 / s->grid_w / s->grid_h;
  for (int64_t r = 0; r < rows; r++) {
    int64_t y = u * s->step[0] + s->shift_y[s->tap_rows - 1], x0 = v * s->step[1] + shift_x;
    if (y >= 0 && y < s->H && x0 >= 0 && x0 + pixels <= s->W) {
      const float *from = x + ((b * s->H + y) * s->W + x0) * s->C + s->channel0;
      for (int64_t i = 0; i < pixels * s->channels; i += 16) __builtin_prefetch(from + i);
    }
    if (++v == s->grid_w) {
      v = 0;
      if (++u == s->grid_h) u = 0, b++;
    }
  }
}

void ISA(gather_patches)(const conv_patches *s, const float *x, int64_t m0, int64_t rows, int64_t k0, int64_t kc, float *dst) {
  patch_row row[PATCH_ROWS];
  int64_t v = m0 % s->grid_w, u = m0 / s->grid_w % s->grid_h, b = m0 / s->grid_w / s->grid_h;
  for (int64_t r = 0; r < rows; r++) {
    row[r] = (patch_row){b * s->H * s->W * s->C + s->channel0, u * s->step[0], v * s->step[1]};
    if (++v == s->grid_w) {
      v = 0;
      if (++u == s->grid_h) u = 0, b++;
    }
  }
  int64_t line = (int64_t)s->tap_columns * s->channels; // elements of one kernel row
  for (int64_t k = k0; k < k0 + kc;) {
    int64_t tap_row = k / line, in_line = k % line;
    int i = 0;
    while (i + 1 < s->n_runs && s->runs[i + 1].first * s->channels <= in_line) i++;
    const conv_run *run = s->runs + i;
    int64_t q0 = in_line - run->first * s->channels, q1 = run->pixels * s->channels;
    if (q1 - q0 > k0 + kc - k) q1 = q0 + k0 + kc - k;
    float *to = dst + (k - k0);
    switch (q1 - q0) { // lengths worth a copy of their own
    case 2 * VW: copy_run(s, x, row, rows, s->shift_y[tap_row], run, q0, q1, 2 * VW, to); break;
    case 4 * VW: copy_run(s, x, row, rows, s->shift_y[tap_row], run, q0, q1, 4 * VW, to); break;
    case 8 * VW: copy_run(s, x, row, rows, s->shift_y[tap_row], run, q0, q1, 8 * VW, to); break;
    default: copy_run(s, x, row, rows, s->shift_y[tap_row], run, q0, q1, q1 - q0, to);
    }
    k += q1 - q0;
  }
  if (k0 == 0 && s->channels >= 16) prefetch_patches(s, x, m0 + rows, rows);
}

void ISA(place_patches)(const conv_patches *s, int64_t m0, int64_t rows, int64_t *offset) {
  int64_t v = m0 % s->grid_w, u = m0 / s->grid_w % s->grid_h, b = m0 / s->grid_w / s->grid_h;
  for (int64_t r = 0; r < rows; r++) {
    int64_t y = s->place0[0] + u * s->place_step[0], x = s->place0[1] + v * s->place_step[1];
    offset[r] = ((b * s->P + y) * s->Q + x) * s->other_channels + s->other_channel0;
    if (++v == s->grid_w) {
      v = 0;
      if (++u == s->grid_h) u = 0, b++;
    }
  }
}

void ISA(pack_patch_weights)(const conv_patches *s, const float *w, int64_t N, int64_t k0, int64_t kc, int64_t n0, int width, float *dst) {
  int64_t taps = (int64_t)s->tap_rows * s->tap_columns, columns = N - n0 < width ? N - n0 : width, C = s->channels;
  bool whole = k0 == 0 && kc == taps * C;
  if (columns < width) clear_floats(dst, kc * width);
  w += s->weight0 + n0 * s->weight_n;
  if (whole && s->weight_n > s->weight_c) { // read in the order of memory
    for (int64_t n = 0; n < columns; n++)
      for (int64_t c = 0; c < C; c++)
        for (int64_t t = 0; t < taps; t++) dst[(t * C + c) * width + n] = w[n * s->weight_n + c * s->weight_c + s->tap[t]];
  } else if (s->weight_n > s->weight_c) {
    for (int64_t n = 0; n < columns; n++)
      for (int64_t k = k0; k < k0 + kc;) {
        int64_t t = k / C, c = k % C, end = (t + 1) * C < k0 + kc ? (t + 1) * C : k0 + kc;
        for (const float *from = w + n * s->weight_n + s->tap[t]; k < end; k++, c++) dst[(k - k0) * width + n] = from[c * s->weight_c];
      }
  } else {
    for (int64_t c = 0; c < C; c++)
      for (int64_t t = 0; t < taps; t++) {
        int64_t k = t * C + c - k0;
        for (int64_t n = 0; k >= 0 && k < kc && n < columns; n++) dst[k * width + n] = w[n * s->weight_n + c * s->weight_c + s->tap[t]];
      }
  }
}
