// attention forward [Dao22, algorithm 1; Rabe21]: for a tile of queries, key tiles one after another with a running maximum and sum.
// A query has a lane to itself, so its result depends neither on the tiles of queries nor on threads.
#include "ops/attention_tile.h"
#include "ops/isa.h"

typedef struct attention_state {
  attention_shape s;
  bool heads_in_turn; // all heads of a tile of queries, then the next tile; else all tiles of a head
  int64_t thread_floats;
} attention_state;

// Heads share cache lines of tokens. The keys of all heads are kept in the second level of cache when they fit.
enum { CACHED_KEYS = 1 << 20 };

typedef struct attention_job {
  const attention_state *state;
  const float *q, *k, *v, *bias;
  float *y, *lse, *scratch;
} attention_job;

typedef struct attention_buffers {
  float *q;             // lanes, times scale log2(e)
  float *keys, *values; // packed
  float *score;         // (TILE_KEYS,TILE_LANES)
  float *sum;           // lanes: of 2^(score - most) v
  float *most, *total;  // (q_block)
} attention_buffers;

static int64_t layout(const attention_shape *s, float *base, attention_buffers *b) {
  int64_t used = 0;
  b->q = take_floats(base, &used, s->d * s->q_block);
  b->keys = take_floats(base, &used, packed_keys_floats(s));
  b->values = take_floats(base, &used, packed_keys_floats(s));
  b->score = take_floats(base, &used, TILE_KEYS * TILE_LANES);
  b->sum = take_floats(base, &used, s->d * s->q_block);
  b->most = take_floats(base, &used, s->q_block);
  b->total = take_floats(base, &used, s->q_block);
  return used;
}

// In the place of what was packed: pairs of channels of keys and of lanes of queries, pairs of tokens of values.
static void pair_keys(const attention_shape *s, int64_t n, float *keys) {
  for (int64_t c = 0; c < s->d; c += TILE_CHUNK, keys += TILE_KEYS * GEMM_LD)
    for (int64_t r = 0; r < n; r++) ISA(bf16_pair_elements)(keys + r * GEMM_LD, s->d - c < TILE_CHUNK ? s->d - c : TILE_CHUNK);
}
static void pair_values(const attention_shape *s, int64_t n, float *values) {
  for (int64_t c = 0; c < s->d; c += TILE_CHUNK, values += TILE_KEYS * GEMM_LD)
    ISA(bf16_pair_rows)(values, GEMM_LD, n, round_up(s->d - c < TILE_CHUNK ? s->d - c : TILE_CHUNK, VW), values, GEMM_LD);
}
static void pair_lanes(const attention_shape *s, int64_t n, float *lanes) {
  for (int64_t i = 0; i < n; i += TILE_LANES) {
    float *from = lanes_at(s, lanes, i);
    ISA(bf16_pair_rows)(from, TILE_LANES, s->d, TILE_LANES, from, TILE_LANES);
  }
}

// A maximum that is left behind by less than this stays: 2^8 overflows nothing, and the sums need not be scaled again.
static const float SLACK = 8;

// score (nk, one vector of queries) -> 2^(score - most); sum and total, of what was seen before, are brought to the same maximum
static void softmax_lanes(const attention_shape *s, int64_t nk, float *score, float *sum, float *most_at, float *total_at, bool first) {
  vfloat even = vsplat(-INFINITY), odd = even, most = vload(most_at), before = {0}, total = {0};
  for (int64_t r = 0; r + 1 < nk; r += 2) {
    even = vmax_number(even, vload(score + r * TILE_LANES));
    odd = vmax_number(odd, vload(score + (r + 1) * TILE_LANES));
  }
  if (nk & 1) even = vmax_number(even, vload(score + (nk - 1) * TILE_LANES));
  vfloat tile_most = vmax_number(even, odd);
  vint rises = tile_most > most + SLACK;
  vfloat now = vselect(rises, tile_most, most);
  vfloat about = vselect(now == -INFINITY, vsplat(0), now); // nothing to be seen: all terms are 0
  if (!first) {
    before = vload(total_at);
    if (vany(rises)) {
      vfloat fade = vexp2_below(most - about);
      for (int64_t c = 0; c < s->d; c++) vstore(sum + c * TILE_LANES, fade * vload(sum + c * TILE_LANES));
      before = fade * before;
    }
  }
  vstore(most_at, now);
  for (int64_t r = 0; r < nk; r += 1 + s->pairs) {
    vfloat p = vexp2_below(vload(score + r * TILE_LANES) - about);
    total += p;
    if (!s->pairs) {
      vstore(score + r * TILE_LANES, p);
      continue;
    }
    vfloat next = r + 1 < nk ? vexp2_below(vload(score + (r + 1) * TILE_LANES) - about) : (vfloat){0};
    total += next;
    vstore(score + r / 2 * TILE_LANES, bf16_pair(p, next));
  }
  vstore(total_at, before + total);
}

static void attend_tile(const attention_job *j, const attention_buffers *t, const tile_place *at, bool first) {
  const attention_shape *s = &j->state->s;
  for (int64_t i = 0; i < at->nq; i += TILE_LANES) {
    int64_t n = at->nq - i < TILE_LANES ? at->nq - i : TILE_LANES;
    scores(s, at->nk, n, t->keys, lanes_at(s, t->q, i), t->score, TILE_LANES);
    if (j->bias || s->causal) mask_scores(s, j->bias, at, i, n, t->score, TILE_LANES);
    float *sum = lanes_at(s, t->sum, i);
    for (int64_t l = 0; l < n; l += VW) softmax_lanes(s, at->nk, t->score + l, sum + l, t->most + i + l, t->total + i + l, first);
    keys_product(s, at->nk, n, t->values, t->score, TILE_LANES, sum, !first);
  }
}

static void finish(const attention_job *j, const attention_buffers *t, const tile_place *at) {
  const attention_shape *s = &j->state->s;
  int64_t token = at->b * s->nq + at->q0;
  for (int64_t i = 0; i < at->nq; i += VW) {
    vfloat total = vload(t->total + i), most = vload(t->most + i);
    vint none = most == -INFINITY;
    vstore(t->total + i, vselect(none, vsplat(0), 1.0f / total));
    vfloat lse = vselect(none, most, most * LN_2 + vlog(total));
    vstore_upto(j->lse + (at->b * s->heads + at->h) * s->nq + at->q0 + i, lse, at->nq - i);
  }
  unpack_lanes(s, t->sum, at->nq, t->total, j->y + token * s->width + at->h * s->d);
}

static void attend(const attention_job *j, const attention_buffers *t, int64_t item) {
  const attention_shape *s = &j->state->s;
  int64_t rest = item % (s->heads * s->q_tiles);
  tile_place at = {.b = item / (s->heads * s->q_tiles), .h = j->state->heads_in_turn ? rest % s->heads : rest / s->q_tiles};
  bool first = true;
  place_queries(s, &at, j->state->heads_in_turn ? rest / s->heads : rest % s->q_tiles);
  pack_lanes(s, j->q + (at.b * s->nq + at.q0) * s->width + at.h * s->d, at.nq, s->scale * LOG2_E, t->q);
  if (s->pairs) pair_lanes(s, at.nq, t->q);
  for (int64_t i = 0; i < s->q_block; i++) t->most[i] = -INFINITY, t->total[i] = 0;
  for (int64_t tile = 0; tile < s->k_tiles; tile++) {
    place_keys(s, &at, tile);
    if (!tile_visible(s, &at)) break;
    int64_t from = (at.b * s->nk + at.k0) * s->width + at.h * s->d;
    pack_keys(s, j->k + from, at.nk, t->keys);
    pack_keys(s, j->v + from, at.nk, t->values);
    if (s->pairs) pair_keys(s, at.nk, t->keys), pair_values(s, at.nk, t->values);
    attend_tile(j, t, &at, first);
    first = false;
  }
  if (first) memset(t->sum, 0, (size_t)(s->d * s->q_block) * sizeof *t->sum);
  finish(j, t, &at);
}

static void attend_items(void *arg, int id, int count) {
  const attention_job *j = arg;
  const attention_shape *s = &j->state->s;
  attention_buffers t;
  int64_t begin, end;
  layout(s, j->scratch + id * j->state->thread_floats, &t);
  split_range(s->batch * s->heads * s->q_tiles, id, count, &begin, &end);
  for (int64_t i = begin; i < end; i++) attend(j, &t, i);
}

static elbo_status attention_run(const kernel *k, const kernel_args *a) {
  attention_job j = {k->state, a->in[0], a->in[1], a->in[2], a->in[3], a->out[0], a->out[1], a->scratch};
  parallel_run(a->pool, attend_items, &j);
  return ELBO_OK;
}

// Many queries a tile, so that packing keys does not show: as many as fit, with their sums, in a third of the second cache. Fewer where
// threads would come away with nothing.
static int64_t most_queries(int64_t d, int64_t l2) {
  int64_t block = 2048;
  while (block > 256 && 2 * d * block * (int64_t)sizeof(float) > l2 / 3) block /= 2;
  return block;
}

static elbo_status attention_prepare(compile_env *env, const node *n, kernel *k) {
  attention_state *state;
  attention_buffers t;
  TRY(kernel_state_new(env, k, sizeof *state, &state));
  attention_shape *s = &state->s;
  int64_t threads = pool_threads(env->pool);
  attention_shape_of(n, TILE_LANES, s);
  int64_t block = most_queries(s->d, env->ctx->l2_bytes);
  attention_shape_of(n, block, s);
  while (block > TILE_LANES && threads > 1 && s->batch * s->heads * s->q_tiles < 4 * threads) {
    block /= 2;
    attention_shape_of(n, block, s);
  }
  s->pairs = env->bf16 && env->weights_constant && env->bf16_unit == BF16_FULL_RATE;
  state->heads_in_turn = 2 * s->nk * s->width * (int64_t)sizeof(float) <= CACHED_KEYS;
  state->thread_floats = layout(s, NULL, &t);
  k->scratch_bytes = (size_t)(threads * state->thread_floats) * sizeof(float);
  k->name = s->pairs ? "own:attention_bf16_dot." ISA_TEXT : "own:attention." ISA_TEXT;
  k->run = attention_run;
  return ELBO_OK;
}

const cpu_op ISA(attention_cpu) = {attention_prepare};
