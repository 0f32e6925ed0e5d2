// A compiled plan's insides.
#ifndef GRAPH_PLAN_H
#define GRAPH_PLAN_H

#include "backend/backend.h"
#include "graph/memory_plan.h"
#include "graph/store.h"

typedef struct plan_step {
  const node *node;
  kernel kernel;
  const char *label; // what it makes, for people: its name or its weight's, and the shape
  const void **in;   // resolved pointers, NULL for absent inputs
  void **out;
  uint64_t *version; // per input
  int64_t scratch;   // buffer index, -1: none
  int64_t persist;
  double seconds, began;
  int64_t runs;
} plan_step;

typedef struct plan_param {
  const node *leaf;
  int64_t buffer;
  int store_entry; // of the bound store
  uint64_t seen;   // store version whose values the plan's own copy holds (backends that keep one)
} plan_param;

typedef struct plan_output {
  elbo_tensor *tensor;
  void *bound;   // the caller's memory, or NULL
  bool external; // the tensor lives there
} plan_output;

struct elbo_plan {
  elbo_ctx *ctx;
  const backend *backend;
  elbo_graph *graph; // the plan's own, cleaned and fused
  plan_step *steps;
  int n_steps;
  buffer *buffers;
  int64_t n_buffers, cap_buffers;
  int64_t *buffer_of; // by tensor id
  void **memory_of;   // by buffer: where it is now
  int64_t *inplace;   // by step: the buffer that it writes over, -1: none
  plan_param *params;
  int n_params;
  plan_output *outputs;
  int n_outputs;
  void *arena;
  int64_t arena_bytes, packed_bytes;
  int64_t kept_bytes;   // of packed_bytes, what lies in the arena
  uint64_t bound_store; // identity of the store that pointers are resolved for
  uint64_t runs;
  bool poison, profile, pointers_stale;
  int recomputed;
};

// Compiles p->graph and places its buffers; `tensors` are its outputs.
elbo_status plan_place(elbo_plan *p, compile_env *env, const elbo_plan_config *config, elbo_tensor *const *tensors);
// Forgets everything made from the graph, so that it can be made again from another.
void plan_forget(elbo_plan *p);
// Leaves p without a graph and what was made from it; these are *to's then, to be read, forgotten and destroyed.
void plan_move_out(elbo_plan *p, elbo_plan *to);
// buffers.c: assigns every tensor its buffer and lifetime, in-place where legal.
elbo_status plan_assign_buffers(elbo_plan *p);
// Whether `t` lives in memory of the plan's own.
static inline int64_t plan_buffer(const elbo_plan *p, const elbo_tensor *t) { return p->buffer_of[t->id]; }
static inline size_t plan_tensor_bytes(const elbo_plan *p, const elbo_tensor *t) {
  return (size_t)shape_count(&t->shape) * p->backend->element_size(t->dtype);
}

// Runs the plan once more with its present inputs and names the first operation whose result is not finite: "conv2d encoder.conv1:
// element 17 of (128,14,14,32) is nan". ELBO_OK and an empty text when everything is finite.
elbo_status plan_find_nonfinite(elbo_plan *p, elbo_store *store, char *text, size_t size);

#endif
