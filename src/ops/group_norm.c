// group_norm [Wu18] over (B,...,C): each image's channels in `groups` equal groups, each brought to mean 0 and variance 1.
#include <elbo/ops.h>

#include "ops/norm.h"

extern const op_def op_fused_group_norm, op_fused_group_norm_grad, op_group_norm_statistics;

bool norm_check_channels(elbo_graph *g, const char *op, const elbo_tensor *x, const elbo_tensor *w, const char *what) {
  int64_t c = x->shape.dim[x->shape.rank - 1];
  if (!w || (w->dtype == ELBO_F32 && w->shape.rank == 1 && w->shape.dim[0] == c)) return true;
  char text[2][SHAPE_TEXT];
  graph_fail(g, ELBO_ERROR_ARGUMENT, "%s of %s: %s is %s %s, expected float32 (%lld)", op, shape_text(&x->shape, text[0]), what,
             elbo_dtype_name(w->dtype), shape_text(&w->shape, text[1]), (long long)c);
  return false;
}

bool norm_statistics_unused(elbo_graph *g, const node *n, elbo_tensor *const *dy) {
  if (!dy[1] && !dy[2]) return true;
  graph_fail(g, ELBO_ERROR_UNSUPPORTED, "%s: its statistics are not differentiable", n->op->name);
  return false;
}

const elbo_tensor *group_norm_second(const node *n) {
  if (n->op == &op_fused_group_norm || n->op == &op_group_norm_statistics) return n->in[NORM_X2];
  return n->op == &op_fused_group_norm_grad ? n->in[7] : NULL;
}

// Of x, with x2 behind it.
static bool group_norm_check(elbo_graph *g, const node *n, shape *joined) {
  const group_norm_attr *a = n->attr;
  const elbo_tensor *x = n->in[0], *x2 = group_norm_second(n);
  char text[2][SHAPE_TEXT];
  if (x->dtype != ELBO_F32 || x->shape.rank < 2)
    return graph_fail(g, ELBO_ERROR_ARGUMENT, "%s of %s %s: expected float32 (B,...,C)", n->op->name, elbo_dtype_name(x->dtype),
                      shape_text(&x->shape, text[0]));
  int last = x->shape.rank - 1;
  *joined = x->shape;
  if (x2) {
    shape like = x2->shape;
    if (like.rank == x->shape.rank) like.dim[last] = x->shape.dim[last];
    if (x2->dtype != ELBO_F32 || !shape_equal(&like, &x->shape))
      return graph_fail(g, ELBO_ERROR_ARGUMENT, "%s of %s: x2 is %s %s; it must agree but for the channels", n->op->name,
                        shape_text(&x->shape, text[0]), elbo_dtype_name(x2->dtype), shape_text(&x2->shape, text[1]));
    joined->dim[last] += x2->shape.dim[last];
  }
  int64_t c = joined->dim[last];
  if (a->groups < 1 || c % a->groups != 0)
    return graph_fail(g, ELBO_ERROR_ARGUMENT, "%s of %s: %lld channels do not come apart into %lld equal groups", n->op->name,
                      shape_text(joined, text[0]), (long long)c, (long long)a->groups);
  if (!(a->eps > 0))
    return graph_fail(g, ELBO_ERROR_ARGUMENT, "%s of %s: eps is %g, expected a positive number", n->op->name, shape_text(joined, text[0]),
                      a->eps);
  elbo_tensor all = *x; // what weight and bias belong to
  all.shape = *joined;
  return norm_check_channels(g, n->op->name, &all, n->in[1], "weight") && norm_check_channels(g, n->op->name, &all, n->in[2], "bias");
}

// Factor and shift, of channels like those of `joined`.
static bool modulation_check(elbo_graph *g, const node *n, const shape *joined) {
  const elbo_tensor *factor = n->in[NORM_FACTOR], *shift = n->in[NORM_SHIFT];
  char text[3][SHAPE_TEXT];
  shape one = *joined;
  if (!factor && !shift) return true;
  for (int i = 1; i < one.rank - 1; i++) one.dim[i] = 1;
  if (factor && shift && factor->dtype == ELBO_F32 && shift->dtype == ELBO_F32 && shape_equal(&factor->shape, &one) &&
      shape_equal(&shift->shape, &one))
    return true;
  return graph_fail(g, ELBO_ERROR_ARGUMENT, "%s of %s: factor and shift are %s and %s; both must be float32 (B,1,...,1,C)", n->op->name,
                    shape_text(joined, text[0]), factor ? shape_text(&factor->shape, text[1]) : "none",
                    shift ? shape_text(&shift->shape, text[2]) : "none");
}

static bool group_norm_infer(elbo_graph *g, node *n) {
  const group_norm_attr *a = n->attr;
  shape x;
  if (!group_norm_check(g, n, &x) || (n->n_in == FUSED_NORM_INPUTS && !modulation_check(g, n, &x))) return false;
  n->out[0]->dtype = n->out[1]->dtype = n->out[2]->dtype = ELBO_F32;
  bool statistics = n->op == &op_group_norm_statistics;
  n->out[0]->shape = statistics ? shape_of(3, (int64_t[]){x.dim[0], 3, x.dim[x.rank - 1]}) : x;
  n->out[1]->shape = n->out[2]->shape = shape_of(2, (int64_t[]){x.dim[0], a->groups});
  return true;
}

static bool group_norm_grad_infer(elbo_graph *g, node *n) {
  const group_norm_attr *a = n->attr;
  const elbo_tensor *x2 = group_norm_second(n), *mean = n->in[3], *rstd = n->in[4], *dy = n->in[5];
  shape x;
  char text[2][SHAPE_TEXT];
  if (!group_norm_check(g, n, &x)) return false;
  shape statistics = shape_of(2, (int64_t[]){x.dim[0], a->groups});
  if (!shape_equal(&mean->shape, &statistics) || !shape_equal(&rstd->shape, &statistics) || !shape_equal(&dy->shape, &x))
    return graph_fail(g, ELBO_ERROR_ARGUMENT, "%s of %s: statistics or dy %s do not belong to it", n->op->name, shape_text(&x, text[0]),
                      shape_text(&dy->shape, text[1]));
  int64_t c = x.dim[x.rank - 1];
  for (int i = 0; i < n->n_out; i++) n->out[i]->dtype = ELBO_F32;
  n->out[0]->shape = n->in[0]->shape;
  n->out[1]->shape = n->out[2]->shape = shape_of(1, &c);
  if (n->op != &op_fused_group_norm_grad) return true;
  if (n->in[6] && (x2 || !shape_equal(&n->in[6]->shape, &x)))
    return graph_fail(g, ELBO_ERROR_ARGUMENT, "%s of %s%s: residual has shape %s", n->op->name, shape_text(&x, text[0]),
                      x2 ? " in two parts" : "", shape_text(&n->in[6]->shape, text[1]));
  n->out[3]->shape = a->again ? x : shape_of(1, (int64_t[]){0});
  n->out[4]->shape = a->sums ? shape_of(2, (int64_t[]){x.dim[0], c}) : shape_of(1, (int64_t[]){0});
  if (x2)
    n->out[5]->shape = x2->shape;
  else
    n->n_out = a->sums ? 5 : a->again ? 4 : 3;
  return true;
}

static bool group_norm_gradient(elbo_graph *g, const node *n, elbo_tensor *const *dy, const bool *wanted, elbo_tensor **dx) {
  if (!norm_statistics_unused(g, n, dy)) return false;
  if (!dy[0]) return true;
  elbo_tensor *in[] = {n->in[0], n->in[1], NULL, n->out[1], n->out[2], dy[0]};
  node *grad = graph_add_node(g, &op_group_norm_grad, n->attr, 6, in, NULL);
  if (!grad) return false;
  for (int i = 0; i < 3; i++)
    if (wanted[i] && n->in[i]) dx[i] = grad->out[i];
  return true;
}

// The gradient's formulas in plain operations, the statistics computed again so that they too are differentiated:
//   xhat = (x - mean) rstd,  e = dy weight,  dx = rstd (e - <e> - xhat <e xhat>),  <.> the mean over a group
static bool group_norm_grad_decompose(elbo_graph *g, const node *n, elbo_tensor **out) {
  (void)g;
  const group_norm_attr *a = n->attr;
  elbo_tensor *x = n->in[0], *weight = n->in[1], *dy = n->in[5];
  const shape *s = &x->shape;
  int64_t c = s->dim[s->rank - 1], rows = shape_product(s, 1, s->rank - 1);
  const int64_t grouped[] = {s->dim[0], rows, a->groups, c / a->groups};
  const unsigned within = 1u << 1 | 1u << 3; // rows and channels of a group
  elbo_tensor *xg = elbo_reshape(x, 4, grouped), *dyg = elbo_reshape(dy, 4, grouped);
  elbo_tensor *centred = elbo_sub(xg, elbo_mean(xg, within, 1));
  elbo_tensor *rstd = elbo_rsqrt(elbo_scale(elbo_mean(elbo_square(centred), within, 1), 1.0, a->eps));
  elbo_tensor *xhat = elbo_mul(centred, rstd);
  elbo_tensor *e = weight ? elbo_mul(dyg, elbo_reshape(weight, 2, grouped + 2)) : dyg;
  elbo_tensor *along = elbo_mul(xhat, elbo_mean(elbo_mul(e, xhat), within, 1));
  elbo_tensor *dx = elbo_mul(rstd, elbo_sub(elbo_sub(e, elbo_mean(e, within, 1)), along));
  out[0] = elbo_reshape(dx, s->rank, s->dim);
  out[1] = elbo_reshape(elbo_sum(elbo_mul(dyg, xhat), 3u, 0), 1, &c);
  out[2] = elbo_reshape(elbo_sum(dyg, 3u, 0), 1, &c);
  return out[0] && out[1] && out[2];
}

const op_def op_group_norm = {
    .name = "group_norm",
    .attr_size = sizeof(group_norm_attr),
    .n_in = 3,
    .n_out = 3,
    .optional = 6,
    .flags = OP_INPLACE | OP_CHEAP,
    .infer = group_norm_infer,
    .gradient = group_norm_gradient,
    .reference = group_norm_ref,
};

const op_def op_group_norm_grad = {
    .name = "group_norm_grad",
    .attr_size = sizeof(group_norm_attr),
    .n_in = 6,
    .n_out = 3,
    .optional = 6,
    .infer = group_norm_grad_infer,
    .decompose = group_norm_grad_decompose,
    .reference = group_norm_grad_ref,
};

// Made by the fuse pass alone, after differentiation: they have no rules.
const op_def op_fused_group_norm = {
    .name = "fused_group_norm",
    .attr_size = sizeof(group_norm_attr),
    .n_in = FUSED_NORM_INPUTS,
    .n_out = 3,
    .optional = 1 << 1 | 1 << 2 | 1 << NORM_X2 | 1 << NORM_FACTOR | 1 << NORM_SHIFT,
    .flags = OP_INPLACE | OP_CHEAP,
    .infer = group_norm_infer,
    .reference = fused_group_norm_ref,
};

static int64_t statistics_flops(const node *n) {
  const elbo_tensor *x2 = group_norm_second(n);
  return shape_count(&n->in[0]->shape) + (x2 ? shape_count(&x2->shape) : 0);
}

const op_def op_group_norm_statistics = {
    .name = "group_norm_statistics",
    .attr_size = sizeof(group_norm_attr),
    .n_in = FUSED_NORM_INPUTS,
    .n_out = 3,
    .optional = 1 << 1 | 1 << 2 | 1 << NORM_X2 | 1 << NORM_FACTOR | 1 << NORM_SHIFT,
    .infer = group_norm_infer,
    .flops = statistics_flops,
    .reference = group_norm_statistics_ref,
};

const op_def op_fused_group_norm_grad = {
    .name = "fused_group_norm_grad",
    .attr_size = sizeof(group_norm_attr),
    .n_in = 8,
    .n_out = 6,
    .optional = 1 << 1 | 1 << 2 | 1 << 6 | 1 << 7,
    .infer = group_norm_grad_infer,
    .reference = fused_group_norm_grad_ref,
};

elbo_tensor *elbo_group_norm(elbo_tensor *x, elbo_tensor *weight, elbo_tensor *bias, int groups, double eps) {
  elbo_graph *g = graph_of(1, &x);
  if (!g) return NULL;
  group_norm_attr a = {.groups = groups, .eps = eps, .act = NORM_ACT_NONE};
  node *n = graph_add_node(g, &op_group_norm, &a, 3, (elbo_tensor *[]){x, weight, bias}, NULL);
  return n ? n->out[0] : NULL;
}

node *graph_add_fused_group_norm(elbo_graph *g, elbo_tensor *const *in, int64_t groups, double eps, norm_act act, double slope) {
  group_norm_attr a = {.groups = groups, .eps = eps, .act = act, .slope = slope};
  return graph_add_node(g, &op_fused_group_norm, &a, FUSED_NORM_INPUTS, in, NULL);
}

node *graph_add_fused_group_norm_grad(elbo_graph *g, elbo_tensor *x, elbo_tensor *weight, elbo_tensor *bias, elbo_tensor *mean,
                                      elbo_tensor *rstd, elbo_tensor *dy, elbo_tensor *residual, const group_norm_attr *attr) {
  elbo_tensor *in[] = {x, weight, bias, mean, rstd, dy, residual, NULL};
  return graph_add_node(g, &op_fused_group_norm_grad, attr, 8, in, NULL);
}

node *graph_add_group_norm_of_two(elbo_graph *g, const node *n, elbo_tensor *const *in, elbo_tensor *x, elbo_tensor *x2) {
  elbo_tensor *own[8] = {x};
  for (int i = 1; i < n->n_in; i++) own[i] = in[i];
  own[n->op == &op_fused_group_norm ? NORM_X2 : 7] = x2;
  return graph_add_node(g, n->op, n->attr, n->n_in, own, n->name);
}

node *graph_add_group_norm_statistics(elbo_graph *g, const node *norm, elbo_tensor *const *in) {
  return graph_add_node(g, &op_group_norm_statistics, norm->attr, FUSED_NORM_INPUTS, in, norm->name);
}
