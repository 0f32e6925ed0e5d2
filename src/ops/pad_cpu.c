#include "ops/copy_rows.h"
#include "ops/isa.h"
#include "ops/layout.h"

typedef struct pad_state {
  int64_t outer, row, before, length; // rows of the output, their bytes, bytes of zeros before and of the input's part
} pad_state;

static elbo_status pad_run(const kernel *k, const kernel_args *a) {
  const pad_state *s = k->state;
  char *y = a->out[0];
  int64_t end = s->before + s->length;
  copy_rows(a->pool, y, s->row, NULL, 0, s->before, s->outer);
  copy_rows(a->pool, y + s->before, s->row, a->in[0], s->length, s->length, s->outer);
  copy_rows(a->pool, y + end, s->row, NULL, 0, s->row - end, s->outer);
  return ELBO_OK;
}

static elbo_status pad_prepare(compile_env *env, const node *n, kernel *k) {
  const pad_attr *a = n->attr;
  const shape *xs = &n->in[0]->shape;
  int64_t inner = shape_product(xs, (int)a->axis + 1, xs->rank) * (int64_t)elbo_dtype_size(n->in[0]->dtype);
  pad_state *s;
  TRY(kernel_state_new(env, k, sizeof *s, &s));
  *s = (pad_state){shape_product(xs, 0, (int)a->axis), n->out[0]->shape.dim[a->axis] * inner, a->before * inner, xs->dim[a->axis] * inner};
  k->name = "own:pad." ISA_TEXT;
  k->run = pad_run;
  return ELBO_OK;
}

const cpu_op ISA(pad_cpu) = {pad_prepare};
