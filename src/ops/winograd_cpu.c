// Forward and transposed convolutions of 3x3 by F(2x2, 3x3), F(4x4, 3x3) and F(6x6, 3x3), and those of stride 2 (3x3, 4x4) by F(4x4, 2x2).
//
// Tiles of x are evaluated at the alpha^2 points into V, the weights into U; at each point M = V U is a product over channels; M is
// interpolated into the tiles of the result, with bias, residual and activation. Layouts, all in whole vectors of channels:
//     V [point][phase][vector of C][tile][VW]   U [part][point][panel of two vectors of K][phase][C][2 VW]   M [point][vector of
//     K][tile][VW]
// Phases are those of x (a forward convolution of stride 2), parts those of the result (a transposed one); one where the stride is 1.
//
// Three ways to share the work. By tiles: a thread takes blocks of tiles through all three steps in caches of its own; U is made once
// before. By channels (winograd_channels_cpu.c), where tiles are few or weights large: transformed weights, four times the size of weights,
// never exist. By points, in its place where weights are constant and there is room to keep U from run to run: a thread evaluates all
// tiles and takes its share of K through one point after the other, reading U once and in order.
#include <math.h>

#include "core/memory.h"
#include "ops/winograd_forward.h"

// --- products -----------------------------------------------------------------------------------------------------------------------

// to[v * to_vector + r * VW] = sum over phases and c of a[c / VW * a_vector + r * VW + c % VW] u[c * vectors VW + v VW]
// Meanwhile it asks for a's next vector, and from `ahead` on for `step` floats a channel of what is multiplied next: neither is in the
// first cache, and no prefetcher of the processor's sees these strides.
WINOGRAD_INLINE void product_body(const int rows, const int vectors, int phases, int64_t C, const float *restrict a, int64_t a_vector,
                                  const float *restrict u, const float *ahead, int64_t step, float *restrict to, int64_t to_vector) {
  vfloat acc[GEMM_MR][2];
#pragma GCC unroll 14
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) acc[r][v] = (vfloat){0};
  for (; phases > 0; phases--)
    for (int64_t c = 0; c < C; c += VW, a += a_vector) {
      const float *ac = a, *end = a + (C - c < VW ? C - c : VW);
      const float *next = a + a_vector;
      for (; ac < end; ac++, u += vectors * VW) {
        __builtin_prefetch(next, 0, 3);
        __builtin_prefetch(ahead, 0, 2);
        next += VW, ahead += step;
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

typedef void (*product_fn)(int phases, int64_t C, const float *a, int64_t a_vector, const float *u, const float *ahead, int64_t step,
                           float *to, int64_t to_vector);
#define PRODUCT(rows, vectors)                                                                                                        \
  static void product_##rows##_##vectors(int phases, int64_t C, const float *a, int64_t a_vector, const float *u, const float *ahead, \
                                         int64_t step, float *to, int64_t to_vector) {                                                \
    product_body(rows, vectors, phases, C, a, a_vector, u, ahead, step, to, to_vector);                                               \
  }
#define BOTH(rows) PRODUCT(rows, 1) PRODUCT(rows, 2)
GEMM_FOR_ROWS(BOTH)
#define ENTRY(rows) {product_##rows##_1, product_##rows##_2},
static const product_fn products[GEMM_MR][2] = {GEMM_FOR_ROWS(ENTRY)};

// One panel of one point for nt tiles: v and m begin at the first tile, `next` is the panel after it.
static void multiply(const state *s, int64_t nt, const float *v, int64_t v_ld, const float *u, const float *next, int vectors, float *m,
                     int64_t m_ld) {
  int parts = gemm_tiles(nt);
  int64_t step = (vectors * VW + parts - 1) / parts;
  for (int i = 0; i < parts; i++) {
    int64_t r0, r1;
    split_range(nt, i, parts, &r0, &r1);
    products[r1 - r0 - 1][vectors - 1](s->phases, s->C, v + r0 * VW, v_ld * VW, u, next + i * s->phases * s->C * step, step, m + r0 * VW,
                                       m_ld * VW);
  }
}

// --- results ------------------------------------------------------------------------------------------------------------------------

typedef struct result_tile {
  int64_t offset, row, column, lanes; // of y, in floats
  int height, width;
  vfloat bias;
} result_tile;

WINOGRAD_INLINE void finish(const bool plain, const io *g, const result_tile *t, int64_t at, vfloat x) {
  if (plain) {
    vstore_upto(g->y + at, x + t->bias, t->lanes);
    return;
  }
  const contraction_epilogue *e = &g->s->problem.epilogue;
  x = (float)e->alpha * x + t->bias;
  if (g->residual) x += vload_upto(g->residual + at, t->lanes);
  if (g->pre) vstore_upto(g->pre + at, x, t->lanes);
  if (e->activation != CONTRACTION_LINEAR) x = activate(x, e->activation, (float)e->slope);
  vstore_upto(g->y + at, x, t->lanes);
}

WINOGRAD_INLINE void interpolate_tile(const int alpha, const bool plain, const bool whole, const io *g, const float *from, int64_t stride,
                                      const result_tile *t) {
  const int m = winograd_m(alpha);
  vfloat w[WINOGRAD_MAX_M][WINOGRAD_MAX_ALPHA], d[WINOGRAD_MAX_ALPHA], o[WINOGRAD_MAX_M];
  WINOGRAD_UNROLL
  for (int j = 0; j < alpha; j++) {
    WINOGRAD_UNROLL
    for (int i = 0; i < alpha; i++) d[i] = vload(from + (i * alpha + j) * stride);
    winograd_result(alpha, m, d, o);
    WINOGRAD_UNROLL
    for (int i = 0; i < m; i++) w[i][j] = o[i];
  }
  WINOGRAD_UNROLL
  for (int i = 0; i < m; i++) {
    if (!whole && i >= t->height) break;
    winograd_result(alpha, m, w[i], o);
    WINOGRAD_UNROLL
    for (int j = 0; j < m; j++)
      if (whole || j < t->width) finish(plain, g, t, t->offset + i * t->row + j * t->column, o[j]);
  }
}

WINOGRAD_INLINE void interpolate_tiles(const int alpha, const bool plain, const io *g, const result_part *part, int64_t t0, int64_t nt,
                                       int64_t v0, int64_t v1, const float *m, int64_t ld) {
  const state *s = g->s;
  const winograd_image *image = &part->image;
  int64_t per_image = image->tiles_y * image->tiles_x;
  for (int64_t i = 0; i < nt; i++) {
    int64_t b = (t0 + i) / per_image, y0 = (t0 + i) % per_image / image->tiles_x * s->m, x0 = (t0 + i) % image->tiles_x * s->m;
    result_tile t = {.row = s->step * s->Q * s->K, .column = s->step * s->K};
    t.height = part->rows - y0 < s->m ? (int)(part->rows - y0) : s->m;
    t.width = part->columns - x0 < s->m ? (int)(part->columns - x0) : s->m;
    bool whole = t.height == s->m && t.width == s->m;
    for (int64_t v = v0; v < v1; v++) {
      const float *from = m + ((v - v0) * ld + i) * VW;
      t.offset = ((b * s->P + part->first[0] + y0 * s->step) * s->Q + part->first[1] + x0 * s->step) * s->K + v * VW;
      t.lanes = s->K - v * VW;
      t.bias = g->bias ? vload_upto(g->bias + v * VW, t.lanes) : (vfloat){0};
      if (whole && t.lanes >= VW) {
        t.lanes = VW;
        interpolate_tile(alpha, plain, true, g, from, s->m_point, &t);
      } else {
        interpolate_tile(alpha, plain, false, g, from, s->m_point, &t);
      }
    }
  }
}

#define FOR_ALPHA(alpha, plain)                                  \
  if (alpha == 4)                                                \
    interpolate_tiles(4, plain, g, part, t0, nt, v0, v1, m, ld); \
  else if (alpha == 5)                                           \
    interpolate_tiles(5, plain, g, part, t0, nt, v0, v1, m, ld); \
  else if (alpha == 6)                                           \
    interpolate_tiles(6, plain, g, part, t0, nt, v0, v1, m, ld); \
  else                                                           \
    interpolate_tiles(8, plain, g, part, t0, nt, v0, v1, m, ld)

static void interpolate(const io *g, const result_part *part, int64_t t0, int64_t nt, int64_t v0, int64_t v1, const float *m, int64_t ld) {
  const contraction_epilogue *e = &g->s->problem.epilogue;
  int alpha = g->s->alpha;
  if (e->alpha == 1 && e->activation == CONTRACTION_LINEAR && !g->residual && !g->pre) {
    FOR_ALPHA(alpha, true);
  } else {
    FOR_ALPHA(alpha, false);
  }
}

void ISA(winograd_interpolate)(const io *g, int64_t t0, int64_t nt, int64_t v0, int64_t v1, const float *m) {
  interpolate(g, g->s->parts, t0, nt, v0, v1, m, g->s->block);
}

// --- by tiles -----------------------------------------------------------------------------------------------------------------------

static void evaluate_weights(const io *g, int64_t v, int vectors, int64_t c0, int64_t c1, float *to) {
  const state *s = g->s;
  winograd_weights w = s->weights;
  w.phase = s->n_parts > 1 ? s->points * s->u_point : s->C * vectors * VW;
  ISA(winograd_evaluate_weights)(&w, g->w, v, vectors, c0, c1, to, s->u_point);
}

static void make_u(void *arg, int id, int count) {
  const io *g = arg;
  const state *s = g->s;
  int64_t panels = (s->VK + 1) / 2, c_parts = (s->C + 31) / 32; // 32 channels of a panel: a piece of work
  for (int64_t i = id; i < panels * c_parts; i += count) {
    int64_t v = i / c_parts * 2, c0 = i % c_parts * 32, c1 = c0 + 32 < s->C ? c0 + 32 : s->C;
    evaluate_weights(g, v, v + 1 < s->VK ? 2 : 1, c0, c1, g->u + v * VW * s->phases * s->C);
  }
}

static void run_part(const io *g, const result_part *part, const float *u, float *v, float *m, int id, int count) {
  const state *s = g->s;
  int64_t begin, end, unit = s->unit, fit = s->block / unit;
  split_range((part->T + unit - 1) / unit, id, count, &begin, &end);
  int64_t blocks = (end - begin + fit - 1) / fit;
  winograd_norm norm = g->norm;
  norm.pixels = m + s->points * s->m_point;
  for (int64_t i = 0; i < blocks; i++) {
    int64_t t0, t1;
    split_range(end - begin, (int)i, (int)blocks, &t0, &t1);
    t0 = (t0 + begin) * unit, t1 = (t1 + begin) * unit < part->T ? (t1 + begin) * unit : part->T;
    int64_t nt = t1 - t0;
    if (norm.channels)
      ISA(winograd_gather_normalised)(s->alpha, &part->image, &norm, g->x, t0, nt, v, s->block, s->v_point);
    else
      ISA(winograd_gather)(s->alpha, &part->image, g->x, t0, nt, 0, s->VC, v, s->block, s->v_point);
    for (int64_t k0 = 0; k0 < s->VK; k0 += s->chunk) {
      int64_t k1 = k0 + s->chunk < s->VK ? k0 + s->chunk : s->VK;
      for (int e = 0; e < s->points; e++)
        for (int64_t k = k0; k < k1; k += 2) {
          const float *panel = u + e * s->u_point + k * VW * s->phases * s->C;
          multiply(s, nt, v + e * s->v_point, s->block, panel, e + 1 < s->points ? panel + s->u_point : panel, k + 1 < k1 ? 2 : 1,
                   m + e * s->m_point + (k - k0) * s->block * VW, s->block);
        }
      interpolate(g, part, t0, nt, k0, k1, m, s->block);
    }
  }
}

static void run_tiles(void *arg, int id, int count) {
  const io *g = arg;
  const state *s = g->s;
  float *v = g->scratch + id * winograd_thread_floats(s);
  for (int i = 0; i < s->n_parts; i++)
    run_part(g, s->parts + i, g->u + i * s->points * s->u_point, v, v + s->points * s->v_point, id, count);
}

// --- by points ----------------------------------------------------------------------------------------------------------------------

// Panels [k0, k1) (vectors of K) for the nt tiles that v has.
static void run_panels(const io *g, int64_t t0, int64_t nt, int64_t k0, int64_t k1, const float *v, float *m) {
  const state *s = g->s;
  const int64_t panel = VW * s->phases * s->C;
  for (int e = 0; e < s->points; e++)
    for (int64_t k = k0; k < k1; k += 2) {
      const float *u = g->u + e * s->u_point + k * panel, *next = u + 2 * panel;
      if (k + 2 >= k1) next = e + 1 < s->points ? g->u + (e + 1) * s->u_point + k0 * panel : u;
      multiply(s, nt, v + e * s->v_point, s->block, u, next, k + 1 < k1 ? 2 : 1, m + e * s->m_point + (k - k0) * s->block * VW, s->block);
    }
  interpolate(g, s->parts, t0, nt, k0, k1, m, s->block);
}

// The work is panels of K of pieces of the tiles, few pieces, one after the other. Threads share nothing: what another core has just
// written is dearer to read than a V to evaluate.
static void run_points(void *arg, int id, int count) {
  const io *g = arg;
  const state *s = g->s;
  float *v = g->scratch + id * winograd_thread_floats(s), *m = v + s->points * s->v_point;
  int64_t panels = (s->VK + 1) / 2, begin, end, step = s->chunk / 2, next;
  split_range(panels * s->pieces, id, count, &begin, &end);
  for (int64_t i = begin, had = -1; i < end; i = next) {
    int64_t piece = i / panels, t0, t1, k = i % panels * 2, rest = panels - i % panels;
    next = i + (rest < step ? rest : step);
    if (next > end) next = end;
    split_range(s->parts->T, (int)piece, s->pieces, &t0, &t1);
    if (piece != had) ISA(winograd_gather)(s->alpha, &s->parts->image, g->x, t0, t1 - t0, 0, s->VC, v, s->block, s->v_point);
    had = piece;
    int64_t k1 = k + 2 * (next - i) < s->VK ? k + 2 * (next - i) : s->VK;
    run_panels(g, t0, t1 - t0, k, k1, v, m);
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
  if (p->norm >= 0)
    g.norm = (winograd_norm){.x2 = p->x2 >= 0 ? a->in[p->x2] : NULL,
                             .channels = a->in[p->norm],
                             .first = p->first,
                             .act = p->prologue.act,
                             .slope = (float)p->prologue.slope};
  uint64_t *version = a->persist;
  g.u = s->keep ? (float *)a->persist + 16 : g.scratch + pool_threads(a->pool) * winograd_thread_floats(s);
  if (!s->direct && (!s->keep || *version != a->version[p->w] + 1)) { // 0: never made
    parallel_run(a->pool, s->by == BY_CHANNELS ? ISA(winograd_pack_channels) : make_u, &g);
    if (s->keep) *version = a->version[p->w] + 1;
  }
  parallel_run(a->pool, s->by == BY_POINTS ? run_points : s->by == BY_CHANNELS ? ISA(winograd_run_channels) : run_tiles, &g);
  return ELBO_OK;
}

// Rows (or columns, i = 1) of part `phase`: how many there are, where the first is, and where its tile begins in what is read.
static void place_part(const state *s, int phase, int i, result_part *to) {
  const conv2d_attr *a = &s->problem.attr;
  int64_t size = i ? s->Q : s->P, pad = a->pad[i], j0 = 0, count = size;
  to->first[i] = 0;
  to->image.origin[i] = -pad;
  if (s->weights.flipped && s->step == 1) to->image.origin[i] = pad - 2;
  if (s->step == 2) { // result 2 j + phase - pad reads j - 1 and j
    j0 = (pad - phase + 1) >> 1;
    to->first[i] = 2 * j0 + phase - pad;
    count = size > to->first[i] ? (size - to->first[i] + 1) / 2 : 0;
    to->image.origin[i] = j0 - 1;
  }
  *(i ? &to->columns : &to->rows) = count;
  *(i ? &to->image.tiles_x : &to->image.tiles_y) = (count + s->m - 1) / s->m;
}

// Kept or not, U is read in every run. What keeping it saves is the making, which counts where tiles are few: by points against doing
// without it, but for so few tiles that they are done before it has come from farther away than the last cache, and not where a run is so
// long that it would not be seen; by tiles little, and only out of that cache.
static bool worth_keeping(const state *s, bool few, int64_t T, int64_t u_bytes) {
  const conv_problem *p = &s->problem;
  if (!p->weights_constant || u_bytes > p->keep_bytes) return false;
  if (few) return p->weights_cached || (p->making_shows && T >= 16);
  return u_bytes <= 4 << 20 || (T <= 256 && p->weights_cached);
}

// How the work is shared, and in which blocks.
static void choose_way(state *s, int64_t T) {
  const conv_problem *p = &s->problem;
  int64_t channels = s->phases * s->VC * VW, u_bytes = winograd_u_floats(s) * 4, l2 = p->l2_bytes;
  int64_t per_thread = (T + p->threads - 1) / p->threads;
  bool few = s->n_parts == 1 && s->alpha < 8 && (per_thread < 2 * GEMM_MR || (u_bytes > (8 << 20) && T < 192));
  if (p->norm >= 0) few = false; // every thread would normalise everything for itself
  s->keep = worth_keeping(s, few, T, u_bytes);
  s->by = !few ? BY_TILES : s->keep ? BY_POINTS : s->VK >= p->threads ? BY_CHANNELS : BY_TILES;
  if (s->by == BY_CHANNELS) {
    ISA(winograd_choose_blocks)(s);
    return;
  }
  s->u_point = winograd_point(s->phases * s->C * s->VK * VW);
  if (s->by == BY_POINTS) {
    int64_t panels = (s->VK + 1) / 2, pieces = 32 * p->threads / s->K, least = (T + 127) / 128; // V: a small part of what a thread does
    pieces = pieces < least ? least : pieces > T ? T : pieces;
    s->pieces = (int)pieces;
    s->block = (T + s->pieces - 1) / s->pieces;
    s->chunk = (panels * s->pieces + p->threads - 1) / p->threads * 2;
    if (s->chunk > 2 * panels) s->chunk = 2 * panels;
    s->v_point = winograd_point(channels * s->block);
    s->m_point = winograd_point(s->chunk * s->block * VW);
    return;
  }
  s->block = l2 / 4 / (s->points * channels * 4); // V within a quarter of the second cache, as U and the image pass through it too
  // a U that comes from farther away is read less often; V of 64 points would come from there too
  int64_t least = u_bytes / s->n_parts > l2 / 2 && s->alpha < 8 ? 4 * GEMM_MR : 2 * GEMM_MR;
  s->block = s->block < least ? least : s->block > 4 * GEMM_MR ? 4 * GEMM_MR : s->block;
  if (s->block > per_thread) s->block = per_thread;
  if (s->block < 1) s->block = 1;
  const int64_t chunk = s->alpha == 8 ? 4 : 2;
  s->chunk = s->VK < chunk ? s->VK : chunk;
  s->v_point = winograd_point(channels * s->block);
  s->m_point = winograd_point(s->chunk * s->block * VW);
  s->unit = 1;
  if (p->norm >= 0) {
    s->staged = ISA(winograd_norm_floats)(s->alpha, &s->parts[0].image, s->block);
    int64_t row = s->parts[0].image.tiles_x, most = ((T + row - 1) / row + p->threads - 1) / p->threads * row;
    if (s->block / row * row * 4 >= s->block * 3 && most * 8 <= per_thread * 9) s->unit = row; // where it costs neither balance nor blocks
  }
}

static state state_of(const conv_problem *p, int alpha) {
  bool t = p->direction == CONV_TRANSPOSED, strided = alpha == 5;
  const conv_sizes *z = &p->size;
  state s = {.problem = *p, .alpha = alpha, .m = winograd_m(alpha), .points = alpha * alpha, .phases = 1, .n_parts = 1, .step = 1};
  s.C = t ? z->O : z->I, s.K = t ? z->I : z->O;
  s.P = t ? z->H : z->OH, s.Q = t ? z->W : z->OW;
  s.VC = (s.C + VW - 1) / VW, s.VK = (s.K + VW - 1) / VW;
  if (strided && t) s.n_parts = 4, s.step = 2;
  if (strided && !t) s.phases = 4;
  int64_t taps = z->kh * z->kw, T = 0;
  s.weights = (winograd_weights){.K = s.K,
                                 .C = s.C,
                                 .lane = t ? taps : taps * z->I,
                                 .channel = t ? taps * z->I : taps,
                                 .alpha = alpha,
                                 .side = (int)z->kh,
                                 .flipped = t};
  for (int i = 0; i < s.n_parts; i++) {
    result_part *part = s.parts + i;
    part->image = (winograd_image){
        .H = t ? z->OH : z->H, .W = t ? z->OW : z->W, .C = s.C, .step = strided && !t ? 2 : 1, .phases = s.phases, .m = s.m};
    place_part(&s, i / 2, 0, part);
    place_part(&s, i % 2, 1, part);
    part->T = winograd_tiles(&part->image, z->B);
    if (part->T > T) T = part->T;
  }
  choose_way(&s, T);
  return s;
}

static bool supports(const conv_problem *p, int alpha) {
  if (p->direction == CONV_WEIGHT_GRAD || !winograd_fits(p, alpha)) return false;
  if (p->norm < 0) return true;
  return p->direction == CONV_FORWARD && alpha != 5 && (p->x2 < 0 || p->first % VW == 0);
}

// F(6x6) loses more of float32's digits than a gradient should, and pays where images have many tiles: of inference.
static bool supports_large(const conv_problem *p) { return p->weights_constant && p->direction == CONV_FORWARD && supports(p, 8); }

// In vector multiply-adds. A product of few rows waits for its own sums; the transforms were timed.
static double cost(const conv_problem *p, int alpha) {
  state s = state_of(p, alpha);
  if (s.by == BY_CHANNELS) return ISA(winograd_channels_cost)(&s);
  double C = (double)(s.phases * s.C), VC = (double)(s.phases * s.VC), VK = (double)s.VK, cost = 20000;
  double point = 6.5 * s.points; // one vector's evaluation or interpolation
  for (int i = 0; i < s.n_parts; i++) {
    double T = (double)s.parts[i].T, rows = (double)s.block, slow = rows < 4 ? 4 / rows : 1;
    if (VW < 16 && s.C % VW) cost += 12 * s.points * T * s.phases; // pixels of less than a vector, a number at a time
    double product = s.by == BY_POINTS ? 1.1 : alpha == 5 ? 1.5 : 1.25;
    cost += product * slow * s.points * T * C * VK + point * T * (VC + VK) + (s.keep ? 0 : 2) * point * C * VK;
  }
  return cost;
}

static elbo_status prepare(compile_env *env, const conv_problem *p, kernel *k, int alpha) {
  state *s;
  TRY(kernel_state_new(env, k, sizeof *s, &s));
  *s = state_of(p, alpha);
  int64_t floats = p->threads * winograd_thread_floats(s), weights = winograd_weight_floats(s);
  k->scratch_bytes = (size_t)(floats + (s->keep ? 0 : weights)) * sizeof(float);
  if (s->keep && s->by != BY_CHANNELS) env->keep_bytes -= weights * 4;
  k->persist_bytes = s->keep ? 64 + (size_t)weights * sizeof(float) : 0;
  k->run = run;
  return ELBO_OK;
}

WINOGRAD_KERNEL(winograd2, 4, "winograd2", true)
WINOGRAD_KERNEL(winograd4, 6, "winograd4", true)
WINOGRAD_KERNEL(winograd_strided, 5, "winograd_strided", false)

// Its U is nearly twice that of F(4x4) and read as often: fewer tiles do not pay for it, and what pays is a tenth less than was counted.
static double cost_winograd6(const conv_problem *p) {
  const state s = state_of(p, 8);
  return s.parts[0].T < 400 ? HUGE_VAL : 1.1 * cost(p, 8);
}
static elbo_status prepare_winograd6(compile_env *env, const conv_problem *p, kernel *k) {
  k->name = "own:winograd6." ISA_TEXT;
  return prepare(env, p, k, 8);
}
const conv_kernel ISA(winograd6) = {"winograd6", supports_large, cost_winograd6, prepare_winograd6, true};
