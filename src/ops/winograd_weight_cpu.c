// Weight gradients of 3x3 convolutions by F(3x3, 2x2) and F(3x3, 4x4), and of those of stride 2 by F(2x2, 4x4): tiles of x are evaluated as
// for the forward convolution, tiles of the other gradient as if they were the taps, and at each point the outer products over all tiles
// are summed into P; the sums are interpolated to taps once, at the end. Three ways to share the work. Small weights: a thread takes its
// tiles, a block at a time, through a cache of its own into a P of its own, and the sums are added up. Large ones: all threads evaluate a
// block together, then each multiplies the points that are its own (with many threads: its channels of a point), so that P exists once.
// Few tiles: all are evaluated together, then a thread makes all points of a few channels by a few vectors of K and interpolates them where
// they are; P, four times the weights, is never whole.
//     V [point][phase][vector of C][tile][VW]   G [point][vector of K][tile][VW]   P [point][phase][vectors of C][whole vectors of K]
#include "core/memory.h"
#include "ops/kernel_util.h"
#include "ops/winograd.h"

typedef struct state {
  conv_problem problem;
  int alpha, points;
  int phases, side; // side: of the kernel
  winograd_image x, y;
  int64_t C, K, T, VC, VK, block;
  int64_t v_point, g_point, p_point; // floats from point to point
  int c_parts;                       // shares of the channels of one point
  bool apart;                        // every thread has a V, G and P
  int64_t k_parts;                   // few tiles: shares of K whose G stays in the second cache; else 0
} state;

typedef struct io {
  const state *s;
  const float *x, *y;
  float *out, *v, *g, *p;
  int64_t t0, nt;
} io;

static void evaluate(void *arg, int id, int count) {
  const io *g = arg;
  const state *s = g->s;
  int64_t begin, end;
  split_range(g->nt, id, count, &begin, &end);
  if (begin == end) return;
  ISA(winograd_gather)(s->alpha, &s->x, g->x, g->t0 + begin, end - begin, 0, s->VC, g->v + begin * VW, s->block, s->v_point);
  ISA(winograd_spread)(s->alpha, &s->y, g->y, g->t0 + begin, end - begin, 0, s->VK, g->g + begin * VW, s->block, s->g_point);
}

// --- products -----------------------------------------------------------------------------------------------------------------------

#define OUTER_ROWS (VW > 4 ? VW / 2 : VW) // with three vectors: 24 accumulators of 32 registers, 12 of 16

// p[r * ld + v VW] (+)= sum over t < T of a[t * VW + r] b[v * b_vector + t * VW]
// Meanwhile it asks for what comes after this one: where p is added to, for the cache lines of that p, at `next`; else for the operands,
// which lie a_next and b_next further.
typedef struct product {
  const float *a, *b;
  float *p;
  const float *next;
  int64_t T, b_vector, ld, a_next, b_next;
} product;

WINOGRAD_INLINE void outer_body(const int vectors, const product *o, const bool add, const bool operands) {
  const float *restrict a = o->a, *restrict b = o->b;
  const int64_t b_vector = o->b_vector, ld = o->ld, a_next = o->a_next, b_next = o->b_next;
  float *restrict p = o->p;
  vfloat acc[OUTER_ROWS][3];
#pragma GCC unroll 8
  for (int r = 0; r < OUTER_ROWS; r++)
#pragma GCC unroll 3
    for (int v = 0; v < vectors; v++) acc[r][v] = add ? vload(p + r * ld + v * VW) : (vfloat){0};
  for (int64_t t = 0; t < o->T; t++, a += VW, b += VW) {
    vfloat bv[3];
    if (operands) {
      __builtin_prefetch(a + a_next, 0, 3);
#pragma GCC unroll 3
      for (int v = 0; v < vectors; v++) __builtin_prefetch(b + v * b_vector + b_next, 0, 3);
    } else if (t < OUTER_ROWS) {
#pragma GCC unroll 3
      for (int v = 0; v < vectors; v++) __builtin_prefetch(o->next + t * ld + v * VW, 1, 3);
    }
#pragma GCC unroll 3
    for (int v = 0; v < vectors; v++) bv[v] = vload(b + v * b_vector);
#pragma GCC unroll 8
    for (int r = 0; r < OUTER_ROWS; r++) {
      vfloat ar = vsplat(a[r]);
#pragma GCC unroll 3
      for (int v = 0; v < vectors; v++) acc[r][v] += ar * bv[v];
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < OUTER_ROWS; r++)
#pragma GCC unroll 3
    for (int v = 0; v < vectors; v++) vstore(p + r * ld + v * VW, acc[r][v]);
}

#define BY_VECTORS(name, add, operands)             \
  static void name(int vectors, const product *o) { \
    if (vectors == 3)                               \
      outer_body(3, o, add, operands);              \
    else if (vectors == 2)                          \
      outer_body(2, o, add, operands);              \
    else                                            \
      outer_body(1, o, add, operands);              \
  }
BY_VECTORS(outer_first, false, false)
BY_VECTORS(outer_more, true, false)
BY_VECTORS(outer_alone, false, true)

// Point e, vectors [v0, v1) of the channels of all phases.
static void multiply_point(const state *s, int e, int64_t v0, int64_t v1, int64_t nt, const float *v, const float *g, float *p, bool add) {
  int64_t columns = s->VK * VW, groups = (s->VK + 2) / 3;
  for (int64_t i = v0; i < v1; i++) {
    const float *a = v + e * s->v_point + i * s->block * VW;
    float *to = p + e * s->p_point + i * VW * columns;
    for (int64_t j = 0; j < groups; j++) {
      int64_t k0, k1;
      split_range(s->VK, (int)j, (int)groups, &k0, &k1);
      for (int64_t r = 0; r < VW && i % s->VC * VW + r < s->C; r += OUTER_ROWS) { // P has whole vectors of channels
        float *here = to + r * columns + k0 * VW;
        const float *next = r + OUTER_ROWS < VW ? here + OUTER_ROWS * columns : j + 1 < groups ? to + k1 * VW : to + VW * columns;
        product o = {a + r, g + e * s->g_point + k0 * s->block * VW, here, next, nt, s->block * VW, columns, 0, 0};
        (add ? outer_more : outer_first)((int)(k1 - k0), &o);
      }
    }
  }
}

static void multiply(void *arg, int id, int count) {
  const io *g = arg;
  const state *s = g->s;
  for (int part = id; part < s->points * s->c_parts; part += count) {
    int64_t v0, v1;
    split_range(s->phases * s->VC, part / s->points, s->c_parts, &v0, &v1);
    multiply_point(s, part % s->points, v0, v1, g->nt, g->v, g->g, g->p, g->t0 > 0);
  }
}

static int64_t thread_floats(const state *s) { return s->points * (s->v_point + s->g_point + s->p_point); }

static void run_apart(void *arg, int id, int count) {
  const io *g = arg;
  const state *s = g->s;
  float *v = g->v + id * thread_floats(s), *y = v + s->points * s->v_point, *p = y + s->points * s->g_point;
  int64_t begin, end;
  split_range(s->T, id, count, &begin, &end);
  if (begin == end) clear_floats(p, s->points * s->p_point);
  for (int64_t t0 = begin; t0 < end; t0 += s->block) {
    int64_t nt = end - t0 < s->block ? end - t0 : s->block;
    ISA(winograd_gather)(s->alpha, &s->x, g->x, t0, nt, 0, s->VC, v, s->block, s->v_point);
    ISA(winograd_spread)(s->alpha, &s->y, g->y, t0, nt, 0, s->VK, y, s->block, s->g_point);
    for (int e = 0; e < s->points; e++) multiply_point(s, e, 0, s->phases * s->VC, nt, v, y, p, t0 > begin);
  }
}

// Adds the sums of all threads into the first's.
static void add_up(void *arg, int id, int count) {
  const io *g = arg;
  const state *s = g->s;
  int64_t begin, end;
  split_range(s->points * s->p_point / VW, id, count, &begin, &end);
  for (int64_t i = begin * VW; i < end * VW; i += VW) {
    vfloat sum = vload(g->p + i);
    for (int t = 1; t < count; t++) sum += vload(g->p + t * thread_floats(s) + i);
    vstore(g->p + i, sum);
  }
}

// --- results ------------------------------------------------------------------------------------------------------------------------

// The r x r taps of one channel and vector of K.
WINOGRAD_INLINE void interpolate_taps(const int alpha, const float *p, int64_t stride, vfloat *tap) {
  const int r = winograd_r(alpha);
  vfloat w[3][WINOGRAD_MAX_ALPHA], d[WINOGRAD_MAX_ALPHA], o[3];
#pragma GCC unroll 6
  for (int j = 0; j < alpha; j++) {
#pragma GCC unroll 6
    for (int i = 0; i < alpha; i++) d[i] = vload(p + (i * alpha + j) * stride);
    winograd_result(alpha, r, d, o);
#pragma GCC unroll 3
    for (int i = 0; i < r; i++) w[i][j] = o[i];
  }
#pragma GCC unroll 3
  for (int i = 0; i < r; i++) winograd_result(alpha, r, w[i], tap + r * i);
}

// All taps of the kernel of one channel; p: its first phase.
static void interpolate_channel(const state *s, const float *p, vfloat *all) {
  if (s->alpha == 4) {
    interpolate_taps(4, p, s->p_point, all);
  } else if (s->alpha == 6) {
    interpolate_taps(6, p, s->p_point, all);
  } else {
    for (int phase = 0; phase < 4; phase++) {
      vfloat tap[4];
      interpolate_taps(5, p + phase * s->VC * VW * s->VK * VW, s->p_point, tap);
      for (int i = 0; i < 4; i++) {
        int row = i / 2 * 2 + phase / 2, column = i % 2 * 2 + phase % 2;
        if (row < s->side && column < s->side) all[row * s->side + column] = tap[i];
      }
    }
  }
}

// Stores the taps of n <= 4 channels from c0 on, vector k of K; tap[channel][tap].
static void store_taps(const state *s, float *out, int64_t k, int64_t c0, int64_t n, const vfloat *tap) {
  int64_t taps = s->side * s->side, lanes = s->K - k * VW < VW ? s->K - k * VW : VW;
  float *to = out + (k * VW * s->C + c0) * taps;
  if (n * taps % 4 == 0 && lanes == VW) {
    for (int64_t j = 0; j < n * taps; j += 4) store_transposed4(tap + j, to + j, taps * s->C);
    return;
  }
  for (int64_t j = 0; j < n * taps; j++) {
    float lane[VW];
    vstore(lane, tap[j]);
    for (int64_t l = 0; l < lanes; l++) to[l * taps * s->C + j] = lane[l];
  }
}

static void interpolate(void *arg, int id, int count) {
  const io *g = arg;
  const state *s = g->s;
  int64_t taps = s->side * s->side, quads = (s->C + 3) / 4, begin, end; // four channels of an output channel lie side by side
  split_range(quads * s->VK, id, count, &begin, &end);
  for (int64_t i = begin; i < end; i++) {
    int64_t k = i / quads, c0 = i % quads * 4, n = s->C - c0 < 4 ? s->C - c0 : 4;
    vfloat tap[4 * 16];
    for (int64_t c = 0; c < n; c++) interpolate_channel(s, g->p + (c0 + c) * s->VK * VW + k * VW, tap + taps * c);
    store_taps(s, g->out, k, c0, n, tap);
  }
}

// --- few tiles ----------------------------------------------------------------------------------------------------------------------

enum { FEW_COLUMNS = 3 * VW, FEW_POINT = VW * FEW_COLUMNS };

// Vector v of the channels by vectors [k0, k1) of K, at most three, through all points; p: their sums [point][channel][FEW_COLUMNS]
static void make_weights(const io *g, int64_t v, int64_t k0, int64_t k1, float *p) {
  const state *s = g->s;
  const float *a = g->v + v * s->block * VW, *b = g->g + k0 * s->block * VW;
  int64_t c = v * VW, channels = s->C - c < VW ? s->C - c : VW;
  for (int e = 0; e < s->points; e++)
    for (int64_t r = 0; r < channels; r += OUTER_ROWS) {
      product o = {.a = a + e * s->v_point + r, .b = b + e * s->g_point, .p = p + e * FEW_POINT + r * FEW_COLUMNS, .T = s->T};
      o.b_vector = s->block * VW, o.ld = FEW_COLUMNS, o.a_next = s->v_point, o.b_next = s->g_point;
      outer_alone((int)(k1 - k0), &o);
    }
  for (int64_t k = k0; k < k1; k++)
    for (int64_t c0 = c; c0 < c + channels; c0 += 4) {
      int64_t n = s->C - c0 < 4 ? s->C - c0 : 4;
      vfloat tap[4 * 9];
      for (int64_t i = 0; i < n; i++) {
        const float *from = p + (c0 - c + i) * FEW_COLUMNS + (k - k0) * VW;
        if (s->alpha == 4)
          interpolate_taps(4, from, FEW_POINT, tap + 9 * i);
        else
          interpolate_taps(6, from, FEW_POINT, tap + 9 * i);
      }
      store_taps(s, g->out, k, c0, n, tap);
    }
}

static int64_t few_floats(const state *s) { return s->points * FEW_POINT; } // of a thread

static void run_few(void *arg, int id, int count) {
  const io *g = arg;
  const state *s = g->s;
  float *p = g->p + id * few_floats(s);
  int64_t begin, end, groups = (s->VK + 2) / 3;
  split_range(s->k_parts * s->VC, id, count, &begin, &end);
  for (int64_t i = begin; i < end; i++) {
    int64_t j0, j1, k0, k1;
    split_range(groups, (int)(i / s->VC), (int)s->k_parts, &j0, &j1);
    for (int64_t j = j0; j < j1; j++) {
      split_range(s->VK, (int)j, (int)groups, &k0, &k1);
      make_weights(g, i % s->VC, k0, k1, p);
    }
  }
}

// --- choice -------------------------------------------------------------------------------------------------------------------------

static elbo_status run(const kernel *k, const kernel_args *a) {
  const state *s = k->state;
  io g = {.s = s, .x = a->in[s->problem.x], .y = a->in[s->problem.y], .out = a->out[0], .v = a->scratch};
  g.g = g.v + s->points * s->v_point;
  g.p = g.g + s->points * s->g_point;
  if (s->k_parts) {
    g.nt = s->T;
    parallel_run(a->pool, evaluate, &g);
    parallel_run(a->pool, run_few, &g);
    return ELBO_OK;
  }
  if (s->apart) {
    parallel_run(a->pool, run_apart, &g);
    if (pool_threads(a->pool) > 1) parallel_run(a->pool, add_up, &g);
  }
  for (g.t0 = 0; !s->apart && g.t0 < s->T; g.t0 += s->block) {
    g.nt = s->T - g.t0 < s->block ? s->T - g.t0 : s->block;
    parallel_run(a->pool, evaluate, &g);
    parallel_run(a->pool, multiply, &g);
  }
  parallel_run(a->pool, interpolate, &g);
  return ELBO_OK;
}

static state state_of(const conv_problem *p, int alpha) {
  const conv_sizes *z = &p->size;
  int m = winograd_m(alpha), step = alpha == 5 ? 2 : 1, phases = step * step;
  state s = {.problem = *p, .alpha = alpha, .points = alpha * alpha, .C = z->I, .K = z->O, .phases = phases, .side = (int)z->kh};
  int64_t rows = (z->OH + m - 1) / m, columns = (z->OW + m - 1) / m;
  s.x = (winograd_image){z->H, z->W, z->I, rows, columns, {-p->attr.pad[0], -p->attr.pad[1]}, step, phases, m};
  s.y = (winograd_image){z->OH, z->OW, z->O, rows, columns, {0, 0}, 1, 1, m};
  s.T = z->B * rows * columns;
  s.VC = (s.C + VW - 1) / VW, s.VK = (s.K + VW - 1) / VW;
  int64_t l2 = p->l2_bytes, tile = s.points * (phases * s.VC + s.VK) * VW * 4, p_bytes = s.points * phases * s.VC * s.VK * VW * VW * 4;
  s.apart = p_bytes <= l2 * 5 / 4 && p->threads <= 16;
  // Sums that stay in the second cache want a block beside them; those that do not are read and written once a block, so it is large.
  s.block = (!s.apart ? 4 * p->threads * l2 : p_bytes > l2 ? 2 * l2 : l2 / 2) / tile;
  int64_t least = s.apart ? 16 : 64, group = s.points * s.T * 3 * VW * 4; // of G: what three vectors of K are multiplied with
  if (alpha != 5 && (p_bytes > l2 || s.T <= 48) && 4 * group <= l2) {
    int64_t groups = (s.VK + 2) / 3, most = l2 / 2 / group;
    s.apart = false, s.block = s.T, s.k_parts = (groups + most - 1) / most;
  }
  if (!s.k_parts) s.block = s.block < least ? least : s.block > 512 ? 512 : s.block;
  int64_t share = s.apart ? (s.T + p->threads - 1) / p->threads : s.T;
  int64_t blocks = (share + s.block - 1) / s.block;
  s.block = (share + blocks - 1) / blocks;
  s.v_point = winograd_point(phases * s.VC * s.block * VW);
  s.g_point = winograd_point(s.VK * s.block * VW);
  s.p_point = winograd_point(phases * s.VC * VW * s.VK * VW);
  s.c_parts = 1;
  while (s.points * s.c_parts % p->threads && s.c_parts < 8 && s.points * s.c_parts < 8 * p->threads && s.c_parts < phases * s.VC)
    s.c_parts++;
  return s;
}

static bool supports(const conv_problem *p, int alpha) { return p->direction == CONV_WEIGHT_GRAD && winograd_fits(p, alpha); }

// In vector multiply-adds, as the forward kernels'.
static double cost(const conv_problem *p, int alpha) {
  state s = state_of(p, alpha);
  double T = (double)s.T, VC = (double)(s.phases * s.VC), VK = (double)s.VK, point = 6.5 * s.points;
  double sums = s.apart ? 0.5 * p->threads * s.points * VC * VW * VK : 0;
  return (alpha == 5 ? 1.5 : 1.25) * s.points * T * VC * VW * VK + 1.5 * point * T * (VC + VK) + 2 * point * VC * VW * VK + sums + 40000;
}

static elbo_status prepare(compile_env *env, const conv_problem *p, kernel *k, int alpha) {
  state *s;
  TRY(kernel_state_new(env, k, sizeof *s, &s));
  *s = state_of(p, alpha);
  int64_t floats = s->k_parts ? s->points * (s->v_point + s->g_point) + p->threads * few_floats(s) : thread_floats(s);
  k->scratch_bytes = (size_t)(floats * (s->apart ? p->threads : 1)) * sizeof(float);
  k->run = run;
  return ELBO_OK;
}

WINOGRAD_KERNEL(winograd2_weight, 4, "winograd2_weight", false)
WINOGRAD_KERNEL(winograd4_weight, 6, "winograd4_weight", false)
WINOGRAD_KERNEL(winograd_strided_weight, 5, "winograd_strided_weight", false)
