// attention forward [Dao22, algorithm 1; Rabe21]: for a tile of queries, key tiles one after another with a running maximum and sum.
// A query's result does not depend on the tiles of queries, so neither on threads.
#include "ops/attention_tile.h"
#include "ops/isa.h"

typedef struct attention_state {
  attention_shape s;
  int64_t thread_floats;
} attention_state;

typedef struct attention_job {
  const attention_state *state;
  const float *q, *k, *v, *bias;
  float *y, *lse, *scratch;
} attention_job;

typedef struct attention_buffers {
  float *q;            // (q_block,dp), scaled
  float *keys;         // (d,k_block)
  float *values;       // (k_block,dp)
  float *score;        // (q_block,k_block)
  float *sum;          // (q_block,dp): of exp(score - most) v
  float *most, *total; // (q_block)
} attention_buffers;

static int64_t layout(const attention_shape *s, float *base, attention_buffers *b) {
  int64_t used = 0;
  b->q = take_floats(base, &used, s->q_block * s->dp);
  b->keys = take_floats(base, &used, s->d * s->k_block);
  b->values = take_floats(base, &used, s->k_block * s->dp);
  b->score = take_floats(base, &used, s->q_block * s->k_block);
  b->sum = take_floats(base, &used, s->q_block * s->dp);
  b->most = take_floats(base, &used, s->q_block);
  b->total = take_floats(base, &used, s->q_block);
  return used;
}

// score -> exp(score - most) with the maximum of everything seen so far; sum and total are brought to it
static void softmax_tile(const attention_shape *s, const attention_buffers *t, int64_t nq) {
  for (int64_t i = 0; i < nq; i++) {
    float *row = t->score + i * s->k_block, *sum = t->sum + i * s->dp;
    vfloat m = vload(row);
    for (int64_t j = VW; j < s->k_block; j += VW) m = vmax(m, vload(row + j));
    float tile_most = vmax_lanes(m), most = t->most[i] > tile_most ? t->most[i] : tile_most;
    float about = most == -INFINITY ? 0.0f : most; // nothing to be seen: all terms are 0
    if (most != t->most[i]) {
      float fade = t->most[i] == -INFINITY ? 0.0f : expf(t->most[i] - about);
      for (int64_t c = 0; c < s->dp; c += VW) vstore(sum + c, fade * vload(sum + c));
      t->total[i] *= fade, t->most[i] = most;
    }
    vfloat total = {0};
    for (int64_t j = 0; j < s->k_block; j += VW) {
      vfloat p = vexp(vload(row + j) - about);
      vstore(row + j, p);
      total += p;
    }
    t->total[i] += vsum(total);
  }
}

static void attend(const attention_job *j, const attention_buffers *t, int64_t item) {
  const attention_shape *s = &j->state->s;
  int64_t b = item / (s->heads * s->q_tiles), h = item / s->q_tiles % s->heads, q0 = item % s->q_tiles * s->q_block;
  int64_t nq = s->nq - q0 < s->q_block ? s->nq - q0 : s->q_block, rows = round_up(nq, TILE_ROWS);
  pack_rows(s, j->q + (b * s->nq + q0) * s->width + h * s->d, nq, rows, s->scale, t->q);
  memset(t->sum, 0, (size_t)(rows * s->dp) * sizeof *t->sum);
  for (int64_t i = 0; i < rows; i++) t->most[i] = -INFINITY, t->total[i] = 0;
  for (int64_t k0 = 0; k0 < s->nk && tile_visible(s, q0, nq, k0); k0 += s->k_block) {
    int64_t nk = s->nk - k0 < s->k_block ? s->nk - k0 : s->k_block;
    const int64_t at = (b * s->nk + k0) * s->width + h * s->d;
    pack_columns(s, j->k + at, nk, s->k_block, t->keys);
    tile_product(rows, s->k_block, s->d, t->q, s->dp, 1, t->keys, s->k_block, t->score, s->k_block, false);
    mask_scores(s, j->bias, b, h, q0, nq, k0, nk, t->score);
    softmax_tile(s, t, nq);
    pack_rows(s, j->v + at, nk, nk, 1.0f, t->values);
    tile_product(rows, s->dp, nk, t->score, s->k_block, 1, t->values, s->dp, t->sum, s->dp, true);
  }
  for (int64_t i = 0; i < nq; i++) {
    float total = t->total[i], inverse = total == 0 ? 0.0f : 1.0f / total, *y = j->y + (b * s->nq + q0 + i) * s->width + h * s->d;
    for (int64_t c = 0; c < s->d; c += VW) vstore_upto(y + c, inverse * vload(t->sum + i * s->dp + c), s->d - c);
    j->lse[(b * s->heads + h) * s->nq + q0 + i] = total == 0 ? -INFINITY : t->most[i] + logf(total);
  }
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

static elbo_status attention_prepare(compile_env *env, const node *n, kernel *k) {
  attention_state *state;
  attention_buffers t;
  TRY(kernel_state_new(env, k, sizeof *state, &state));
  attention_shape_of(n, &state->s);
  // smaller tiles of queries when there are fewer than threads
  attention_shape *s = &state->s;
  while (s->q_block > 16 && s->batch * s->heads * s->q_tiles < 2 * pool_threads(env->pool)) {
    s->q_block = round_up(s->q_block / 2, TILE_ROWS);
    s->q_tiles = (s->nq + s->q_block - 1) / s->q_block;
  }
  state->thread_floats = layout(s, NULL, &t);
  k->scratch_bytes = (size_t)(pool_threads(env->pool) * state->thread_floats) * sizeof(float);
  k->name = "own:attention." ISA_TEXT;
  k->run = attention_run;
  return ELBO_OK;
}

const cpu_op ISA(attention_cpu) = {attention_prepare};
