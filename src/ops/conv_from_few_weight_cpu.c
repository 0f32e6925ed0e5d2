// The weight gradient of convolutions from one to four channels: the sums of some taps by some vectors of result channels stay in registers
// over the pixels of some rows, which lie in the first cache while all taps are gone through.
#include "ops/conv_from_few.h"

enum { TAPS = 6, VECTORS = VW == 16 ? 4 : 2, ROW_FLOATS = 4096, MOST_ROWS = 8 };

typedef struct state {
  conv_problem problem;
  from_few f;
  int64_t rows; // of the result at once
} state;

typedef struct region {
  const state *s;
  const float *map, *y;
  float *out, *scratch;
} region;

// sums[t * lanes + v * VW] += sum over rows and pixels of a line's float at[t] by y's vectors; the last vector has `last` channels
static inline __attribute__((always_inline)) void add(const int T, const int V, const from_few *f, int64_t rows, const float *lines,
                                                      const int64_t *at, const float *y, int64_t last, float *sums) {
  const int64_t step = f->stride[1] * f->C;
  vfloat acc[TAPS][VECTORS];
#pragma GCC unroll 6
  for (int t = 0; t < T; t++)
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) acc[t][v] = vload(sums + t * f->lanes + v * VW);
  for (int64_t u = 0; u < rows; u++, lines += f->stride[0] * f->line) {
    const float *x[TAPS];
#pragma GCC unroll 6
    for (int t = 0; t < T; t++) x[t] = lines + at[t];
    for (int64_t q = 0; q < f->Q; q++, y += f->K) {
      vfloat yv[VECTORS];
#pragma GCC unroll 4
      for (int v = 0; v < V; v++) yv[v] = v + 1 < V || last >= VW ? vload(y + v * VW) : vload_upto(y + v * VW, last);
#pragma GCC unroll 6
      for (int t = 0; t < T; t++) {
        const vfloat value = vsplat(x[t][q * step]);
#pragma GCC unroll 4
        for (int v = 0; v < V; v++) acc[t][v] += value * yv[v];
      }
    }
  }
#pragma GCC unroll 6
  for (int t = 0; t < T; t++)
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) vstore(sums + t * f->lanes + v * VW, acc[t][v]);
}

typedef void (*add_fn)(const from_few *f, int64_t rows, const float *lines, const int64_t *at, const float *y, int64_t last, float *sums);
#define ADD(T, V)                                                                                                                 \
  static void add_##T##_##V(const from_few *f, int64_t rows, const float *lines, const int64_t *at, const float *y, int64_t last, \
                            float *sums) {                                                                                        \
    add(T, V, f, rows, lines, at, y, last, sums);                                                                                 \
  }
#define FOR_TAPS(X, V) X(1, V) X(2, V) X(3, V) X(4, V) X(5, V) X(6, V)
#define ENTRY(T, V) add_##T##_##V,
FOR_TAPS(ADD, 1)
FOR_TAPS(ADD, 2)
#if VW == 16
FOR_TAPS(ADD, 4)
static const add_fn adds[3][TAPS] = {{FOR_TAPS(ENTRY, 1)}, {FOR_TAPS(ENTRY, 2)}, {FOR_TAPS(ENTRY, 4)}};
#else
static const add_fn adds[2][TAPS] = {{FOR_TAPS(ENTRY, 1)}, {FOR_TAPS(ENTRY, 2)}};
#endif

static int64_t sum_floats(const from_few *f) { return round_up(f->taps * f->lanes, 16); }
static int64_t thread_floats(const state *s) {
  return sum_floats(&s->f) + round_up(((s->rows - 1) * s->f.stride[0] + s->f.kh) * s->f.line, 16);
}

// `rows` rows of the result from row l of the batch on, of one image
static void add_block(const region *g, int64_t l, int64_t rows, float *lines, float *sums) {
  const from_few *f = &g->s->f;
  const int64_t width = f->kw * f->C;
  const int64_t first = l % f->P * f->stride[0] + f->origin[0], count = (rows - 1) * f->stride[0] + f->kh;
  for (int64_t i = 0; i < count; i++) from_few_line(f, g->map, l / f->P, first + i, lines + i * f->line);
  for (int64_t t0 = 0; t0 < f->taps; t0 += TAPS) {
    const int64_t T = f->taps - t0 < TAPS ? f->taps - t0 : TAPS;
    int64_t at[TAPS];
    for (int64_t t = 0; t < T; t++) at[t] = (t0 + t) / width * f->line + (t0 + t) % width;
    for (int64_t k = 0; k < f->lanes;) {
      const int64_t left = (f->lanes - k) / VW;
      const int which = left >= VECTORS ? (VW == 16 ? 2 : 1) : left >= 2 ? 1 : 0, vectors = 1 << which;
      adds[which][T - 1](f, rows, lines, at, g->y + l * f->Q * f->K + k, f->K - k - (vectors - 1) * VW, sums + t0 * f->lanes + k);
      k += vectors * VW;
    }
  }
}

static void add_thread(void *arg, int id, int count) {
  const region *g = arg;
  const state *s = g->s;
  float *sums = g->scratch + id * thread_floats(s), *lines = sums + sum_floats(&s->f);
  int64_t l0, l1;
  memset(sums, 0, (size_t)sum_floats(&s->f) * sizeof *sums);
  split_range(s->f.B * s->f.P, id, count, &l0, &l1);
  for (int64_t l = l0, n; l < l1; l += n) {
    n = s->f.P - l % s->f.P < l1 - l ? s->f.P - l % s->f.P : l1 - l;
    if (n > s->rows) n = s->rows;
    add_block(g, l, n, lines, sums);
  }
}

static elbo_status run(const kernel *k, const kernel_args *a) {
  const state *s = k->state;
  const from_few *f = &s->f;
  const int64_t area = f->kh * f->kw;
  region g = {.s = s, .map = a->in[s->problem.x], .y = a->in[s->problem.y], .out = a->out[0], .scratch = a->scratch};
  parallel_run(a->pool, add_thread, &g);
  for (int64_t o = 0; o < f->K; o++)
    for (int64_t c = 0; c < f->C; c++)
      for (int64_t t = 0; t < area; t++) {
        float sum = 0;
        for (int id = 0; id < pool_threads(a->pool); id++) sum += g.scratch[id * thread_floats(s) + (t * f->C + c) * f->lanes + o];
        g.out[(o * f->C + c) * area + t] = sum;
      }
  return ELBO_OK;
}

static bool supports(const conv_problem *p) { return p->direction == CONV_WEIGHT_GRAD && from_few_supports(p); }

static double cost(const conv_problem *p) {
  const from_few f = from_few_of(p);
  return 1.1 * (double)(f.B * f.P * f.Q) * (double)f.taps * (double)(f.lanes / VW) + (double)(p->threads * f.taps * f.lanes);
}

static elbo_status prepare(compile_env *env, const conv_problem *p, kernel *k) {
  state *s;
  TRY(kernel_state_new(env, k, sizeof *s, &s));
  s->problem = *p, s->f = from_few_of(p);
  s->rows = ROW_FLOATS / (s->f.Q * s->f.K);
  s->rows = s->rows < 1 ? 1 : s->rows > MOST_ROWS ? MOST_ROWS : s->rows;
  k->scratch_bytes = (size_t)(p->threads * thread_floats(s)) * sizeof(float);
  k->run = run;
  k->name = "own:from_few_weight." ISA_TEXT;
  return ELBO_OK;
}

const conv_kernel ISA(conv_from_few_weight) = {"from_few_weight", supports, cost, prepare, false};
