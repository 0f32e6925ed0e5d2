// The table of convolution kernels and the operations conv2d, fused_conv2d (conv_transpose2d_cpu.c and conv2d_weight_grad_cpu.c hold
// theirs).
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "ops/conv_cpu.h"
#include "ops/norm.h"
#include "ops/winograd.h"

const conv_kernel *const ISA(conv_kernels)[] = {&ISA(conv_gemm),        &ISA(conv_dot),
                                                &ISA(conv_few),         &ISA(conv_few_weight),
                                                &ISA(conv_from_few),    &ISA(conv_from_few_weight),
                                                &ISA(conv_gemm_weight), &ISA(winograd2),
                                                &ISA(winograd4),        &ISA(winograd6),
                                                &ISA(winograd_strided), &ISA(winograd2_weight),
                                                &ISA(winograd4_weight), &ISA(winograd_strided_weight),
                                                &conv_onednn,           NULL};

static void add_name(char *list, size_t size, const char *name) {
  size_t at = strlen(list);
  snprintf(list + at, size - at, "%s%s", at ? ", " : "", name);
}

// The kernel asked for by name, or a message with those that would do.
static elbo_status prepare_named(compile_env *env, const conv_problem *p, kernel *k) {
  char all[256] = "", able[256] = "";
  bool known = false;
  for (const conv_kernel *const *c = ISA(conv_kernels); *c; c++) {
    bool named = !strcmp((*c)->name, env->kernel), supports = conv_supports(*c, p);
    if (named && supports) return (*c)->prepare(env, p, k);
    known |= named;
    add_name(all, sizeof all, (*c)->name);
    if (supports) add_name(able, sizeof able, (*c)->name);
  }
  if (known) return fail(env->ctx, ELBO_ERROR_ARGUMENT, "kernel '%s' does not do this convolution; those that do: %s", env->kernel, able);
  return fail(env->ctx, ELBO_ERROR_ARGUMENT, "there is no convolution kernel '%s'; there are %s", env->kernel, all);
}

// The cheapest, and the cheapest of our own; NULL where there is none.
static const conv_kernel *cheapest(const conv_problem *p, const conv_kernel **of_our_own) {
  const conv_kernel *best = NULL, *own = NULL;
  double least = INFINITY, least_own = INFINITY;
  for (const conv_kernel *const *c = ISA(conv_kernels); *c; c++) {
    if (!conv_supports(*c, p)) continue;
    double cost = (*c)->cost(p);
    if (cost < least) best = *c, least = cost;
    if (*c != &conv_onednn && cost < least_own) own = *c, least_own = cost;
  }
  *of_our_own = own;
  return best;
}

// The cheapest; where it refuses after all (a library may), the cheapest of our own.
elbo_status ISA(conv_prepare)(compile_env *env, const conv_problem *p, kernel *k) {
  if (env->kernel) return prepare_named(env, p, k);
  const conv_kernel *own, *best = cheapest(p, &own);
  if (!best) return fail(env->ctx, ELBO_ERROR_INTERNAL, "no convolution kernel normalises what it reads at this shape");
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

// Only of the kernel that would be taken without the norm, and the same way: it is not worth a slower one.
static bool normalises(const compile_env *env, const node *conv, const node *norm) {
  conv_problem p = conv_problem_of(env, conv);
  const elbo_tensor *x = norm->in[0];
  const conv_kernel *own, *best = env->kernel || p.direction != CONV_FORWARD ? NULL : cheapest(&p, &own);
  double plain = best ? best->cost(&p) : 0;
  p.norm = FUSED_NORM, p.x2 = group_norm_second(norm) ? FUSED_X2 : -1, p.first = x->shape.dim[x->shape.rank - 1];
  return best && conv_supports(best, &p) && best->cost(&p) == plain;
}

const conv_normalises_fn ISA(conv_normalises_cpu) = normalises;
const cpu_op ISA(conv2d_cpu) = {prepare};
const cpu_op ISA(fused_conv2d_cpu) = {prepare};
