// What all devices share: the kernel that runs one node, and the table of functions that makes a backend.
#ifndef BACKEND_BACKEND_H
#define BACKEND_BACKEND_H

#include "backend/node.h"
#include "core/ctx.h"

typedef struct kernel kernel;
typedef struct backend backend;

// What a kernel is given on each run. Pointers follow the node's inputs and outputs; NULL for absent inputs.
typedef struct kernel_args {
  const void *const *in;
  void *const *out;
  void *scratch;           // kernel.scratch_bytes, 64-byte aligned, shared with other kernels: garbage on entry
  void *persist;           // kernel.persist_bytes, 64-byte aligned, this kernel's own for the plan's life: packed weights
  const uint64_t *version; // per input: changes whenever the value may have changed; parameters keep theirs between runs when untouched
  const thread_pool *pool;
  elbo_ctx *ctx;
} kernel_args;

struct kernel {
  const char *name;     // static or owned by state: "own:gemm.v3", "onednn:jit:avx512_core"
  size_t scratch_bytes; // from the arena
  size_t persist_bytes;
  void *state; // whatever prepare made
  elbo_status (*run)(const kernel *k, const kernel_args *a);
  void (*destroy)(kernel *k); // frees state; NULL when there is none
};

typedef struct compile_env {
  elbo_ctx *ctx;
  isa_level isa;
  const thread_pool *pool;
  bool weights_constant; // inference: parameters do not change between runs; worth packing
  bool weights_cached;   // the last cache holds all of them, transformed
  bool making_shows;     // making those of all kernels larger than a pixel would take a twentieth of a run or more
  int64_t keep_bytes;    // of constant weights, transformed, that may be kept from run to run; a kernel that does takes its own away
  bool no_winograd;      // engine.winograd: off; kernels that compute by Winograd's algorithm say that they do not support the problem
  bool bf16;             // products of operands rounded to bfloat16
  bf16_unit bf16_unit;   // with bf16: what may multiply them; BF16_NONE: float32 multiply-adds
  const char *kernel;    // NULL, or the name of the one kernel that operations with a table of kernels may take
} compile_env;

enum { FUSE_CONTRACTION = 1, FUSE_ELEMENTWISE = 2, FUSE_NORM = 4 };

// One device. Memory is flat; pointers from `alloc` may be offset.
struct backend {
  const char *name;
  size_t (*element_size)(elbo_dtype dtype); // the reference backend keeps every float as a double
  elbo_status (*alloc)(elbo_ctx *ctx, size_t bytes, void **out);
  void (*free)(void *memory);
  void (*copy_in)(void *device, const void *host, size_t bytes);
  void (*copy_out)(void *host, const void *device, size_t bytes);
  elbo_status (*compile)(compile_env *env, const node *n, kernel *k);
  void (*synchronize)(void);
  unsigned fuses; // the patterns that it has kernels for; the graph's fuse pass makes no others
  // Whether the convolution's kernel can normalise what it reads in place of `norm`, a group norm with its activation. NULL: never.
  bool (*normalises)(const compile_env *env, const node *conv, const node *norm);
};

extern const backend backend_cpu;
extern const backend backend_reference;

#endif
