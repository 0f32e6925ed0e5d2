// attention backward [Dao22, algorithm 4]: tiles of scores are made again from q, k and the forward pass's log-sum-exp.
//   p = exp(score - lse),  dp = dy v^T,  ds = p (dp - <y, dy>),  dv = p^T dy,  dk = ds^T (scale q),  dq = scale ds k
// With enough heads a thread takes whole ones and makes each tile once; otherwise one pass over key tiles gives dk and dv, another
// over query tiles dq. Both add in the same order, so threads change no bit.
#include "ops/attention_tile.h"
#include "ops/isa.h"

typedef struct attention_grad_state {
  attention_shape s;
  bool whole_heads;
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
  float *q, *dy;        // (q_block,dp); q is scaled
  float *keys, *keys_t; // (k_block,dp), (d,k_block)
  float *values_t;      // (d,k_block)
  float *p, *ds;        // (q_block,k_block)
  float *dq, *dk, *dv;  // (Nq rounded up to tiles,dp), (k_block,dp), (k_block,dp)
} grad_buffers;

static int64_t layout(const attention_grad_state *state, float *base, grad_buffers *t) {
  const attention_shape *s = &state->s;
  int64_t used = 0;
  t->q = take_floats(base, &used, s->q_block * s->dp);
  t->dy = take_floats(base, &used, s->q_block * s->dp);
  t->keys = take_floats(base, &used, s->k_block * s->dp);
  t->keys_t = take_floats(base, &used, s->d * s->k_block);
  t->values_t = take_floats(base, &used, s->d * s->k_block);
  t->p = take_floats(base, &used, s->q_block * s->k_block);
  t->ds = take_floats(base, &used, s->q_block * s->k_block);
  t->dq = take_floats(base, &used, (state->whole_heads ? s->q_tiles : 1) * s->q_block * s->dp);
  t->dk = take_floats(base, &used, s->k_block * s->dp);
  t->dv = take_floats(base, &used, s->k_block * s->dp);
  return used;
}

typedef struct tile_place {
  int64_t b, h, q0, nq, rows, k0, nk;
} tile_place;

static void place_queries(const attention_shape *s, tile_place *at, int64_t tile) {
  at->q0 = tile * s->q_block;
  at->nq = s->nq - at->q0 < s->q_block ? s->nq - at->q0 : s->q_block;
  at->rows = round_up(at->nq, TILE_ROWS);
}

static void place_keys(const attention_shape *s, tile_place *at, int64_t tile) {
  at->k0 = tile * s->k_block;
  at->nk = s->nk - at->k0 < s->k_block ? s->nk - at->k0 : s->k_block;
}

static void pack_queries(const attention_grad_job *j, const grad_buffers *t, const tile_place *at) {
  const attention_shape *s = &j->state->s;
  int64_t from = (at->b * s->nq + at->q0) * s->width + at->h * s->d;
  pack_rows(s, j->q + from, at->nq, at->rows, s->scale, t->q);
  pack_rows(s, j->dy + from, at->nq, at->rows, 1.0f, t->dy);
}

static void pack_keys(const attention_grad_job *j, const grad_buffers *t, const tile_place *at) {
  const attention_shape *s = &j->state->s;
  int64_t from = (at->b * s->nk + at->k0) * s->width + at->h * s->d;
  pack_rows(s, j->k + from, at->nk, s->k_block, 1.0f, t->keys);
  pack_columns(s, j->k + from, at->nk, s->k_block, t->keys_t);
  pack_columns(s, j->v + from, at->nk, s->k_block, t->values_t);
}

// p and ds of a tile whose queries and keys are packed; rows without a query are 0
static void make_tile(const attention_grad_job *j, const grad_buffers *t, const tile_place *at) {
  const attention_shape *s = &j->state->s;
  int64_t kb = s->k_block, row0 = (at->b * s->heads + at->h) * s->nq + at->q0;
  tile_product(at->rows, kb, s->d, t->q, s->dp, 1, t->keys_t, kb, t->p, kb, false);
  tile_product(at->rows, kb, s->d, t->dy, s->dp, 1, t->values_t, kb, t->ds, kb, false);
  mask_scores(s, j->bias, at->b, at->h, at->q0, at->nq, at->k0, at->nk, t->p);
  for (int64_t i = 0; i < at->rows; i++) {
    float lse = i < at->nq ? j->lse[row0 + i] : INFINITY, along = i < at->nq ? j->along[row0 + i] : 0;
    if (lse == -INFINITY) lse = INFINITY; // a query that sees nothing: exp(score - infinity) = 0
    for (int64_t c = 0; c < kb; c += VW) {
      vfloat p = vexp(vload(t->p + i * kb + c) - lse);
      vstore(t->p + i * kb + c, p);
      vstore(t->ds + i * kb + c, p * (vload(t->ds + i * kb + c) - along));
    }
  }
}

// dk and dv of the tile of keys, from the tile of queries
static void add_keys(const attention_shape *s, const grad_buffers *t, const tile_place *at) {
  tile_product(s->k_block, s->dp, at->nq, t->p, 1, s->k_block, t->dy, s->dp, t->dv, s->dp, true);
  tile_product(s->k_block, s->dp, at->nq, t->ds, 1, s->k_block, t->q, s->dp, t->dk, s->dp, true);
}

static void clear(float *x, int64_t n) { memset(x, 0, (size_t)n * sizeof *x); }

static void unpack_rows(const attention_shape *s, const float *from, int64_t n, float factor, float *to) {
  for (int64_t r = 0; r < n; r++)
    for (int64_t c = 0; c < s->d; c += VW) vstore_upto(to + r * s->width + c, factor * vload(from + r * s->dp + c), s->d - c);
}

static void store_keys(const attention_grad_job *j, const grad_buffers *t, const tile_place *at) {
  const attention_shape *s = &j->state->s;
  int64_t to = (at->b * s->nk + at->k0) * s->width + at->h * s->d;
  unpack_rows(s, t->dk, at->nk, 1.0f, j->dk + to);
  unpack_rows(s, t->dv, at->nk, 1.0f, j->dv + to);
}

// One tile of keys: dk and dv; when dq is not NULL (q_tiles of (q_block,dp)) its share of dq too.
static void sweep_queries(const attention_grad_job *j, const grad_buffers *t, tile_place *at, float *dq) {
  const attention_shape *s = &j->state->s;
  pack_keys(j, t, at);
  clear(t->dk, s->k_block * s->dp);
  clear(t->dv, s->k_block * s->dp);
  for (int64_t tile = 0; tile < s->q_tiles; tile++) {
    place_queries(s, at, tile);
    if (!tile_visible(s, at->q0, at->nq, at->k0)) continue;
    pack_queries(j, t, at);
    make_tile(j, t, at);
    add_keys(s, t, at);
    if (dq) tile_product(at->rows, s->dp, at->nk, t->ds, s->k_block, 1, t->keys, s->dp, dq + tile * s->q_block * s->dp, s->dp, true);
  }
  store_keys(j, t, at);
}

static void gradient_head(const attention_grad_job *j, const grad_buffers *t, int64_t item) {
  const attention_shape *s = &j->state->s;
  tile_place at = {.b = item / s->heads, .h = item % s->heads};
  clear(t->dq, s->q_tiles * s->q_block * s->dp);
  for (int64_t tile = 0; tile < s->k_tiles; tile++) {
    place_keys(s, &at, tile);
    sweep_queries(j, t, &at, t->dq);
  }
  unpack_rows(s, t->dq, s->nq, s->scale, j->dq + at.b * s->nq * s->width + at.h * s->d);
}

static void gradient_keys(const attention_grad_job *j, const grad_buffers *t, int64_t item) {
  const attention_shape *s = &j->state->s;
  tile_place at = {.b = item / (s->heads * s->k_tiles), .h = item / s->k_tiles % s->heads};
  place_keys(s, &at, item % s->k_tiles);
  sweep_queries(j, t, &at, NULL);
}

static void gradient_queries(const attention_grad_job *j, const grad_buffers *t, int64_t item) {
  const attention_shape *s = &j->state->s;
  tile_place at = {.b = item / (s->heads * s->q_tiles), .h = item / s->q_tiles % s->heads};
  place_queries(s, &at, item % s->q_tiles);
  pack_queries(j, t, &at);
  clear(t->dq, at.rows * s->dp);
  for (int64_t tile = 0; tile < s->k_tiles; tile++) {
    place_keys(s, &at, tile);
    if (!tile_visible(s, at.q0, at.nq, at.k0)) continue;
    pack_keys(j, t, &at);
    make_tile(j, t, &at);
    tile_product(at.rows, s->dp, at.nk, t->ds, s->k_block, 1, t->keys, s->dp, t->dq, s->dp, true);
  }
  unpack_rows(s, t->dq, at.nq, s->scale, j->dq + (at.b * s->nq + at.q0) * s->width + at.h * s->d);
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
          if (!tile_visible(s, at.q0, at.nq, at.k0)) continue;
          pack_keys(j, t, &at);
          make_tile(j, t, &at);
          for (int64_t i = 0; i < at.nq; i++) {
            float *to = j->dbias + at.b * stride[0] + at.h * stride[1] + (at.q0 + i) * stride[2] + at.k0 * stride[3];
            for (int64_t c = 0; c < at.nk; c++) to[c * stride[3]] += t->ds[i * s->k_block + c];
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

static void inner_products(void *arg, int64_t begin, int64_t end) {
  const attention_grad_job *j = arg;
  const attention_shape *s = &j->state->s;
  for (int64_t i = begin; i < end; i++) { // (b, query)
    for (int64_t h = 0; h < s->heads; h++) {
      const float *y = j->y + i * s->width + h * s->d, *dy = j->dy + i * s->width + h * s->d;
      vfloat sum = {0};
      for (int64_t c = 0; c < s->d; c += VW) sum += vload_upto(y + c, s->d - c) * vload_upto(dy + c, s->d - c);
      j->along[(i / s->nq * s->heads + h) * s->nq + i % s->nq] = vsum(sum);
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
  parallel_for(a->pool, s->batch * s->nq, 16384 / s->width + 1, inner_products, &j);
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
  attention_shape_of(n, &state->s);
  const attention_shape *s = &state->s;
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
