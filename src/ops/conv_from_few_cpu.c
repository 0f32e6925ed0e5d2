// Convolutions from one to four channels, as the first layer of an encoder or a denoiser is, and the gradient by the input of the last
// layer of a decoder. Lanes are result channels: the sums of some pixels by some vectors stay in registers over all taps.
#include "ops/conv_from_few.h"

enum { PIXELS = 6, VECTORS = VW == 16 ? 4 : 2 }; // at once: with the weights of a tap they fill the registers

typedef struct state {
  conv_problem problem;
  from_few f;
} state;

typedef struct region {
  const state *s;
  const float *map, *bias, *residual, *weights; // weights: [tap][lanes], zeros past K
  float *y, *pre, *scratch;
} region;

// The lines that a row of the result reads, from the first row of the kernel down.
typedef const float *const *line_set;

// R pixels of the result from y[at] on, K apart, V vectors of each from channel k on; pixel 0 reads the lines from float `from` on.
static inline __attribute__((always_inline)) void make(const int R, const int V, const bool plain, const region *g, line_set lines,
                                                       int64_t from, int64_t at, int64_t k) {
  const from_few *f = &g->s->f;
  const contraction_epilogue *e = &g->s->problem.epilogue;
  const int64_t step = f->stride[1] * f->C, width = f->kw * f->C, apart = f->lanes, K = f->K;
  const float *w = g->weights + k;
  vfloat acc[PIXELS][VECTORS];
#pragma GCC unroll 4
  for (int v = 0; v < V; v++) {
    const vfloat bias = g->bias ? vload_upto(g->bias + k + v * VW, K - k - v * VW) : (vfloat){0};
#pragma GCC unroll 6
    for (int r = 0; r < R; r++) acc[r][v] = plain ? bias : (vfloat){0};
  }
  for (int64_t p = 0; p < f->kh; p++) {
    const float *line = lines[p] + from;
    for (int64_t j = 0; j < width; j++, w += apart) {
      vfloat wv[VECTORS];
#pragma GCC unroll 4
      for (int v = 0; v < V; v++) wv[v] = vload(w + v * VW);
#pragma GCC unroll 6
      for (int r = 0; r < R; r++) {
        const vfloat x = vsplat(line[r * step + j]);
#pragma GCC unroll 4
        for (int v = 0; v < V; v++) acc[r][v] += x * wv[v];
      }
    }
  }
#pragma GCC unroll 4
  for (int v = 0; v < V; v++) {
    const int64_t c = k + v * VW, lanes = K - c;
    const vfloat bias = !plain && g->bias ? vload_upto(g->bias + c, lanes) : (vfloat){0};
#pragma GCC unroll 6
    for (int r = 0; r < R; r++) {
      const int64_t i = at + r * K + c;
      if (plain) {
        vstore_upto(g->y + i, acc[r][v], lanes);
        continue;
      }
      vfloat value = (float)e->alpha * acc[r][v] + bias;
      if (g->residual) value += vload_upto(g->residual + i, lanes);
      if (g->pre) vstore_upto(g->pre + i, value, lanes);
      vstore_upto(g->y + i, activate(value, e->activation, (float)e->slope), lanes);
    }
  }
}

typedef void (*make_fn)(const region *g, line_set lines, int64_t from, int64_t at, int64_t k);
#define MAKE(R, V)                                                                                    \
  static void make_##R##_##V(const region *g, line_set lines, int64_t from, int64_t at, int64_t k) {  \
    make(R, V, false, g, lines, from, at, k);                                                         \
  }                                                                                                   \
  static void plain_##R##_##V(const region *g, line_set lines, int64_t from, int64_t at, int64_t k) { \
    make(R, V, true, g, lines, from, at, k);                                                          \
  }
#define FOR_PIXELS(X, V) X(1, V) X(2, V) X(3, V) X(4, V) X(5, V) X(6, V)
#define ENTRY(R, V) {make_##R##_##V, plain_##R##_##V},
FOR_PIXELS(MAKE, 1)
FOR_PIXELS(MAKE, 2)
#if VW == 16
FOR_PIXELS(MAKE, 4)
static const make_fn makes[3][PIXELS][2] = {{FOR_PIXELS(ENTRY, 1)}, {FOR_PIXELS(ENTRY, 2)}, {FOR_PIXELS(ENTRY, 4)}};
#else
static const make_fn makes[2][PIXELS][2] = {{FOR_PIXELS(ENTRY, 1)}, {FOR_PIXELS(ENTRY, 2)}};
#endif

static int64_t weight_floats(const from_few *f) { return round_up(f->taps * f->lanes, 16); }
static int64_t line_floats(const from_few *f) { return round_up(f->kh * f->line, 16); }

static void make_row(const region *g, line_set lines, int64_t l) {
  const from_few *f = &g->s->f;
  const contraction_epilogue *e = &g->s->problem.epilogue;
  const bool plain = e->alpha == 1 && e->activation == CONTRACTION_LINEAR && !g->residual && !g->pre;
  const int64_t blocks = (f->Q + PIXELS - 1) / PIXELS, least = f->Q / blocks, longer = f->Q - least * blocks; // blocks as even as can be
  for (int64_t k = 0; k < f->lanes;) {
    const int64_t left = (f->lanes - k) / VW;
    const int which = left >= VECTORS ? (VW == 16 ? 2 : 1) : left >= 2 ? 1 : 0;
    for (int64_t i = 0, v = 0, n; i < blocks; i++, v += n) {
      n = least + (i < longer);
      makes[which][n - 1][plain](g, lines, v * f->stride[1] * f->C, (l * f->Q + v) * f->K, k);
    }
    k += (1 << which) * VW;
  }
}

// A line is kept as long as a row of the result still reads it.
static void make_rows(void *arg, int id, int count) {
  const region *g = arg;
  const from_few *f = &g->s->f;
  float *mine = g->scratch + id * line_floats(f);
  const float *lines[FROM_FEW_TAPS];
  int64_t l0, l1, image = -1, made = 0; // of the image, lines up to this row of the map
  split_range(f->B * f->P, id, count, &l0, &l1);
  for (int64_t l = l0; l < l1; l++) {
    const int64_t b = l / f->P, first = l % f->P * f->stride[0], last = first + f->kh; // counted from the origin
    if (b != image || made < first) image = b, made = first;
    for (; made < last; made++) from_few_line(f, g->map, b, made + f->origin[0], mine + made % f->kh * f->line);
    for (int64_t p = 0; p < f->kh; p++) lines[p] = mine + (first + p) % f->kh * f->line;
    make_row(g, lines, l);
  }
}

// Weights as (tap, lane): tap (p, q, c) of a forward convolution's O,I,kh,kw, or turned around of a transposed one's.
static void pack(const state *s, const float *w, float *to) {
  const from_few *f = &s->f;
  const bool t = s->problem.direction == CONV_TRANSPOSED;
  const int64_t area = f->kh * f->kw;
  memset(to, 0, (size_t)weight_floats(f) * sizeof *to);
  for (int64_t k = 0; k < f->K; k++)
    for (int64_t c = 0; c < f->C; c++)
      for (int64_t pq = 0; pq < area; pq++)
        to[(pq * f->C + c) * f->lanes + k] = t ? w[(c * f->K + k) * area + area - 1 - pq] : w[(k * f->C + c) * area + pq];
}

static elbo_status run(const kernel *k, const kernel_args *a) {
  const state *s = k->state;
  const conv_problem *p = &s->problem;
  float *weights = a->scratch;
  pack(s, a->in[p->w], weights);
  region g = {.s = s,
              .map = a->in[p->direction == CONV_TRANSPOSED ? p->y : p->x],
              .bias = p->bias >= 0 ? a->in[p->bias] : NULL,
              .residual = p->residual >= 0 ? a->in[p->residual] : NULL,
              .weights = weights,
              .y = a->out[0],
              .pre = p->epilogue.keep_pre ? a->out[1] : NULL,
              .scratch = weights + weight_floats(&s->f)};
  parallel_run(a->pool, make_rows, &g);
  return ELBO_OK;
}

static bool supports(const conv_problem *p) { return p->direction != CONV_WEIGHT_GRAD && from_few_supports(p); }

// Beside a direct sum at nearly the limit of the hardware (oneDNN's), measured on Zen 4: as fast as that forward, slower by a fifth
// backward, where it has a kernel of its own.
static double cost(const conv_problem *p) {
  const from_few f = from_few_of(p);
  const double vectors = (double)(f.lanes / VW), factor = p->direction == CONV_TRANSPOSED ? 1.05 : VW == 16 ? 0.95 : 0.85;
  return factor * (double)(f.B * f.P * f.Q) * (double)f.taps * vectors + (double)(f.taps * f.lanes);
}

static elbo_status prepare(compile_env *env, const conv_problem *p, kernel *k) {
  state *s;
  TRY(kernel_state_new(env, k, sizeof *s, &s));
  s->problem = *p, s->f = from_few_of(p);
  k->scratch_bytes = (size_t)(weight_floats(&s->f) + p->threads * line_floats(&s->f)) * sizeof(float);
  k->run = run;
  k->name = "own:from_few." ISA_TEXT;
  return ELBO_OK;
}

const conv_kernel ISA(conv_from_few) = {"from_few", supports, cost, prepare, false};
