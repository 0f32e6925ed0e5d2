// Bilinear resizing and its adjoint are one kernel: both are products with a sparse matrix over rows and one over columns, whose entries
// are listed when the kernel is made. A row of the result is the weighted sum of rows of the input, then of its columns.
#include "ops/isa.h"
#include "ops/resample.h"
#include "ops/vec_part.h"

typedef struct tap {
  int32_t from;
  float weight;
} tap;

typedef struct resize_state {
  int64_t batch, h, w, oh, ow, c;
  tap *rows, *columns;
  int32_t *row_begin, *column_begin; // taps of output i: [begin[i], begin[i+1])
} resize_state;

typedef struct resize_job {
  const resize_state *s;
  const float *x;
  float *y, *scratch; // scratch: a row of the input's width per thread
} resize_job;

// to[i] = or += weight * from[i]
VEC_INLINE void add_scaled(float *to, const float *from, float weight, int64_t n, bool first) {
  int64_t i = 0;
  if (first) {
    for (; i + VW <= n; i += VW) vstore(to + i, weight * vload(from + i));
    for (; i < n; i++) to[i] = weight * from[i];
  } else {
    for (; i + VW <= n; i += VW) vstore(to + i, vload(to + i) + weight * vload(from + i));
    for (; i < n; i++) to[i] += weight * from[i];
  }
}

static void resize_rows(void *arg, int id, int count) {
  const resize_job *j = arg;
  const resize_state *s = j->s;
  int64_t begin, end, width = s->w * s->c;
  float *row = j->scratch + id * round_up(width, 16);
  split_range(s->batch * s->oh, id, count, &begin, &end);
  for (int64_t i = begin; i < end; i++) {
    const float *image = j->x + i / s->oh * s->h * width;
    int32_t first = s->row_begin[i % s->oh], last = s->row_begin[i % s->oh + 1];
    for (int32_t t = first; t < last; t++) add_scaled(row, image + s->rows[t].from * width, s->rows[t].weight, width, t == first);
    if (first == last) memset(row, 0, (size_t)width * sizeof *row);
    for (int64_t w = 0; w < s->ow; w++) {
      float *y = j->y + (i * s->ow + w) * s->c;
      first = s->column_begin[w], last = s->column_begin[w + 1];
      for (int32_t t = first; t < last; t++) add_scaled(y, row + s->columns[t].from * s->c, s->columns[t].weight, s->c, t == first);
      if (first == last) memset(y, 0, (size_t)s->c * sizeof *y); // an input pixel that nothing was made from
    }
  }
}

static elbo_status resize_run(const kernel *k, const kernel_args *a) {
  resize_job j = {k->state, a->in[0], a->out[0], a->scratch};
  parallel_run(a->pool, resize_rows, &j);
  return ELBO_OK;
}

// Lists the taps of an axis that bilinear resizing takes from `from` to `to` numbers; adjoint: by input instead of by output. taps: 2 to,
// begin: one more than there are results.
static void list_taps(int64_t from, int64_t to, bool adjoint, tap *taps, int32_t *begin) {
  int32_t used = 0;
  int64_t results = adjoint ? from : to;
  for (int64_t i = 0; i < results; i++) {
    begin[i] = used;
    // sources are in rising order, so the outputs that read input i are neighbours: about to/from of them on each side
    int64_t first = adjoint ? (int64_t)(((double)i - 1) * (double)to / (double)from) - 2 : i;
    int64_t last = adjoint ? (int64_t)(((double)i + 2) * (double)to / (double)from) + 2 : i;
    if (first < 0) first = 0;
    if (last > to - 1) last = to - 1;
    for (int64_t o = first; o <= last; o++) {
      int64_t low;
      double part;
      bilinear_source(o, to, from, &low, &part);
      for (int side = 0; side < 2; side++) {
        float weight = (float)(side ? part : 1 - part);
        if (weight == 0 || (adjoint && low + side != i)) continue;
        taps[used++] = (tap){(int32_t)(adjoint ? o : low + side), weight};
      }
    }
  }
  begin[results] = used;
}

static void resize_destroy(kernel *k) {
  resize_state *s = k->state;
  free(s->rows);
  free(s->columns);
  free(s->row_begin);
  free(s->column_begin);
  kernel_state_free(k);
}

static elbo_status prepare(compile_env *env, const node *n, kernel *k, bool adjoint) {
  const shape *x = &n->in[0]->shape, *y = &n->out[0]->shape;
  const shape *from = adjoint ? y : x, *to = adjoint ? x : y;
  resize_state *s;
  if (to->dim[1] > INT32_MAX / 4 || to->dim[2] > INT32_MAX / 4)
    return fail(env->ctx, ELBO_ERROR_UNSUPPORTED, "%s: a picture of %lld x %lld is too large", n->op->name, (long long)to->dim[1],
                (long long)to->dim[2]);
  TRY(kernel_state_new(env, k, sizeof *s, &s));
  k->destroy = resize_destroy;
  s->batch = x->dim[0], s->h = x->dim[1], s->w = x->dim[2], s->c = x->dim[3], s->oh = y->dim[1], s->ow = y->dim[2];
  TRY(array_new(env->ctx, (size_t)(2 * to->dim[1]), sizeof(tap), "taps of rows", (void **)&s->rows));
  TRY(array_new(env->ctx, (size_t)(2 * to->dim[2]), sizeof(tap), "taps of columns", (void **)&s->columns));
  TRY(array_new(env->ctx, (size_t)(s->oh + 1), sizeof(int32_t), "taps of rows", (void **)&s->row_begin));
  TRY(array_new(env->ctx, (size_t)(s->ow + 1), sizeof(int32_t), "taps of columns", (void **)&s->column_begin));
  list_taps(from->dim[1], to->dim[1], adjoint, s->rows, s->row_begin);
  list_taps(from->dim[2], to->dim[2], adjoint, s->columns, s->column_begin);
  k->scratch_bytes = (size_t)(pool_threads(env->pool) * round_up(s->w * s->c, 16)) * sizeof(float);
  k->run = resize_run;
  return ELBO_OK;
}

static elbo_status resize_bilinear_prepare(compile_env *env, const node *n, kernel *k) {
  k->name = "own:resize_bilinear." ISA_TEXT;
  return prepare(env, n, k, false);
}

static elbo_status resize_bilinear_grad_prepare(compile_env *env, const node *n, kernel *k) {
  k->name = "own:resize_bilinear_grad." ISA_TEXT;
  return prepare(env, n, k, true);
}

const cpu_op ISA(resize_bilinear_cpu) = {resize_bilinear_prepare};
const cpu_op ISA(resize_bilinear_grad_cpu) = {resize_bilinear_grad_prepare};
