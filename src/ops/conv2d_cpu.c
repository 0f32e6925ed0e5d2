// The table of convolution kernels and the operations conv2d, fused_conv2d (conv_transpose2d_cpu.c and conv2d_weight_grad_cpu.c hold
// theirs).
#include <math.h>

#include "ops/conv_cpu.h"
#include "ops/winograd.h"

const conv_kernel *const ISA(conv_kernels)[] = {&ISA(conv_gemm),        &ISA(conv_dot),  &ISA(conv_gemm_weight),
                                                &ISA(winograd2),        &ISA(winograd4), &ISA(winograd2_weight),
                                                &ISA(winograd4_weight), &conv_onednn,    NULL};

// The cheapest; where it refuses after all (a library may), the cheapest of our own.
elbo_status ISA(conv_prepare)(compile_env *env, const conv_problem *p, kernel *k) {
  const conv_kernel *best = NULL, *own = NULL;
  double least = INFINITY, least_own = INFINITY;
  for (const conv_kernel *const *c = ISA(conv_kernels); *c; c++) {
    if (!(*c)->supports(p)) continue;
    double cost = (*c)->cost(p);
    if (cost < least) best = *c, least = cost;
    if (*c != &conv_onednn && cost < least_own) own = *c, least_own = cost;
  }
  elbo_status status = best->prepare(env, p, k);
  if (status != ELBO_ERROR_UNSUPPORTED || best == own) return status;
  log_debug(env->ctx, "convolution by a kernel of our own: %s", elbo_ctx_message(env->ctx));
  if (k->destroy) k->destroy(k);
  *k = (kernel){0};
  return own->prepare(env, p, k);
}

static elbo_status prepare(compile_env *env, const node *n, kernel *k) {
  conv_problem p = conv_problem_of(env, n);
  return ISA(conv_prepare)(env, &p, k);
}

const cpu_op ISA(conv2d_cpu) = {prepare};
const cpu_op ISA(fused_conv2d_cpu) = {prepare};
