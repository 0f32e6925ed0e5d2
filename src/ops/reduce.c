#include "ops/reduce.h"

#include <elbo/ops.h>
#include <float.h>

#include "ops/elementwise.h"

reduce_axes reduce_collapse(const shape *s, int64_t axes) {
  reduce_axes r = {.n_kept = 1, .n_reduced = 1};
  int64_t stride = shape_count(s);
  for (int axis = 0; axis < s->rank; axis++) {
    bool reduced = axes >> axis & 1;
    if (s->dim[axis] > 0) stride /= s->dim[axis];
    if (s->dim[axis] == 1) continue;
    *(reduced ? &r.n_reduced : &r.n_kept) *= s->dim[axis];
    if (r.rank > 0 && r.reduced[r.rank - 1] == reduced) {
      r.dim[r.rank - 1] *= s->dim[axis];
    } else {
      r.reduced[r.rank] = reduced;
      r.dim[r.rank++] = s->dim[axis];
    }
    r.stride[r.rank - 1] = stride;
  }
  return r;
}

int64_t reduce_place(const reduce_axes *r, int rank, bool reduced, int64_t index) {
  int64_t place = 0;
  for (int axis = rank - 1; axis >= 0; axis--) {
    if (r->reduced[axis] != reduced) continue;
    place += index % r->dim[axis] * r->stride[axis];
    index /= r->dim[axis];
  }
  return place;
}

bool sum_of_trailing_axes(const node *n, int *axis) {
  if (n->op != &op_sum) return false;
  int64_t axes = ((const reduce_attr *)n->attr)->axes;
  int rank = n->in[0]->shape.rank;
  for (*axis = rank; *axis > 0 && axes >> (*axis - 1) & 1;) --*axis;
  return *axis < rank && axes == ((int64_t)1 << rank) - ((int64_t)1 << *axis);
}

// --- rules ----------------------------------------------------------------------------------------------------------------------

static shape reduced_shape(const shape *s, const reduce_attr *attr) {
  shape out = {.rank = 0};
  for (int axis = 0; axis < s->rank; axis++) {
    if (!(attr->axes >> axis & 1))
      out.dim[out.rank++] = s->dim[axis];
    else if (attr->keep)
      out.dim[out.rank++] = 1;
  }
  return out;
}

static bool infer_reduce(elbo_graph *g, node *n) {
  const reduce_attr *attr = n->attr;
  if (n->in[0]->dtype != ELBO_F32) {
    graph_fail(g, ELBO_ERROR_ARGUMENT, "%s: operand is %s, expected float32", n->op->name, elbo_dtype_name(n->in[0]->dtype));
    return false;
  }
  n->out[0]->dtype = ELBO_F32;
  n->out[0]->shape = reduced_shape(&n->in[0]->shape, attr);
  return true;
}

static bool infer_max_gradient(elbo_graph *g, node *n) {
  (void)g;
  n->out[0]->dtype = ELBO_F32;
  n->out[0]->shape = n->in[0]->shape;
  return true;
}

static bool sum_gradient(elbo_graph *g, const node *n, elbo_tensor *const *dy, const bool *wanted, elbo_tensor **dx) {
  if (!wanted[0] || !dy[0]) return true;
  reduce_attr attr = *(const reduce_attr *)n->attr;
  attr.keep = 1;
  const shape *s = &n->in[0]->shape;
  shape kept = reduced_shape(s, &attr);
  elbo_tensor *d = dy[0];
  if (!shape_equal(&d->shape, &kept)) d = elbo_reshape(d, kept.rank, kept.dim);
  dx[0] = elbo_broadcast_to(d, s->rank, s->dim);
  return g->error == ELBO_OK;
}

static bool max_gradient(elbo_graph *g, const node *n, elbo_tensor *const *dy, const bool *wanted, elbo_tensor **dx) {
  if (!wanted[0] || !dy[0]) return true;
  elbo_tensor *in[3] = {n->in[0], n->out[0], dy[0]};
  dx[0] = graph_add(g, &op_max_gradient, n->attr, 3, in, NULL);
  return dx[0] != NULL;
}

static int64_t reduce_flops(const node *n) { return shape_count(&n->in[0]->shape); }

elbo_status sum_ref(elbo_ctx *ctx, const node *n, const void *const *in, void *const *out);
elbo_status max_ref(elbo_ctx *ctx, const node *n, const void *const *in, void *const *out);
elbo_status max_gradient_ref(elbo_ctx *ctx, const node *n, const void *const *in, void *const *out);

const op_def op_sum = {.name = "sum",
                       .attr_size = sizeof(reduce_attr),
                       .n_in = 1,
                       .n_out = 1,
                       .infer = infer_reduce,
                       .gradient = sum_gradient,
                       .flops = reduce_flops,
                       .reference = sum_ref};
const op_def op_max = {.name = "max",
                       .attr_size = sizeof(reduce_attr),
                       .n_in = 1,
                       .n_out = 1,
                       .infer = infer_reduce,
                       .gradient = max_gradient,
                       .flops = reduce_flops,
                       .reference = max_ref};
// x, its maximum y, dy -> dx: dy where x first equals y, 0 elsewhere. Not differentiable (nor is the choice of the largest).
const op_def op_max_gradient = {.name = "max_gradient",
                                .attr_size = sizeof(reduce_attr),
                                .n_in = 3,
                                .n_out = 1,
                                .infer = infer_max_gradient,
                                .reference = max_gradient_ref};

// --- builders -------------------------------------------------------------------------------------------------------------------

static elbo_tensor *add_reduce(const op_def *op, const char *name, elbo_tensor *x, unsigned axes, int keep) {
  elbo_graph *g = graph_of(1, &x);
  if (!g) return NULL;
  unsigned all = (1u << x->shape.rank) - 1u;
  char text[SHAPE_TEXT];
  if (axes == ELBO_ALL_AXES) axes = all;
  if (axes & ~all)
    return graph_fail(g, ELBO_ERROR_ARGUMENT, "%s: axes 0x%x of a tensor of shape %s", name, axes, shape_text(&x->shape, text));
  if (axes == 0) return x;
  reduce_attr attr = {axes, keep != 0};
  return graph_add(g, op, &attr, 1, &x, NULL);
}

elbo_tensor *elbo_sum(elbo_tensor *x, unsigned axes, int keep) { return add_reduce(&op_sum, "sum", x, axes, keep); }
elbo_tensor *elbo_max(elbo_tensor *x, unsigned axes, int keep) { return add_reduce(&op_max, "max", x, axes, keep); }

elbo_tensor *elbo_mean(elbo_tensor *x, unsigned axes, int keep) {
  elbo_tensor *y = add_reduce(&op_sum, "mean", x, axes, keep);
  if (!y || y == x) return y;
  return elbo_scale(y, (double)shape_count(&y->shape) / (double)shape_count(&x->shape), 0.0);
}

elbo_tensor *elbo_sum_per_example(elbo_tensor *x) {
  elbo_graph *g = graph_of(1, &x);
  if (!g) return NULL;
  if (x->shape.rank < 1) return graph_fail(g, ELBO_ERROR_ARGUMENT, "sum_per_example: a scalar, expected (B,...)");
  return elbo_sum(x, ((1u << x->shape.rank) - 1u) & ~1u, 0);
}

// log sum e^x = m + log sum e^(x-m); the maximum m only keeps the exponentials in range, so its gradient is none of ours. The clamp keeps
// x - m a number where all of x is infinite.
elbo_tensor *elbo_logsumexp(elbo_tensor *x, unsigned axes, int keep) {
  if (!graph_of(1, &x)) return NULL;
  if (axes == ELBO_ALL_AXES) axes = (1u << x->shape.rank) - 1u;
  elbo_tensor *m = elbo_clamp(elbo_stop_gradient(elbo_max(x, axes, 1)), -FLT_MAX, FLT_MAX);
  elbo_tensor *y = elbo_add(elbo_log(elbo_sum(elbo_exp(elbo_sub(x, m)), axes, 1)), m);
  if (!y || keep || axes == 0) return y;
  reduce_attr attr = {axes, 0};
  shape s = reduced_shape(&x->shape, &attr);
  return elbo_reshape(y, s.rank, s.dim);
}
