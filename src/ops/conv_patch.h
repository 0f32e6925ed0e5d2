// Patches: the rows of the matrix that a convolution multiplies its weights with, gathered block by block from a tensor (B,H,W,C).
// Row m of a patch set is a place (b, u, v) of a grid; its elements are (tap row, tap column, channel). A forward convolution has one set
// over its output. A transposed one has a set for each residue of the output position modulo the stride: within it, the taps that reach the
// position are always the same, and the input moves by one where the output moves by a stride. So no work is spent on inserted zeros.
#ifndef OPS_CONV_PATCH_H
#define OPS_CONV_PATCH_H

#include "ops/conv_cpu.h"

typedef struct conv_run { // taps of one kernel row that lie side by side in memory
  int64_t shift;          // first column, relative to v * step
  int64_t pixels, first;  // how many taps, and the number of taps before
} conv_run;

typedef struct conv_patches {
  int64_t H, W, C;            // of the tensor that is read
  int64_t channels, channel0; // of this group
  int64_t grid_h, grid_w, rows;
  int64_t step[2];
  int tap_rows, tap_columns, n_runs;
  int64_t *shift_y;                    // (tap_rows)
  conv_run *runs;                      // (n_runs)
  int64_t *tap;                        // (tap_rows * tap_columns): index of the tap in a kernel kh x kw
  int64_t weight_n, weight_c, weight0; // weight of (tap, c, n) is at weight0 + n weight_n + c weight_c + tap
  // where a row lands in the other tensor, (B,P,Q,other_channels)
  int64_t P, Q, other_channels, other_channel0, place0[2], place_step[2];
} conv_patches;

// Elements of a patch.
static inline int64_t patch_length(const conv_patches *s) { return (int64_t)s->tap_rows * s->tap_columns * s->channels; }
// The sets of one group, forward (one) or transposed (at most stride[0] * stride[1]). Arrays are taken from `store`, which moves on; it has
// patch_store_size numbers for a group.
int64_t conv_patch_set_count(const conv_problem *p, bool transposed); // at most, of one group
int64_t patch_store_size(const conv_problem *p, bool transposed);
int conv_patch_sets(const conv_problem *p, bool transposed, int64_t group, conv_patches *sets, int64_t **store);

#define PATCH_ROWS 128 // most rows of one call
void ISA(gather_patches)(const conv_patches *s, const float *x, int64_t m0, int64_t rows, int64_t k0, int64_t kc, float *dst);
void ISA(place_patches)(const conv_patches *s, int64_t m0, int64_t rows, int64_t *offset);
// Rows [k0, k0 + kc) of columns [n0, n0 + width) of the weights' matrix.
void ISA(pack_patch_weights)(const conv_patches *s, const float *w, int64_t N, int64_t k0, int64_t kc, int64_t n0, int width, float *dst);

#endif
