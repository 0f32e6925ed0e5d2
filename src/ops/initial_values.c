#include "ops/initial_values.h"

extern const uniform_values_fn uniform_values_cpu_base, uniform_values_cpu_v3, uniform_values_cpu_v4;

uniform_values_fn uniform_values_of(isa_level isa) {
#ifdef ELBO_HAVE_X86_VARIANTS
  if (isa == ISA_V4) return uniform_values_cpu_v4;
  if (isa == ISA_V3) return uniform_values_cpu_v3;
#endif
  (void)isa;
  return uniform_values_cpu_base;
}
