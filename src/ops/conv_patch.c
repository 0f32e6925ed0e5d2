// Geometry of patch sets, the same for every instruction set.
#include <string.h>

#include "ops/conv_patch.h"

conv_problem conv_problem_of(const compile_env *env, const node *n) {
  conv_problem p = {.x = -1,
                    .w = -1,
                    .y = -1,
                    .bias = -1,
                    .residual = -1,
                    .norm = -1,
                    .x2 = -1,
                    .weights_constant = env->weights_constant,
                    .weights_cached = env->weights_cached,
                    .making_shows = env->making_shows,
                    .keep_bytes = env->keep_bytes,
                    .no_winograd = env->no_winograd,
                    .bf16 = env->bf16,
                    .bf16_unit = env->bf16_unit,
                    .isa = env->isa,
                    .threads = pool_threads(env->pool),
                    .half_rate = env->ctx->half_rate,
                    .l2_bytes = env->ctx->l2_bytes};
  p.epilogue = CONTRACTION_EPILOGUE_NONE;
  bool transposed = n->op == &op_conv_transpose2d || n->op == &op_fused_conv_transpose2d;
  bool fused = n->op == &op_fused_conv2d || n->op == &op_fused_conv_transpose2d;
  if (n->op == &op_conv2d_weight_grad) {
    p.direction = CONV_WEIGHT_GRAD;
    p.attr = *(const conv2d_attr *)n->attr;
    p.x = 0, p.y = 1;
    p.size = conv_sizes_of(&p.attr, n->in[0], n->out[0], n->in[1]);
    return p;
  }
  int data = fused ? FUSED_X : 0;
  p.direction = transposed ? CONV_TRANSPOSED : CONV_FORWARD;
  p.w = fused ? FUSED_WEIGHT : 1;
  p.bias = fused ? FUSED_BIAS : 2;
  if (!n->in[p.bias]) p.bias = -1;
  if (fused) {
    const fused_contraction_attr *a = n->attr;
    p.attr = a->conv;
    p.epilogue = a->epilogue;
    if (n->in[FUSED_RESIDUAL]) p.residual = FUSED_RESIDUAL;
    if (n->in[FUSED_NORM]) p.norm = FUSED_NORM, p.prologue = a->prologue;
    if (n->in[FUSED_X2]) p.x2 = FUSED_X2;
  } else {
    p.attr = *(const conv2d_attr *)n->attr;
  }
  *(transposed ? &p.y : &p.x) = data;
  p.first = n->in[data]->shape.dim[3];
  p.size =
      transposed ? conv_sizes_of(&p.attr, n->out[0], n->in[p.w], n->in[data]) : conv_sizes_of(&p.attr, n->in[data], n->in[p.w], n->out[0]);
  return p;
}

int64_t conv_patch_set_count(const conv_problem *p, bool transposed) {
  if (!transposed) return 1;
  int64_t h = p->attr.stride[0] < p->size.H ? p->attr.stride[0] : p->size.H,
          w = p->attr.stride[1] < p->size.W ? p->attr.stride[1] : p->size.W;
  return h * w;
}

int64_t patch_store_size(const conv_problem *p, bool transposed) {
  int64_t run = sizeof(conv_run) / sizeof(int64_t);
  return conv_patch_set_count(p, transposed) * (2 * p->size.kh + (2 + run) * p->size.kw + p->size.kh * p->size.kw);
}

// Taps q with (position + pad - q dilation) divisible by the stride, in order of rising shift; shift[i] = that quotient for position's own
// first place in its grid.
static int taps_of(int64_t position, int64_t pad, int64_t dilation, int64_t stride, int64_t taps, int64_t *shift, int64_t *which) {
  int n = 0;
  for (int64_t q = taps - 1; q >= 0; q--) {
    int64_t at = position + pad - q * dilation;
    if ((at % stride + stride) % stride) continue;
    shift[n] = at >= 0 ? at / stride : -(-at / stride);
    which[n++] = q;
  }
  return n;
}

static void finish_set(conv_patches *s, const int64_t *shift_x, const int64_t *column, const int64_t *row, int64_t kw) {
  for (int r = 0; r < s->tap_rows; r++)
    for (int c = 0; c < s->tap_columns; c++) s->tap[r * s->tap_columns + c] = row[r] * kw + column[c];
  s->n_runs = 0;
  for (int c = 0; c < s->tap_columns; c++) {
    conv_run *last = s->n_runs ? s->runs + s->n_runs - 1 : NULL;
    if (last && s->channels == s->C && shift_x[c] == last->shift + last->pixels)
      last->pixels++;
    else
      s->runs[s->n_runs++] = (conv_run){shift_x[c], 1, c};
  }
}

int conv_patch_sets(const conv_problem *p, bool transposed, int64_t group, conv_patches *sets, int64_t **store) {
  const conv_sizes *z = &p->size;
  const conv2d_attr *a = &p->attr;
  int64_t xc = z->groups * z->I, yc = z->groups * z->O, T = z->kh * z->kw;
  int count = 0;
  int64_t ny = transposed ? a->stride[0] : 1, nx = transposed ? a->stride[1] : 1;
  if (transposed && ny > z->H) ny = z->H;
  if (transposed && nx > z->W) nx = z->W;
  for (int64_t py = 0; py < ny; py++)
    for (int64_t px = 0; px < nx; px++) {
      conv_patches *s = sets + count++;
      memset(s, 0, sizeof *s);
      int64_t *at = *store;
      s->shift_y = at, at += z->kh;
      s->runs = (conv_run *)at, at += z->kw * (int64_t)(sizeof(conv_run) / sizeof(int64_t));
      s->tap = at, at += T;
      int64_t *row = at, *column = row + z->kh, *shift_x = column + z->kw;
      *store = shift_x + z->kw;
      s->weight0 = group * z->O * z->I * T;
      if (!transposed) {
        s->H = z->H, s->W = z->W, s->C = xc, s->channels = z->I, s->channel0 = group * z->I;
        s->grid_h = z->OH, s->grid_w = z->OW;
        s->step[0] = a->stride[0], s->step[1] = a->stride[1];
        s->tap_rows = (int)z->kh, s->tap_columns = (int)z->kw;
        for (int64_t q = 0; q < z->kh; q++) row[q] = q, s->shift_y[q] = q * a->dilation[0] - a->pad[0];
        for (int64_t q = 0; q < z->kw; q++) column[q] = q, shift_x[q] = q * a->dilation[1] - a->pad[1];
        s->weight_n = z->I * T, s->weight_c = T;
        s->P = z->OH, s->Q = z->OW, s->other_channels = yc, s->other_channel0 = group * z->O;
        s->place_step[0] = s->place_step[1] = 1;
      } else {
        s->H = z->OH, s->W = z->OW, s->C = yc, s->channels = z->O, s->channel0 = group * z->O;
        s->grid_h = (z->H - py + a->stride[0] - 1) / a->stride[0], s->grid_w = (z->W - px + a->stride[1] - 1) / a->stride[1];
        s->step[0] = s->step[1] = 1;
        s->tap_rows = taps_of(py, a->pad[0], a->dilation[0], a->stride[0], z->kh, s->shift_y, row);
        s->tap_columns = taps_of(px, a->pad[1], a->dilation[1], a->stride[1], z->kw, shift_x, column);
        s->weight_n = T, s->weight_c = z->I * T;
        s->P = z->H, s->Q = z->W, s->other_channels = xc, s->other_channel0 = group * z->I;
        s->place0[0] = py, s->place0[1] = px;
        s->place_step[0] = a->stride[0], s->place_step[1] = a->stride[1];
      }
      s->rows = z->B * s->grid_h * s->grid_w;
      finish_set(s, shift_x, column, row, z->kw);
    }
  return count;
}
