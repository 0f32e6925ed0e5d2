// Single elements of contractions in double precision: what the whole reference would take minutes for is checked at some places.
#include <math.h>
#include <string.h>

#include "ops/conv2d.h"
#include "tasks/bench_spec.h"

// The form of ops/contraction.h with its operands.
typedef struct point_form {
  conv_sizes z;
  int64_t stride, dilation, pad;
  const float *x, *w, *y;
} point_form;

static double point_y(const point_form *f, int64_t index) {
  const conv_sizes *z = &f->z;
  int64_t yc = z->O * z->groups, xc = z->I * z->groups, c = index % yc, v = index / yc % z->OW, u = index / yc / z->OW % z->OH;
  int64_t b = index / yc / z->OW / z->OH;
  double sum = 0;
  for (int64_t p = 0; p < z->kh; p++)
    for (int64_t q = 0; q < z->kw; q++) {
      int64_t h = u * f->stride + p * f->dilation - f->pad, w = v * f->stride + q * f->dilation - f->pad;
      if (h < 0 || h >= z->H || w < 0 || w >= z->W) continue;
      const float *x = f->x + ((b * z->H + h) * z->W + w) * xc + c / z->O * z->I;
      for (int64_t i = 0; i < z->I; i++) sum += (double)x[i] * (double)f->w[((c * z->I + i) * z->kh + p) * z->kw + q];
    }
  return sum;
}

static double point_x(const point_form *f, int64_t index) {
  const conv_sizes *z = &f->z;
  int64_t yc = z->O * z->groups, xc = z->I * z->groups, channel = index % xc, w = index / xc % z->W, h = index / xc / z->W % z->H;
  int64_t b = index / xc / z->W / z->H, first = channel / z->I * z->O, i = channel % z->I;
  double sum = 0;
  for (int64_t p = 0; p < z->kh; p++)
    for (int64_t q = 0; q < z->kw; q++) {
      int64_t u = h + f->pad - p * f->dilation, v = w + f->pad - q * f->dilation;
      if (u < 0 || v < 0 || u % f->stride || v % f->stride || u / f->stride >= z->OH || v / f->stride >= z->OW) continue;
      const float *y = f->y + ((b * z->OH + u / f->stride) * z->OW + v / f->stride) * yc;
      for (int64_t c = first; c < first + z->O; c++) sum += (double)y[c] * (double)f->w[((c * z->I + i) * z->kh + p) * z->kw + q];
    }
  return sum;
}

static double point_w(const point_form *f, int64_t index) {
  const conv_sizes *z = &f->z;
  int64_t yc = z->O * z->groups, xc = z->I * z->groups, q = index % z->kw, p = index / z->kw % z->kh;
  int64_t i = index / z->kw / z->kh % z->I, c = index / z->kw / z->kh / z->I;
  double sum = 0;
  for (int64_t b = 0; b < z->B; b++)
    for (int64_t u = 0; u < z->OH; u++)
      for (int64_t v = 0; v < z->OW; v++) {
        int64_t h = u * f->stride + p * f->dilation - f->pad, w = v * f->stride + q * f->dilation - f->pad;
        if (h < 0 || h >= z->H || w < 0 || w >= z->W) continue;
        sum += (double)f->x[((b * z->H + h) * z->W + w) * xc + c / z->O * z->I + i] * (double)f->y[((b * z->OH + u) * z->OW + v) * yc + c];
      }
  return sum;
}

static bool is_op(const bench_spec *s, const char *name) {
  size_t n = strlen(name);
  return !strncmp(s->op->text, name, n) && s->op->text[n] == ':';
}

// data: the operation's input; made: its result, or what multiplies it.
static point_form form_of(const bench_spec *s, const float *data, const float *w, const float *made, bool *transposed) {
  const int64_t *at = s->at;
  *transposed = is_op(s, "conv_transpose2d");
  if (is_op(s, "linear")) return (point_form){{at[KEY_N], 1, 1, 1, 1, at[KEY_C], at[KEY_K], 1, 1, 1}, 1, 1, 0, data, w, made};
  int64_t g = at[KEY_GROUPS], span_h = at[KEY_DILATION] * (at[KEY_R] - 1) + 1, span_w = at[KEY_DILATION] * (at[KEY_S] - 1) + 1;
  conv_sizes z = {.B = at[KEY_N], .kh = at[KEY_R], .kw = at[KEY_S], .groups = g};
  if (*transposed) {
    z.OH = at[KEY_H], z.OW = at[KEY_W], z.O = at[KEY_C] / g, z.I = at[KEY_K] / g;
    z.H = (z.OH - 1) * at[KEY_STRIDE] - 2 * at[KEY_PAD] + span_h, z.W = (z.OW - 1) * at[KEY_STRIDE] - 2 * at[KEY_PAD] + span_w;
  } else {
    z.H = at[KEY_H], z.W = at[KEY_W], z.I = at[KEY_C] / g, z.O = at[KEY_K] / g;
    z.OH = (z.H + 2 * at[KEY_PAD] - span_h) / at[KEY_STRIDE] + 1, z.OW = (z.W + 2 * at[KEY_PAD] - span_w) / at[KEY_STRIDE] + 1;
  }
  return (point_form){z, at[KEY_STRIDE], at[KEY_DILATION], at[KEY_PAD], *transposed ? made : data, w, *transposed ? data : made};
}

bool bench_can_point(const bench_spec *s, const char *wrt, int64_t *terms) {
  bool transposed;
  if (!is_op(s, "conv2d") && !is_op(s, "conv_transpose2d") && !is_op(s, "linear")) return false;
  if (wrt && s->at[KEY_SILU]) return false; // through the activation's slope
  conv_sizes z = form_of(s, NULL, NULL, NULL, &transposed).z;
  bool sums_positions = wrt && (!strcmp(wrt, "w") || !strcmp(wrt, "b")), sums_i = transposed == (wrt && !strcmp(wrt, "x"));
  *terms = sums_positions ? z.B * z.OH * z.OW : z.kh * z.kw * (sums_i ? z.I : z.O);
  if (wrt && !strcmp(wrt, "b") && transposed) *terms = z.B * z.H * z.W;
  return true;
}

double bench_point(const bench_spec *s, const bench_values *v, const char *wrt, int64_t index) {
  bool transposed;
  point_form f = form_of(s, v->x, v->w, v->direction, &transposed);
  int64_t made = transposed ? f.z.I * f.z.groups : f.z.O * f.z.groups, places = f.z.B * (transposed ? f.z.H * f.z.W : f.z.OH * f.z.OW);
  if (!wrt) {
    double y = transposed ? point_x(&f, index) : point_y(&f, index);
    if (v->b) y += (double)v->b[index % made];
    if (v->residual) y += (double)v->residual[index];
    return s->at[KEY_SILU] ? y / (1 + exp(-y)) : y;
  }
  if (!strcmp(wrt, "x")) return transposed ? point_y(&f, index) : point_x(&f, index);
  if (!strcmp(wrt, "w")) return point_w(&f, index);
  if (!strcmp(wrt, "residual")) return (double)v->direction[index];
  double sum = 0; // the bias
  for (int64_t i = 0; i < places; i++) sum += (double)v->direction[i * made + index];
  return sum;
}
