// The CPU backend: kernels from the registry, in the context's instruction-set variant.
#include <string.h>

#include "backend/backend.h"
#include "core/memory.h"
#include "ops/conv2d.h"
#include "ops/op.h"

static elbo_status cpu_alloc(elbo_ctx *ctx, size_t bytes, void **out) { return aligned_new(ctx, bytes, "the arena of a plan", out); }

static void cpu_copy(void *to, const void *from, size_t bytes) {
  if (to != from) memcpy(to, from, bytes);
}

static void cpu_synchronize(void) {}

static elbo_status cpu_compile(compile_env *env, const node *n, kernel *k) {
  const cpu_op *op = cpu_op_find(n->op, env->isa);
  if (!op) return fail(env->ctx, ELBO_ERROR_UNSUPPORTED, "no CPU kernel in the %s variant", isa_name(env->isa));
  TRY(op->prepare(env, n, k));
  if (!k->run) return fail(env->ctx, ELBO_ERROR_INTERNAL, "its CPU kernel was not prepared");
  if (!k->name) k->name = "own";
  return ELBO_OK;
}

const backend backend_cpu = {.name = "cpu",
                             .element_size = elbo_dtype_size,
                             .alloc = cpu_alloc,
                             .free = aligned_free,
                             .copy_in = cpu_copy,
                             .copy_out = cpu_copy,
                             .compile = cpu_compile,
                             .synchronize = cpu_synchronize,
                             .fuses = FUSE_NORM | FUSE_CONTRACTION | FUSE_ELEMENTWISE,
                             .normalises = conv2d_normalises};
