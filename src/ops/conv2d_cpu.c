// The table of convolution kernels and the operations conv2d, fused_conv2d (conv_transpose2d_cpu.c and conv2d_weight_grad_cpu.c hold
// theirs).
#include <math.h>

#include "ops/conv_cpu.h"

const conv_kernel *const ISA(conv_kernels)[] = {&ISA(conv_gemm), &ISA(conv_dot), &ISA(conv_gemm_weight), NULL};

elbo_status ISA(conv_prepare)(compile_env *env, const conv_problem *p, kernel *k) {
  const conv_kernel *best = NULL;
  double least = INFINITY;
  for (const conv_kernel *const *c = ISA(conv_kernels); *c; c++) {
    if (!(*c)->supports(p)) continue;
    double cost = (*c)->cost(p);
    if (!best || cost < least) best = *c, least = cost;
  }
  return best->prepare(env, p, k);
}

static elbo_status prepare(compile_env *env, const node *n, kernel *k) {
  conv_problem p = conv_problem_of(env, n);
  return ISA(conv_prepare)(env, &p, k);
}

const cpu_op ISA(conv2d_cpu) = {prepare};
const cpu_op ISA(fused_conv2d_cpu) = {prepare};
