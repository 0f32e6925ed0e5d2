// One kernel of one operation, prepared by hand: forced where the operation's own choice would take another, compared with the operation's
// reference, and timed.
#ifndef TESTS_SUPPORT_KERNEL_CHECK_H
#define TESTS_SUPPORT_KERNEL_CHECK_H

#include "backend/backend.h"
#include "ops/op.h"
#include "support/test.h"

// Fills `k` for node n; `arg` says which kernel.
typedef elbo_status (*kernel_prepare_fn)(compile_env *env, const node *n, kernel *k, const void *arg);

typedef struct kernel_check {
  const char *label; // shown with failures
  uint64_t seed;     // of the inputs, N(0,1)
  double tolerance;  // |a - b| <= tolerance (1 + max |b|); 0: 2e-5
  // compile_env's
  bool weights_constant, weights_cached;
  int64_t keep_bytes;
  bool bf16; // the reference then gets the two operands of the product rounded
  bf16_unit bf16_unit;
} kernel_check;
compile_env kernel_check_env(elbo_ctx *ctx, const kernel_check *check);

// Runs it three times: on poisoned memory, again, and after an input has changed (its version as well). Inputs and outputs end at guard
// values that must survive; outputs and scratch begin as NaN. Prints what is wrong.
bool kernel_check_run(elbo_ctx *ctx, const kernel_check *check, const node *n, kernel_prepare_fn prepare, const void *arg);
// Least seconds of `runs` runs; `name` receives the kernel's name when it is not NULL. 0 when it could not be prepared.
double kernel_check_time(elbo_ctx *ctx, const node *n, kernel_prepare_fn prepare, const void *arg, int runs, char name[64]);

#endif
