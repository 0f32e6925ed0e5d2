// Transposed convolution: dT/dx of the form in ops/contraction.h, as conv2d's gradient and as a layer.
#include <elbo/ops.h>

#include "ops/conv2d.h"
#include "ops/conv_taps.h"
#include "ops/linear.h"

elbo_tensor *conv_transpose2d_of(elbo_tensor *y, elbo_tensor *weight, elbo_tensor *bias, const conv2d_attr *attr) {
  elbo_graph *g = graph_of(2, (elbo_tensor *[]){y, weight});
  return g ? graph_add(g, &op_conv_transpose2d, attr, 3, (elbo_tensor *[]){y, weight, bias}, NULL) : NULL;
}

elbo_tensor *elbo_conv_transpose2d(elbo_tensor *x, elbo_tensor *weight, elbo_tensor *bias, const elbo_conv2d_config *config,
                                   const int output_padding[2]) {
  elbo_graph *g = graph_of(2, (elbo_tensor *[]){x, weight});
  conv2d_attr a;
  if (!g || !conv2d_attr_of(g, "conv_transpose2d", config, &a)) return NULL;
  char xs[SHAPE_TEXT], ws[SHAPE_TEXT];
  if (x->shape.rank != 4 || weight->shape.rank != 4)
    return graph_fail(g, ELBO_ERROR_ARGUMENT, "conv_transpose2d: input %s and weight %s, expected (B,H,W,I) and (I,O,kh,kw)",
                      shape_text(&x->shape, xs), shape_text(&weight->shape, ws));
  for (int i = 0; i < 2; i++) {
    int extra = output_padding ? output_padding[i] : 0;
    if (extra < 0 || (extra >= a.stride[i] && extra >= a.dilation[i]))
      return graph_fail(g, ELBO_ERROR_ARGUMENT, "conv_transpose2d: output padding %d must be below stride %d or dilation %d", extra,
                        a.stride[i], a.dilation[i]);
    a.size[i] =
        (x->shape.dim[1 + i] - 1) * a.stride[i] - a.pad[i] - a.pad[i + 2] + a.dilation[i] * (weight->shape.dim[2 + i] - 1) + 1 + extra;
  }
  return conv_transpose2d_of(x, weight, bias, &a);
}

static bool infer(elbo_graph *g, node *n) {
  shape out;
  if (!conv_transpose2d_shape(g, n, n->attr, n->in[0], n->in[1], &out) || !check_bias(g, n, n->in[2], out.dim[3])) return false;
  set_output(n, 0, &out);
  return true;
}

static bool gradient(elbo_graph *g, const node *n, elbo_tensor *const *dy, const bool *wanted, elbo_tensor **dx) {
  (void)g;
  if (!dy[0]) return true;
  elbo_tensor *y = n->in[0], *w = n->in[1];
  conv2d_attr like_y = conv2d_attr_sized(n->attr, y->shape.dim[1], y->shape.dim[2]);
  conv2d_attr like_w = conv2d_attr_sized(n->attr, w->shape.dim[2], w->shape.dim[3]);
  if (wanted[0]) dx[0] = conv2d_of(dy[0], w, NULL, &like_y);
  if (wanted[1]) dx[1] = conv2d_weight_grad_of(dy[0], y, &like_w);
  if (n->in[2] && wanted[2]) dx[2] = sum_to_channels(dy[0]);
  return true;
}

// The direct algorithm's count is that of the convolution it transposes: every input element meets the whole kernel.
static int64_t flops(const node *n) {
  bool plain = n->op == &op_conv_transpose2d;
  const elbo_tensor *y = plain ? n->in[0] : n->in[FUSED_X], *w = plain ? n->in[1] : n->in[FUSED_WEIGHT];
  return 2 * shape_count(&y->shape) * w->shape.dim[1] * conv2d_taps(n->attr, w);
}

const op_def op_conv_transpose2d = {.name = "conv_transpose2d",
                                    .attr_size = sizeof(conv2d_attr),
                                    .n_in = 3,
                                    .n_out = 1,
                                    .optional = 1u << 2,
                                    .infer = infer,
                                    .gradient = gradient,
                                    .flops = flops,
                                    .reference = conv_transpose2d_ref};

static bool infer_fused_conv_transpose2d(elbo_graph *g, node *n) {
  const fused_contraction_attr *a = n->attr;
  shape out;
  return conv_transpose2d_shape(g, n, &a->conv, n->in[FUSED_X], n->in[FUSED_WEIGHT], &out) && infer_fused(g, n, &out);
}

const op_def op_fused_conv_transpose2d = {.name = "fused_conv_transpose2d",
                                          .attr_size = sizeof(fused_contraction_attr),
                                          .n_in = FUSED_INPUTS,
                                          .n_out = 2,
                                          .optional = FUSED_OPTIONAL,
                                          .infer = infer_fused_conv_transpose2d,
                                          .flops = flops,
                                          .reference = fused_conv_transpose2d_ref};
