#include <math.h>

#include "ops/isa.h"
#include "ops/kernel_util.h"

typedef struct cast_run {
  const void *in;
  void *out;
} cast_run;

static void float_to_int32(void *arg, int64_t begin, int64_t end) {
  const cast_run *run = arg;
  const float *x = run->in;
  int32_t *y = run->out;
  for (int64_t i = begin; i < end; i++)
    y[i] = x[i] != x[i] ? 0 : x[i] <= -0x1p31f ? INT32_MIN : x[i] >= 0x1p31f ? INT32_MAX : (int32_t)x[i];
}
static void float_to_int64(void *arg, int64_t begin, int64_t end) {
  const cast_run *run = arg;
  const float *x = run->in;
  int64_t *y = run->out;
  for (int64_t i = begin; i < end; i++)
    y[i] = x[i] != x[i] ? 0 : x[i] <= -0x1p63f ? INT64_MIN : x[i] >= 0x1p63f ? INT64_MAX : (int64_t)x[i];
}
static void int32_to_float(void *arg, int64_t begin, int64_t end) {
  const cast_run *run = arg;
  for (int64_t i = begin; i < end; i++) ((float *)run->out)[i] = (float)((const int32_t *)run->in)[i];
}
static void int64_to_float(void *arg, int64_t begin, int64_t end) {
  const cast_run *run = arg;
  for (int64_t i = begin; i < end; i++) ((float *)run->out)[i] = (float)((const int64_t *)run->in)[i];
}
static void int32_to_int64(void *arg, int64_t begin, int64_t end) {
  const cast_run *run = arg;
  for (int64_t i = begin; i < end; i++) ((int64_t *)run->out)[i] = ((const int32_t *)run->in)[i];
}
static void int64_to_int32(void *arg, int64_t begin, int64_t end) {
  const cast_run *run = arg;
  for (int64_t i = begin; i < end; i++) {
    int64_t x = ((const int64_t *)run->in)[i];
    ((int32_t *)run->out)[i] = (int32_t)(x < INT32_MIN ? INT32_MIN : x > INT32_MAX ? INT32_MAX : x);
  }
}

typedef struct cast_state {
  range_fn convert;
  int64_t count;
} cast_state;

static elbo_status run_cast(const kernel *k, const kernel_args *a) {
  const cast_state *s = k->state;
  cast_run run = {a->in[0], a->out[0]};
  parallel_for(a->pool, s->count, 16384, s->convert, &run);
  return ELBO_OK;
}

static elbo_status prepare_cast(compile_env *env, const node *n, kernel *k) {
  elbo_dtype from = n->in[0]->dtype, to = n->out[0]->dtype;
  cast_state *s = NULL;
  TRY(kernel_state_new(env, k, sizeof *s, &s));
  s->count = shape_count(&n->in[0]->shape);
  if (from == ELBO_F32)
    s->convert = to == ELBO_I32 ? float_to_int32 : float_to_int64;
  else if (from == ELBO_I32)
    s->convert = to == ELBO_F32 ? int32_to_float : int32_to_int64;
  else
    s->convert = to == ELBO_F32 ? int64_to_float : int64_to_int32;
  k->name = "own:cast." ISA_TEXT;
  k->run = run_cast;
  return ELBO_OK;
}

const cpu_op ISA(cast_cpu) = {prepare_cast};
