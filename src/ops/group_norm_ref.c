#include <math.h>
#include <stdlib.h>

#include "ops/norm.h"

double norm_act_value(int64_t act, double slope, double v) {
  switch (act) {
  case NORM_ACT_RELU: return v > 0 ? v : 0;
  case NORM_ACT_LEAKY_RELU: return v > 0 ? v : slope * v;
  case NORM_ACT_SILU: return v / (1 + exp(-v));
  default: return v;
  }
}

double norm_act_slope(int64_t act, double slope, double v) {
  double s = 1 / (1 + exp(-v));
  switch (act) {
  case NORM_ACT_RELU: return v > 0 ? 1 : 0;
  case NORM_ACT_LEAKY_RELU: return v > 0 ? 1 : slope;
  case NORM_ACT_SILU: return s * (1 + v * (1 - s));
  default: return 1;
  }
}

typedef struct group_shape {
  int64_t images, rows, c, groups, per; // (images, rows, groups * per)
} group_shape;

static group_shape group_shape_of(const node *n) {
  const group_norm_attr *a = n->attr;
  const elbo_tensor *x2 = group_norm_second(n);
  const shape *s = &n->in[0]->shape;
  int64_t c = s->dim[s->rank - 1] + (x2 ? x2->shape.dim[s->rank - 1] : 0);
  return (group_shape){s->dim[0], shape_product(s, 1, s->rank - 1), c, a->groups, c / a->groups};
}

// (rows,C) out of x and x2, or back into them
static void join(const node *n, const group_shape *s, double *joined, double *x, double *x2, bool back) {
  int64_t own = n->in[0]->shape.dim[n->in[0]->shape.rank - 1];
  for (int64_t i = 0; i < s->images * s->rows * s->c; i++) {
    int64_t row = i / s->c, c = i % s->c;
    double *part = c < own ? x + row * own + c : x2 + row * (s->c - own) + c - own;
    if (back)
      *part = joined[i];
    else
      joined[i] = *part;
  }
}

OP_REFERENCE(group_norm) {
  (void)ctx;
  const group_norm_attr *a = n->attr;
  const double *x = in[0], *weight = in[1], *bias = in[2];
  bool modulated = n->n_in == FUSED_NORM_INPUTS && n->in[NORM_FACTOR];
  const double *factor = modulated ? in[NORM_FACTOR] : NULL, *shift = modulated ? in[NORM_SHIFT] : NULL;
  double *y = out[0], *mean = out[1], *rstd = out[2];
  group_shape s = group_shape_of(n);
  for (int64_t b = 0; b < s.images; b++)
    for (int64_t g = 0; g < s.groups; g++) {
      int64_t base = b * s.rows * s.c + g * s.per;
      double m = 0, v = 0;
      for (int64_t r = 0; r < s.rows; r++)
        for (int64_t c = 0; c < s.per; c++) m += x[base + r * s.c + c];
      m /= (double)(s.rows * s.per);
      for (int64_t r = 0; r < s.rows; r++)
        for (int64_t c = 0; c < s.per; c++) v += (x[base + r * s.c + c] - m) * (x[base + r * s.c + c] - m);
      double inverse = 1 / sqrt(v / (double)(s.rows * s.per) + a->eps);
      mean[b * s.groups + g] = m, rstd[b * s.groups + g] = inverse;
      for (int64_t r = 0; r < s.rows; r++)
        for (int64_t c = 0; c < s.per; c++) {
          int64_t i = base + r * s.c + c;
          double h = (x[i] - m) * inverse * (weight ? weight[g * s.per + c] : 1) + (bias ? bias[g * s.per + c] : 0);
          if (factor) h = h * factor[b * s.c + g * s.per + c] + shift[b * s.c + g * s.per + c];
          y[i] = norm_act_value(a->act, a->slope, h);
        }
    }
  return ELBO_OK;
}

OP_REFERENCE(group_norm_grad) {
  (void)ctx;
  const group_norm_attr *a = n->attr;
  const double *x = in[0], *weight = in[1], *bias = in[2], *mean = in[3], *rstd = in[4], *dy = in[5];
  double *dx = out[0], *dweight = out[1], *dbias = out[2], *y = a->again ? out[3] : NULL;
  const double *residual = n->n_in > 6 ? in[6] : NULL;
  group_shape s = group_shape_of(n);
  for (int64_t c = 0; c < s.c; c++) dweight[c] = dbias[c] = 0;
  for (int64_t b = 0; b < s.images; b++)
    for (int64_t g = 0; g < s.groups; g++) {
      double m = mean[b * s.groups + g], inverse = rstd[b * s.groups + g], sum = 0, along = 0, count = (double)(s.rows * s.per);
      for (int pass = 0; pass < 2; pass++)
        for (int64_t r = 0; r < s.rows; r++)
          for (int64_t c = g * s.per; c < (g + 1) * s.per; c++) {
            int64_t i = (b * s.rows + r) * s.c + c;
            double w = weight ? weight[c] : 1, xhat = (x[i] - m) * inverse;
            double pre = xhat * w + (bias ? bias[c] : 0), dn = dy[i] * norm_act_slope(a->act, a->slope, pre);
            if (y) y[i] = norm_act_value(a->act, a->slope, pre);
            if (pass == 0)
              dweight[c] += dn * xhat, dbias[c] += dn, sum += dn * w, along += dn * w * xhat;
            else
              dx[i] = inverse * (dn * w - sum / count - xhat * along / count) + (residual ? residual[i] : 0);
          }
    }
  for (int64_t i = 0; a->sums && i < s.images * s.c; i++) {
    double sum = 0;
    for (int64_t r = 0; r < s.rows; r++) sum += dx[(i / s.c * s.rows + r) * s.c + i % s.c];
    ((double *)out[4])[i] = sum;
  }
  return ELBO_OK;
}

OP_REFERENCE(fused_group_norm) {
  if (!group_norm_second(n)) return group_norm_ref(ctx, n, in, out);
  group_shape s = group_shape_of(n);
  double *x;
  TRY(array_new(ctx, (size_t)(s.images * s.rows * s.c), sizeof *x, "a reference", (void **)&x));
  join(n, &s, x, (double *)in[0], (double *)in[NORM_X2], false);
  elbo_status status = group_norm_ref(ctx, n, (const void *[]){x, in[1], in[2], NULL, in[NORM_FACTOR], in[NORM_SHIFT]}, out);
  free(x);
  return status;
}

OP_REFERENCE(fused_group_norm_grad) {
  if (!group_norm_second(n)) return group_norm_grad_ref(ctx, n, in, out);
  group_shape s = group_shape_of(n);
  double *x, *dx;
  int64_t count = s.images * s.rows * s.c;
  TRY(array_new(ctx, (size_t)(2 * count), sizeof *x, "a reference", (void **)&x));
  dx = x + count;
  join(n, &s, x, (double *)in[0], (double *)in[7], false);
  elbo_status status = group_norm_grad_ref(ctx, n, (const void *[]){x, in[1], in[2], in[3], in[4], in[5], NULL},
                                           (void *[]){dx, out[1], out[2], out[3], out[4]});
  join(n, &s, dx, out[0], out[5], true);
  free(x);
  return status;
}

OP_REFERENCE(group_norm_statistics) {
  group_shape s = group_shape_of(n);
  double *y, *channels = out[0];
  const double *weight = in[1], *bias = in[2], *factor = in[NORM_FACTOR], *shift = in[NORM_SHIFT], *mean = out[1], *rstd = out[2];
  TRY(array_new(ctx, (size_t)(s.images * s.rows * s.c), sizeof *y, "a reference", (void **)&y));
  elbo_status status = fused_group_norm_ref(ctx, n, in, (void *[]){y, out[1], out[2]});
  free(y);
  for (int64_t i = 0; status == ELBO_OK && i < s.images * s.c; i++) {
    int64_t b = i / s.c, c = i % s.c, g = b * s.groups + c / s.per;
    double *to = channels + b * 3 * s.c + c;
    to[0] = mean[g], to[s.c] = rstd[g] * (weight ? weight[c] : 1), to[2 * s.c] = bias ? bias[c] : 0;
    if (factor) to[s.c] *= factor[i], to[2 * s.c] = to[2 * s.c] * factor[i] + shift[i];
  }
  return status;
}
