// softmax over the last axis.
#include <elbo/ops.h>

#include "ops/attention.h"

static bool softmax_infer(elbo_graph *g, node *n) {
  const elbo_tensor *x = n->in[0];
  char text[2][SHAPE_TEXT];
  if (x->dtype != ELBO_F32 || x->shape.rank < 1)
    return graph_fail(g, ELBO_ERROR_ARGUMENT, "%s of %s %s: expected float32 (...,C)", n->op->name, elbo_dtype_name(x->dtype),
                      shape_text(&x->shape, text[0]));
  if (n->n_in > 1 && !shape_equal(&n->in[1]->shape, &x->shape))
    return graph_fail(g, ELBO_ERROR_ARGUMENT, "%s of %s: dy is %s", n->op->name, shape_text(&x->shape, text[0]),
                      shape_text(&n->in[1]->shape, text[1]));
  n->out[0]->dtype = ELBO_F32;
  n->out[0]->shape = x->shape;
  return true;
}

static bool softmax_gradient(elbo_graph *g, const node *n, elbo_tensor *const *dy, const bool *wanted, elbo_tensor **dx) {
  (void)wanted;
  dx[0] = graph_add(g, &op_softmax_grad, NULL, 2, (elbo_tensor *[]){n->out[0], dy[0]}, NULL);
  return dx[0] != NULL;
}

// y (dy - <y, dy>)
static bool softmax_grad_decompose(elbo_graph *g, const node *n, elbo_tensor **out) {
  (void)g;
  elbo_tensor *y = n->in[0], *dy = n->in[1];
  out[0] = elbo_mul(y, elbo_sub(dy, elbo_sum(elbo_mul(y, dy), 1u << (y->shape.rank - 1), 1)));
  return out[0] != NULL;
}

const op_def op_softmax = {
    .name = "softmax",
    .n_in = 1,
    .n_out = 1,
    .flags = OP_INPLACE,
    .infer = softmax_infer,
    .gradient = softmax_gradient,
    .reference = softmax_ref,
};

// in: y, dy
const op_def op_softmax_grad = {
    .name = "softmax_grad",
    .n_in = 2,
    .n_out = 1,
    .infer = softmax_infer,
    .decompose = softmax_grad_decompose,
    .reference = softmax_grad_ref,
};

elbo_tensor *elbo_softmax(elbo_tensor *x) {
  elbo_graph *g = graph_of(1, &x);
  return g ? graph_add(g, &op_softmax, NULL, 1, &x, NULL) : NULL;
}
