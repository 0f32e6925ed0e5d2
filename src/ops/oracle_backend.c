// The reference backend: every operation's double-precision oracle, for checking. Floats are doubles, integers what they are.
#include <string.h>

#include "backend/backend.h"
#include "core/memory.h"
#include "ops/op.h"

static size_t reference_element_size(elbo_dtype dtype) {
  switch (dtype) {
  case ELBO_F32:
  case ELBO_F16:
  case ELBO_BF16: return sizeof(double);
  default: return elbo_dtype_size(dtype);
  }
}

static elbo_status reference_alloc(elbo_ctx *ctx, size_t bytes, void **out) { return aligned_new(ctx, bytes, "the arena of a plan", out); }

static void reference_copy(void *to, const void *from, size_t bytes) {
  if (to != from) memcpy(to, from, bytes);
}

static void reference_synchronize(void) {}

static elbo_status reference_run(const kernel *k, const kernel_args *a) {
  const node *n = k->state;
  return n->op->reference(a->ctx, n, a->in, a->out);
}

static elbo_status reference_compile(compile_env *env, const node *n, kernel *k) {
  if (!n->op->reference) return fail(env->ctx, ELBO_ERROR_INTERNAL, "it has no reference");
  k->name = "reference";
  k->run = reference_run;
  k->state = (void *)n; // owned by the plan's graph
  return ELBO_OK;
}

const backend backend_reference = {.name = "reference",
                                   .element_size = reference_element_size,
                                   .alloc = reference_alloc,
                                   .free = aligned_free,
                                   .copy_in = reference_copy,
                                   .copy_out = reference_copy,
                                   .compile = reference_compile,
                                   .synchronize = reference_synchronize};
