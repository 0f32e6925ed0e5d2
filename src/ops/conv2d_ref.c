#include "ops/conv2d.h"

#include <string.h>

#include "ops/linear.h"
#include "ops/norm.h"

conv_sizes conv_sizes_of(const conv2d_attr *a, const elbo_tensor *x, const elbo_tensor *w, const elbo_tensor *y) {
  const int64_t *dx = x->shape.dim, *dw = w->shape.dim, *dy = y->shape.dim;
  return (conv_sizes){.B = dx[0],
                      .H = dx[1],
                      .W = dx[2],
                      .OH = dy[1],
                      .OW = dy[2],
                      .I = dw[1],
                      .O = dw[0] / a->groups,
                      .kh = dw[2],
                      .kw = dw[3],
                      .groups = a->groups};
}

// Calls add(f, x index, w index, y index) for every term of the form.
typedef struct form {
  const double *x, *w, *y;
  double *out;
} form;
typedef void (*term_fn)(const form *f, int64_t x, int64_t w, int64_t y);

static inline __attribute__((always_inline)) void conv_terms(const conv2d_attr *a, const conv_sizes *s, term_fn add, const form *f) {
  int64_t xc = s->groups * s->I, yc = s->groups * s->O;
  for (int64_t b = 0; b < s->B; b++)
    for (int64_t u = 0; u < s->OH; u++)
      for (int64_t v = 0; v < s->OW; v++)
        for (int64_t p = 0; p < s->kh; p++)
          for (int64_t q = 0; q < s->kw; q++) {
            int64_t i_y = u * a->stride[0] + p * a->dilation[0] - a->pad[0], i_x = v * a->stride[1] + q * a->dilation[1] - a->pad[1];
            if (i_y < 0 || i_y >= s->H || i_x < 0 || i_x >= s->W) continue;
            for (int64_t c = 0; c < yc; c++) // c: output channel over all groups
              for (int64_t i = 0; i < s->I; i++)
                add(f, ((b * s->H + i_y) * s->W + i_x) * xc + c / s->O * s->I + i, ((c * s->I + i) * s->kh + p) * s->kw + q,
                    ((b * s->OH + u) * s->OW + v) * yc + c);
          }
}

static void into_y(const form *f, int64_t x, int64_t w, int64_t y) { f->out[y] += f->x[x] * f->w[w]; }
static void into_x(const form *f, int64_t x, int64_t w, int64_t y) { f->out[x] += f->y[y] * f->w[w]; }
static void into_w(const form *f, int64_t x, int64_t w, int64_t y) { f->out[w] += f->y[y] * f->x[x]; }

static void fill(const elbo_tensor *t, const double *bias, double *out) {
  int64_t count = shape_count(&t->shape), C = t->shape.dim[3];
  for (int64_t i = 0; i < count; i++) out[i] = bias ? bias[i % C] : 0;
}

elbo_status conv2d_ref(elbo_ctx *ctx, const node *n, const void *const *in, void *const *out) {
  (void)ctx;
  conv_sizes s = conv_sizes_of(n->attr, n->in[0], n->in[1], n->out[0]);
  form f = {.x = in[0], .w = in[1], .out = out[0]};
  fill(n->out[0], in[2], out[0]);
  conv_terms(n->attr, &s, into_y, &f);
  return ELBO_OK;
}

elbo_status conv_transpose2d_ref(elbo_ctx *ctx, const node *n, const void *const *in, void *const *out) {
  (void)ctx;
  conv_sizes s = conv_sizes_of(n->attr, n->out[0], n->in[1], n->in[0]);
  form f = {.y = in[0], .w = in[1], .out = out[0]};
  fill(n->out[0], in[2], out[0]);
  conv_terms(n->attr, &s, into_x, &f);
  return ELBO_OK;
}

elbo_status conv2d_weight_grad_ref(elbo_ctx *ctx, const node *n, const void *const *in, void *const *out) {
  (void)ctx;
  conv_sizes s = conv_sizes_of(n->attr, n->in[0], n->out[0], n->in[1]);
  form f = {.x = in[0], .y = in[1], .out = out[0]};
  fill(n->out[0], NULL, out[0]);
  conv_terms(n->attr, &s, into_w, &f);
  return ELBO_OK;
}

// What a convolution with a norm reads: (B,H,W,C), freed by the caller.
static elbo_status normalised_ref(elbo_ctx *ctx, const node *n, const conv_sizes *s, const void *const *in, double **out) {
  const contraction_prologue *p = &((const fused_contraction_attr *)n->attr)->prologue;
  int64_t first = n->in[FUSED_X]->shape.dim[3], C = s->I * s->groups, count = s->B * s->H * s->W * C;
  const double *x = in[FUSED_X], *x2 = in[FUSED_X2], *channels = in[FUSED_NORM];
  TRY(array_new(ctx, (size_t)count, sizeof **out, "a reference", (void **)out));
  for (int64_t i = 0; i < count; i++) {
    int64_t row = i / C, c = i % C;
    const double *of_image = channels + row / (s->H * s->W) * 3 * C + c;
    double v = c < first ? x[row * first + c] : x2[row * (C - first) + c - first];
    (*out)[i] = norm_act_value(p->act, p->slope, (v - of_image[0]) * of_image[C] + of_image[2 * C]);
  }
  return ELBO_OK;
}

elbo_status fused_conv2d_ref(elbo_ctx *ctx, const node *n, const void *const *in, void *const *out) {
  const fused_contraction_attr *a = n->attr;
  conv_sizes s = conv_sizes_of(&a->conv, n->in[FUSED_X], n->in[FUSED_WEIGHT], n->out[0]);
  form f = {.x = in[FUSED_X], .w = in[FUSED_WEIGHT], .out = out[0]};
  double *normalised = NULL;
  if (n->in[FUSED_NORM]) {
    TRY(normalised_ref(ctx, n, &s, in, &normalised));
    f.x = normalised;
  }
  fill(n->out[0], NULL, out[0]);
  conv_terms(&a->conv, &s, into_y, &f);
  free(normalised);
  fused_epilogue_ref(n, in, out);
  return ELBO_OK;
}

elbo_status fused_conv_transpose2d_ref(elbo_ctx *ctx, const node *n, const void *const *in, void *const *out) {
  (void)ctx;
  const fused_contraction_attr *a = n->attr;
  conv_sizes s = conv_sizes_of(&a->conv, n->out[0], n->in[FUSED_WEIGHT], n->in[FUSED_X]);
  form f = {.y = in[FUSED_X], .w = in[FUSED_WEIGHT], .out = out[0]};
  fill(n->out[0], NULL, out[0]);
  conv_terms(&a->conv, &s, into_x, &f);
  fused_epilogue_ref(n, in, out);
  return ELBO_OK;
}
