// attention backward [Dao22, algorithm 4]: tiles of scores are made again from q, k and the forward pass's log-sum-exp.
//   p = exp(score - lse),  dp = dy v^T,  ds = p (dp - <y, dy>),  dv = p^T dy,  dk = ds^T (scale q),  dq = scale ds k
// With enough heads a thread takes whole ones and makes each tile once; otherwise one pass over key tiles gives dk and dv, another
// over query tiles dq. Both add in the same order, so threads change no bit.
#include "ops/attention_tile.h"
#include "ops/isa.h"

// Queries of a tile, whatever the threads: sums over queries are taken tile by tile. Half a megabyte or so of packed queries.
static int64_t grad_queries(const node *n) {
  const attention_attr *a = n->attr;
  return n->in[0]->shape.dim[2] / a->heads <= 256 ? 128 : 64;
}

typedef struct attention_grad_state {
  attention_shape s;
  bool whole_heads;
  bool pairs;  // rows of two queries, interleaved (gemm_pairs): where whole vectors of channels would be half empty
  int64_t row; // channels of a packed row, or of two in turn: whole vectors. Rows lie in panels of GEMM_NR
  int64_t thread_floats;
} attention_grad_state;

typedef struct attention_grad_job {
  const attention_grad_state *state;
  const float *q, *k, *v, *bias, *y, *lse, *dy;
  float *dq, *dk, *dv, *dbias;
  float *along;   // (B,heads,Nq): <y, dy>
  float *scratch; // per thread
} attention_grad_job;

typedef struct grad_buffers {
  float *q, *dy;           // lanes; q times scale log2(e)
  float *q_rows, *dy_rows; // panels; q times scale
  float *lse, *along;      // (q_block); lse in units of log 2, infinity where a query sees nothing or there is none
  float *keys, *values;    // packed
  float *p, *ds;           // (TILE_KEYS,GEMM_LD)
  float *dq;               // lanes
  float *dk, *dv;          // panels of a tile of keys, or of all tiles
  float *factor;           // (q_block): scale
} grad_buffers;

static int64_t padded_row(const attention_grad_state *state) { return round_up(state->row, GEMM_NR); }

static int64_t layout(const attention_grad_state *state, float *base, grad_buffers *t) {
  const attention_shape *s = &state->s;
  int64_t used = 0, keys = state->whole_heads ? s->nk : TILE_KEYS;
  t->q = take_floats(base, &used, s->d * s->q_block);
  t->dy = take_floats(base, &used, s->d * s->q_block);
  t->q_rows = take_floats(base, &used, s->q_block * padded_row(state));
  t->dy_rows = take_floats(base, &used, s->q_block * padded_row(state));
  t->lse = take_floats(base, &used, s->q_block);
  t->along = take_floats(base, &used, s->q_block);
  t->keys = take_floats(base, &used, packed_keys_floats(s));
  t->values = take_floats(base, &used, packed_keys_floats(s));
  t->p = take_floats(base, &used, TILE_KEYS * GEMM_LD);
  t->ds = take_floats(base, &used, TILE_KEYS * GEMM_LD);
  t->dq = take_floats(base, &used, s->d * s->q_block);
  t->dk = take_floats(base, &used, keys * padded_row(state));
  t->dv = take_floats(base, &used, keys * padded_row(state));
  t->factor = take_floats(base, &used, s->q_block);
  return used;
}

typedef float quad __attribute__((vector_size(16), aligned(4), may_alias));

// to (row/GEMM_NR,q_block,GEMM_NR): n tokens; zeros behind their channels
static void pack_rows(const attention_grad_state *state, const float *x, int64_t n, float factor, float *to) {
  const attention_shape *s = &state->s;
  for (int64_t c = 0; c < state->row; c += VW) {
    float *panel = to + c / GEMM_NR * GEMM_NR * s->q_block + c % GEMM_NR;
    for (int64_t i = 0; i < n; i++) vstore(panel + i * GEMM_NR, factor * vload_upto(x + i * s->width + c, s->d - c));
  }
}

// to (row/GEMM_NR,q_block/2,GEMM_NR): the same in pairs, channels of two tokens in turn; zeros in place of a missing second one
static void pack_pairs(const attention_grad_state *state, const float *x, int64_t n, float factor, float *to) {
  const attention_shape *s = &state->s;
  for (int64_t c = 0; c < state->row / 2; c += 4) {
    float *panel = to + 2 * c / GEMM_NR * GEMM_NR * (s->q_block / 2) + 2 * c % GEMM_NR;
    for (int64_t i = 0; i < n; i += 2, panel += GEMM_NR) {
      const float *a = x + i * s->width + c, *b = a + s->width;
      quad l = {0}, r = {0};
      if (c + 4 <= s->d && i + 1 < n) {
        l = *(const quad *)a, r = *(const quad *)b;
      } else {
        for (int64_t e = 0; e < 4 && c + e < s->d; e++) l[e] = a[e], r[e] = i + 1 < n ? b[e] : 0;
      }
      *(quad *)panel = factor * __builtin_shufflevector(l, r, 0, 4, 1, 5);
      *(quad *)(panel + 4) = factor * __builtin_shufflevector(l, r, 2, 6, 3, 7);
    }
  }
}

static void pack_queries(const attention_grad_job *j, const grad_buffers *t, const tile_place *at) {
  const attention_shape *s = &j->state->s;
  int64_t from = (at->b * s->nq + at->q0) * s->width + at->h * s->d, row0 = (at->b * s->heads + at->h) * s->nq + at->q0;
  pack_lanes(s, j->q + from, at->nq, s->scale * LOG2_E, t->q);
  pack_lanes(s, j->dy + from, at->nq, 1.0f, t->dy);
  (j->state->pairs ? pack_pairs : pack_rows)(j->state, j->q + from, at->nq, s->scale, t->q_rows);
  (j->state->pairs ? pack_pairs : pack_rows)(j->state, j->dy + from, at->nq, 1.0f, t->dy_rows);
  for (int64_t i = 0; i < s->q_block; i++) {
    float lse = i < at->nq ? j->lse[row0 + i] : INFINITY; // 2^(score - infinity) = 0
    t->lse[i] = lse == -INFINITY ? INFINITY : LOG2_E * lse;
    t->along[i] = i < at->nq ? j->along[row0 + i] : 0;
    t->factor[i] = s->scale;
  }
}

static void pack_tile_keys(const attention_grad_job *j, const grad_buffers *t, const tile_place *at) {
  const attention_shape *s = &j->state->s;
  int64_t from = (at->b * s->nk + at->k0) * s->width + at->h * s->d;
  pack_keys(s, j->k + from, at->nk, t->keys);
  pack_keys(s, j->v + from, at->nk, t->values);
}

// p and ds of a tile whose queries and keys are packed; columns without a query, up to a whole vector, are 0
static void make_tile(const attention_grad_job *j, const grad_buffers *t, const tile_place *at) {
  const attention_shape *s = &j->state->s;
  for (int64_t i = 0; i < at->nq; i += TILE_LANES) {
    int64_t n = at->nq - i < TILE_LANES ? at->nq - i : TILE_LANES;
    scores(s, at->nk, n, t->keys, lanes_at(s, t->q, i), t->p + i, GEMM_LD);
    scores(s, at->nk, n, t->values, lanes_at(s, t->dy, i), t->ds + i, GEMM_LD);
    if (j->bias || s->causal) mask_scores(s, j->bias, at, i, n, t->p + i, GEMM_LD);
  }
  for (int64_t i = 0; i < at->nq; i += VW) {
    vfloat lse = vload(t->lse + i), along = vload(t->along + i);
    float *p_at = t->p + i, *ds_at = t->ds + i;
    for (int64_t r = 0; r < at->nk; r++, p_at += GEMM_LD, ds_at += GEMM_LD) {
      vfloat p = vexp2_below(vload(p_at) - lse);
      vstore(p_at, p);
      vstore(ds_at, p * (vload(ds_at) - along));
    }
  }
}

// to (row/GEMM_NR,nk,GEMM_NR) += a^T rows, over the queries of the tile; a is p or ds
static void add_rows(const attention_grad_state *state, const float *a, const float *rows, const tile_place *at, float *to) {
  const bool pairs = state->pairs;
  int tiles = gemm_tiles(at->nk), height = (int)at->nk / tiles, longer = (int)at->nk % tiles;
  for (int64_t c = 0; c < state->row; c += GEMM_NR, rows += GEMM_NR * state->s.q_block / (pairs ? 2 : 1))
    for (int64_t i = 0, r = 0; i < tiles; i++, to += GEMM_NR * height) {
      const float *from = a + r * GEMM_LD;
      int now = height + (i < longer), vectors = state->row - c > VW ? 2 : 1;
      if (pairs)
        ISA(gemm_pairs)(now, vectors, round_up(at->nq, 2), from, rows, GEMM_NR, to, GEMM_NR);
      else
        ISA(gemm_rows)(now, vectors, at->nq, from, rows, GEMM_NR, to, GEMM_NR, true);
      r += now;
      to += GEMM_NR * (now - height);
    }
}

// dk, dv of the tile of keys += from the tile of queries
static void add_keys(const attention_grad_job *j, const grad_buffers *t, const tile_place *at, float *dk, float *dv) {
  add_rows(j->state, t->p, t->dy_rows, at, dv);
  add_rows(j->state, t->ds, t->q_rows, at, dk);
}

static void add_queries(const attention_shape *s, const grad_buffers *t, const tile_place *at) {
  for (int64_t i = 0; i < at->nq; i += TILE_LANES)
    keys_product(s, at->nk, at->nq - i < TILE_LANES ? at->nq - i : TILE_LANES, t->keys, t->ds + i, GEMM_LD, lanes_at(s, t->dq, i), true);
}

static void clear(float *x, int64_t n) { memset(x, 0, (size_t)n * sizeof *x); }

static void unpack_rows(const attention_grad_state *state, const float *from, int64_t n, float *to) {
  const attention_shape *s = &state->s;
  for (int64_t c = 0; c < state->row; c += GEMM_NR)
    for (int64_t r = 0; r < n; r++, from += GEMM_NR) {
      float *x = to + r * s->width;
      if (!state->pairs)
        copy_floats(x + c, from, s->d - c < GEMM_NR ? s->d - c : GEMM_NR);
      else
        for (int64_t e = 0; e < GEMM_NR / 2 && c / 2 + e < s->d; e++) x[c / 2 + e] = from[2 * e] + from[2 * e + 1];
    }
}

static void store_keys(const attention_grad_job *j, const tile_place *at, const float *dk, const float *dv) {
  const attention_shape *s = &j->state->s;
  int64_t to = (at->b * s->nk + at->k0) * s->width + at->h * s->d;
  unpack_rows(j->state, dk, at->nk, j->dk + to);
  unpack_rows(j->state, dv, at->nk, j->dv + to);
}

static void store_queries(const attention_grad_job *j, const grad_buffers *t, const tile_place *at) {
  const attention_shape *s = &j->state->s;
  unpack_lanes(s, t->dq, at->nq, t->factor, j->dq + (at->b * s->nq + at->q0) * s->width + at->h * s->d);
}

// One tile of queries against all keys: dq, and with `keys_too` its share of dk and dv of the whole head.
static void sweep_keys(const attention_grad_job *j, const grad_buffers *t, tile_place *at, bool keys_too) {
  const attention_shape *s = &j->state->s;
  int64_t row = padded_row(j->state);
  pack_queries(j, t, at);
  clear(t->dq, s->d * s->q_block);
  for (int64_t tile = 0; tile < s->k_tiles; tile++) {
    place_keys(s, at, tile);
    if (!tile_visible(s, at)) break;
    pack_tile_keys(j, t, at);
    make_tile(j, t, at);
    add_queries(s, t, at);
    if (keys_too) add_keys(j, t, at, t->dk + at->k0 * row, t->dv + at->k0 * row);
  }
  store_queries(j, t, at);
}

static void gradient_head(const attention_grad_job *j, const grad_buffers *t, int64_t item) {
  const attention_shape *s = &j->state->s;
  tile_place at = {.b = item / s->heads, .h = item % s->heads};
  clear(t->dk, s->nk * padded_row(j->state));
  clear(t->dv, s->nk * padded_row(j->state));
  for (int64_t tile = 0; tile < s->q_tiles; tile++) {
    place_queries(s, &at, tile);
    sweep_keys(j, t, &at, true);
  }
  for (int64_t tile = 0; tile < s->k_tiles; tile++) {
    place_keys(s, &at, tile);
    store_keys(j, &at, t->dk + at.k0 * padded_row(j->state), t->dv + at.k0 * padded_row(j->state));
  }
}

static void gradient_keys(const attention_grad_job *j, const grad_buffers *t, int64_t item) {
  const attention_shape *s = &j->state->s;
  tile_place at = {.b = item / (s->heads * s->k_tiles), .h = item / s->k_tiles % s->heads};
  place_keys(s, &at, item % s->k_tiles);
  pack_tile_keys(j, t, &at);
  clear(t->dk, TILE_KEYS * padded_row(j->state));
  clear(t->dv, TILE_KEYS * padded_row(j->state));
  for (int64_t tile = 0; tile < s->q_tiles; tile++) {
    place_queries(s, &at, tile);
    if (!tile_visible(s, &at)) continue;
    pack_queries(j, t, &at);
    make_tile(j, t, &at);
    add_keys(j, t, &at, t->dk, t->dv);
  }
  store_keys(j, &at, t->dk, t->dv);
}

static void gradient_queries(const attention_grad_job *j, const grad_buffers *t, int64_t item) {
  const attention_shape *s = &j->state->s;
  tile_place at = {.b = item / (s->heads * s->q_tiles), .h = item / s->q_tiles % s->heads};
  place_queries(s, &at, item % s->q_tiles);
  sweep_keys(j, t, &at, false);
}

// One part of bias that no other item touches: all images, heads and query tiles over which it is broadcast.
static void gradient_bias(const attention_grad_job *j, const grad_buffers *t, int64_t item) {
  const attention_shape *s = &j->state->s;
  const int64_t *dim = s->bias_dim, *stride = s->bias_stride;
  int64_t tiles = dim[2] == 1 ? 1 : s->q_tiles, tile0 = item % tiles, h0 = item / tiles % dim[1], b0 = item / (tiles * dim[1]);
  tile_place at;
  for (at.b = b0; at.b < (dim[0] == 1 ? s->batch : b0 + 1); at.b++)
    for (at.h = h0; at.h < (dim[1] == 1 ? s->heads : h0 + 1); at.h++)
      for (int64_t tile = tile0; tile < (dim[2] == 1 ? s->q_tiles : tile0 + 1); tile++) {
        place_queries(s, &at, tile);
        pack_queries(j, t, &at);
        for (int64_t key = 0; key < s->k_tiles; key++) {
          place_keys(s, &at, key);
          if (!tile_visible(s, &at)) continue;
          pack_tile_keys(j, t, &at);
          make_tile(j, t, &at);
          for (int64_t i = 0; i < at.nq; i++) {
            float *to = j->dbias + at.b * stride[0] + at.h * stride[1] + (at.q0 + i) * stride[2] + at.k0 * stride[3];
            for (int64_t c = 0; c < at.nk; c++) to[c * stride[3]] += t->ds[c * GEMM_LD + i];
          }
        }
      }
}

typedef struct sweep {
  const attention_grad_job *job;
  void (*fn)(const attention_grad_job *j, const grad_buffers *t, int64_t item);
  int64_t items;
} sweep;

static void sweep_items(void *arg, int id, int count) {
  const sweep *w = arg;
  grad_buffers t;
  int64_t begin, end;
  layout(w->job->state, w->job->scratch + id * w->job->state->thread_floats, &t);
  split_range(w->items, id, count, &begin, &end);
  for (int64_t i = begin; i < end; i++) w->fn(w->job, &t, i);
}

// <y, dy> of VW tokens of one head
static vfloat inner_product(const attention_shape *s, const float *y, const float *dy) {
  vfloat part[4] = {{0}}, turned[4];
  int64_t c = 0;
  for (; c + 4 <= s->d; c += 4)
    for (int i = 0; i < 4; i++) part[i] += load_quads(y + i * s->width + c, 4 * s->width) * load_quads(dy + i * s->width + c, 4 * s->width);
  transpose4(part, turned);
  vfloat sum = (turned[0] + turned[1]) + (turned[2] + turned[3]);
  for (; c < s->d; c++)
    for (int l = 0; l < VW; l++) sum[l] += y[l * s->width + c] * dy[l * s->width + c];
  return sum;
}

static void inner_products(void *arg, int64_t begin, int64_t end) {
  const attention_grad_job *j = arg;
  const attention_shape *s = &j->state->s;
  for (int64_t i = begin; i < end; i++) { // (b, h)
    int64_t from = i / s->heads * s->nq * s->width + i % s->heads * s->d, n = 0;
    for (; n + VW <= s->nq; n += VW)
      vstore(j->along + i * s->nq + n, inner_product(s, j->y + from + n * s->width, j->dy + from + n * s->width));
    for (; n < s->nq; n++) {
      float sum = 0;
      for (int64_t c = 0; c < s->d; c++) sum += j->y[from + n * s->width + c] * j->dy[from + n * s->width + c];
      j->along[i * s->nq + n] = sum;
    }
  }
}

static elbo_status attention_grad_run(const kernel *k, const kernel_args *a) {
  attention_grad_job j = {.state = k->state, .q = a->in[0], .k = a->in[1], .v = a->in[2], .bias = a->in[3]};
  const attention_shape *s = &j.state->s;
  j.y = a->in[4], j.lse = a->in[5], j.dy = a->in[6];
  j.dq = a->out[0], j.dk = a->out[1], j.dv = a->out[2], j.dbias = a->out[3];
  j.along = a->scratch;
  j.scratch = j.along + round_up(s->batch * s->heads * s->nq, 16);
  int64_t heads = s->batch * s->heads;
  parallel_for(a->pool, heads, 16384 / (s->nq * s->d) + 1, inner_products, &j);
  if (j.state->whole_heads) {
    parallel_run(a->pool, sweep_items, &(sweep){&j, gradient_head, heads});
  } else {
    parallel_run(a->pool, sweep_items, &(sweep){&j, gradient_keys, heads * s->k_tiles});
    parallel_run(a->pool, sweep_items, &(sweep){&j, gradient_queries, heads * s->q_tiles});
  }
  if (!j.dbias) return ELBO_OK;
  int64_t parts = s->bias_dim[0] * s->bias_dim[1] * (s->bias_dim[2] == 1 ? 1 : s->q_tiles);
  clear(j.dbias, s->want_dbias ? s->bias_dim[0] * s->bias_dim[1] * s->bias_dim[2] * s->bias_dim[3] : 1);
  if (s->want_dbias) parallel_run(a->pool, sweep_items, &(sweep){&j, gradient_bias, parts});
  return ELBO_OK;
}

static elbo_status attention_grad_prepare(compile_env *env, const node *n, kernel *k) {
  attention_grad_state *state;
  grad_buffers t;
  TRY(kernel_state_new(env, k, sizeof *state, &state));
  attention_shape_of(n, grad_queries(n), &state->s);
  const attention_shape *s = &state->s;
  state->pairs = VW > 4 && round_up(s->d, VW / 2) < round_up(s->d, VW);
  state->row = state->pairs ? 2 * round_up(s->d, VW / 2) : round_up(s->d, VW);
  int64_t threads = pool_threads(env->pool), heads = s->batch * s->heads;
  // heads that do not come out even leave threads idle; the second way makes the scores twice (7 products for 5)
  state->whole_heads = (heads + threads - 1) / threads * threads * 5 <= heads * 7;
  state->thread_floats = layout(state, NULL, &t);
  k->scratch_bytes = (size_t)(round_up(heads * s->nq, 16) + threads * state->thread_floats) * sizeof(float);
  k->name = "own:attention_grad." ISA_TEXT;
  k->run = attention_grad_run;
  return ELBO_OK;
}

const cpu_op ISA(attention_grad_cpu) = {attention_grad_prepare};
