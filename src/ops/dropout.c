// Dropout [Srivastava14]: y = x / (1-p) where the element's uniform number is at least p, else 0. The mask is drawn anew from the same
// counter in the gradient, and in the gradient's gradient.
#include <elbo/ops.h>

#include "core/philox.h"
#include "ops/fused_elementwise.h"

static bool infer_dropout(elbo_graph *g, node *n) {
  const shape *s = &n->in[0]->shape;
  char have[SHAPE_TEXT], want[SHAPE_TEXT];
  if (n->in[0]->dtype != ELBO_F32 || n->in[1]->dtype != ELBO_I64 || n->in[2]->dtype != ELBO_I64 || n->in[1]->shape.rank != 0 ||
      n->in[2]->shape.rank != 1 || s->rank < 1 || n->in[2]->shape.dim[0] != s->dim[0]) {
    graph_fail(g, ELBO_ERROR_ARGUMENT, "dropout: x is %s %s, sample_index %s; expected float32 (B,...) and one index an example",
               elbo_dtype_name(n->in[0]->dtype), shape_text(s, have), shape_text(&n->in[2]->shape, want));
    return false;
  }
  n->out[0]->dtype = ELBO_F32;
  n->out[0]->shape = *s;
  return true;
}

static bool dropout_gradient(elbo_graph *g, const node *n, elbo_tensor *const *dy, const bool *wanted, elbo_tensor **dx) {
  if (!wanted[0] || !dy[0]) return true;
  elbo_tensor *in[3] = {dy[0], n->in[1], n->in[2]};
  dx[0] = graph_add(g, &op_dropout, n->attr, 3, in, n->name);
  return dx[0] != NULL;
}

const op_def op_dropout = {.name = "dropout",
                           .attr_size = sizeof(dropout_attr),
                           .n_in = 3,
                           .n_out = 1,
                           .flags = OP_ELEMENTWISE | OP_INPLACE | OP_RANDOM | OP_CHEAP,
                           .infer = infer_dropout,
                           .gradient = dropout_gradient,
                           .reference = elementwise_reference};

elbo_tensor *elbo_dropout(elbo_tensor *x, const char *name, double probability) {
  elbo_graph *g = graph_of(1, &x);
  if (!g) return NULL;
  if (!(probability >= 0.0 && probability < 1.0))
    return graph_fail(g, ELBO_ERROR_ARGUMENT, "dropout: probability %g, expected 0 <= p < 1", probability);
  if (!name || !*name) return graph_fail(g, ELBO_ERROR_ARGUMENT, "dropout: needs a name, which its stream comes from");
  if (x->shape.rank < 1) return graph_fail(g, ELBO_ERROR_ARGUMENT, "dropout: x is a scalar, expected (B,...)");
  if (probability == 0.0) return x;
  const char *full = scoped_name(g, name);
  const node *index = find_leaf(g, &op_input, "sample_index");
  int64_t rows = x->shape.dim[0], examples = index && index->out[0]->shape.rank == 1 ? index->out[0]->shape.dim[0] : rows;
  bool draws = examples < rows && examples > 0 && rows % examples == 0;
  if (!draws) examples = rows;
  elbo_tensor *in[3] = {draws ? elbo_reshape(x, 2, (int64_t[]){examples, shape_count(&x->shape) / examples}) : x, NULL, NULL};
  if (!in[0] || !full || !random_inputs(g, examples, &in[1], &in[2])) return NULL;
  dropout_attr attr = {philox_stream(full), probability};
  elbo_tensor *y = graph_add(g, &op_dropout, &attr, 3, in, full);
  return draws && y ? elbo_reshape(y, x->shape.rank, x->shape.dim) : y;
}
