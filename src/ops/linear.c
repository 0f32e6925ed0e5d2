// Linear layer, y = x W^T + b: x (...,I), W (O,I), b (O).
#include <elbo/ops.h>

#include "ops/contraction.h"
#include "ops/linear.h"

elbo_tensor *elbo_linear(elbo_tensor *x, elbo_tensor *weight, elbo_tensor *bias) {
  elbo_graph *g = graph_of(2, (elbo_tensor *[]){x, weight});
  return g ? graph_add(g, &op_linear, NULL, 3, (elbo_tensor *[]){x, weight, bias}, NULL) : NULL;
}

elbo_tensor *as_matrix(elbo_tensor *x) {
  if (!x || x->shape.rank == 2) return x;
  int64_t columns = x->shape.rank ? x->shape.dim[x->shape.rank - 1] : 1;
  return elbo_reshape(x, 2, (int64_t[]){-1, columns});
}

elbo_tensor *sum_to_channels(elbo_tensor *y) { return elbo_sum(y, (1u << (y->shape.rank - 1)) - 1, 0); }

static bool infer(elbo_graph *g, node *n) {
  shape out;
  if (!linear_shape(g, n, n->in[0], n->in[1], &out) || !check_bias(g, n, n->in[2], out.dim[out.rank - 1])) return false;
  set_output(n, 0, &out);
  return true;
}

static bool gradient(elbo_graph *g, const node *n, elbo_tensor *const *dy, const bool *wanted, elbo_tensor **dx) {
  (void)g;
  if (!dy[0]) return true;
  elbo_tensor *x = n->in[0], *w = n->in[1], *dy2 = as_matrix(dy[0]);
  if (wanted[0]) {
    dx[0] = elbo_matmul(dy2, w, 0, 0); // dx = dy W
    if (x->shape.rank != 2) dx[0] = elbo_reshape(dx[0], x->shape.rank, x->shape.dim);
  }
  if (wanted[1]) dx[1] = elbo_matmul(dy2, as_matrix(x), 1, 0); // dW = dy^T x
  if (n->in[2] && wanted[2]) dx[2] = dy2 ? elbo_sum(dy2, 1, 0) : NULL;
  return true;
}

static int64_t flops(const node *n) {
  const elbo_tensor *w = n->op == &op_linear ? n->in[1] : n->in[FUSED_WEIGHT];
  return 2 * shape_count(&n->out[0]->shape) * w->shape.dim[1];
}

const op_def op_linear = {.name = "linear",
                          .n_in = 3,
                          .n_out = 1,
                          .optional = 1u << 2,
                          .infer = infer,
                          .gradient = gradient,
                          .flops = flops,
                          .reference = linear_ref};

static bool infer_fused_linear(elbo_graph *g, node *n) {
  shape out;
  return linear_shape(g, n, n->in[FUSED_X], n->in[FUSED_WEIGHT], &out) && infer_fused(g, n, &out);
}

const op_def op_fused_linear = {.name = "fused_linear",
                                .attr_size = sizeof(fused_contraction_attr),
                                .n_in = FUSED_INPUTS,
                                .n_out = 2,
                                .optional = FUSED_OPTIONAL,
                                .infer = infer_fused_linear,
                                .flops = flops,
                                .reference = fused_linear_ref};
