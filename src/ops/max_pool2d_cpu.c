#include "ops/isa.h"
#include "ops/max_pool2d.h"
#include "ops/vec_part.h"

typedef struct max_pool_state {
  int64_t b, h, w, oh, ow, c;
  max_pool_attr a;
} max_pool_state;

typedef struct max_pool_job {
  const max_pool_state *s;
  const float *x, *dy;
  float *y; // dx in the backward pass
} max_pool_job;

static elbo_status state_new(compile_env *env, const max_pool_attr *a, const shape *x, const shape *y, kernel *k) {
  max_pool_state *s;
  TRY(kernel_state_new(env, k, sizeof *s, &s));
  *s = (max_pool_state){x->dim[0], x->dim[1], x->dim[2], y->dim[1], y->dim[2], x->dim[3], *a};
  return ELBO_OK;
}

// [begin, end): rows of y, counted over all pictures
static void max_pool_rows(void *arg, int64_t begin, int64_t end) {
  const max_pool_job *j = arg;
  const max_pool_state *s = j->s;
  for (int64_t r = begin; r < end; r++) {
    int64_t h0, h1, w0, w1;
    const float *x = j->x + r / s->oh * s->h * s->w * s->c; // (H,W,C)
    pool_window(r % s->oh, s->a.stride[0], s->a.window[0], s->a.pad[0], s->h, &h0, &h1);
    for (int64_t ow = 0; ow < s->ow; ow++) {
      float *y = j->y + (r * s->ow + ow) * s->c;
      pool_window(ow, s->a.stride[1], s->a.window[1], s->a.pad[1], s->w, &w0, &w1);
      for (int64_t c = 0; c < s->c; c += VW) {
        vfloat best = vload_upto(x + (h0 * s->w + w0) * s->c + c, s->c - c);
        for (int64_t h = h0; h < h1; h++)
          for (int64_t w = w0; w < w1; w++) best = vmax(best, vload_upto(x + (h * s->w + w) * s->c + c, s->c - c));
        vstore_upto(y + c, best, s->c - c);
      }
    }
  }
}

static elbo_status max_pool2d_run(const kernel *k, const kernel_args *a) {
  const max_pool_state *s = k->state;
  max_pool_job j = {.s = s, .x = a->in[0], .y = a->out[0]};
  parallel_for(a->pool, s->b * s->oh, 16384 / (s->ow * s->c * s->a.window[0] * s->a.window[1]) + 1, max_pool_rows, &j);
  return ELBO_OK;
}

static elbo_status max_pool2d_prepare(compile_env *env, const node *n, kernel *k) {
  TRY(state_new(env, n->attr, &n->in[0]->shape, &n->out[0]->shape, k));
  k->name = "own:max_pool2d." ISA_TEXT;
  k->run = max_pool2d_run;
  return ELBO_OK;
}

const cpu_op ISA(max_pool2d_cpu) = {max_pool2d_prepare};

// Windows overlap, so a picture is one thread's.
static void max_pool_grad_pictures(void *arg, int64_t begin, int64_t end) {
  const max_pool_job *j = arg;
  const max_pool_state *s = j->s;
  int64_t size = s->h * s->w * s->c;
  memset(j->y + begin * size, 0, (size_t)((end - begin) * size) * sizeof *j->y);
  for (int64_t r = begin * s->oh; r < end * s->oh; r++) {
    int64_t h0, h1, w0, w1;
    const float *x = j->x + r / s->oh * size;
    float *dx = j->y + r / s->oh * size;
    pool_window(r % s->oh, s->a.stride[0], s->a.window[0], s->a.pad[0], s->h, &h0, &h1);
    for (int64_t ow = 0; ow < s->ow; ow++) {
      const float *dy = j->dy + (r * s->ow + ow) * s->c;
      pool_window(ow, s->a.stride[1], s->a.window[1], s->a.pad[1], s->w, &w0, &w1);
      for (int64_t c = 0; c < s->c; c++) {
        int64_t best = (h0 * s->w + w0) * s->c + c;
        for (int64_t h = h0; h < h1; h++)
          for (int64_t w = w0; w < w1; w++) {
            int64_t i = (h * s->w + w) * s->c + c;
            if (x[i] > x[best] || (isnan(x[i]) && !isnan(x[best]))) best = i;
          }
        dx[best] += dy[c];
      }
    }
  }
}

static elbo_status max_pool2d_grad_run(const kernel *k, const kernel_args *a) {
  const max_pool_state *s = k->state;
  max_pool_job j = {.s = s, .x = a->in[0], .dy = a->in[1], .y = a->out[0]};
  parallel_for(a->pool, s->b, 16384 / (s->oh * s->ow * s->c * s->a.window[0] * s->a.window[1]) + 1, max_pool_grad_pictures, &j);
  return ELBO_OK;
}

static elbo_status max_pool2d_grad_prepare(compile_env *env, const node *n, kernel *k) {
  TRY(state_new(env, n->attr, &n->in[0]->shape, &n->in[1]->shape, k));
  k->name = "own:max_pool2d_grad." ISA_TEXT;
  k->run = max_pool2d_grad_run;
  return ELBO_OK;
}

const cpu_op ISA(max_pool2d_grad_cpu) = {max_pool2d_grad_prepare};
