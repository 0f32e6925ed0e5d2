#include "ops/linear.h"

#include "ops/contraction.h"

static void product(const node *n, const elbo_tensor *x, const elbo_tensor *w, const double *xs, const double *ws, const double *bias,
                    double *y) {
  int64_t I = w->shape.dim[1], O = w->shape.dim[0], rows = shape_count(&x->shape) / (I ? I : 1);
  (void)n;
  for (int64_t m = 0; m < rows; m++)
    for (int64_t o = 0; o < O; o++) {
      double sum = bias ? bias[o] : 0;
      for (int64_t i = 0; i < I; i++) sum += xs[m * I + i] * ws[o * I + i];
      y[m * O + o] = sum;
    }
}

elbo_status linear_ref(elbo_ctx *ctx, const node *n, const void *const *in, void *const *out) {
  (void)ctx;
  product(n, n->in[0], n->in[1], in[0], in[1], in[2], out[0]);
  return ELBO_OK;
}

void fused_epilogue_ref(const node *n, const void *const *in, void *const *out) {
  const fused_contraction_attr *a = n->attr;
  const shape *s = &n->out[0]->shape;
  int64_t count = shape_count(s), C = s->dim[s->rank - 1];
  const double *bias = in[FUSED_BIAS], *residual = in[FUSED_RESIDUAL];
  double *y = out[0], *pre = a->epilogue.keep_pre ? out[1] : NULL;
  for (int64_t i = 0; i < count; i++) {
    double v = a->epilogue.alpha * y[i] + (bias ? bias[i % C] : 0) + (residual ? residual[i] : 0);
    if (pre) pre[i] = v;
    y[i] = contraction_activate(a->epilogue.activation, a->epilogue.slope, v);
  }
}

elbo_status fused_linear_ref(elbo_ctx *ctx, const node *n, const void *const *in, void *const *out) {
  (void)ctx;
  product(n, n->in[FUSED_X], n->in[FUSED_WEIGHT], in[FUSED_X], in[FUSED_WEIGHT], NULL, out[0]);
  fused_epilogue_ref(n, in, out);
  return ELBO_OK;
}
