// The graph's insides: tensors, nodes, and how operations are added.
#ifndef GRAPH_GRAPH_H
#define GRAPH_GRAPH_H

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
  int n_in, n_out;
  elbo_tensor **in;  // an input may be NULL where the operation says that it is optional
  elbo_tensor **out;
  const void *attr;  // op->attr_size bytes
  const char *name;  // with scope; "" when it has none
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
const char *scoped_name(elbo_graph *g, const char *name); // arena copy
// Records the first error of the graph ("graph NAME: OP: ..."), returns NULL for use in a return statement.
void *graph_fail(elbo_graph *g, elbo_status status, const char *format, ...) ELBO_PRINTF(3, 4);
// For builders: the graph of the first non-NULL tensor if none of the n required tensors is NULL and the graph has no error; else NULL.
elbo_graph *graph_of(int n, elbo_tensor *const *xs);

#endif
