// Random numbers as a function of (seed, stream, sample, element): see core/philox.h. The stream is that of the operation's full name.
#include <elbo/ops.h>

#include "core/philox.h"
#include "ops/fused_elementwise.h"

bool random_inputs(elbo_graph *g, int64_t batch, elbo_tensor **seed, elbo_tensor **sample_index) {
  *seed = elbo_input(g, "seed", ELBO_I64, 0, NULL);
  *sample_index = elbo_input(g, "sample_index", ELBO_I64, 1, &batch);
  return *seed && *sample_index;
}

static bool infer_random(elbo_graph *g, node *n) {
  const random_attr *attr = n->attr;
  shape s = shape_of((int)attr->rank, attr->dim);
  char have[SHAPE_TEXT], want[SHAPE_TEXT];
  if (n->in[0]->dtype != ELBO_I64 || n->in[0]->shape.rank != 0 || n->in[1]->dtype != ELBO_I64 || n->in[1]->shape.rank != 1 ||
      n->in[1]->shape.dim[0] != s.dim[0]) {
    graph_fail(g, ELBO_ERROR_ARGUMENT, "%s: sample_index has shape %s, the draw %s: expected an int64 seed and one index an example",
               n->op->name, shape_text(&n->in[1]->shape, have), shape_text(&s, want));
    return false;
  }
  n->out[0]->dtype = ELBO_F32;
  n->out[0]->shape = s;
  return true;
}

const op_def op_random_normal = {.name = "random_normal",
                                 .attr_size = sizeof(random_attr),
                                 .n_in = 2,
                                 .n_out = 1,
                                 .flags = OP_ELEMENTWISE | OP_RANDOM | OP_CHEAP,
                                 .infer = infer_random,
                                 .gradient = no_gradient,
                                 .reference = elementwise_reference};
const op_def op_random_uniform = {.name = "random_uniform",
                                  .attr_size = sizeof(random_attr),
                                  .n_in = 2,
                                  .n_out = 1,
                                  .flags = OP_ELEMENTWISE | OP_RANDOM | OP_CHEAP,
                                  .infer = infer_random,
                                  .gradient = no_gradient,
                                  .reference = elementwise_reference};

static elbo_tensor *add_random(elbo_graph *g, const op_def *op, const char *name, int rank, const int64_t *dim) {
  if (!g || g->error) return NULL;
  if (!name || !*name) return graph_fail(g, ELBO_ERROR_ARGUMENT, "%s: needs a name, which its stream comes from", op->name);
  if (rank < 1 || rank > ELBO_MAX_RANK)
    return graph_fail(g, ELBO_ERROR_ARGUMENT, "%s %s: rank %d, expected 1 to %d: (B,...)", op->name, name, rank, ELBO_MAX_RANK);
  random_attr attr = {.rank = rank};
  for (int i = 0; i < rank; i++) {
    if (dim[i] < 1) return graph_fail(g, ELBO_ERROR_ARGUMENT, "%s %s: axis %d has length %lld", op->name, name, i, (long long)dim[i]);
    attr.dim[i] = dim[i];
  }
  const char *full = scoped_name(g, name);
  elbo_tensor *in[2];
  if (!full || !random_inputs(g, dim[0], &in[0], &in[1])) return NULL;
  attr.stream = philox_stream(full);
  return graph_add(g, op, &attr, 2, in, full);
}

elbo_tensor *elbo_random_normal(elbo_graph *graph, const char *name, int rank, const int64_t *dim) {
  return add_random(graph, &op_random_normal, name, rank, dim);
}

elbo_tensor *elbo_random_uniform(elbo_graph *graph, const char *name, int rank, const int64_t *dim) {
  return add_random(graph, &op_random_uniform, name, rank, dim);
}
