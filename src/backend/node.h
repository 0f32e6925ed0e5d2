// Tensors, nodes and graphs from the inside: the words that every floor from here up speaks in, and how operations are added
// (graph/graph.c).
#ifndef BACKEND_NODE_H
#define BACKEND_NODE_H

#include <elbo/graph.h>

#include "core/ctx.h"
#include "core/memory.h"

typedef struct node node;
typedef struct op_def op_def; // ops/op.h

typedef struct shape {
  int rank;
  int64_t dim[ELBO_MAX_RANK];
} shape;

struct elbo_tensor {
  elbo_graph *graph;
  int id; // index into graph->tensors
  elbo_dtype dtype;
  shape shape;
  node *producer;
  int output; // which output of the producer
};

struct node {
  int id; // index into graph->nodes; producers come before consumers
  const op_def *op;
  int n_in, n_out;  // infer may lower n_out below op->n_out
  elbo_tensor **in; // an input may be NULL where the operation says that it is optional
  elbo_tensor **out;
  const void *attr;  // attr_bytes bytes; holds no pointers, so that a node can be copied and compared
  size_t attr_bytes; // op->attr_size, or more for operations with a trailing array
  const char *name;  // with scope; "" when it has none
  int phase;         // which call of elbo_gradient made it (0: none, odd: one is under way): fusion keeps forward and backward apart
};

typedef struct state_update {
  elbo_tensor *state, *value;
} state_update;

struct elbo_graph {
  elbo_ctx *ctx;
  arena *arena; // tensors, nodes, attributes, names
  const char *name;
  elbo_status error; // first error met while building
  char *error_text;
  elbo_tensor **tensors;
  int64_t n_tensors, cap_tensors;
  node **nodes;
  int64_t n_nodes, cap_nodes;
  state_update *updates;
  int64_t n_updates, cap_updates;
  char *scope; // "encoder.block1." or ""
  int64_t cap_scope;
  int64_t scope_length[32]; // of scope before each push
  int scope_depth;
  int phase; // of nodes added now
};

// --- shapes ---
int64_t shape_count(const shape *s);
bool shape_equal(const shape *a, const shape *b);
shape shape_of(int rank, const int64_t *dim);
// "(128,28,28,1)"; the buffer is the caller's and at least SHAPE_TEXT bytes
#define SHAPE_TEXT 128
const char *shape_text(const shape *s, char *buffer);
// NumPy broadcasting; false when the two do not fit
bool shape_broadcast(const shape *a, const shape *b, shape *out);

// --- building ---
// Adds a node of `op`: copies attr (op->attr_size bytes), calls op->infer for output shapes; returns it, or NULL with the graph's error
// set. `name` may be NULL; scope is added by the caller where it matters (scoped_name). Inputs in[i] must belong to the graph.
node *graph_add_node(elbo_graph *g, const op_def *op, const void *attr, int n_in, elbo_tensor *const *in, const char *name);
// The same for operations with one output.
elbo_tensor *graph_add(elbo_graph *g, const op_def *op, const void *attr, int n_in, elbo_tensor *const *in, const char *name);
// As graph_add_node with attributes of attr_bytes >= op->attr_size.
node *graph_add_sized(elbo_graph *g, const op_def *op, const void *attr, size_t attr_bytes, int n_in, elbo_tensor *const *in,
                      const char *name);
const char *scoped_name(elbo_graph *g, const char *name); // arena copy
// Records the first error of the graph ("graph NAME: OP: ..."), returns NULL for use in a return statement.
void *graph_fail(elbo_graph *g, elbo_status status, const char *format, ...) ELBO_PRINTF(3, 4);
// What the graph computes: 64 digits over operations, attributes, leaves' shapes and who reads whom; not over names or parameters' values.
void graph_hash(const elbo_graph *g, char out[65]);
// For builders: the graph of the first non-NULL tensor if none of the n required tensors is NULL and the graph has no error; else NULL.
elbo_graph *graph_of(int n, elbo_tensor *const *xs);

// The node that made a tensor's value when it is a constant with one element: true and its value.
bool tensor_is_constant(const elbo_tensor *t, double *value);

// --- attributes of the leaves (ops/leaf.c) ---
typedef struct parameter_attr {
  elbo_param_kind kind;
  elbo_init init;
  shape shape;
} parameter_attr;
typedef struct input_attr {
  elbo_dtype dtype;
  shape shape;
} input_attr;
typedef struct constant_attr {
  shape shape;
  float values[]; // shape_count
} constant_attr;

#endif
