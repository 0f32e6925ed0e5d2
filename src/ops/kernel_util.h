// Small things that every kernel file needs: the state of a kernel, sizes of elements under the reference backend, axes.
#ifndef OPS_KERNEL_UTIL_H
#define OPS_KERNEL_UTIL_H

#include <stdlib.h>

#include "ops/op.h"

// Frees a state that is one allocation.
static inline void kernel_state_free(kernel *k) {
  free(k->state);
  k->state = NULL;
}

// A zeroed state of `bytes` in *out, freed with the kernel.
static inline elbo_status kernel_state_new(compile_env *env, kernel *k, size_t bytes, void *out) {
  void *state = NULL;
  TRY(array_new(env->ctx, 1, bytes, "kernel state", &state));
  k->state = state, k->destroy = kernel_state_free;
  *(void **)out = state;
  return ELBO_OK;
}

static inline bool dtype_is_float(elbo_dtype dtype) {
  return dtype == ELBO_F32 || dtype == ELBO_F64 || dtype == ELBO_F16 || dtype == ELBO_BF16;
}

// Bytes of an element under the reference backend, which keeps every float as a double.
static inline size_t reference_size(elbo_dtype dtype) { return dtype_is_float(dtype) ? sizeof(double) : elbo_dtype_size(dtype); }

// Product of dim[from..to).
static inline int64_t shape_product(const shape *s, int from, int to) {
  int64_t p = 1;
  for (int i = from; i < to; i++) p *= s->dim[i];
  return p;
}

static inline int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// The reference of operation NAME.
#define OP_REFERENCE(name) elbo_status name##_ref(elbo_ctx *ctx, const node *n, const void *const *in, void *const *out)

#endif
