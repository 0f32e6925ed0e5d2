// What `elbo bench --op` reads: "conv2d:n=1,h=64,c=320,dir=backward_data".
#ifndef TASKS_BENCH_SPEC_H
#define TASKS_BENCH_SPEC_H

#include <stdbool.h>

#include <elbo/ops.h>

typedef enum bench_key {
  KEY_N,
  KEY_H,
  KEY_W,
  KEY_C,
  KEY_K,
  KEY_M,
  KEY_R,
  KEY_S,
  KEY_STRIDE,
  KEY_PAD,
  KEY_DILATION,
  KEY_GROUPS,
  KEY_FACTOR,
  KEY_Q,
  KEY_KV,
  KEY_HEADS,
  KEY_D,
  KEY_CAUSAL,
  KEY_TRANSPOSE_A,
  KEY_TRANSPOSE_B,
  KEY_BIAS,
  KEY_RESIDUAL,
  KEY_SILU,
  KEY_CONSTANT,
  KEY_COUNT
} bench_key;

typedef enum bench_dir { DIR_FORWARD, DIR_BACKWARD, DIR_BACKWARD_DATA, DIR_BACKWARD_WEIGHTS, DIR_COUNT } bench_dir;
enum { HAS_DATA = 1, HAS_WEIGHTS = 2, FROM_POSITIVE = 4 }; // what it can be differentiated by; defined on positive numbers alone

typedef struct bench_spec bench_spec;

typedef struct bench_op {
  const char *text; // name and defaults
  unsigned flags;
  // Inputs are "x" (and "y", "z", ...), weights parameters; the first axis of an input is the batch.
  elbo_tensor *(*build)(elbo_graph *g, const bench_spec *s);
  int64_t code; // of the element-wise family
} bench_op;

struct bench_spec {
  const bench_op *op;
  int64_t at[KEY_COUNT]; // defaults worked out
  bench_dir dir;
};

// bench_graphs.c. NULL past the last.
const bench_op *bench_op_at(int i);
// Refuses what it does not know, with what it does.
elbo_status bench_spec_parse(elbo_ctx *ctx, const char *text, bench_spec *out);
const char *bench_dir_name(bench_dir dir);

// bench_check.c: element `index` of the result (wrt NULL) or of the gradient by `wrt`, in double precision, without the others.
typedef struct bench_values {
  const float *x, *w, *b, *residual, *direction; // NULL: there is none
} bench_values;
// Whether that can be done for this spec, and how many terms such an element has.
bool bench_can_point(const bench_spec *s, const char *wrt, int64_t *terms);
double bench_point(const bench_spec *s, const bench_values *v, const char *wrt, int64_t index);

#endif
