// The weight gradient of convolutions of stride 1 to one to four channels: for a row of x and one of y a tap apart, the sums of three taps
// by four vectors of channels stay in registers over the pixels, each of which is read once for all three.
#include <stdlib.h>

#include "core/memory.h"
#include "ops/conv_few.h"

enum { COLUMNS = 3, VECTORS = 4 };

typedef struct state {
  conv_problem problem;
  int64_t lanes; // channels of x, rounded up to whole vectors
  int64_t sums;  // floats of a thread's sums: [n][tap][lanes]
  int64_t line;  // floats of a row of y, kw - 1 zeros on both sides
} state;

static void destroy(kernel *k) {
  free(k->state);
  k->state = NULL;
}

typedef struct region {
  const state *s;
  const float *x, *y;
  float *out, *scratch;
} region;

// sums[t * lanes + v * VW] += sum over i < W of y[i - t] x[i * C + v * VW]; the last vector has `last` channels.
static inline __attribute__((always_inline)) void add_row(const int T, const int V, int64_t W, const float *y, const float *x, int64_t C,
                                                          int64_t last, float *sums, int64_t lanes) {
  vfloat acc[COLUMNS][VECTORS];
#pragma GCC unroll 3
  for (int t = 0; t < T; t++)
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) acc[t][v] = vload(sums + t * lanes + v * VW);
  if (last == VW) {
    for (int64_t i = 0; i < W; i++) {
      vfloat value[VECTORS];
#pragma GCC unroll 4
      for (int v = 0; v < V; v++) value[v] = vload(x + i * C + v * VW);
#pragma GCC unroll 3
      for (int t = 0; t < T; t++) {
        const vfloat weight = vsplat(y[i - t]);
#pragma GCC unroll 4
        for (int v = 0; v < V; v++) acc[t][v] += value[v] * weight;
      }
    }
  } else { // one vector, V is 1
    for (int64_t i = 0; i < W; i++) {
      const vfloat value = vload_upto(x + i * C, last);
#pragma GCC unroll 3
      for (int t = 0; t < T; t++) acc[t][0] += value * vsplat(y[i - t]);
    }
  }
#pragma GCC unroll 3
  for (int t = 0; t < T; t++)
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) vstore(sums + t * lanes + v * VW, acc[t][v]);
}

#define ADD(T, V)                                                                                                             \
  static void add_##T##_##V(int64_t W, const float *y, const float *x, int64_t C, int64_t last, float *sums, int64_t lanes) { \
    add_row(T, V, W, y, x, C, last, sums, lanes);                                                                             \
  }
ADD(1, 1)
ADD(2, 1)
ADD(3, 1)
ADD(1, 4)
ADD(2, 4)
ADD(3, 4)
typedef void (*add_fn)(int64_t W, const float *y, const float *x, int64_t C, int64_t last, float *sums, int64_t lanes);
static const add_fn add[COLUMNS][2] = {{add_1_1, add_1_4}, {add_2_1, add_2_4}, {add_3_1, add_3_4}};

// One output row: y lies in `line`, zeros around it.
static void add_line(const region *g, int64_t b, int64_t u, const float *line, int64_t o, float *sums) {
  const state *s = g->s;
  const conv_sizes *z = &s->problem.size;
  for (int64_t q = 0; q < z->kh; q++) {
    const int64_t at = u + q - s->problem.attr.pad[0];
    if (at < 0 || at >= z->H) continue;
    const float *row = g->x + (b * z->H + at) * z->W * z->I;
    for (int64_t t = 0; t < z->kw; t += COLUMNS) {
      const int T = z->kw - t < COLUMNS ? (int)(z->kw - t) : COLUMNS;
      // pixel i of x meets y at i + pad - tap
      const float *y = line + z->kw - 1 + s->problem.attr.pad[1] - t;
      float *to = sums + ((o * z->kh + q) * z->kw + t) * s->lanes;
      for (int64_t c = 0; c < z->I;) {
        const bool wide = z->I - c >= VECTORS * VW;
        const int64_t left = z->I - c;
        add[T - 1][wide](z->W, y, row + c, z->I, left < VW ? left : VW, to + c, s->lanes);
        c += wide ? VECTORS * VW : VW;
      }
    }
  }
}

static int64_t thread_floats(const state *s) { return s->sums + s->line; }

static void add_thread(void *arg, int id, int count) {
  const region *g = arg;
  const state *s = g->s;
  const conv_sizes *z = &s->problem.size;
  float *sums = g->scratch + id * thread_floats(s), *line = sums + s->sums;
  int64_t l0, l1;
  clear_floats(sums, s->sums);
  clear_floats(line, s->line);
  split_range(z->B * z->OH, id, count, &l0, &l1);
  for (int64_t l = l0; l < l1; l++)
    for (int64_t o = 0; o < z->O; o++) {
      const float *from = g->y + l * z->OW * z->O + o;
      for (int64_t i = 0; i < z->OW; i++) line[z->kw - 1 + i] = from[i * z->O];
      add_line(g, l / z->OH, l % z->OH, line, o, sums);
    }
}

static elbo_status run(const kernel *k, const kernel_args *a) {
  const state *s = k->state;
  const conv_sizes *z = &s->problem.size;
  region g = {.s = s, .x = a->in[s->problem.x], .y = a->in[s->problem.y], .out = a->out[0], .scratch = a->scratch};
  const int threads = pool_threads(a->pool);
  parallel_run(a->pool, add_thread, &g);
  for (int64_t o = 0; o < z->O; o++)
    for (int64_t c = 0; c < z->I; c++)
      for (int64_t t = 0; t < z->kh * z->kw; t++) {
        float sum = 0;
        for (int id = 0; id < threads; id++) sum += g.scratch[id * thread_floats(s) + (o * z->kh * z->kw + t) * s->lanes + c];
        g.out[(o * z->I + c) * z->kh * z->kw + t] = sum;
      }
  return ELBO_OK;
}

static bool supports(const conv_problem *p) { return p->direction == CONV_WEIGHT_GRAD && !p->bf16 && few_supports(p); }

static double cost(const conv_problem *p) {
  const conv_sizes *z = &p->size;
  const double taps = (double)(z->kh * z->kw * z->O), vectors = (double)((z->I + VW - 1) / VW);
  return (double)(z->B * z->OH) * ((double)z->W * taps * (vectors + 0.2) + taps * 4);
}

static elbo_status prepare(compile_env *env, const conv_problem *p, kernel *k) {
  const conv_sizes *z = &p->size;
  k->destroy = destroy;
  TRY(array_new(env->ctx, 1, sizeof(state), "kernel state", &k->state));
  state *s = k->state;
  s->problem = *p;
  s->lanes = round_up(z->I, VW);
  s->sums = z->O * z->kh * z->kw * s->lanes;
  // read from kw - 1 + pad - (kw - 1) = pad on, up to W - 1 + kw - 1 + pad
  const int64_t right = z->W + z->kw - 1 + p->attr.pad[1], own = z->OW + 2 * (z->kw - 1);
  s->line = round_up(right > own ? right : own, VW);
  k->scratch_bytes = (size_t)(pool_threads(env->pool) * thread_floats(s)) * sizeof(float);
  k->run = run;
  k->name = "own:few_weight." ISA_TEXT;
  return ELBO_OK;
}

const conv_kernel ISA(conv_few_weight) = {"few_weight", supports, cost, prepare, false};
