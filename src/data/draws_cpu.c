// Draws in vectors: a Philox block, which is four elements, in each lane.
#include <string.h>

#include "data/draws.h"
#include "ops/isa.h"
#include "ops/vec.h"

static const uint32_t LANES[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

static inline void draw_blocks(uint64_t seed, uint32_t stream, uint64_t sample, uint32_t block, vuint c[4]) {
  vuint lane;
  memcpy(&lane, LANES, sizeof lane);
  c[0] = lane + block;
  c[1] = (vuint){0} + (uint32_t)sample;
  c[2] = (vuint){0} + (uint32_t)(sample >> 32);
  c[3] = (vuint){0} + stream;
  vphilox(c, seed);
}

static void words(uint64_t seed, uint32_t stream, uint64_t sample, uint32_t block, int64_t n_blocks, uint32_t *out) {
  for (int64_t b = 0; b < n_blocks; b += VW) {
    vuint c[4];
    uint32_t word[4][VW];
    draw_blocks(seed, stream, sample, block + (uint32_t)b, c);
    memcpy(word, c, sizeof word);
    int64_t m = n_blocks - b < VW ? n_blocks - b : VW;
    for (int64_t l = 0; l < m; l++)
      for (int j = 0; j < 4; j++) out[4 * (b + l) + j] = word[j][l];
  }
}

// Lane l of a word holds four neighbours, so input and output need no shuffling. (float)v / 255 rounds as the scalar quotient does, and a
// uniform number has 24 bits: the comparison in float is the exact one.
static void binarize_bytes(uint64_t seed, uint32_t stream, uint64_t sample, int64_t n, const uint8_t *v, float *x) {
  for (int64_t i = 0; i < n; i += 4 * VW) {
    int64_t m = n - i < 4 * VW ? n - i : 4 * VW;
    uint8_t in[4 * VW] = {0}, bit[4 * VW];
    uint64_t any = 0, part;
    memcpy(in, v + i, (size_t)m);
    for (int k = 0; k < 4 * VW; k += 8) memcpy(&part, in + k, 8), any |= part;
    if (any == 0) { // digits are black in most places
      memset(x + i, 0, (size_t)m * sizeof *x);
      continue;
    }
    vuint c[4], grey, drawn = {0};
    draw_blocks(seed, stream, sample, (uint32_t)(i / 4), c);
    memcpy(&grey, in, sizeof grey);
    for (int j = 0; j < 4; j++) {
      vfloat level = __builtin_convertvector((vint)(grey >> 8 * j & 255), vfloat) / 255.0f;
      drawn |= ((vuint)(vuniform(c[j]) < level) & 1) << 8 * j;
    }
    memcpy(bit, &drawn, sizeof bit);
    if (m == 4 * VW)
      for (int k = 0; k < 4 * VW; k++) x[i + k] = (float)bit[k];
    else
      for (int64_t k = 0; k < m; k++) x[i + k] = (float)bit[k];
  }
}

static void binarize(uint64_t seed, uint32_t stream, uint64_t sample, int64_t n, float *x) {
  for (int64_t i = 0; i < n; i += 4 * VW) {
    int64_t m = n - i < 4 * VW ? n - i : 4 * VW;
    uint32_t word[4 * VW];
    words(seed, stream, sample, (uint32_t)(i / 4), VW, word);
    for (int64_t k = 0; k < m; k++) x[i + k] = (float)(word[k] >> 8) * 0x1p-24f < x[i + k] ? 1.0f : 0.0f;
  }
}

const draw_kernels ISA(draws_cpu) = {binarize_bytes, binarize, words};
