#include "ops/copy_rows.h"
#include "ops/isa.h"
#include "ops/layout.h"

typedef struct slice_state {
  int64_t outer, row, begin, length; // rows of the input, their bytes, the part that is taken
} slice_state;

static elbo_status slice_run(const kernel *k, const kernel_args *a) {
  const slice_state *s = k->state;
  copy_rows(a->pool, a->out[0], s->length, (const char *)a->in[0] + s->begin, s->row, s->length, s->outer);
  return ELBO_OK;
}

static elbo_status slice_prepare(compile_env *env, const node *n, kernel *k) {
  const slice_attr *a = n->attr;
  const shape *xs = &n->in[0]->shape;
  int64_t inner = shape_product(xs, (int)a->axis + 1, xs->rank) * (int64_t)elbo_dtype_size(n->in[0]->dtype);
  slice_state *s;
  TRY(kernel_state_new(env, k, sizeof *s, &s));
  *s = (slice_state){shape_product(xs, 0, (int)a->axis), xs->dim[a->axis] * inner, a->begin * inner, (a->end - a->begin) * inner};
  k->name = "own:slice." ISA_TEXT;
  k->run = slice_run;
  return ELBO_OK;
}

const cpu_op ISA(slice_cpu) = {slice_prepare};
