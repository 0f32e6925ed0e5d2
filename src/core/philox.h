// Philox4x32-10 [Salmon11]: a counter-based generator, so that a draw is a function of (seed, stream, sample, element) alone.
#ifndef CORE_PHILOX_H
#define CORE_PHILOX_H

#include <stdint.h>

static inline void philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
  uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3], k0 = key[0], k1 = key[1];
  for (int round = 0; round < 10; round++) {
    uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
    uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
    c1 = (uint32_t)p1, c3 = (uint32_t)p0, c0 = n0, c2 = n2;
    k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
  }
  out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

// The house's use of the counter: element block (element/4), sample low and high, stream. The key is the seed.
static inline void philox_draw(uint64_t seed, uint32_t stream, uint64_t sample, uint32_t block, uint32_t out[4]) {
  uint32_t counter[4] = {block, (uint32_t)sample, (uint32_t)(sample >> 32), stream};
  uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
  philox4x32(counter, key, out);
}

// Stream of a name: FNV-1a, 32 bits.
static inline uint32_t philox_stream(const char *name) {
  uint32_t h = 2166136261u;
  for (; *name; name++) h = (h ^ (uint8_t)*name) * 16777619u;
  return h;
}

// [0,1), 24 bits; every value representable in float32
static inline double philox_uniform(uint32_t bits) { return (double)(bits >> 8) * 0x1p-24; }
// (0,1], for logarithms
static inline double philox_uniform_open(uint32_t bits) { return ((double)(bits >> 8) + 1.0) * 0x1p-24; }
// Two standard normals of two words (Box and Muller 1958).
void philox_normal2(uint32_t a, uint32_t b, double out[2]);
// A whole number in [0, n), n > 0, without bias worth naming (64-bit multiply-shift of two words).
uint64_t philox_below(uint64_t seed, uint32_t stream, uint64_t index, uint64_t n);

// A permutation of 0..n-1 (Fisher and Yates) as a function of (seed, stream).
void philox_permutation(uint64_t seed, uint32_t stream, int64_t n, int64_t *out);

#endif
