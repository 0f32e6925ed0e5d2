#include "ops/isa.h"
#include "ops/resample.h"
#include "ops/vec_part.h"

typedef struct upsample_state {
  int64_t rows, w, c, fh, fw; // rows: B H
  float factor;
} upsample_state;

typedef struct upsample_job {
  const upsample_state *s;
  const float *x;
  float *y;
} upsample_job;

static void upsample_rows(void *arg, int64_t begin, int64_t end) {
  const upsample_job *j = arg;
  const upsample_state *s = j->s;
  int64_t width = s->w * s->fw * s->c; // of a row of y
  for (int64_t r = begin; r < end; r++) {
    float *y = j->y + r * s->fh * width;
    for (int64_t w = 0; w < s->w; w++) {
      const float *x = j->x + (r * s->w + w) * s->c;
      for (int64_t c = 0; c < s->c; c += VW) {
        vfloat v = s->factor * vload_upto(x + c, s->c - c);
        for (int64_t q = 0; q < s->fw; q++) vstore_upto(y + (w * s->fw + q) * s->c + c, v, s->c - c);
      }
    }
    for (int64_t p = 1; p < s->fh; p++) memcpy(y + p * width, y, (size_t)width * sizeof *y);
  }
}

static elbo_status upsample_nearest_run(const kernel *k, const kernel_args *a) {
  const upsample_state *s = k->state;
  upsample_job j = {s, a->in[0], a->out[0]};
  parallel_for(a->pool, s->rows, 16384 / (s->w * s->c * s->fh * s->fw) + 1, upsample_rows, &j);
  return ELBO_OK;
}

static elbo_status upsample_nearest_prepare(compile_env *env, const node *n, kernel *k) {
  const window_attr *a = n->attr;
  const shape *x = &n->in[0]->shape;
  upsample_state *s;
  TRY(kernel_state_new(env, k, sizeof *s, &s));
  *s = (upsample_state){x->dim[0] * x->dim[1], x->dim[2], x->dim[3], a->fh, a->fw, (float)a->factor};
  k->name = "own:upsample_nearest." ISA_TEXT;
  k->run = upsample_nearest_run;
  return ELBO_OK;
}

const cpu_op ISA(upsample_nearest_cpu) = {upsample_nearest_prepare};
