// Winograd convolutions of few tiles and many channels. A thread takes its share of K, a group of panels at a time, through all channels, a
// block at a time: it evaluates the V of the block for all tiles, and for one panel after another the U, adds their products to M, and
// interpolates M after the last block. V, two U and M stay in its second cache. Nothing is shared but what is only read: evaluating tiles
// once for each thread and group is cheaper than reading what another core has just written.
//
// U goes to the second cache at a line every four or five cycles, which for few tiles is as long as using it takes. So the next U is
// evaluated a few channels at a time between the products of this one, and its lines leave while these are computed.
//
// Weights are read in that same order, once for every block of tiles, from where they have been packed in it, as they are: transformed
// they would be four times the bytes, which take longer to read than these to evaluate. Where there is one block of tiles and weights
// change from run to run, they are evaluated from where they lie.
#include "ops/winograd_forward.h"

// --- products -----------------------------------------------------------------------------------------------------------------------

typedef struct product {
  int64_t C, a_phase, a_vector, to_vector; // C: of every phase
  int phases;
  bool add;
} product;

// to[v * to_vector + r * VW] (+)= sum over phases p and c of a[p * a_phase + c / VW * a_vector + r * VW + c % VW] times
// u[(p C + c) vectors VW + v VW]. Asks for the next vector of a meanwhile, whose lines no prefetcher sees coming.
WINOGRAD_INLINE void product_body(const int rows, const int vectors, const product *p, const float *restrict a, const float *restrict u,
                                  float *restrict to) {
  vfloat acc[GEMM_MR][2];
  const int64_t a_vector = p->a_vector, to_vector = p->to_vector;
#pragma GCC unroll 14
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) acc[r][v] = p->add ? vload(to + v * to_vector + r * VW) : (vfloat){0};
  for (int phase = 0; phase < p->phases; phase++, a += p->a_phase) {
    const float *av = a;
    for (int64_t c = 0; c < p->C; c += VW, av += a_vector) {
      const float *ac = av, *end = av + (p->C - c < VW ? p->C - c : VW), *next = av + a_vector;
      for (; ac < end; ac++, u += vectors * VW, next += VW) {
        vfloat uv[2];
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) uv[v] = vload(u + v * VW);
        __builtin_prefetch(next, 0, 3);
#pragma GCC unroll 14
        for (int r = 0; r < rows; r++) {
          vfloat ar = vsplat(ac[r * VW]);
#pragma GCC unroll 2
          for (int v = 0; v < vectors; v++) acc[r][v] += ar * uv[v];
        }
      }
    }
  }
#pragma GCC unroll 14
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) vstore(to + v * to_vector + r * VW, acc[r][v]);
}

typedef void (*product_fn)(const product *p, const float *a, const float *u, float *to);
#define PRODUCT(rows, vectors)                                                                          \
  static void product_##rows##_##vectors(const product *p, const float *a, const float *u, float *to) { \
    product_body(rows, vectors, p, a, u, to);                                                           \
  }
#define BOTH(rows) PRODUCT(rows, 1) PRODUCT(rows, 2)
GEMM_FOR_ROWS(BOTH)
#define ENTRY(rows) {product_##rows##_1, product_##rows##_2},
static const product_fn products[GEMM_MR][2] = {GEMM_FOR_ROWS(ENTRY)};

// --- the order of work --------------------------------------------------------------------------------------------------------------

// A thread's vectors of K are [begin, end). One U: tiles from t0 on, the group [k0, k1), channels [c0, c1), the panel at k.
typedef struct walk {
  int64_t begin, end, t0, k0, k1, c0, c1, k;
} walk;

static void set_group(const state *s, walk *w, int64_t k0) {
  w->k = w->k0 = k0;
  w->k1 = k0 + s->chunk < w->end ? k0 + s->chunk : w->end;
}

static void set_channels(const state *s, walk *w, int64_t c0) {
  w->c0 = c0;
  w->c1 = c0 + s->c_block < s->C ? c0 + s->c_block : s->C;
}

// False: the thread has nothing to do.
static bool walk_begin(const state *s, int id, int count, walk *w) {
  split_range((s->VK + s->panel - 1) / s->panel, id, count, &w->begin, &w->end);
  w->begin *= s->panel, w->end *= s->panel;
  if (w->end > s->VK) w->end = s->VK;
  w->t0 = 0;
  set_group(s, w, w->begin);
  set_channels(s, w, 0);
  return w->begin < w->end;
}

static bool walk_on(const state *s, walk *w) {
  w->k += s->panel;
  if (w->k < w->k1) return true;
  w->k = w->k0;
  set_channels(s, w, w->c1);
  if (w->c0 < s->C) return true;
  set_channels(s, w, 0);
  if (w->k1 == w->end) w->t0 += s->block;
  set_group(s, w, w->k1 == w->end ? w->begin : w->k1);
  return w->t0 < s->parts->T;
}

static int panel_vectors(const state *s, const walk *w) { return w->k1 - w->k < s->panel ? 1 : s->panel; }

// The packed taps of a U.
static float *packed_taps(const io *g, const walk *w) {
  const conv_sizes *z = &g->s->problem.size;
  return g->u + (w->k0 * g->s->C + w->c0 * (w->k1 - w->k0) + (w->k - w->k0) * (w->c1 - w->c0)) * z->kh * z->kw * VW;
}

void ISA(winograd_pack_channels)(void *arg, int id, int count) {
  const io *g = arg;
  const state *s = g->s;
  walk w;
  for (bool more = walk_begin(s, id, count, &w); more && w.t0 == 0; more = walk_on(s, &w))
    ISA(winograd_pack_taps)(&s->weights, g->w, w.k, panel_vectors(s, &w), w.c0, w.c1, packed_taps(g, &w));
}

// --- running ------------------------------------------------------------------------------------------------------------------------

// A U on the way.
typedef struct evaluation {
  winograd_weights weights;
  const float *taps; // of its first channel: packed, or where they lie
  float *u;
  int vectors;
  int64_t k;    // the first vector of K
  int64_t c, C; // done, of
} evaluation;

static evaluation evaluation_of(const io *g, const walk *w, float *u) {
  const state *s = g->s;
  evaluation e = {.weights = s->weights, .u = u, .vectors = panel_vectors(s, w), .k = w->k, .C = w->c1 - w->c0};
  e.taps = s->direct ? g->w + w->c0 * s->weights.channel : packed_taps(g, w);
  e.weights.phase = e.C * e.vectors * VW;
  return e;
}

// Goes on to channel c.
static void evaluate_to(const state *s, evaluation *e, int64_t c) {
  if (s->direct && c < e->C) c -= c % 4; // four channels' taps lie side by side
  if (c <= e->c) return;
  if (s->direct) {
    ISA(winograd_evaluate_weights)(&e->weights, e->taps, e->k, e->vectors, e->c, c, e->u, s->u_point);
    e->c = c;
    return;
  }
  int width = e->vectors * VW;
  int64_t taps = s->problem.size.kh * s->problem.size.kw * width;
  const float *from = e->taps + e->c * taps;
  ISA(winograd_evaluate_packed)(&e->weights, from, e->vectors, c - e->c, e->u + e->c * width, s->u_point);
  e->c = c;
}

// M of w's panel += V U, while `next` is evaluated.
static void multiply(const state *s, const walk *w, int64_t nt, const float *v, const float *u, float *m, evaluation *next) {
  int parts = gemm_tiles(nt), steps = s->points * parts, vectors = panel_vectors(s, w);
  int64_t C = w->c1 - w->c0;
  product p = {.C = C,
               .a_phase = (C + VW - 1) / VW * s->block * VW,
               .a_vector = s->block * VW,
               .to_vector = s->block * VW,
               .phases = s->phases,
               .add = w->c0 > 0};
  m += (w->k - w->k0) * s->block * VW;
  for (int e = 0, step = 1; e < s->points; e++)
    for (int i = 0; i < parts; i++, step++) {
      int64_t r0, r1;
      split_range(nt, i, parts, &r0, &r1);
      products[r1 - r0 - 1][vectors - 1](&p, v + e * s->v_point + r0 * VW, u + e * s->u_point, m + e * s->m_point + r0 * VW);
      evaluate_to(s, next, next->C * step / steps);
    }
}

void ISA(winograd_run_channels)(void *arg, int id, int count) {
  const io *g = arg;
  const state *s = g->s;
  float *v = g->scratch + id * winograd_thread_floats(s), *m = v + s->points * s->v_point, *u = m + s->points * s->m_point;
  int64_t other = s->points * s->u_point; // from one U to the other
  walk w;
  if (!walk_begin(s, id, count, &w)) return;
  evaluation now = evaluation_of(g, &w, u);
  evaluate_to(s, &now, now.C);
  for (bool more = true; more;) {
    walk next = w;
    more = walk_on(s, &next);
    evaluation ahead = {0};
    if (more) ahead = evaluation_of(g, &next, now.u == u ? u + other : u);
    int64_t nt = s->parts->T - w.t0 < s->block ? s->parts->T - w.t0 : s->block;
    if (w.k == w.k0)
      ISA(winograd_gather)(s->alpha, &s->parts->image, g->x, w.t0, nt, w.c0 / VW, (w.c1 + VW - 1) / VW, v, s->block, s->v_point);
    multiply(s, &w, nt, v, now.u, m, &ahead);
    if (w.c1 == s->C && w.k + s->panel >= w.k1) ISA(winograd_interpolate)(g, w.t0, nt, w.k0, w.k1, m);
    w = next, now = ahead;
  }
}

// --- choice -------------------------------------------------------------------------------------------------------------------------

enum { MOST_TILES = 80, MOST_CHANNELS = 80 };

// As many tiles as share an evaluation of the weights and as many panels as share one of the tiles as can be; M, which is read and written
// once a block of channels, may be larger than the second cache. V and two U of a block of channels are not: the fewer channels, the
// more often M moves.
void ISA(winograd_choose_blocks)(state *s) {
  int64_t threads = s->problem.threads, l2 = s->problem.l2_bytes, T = s->parts->T;
  int64_t share = (s->VK + threads - 1) / threads, blocks = (T + MOST_TILES - 1) / MOST_TILES;
  s->panel = share < 2 ? 1 : 2;
  s->block = (T + blocks - 1) / blocks;
  int64_t groups = (s->points * share * s->block * VW * 4 + 2 * l2 - 1) / (2 * l2);
  s->chunk = round_up((share + groups - 1) / groups, s->panel);
  int64_t channel = s->points * s->phases * (s->block + 2 * s->panel * VW) * 4, most = l2 * 3 / 4 / (channel * VW) * VW;
  most = most > MOST_CHANNELS ? MOST_CHANNELS : most < VW ? VW : most;
  int64_t c_blocks = (s->C + most - 1) / most;
  s->c_block = (s->VC + c_blocks - 1) / c_blocks * VW;
  s->v_point = winograd_point(s->phases * s->c_block * s->block);
  s->u_point = winograd_point(s->phases * s->c_block * s->panel * VW);
  s->m_point = winograd_point(s->chunk * s->block * VW);
  s->keep = s->problem.weights_constant && T <= 128; // with more tiles packing is a small part
  s->direct = !s->problem.weights_constant && s->block == T;
}

// Two multiply-adds a cycle, and a little for sums that come and go; an evaluated weight is stored in 2.5 cycles, where products hide some
// of it, and in 7 where there are too few of them, beside two multiply-adds of AVX-512; fewer than four rows wait for their own sums.
double ISA(winograd_channels_cost)(const state *s) {
  double tiles = (double)s->block, rows = tiles < 4 ? 4 : tiles, blocks = (double)((s->parts->T + s->block - 1) / s->block);
  double weights = (double)(s->phases * s->C * s->VK), multiplied = 0.57 * rows * (1.05 + 5.0 / (double)(s->phases * s->c_block)) + 2.5;
  double evaluated = 4.5 * tiles / (double)(VW * s->chunk), taps = (double)(s->problem.size.kh * s->problem.size.kw);
  double pack = s->keep ? 0 : (s->direct ? 5.0 : 10.0) * taps;
  if (VW == 16 && !s->problem.half_rate && multiplied < 7) multiplied = 7;
  double cycles = weights * (blocks * s->points * (multiplied + evaluated) + pack);
  return 20000 + 2 * cycles + 6.5 * s->points * (double)(s->parts->T * s->VK);
}
