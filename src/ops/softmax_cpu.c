#include "ops/attention.h"
#include "ops/isa.h"
#include "ops/vec_part.h"

typedef struct softmax_state {
  int64_t rows, width;
} softmax_state;

typedef struct softmax_job {
  const float *x, *dy; // x: y in the gradient
  float *y;
  int64_t width;
} softmax_job;

static void forward(void *arg, int64_t begin, int64_t end) {
  const softmax_job *j = arg;
  int64_t c = j->width, whole = c / VW * VW;
  for (int64_t r = begin; r < end; r++) {
    const float *x = j->x + r * c;
    float *y = j->y + r * c, most = x[0], sum = 0;
    if (whole > 0) {
      vfloat m = vload(x);
      for (int64_t i = VW; i < whole; i += VW) m = vmax(m, vload(x + i));
      most = vmax_lanes(m);
    }
    for (int64_t i = whole; i < c; i++) most = x[i] > most ? x[i] : most;
    vfloat sums = {0};
    for (int64_t i = 0; i < whole; i += VW) {
      vfloat e = vexp(vload(x + i) - most);
      sums += e;
      vstore(y + i, e);
    }
    sum = vsum(sums);
    if (whole < c) {
      vstore_part(y + whole, vexp(vload_part(x + whole, c - whole) - most), c - whole);
      for (int64_t i = whole; i < c; i++) sum += y[i];
    }
    float inverse = 1.0f / sum;
    for (int64_t i = 0; i < c; i++) y[i] *= inverse;
  }
}

static void backward(void *arg, int64_t begin, int64_t end) {
  const softmax_job *j = arg;
  int64_t c = j->width;
  for (int64_t r = begin; r < end; r++) {
    const float *y = j->x + r * c, *dy = j->dy + r * c;
    float *dx = j->y + r * c;
    vfloat sums = {0};
    for (int64_t i = 0; i < c; i += VW) sums += vload_upto(y + i, c - i) * vload_upto(dy + i, c - i);
    float along = vsum(sums);
    for (int64_t i = 0; i < c; i++) dx[i] = y[i] * (dy[i] - along);
  }
}

static elbo_status softmax_run(const kernel *k, const kernel_args *a) {
  const softmax_state *s = k->state;
  softmax_job j = {.x = a->in[0], .y = a->out[0], .width = s->width};
  parallel_for(a->pool, s->rows, 4096 / s->width + 1, forward, &j);
  return ELBO_OK;
}

static elbo_status softmax_grad_run(const kernel *k, const kernel_args *a) {
  const softmax_state *s = k->state;
  softmax_job j = {.x = a->in[0], .dy = a->in[1], .y = a->out[0], .width = s->width};
  parallel_for(a->pool, s->rows, 8192 / s->width + 1, backward, &j);
  return ELBO_OK;
}

static elbo_status prepare(compile_env *env, const node *n, kernel *k) {
  const shape *x = &n->in[0]->shape;
  softmax_state *s;
  TRY(kernel_state_new(env, k, sizeof *s, &s));
  s->width = x->dim[x->rank - 1], s->rows = shape_product(x, 0, x->rank - 1);
  return ELBO_OK;
}

static elbo_status softmax_prepare(compile_env *env, const node *n, kernel *k) {
  TRY(prepare(env, n, k));
  k->name = "own:softmax." ISA_TEXT, k->run = softmax_run;
  return ELBO_OK;
}

static elbo_status softmax_grad_prepare(compile_env *env, const node *n, kernel *k) {
  TRY(prepare(env, n, k));
  k->name = "own:softmax_grad." ISA_TEXT, k->run = softmax_grad_run;
  return ELBO_OK;
}

const cpu_op ISA(softmax_cpu) = {softmax_prepare};
const cpu_op ISA(softmax_grad_cpu) = {softmax_grad_prepare};
