// Weight gradients of 3x3 convolutions of stride 1 by F(3x3, 2x2) and F(3x3, 4x4): tiles of x are evaluated as for the forward
// convolution, tiles of the other gradient as if they were the taps, and at each point the outer products over all tiles are summed into
// P; the sums are interpolated to nine taps once, at the end. A block of tiles at a time: all threads evaluate it together, then each
// multiplies the points that are its own (with many threads: its channels of a point), so that P exists once and its part stays in a cache.
//     V [point][vector of C][tile][VW]      G [point][vector of K][tile][VW]      P [point][C][whole vectors of K]
#include "core/memory.h"
#include "ops/kernel_util.h"
#include "ops/winograd.h"

typedef struct state {
  conv_problem problem;
  int alpha, points;
  winograd_image x, y; // m = alpha - 2
  int64_t C, K, T, VC, VK, block;
  int64_t v_point, g_point, p_point; // floats from point to point
  int c_parts;                       // shares of the channels of one point
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
WINOGRAD_INLINE void outer_body(const int vectors, int64_t T, const float *restrict a, const float *restrict b, int64_t b_vector,
                                float *restrict p, int64_t ld, bool add) {
  vfloat acc[OUTER_ROWS][3];
#pragma GCC unroll 8
  for (int r = 0; r < OUTER_ROWS; r++)
#pragma GCC unroll 3
    for (int v = 0; v < vectors; v++) acc[r][v] = add ? vload(p + r * ld + v * VW) : (vfloat){0};
  for (int64_t t = 0; t < T; t++, a += VW, b += VW) {
    vfloat bv[3];
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

static void outer(int vectors, int64_t T, const float *a, const float *b, int64_t b_vector, float *p, int64_t ld, bool add) {
  if (vectors == 3)
    outer_body(3, T, a, b, b_vector, p, ld, add);
  else if (vectors == 2)
    outer_body(2, T, a, b, b_vector, p, ld, add);
  else
    outer_body(1, T, a, b, b_vector, p, ld, add);
}

static void multiply(void *arg, int id, int count) {
  const io *g = arg;
  const state *s = g->s;
  int64_t columns = s->VK * VW, groups = (s->VK + 2) / 3;
  for (int part = id; part < s->points * s->c_parts; part += count) {
    int e = part % s->points;
    int64_t v0, v1;
    split_range(s->VC, part / s->points, s->c_parts, &v0, &v1);
    for (int64_t v = v0; v < v1; v++) {
      const float *a = g->v + e * s->v_point + v * s->block * VW;
      float *p = g->p + e * s->p_point + v * VW * columns;
      for (int64_t i = 0; i < groups; i++) {
        int64_t k0, k1;
        split_range(s->VK, (int)i, (int)groups, &k0, &k1);
        for (int64_t r = 0; r < VW && v * VW + r < s->C; r += OUTER_ROWS) // P has whole vectors of channels
          outer((int)(k1 - k0), g->nt, a + r, g->g + e * s->g_point + k0 * s->block * VW, s->block * VW, p + r * columns + k0 * VW, columns,
                g->t0 > 0);
      }
    }
  }
}

// --- results ------------------------------------------------------------------------------------------------------------------------

// Nine taps of one channel and vector of K.
WINOGRAD_INLINE void interpolate_taps(const int alpha, const float *p, int64_t stride, vfloat *tap) {
  vfloat w[3][WINOGRAD_MAX_ALPHA], d[WINOGRAD_MAX_ALPHA];
#pragma GCC unroll 6
  for (int j = 0; j < alpha; j++) {
    vfloat o[3];
#pragma GCC unroll 6
    for (int i = 0; i < alpha; i++) d[i] = vload(p + (i * alpha + j) * stride);
    winograd_result(alpha, 3, d, o);
#pragma GCC unroll 3
    for (int i = 0; i < 3; i++) w[i][j] = o[i];
  }
#pragma GCC unroll 3
  for (int i = 0; i < 3; i++) winograd_result(alpha, 3, w[i], tap + 3 * i);
}

static void interpolate(void *arg, int id, int count) {
  const io *g = arg;
  const state *s = g->s;
  int64_t quads = (s->C + 3) / 4, begin, end; // four channels of an output channel are 36 numbers side by side
  split_range(quads * s->VK, id, count, &begin, &end);
  for (int64_t i = begin; i < end; i++) {
    int64_t k = i / quads, c0 = i % quads * 4, lanes = s->K - k * VW < VW ? s->K - k * VW : VW;
    int n = s->C - c0 < 4 ? (int)(s->C - c0) : 4;
    vfloat tap[36];
    for (int c = 0; c < n; c++) {
      const float *p = g->p + (c0 + c) * s->VK * VW + k * VW;
      if (s->alpha == 4)
        interpolate_taps(4, p, s->p_point, tap + 9 * c);
      else
        interpolate_taps(6, p, s->p_point, tap + 9 * c);
    }
    float *to = g->out + (k * VW * s->C + c0) * 9;
    if (n == 4 && lanes == VW) {
      for (int j = 0; j < 36; j += 4) store_transposed4(tap + j, to + j, 9 * s->C);
    } else {
      for (int j = 0; j < 9 * n; j++) {
        float lane[VW];
        vstore(lane, tap[j]);
        for (int64_t l = 0; l < lanes; l++) to[l * 9 * s->C + j] = lane[l];
      }
    }
  }
}

// --- choice -------------------------------------------------------------------------------------------------------------------------

static elbo_status run(const kernel *k, const kernel_args *a) {
  const state *s = k->state;
  io g = {.s = s, .x = a->in[s->problem.x], .y = a->in[s->problem.y], .out = a->out[0], .v = a->scratch};
  g.g = g.v + s->points * s->v_point;
  g.p = g.g + s->points * s->g_point;
  for (g.t0 = 0; g.t0 < s->T; g.t0 += s->block) {
    g.nt = s->T - g.t0 < s->block ? s->T - g.t0 : s->block;
    parallel_run(a->pool, evaluate, &g);
    parallel_run(a->pool, multiply, &g);
  }
  parallel_run(a->pool, interpolate, &g);
  return ELBO_OK;
}

static state state_of(const conv_problem *p, int alpha) {
  const conv_sizes *z = &p->size;
  int m = alpha - 2;
  state s = {.problem = *p, .alpha = alpha, .points = alpha * alpha, .C = z->I, .K = z->O};
  int64_t rows = (z->OH + m - 1) / m, columns = (z->OW + m - 1) / m;
  s.x = (winograd_image){z->H, z->W, z->I, rows, columns, {-p->attr.pad[0], -p->attr.pad[1]}, m};
  s.y = (winograd_image){z->OH, z->OW, z->O, rows, columns, {0, 0}, m};
  s.T = z->B * rows * columns;
  s.VC = (s.C + VW - 1) / VW, s.VK = (s.K + VW - 1) / VW;
  s.block = p->threads * cpu_cache_bytes(2) / (s.points * (s.VC + s.VK) * VW * 4);
  s.block = s.block < 64 ? 64 : s.block > 512 ? 512 : s.block;
  int64_t blocks = (s.T + s.block - 1) / s.block;
  s.block = (s.T + blocks - 1) / blocks;
  s.v_point = winograd_point(s.VC * s.block * VW);
  s.g_point = winograd_point(s.VK * s.block * VW);
  s.p_point = winograd_point(s.VC * VW * s.VK * VW);
  s.c_parts = 1;
  while (s.points * s.c_parts % p->threads && s.c_parts < 8 && s.points * s.c_parts < 8 * p->threads && s.c_parts < s.VC) s.c_parts++;
  return s;
}

static bool supports(const conv_problem *p) { return p->direction == CONV_WEIGHT_GRAD && winograd_fits(p); }

// In vector multiply-adds, as the forward kernels'.
static double cost(const conv_problem *p, int alpha) {
  state s = state_of(p, alpha);
  double T = (double)s.T, VC = (double)s.VC, VK = (double)s.VK, tile = alpha == 6 ? 1 : 0.45;
  return 1.1 * s.points * T * VC * VW * VK + 220 * tile * T * VC + 200 * tile * T * VK + 220 * tile * VC * VW * VK + 20000;
}
static double cost2(const conv_problem *p) { return cost(p, 4); }
static double cost4(const conv_problem *p) { return cost(p, 6); }

static elbo_status prepare(compile_env *env, const conv_problem *p, kernel *k, int alpha) {
  state *s;
  TRY(kernel_state_new(env, k, sizeof *s, &s));
  *s = state_of(p, alpha);
  k->scratch_bytes = (size_t)(s->points * (s->v_point + s->g_point + s->p_point)) * sizeof(float);
  k->run = run;
  return ELBO_OK;
}
static elbo_status prepare2(compile_env *env, const conv_problem *p, kernel *k) {
  k->name = "own:winograd2_weight." ISA_TEXT;
  return prepare(env, p, k, 4);
}
static elbo_status prepare4(compile_env *env, const conv_problem *p, kernel *k) {
  k->name = "own:winograd4_weight." ISA_TEXT;
  return prepare(env, p, k, 6);
}

const conv_kernel ISA(winograd2_weight) = {"winograd2_weight", supports, cost2, prepare2};
const conv_kernel ISA(winograd4_weight) = {"winograd4_weight", supports, cost4, prepare4};
