#include <elbo/ops.h>

#include "ops/fused_elementwise.h"

static bool infer_broadcast_to(elbo_graph *g, node *n) {
  const broadcast_attr *attr = n->attr;
  shape s = shape_of((int)attr->rank, attr->dim);
  int64_t stride[ELBO_MAX_RANK];
  char have[SHAPE_TEXT], want[SHAPE_TEXT];
  if (n->in[0]->dtype != ELBO_F32 || !broadcast_strides(&n->in[0]->shape, &s, stride)) {
    graph_fail(g, ELBO_ERROR_ARGUMENT, "broadcast_to: %s %s does not broadcast to float32 %s", elbo_dtype_name(n->in[0]->dtype),
               shape_text(&n->in[0]->shape, have), shape_text(&s, want));
    return false;
  }
  n->out[0]->dtype = ELBO_F32;
  n->out[0]->shape = s;
  return true;
}

static bool broadcast_to_gradient(elbo_graph *g, const node *n, elbo_tensor *const *dy, const bool *wanted, elbo_tensor **dx) {
  if (wanted[0] && dy[0]) dx[0] = sum_to_shape(dy[0], &n->in[0]->shape);
  return g->error == ELBO_OK;
}

const op_def op_broadcast_to = {.name = "broadcast_to",
                                .attr_size = sizeof(broadcast_attr),
                                .n_in = 1,
                                .n_out = 1,
                                .flags = OP_ELEMENTWISE | OP_CHEAP,
                                .infer = infer_broadcast_to,
                                .gradient = broadcast_to_gradient,
                                .reference = elementwise_reference};

elbo_tensor *elbo_broadcast_to(elbo_tensor *x, int rank, const int64_t *dim) {
  elbo_graph *g = graph_of(1, &x);
  if (!g) return NULL;
  if (rank < 0 || rank > ELBO_MAX_RANK)
    return graph_fail(g, ELBO_ERROR_ARGUMENT, "broadcast_to: rank %d, expected at most %d", rank, ELBO_MAX_RANK);
  broadcast_attr attr = {.rank = rank};
  for (int i = 0; i < rank; i++) {
    if (dim[i] < 1) return graph_fail(g, ELBO_ERROR_ARGUMENT, "broadcast_to: axis %d has length %lld", i, (long long)dim[i]);
    attr.dim[i] = dim[i];
  }
  shape s = shape_of(rank, dim);
  if (shape_equal(&s, &x->shape)) return x;
  return graph_add(g, &op_broadcast_to, &attr, 1, &x, NULL);
}
