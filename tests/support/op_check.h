// One checker for every operation: kernels of every instruction set (fused or not, memory poisoned) against the double-precision reference;
// first and second gradients against central differences in double precision.
#ifndef TESTS_SUPPORT_OP_CHECK_H
#define TESTS_SUPPORT_OP_CHECK_H

#include <elbo/ops.h>

#include "support/test.h"

// Builds a graph from inputs made with elbo_input and returns the tensor to check (NULL after an error).
typedef elbo_tensor *(*op_build_fn)(elbo_graph *g, const void *arg);

typedef struct op_check {
  const char *name;        // shown with failures; may carry the parameters
  uint64_t seed;           // of the random inputs
  int orders;              // derivatives to check: 0, 1 or 2
  double tolerance;        // kernels: |a - b| <= tolerance (1 + max |b|); 0: 2e-5
  double grad_tolerance;   // gradients of the reference against central differences, the like; 0: 1e-6 (second: 1e-5)
  double low, high;        // inputs uniform in [low, high); both 0: N(0,1)
  const char *no_gradient; // names of float inputs not to differentiate, "a,b"; NULL: none
  int64_t int_below;       // integer inputs are drawn from 0..int_below-1; 0: 4. "seed" and "sample_index" get values of their own
} op_check;

// True when all is well; prints what is wrong otherwise, and the seed. A gradient that is zero nearly everywhere fails.
bool op_check_run(const op_check *check, op_build_fn build, const void *arg);
// That differentiating `order` times is refused (the checked name is in the message).
bool op_check_refused(const op_check *check, int order, const char *message_part, op_build_fn build, const void *arg);

// Under --bench on the command line: prints time, GFLOP/s and GB/s of one run in each variant with the context's threads, gradients
// included when orders is 1. Otherwise does nothing.
void op_check_bench_arguments(int argc, char **argv);
bool op_check_benching(void);
void op_check_bench(const op_check *check, op_build_fn build, const void *arg);

#endif
