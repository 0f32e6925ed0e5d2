// Two-dimensional convolution (cross-correlation) over N,H,W,C: dT/dy of the form in ops/contraction.h.
#include "ops/conv2d.h"

#include <elbo/ops.h>

#include "ops/conv_taps.h"
#include "ops/linear.h"

bool conv2d_attr_of(elbo_graph *g, const char *op, const elbo_conv2d_config *config, conv2d_attr *a) {
  static const elbo_conv2d_config none = {0};
  if (!config) config = &none;
  *a = (conv2d_attr){.groups = config->groups ? config->groups : 1};
  for (int i = 0; i < 2; i++) {
    a->stride[i] = config->stride[i] ? config->stride[i] : 1;
    a->dilation[i] = config->dilation[i] ? config->dilation[i] : 1;
  }
  for (int i = 0; i < 4; i++) a->pad[i] = config->pad[i];
  for (int i = 0; i < 2; i++)
    if (a->stride[i] < 1 || a->dilation[i] < 1 || a->pad[i] < 0 || a->pad[i + 2] < 0) {
      graph_fail(g, ELBO_ERROR_ARGUMENT, "%s: stride and dilation must be at least 1 and padding at least 0", op);
      return false;
    }
  return true;
}

elbo_tensor *conv2d_of(elbo_tensor *x, elbo_tensor *weight, elbo_tensor *bias, const conv2d_attr *attr) {
  elbo_graph *g = graph_of(2, (elbo_tensor *[]){x, weight});
  return g ? graph_add(g, &op_conv2d, attr, 3, (elbo_tensor *[]){x, weight, bias}, NULL) : NULL;
}

elbo_tensor *elbo_conv2d(elbo_tensor *x, elbo_tensor *weight, elbo_tensor *bias, const elbo_conv2d_config *config) {
  elbo_graph *g = graph_of(2, (elbo_tensor *[]){x, weight});
  conv2d_attr a;
  if (!g || !conv2d_attr_of(g, "conv2d", config, &a)) return NULL;
  char xs[SHAPE_TEXT], ws[SHAPE_TEXT];
  if (x->shape.rank != 4 || weight->shape.rank != 4)
    return graph_fail(g, ELBO_ERROR_ARGUMENT, "conv2d: input %s and weight %s, expected (B,H,W,I) and (O,I,kh,kw)",
                      shape_text(&x->shape, xs), shape_text(&weight->shape, ws));
  for (int i = 0; i < 2; i++) {
    int64_t reach = x->shape.dim[1 + i] + a.pad[i] + a.pad[i + 2] - a.dilation[i] * (weight->shape.dim[2 + i] - 1) - 1;
    if (reach < 0)
      return graph_fail(g, ELBO_ERROR_ARGUMENT, "conv2d: the kernel of weight %s does not fit into input %s with padding (%d,%d,%d,%d)",
                        shape_text(&weight->shape, ws), shape_text(&x->shape, xs), a.pad[0], a.pad[1], a.pad[2], a.pad[3]);
    a.size[i] = reach / a.stride[i] + 1;
  }
  return conv2d_of(x, weight, bias, &a);
}

static bool infer(elbo_graph *g, node *n) {
  shape out;
  if (!conv2d_shape(g, n, n->attr, n->in[0], n->in[1], &out) || !check_bias(g, n, n->in[2], out.dim[3])) return false;
  set_output(n, 0, &out);
  return true;
}

// An attribute with another result size.
conv2d_attr conv2d_attr_sized(const conv2d_attr *a, int64_t h, int64_t w) {
  conv2d_attr r = *a;
  r.size[0] = h;
  r.size[1] = w;
  return r;
}

static bool gradient(elbo_graph *g, const node *n, elbo_tensor *const *dy, const bool *wanted, elbo_tensor **dx) {
  (void)g;
  if (!dy[0]) return true;
  elbo_tensor *x = n->in[0], *w = n->in[1];
  conv2d_attr like_x = conv2d_attr_sized(n->attr, x->shape.dim[1], x->shape.dim[2]);
  conv2d_attr like_w = conv2d_attr_sized(n->attr, w->shape.dim[2], w->shape.dim[3]);
  if (wanted[0]) dx[0] = conv_transpose2d_of(dy[0], w, NULL, &like_x);
  if (wanted[1]) dx[1] = conv2d_weight_grad_of(x, dy[0], &like_w);
  if (n->in[2] && wanted[2]) dx[2] = sum_to_channels(dy[0]);
  return true;
}

static int64_t flops(const node *n) {
  const elbo_tensor *w = n->op == &op_conv2d ? n->in[1] : n->in[FUSED_WEIGHT];
  return 2 * shape_count(&n->out[0]->shape) * w->shape.dim[1] * conv2d_taps(n->attr, w);
}

const op_def op_conv2d = {.name = "conv2d",
                          .attr_size = sizeof(conv2d_attr),
                          .n_in = 3,
                          .n_out = 1,
                          .optional = 1u << 2,
                          .infer = infer,
                          .gradient = gradient,
                          .flops = flops,
                          .reference = conv2d_ref};

static bool infer_fused_conv2d(elbo_graph *g, node *n) {
  const fused_contraction_attr *a = n->attr;
  const elbo_tensor *x2 = n->in[FUSED_X2], *norm = n->in[FUSED_NORM];
  elbo_tensor x = *n->in[FUSED_X]; // with x2's channels behind it
  char text[2][SHAPE_TEXT];
  shape out;
  if (x2) {
    int64_t channels = x2->shape.rank == 4 ? x2->shape.dim[3] : 0;
    shape like = x2->shape;
    like.dim[3] = x.shape.rank == 4 ? x.shape.dim[3] : 0;
    if (x2->dtype != ELBO_F32 || !shape_equal(&like, &x.shape))
      return graph_fail(g, ELBO_ERROR_ARGUMENT, "%s of %s: x2 is %s %s; it must agree but for the channels", n->op->name,
                        shape_text(&x.shape, text[0]), elbo_dtype_name(x2->dtype), shape_text(&x2->shape, text[1]));
    x.shape.dim[3] += channels;
  }
  if (!conv2d_shape(g, n, &a->conv, &x, n->in[FUSED_WEIGHT], &out)) return false;
  const shape channels = shape_of(3, (int64_t[]){x.shape.dim[0], 3, x.shape.dim[3]});
  if (norm && (norm->dtype != ELBO_F32 || !shape_equal(&norm->shape, &channels)))
    return graph_fail(g, ELBO_ERROR_ARGUMENT, "%s of %s: the norm's channels are %s, expected %s", n->op->name,
                      shape_text(&x.shape, text[0]), shape_text(&norm->shape, text[1]), shape_text(&channels, (char[SHAPE_TEXT]){0}));
  return infer_fused(g, n, &out);
}

const op_def op_fused_conv2d = {.name = "fused_conv2d",
                                .attr_size = sizeof(fused_contraction_attr),
                                .n_in = FUSED_INPUTS,
                                .n_out = 2,
                                .optional = FUSED_OPTIONAL,
                                .infer = infer_fused_conv2d,
                                .flops = flops,
                                .reference = fused_conv2d_ref};

bool conv2d_normalises(const compile_env *env, const node *conv, const node *norm) {
#ifdef ELBO_HAVE_X86_VARIANTS
  if (env->isa == ISA_V4) return conv_normalises_cpu_v4(env, conv, norm);
  if (env->isa == ISA_V3) return conv_normalises_cpu_v3(env, conv, norm);
#endif
  return conv_normalises_cpu_base(env, conv, norm);
}
