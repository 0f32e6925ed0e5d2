// First values of parameters, many at a time: the numbers are those of core/philox.h, to the bit, in every instruction set.
#ifndef OPS_INITIAL_VALUES_H
#define OPS_INITIAL_VALUES_H

#include <stdint.h>

#include "core/ctx.h"

// to[i] = (2 u - 1) scale, in double, for u uniform number i of (seed, stream) in [0,1), i in [4 begin, 4 end) and below `count`, which is
// at most 2^34.
typedef void (*uniform_values_fn)(uint64_t seed, uint32_t stream, double scale, int64_t begin, int64_t end, int64_t count, float *to);
uniform_values_fn uniform_values_of(isa_level isa);

#endif
