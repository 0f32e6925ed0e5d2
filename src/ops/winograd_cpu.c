// Forward and transposed 3x3 convolutions of stride 1 by F(2x2, 3x3) and F(4x4, 3x3).
//
// Tiles of x are evaluated at the alpha^2 points into V, the weights into U; at each point M = V U is a product over channels; M is
// interpolated into the tiles of the result, with bias, residual and activation. Layouts, all in whole vectors of channels:
//     V [point][vector of C][tile][VW]      U [point][panel of two vectors of K][C][2 VW]      M [point][vector of K][tile][VW]
//
// Two ways to share the work. By tiles: a thread takes blocks of tiles through all three steps in caches of its own; U is made once
// before. By channels, where tiles are few or weights large: V is made by all threads together, then a thread makes U panel by panel, in
// its cache, uses it for every tile and throws it away: transformed weights, four times the size of weights, never exist.
#include "core/memory.h"
#include "ops/kernel_util.h"
#include "ops/winograd.h"

typedef struct state {
  conv_problem problem;
  int alpha, m, points;
  winograd_image image; // what is read
  int64_t C, K, Q, P;   // channels in and out, height and width of the result
  int64_t T, VC, VK;    // tiles; vectors of C and K
  bool by_channels, keep;
  int64_t block;                     // tiles of one V: by tiles a thread's, by channels all threads'
  int64_t chunk;                     // vectors of K in one M
  int64_t w_lane, w_channel, w_last; // weight of (lane k, channel c, tap) is at k w_lane + c w_channel + (w_last - tap or tap)
  int64_t v_point, u_point, m_point; // floats from point to point
} state;

// --- weights ------------------------------------------------------------------------------------------------------------------------

// g: 9 taps; to[point * stride]
WINOGRAD_INLINE void evaluate_taps(const int alpha, const vfloat *g, float *to, int64_t stride) {
  vfloat w[WINOGRAD_MAX_ALPHA][3], o[WINOGRAD_MAX_ALPHA];
#pragma GCC unroll 3
  for (int j = 0; j < 3; j++) {
    vfloat column[3] = {g[j], g[3 + j], g[6 + j]};
    winograd_taps(alpha, 3, column, o);
#pragma GCC unroll 6
    for (int i = 0; i < alpha; i++) w[i][j] = o[i];
  }
#pragma GCC unroll 6
  for (int i = 0; i < alpha; i++) {
    winograd_taps(alpha, 3, w[i], o);
#pragma GCC unroll 6
    for (int j = 0; j < alpha; j++) vstore(to + (i * alpha + j) * stride, o[j]);
  }
}

// Channels [c0, c0 + n) of vector v of K, n <= 4: to[point * stride + c * width]
WINOGRAD_INLINE void transform_weights(const int alpha, const state *s, const float *w, int64_t v, int64_t c0, int n, float *to,
                                       int64_t stride, int width) {
  vfloat g[4 * 9 + 4];
  bool flipped = s->problem.direction == CONV_TRANSPOSED;
  int64_t lanes = s->K - v * VW;
  const float *from = w + v * VW * s->w_lane + c0 * s->w_channel;
  if (lanes >= VW && !flipped && n == 4) { // the taps of four channels are one run
#pragma GCC unroll 9
    for (int i = 0; i < 9; i++) load_transposed4(from + 4 * i, s->w_lane, g + 4 * i);
  } else if (lanes >= VW) {
    for (int c = 0; c < n; c++) {
      vfloat t[12];
      for (int i = 0; i < 2; i++) load_transposed4(from + c * s->w_channel + 4 * i, s->w_lane, t + 4 * i);
      load_transposed4(from + c * s->w_channel + 5, s->w_lane, t + 8);
      for (int i = 0; i < 8; i++) g[9 * c + (flipped ? 8 - i : i)] = t[i];
      g[9 * c + (flipped ? 0 : 8)] = t[11];
    }
  } else {
    for (int i = 0; i < 9 * n; i++) {
      float lane[VW] = {0};
      const float *tap = from + i / 9 * s->w_channel + (flipped ? 8 - i % 9 : i % 9);
      for (int64_t l = 0; l < lanes; l++) lane[l] = tap[l * s->w_lane];
      g[i] = vload(lane);
    }
  }
  for (int c = 0; c < n; c++) evaluate_taps(alpha, g + 9 * c, to + c * width, stride);
}

// The panel of `vectors` vectors at v, channels [c0, c1): to[point * stride + c * vectors VW]
static void transform_panel(const state *s, const float *w, int64_t v, int vectors, int64_t c0, int64_t c1, float *to, int64_t stride) {
  int width = vectors * VW;
  for (int i = 0; i < vectors; i++)
    for (int64_t c = c0; c < c1; c += 4) {
      int n = c1 - c < 4 ? (int)(c1 - c) : 4;
      if (s->alpha == 4)
        transform_weights(4, s, w, v + i, c, n, to + c * width + i * VW, stride, width);
      else
        transform_weights(6, s, w, v + i, c, n, to + c * width + i * VW, stride, width);
    }
}

// --- products -----------------------------------------------------------------------------------------------------------------------

// to[v * to_vector + r * VW] = sum over c of a[c / VW * a_vector + r * VW + c % VW] u[c * vectors VW + v VW]
WINOGRAD_INLINE void product_body(const int rows, const int vectors, int64_t C, const float *restrict a, int64_t a_vector,
                                  const float *restrict u, float *restrict to, int64_t to_vector) {
  vfloat acc[GEMM_MR][2];
#pragma GCC unroll 14
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) acc[r][v] = (vfloat){0};
  for (int64_t c = 0; c < C; c += VW, a += a_vector) {
    const float *ac = a, *end = a + (C - c < VW ? C - c : VW);
    for (; ac < end; ac++, u += vectors * VW) {
      vfloat uv[2];
#pragma GCC unroll 2
      for (int v = 0; v < vectors; v++) uv[v] = vload(u + v * VW);
#pragma GCC unroll 14
      for (int r = 0; r < rows; r++) {
        vfloat ar = vsplat(ac[r * VW]);
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) acc[r][v] += ar * uv[v];
      }
    }
  }
#pragma GCC unroll 14
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) vstore(to + v * to_vector + r * VW, acc[r][v]);
}

typedef void (*product_fn)(int64_t C, const float *a, int64_t a_vector, const float *u, float *to, int64_t to_vector);
#define PRODUCT(rows, vectors)                                                                                                        \
  static void product_##rows##_##vectors(int64_t C, const float *a, int64_t a_vector, const float *u, float *to, int64_t to_vector) { \
    product_body(rows, vectors, C, a, a_vector, u, to, to_vector);                                                                    \
  }
#if GEMM_MR == 14
#define FOR_ROWS(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14)
#else
#define FOR_ROWS(X) X(1) X(2) X(3) X(4) X(5) X(6)
#endif
#define BOTH(rows) PRODUCT(rows, 1) PRODUCT(rows, 2)
FOR_ROWS(BOTH)
#define ENTRY(rows) {product_##rows##_1, product_##rows##_2},
static const product_fn products[GEMM_MR][2] = {FOR_ROWS(ENTRY)};

// One panel of one point for nt tiles: v and m begin at the first tile.
static void multiply(const state *s, int64_t nt, const float *v, int64_t v_ld, const float *u, int vectors, float *m, int64_t m_ld) {
  int parts = gemm_tiles(nt);
  for (int i = 0; i < parts; i++) {
    int64_t r0, r1;
    split_range(nt, i, parts, &r0, &r1);
    products[r1 - r0 - 1][vectors - 1](s->C, v + r0 * VW, v_ld * VW, u, m + r0 * VW, m_ld * VW);
  }
}

// --- results ------------------------------------------------------------------------------------------------------------------------

typedef struct io {
  const state *s;
  const float *x, *w, *bias, *residual;
  float *y, *pre, *scratch, *u;
  int64_t t0, nt; // by channels: the tiles of V
} io;

typedef struct result_tile {
  int64_t offset, row, column, lanes; // of y, in floats
  int height, width;
  vfloat bias;
} result_tile;

WINOGRAD_INLINE void finish(const bool plain, const io *g, const result_tile *t, int64_t at, vfloat x) {
  if (plain) {
    store_upto(g->y + at, x + t->bias, t->lanes);
    return;
  }
  const contraction_epilogue *e = &g->s->problem.epilogue;
  x = (float)e->alpha * x + t->bias;
  if (g->residual) x += load_upto(g->residual + at, t->lanes);
  if (g->pre) store_upto(g->pre + at, x, t->lanes);
  if (e->activation != CONTRACTION_LINEAR) x = activate(x, e->activation, (float)e->slope);
  store_upto(g->y + at, x, t->lanes);
}

WINOGRAD_INLINE void interpolate_tile(const int alpha, const bool plain, const bool whole, const io *g, const float *from, int64_t stride,
                                      const result_tile *t) {
  const int m = alpha - 2;
  vfloat w[4][WINOGRAD_MAX_ALPHA], d[WINOGRAD_MAX_ALPHA], o[4];
#pragma GCC unroll 6
  for (int j = 0; j < alpha; j++) {
#pragma GCC unroll 6
    for (int i = 0; i < alpha; i++) d[i] = vload(from + (i * alpha + j) * stride);
    winograd_result(alpha, m, d, o);
#pragma GCC unroll 4
    for (int i = 0; i < m; i++) w[i][j] = o[i];
  }
#pragma GCC unroll 4
  for (int i = 0; i < m; i++) {
    if (!whole && i >= t->height) break;
    winograd_result(alpha, m, w[i], o);
#pragma GCC unroll 4
    for (int j = 0; j < m; j++)
      if (whole || j < t->width) finish(plain, g, t, t->offset + i * t->row + j * t->column, o[j]);
  }
}

WINOGRAD_INLINE void interpolate_tiles(const int alpha, const bool plain, const io *g, int64_t t0, int64_t nt, int64_t v0, int64_t v1,
                                       const float *m, int64_t ld) {
  const state *s = g->s;
  const winograd_image *image = &s->image;
  int64_t per_image = image->tiles_y * image->tiles_x;
  for (int64_t i = 0; i < nt; i++) {
    int64_t b = (t0 + i) / per_image, y0 = (t0 + i) % per_image / image->tiles_x * s->m, x0 = (t0 + i) % image->tiles_x * s->m;
    result_tile t = {.row = s->Q * s->K, .column = s->K};
    t.height = s->P - y0 < s->m ? (int)(s->P - y0) : s->m;
    t.width = s->Q - x0 < s->m ? (int)(s->Q - x0) : s->m;
    bool whole = t.height == s->m && t.width == s->m;
    for (int64_t v = v0; v < v1; v++) {
      const float *from = m + ((v - v0) * ld + i) * VW;
      t.offset = ((b * s->P + y0) * s->Q + x0) * s->K + v * VW;
      t.lanes = s->K - v * VW;
      t.bias = g->bias ? load_upto(g->bias + v * VW, t.lanes) : (vfloat){0};
      if (whole && t.lanes >= VW) {
        t.lanes = VW;
        interpolate_tile(alpha, plain, true, g, from, s->m_point, &t);
      } else {
        interpolate_tile(alpha, plain, false, g, from, s->m_point, &t);
      }
    }
  }
}

static void interpolate(const io *g, int64_t t0, int64_t nt, int64_t v0, int64_t v1, const float *m, int64_t ld) {
  const contraction_epilogue *e = &g->s->problem.epilogue;
  bool plain = e->alpha == 1 && e->activation == CONTRACTION_LINEAR && !g->residual && !g->pre;
  if (g->s->alpha == 4)
    plain ? interpolate_tiles(4, true, g, t0, nt, v0, v1, m, ld) : interpolate_tiles(4, false, g, t0, nt, v0, v1, m, ld);
  else
    plain ? interpolate_tiles(6, true, g, t0, nt, v0, v1, m, ld) : interpolate_tiles(6, false, g, t0, nt, v0, v1, m, ld);
}

// --- by tiles -----------------------------------------------------------------------------------------------------------------------

static int64_t v_floats(const state *s) { return s->points * s->v_point; }
static int64_t m_floats(const state *s) { return s->points * s->m_point; }

static void make_u(void *arg, int id, int count) {
  const io *g = arg;
  const state *s = g->s;
  int64_t panels = (s->VK + 1) / 2, c_parts = (s->C + 31) / 32; // 32 channels of a panel: a piece of work
  for (int64_t i = id; i < panels * c_parts; i += count) {
    int64_t v = i / c_parts * 2, c0 = i % c_parts * 32, c1 = c0 + 32 < s->C ? c0 + 32 : s->C;
    transform_panel(s, g->w, v, v + 1 < s->VK ? 2 : 1, c0, c1, g->u + v * VW * s->C, s->u_point);
  }
}

static void run_tiles(void *arg, int id, int count) {
  const io *g = arg;
  const state *s = g->s;
  float *v = g->scratch + id * (v_floats(s) + m_floats(s)), *m = v + v_floats(s);
  int64_t begin, end;
  split_range(s->T, id, count, &begin, &end);
  int64_t blocks = (end - begin + s->block - 1) / s->block;
  for (int64_t i = 0; i < blocks; i++) {
    int64_t t0, t1;
    split_range(end - begin, (int)i, (int)blocks, &t0, &t1);
    int64_t nt = t1 - t0;
    t0 += begin;
    ISA(winograd_gather)(s->alpha, &s->image, g->x, t0, nt, 0, s->VC, v, s->block, s->v_point);
    for (int64_t k0 = 0; k0 < s->VK; k0 += s->chunk) {
      int64_t k1 = k0 + s->chunk < s->VK ? k0 + s->chunk : s->VK;
      for (int e = 0; e < s->points; e++)
        for (int64_t k = k0; k < k1; k += 2)
          multiply(s, nt, v + e * s->v_point, s->block, g->u + e * s->u_point + k * VW * s->C, k + 1 < k1 ? 2 : 1,
                   m + e * s->m_point + (k - k0) * s->block * VW, s->block);
      interpolate(g, t0, nt, k0, k1, m, s->block);
    }
  }
}

// --- by channels --------------------------------------------------------------------------------------------------------------------

static void make_v(void *arg, int id, int count) {
  const io *g = arg;
  const state *s = g->s;
  int64_t begin, end;
  if (g->nt >= count) {
    split_range(g->nt, id, count, &begin, &end);
    ISA(winograd_gather)(s->alpha, &s->image, g->x, g->t0 + begin, end - begin, 0, s->VC, g->scratch + begin * VW, s->block, s->v_point);
  } else {
    split_range(s->VC, id, count, &begin, &end);
    ISA(winograd_gather)(s->alpha, &s->image, g->x, g->t0, g->nt, begin, end, g->scratch, s->block, s->v_point);
  }
}

static void run_channels(void *arg, int id, int count) {
  const io *g = arg;
  const state *s = g->s;
  float *m = g->scratch + v_floats(s) + id * (m_floats(s) + s->points * s->u_point), *own = m + m_floats(s);
  int64_t begin, end;
  split_range(s->VK, id, count, &begin, &end);
  for (int64_t k = begin; k < end; k += 2) {
    int vectors = k + 1 < end ? 2 : 1;
    transform_panel(s, g->w, k, vectors, 0, s->C, own, s->u_point);
    for (int e = 0; e < s->points; e++)
      multiply(s, g->nt, g->scratch + e * s->v_point, s->block, own + e * s->u_point, vectors, m + e * s->m_point, s->block);
    interpolate(g, g->t0, g->nt, k, k + vectors, m, s->block);
  }
}

// --- choice -------------------------------------------------------------------------------------------------------------------------

static elbo_status run(const kernel *k, const kernel_args *a) {
  const state *s = k->state;
  const conv_problem *p = &s->problem;
  io g = {.s = s,
          .x = a->in[p->direction == CONV_TRANSPOSED ? p->y : p->x],
          .w = a->in[p->w],
          .bias = p->bias >= 0 ? a->in[p->bias] : NULL,
          .residual = p->residual >= 0 ? a->in[p->residual] : NULL,
          .y = a->out[0],
          .pre = p->epilogue.keep_pre ? a->out[1] : NULL,
          .scratch = a->scratch};
  if (s->by_channels) {
    for (g.t0 = 0; g.t0 < s->T; g.t0 += s->block) {
      g.nt = s->T - g.t0 < s->block ? s->T - g.t0 : s->block;
      parallel_run(a->pool, make_v, &g);
      parallel_run(a->pool, run_channels, &g);
    }
    return ELBO_OK;
  }
  uint64_t *version = a->persist;
  g.u = s->keep ? (float *)a->persist + 16 : g.scratch + pool_threads(a->pool) * (v_floats(s) + m_floats(s));
  if (!s->keep || *version != a->version[p->w] + 1) { // 0: never made
    parallel_run(a->pool, make_u, &g);
    if (s->keep) *version = a->version[p->w] + 1;
  }
  parallel_run(a->pool, run_tiles, &g);
  return ELBO_OK;
}

static state state_of(const conv_problem *p, int alpha) {
  bool t = p->direction == CONV_TRANSPOSED;
  const conv_sizes *z = &p->size;
  state s = {.problem = *p, .alpha = alpha, .m = alpha - 2, .points = alpha * alpha};
  s.C = t ? z->O : z->I, s.K = t ? z->I : z->O;
  s.P = t ? z->H : z->OH, s.Q = t ? z->W : z->OW;
  s.image = (winograd_image){.H = t ? z->OH : z->H,
                             .W = t ? z->OW : z->W,
                             .C = s.C,
                             .tiles_y = (s.P + s.m - 1) / s.m,
                             .tiles_x = (s.Q + s.m - 1) / s.m,
                             .origin = {t ? p->attr.pad[0] - 2 : -p->attr.pad[0], t ? p->attr.pad[1] - 2 : -p->attr.pad[1]},
                             .m = s.m};
  s.T = z->B * s.image.tiles_y * s.image.tiles_x;
  s.VC = (s.C + VW - 1) / VW, s.VK = (s.K + VW - 1) / VW;
  s.w_lane = t ? 9 : 9 * z->I, s.w_channel = t ? 9 * z->I : 9;
  int64_t u_bytes = s.points * s.C * s.VK * VW * 4, l2 = cpu_cache_bytes(2), per_thread = (s.T + p->threads - 1) / p->threads;
  s.by_channels = s.VK >= p->threads && (per_thread < 2 * GEMM_MR || (u_bytes > (8 << 20) && s.T <= 1024));
  if (s.by_channels) {
    s.block = s.T < 1024 ? s.T : 1024;
  } else { // V within a quarter of the second cache, as U and the image pass through it too
    s.block = l2 / 4 / (s.points * s.VC * VW * 4);
    s.block = s.block < 2 * GEMM_MR ? 2 * GEMM_MR : s.block > 4 * GEMM_MR ? 4 * GEMM_MR : s.block;
    if (s.block > per_thread) s.block = per_thread;
  }
  s.chunk = 2;
  if (s.chunk > s.VK) s.chunk = s.VK;
  s.v_point = winograd_point(s.VC * s.block * VW);
  s.m_point = winograd_point(s.chunk * s.block * VW);
  s.u_point = winograd_point(s.by_channels ? s.C * s.chunk * VW : s.C * s.VK * VW);
  s.keep = p->weights_constant && !s.by_channels && u_bytes <= (4 << 20);
  return s;
}

static bool supports(const conv_problem *p) { return p->direction != CONV_WEIGHT_GRAD && winograd_fits(p); }

// In vector multiply-adds. A product of few rows waits for its own sums; the transforms were timed.
static double cost(const conv_problem *p, int alpha) {
  state s = state_of(p, alpha);
  double T = (double)s.T, C = (double)s.C, VC = (double)s.VC, VK = (double)s.VK, tile = alpha == 6 ? 1 : 0.45;
  double rows = s.by_channels ? T : (double)s.block, slow = rows < 4 ? 4 / rows : 1;
  return 1.1 * slow * s.points * T * C * VK + 220 * tile * T * VC + 200 * tile * T * VK + 220 * tile * C * VK + 20000;
}
static double cost2(const conv_problem *p) { return cost(p, 4); }
static double cost4(const conv_problem *p) { return cost(p, 6); }

static elbo_status prepare(compile_env *env, const conv_problem *p, kernel *k, int alpha) {
  state *s;
  TRY(kernel_state_new(env, k, sizeof *s, &s));
  *s = state_of(p, alpha);
  int64_t threads = p->threads, floats;
  if (s->by_channels)
    floats = v_floats(s) + threads * (m_floats(s) + s->points * s->u_point);
  else
    floats = threads * (v_floats(s) + m_floats(s)) + (s->keep ? 0 : s->points * s->u_point);
  k->scratch_bytes = (size_t)floats * sizeof(float);
  k->persist_bytes = s->keep ? 64 + (size_t)(s->points * s->u_point) * sizeof(float) : 0;
  k->run = run;
  return ELBO_OK;
}
static elbo_status prepare2(compile_env *env, const conv_problem *p, kernel *k) {
  k->name = "own:winograd2." ISA_TEXT;
  return prepare(env, p, k, 4);
}
static elbo_status prepare4(compile_env *env, const conv_problem *p, kernel *k) {
  k->name = "own:winograd4." ISA_TEXT;
  return prepare(env, p, k, 6);
}

const conv_kernel ISA(winograd2) = {"winograd2", supports, cost2, prepare2};
const conv_kernel ISA(winograd4) = {"winograd4", supports, cost4, prepare4};
