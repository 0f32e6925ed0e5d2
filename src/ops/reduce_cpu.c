// Sums and maxima over any axes of a dense tensor.
//
// After collapsing, kept and reduced axes alternate. If the last is reduced, the unit of work is a row, reduced in vectors; if it is kept,
// a row of the result, to which rows of the input are added. Floats are added in short runs, the runs in double. The work on each result is
// cut into pieces by the shape alone, so the number of threads does not show in the last bit.
#include <math.h>

#include "ops/isa.h"
#include "ops/kernel_util.h"
#include "ops/reduce.h"
#include "ops/vec.h"

enum { RUN = 1024, ROWS = 64, GROUP = 16, WIDTH = 1024, PIECES = 16 };

typedef struct reduce_plan {
  reduce_axes r;
  bool max;
  int64_t width;     // columns: kept elements behind the last reduced axis; 1 when the last axis is reduced
  int64_t length;    // of the last reduced axis: rows in one stretch of memory, or elements of a row
  int64_t stretches; // reduced places before it
  int64_t n_outer;   // results of `width` numbers
  int64_t pieces;    // of the work on each
} reduce_plan;

static inline double join(bool max, double a, double b) {
  if (!max) return a + b;
  return b > a || b != b ? b : a;
}

static inline vfloat vjoin(bool max, vfloat a, vfloat b) { return max ? vmax(a, b) : a + b; }

// --- rows -----------------------------------------------------------------------------------------------------------------------

static inline __attribute__((always_inline)) double reduce_row(bool max, const float *x, int64_t n, double total) {
  for (int64_t at = 0; at < n; at += RUN) {
    int64_t length = n - at < RUN ? n - at : RUN, i = 0;
    const float *p = x + at;
    float rest = max ? -INFINITY : 0.0f;
    if (length >= 4 * VW) {
      vfloat a = vload(p), b = vload(p + VW), c = vload(p + 2 * VW), d = vload(p + 3 * VW);
      for (i = 4 * VW; i + 4 * VW <= length; i += 4 * VW) {
        a = vjoin(max, a, vload(p + i));
        b = vjoin(max, b, vload(p + i + VW));
        c = vjoin(max, c, vload(p + i + 2 * VW));
        d = vjoin(max, d, vload(p + i + 3 * VW));
      }
      a = vjoin(max, vjoin(max, a, b), vjoin(max, c, d));
      rest = max ? vmax_lanes(a) : vsum(a);
    }
    for (; i < length; i++) rest = max ? (p[i] > rest || p[i] != p[i] ? p[i] : rest) : rest + p[i];
    total = join(max, total, (double)rest);
  }
  return total;
}

// --- columns --------------------------------------------------------------------------------------------------------------------

// Joins `rows` rows of `width` floats, `stride` apart, into total[0..period): column c into total[c % period]. period is width, or divides
// it and width is at most WIDTH.
static inline __attribute__((always_inline)) void reduce_wide(bool max, const float *x, int64_t rows, int64_t stride, int64_t width,
                                                              int64_t period, double *total) {
  float run[WIDTH];
  for (int64_t first = 0; first < width; first += WIDTH) {
    int64_t w = width - first < WIDTH ? width - first : WIDTH;
    for (int64_t row = 0; row < rows; row += ROWS) {
      int64_t last = row + ROWS < rows ? row + ROWS : rows, q = row;
      for (int64_t c = 0; c < w; c++) run[c] = max ? -INFINITY : 0.0f;
      for (; q + 4 <= last; q += 4) {
        const float *p = x + q * stride + first;
        int64_t c = 0;
        for (; c + VW <= w; c += VW) {
          vfloat a = vjoin(max, vload(p + c), vload(p + stride + c)), b = vjoin(max, vload(p + 2 * stride + c), vload(p + 3 * stride + c));
          vstore(run + c, vjoin(max, vload(run + c), vjoin(max, a, b)));
        }
        for (; c < w; c++)
          for (int j = 0; j < 4; j++) run[c] = (float)join(max, run[c], p[j * stride + c]);
      }
      for (; q < last; q++) {
        const float *p = x + q * stride + first;
        for (int64_t c = 0; c < w; c++) run[c] = (float)join(max, run[c], p[c]);
      }
      if (period == width)
        for (int64_t c = 0; c < w; c++) total[first + c] = join(max, total[first + c], (double)run[c]);
      else // a group of narrow rows: all of it is here
        for (int64_t member = 0; member < w; member += period)
          for (int64_t c = 0; c < period; c++) total[c] = join(max, total[c], (double)run[member + c]);
    }
  }
}

// The same for dense rows; narrow ones are taken several at a time, so that vectors are full.
static inline __attribute__((always_inline)) void reduce_columns(bool max, const float *x, int64_t rows, int64_t width, double *total) {
  int64_t grouped = width < 64 && width % VW ? rows / GROUP : 0;
  if (grouped > 0) reduce_wide(max, x, grouped, GROUP * width, GROUP * width, width, total);
  x += grouped * GROUP * width;
  rows -= grouped * GROUP;
  if (rows > 0) reduce_wide(max, x, rows, width, width, width, total);
}

// --- running --------------------------------------------------------------------------------------------------------------------

typedef struct reduce_run {
  const reduce_plan *p;
  const float *x;
  double *partial; // [n_outer][pieces][width]
} reduce_run;

static inline __attribute__((always_inline)) void reduce_task(bool max, const reduce_run *run, int64_t task) {
  const reduce_plan *p = run->p;
  int64_t outer = task / p->pieces, piece = task % p->pieces, begin, end;
  int last_reduced = p->r.rank - (p->width > 1 ? 2 : 1);
  const float *x = run->x + reduce_place(&p->r, p->width > 1 ? p->r.rank - 1 : p->r.rank, false, outer);
  double *total = run->partial + task * p->width;
  for (int64_t c = 0; c < p->width; c++) total[c] = max ? -INFINITY : 0.0;
  split_range(p->stretches * p->length, (int)piece, (int)p->pieces, &begin, &end);
  while (begin < end) {
    int64_t stretch = begin / p->length, at = begin % p->length, n = p->length - at < end - begin ? p->length - at : end - begin;
    const float *from = x + reduce_place(&p->r, last_reduced, true, stretch) + at * p->width;
    if (p->width > 1)
      reduce_columns(max, from, n, p->width, total);
    else
      total[0] = reduce_row(max, from, n, total[0]);
    begin += n;
  }
}

static void reduce_tasks(void *arg, int64_t begin, int64_t end) {
  const reduce_run *run = arg;
  const reduce_plan *p = run->p;
  if (p->width == 1 && p->pieces == 1 && p->stretches == 1 && p->r.rank <= 2 && !p->max && p->length < 4 * VW) { // short dense rows
    for (int64_t task = begin; task < end; task++) {
      float total = 0.0f;
      for (int64_t i = 0; i < p->length; i++) total += run->x[task * p->length + i];
      run->partial[task] = total;
    }
    return;
  }
  for (int64_t task = begin; task < end; task++) {
    if (p->max)
      reduce_task(true, run, task);
    else
      reduce_task(false, run, task);
  }
}

static elbo_status run_reduce(const kernel *k, const kernel_args *a) {
  const reduce_plan *p = k->state;
  reduce_run run = {p, a->in[0], a->scratch};
  float *y = a->out[0];
  int64_t tasks = p->n_outer * p->pieces, work = p->r.n_reduced * p->width / p->pieces + 1;
  parallel_for(a->pool, tasks, 16384 / work + 1, reduce_tasks, &run);
  for (int64_t outer = 0; outer < p->n_outer; outer++) {
    double *total = run.partial + outer * p->pieces * p->width;
    for (int64_t piece = 1; piece < p->pieces; piece++)
      for (int64_t c = 0; c < p->width; c++) total[c] = join(p->max, total[c], total[piece * p->width + c]);
    for (int64_t c = 0; c < p->width; c++) y[outer * p->width + c] = (float)total[c];
  }
  return ELBO_OK;
}

static elbo_status prepare_reduce(compile_env *env, const node *n, kernel *k, bool max) {
  const reduce_attr *attr = n->attr;
  reduce_plan *p = NULL;
  TRY(kernel_state_new(env, k, sizeof *p, &p));
  p->r = reduce_collapse(&n->in[0]->shape, attr->axes);
  p->max = max;
  int rank = p->r.rank;
  bool columns = rank > 0 && !p->r.reduced[rank - 1];
  int last_reduced = rank - 1 - columns;
  p->width = columns ? p->r.dim[rank - 1] : 1;
  p->length = last_reduced >= 0 ? p->r.dim[last_reduced] : 1;
  p->stretches = p->r.n_reduced / p->length;
  p->n_outer = p->r.n_kept / p->width;
  // Few results, much to add: several pieces each, by the shape alone.
  p->pieces = p->r.n_reduced * p->r.n_kept / 16384 + 1;
  if (p->pieces * p->n_outer > PIECES) p->pieces = PIECES / p->n_outer;
  if (p->pieces > p->stretches * p->length) p->pieces = p->stretches * p->length;
  if (p->pieces < 1) p->pieces = 1;
  k->name = columns ? "own:reduce_columns." ISA_TEXT : "own:reduce_rows." ISA_TEXT;
  k->scratch_bytes = (size_t)(p->n_outer * p->pieces * p->width) * sizeof(double);
  k->run = run_reduce;
  return ELBO_OK;
}

static elbo_status prepare_sum(compile_env *env, const node *n, kernel *k) { return prepare_reduce(env, n, k, false); }
static elbo_status prepare_max(compile_env *env, const node *n, kernel *k) { return prepare_reduce(env, n, k, true); }

const cpu_op ISA(sum_cpu) = {prepare_sum};
const cpu_op ISA(max_cpu) = {prepare_max};

// --- gradient of the maximum ----------------------------------------------------------------------------------------------------

typedef struct max_gradient_run {
  const reduce_axes *r;
  const float *x, *y, *dy;
  float *dx;
} max_gradient_run;

static void max_gradient_range(void *arg, int64_t begin, int64_t end) {
  const max_gradient_run *run = arg;
  const reduce_axes *r = run->r;
  for (int64_t o = begin; o < end; o++) {
    int64_t base = reduce_place(r, r->rank, false, o);
    bool found = false;
    for (int64_t i = 0; i < r->n_reduced; i++) {
      int64_t at = base + reduce_place(r, r->rank, true, i);
      bool here = !found && run->x[at] == run->y[o];
      run->dx[at] = here ? run->dy[o] : 0.0f;
      found |= here;
    }
  }
}

static elbo_status run_max_gradient(const kernel *k, const kernel_args *a) {
  const reduce_axes *r = k->state;
  max_gradient_run run = {r, a->in[0], a->in[1], a->in[2], a->out[0]};
  parallel_for(a->pool, r->n_kept, 4096 / r->n_reduced + 1, max_gradient_range, &run);
  return ELBO_OK;
}

static elbo_status prepare_max_gradient(compile_env *env, const node *n, kernel *k) {
  reduce_axes *r = NULL;
  TRY(kernel_state_new(env, k, sizeof *r, &r));
  *r = reduce_collapse(&n->in[0]->shape, ((const reduce_attr *)n->attr)->axes);
  k->name = "own:max_gradient." ISA_TEXT;
  k->run = run_max_gradient;
  return ELBO_OK;
}

const cpu_op ISA(max_gradient_cpu) = {prepare_max_gradient};
