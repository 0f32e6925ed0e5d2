// The draws behind binarisation and dequantisation, many at a time: the bits are those of core/philox.h, in every instruction set.
#ifndef DATA_DRAWS_H
#define DATA_DRAWS_H

#include <stdint.h>

#include "core/ctx.h"

typedef struct draw_kernels {
  // x[i] = 1 where uniform number i of (seed, stream, sample) is below v[i] / 255, else 0
  void (*binarize_bytes)(uint64_t seed, uint32_t stream, uint64_t sample, int64_t n, const uint8_t *v, float *x);
  // The same of x itself.
  void (*binarize)(uint64_t seed, uint32_t stream, uint64_t sample, int64_t n, float *x);
  // Words block*4 to block*4 + 4 n_blocks, in their order.
  void (*words)(uint64_t seed, uint32_t stream, uint64_t sample, uint32_t block, int64_t n_blocks, uint32_t *out);
} draw_kernels;
const draw_kernels *draw_kernels_of(isa_level isa);

#endif
