#include <string.h>

#include "ops/embedding.h"
#include "ops/isa.h"

typedef struct embedding_state {
  int64_t count, rows, width;
} embedding_state;

typedef struct embedding_job {
  const embedding_state *s;
  const int32_t *index;
  const float *from;
  float *to;
} embedding_job;

static void gather_rows(void *arg, int64_t begin, int64_t end) {
  const embedding_job *j = arg;
  int64_t d = j->s->width;
  for (int64_t i = begin; i < end; i++) memcpy(j->to + i * d, j->from + j->index[i] * d, (size_t)d * sizeof *j->to);
}

// Each thread owns a range of the table's rows and reads all indices: the order of the sums is that of the indices.
static void scatter_rows(void *arg, int64_t begin, int64_t end) {
  const embedding_job *j = arg;
  int64_t d = j->s->width;
  memset(j->to + begin * d, 0, (size_t)((end - begin) * d) * sizeof *j->to);
  for (int64_t i = 0; i < j->s->count; i++) {
    if (j->index[i] < begin || j->index[i] >= end) continue;
    float *restrict to = j->to + j->index[i] * d;
    const float *restrict from = j->from + i * d;
    for (int64_t c = 0; c < d; c++) to[c] += from[c];
  }
}

static elbo_status embedding_run(const kernel *k, const kernel_args *a) {
  embedding_job j = {k->state, a->in[0], a->in[1], a->out[0]};
  TRY(embedding_check(a->ctx, j.index, j.s->count, j.s->rows));
  parallel_for(a->pool, j.s->count, 16384 / j.s->width + 1, gather_rows, &j);
  return ELBO_OK;
}

static elbo_status embedding_grad_run(const kernel *k, const kernel_args *a) {
  embedding_job j = {k->state, a->in[0], a->in[1], a->out[0]};
  TRY(embedding_check(a->ctx, j.index, j.s->count, j.s->rows));
  parallel_for(a->pool, j.s->rows, 16384 / j.s->width + 1, scatter_rows, &j);
  return ELBO_OK;
}

static elbo_status embedding_prepare(compile_env *env, const node *n, kernel *k) {
  embedding_state *s;
  TRY(kernel_state_new(env, k, sizeof *s, &s));
  *s = (embedding_state){shape_count(&n->in[0]->shape), n->in[1]->shape.dim[0], n->in[1]->shape.dim[1]};
  k->name = "own:embedding." ISA_TEXT, k->run = embedding_run;
  return ELBO_OK;
}

static elbo_status embedding_grad_prepare(compile_env *env, const node *n, kernel *k) {
  embedding_state *s;
  TRY(kernel_state_new(env, k, sizeof *s, &s));
  *s = (embedding_state){shape_count(&n->in[0]->shape), n->out[0]->shape.dim[0], n->out[0]->shape.dim[1]};
  k->name = "own:embedding_grad." ISA_TEXT, k->run = embedding_grad_run;
  return ELBO_OK;
}

const cpu_op ISA(embedding_cpu) = {embedding_prepare};
const cpu_op ISA(embedding_grad_cpu) = {embedding_grad_prepare};
