#include "ops/isa.h"
#include "ops/resample.h"
#include "ops/vec_part.h"

typedef struct pool_state {
  int64_t rows, ow, c, fh, fw; // rows: B OH
  float factor;
} pool_state;

typedef struct pool_job {
  const pool_state *s;
  const float *x;
  float *y;
} pool_job;

static void pool_rows(void *arg, int64_t begin, int64_t end) {
  const pool_job *j = arg;
  const pool_state *s = j->s;
  int64_t width = s->ow * s->fw * s->c; // of a row of x
  for (int64_t r = begin; r < end; r++)
    for (int64_t w = 0; w < s->ow; w++) {
      const float *x = j->x + r * s->fh * width + w * s->fw * s->c;
      float *y = j->y + (r * s->ow + w) * s->c;
      for (int64_t c = 0; c < s->c; c += VW) {
        vfloat sum = {0};
        for (int64_t p = 0; p < s->fh; p++)
          for (int64_t q = 0; q < s->fw; q++) sum += vload_upto(x + p * width + q * s->c + c, s->c - c);
        vstore_upto(y + c, s->factor * sum, s->c - c);
      }
    }
}

static elbo_status avg_pool2d_run(const kernel *k, const kernel_args *a) {
  const pool_state *s = k->state;
  pool_job j = {s, a->in[0], a->out[0]};
  parallel_for(a->pool, s->rows, 16384 / (s->ow * s->c * s->fh * s->fw) + 1, pool_rows, &j);
  return ELBO_OK;
}

static elbo_status avg_pool2d_prepare(compile_env *env, const node *n, kernel *k) {
  const window_attr *a = n->attr;
  const shape *y = &n->out[0]->shape;
  pool_state *s;
  TRY(kernel_state_new(env, k, sizeof *s, &s));
  *s = (pool_state){y->dim[0] * y->dim[1], y->dim[2], y->dim[3], a->fh, a->fw, (float)a->factor};
  k->name = "own:avg_pool2d." ISA_TEXT;
  k->run = avg_pool2d_run;
  return ELBO_OK;
}

const cpu_op ISA(avg_pool2d_cpu) = {avg_pool2d_prepare};
