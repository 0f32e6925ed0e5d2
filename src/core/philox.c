#include "core/philox.h"

#include <math.h>

// [Box58]: radius from one uniform number, angle from the other.
void philox_normal2(uint32_t a, uint32_t b, double out[2]) {
  const double tau = 6.283185307179586476925286766559;
  double radius = sqrt(-2.0 * log(philox_uniform_open(a))), angle = tau * philox_uniform(b);
  out[0] = radius * cos(angle);
  out[1] = radius * sin(angle);
}

// The upper 64 bits of a * b.
static uint64_t multiply_high(uint64_t a, uint64_t b) {
  uint64_t a0 = (uint32_t)a, a1 = a >> 32, b0 = (uint32_t)b, b1 = b >> 32;
  uint64_t middle = a1 * b0 + (a0 * b0 >> 32);
  uint64_t other = a0 * b1 + (uint32_t)middle;
  return a1 * b1 + (middle >> 32) + (other >> 32);
}

uint64_t philox_below(uint64_t seed, uint32_t stream, uint64_t index, uint64_t n) {
  uint32_t bits[4];
  philox_draw(seed, stream, index, 0, bits);
  return multiply_high((uint64_t)bits[1] << 32 | bits[0], n);
}

void philox_permutation(uint64_t seed, uint32_t stream, int64_t n, int64_t *out) {
  for (int64_t i = 0; i < n; i++) out[i] = i;
  for (int64_t i = n - 1; i > 0; i--) {
    int64_t j = (int64_t)philox_below(seed, stream, (uint64_t)i, (uint64_t)i + 1), kept = out[i];
    out[i] = out[j];
    out[j] = kept;
  }
}
