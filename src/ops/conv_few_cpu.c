// Convolutions of stride 1 to one to four channels, as the last layer of a decoder or a denoiser is. The lanes are pixels of a row: for
// each input row the products of every tap, sums over channels, are made once, in registers; an output row is the sum of those of kh input
// rows, moved by their taps. So every pixel is read once, not once for each tap, and no lane is added to another.
#include <stdlib.h>

#include "core/memory.h"
#include "ops/conv_few.h"

enum { TAPS_AT_ONCE = 9, TAPS_MOST = 49 };

typedef struct state {
  conv_problem problem;
  int64_t taps, line; // floats of a tap's products of one row, zeros around them
} state;

static void destroy(kernel *k) {
  free(k->state);
  k->state = NULL;
}

typedef struct region {
  const state *s;
  const float *x, *bias, *residual, *weights; // weights: [n][chunk of taps][c][tap of the chunk]
  float *y, *pre, *scratch;
} region;

typedef struct work {
  float *lanes;    // [c][VW]: a block of pixels, transposed
  float *pixels;   // [VW][c]: the last of a row, zeros behind
  float *products; // [row modulo kh][n][tap][line]
  int64_t image;   // whose rows the products are of
  int64_t made;    // rows up to this one
} work;

// out[t * line] = sum over c of lanes[c] w[c * T + t]. From `pixels`, one after the other, where `lanes` is NULL: to turn them around while
// multiplying hides it.
static inline __attribute__((always_inline)) void sum_channels(const int T, int64_t C, const float *pixels, const float *lanes,
                                                               const float *w, float *out, int64_t line) {
  vfloat acc[TAPS_AT_ONCE];
#pragma GCC unroll 9
  for (int t = 0; t < T; t++) acc[t] = (vfloat){0};
  int64_t c = 0;
  for (; !lanes && c + 4 <= C; c += 4) {
    vfloat v[4];
    load_transposed4(pixels + c, C, v);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
#pragma GCC unroll 9
      for (int t = 0; t < T; t++) acc[t] += v[i] * vsplat(w[(c + i) * T + t]);
  }
  for (; c < C; c++) {
    vfloat v;
    if (lanes)
      v = vload(lanes + c * VW);
    else
      for (int l = 0; l < VW; l++) v[l] = pixels[l * C + c];
#pragma GCC unroll 9
    for (int t = 0; t < T; t++) acc[t] += v * vsplat(w[c * T + t]);
  }
#pragma GCC unroll 9
  for (int t = 0; t < T; t++) vstore(out + t * line, acc[t]);
}

static void sum_taps(int64_t T, int64_t C, const float *pixels, const float *lanes, const float *w, float *out, int64_t line) {
  switch (T) {
  case 1: sum_channels(1, C, pixels, lanes, w, out, line); break;
  case 2: sum_channels(2, C, pixels, lanes, w, out, line); break;
  case 3: sum_channels(3, C, pixels, lanes, w, out, line); break;
  case 4: sum_channels(4, C, pixels, lanes, w, out, line); break;
  case 5: sum_channels(5, C, pixels, lanes, w, out, line); break;
  case 6: sum_channels(6, C, pixels, lanes, w, out, line); break;
  case 7: sum_channels(7, C, pixels, lanes, w, out, line); break;
  case 8: sum_channels(8, C, pixels, lanes, w, out, line); break;
  default: sum_channels(9, C, pixels, lanes, w, out, line);
  }
}

static void transpose_block(const float *pixels, int64_t C, float *lanes) {
  int64_t c = 0;
  for (; c + 4 <= C; c += 4) {
    vfloat v[4];
    load_transposed4(pixels + c, C, v);
    for (int i = 0; i < 4; i++) vstore(lanes + (c + i) * VW, v[i]);
  }
  for (; c < C; c++)
    for (int l = 0; l < VW; l++) lanes[c * VW + l] = pixels[l * C + c];
}

// Products of row `at` of image b.
static void make_row(const region *g, work *k, int64_t b, int64_t at) {
  const conv_sizes *z = &g->s->problem.size;
  const int64_t C = z->I, taps = g->s->taps, line = g->s->line;
  const float *row = g->x + (b * z->H + at) * z->W * C;
  float *to = k->products + at % z->kh * z->O * taps * line + g->s->problem.attr.pad[1];
  for (int64_t v = 0; v < z->W; v += VW) {
    const int64_t n = z->W - v < VW ? z->W - v : VW;
    const float *pixels = row + v * C;
    if (n < VW) {
      copy_floats(k->pixels, pixels, n * C);
      clear_floats(k->pixels + n * C, (VW - n) * C);
      pixels = k->pixels;
    }
    const bool once = z->O == 1 && taps <= TAPS_AT_ONCE;
    if (!once) transpose_block(pixels, C, k->lanes);
    const float *w = g->weights;
    for (int64_t o = 0; o < z->O; o++)
      for (int64_t t = 0; t < taps; t += TAPS_AT_ONCE) {
        const int64_t T = taps - t < TAPS_AT_ONCE ? taps - t : TAPS_AT_ONCE;
        sum_taps(T, C, pixels, once ? NULL : k->lanes, w, to + (o * taps + t) * line + v, line);
        w += C * T;
      }
  }
}

static void write_block(const region *g, int64_t at, int64_t count, const vfloat *sums) {
  const contraction_epilogue *e = &g->s->problem.epilogue;
  const int64_t O = g->s->problem.size.O, n = count * O;
  float value[FEW * VW], lane[FEW][VW];
  if (O == 1) {
    vstore(value, sums[0]);
  } else {
    for (int64_t o = 0; o < O; o++) vstore(lane[o], sums[o]);
    for (int64_t l = 0; l < VW; l++)
      for (int64_t o = 0; o < O; o++) value[l * O + o] = lane[o][l];
  }
  for (int64_t i = 0; i < n; i += VW) {
    vfloat v = vload(value + i) * vsplat((float)e->alpha);
    if (g->bias) {
      float bias[VW];
      for (int l = 0; l < VW; l++) bias[l] = g->bias[(i + l) % O];
      v += vload(bias);
    }
    if (g->residual) v += vload_upto(g->residual + at * O + i, n - i);
    if (g->pre) vstore_upto(g->pre + at * O + i, v, n - i);
    vstore_upto(g->y + at * O + i, activate(v, e->activation, (float)e->slope), n - i);
  }
}

static void make_line(const region *g, work *k, int64_t b, int64_t u) {
  const conv_sizes *z = &g->s->problem.size;
  const int64_t taps = g->s->taps, line = g->s->line, first = u - g->s->problem.attr.pad[0];
  int64_t from = first < 0 ? 0 : first, to = first + z->kh < z->H ? first + z->kh : z->H; // rows of x that there are
  if (k->image != b) k->image = b, k->made = -1;
  for (int64_t at = k->made + 1 > from ? k->made + 1 : from; at < to; at++) make_row(g, k, b, at), k->made = at;
  for (int64_t v = 0; v < z->OW; v += VW) {
    vfloat sums[FEW];
    for (int64_t o = 0; o < z->O; o++) {
      vfloat sum = {0};
      for (int64_t at = from; at < to; at++) {
        const float *p = k->products + (at % z->kh * z->O + o) * taps * line + (at - first) * z->kw * line + v;
        for (int64_t t = 0; t < z->kw; t++) sum += vload(p + t * line + t);
      }
      sums[o] = sum;
    }
    write_block(g, (b * z->OH + u) * z->OW + v, z->OW - v < VW ? z->OW - v : VW, sums);
  }
}

static int64_t thread_floats(const state *s) {
  const conv_sizes *z = &s->problem.size;
  return round_up(2 * VW * z->I, VW) + z->kh * z->O * s->taps * s->line;
}

static void few_thread(void *arg, int id, int count) {
  const region *g = arg;
  const conv_sizes *z = &g->s->problem.size;
  float *mine = g->scratch + id * thread_floats(g->s);
  work k = {.lanes = mine, .pixels = mine + VW * z->I, .products = mine + round_up(2 * VW * z->I, VW), .image = -1};
  int64_t l0, l1;
  clear_floats(k.products, z->kh * z->O * g->s->taps * g->s->line); // what lies around the rows stays so
  split_range(z->B * z->OH, id, count, &l0, &l1);
  for (int64_t l = l0; l < l1; l++) make_line(g, &k, l / z->OH, l % z->OH);
}

static void pack(const state *s, const float *w, float *dst) {
  const conv_sizes *z = &s->problem.size;
  for (int64_t o = 0; o < z->O; o++)
    for (int64_t t = 0; t < s->taps; t += TAPS_AT_ONCE)
      for (int64_t c = 0; c < z->I; c++)
        for (int64_t i = t; i < s->taps && i < t + TAPS_AT_ONCE; i++) *dst++ = w[(o * z->I + c) * s->taps + i];
}

static elbo_status run(const kernel *k, const kernel_args *a) {
  const state *s = k->state;
  const conv_problem *p = &s->problem;
  float *weights = a->scratch;
  pack(s, a->in[p->w], weights);
  region g = {.s = s,
              .x = a->in[p->x],
              .bias = p->bias >= 0 ? a->in[p->bias] : NULL,
              .residual = p->residual >= 0 ? a->in[p->residual] : NULL,
              .weights = weights,
              .y = a->out[0],
              .pre = p->epilogue.keep_pre ? a->out[1] : NULL,
              .scratch = weights + round_up(p->size.O * p->size.I * s->taps, VW)};
  parallel_run(a->pool, few_thread, &g);
  return ELBO_OK;
}

static bool supports(const conv_problem *p) {
  return p->direction == CONV_FORWARD && few_supports(p) && p->size.kh * p->size.kw <= TAPS_MOST;
}

static double cost(const conv_problem *p) {
  const conv_sizes *z = &p->size;
  const double taps = (double)(z->kh * z->kw * z->O), blocks = (double)((z->W + VW - 1) / VW);
  return (double)(z->B * z->H) * blocks * ((double)z->I * (taps + 3) + 2 * taps + 20);
}

static elbo_status prepare(compile_env *env, const conv_problem *p, kernel *k) {
  k->destroy = destroy;
  TRY(array_new(env->ctx, 1, sizeof(state), "kernel state", &k->state));
  state *s = k->state;
  s->problem = *p;
  s->taps = p->size.kh * p->size.kw;
  // a block of products begins at the padding, a block of the result reads kw - 1 further
  const int64_t widest = p->size.W > p->size.OW ? p->size.W : p->size.OW;
  s->line = round_up(round_up(widest, VW) + p->attr.pad[1] + p->size.kw, VW);
  k->scratch_bytes = (size_t)(round_up(p->size.O * p->size.I * s->taps, VW) + pool_threads(env->pool) * thread_floats(s)) * sizeof(float);
  k->run = run;
  k->name = "own:few." ISA_TEXT;
  return ELBO_OK;
}

const conv_kernel ISA(conv_few) = {"few", supports, cost, prepare, false};
