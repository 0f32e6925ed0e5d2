// The most multiply-adds that this instruction set can do: independent accumulators in registers, nothing from memory.
#include "ops/isa.h"
#include "ops/vec.h"
#include "tasks/peak.h"

enum { CHAINS = 12 }; // two pipes with a latency of four need eight; sixteen registers hold twelve and the operands

// 2 x CHAINS x VW x rounds FLOPs. The result depends on every chain, so that none can be left out.
float ISA(peak_loop)(int64_t rounds, float factor, float offset) {
  vfloat a = vsplat(factor), b = vsplat(offset), sum[CHAINS];
#pragma GCC unroll 12
  for (int i = 0; i < CHAINS; i++) sum[i] = vsplat((float)i);
  for (int64_t r = 0; r < rounds; r++) {
#pragma GCC unroll 12
    for (int i = 0; i < CHAINS; i++) sum[i] = sum[i] * a + b;
  }
  vfloat all = {0};
#pragma GCC unroll 12
  for (int i = 0; i < CHAINS; i++) all += sum[i];
  return all[0] + all[VW - 1];
}

// to = to / 2 + from: two reads and one write an element, no line fetched that is not used. count: a multiple of 16.
void ISA(stream_loop)(float *to, const float *from, int64_t count) {
  vfloat half = vsplat(0.5f);
  for (int64_t i = 0; i < count; i += VW) vstore(to + i, vload(to + i) * half + vload(from + i));
}

int ISA(peak_flops_per_round)(void) { return 2 * CHAINS * VW; }
