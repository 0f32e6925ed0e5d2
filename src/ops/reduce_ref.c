#include <math.h>

#include "ops/reduce.h"

elbo_status sum_ref(elbo_ctx *ctx, const node *n, const void *const *in, void *const *out);
elbo_status max_ref(elbo_ctx *ctx, const node *n, const void *const *in, void *const *out);
elbo_status max_gradient_ref(elbo_ctx *ctx, const node *n, const void *const *in, void *const *out);

// Element of the result that element `index` of a tensor of shape s goes into.
static int64_t reduced_index(const shape *s, int64_t axes, int64_t index) {
  int64_t out = 0, step = 1;
  for (int axis = s->rank - 1; axis >= 0; axis--) {
    if (!(axes >> axis & 1)) {
      out += index % s->dim[axis] * step;
      step *= s->dim[axis];
    }
    index /= s->dim[axis];
  }
  return out;
}

elbo_status sum_ref(elbo_ctx *ctx, const node *n, const void *const *in, void *const *out) {
  const reduce_attr *attr = n->attr;
  const shape *s = &n->in[0]->shape;
  const double *x = in[0];
  double *y = out[0];
  (void)ctx;
  for (int64_t o = 0; o < shape_count(&n->out[0]->shape); o++) y[o] = 0.0;
  for (int64_t i = 0; i < shape_count(s); i++) y[reduced_index(s, attr->axes, i)] += x[i];
  return ELBO_OK;
}

elbo_status max_ref(elbo_ctx *ctx, const node *n, const void *const *in, void *const *out) {
  const reduce_attr *attr = n->attr;
  const shape *s = &n->in[0]->shape;
  const double *x = in[0];
  double *y = out[0];
  (void)ctx;
  for (int64_t o = 0; o < shape_count(&n->out[0]->shape); o++) y[o] = -INFINITY;
  for (int64_t i = 0; i < shape_count(s); i++) {
    int64_t o = reduced_index(s, attr->axes, i);
    if (x[i] > y[o] || isnan(x[i])) y[o] = x[i];
  }
  return ELBO_OK;
}

elbo_status max_gradient_ref(elbo_ctx *ctx, const node *n, const void *const *in, void *const *out) {
  const reduce_attr *attr = n->attr;
  const shape *s = &n->in[0]->shape;
  const double *x = in[0], *y = in[1], *dy = in[2];
  double *dx = out[0];
  (void)ctx;
  for (int64_t i = 0; i < shape_count(s); i++) {
    int64_t o = reduced_index(s, attr->axes, i);
    bool first = x[i] == y[o];
    for (int64_t j = 0; j < i && first; j++) first = x[j] != y[o] || reduced_index(s, attr->axes, j) != o;
    dx[i] = first ? dy[o] : 0.0;
  }
  return ELBO_OK;
}
