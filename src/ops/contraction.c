#include "ops/contraction.h"

#include <math.h>

#include "core/memory.h"
#include "ops/norm.h"

double contraction_activate(contraction_activation activation, double slope, double x) {
  switch (activation) {
  case CONTRACTION_RELU: return x > 0 || isnan(x) ? x : 0;
  case CONTRACTION_LEAKY_RELU: return x > 0 ? x : slope * x;
  case CONTRACTION_SILU: return x / (1 + exp(-x));
  case CONTRACTION_GELU: return 0.5 * x * erfc(-x * M_SQRT1_2);
  case CONTRACTION_TANH: return tanh(x);
  case CONTRACTION_SIGMOID: return 1 / (1 + exp(-x));
  case CONTRACTION_SOFTPLUS: return (x > 0 ? x : 0) + log1p(exp(-fabs(x)));
  case CONTRACTION_LINEAR:
  case CONTRACTION_ACTIVATIONS: break;
  }
  return x;
}

// --- checks -------------------------------------------------------------------------------------------------------------------------

bool check_float32(elbo_graph *g, const node *n, const elbo_tensor *t, const char *what) {
  if (t->dtype == ELBO_F32) return true;
  graph_fail(g, ELBO_ERROR_ARGUMENT, "%s: %s is %s, expected float32", n->op->name, what, elbo_dtype_name(t->dtype));
  return false;
}

bool check_bias(elbo_graph *g, const node *n, const elbo_tensor *bias, int64_t channels) {
  char text[SHAPE_TEXT];
  if (!bias) return true;
  if (!check_float32(g, n, bias, "bias")) return false;
  if (bias->shape.rank == 1 && bias->shape.dim[0] == channels) return true;
  graph_fail(g, ELBO_ERROR_ARGUMENT, "%s: bias has shape %s, expected (%lld)", n->op->name, shape_text(&bias->shape, text),
             (long long)channels);
  return false;
}

bool check_conv2d_attr(elbo_graph *g, const node *n, const conv2d_attr *a) {
  const int64_t limit = 1 << 24; // keeps every position within 64 bits by far
  for (int i = 0; i < 2; i++) {
    if (a->stride[i] < 1 || a->dilation[i] < 1 || a->stride[i] > limit || a->dilation[i] > limit) {
      graph_fail(g, ELBO_ERROR_ARGUMENT, "%s: stride (%d,%d) and dilation (%d,%d) must be at least 1", n->op->name, a->stride[0],
                 a->stride[1], a->dilation[0], a->dilation[1]);
      return false;
    }
    if (a->size[i] < 1 || a->size[i] > limit) {
      graph_fail(g, ELBO_ERROR_ARGUMENT, "%s: the result would be %lld x %lld, expected at least 1 x 1", n->op->name, (long long)a->size[0],
                 (long long)a->size[1]);
      return false;
    }
  }
  for (int i = 0; i < 4; i++)
    if (a->pad[i] < 0 || a->pad[i] > limit) {
      graph_fail(g, ELBO_ERROR_ARGUMENT, "%s: padding %d must not be negative", n->op->name, a->pad[i]);
      return false;
    }
  if (a->groups < 1) {
    graph_fail(g, ELBO_ERROR_ARGUMENT, "%s: %d groups, expected at least 1", n->op->name, a->groups);
    return false;
  }
  return true;
}

static bool check_rank4(elbo_graph *g, const node *n, const elbo_tensor *t, const char *what, const char *axes) {
  char text[SHAPE_TEXT];
  if (!check_float32(g, n, t, what)) return false;
  if (t->shape.rank == 4) return true;
  graph_fail(g, ELBO_ERROR_ARGUMENT, "%s: %s has shape %s, expected %s", n->op->name, what, shape_text(&t->shape, text), axes);
  return false;
}

bool conv2d_shape(elbo_graph *g, const node *n, const conv2d_attr *a, const elbo_tensor *x, const elbo_tensor *w, shape *out) {
  char xs[SHAPE_TEXT], ws[SHAPE_TEXT];
  if (!check_conv2d_attr(g, n, a) || !check_rank4(g, n, x, "input", "(B,H,W,C)") || !check_rank4(g, n, w, "weight", "(O,I,kh,kw)"))
    return false;
  int64_t channels = x->shape.dim[3], o = w->shape.dim[0];
  if (w->shape.dim[1] * a->groups != channels || o % a->groups) {
    graph_fail(g, ELBO_ERROR_ARGUMENT,
               "%s: input %s and weight %s do not fit with %d groups: expected weight (O,%lld,kh,kw) with O divisible", n->op->name,
               shape_text(&x->shape, xs), shape_text(&w->shape, ws), a->groups, (long long)(channels / a->groups));
    return false;
  }
  *out = shape_of(4, (int64_t[]){x->shape.dim[0], a->size[0], a->size[1], o});
  return true;
}

bool conv_transpose2d_shape(elbo_graph *g, const node *n, const conv2d_attr *a, const elbo_tensor *y, const elbo_tensor *w, shape *out) {
  char ys[SHAPE_TEXT], ws[SHAPE_TEXT];
  if (!check_conv2d_attr(g, n, a) || !check_rank4(g, n, y, "input", "(B,H,W,C)") || !check_rank4(g, n, w, "weight", "(I,O,kh,kw)"))
    return false;
  int64_t channels = y->shape.dim[3];
  if (w->shape.dim[0] != channels || channels % a->groups) {
    graph_fail(g, ELBO_ERROR_ARGUMENT, "%s: input %s and weight %s do not fit with %d groups: expected weight (%lld,O,kh,kw), divisible",
               n->op->name, shape_text(&y->shape, ys), shape_text(&w->shape, ws), a->groups, (long long)channels);
    return false;
  }
  int64_t o;
  if (!checked_mul(w->shape.dim[1], a->groups, &o)) {
    graph_fail(g, ELBO_ERROR_ARGUMENT, "%s: too many channels", n->op->name);
    return false;
  }
  *out = shape_of(4, (int64_t[]){y->shape.dim[0], a->size[0], a->size[1], o});
  return true;
}

bool linear_shape(elbo_graph *g, const node *n, const elbo_tensor *x, const elbo_tensor *w, shape *out) {
  char xs[SHAPE_TEXT], ws[SHAPE_TEXT];
  if (!check_float32(g, n, x, "input") || !check_float32(g, n, w, "weight")) return false;
  if (x->shape.rank < 1 || w->shape.rank != 2 || x->shape.dim[x->shape.rank - 1] != w->shape.dim[1]) {
    graph_fail(g, ELBO_ERROR_ARGUMENT, "%s: input %s and weight %s do not fit: expected (...,I) and (O,I)", n->op->name,
               shape_text(&x->shape, xs), shape_text(&w->shape, ws));
    return false;
  }
  *out = x->shape;
  out->dim[out->rank - 1] = w->shape.dim[0];
  return true;
}

void set_output(node *n, int i, const shape *s) {
  n->out[i]->dtype = ELBO_F32;
  n->out[i]->shape = *s;
}

bool infer_fused(elbo_graph *g, node *n, const shape *out) {
  const fused_contraction_attr *a = n->attr;
  char rs[SHAPE_TEXT], os[SHAPE_TEXT];
  const elbo_tensor *residual = n->in[FUSED_RESIDUAL];
  if (!check_bias(g, n, n->in[FUSED_BIAS], out->dim[out->rank - 1])) return false;
  if (residual && (residual->dtype != ELBO_F32 || !shape_equal(&residual->shape, out))) {
    graph_fail(g, ELBO_ERROR_ARGUMENT, "%s: residual has shape %s, expected %s", n->op->name, shape_text(&residual->shape, rs),
               shape_text(out, os));
    return false;
  }
  if (a->epilogue.activation < 0 || a->epilogue.activation >= CONTRACTION_ACTIVATIONS) {
    graph_fail(g, ELBO_ERROR_UNSUPPORTED, "%s: this activation is not supported", n->op->name);
    return false;
  }
  if ((n->in[FUSED_NORM] && n->op != &op_fused_conv2d) || (n->in[FUSED_X2] && !n->in[FUSED_NORM])) {
    graph_fail(g, ELBO_ERROR_UNSUPPORTED, "%s: only fused_conv2d normalises what it reads, or reads two tensors", n->op->name);
    return false;
  }
  set_output(n, 0, out);
  shape none = shape_of(1, (int64_t[]){0});
  set_output(n, 1, a->epilogue.keep_pre ? out : &none);
  return true;
}

// --- making fused nodes -------------------------------------------------------------------------------------------------------------

static bool is_fused(const op_def *op) { return op == &op_fused_linear || op == &op_fused_conv2d || op == &op_fused_conv_transpose2d; }

static const op_def *fused_form(const op_def *op) {
  if (is_fused(op)) return op;
  if (op == &op_linear) return &op_fused_linear;
  if (op == &op_conv2d) return &op_fused_conv2d;
  if (op == &op_conv_transpose2d) return &op_fused_conv_transpose2d;
  return NULL;
}

bool contraction_can_fuse(const node *plain, bool with_residual) {
  if (!fused_form(plain->op)) return false;
  if (!is_fused(plain->op)) return true;
  const fused_contraction_attr *a = plain->attr;
  return a->epilogue.activation == CONTRACTION_LINEAR && !a->epilogue.keep_pre && !(with_residual && plain->in[FUSED_RESIDUAL]);
}

// Attributes and inputs of the fused form of `plain`, whose inputs are `from`.
static fused_contraction_attr fused_parts(const node *plain, elbo_tensor *const *from, elbo_tensor *in[FUSED_INPUTS]) {
  for (int i = 0; i < FUSED_INPUTS; i++) in[i] = is_fused(plain->op) ? from[i] : NULL;
  if (is_fused(plain->op)) return *(const fused_contraction_attr *)plain->attr;
  fused_contraction_attr a = {.epilogue = CONTRACTION_EPILOGUE_NONE};
  if (plain->op != &op_linear) a.conv = *(const conv2d_attr *)plain->attr;
  in[FUSED_X] = from[0];
  in[FUSED_WEIGHT] = from[1];
  in[FUSED_BIAS] = from[2];
  return a;
}

node *graph_add_fused(elbo_graph *g, const node *plain, elbo_tensor *residual, const contraction_epilogue *epilogue, const char *name) {
  if (!contraction_can_fuse(plain, residual != NULL))
    return graph_fail(g, ELBO_ERROR_INTERNAL, "%s: not a contraction that can take this epilogue", plain->op->name);
  elbo_tensor *in[FUSED_INPUTS];
  fused_contraction_attr a = fused_parts(plain, plain->in, in);
  double alpha = a.epilogue.alpha;
  a.epilogue = *epilogue;
  a.epilogue.alpha *= alpha;
  if (residual) in[FUSED_RESIDUAL] = residual;
  return graph_add_node(g, fused_form(plain->op), &a, FUSED_INPUTS, in, name);
}

node *graph_add_normalised_conv2d(elbo_graph *g, const node *plain, elbo_tensor *const *from, const node *norm, elbo_tensor *channels,
                                  elbo_tensor *x2) {
  const group_norm_attr *act = norm->attr;
  elbo_tensor *in[FUSED_INPUTS];
  fused_contraction_attr a = fused_parts(plain, from, in);
  a.prologue = (contraction_prologue){act->act, act->slope};
  in[FUSED_NORM] = channels, in[FUSED_X2] = x2;
  return graph_add_node(g, &op_fused_conv2d, &a, FUSED_INPUTS, in, plain->name);
}
