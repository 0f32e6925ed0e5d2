// Convolutions with few output channels (forward), or few input channels (transposed): a product with so few columns would leave most lanes
// idle. Here the lanes run along the patch instead: taps that lie side by side in memory are read in place, whole runs at a time, and
// every output is a dot product. Patches that hang over the edge are copied with their zeros.
#include <stdlib.h>

#include "core/memory.h"
#include "ops/conv_patch.h"
#include "ops/gemm_cpu.h"

enum { DOT_MOST = 4, POINTER_BYTES = sizeof(float *), POINTER_FLOATS = POINTER_BYTES / 4 };

typedef struct state {
  conv_problem problem;
  int64_t n_sets, N;
  conv_patches *sets;
  int64_t *store;
  int64_t set_weights; // floats of the packed weights of one set, at most
  int64_t border;      // floats of the copies of one block of rows
  int64_t longest;     // run
} state;

static void destroy(kernel *k) {
  state *s = k->state;
  if (!s) return;
  free(s->sets);
  free(s->store);
  free(s);
  k->state = NULL;
}

static int64_t run_length(const conv_patches *s, const conv_run *r) { return r->pixels * s->channels; }
static int64_t padded(int64_t n) { return (n + VW - 1) / VW * VW; }

// [tap row][run][n][padded length], zeros behind
static void pack(const state *s, const conv_patches *set, const float *w, float *dst) {
  for (int r = 0; r < set->tap_rows; r++)
    for (int i = 0; i < set->n_runs; i++) {
      const conv_run *run = set->runs + i;
      int64_t length = padded(run_length(set, run));
      for (int64_t n = 0; n < s->N; n++, dst += length) {
        clear_floats(dst, length);
        for (int64_t p = 0; p < run->pixels; p++)
          for (int64_t c = 0; c < set->channels; c++)
            dst[p * set->channels + c] =
                w[set->weight0 + n * set->weight_n + c * set->weight_c + set->tap[r * set->tap_columns + run->first + p]];
      }
    }
}

// sums[r * N + n] of `rows` patches; from[(run) * rows + r] is where each run begins
static inline __attribute__((always_inline)) void dot_body(const int rows, const int N, const conv_patches *set, const float *const *from,
                                                           const float *w, float *sums) {
  vfloat acc[8][DOT_MOST];
#pragma GCC unroll 8
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
    for (int n = 0; n < N; n++) acc[r][n] = (vfloat){0};
  for (int i = 0; i < set->tap_rows * set->n_runs; i++, from += rows) {
    int64_t length = run_length(set, set->runs + i % set->n_runs), ld = padded(length), q = 0;
    for (; q + VW <= length; q += VW) {
      vfloat wv[DOT_MOST];
#pragma GCC unroll 4
      for (int n = 0; n < N; n++) wv[n] = vload(w + n * ld + q);
#pragma GCC unroll 8
      for (int r = 0; r < rows; r++) {
        vfloat x = vload(from[r] + q);
#pragma GCC unroll 4
        for (int n = 0; n < N; n++) acc[r][n] += x * wv[n];
      }
    }
    if (q < length) {
#pragma GCC unroll 8
      for (int r = 0; r < rows; r++) {
        vfloat x = vload_upto(from[r] + q, length - q);
#pragma GCC unroll 4
        for (int n = 0; n < N; n++) acc[r][n] += x * vload(w + n * ld + q);
      }
    }
    w += N * ld;
  }
#pragma GCC unroll 4
  for (int n = 0; n < N; n++)
#pragma GCC unroll 2
    for (int r = 0; r < rows; r += 4) { // four sums of lanes at a time
      vfloat four[4] = {acc[r][n], acc[r + 1][n], acc[r + 2][n], acc[r + 3][n]}, part[4];
      transpose4(four, part);
      vfloat v = (part[0] + part[1]) + (part[2] + part[3]);
      float lane[VW];
      vstore(lane, v);
      for (int j = 0; j < 4; j++) {
        float sum = lane[j];
        for (int g = 4; g < VW; g += 4) sum += lane[g + j];
        sums[(r + j) * N + n] = sum;
      }
    }
}

typedef void (*dot_fn)(const conv_patches *set, const float *const *from, const float *w, float *sums);
#define DOT(rows, N)                                                                                    \
  static void dot_##N(const conv_patches *set, const float *const *from, const float *w, float *sums) { \
    dot_body(rows, N, set, from, w, sums);                                                              \
  }
#if VW == 16
#define DOT_ROWS(N) ((N) == 4 ? 4 : 8)
DOT(8, 1)
DOT(8, 2)
DOT(8, 3)
DOT(4, 4)
#else
#define DOT_ROWS(N) ((N) == 1 ? 8 : 4)
DOT(8, 1)
DOT(4, 2)
DOT(4, 3)
DOT(4, 4)
#endif
static const dot_fn dots[DOT_MOST] = {dot_1, dot_2, dot_3, dot_4};

typedef struct region {
  const state *s;
  const float *x, *bias, *residual, *weights;
  float *y, *pre, *zeros, *scratch;
} region;

// Where each run of `rows` patches from m0 begins.
static void find_runs(const region *g, const conv_patches *set, int64_t m0, int rows, float *border, const float **from) {
  int64_t v = m0 % set->grid_w, u = m0 / set->grid_w % set->grid_h, b = m0 / set->grid_w / set->grid_h;
  for (int r = 0; r < rows; r++) {
    const float *image = g->x + b * set->H * set->W * set->C;
    const float **to = from + r;
    for (int t = 0; t < set->tap_rows; t++) {
      int64_t y = u * set->step[0] + set->shift_y[t];
      for (int i = 0; i < set->n_runs; i++, to += rows) {
        const conv_run *run = set->runs + i;
        int64_t x0 = v * set->step[1] + run->shift, length = run_length(set, run);
        const float *at = image + (y * set->W + x0) * set->C;
        if (y < 0 || y >= set->H || x0 >= set->W || x0 + run->pixels <= 0) {
          *to = g->zeros;
        } else if (x0 >= 0 && x0 + run->pixels <= set->W) {
          *to = at;
        } else {
          int64_t low = x0 < 0 ? -x0 * set->C : 0, high = (set->W - x0) * set->C;
          if (high > length) high = length;
          clear_floats(border, low);
          copy_floats(border + low, at + low, high - low);
          clear_floats(border + high, length - high);
          *to = border;
          border += length;
        }
      }
    }
    if (++v == set->grid_w) {
      v = 0;
      if (++u == set->grid_h) u = 0, b++;
    }
  }
}

static void finish(const region *g, const int64_t *offset, int rows, const float *sums) {
  const state *s = g->s;
  const contraction_epilogue *e = &s->problem.epilogue;
  int count = rows * (int)s->N;
  float value[8 * DOT_MOST + VW], pre[8 * DOT_MOST + VW];
  for (int i = 0; i < count; i++) {
    int64_t at = offset[i / s->N] + i % s->N;
    pre[i] = (float)e->alpha * sums[i] + (g->bias ? g->bias[i % s->N] : 0) + (g->residual ? g->residual[at] : 0);
  }
  for (int i = count; i % VW; i++) pre[i] = 0;
  for (int i = 0; i < count; i += VW) vstore(value + i, activate(vload(pre + i), e->activation, (float)e->slope));
  for (int i = 0; i < count; i++) {
    int64_t at = offset[i / s->N] + i % s->N;
    g->y[at] = value[i];
    if (g->pre) g->pre[at] = pre[i];
  }
}

static int64_t thread_floats(const state *s) {
  int64_t pointers = 8 * s->problem.size.kh * s->problem.size.kw * POINTER_FLOATS;
  return padded(s->border) + padded(pointers);
}

static void dot_thread(void *arg, int id, int count) {
  const region *g = arg;
  const state *s = g->s;
  int rows = DOT_ROWS(s->N);
  float *border = g->scratch + id * thread_floats(s), sums[8 * DOT_MOST];
  const float **from = (const float **)(border + padded(s->border));
  for (int64_t i = 0; i < s->n_sets; i++) {
    const conv_patches *set = s->sets + i;
    int64_t m0, m1, offset[8];
    split_range(set->rows, id, count, &m0, &m1);
    for (int64_t m = m0; m < m1; m += rows) {
      int n = m1 - m < rows ? (int)(m1 - m) : rows;
      find_runs(g, set, m, n, border, from);
      if (n < rows) // the first stands in for those that are missing
        for (int t = set->tap_rows * set->n_runs - 1; t >= 0; t--)
          for (int r = rows - 1; r >= 0; r--) from[t * rows + r] = from[t * n + (r < n ? r : 0)];
      dots[s->N - 1](set, from, g->weights + i * s->set_weights, sums);
      ISA(place_patches)(set, m, n, offset);
      finish(g, offset, n, sums);
    }
  }
}

static elbo_status run(const kernel *k, const kernel_args *a) {
  const state *s = k->state;
  const conv_problem *p = &s->problem;
  float *weights = a->scratch, *zeros = weights + s->n_sets * s->set_weights;
  for (int64_t i = 0; i < s->n_sets; i++) pack(s, s->sets + i, a->in[p->w], weights + i * s->set_weights);
  clear_floats(zeros, padded(s->longest));
  region g = {.s = s,
              .x = a->in[p->direction == CONV_TRANSPOSED ? p->y : p->x],
              .bias = p->bias >= 0 ? a->in[p->bias] : NULL,
              .residual = p->residual >= 0 ? a->in[p->residual] : NULL,
              .weights = weights,
              .y = a->out[0],
              .pre = p->epilogue.keep_pre ? a->out[1] : NULL,
              .zeros = zeros,
              .scratch = zeros + padded(s->longest)};
  parallel_run(a->pool, dot_thread, &g);
  return ELBO_OK;
}

static int64_t columns(const conv_problem *p) { return p->direction == CONV_TRANSPOSED ? p->size.I : p->size.O; }
static int64_t depth(const conv_problem *p) { return p->direction == CONV_TRANSPOSED ? p->size.O : p->size.I; }

static bool supports(const conv_problem *p) {
  return p->direction != CONV_WEIGHT_GRAD && p->size.groups == 1 && columns(p) <= DOT_MOST && depth(p) >= VW;
}

static double cost(const conv_problem *p) {
  const conv_sizes *z = &p->size;
  double N = (double)columns(p), vectors = (double)((depth(p) + VW - 1) / VW), taps = (double)(z->kh * z->kw), rows;
  if (p->direction == CONV_TRANSPOSED) {
    rows = (double)(z->B * z->H * z->W);
    taps /= p->attr.stride[0] * p->attr.stride[1];
  } else {
    rows = (double)(z->B * z->OH * z->OW);
  }
  return rows * (taps * vectors * N * 1.3 + 3 * taps + 8 * N);
}

static elbo_status prepare(compile_env *env, const conv_problem *p, kernel *k) {
  bool transposed = p->direction == CONV_TRANSPOSED;
  k->destroy = destroy;
  TRY(array_new(env->ctx, 1, sizeof(state), "kernel state", &k->state));
  state *s = k->state;
  s->problem = *p;
  s->N = columns(p);
  TRY(array_new(env->ctx, (size_t)conv_patch_set_count(p, transposed), sizeof *s->sets, "kernel state", (void **)&s->sets));
  TRY(array_new(env->ctx, (size_t)patch_store_size(p, transposed), sizeof *s->store, "kernel state", (void **)&s->store));
  int64_t *store = s->store;
  s->n_sets = conv_patch_sets(p, transposed, 0, s->sets, &store);
  for (int64_t i = 0; i < s->n_sets; i++) {
    const conv_patches *set = s->sets + i;
    int64_t weights = 0, border = 0;
    for (int r = 0; r < set->n_runs; r++) {
      int64_t length = run_length(set, set->runs + r);
      weights += padded(length) * s->N * set->tap_rows;
      border += length * set->tap_rows * 8;
      if (length > s->longest) s->longest = length;
    }
    if (weights > s->set_weights) s->set_weights = weights;
    if (border > s->border) s->border = border;
  }
  int64_t floats = s->n_sets * s->set_weights + padded(s->longest) + pool_threads(env->pool) * thread_floats(s);
  k->scratch_bytes = (size_t)floats * sizeof(float);
  k->run = run;
  k->name = "own:patch_dot." ISA_TEXT;
  return ELBO_OK;
}

const conv_kernel ISA(conv_dot) = {"patch_dot", supports, cost, prepare, false};
