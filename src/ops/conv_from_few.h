// What the kernels for convolutions from few channels share (conv_from_few_cpu.c, conv_from_few_weight_cpu.c). A row of the result needs kh
// rows of the map; they are copied into lines with zeros where there is no map, so that the loops over pixels know no edges. What a pixel
// of the result sees of a line is contiguous: kw pixels of C channels, stride C after those of the pixel before.
#ifndef OPS_CONV_FROM_FEW_H
#define OPS_CONV_FROM_FEW_H

#include <string.h>

#include "ops/conv_cpu.h"
#include "ops/gemm_cpu.h"
#include "ops/kernel_util.h"

enum { FROM_FEW = 4, FROM_FEW_TAPS = 196 }; // channels of the map, and products of a result, at most

// The map that has few channels and the one that is made, or that the weights' gradient sums over.
typedef struct from_few {
  int64_t B, H, W, C; // the map
  int64_t P, Q, K;    // the result
  int64_t kh, kw, stride[2];
  int64_t origin[2]; // result (u, v) reads from (u, v) stride + origin on
  int64_t line;      // floats
  int64_t taps;      // kh kw C
  int64_t lanes;     // K in whole vectors
} from_few;

static inline from_few from_few_of(const conv_problem *p) {
  const conv_sizes *z = &p->size;
  const conv2d_attr *a = &p->attr;
  const bool t = p->direction == CONV_TRANSPOSED; // of stride 1: forward over y, with the kernel turned around
  from_few f = {.B = z->B, .kh = z->kh, .kw = z->kw};
  f.H = t ? z->OH : z->H, f.W = t ? z->OW : z->W, f.C = t ? z->O : z->I;
  f.P = t ? z->H : z->OH, f.Q = t ? z->W : z->OW, f.K = t ? z->I : z->O;
  for (int i = 0; i < 2; i++) {
    f.stride[i] = a->stride[i];
    f.origin[i] = t ? a->pad[i] - ((i ? z->kw : z->kh) - 1) : -a->pad[i];
  }
  f.line = ((f.Q - 1) * f.stride[1] + f.kw) * f.C;
  f.taps = f.kh * f.kw * f.C;
  f.lanes = round_up(f.K, VW);
  return f;
}

static inline bool from_few_supports(const conv_problem *p) {
  const conv2d_attr *a = &p->attr;
  const conv_sizes *z = &p->size;
  const bool t = p->direction == CONV_TRANSPOSED;
  if (p->bf16 || z->groups > 1 || a->dilation[0] > 1 || a->dilation[1] > 1 || (t && (a->stride[0] > 1 || a->stride[1] > 1))) return false;
  return (t ? z->O : z->I) <= FROM_FEW && (t ? z->I : z->O) >= VW && from_few_of(p).taps <= FROM_FEW_TAPS;
}

// Row y of the map of image b as a line.
static inline void from_few_line(const from_few *f, const float *map, int64_t b, int64_t y, float *line) {
  int64_t x0 = f->origin[1], width = f->line / f->C, before = x0 < 0 ? -x0 : 0, n = 0;
  if (before > width) before = width;
  if (y >= 0 && y < f->H) n = f->W - x0 - before < width - before ? f->W - x0 - before : width - before;
  if (n < 0) n = 0;
  clear_floats(line, before * f->C);
  if (n) copy_floats(line + before * f->C, map + ((b * f->H + y) * f->W + x0 + before) * f->C, n * f->C);
  clear_floats(line + (before + n) * f->C, (width - before - n) * f->C);
}

#endif
