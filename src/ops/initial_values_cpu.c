#include "ops/initial_values.h"

#include "ops/gemm_cpu.h"
#include "ops/isa.h"

extern const uniform_values_fn ISA(uniform_values_cpu);

// A Philox block, which is four elements, in each lane.
static void uniform_values(uint64_t seed, uint32_t stream, double scale, int64_t begin, int64_t end, int64_t count, float *to) {
  for (int64_t b = begin; b < end; b += VW) {
    vuint c[4];
    uint32_t word[4 * VW], lane[VW];
    float value[4 * VW], ordered[4 * VW];
    vfloat column[4];
    for (int l = 0; l < VW; l++) lane[l] = (uint32_t)b + (uint32_t)l;
    memcpy(&c[0], lane, sizeof lane);
    c[1] = c[2] = (vuint){0}; // sample 0
    c[3] = (vuint){0} + stream;
    vphilox(c, seed);
    memcpy(word, c, sizeof word);
    for (int i = 0; i < 4 * VW; i++) value[i] = (float)((2 * ((double)(int32_t)(word[i] >> 8) * 0x1p-24) - 1) * scale);
    memcpy(column, value, sizeof value);
    store_transposed4(column, ordered, 4);
    int64_t stop = 4 * end < count ? 4 * end : count, n = stop - 4 * b < 4 * VW ? stop - 4 * b : 4 * VW;
    memcpy(to + 4 * b, ordered, (size_t)n * sizeof *to);
  }
}

const uniform_values_fn ISA(uniform_values_cpu) = uniform_values;
