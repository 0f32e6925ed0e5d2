#include "ops/conv_cpu.h"

static elbo_status prepare(compile_env *env, const node *n, kernel *k) {
  conv_problem p = conv_problem_of(env, n);
  return ISA(conv_prepare)(env, &p, k);
}

const cpu_op ISA(conv_transpose2d_cpu) = {prepare};
const cpu_op ISA(fused_conv_transpose2d_cpu) = {prepare};
