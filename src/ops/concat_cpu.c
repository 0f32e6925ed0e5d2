#include "ops/copy_rows.h"
#include "ops/isa.h"
#include "ops/layout.h"

typedef struct concat_state {
  int64_t outer, row; // rows of the output and their bytes
  int n;
  int64_t part[]; // bytes of a row that each input brings
} concat_state;

typedef struct concat_job {
  const concat_state *s;
  const void *const *in;
  char *to;
} concat_job;

// All parts of a row in turn, so that the output is written in one go.
static void concat_rows(void *arg, int64_t begin, int64_t end) {
  const concat_job *j = arg;
  const concat_state *s = j->s;
  char *to = j->to + begin * s->row;
  for (int64_t r = begin; r < end; r++)
    for (int i = 0; i < s->n; to += s->part[i++]) copy_bytes(to, (const char *)j->in[i] + r * s->part[i], s->part[i]);
}

static elbo_status concat_run(const kernel *k, const kernel_args *a) {
  const concat_state *s = k->state;
  char *to = a->out[0];
  if (s->row > 0 && s->row < COPY_GRAIN) {
    concat_job job = {s, a->in, to};
    parallel_for(a->pool, s->outer, COPY_GRAIN / s->row + 1, concat_rows, &job);
    return ELBO_OK;
  }
  for (int i = 0; i < s->n; to += s->part[i++]) copy_rows(a->pool, to, s->row, a->in[i], s->part[i], s->part[i], s->outer);
  return ELBO_OK;
}

static elbo_status concat_prepare(compile_env *env, const node *n, kernel *k) {
  const concat_attr *a = n->attr;
  int axis = (int)a->axis, rank = n->out[0]->shape.rank;
  int64_t size = (int64_t)elbo_dtype_size(n->out[0]->dtype);
  concat_state *s;
  TRY(kernel_state_new(env, k, sizeof *s + (size_t)n->n_in * sizeof s->part[0], &s));
  s->n = n->n_in;
  s->outer = shape_product(&n->out[0]->shape, 0, axis);
  s->row = shape_product(&n->out[0]->shape, axis, rank) * size;
  for (int i = 0; i < n->n_in; i++) s->part[i] = shape_product(&n->in[i]->shape, axis, rank) * size;
  k->name = "own:concat." ISA_TEXT;
  k->run = concat_run;
  return ELBO_OK;
}

const cpu_op ISA(concat_cpu) = {concat_prepare};
