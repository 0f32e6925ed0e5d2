// layer_norm and its gradient. A row stays in the first-level cache through its passes. dweight and dbias are summed in float32 over a few
// rows, then in double, in blocks of rows that the shape alone fixes.
#include "ops/isa.h"
#include "ops/norm.h"
#include "ops/vec_part.h"

enum { FLOAT_ROWS = 32, MAX_BLOCKS = 64 };

typedef struct layer_norm_state {
  int64_t rows, width, blocks;
  int64_t thread_floats;
  float eps;
} layer_norm_state;

typedef struct layer_norm_job {
  const layer_norm_state *s;
  const float *x, *weight, *bias, *dy, *mean_in, *rstd_in;
  float *y, *mean, *rstd, *dweight, *dbias;
  double *partial; // (blocks, 2, C)
  float *floats;   // per thread (2, C)
} layer_norm_job;

// sum of (x - shift)^power over n numbers, power 1 or 2
VEC_INLINE float row_sum(const float *x, int64_t n, float shift, const int power) {
  vfloat sum[4] = {{0}};
  int64_t i = 0;
  for (; i + 4 * VW <= n; i += 4 * VW)
    for (int v = 0; v < 4; v++) {
      vfloat d = vload(x + i + v * VW) - shift;
      sum[v] += power == 1 ? d : d * d;
    }
  for (; i + VW <= n; i += VW) {
    vfloat d = vload(x + i) - shift;
    sum[0] += power == 1 ? d : d * d;
  }
  float total = vsum((sum[0] + sum[1]) + (sum[2] + sum[3]));
  for (; i < n; i++) total += power == 1 ? x[i] - shift : (x[i] - shift) * (x[i] - shift);
  return total;
}

static void forward(void *arg, int64_t begin, int64_t end) {
  const layer_norm_job *j = arg;
  int64_t c = j->s->width;
  for (int64_t r = begin; r < end; r++) {
    const float *x = j->x + r * c;
    float *y = j->y + r * c;
    float first = x[0]; // sums are taken about it: rows far from zero lose no digits
    float mean = first + row_sum(x, c, first, 1) / (float)c;
    float rstd = 1.0f / sqrtf(row_sum(x, c, mean, 2) / (float)c + j->s->eps);
    for (int64_t i = 0; i < c; i += VW) {
      int64_t n = c - i;
      vfloat v = (vload_upto(x + i, n) - mean) * rstd;
      if (j->weight) v *= vload_upto(j->weight + i, n);
      if (j->bias) v += vload_upto(j->bias + i, n);
      vstore_upto(y + i, v, n);
    }
    j->mean[r] = mean, j->rstd[r] = rstd;
  }
}

static elbo_status layer_norm_run(const kernel *k, const kernel_args *a) {
  layer_norm_job j = {.s = k->state, .x = a->in[0], .weight = a->in[1], .bias = a->in[2]};
  j.y = a->out[0], j.mean = a->out[1], j.rstd = a->out[2];
  parallel_for(a->pool, j.s->rows, 8192 / j.s->width + 1, forward, &j);
  return ELBO_OK;
}

// dx of row r; its share of dweight and dbias is added to dw and db
static void backward_row(const layer_norm_job *j, int64_t r, float *dw, float *db) {
  int64_t c = j->s->width;
  const float *x = j->x + r * c, *dy = j->dy + r * c;
  float *dx = j->y + r * c, mean = j->mean_in[r], rstd = j->rstd_in[r];
  vfloat sums = {0}, alongs = {0};
  for (int64_t i = 0; i < c; i += VW) {
    int64_t n = c - i;
    vfloat g = vload_upto(dy + i, n), e = j->weight ? g * vload_upto(j->weight + i, n) : g;
    vfloat xhat = (vload_upto(x + i, n) - mean) * rstd; // beyond the row g and e are 0
    sums += e, alongs += e * xhat;
    vstore_upto(dw + i, vload_upto(dw + i, n) + g * xhat, n);
    vstore_upto(db + i, vload_upto(db + i, n) + g, n);
  }
  float sum = vsum(sums) / (float)c, along = vsum(alongs) / (float)c;
  for (int64_t i = 0; i < c; i += VW) {
    int64_t n = c - i;
    vfloat g = vload_upto(dy + i, n), e = j->weight ? g * vload_upto(j->weight + i, n) : g;
    vfloat xhat = (vload_upto(x + i, n) - mean) * rstd;
    vstore_upto(dx + i, rstd * (e - sum - xhat * along), n);
  }
}

static void backward(void *arg, int id, int count) {
  const layer_norm_job *j = arg;
  const layer_norm_state *s = j->s;
  float *sums = j->floats + id * s->thread_floats;
  int64_t begin, end, c = s->width;
  split_range(s->blocks, id, count, &begin, &end);
  for (int64_t block = begin; block < end; block++) {
    int64_t r0, r1;
    double *to = j->partial + block * 2 * c;
    split_range(s->rows, (int)block, (int)s->blocks, &r0, &r1);
    memset(to, 0, (size_t)(2 * c) * sizeof *to);
    for (int64_t first = r0; first < r1; first += FLOAT_ROWS) {
      memset(sums, 0, (size_t)(2 * c) * sizeof *sums);
      for (int64_t r = first; r < r1 && r < first + FLOAT_ROWS; r++) backward_row(j, r, sums, sums + c);
      for (int64_t i = 0; i < 2 * c; i++) to[i] += (double)sums[i];
    }
  }
}

static void add_blocks(void *arg, int64_t begin, int64_t end) {
  const layer_norm_job *j = arg;
  int64_t c = j->s->width;
  for (int64_t i = begin; i < end; i++) {
    double dweight = 0, dbias = 0;
    for (int64_t b = 0; b < j->s->blocks; b++) dweight += j->partial[b * 2 * c + i], dbias += j->partial[b * 2 * c + c + i];
    j->dweight[i] = (float)dweight, j->dbias[i] = (float)dbias;
  }
}

static elbo_status layer_norm_grad_run(const kernel *k, const kernel_args *a) {
  layer_norm_job j = {.s = k->state, .x = a->in[0], .weight = a->in[1], .mean_in = a->in[2], .rstd_in = a->in[3], .dy = a->in[4]};
  j.y = a->out[0], j.dweight = a->out[1], j.dbias = a->out[2];
  j.partial = a->scratch;
  j.floats = (float *)(j.partial + j.s->blocks * 2 * j.s->width);
  parallel_run(a->pool, backward, &j);
  parallel_for(a->pool, j.s->width, 64, add_blocks, &j);
  return ELBO_OK;
}

static elbo_status prepare(compile_env *env, const node *n, kernel *k) {
  const norm_attr *a = n->attr;
  const shape *x = &n->in[0]->shape;
  layer_norm_state *s;
  TRY(kernel_state_new(env, k, sizeof *s, &s));
  s->width = x->dim[x->rank - 1], s->rows = shape_product(x, 0, x->rank - 1);
  s->blocks = s->rows < MAX_BLOCKS ? s->rows : MAX_BLOCKS;
  s->eps = (float)a->eps;
  s->thread_floats = round_up(2 * s->width, 16);
  return ELBO_OK;
}

static elbo_status layer_norm_prepare(compile_env *env, const node *n, kernel *k) {
  TRY(prepare(env, n, k));
  k->name = "own:layer_norm." ISA_TEXT, k->run = layer_norm_run;
  return ELBO_OK;
}

static elbo_status layer_norm_grad_prepare(compile_env *env, const node *n, kernel *k) {
  TRY(prepare(env, n, k));
  const layer_norm_state *s = k->state;
  k->scratch_bytes =
      (size_t)(s->blocks * 2 * s->width) * sizeof(double) + (size_t)(pool_threads(env->pool) * s->thread_floats) * sizeof(float);
  k->name = "own:layer_norm_grad." ISA_TEXT, k->run = layer_norm_grad_run;
  return ELBO_OK;
}

const cpu_op ISA(layer_norm_cpu) = {layer_norm_prepare};
const cpu_op ISA(layer_norm_grad_cpu) = {layer_norm_grad_prepare};
