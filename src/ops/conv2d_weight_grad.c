// dT/dw of the form in ops/contraction.h: the weight gradient of both convolutions. x (B,H,W,I), y (B,OH,OW,O) -> (O,I/groups,kh,kw).
#include "core/memory.h"
#include "ops/conv2d.h"
#include "ops/conv_taps.h"

elbo_tensor *conv2d_weight_grad_of(elbo_tensor *x, elbo_tensor *y, const conv2d_attr *attr) {
  elbo_graph *g = graph_of(2, (elbo_tensor *[]){x, y});
  return g ? graph_add(g, &op_conv2d_weight_grad, attr, 2, (elbo_tensor *[]){x, y}, NULL) : NULL;
}

static bool infer(elbo_graph *g, node *n) {
  const conv2d_attr *a = n->attr;
  const elbo_tensor *x = n->in[0], *y = n->in[1];
  char xs[SHAPE_TEXT], ys[SHAPE_TEXT];
  if (!check_conv2d_attr(g, n, a) || !check_float32(g, n, x, "input") || !check_float32(g, n, y, "output gradient")) return false;
  if (x->shape.rank != 4 || y->shape.rank != 4 || x->shape.dim[0] != y->shape.dim[0] || x->shape.dim[3] % a->groups ||
      y->shape.dim[3] % a->groups) {
    graph_fail(g, ELBO_ERROR_ARGUMENT, "conv2d_weight_grad: %s and %s do not fit with %d groups: expected (B,H,W,I) and (B,OH,OW,O)",
               shape_text(&x->shape, xs), shape_text(&y->shape, ys), a->groups);
    return false;
  }
  shape out = shape_of(4, (int64_t[]){y->shape.dim[3], x->shape.dim[3] / a->groups, a->size[0], a->size[1]});
  set_output(n, 0, &out);
  return true;
}

static bool gradient(elbo_graph *g, const node *n, elbo_tensor *const *dy, const bool *wanted, elbo_tensor **dx) {
  (void)g;
  if (!dy[0]) return true;
  elbo_tensor *x = n->in[0], *y = n->in[1];
  conv2d_attr like_x = conv2d_attr_sized(n->attr, x->shape.dim[1], x->shape.dim[2]);
  conv2d_attr like_y = conv2d_attr_sized(n->attr, y->shape.dim[1], y->shape.dim[2]);
  if (wanted[0]) dx[0] = conv_transpose2d_of(y, dy[0], NULL, &like_x);
  if (wanted[1]) dx[1] = conv2d_of(x, dy[0], NULL, &like_y);
  return true;
}

static int64_t flops(const node *n) {
  const elbo_tensor *w = n->out[0];
  return 2 * shape_count(&n->in[1]->shape) * w->shape.dim[1] * conv2d_taps(n->attr, w);
}

const op_def op_conv2d_weight_grad = {.name = "conv2d_weight_grad",
                                      .attr_size = sizeof(conv2d_attr),
                                      .n_in = 2,
                                      .n_out = 1,
                                      .infer = infer,
                                      .gradient = gradient,
                                      .flops = flops,
                                      .reference = conv2d_weight_grad_ref};
