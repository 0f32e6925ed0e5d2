#include "train/optimizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"

// Work is cut into blocks of a fixed size, so that neither sums nor the vector loops' tails depend on the number of threads.
enum { BLOCK = 1 << 14 };

typedef struct block {
  int64_t begin, count; // in the flat buffers
  int64_t packed;       // in the moments
} block;

struct optimizer {
  const thread_pool *pool;
  const optimizer_kernels *kernels;
  optimizer_config config;
  int64_t n_ranges, n_blocks, size, updates;
  flat_range *ranges;
  block *blocks;
  double *partial; // (n_blocks)
  float *m, *v;    // (size); NULL where the rule has none
};

extern const optimizer_kernels optimizer_cpu_base, optimizer_cpu_v3, optimizer_cpu_v4;

const optimizer_kernels *optimizer_kernels_of(isa_level isa) {
#ifdef ELBO_HAVE_X86_VARIANTS
  if (isa == ISA_V4) return &optimizer_cpu_v4;
  if (isa == ISA_V3) return &optimizer_cpu_v3;
#endif
  (void)isa;
  return &optimizer_cpu_base;
}

elbo_status optimizer_create(elbo_ctx *ctx, const optimizer_config *config, int64_t n_ranges, const flat_range *ranges, optimizer **out) {
  *out = NULL;
  elbo_status status;
  void *memory;
  TRY(array_new(ctx, 1, sizeof(optimizer), "an optimiser", &memory));
  optimizer *o = memory;
  o->pool = &ctx->pool, o->kernels = optimizer_kernels_of(ctx->isa), o->config = *config, o->n_ranges = n_ranges;
  for (int64_t r = 0; r < n_ranges; r++) {
    int64_t length = ranges[r].end - ranges[r].begin;
    o->size += length;
    o->n_blocks += (length + BLOCK - 1) / BLOCK;
  }
  TRY_GOTO(array_new(ctx, (size_t)n_ranges + 1, sizeof(flat_range), "an optimiser's ranges", &memory));
  o->ranges = memory;
  if (n_ranges) memcpy(o->ranges, ranges, (size_t)n_ranges * sizeof(flat_range));
  TRY_GOTO(array_new(ctx, (size_t)o->n_blocks + 1, sizeof(block), "an optimiser's blocks", &memory));
  o->blocks = memory;
  TRY_GOTO(array_new(ctx, (size_t)o->n_blocks + 1, sizeof(double), "an optimiser's partial sums", &memory));
  o->partial = memory;
  int64_t b = 0, packed = 0;
  for (int64_t r = 0; r < n_ranges; r++)
    for (int64_t i = ranges[r].begin; i < ranges[r].end; i += BLOCK, b++) {
      int64_t count = ranges[r].end - i < BLOCK ? ranges[r].end - i : BLOCK;
      o->blocks[b] = (block){i, count, packed};
      packed += count;
    }
  bool adam = config->kind == OPTIMIZER_ADAM || config->kind == OPTIMIZER_ADAMW;
  if (adam || config->beta1 > 0) {
    TRY_GOTO(aligned_new(ctx, (size_t)o->size * sizeof(float), "an optimiser's first moments", &memory));
    o->m = memory;
  }
  if (config->kind != OPTIMIZER_SGD) {
    TRY_GOTO(aligned_new(ctx, (size_t)o->size * sizeof(float), "an optimiser's second moments", &memory));
    o->v = memory;
  }
  *out = o;
  return ELBO_OK;
fail:
  optimizer_destroy(&o);
  return status;
}

void optimizer_destroy(optimizer **address) {
  optimizer *o = *address;
  *address = NULL;
  if (!o) return;
  aligned_free(o->m);
  aligned_free(o->v);
  free(o->ranges);
  free(o->blocks);
  free(o->partial);
  free(o);
}

typedef struct pass {
  optimizer *o;
  optimizer_scalars s;
  float *param;
  const weight_averages *averages;
  const float *gradient;
  bool first;
} pass;

static void norm_blocks(void *arg, int64_t begin, int64_t end) {
  const pass *a = arg;
  for (int64_t b = begin; b < end; b++) {
    const block *k = &a->o->blocks[b];
    a->o->partial[b] = a->o->kernels->sum_of_squares(a->gradient + k->begin, k->count);
  }
}

double optimizer_norm(optimizer *o, const float *gradient, double scale) {
  pass a = {.o = o, .gradient = gradient};
  parallel_for(o->pool, o->n_blocks, 2, norm_blocks, &a);
  double sum = 0;
  for (int64_t b = 0; b < o->n_blocks; b++) sum += o->partial[b];
  return fabs(scale) * sqrt(sum);
}

static void update_blocks(void *arg, int64_t begin, int64_t end) {
  const pass *a = arg;
  const optimizer *o = a->o;
  for (int64_t b = begin; b < end; b++) {
    const block *k = &o->blocks[b];
    const weight_averages *all = a->averages;
    o->kernels->update(&a->s, k->count, a->param + k->begin, a->gradient + k->begin, o->m ? o->m + k->packed : NULL,
                       o->v ? o->v + k->packed : NULL, all->n ? all->at[0] + k->begin : NULL);
    for (int i = 1; i < all->n; i++) // the block's new weights are in the cache still
      o->kernels->average(all->at[i] + k->begin, a->param + k->begin, k->count, all->decay[i]);
  }
}

void optimizer_apply(optimizer *o, double rate, double scale, double norm, float *param, const float *gradient,
                     const weight_averages *averages) {
  static const weight_averages none;
  const optimizer_config *c = &o->config;
  o->updates++;
  // As torch.nn.utils.clip_grad_norm_ has it: the coefficient is max / (norm + 1e-6), at most 1.
  double clip = c->clip_norm > 0 ? c->clip_norm / (norm + 1e-6) : 1.0;
  if (clip < 1.0) scale *= clip;
  pass a = {.o = o, .param = param, .gradient = gradient, .averages = averages ? averages : &none};
  a.s = (optimizer_scalars){c->kind,
                            rate,
                            c->beta1,
                            c->beta2,
                            c->epsilon,
                            c->weight_decay,
                            scale,
                            1.0 - pow(c->beta1, (double)o->updates),
                            1.0 - pow(c->beta2, (double)o->updates),
                            a.averages->decay[0]};
  parallel_for(o->pool, o->n_blocks, 1, update_blocks, &a);
}

static void accumulate_blocks(void *arg, int64_t begin, int64_t end) {
  const pass *a = arg;
  for (int64_t b = begin; b < end; b++) {
    const block *k = &a->o->blocks[b];
    if (a->first)
      memcpy(a->param + k->begin, a->gradient + k->begin, (size_t)k->count * sizeof(float));
    else
      a->o->kernels->add(a->param + k->begin, a->gradient + k->begin, k->count);
  }
}

void optimizer_accumulate(optimizer *o, float *sum, const float *x, bool first) {
  pass a = {.o = o, .param = sum, .gradient = x, .first = first};
  parallel_for(o->pool, o->n_blocks, 1, accumulate_blocks, &a);
}

int optimizer_moments(const optimizer *o) { return (o->m != NULL) + (o->v != NULL); }

float *optimizer_moment(optimizer *o, int i) { return i == 0 && o->m ? o->m : o->v; }

const char *optimizer_moment_name(const optimizer *o, int i) {
  bool adam = o->config.kind == OPTIMIZER_ADAM || o->config.kind == OPTIMIZER_ADAMW;
  if (i == 0 && o->m) return adam ? "exp_avg" : "momentum";
  return adam ? "exp_avg_sq" : "square_avg";
}

int64_t optimizer_size(const optimizer *o) { return o->size; }

int64_t optimizer_packed_offset(const optimizer *o, int64_t flat) {
  int64_t packed = 0;
  for (int64_t r = 0; r < o->n_ranges; r++) {
    if (flat >= o->ranges[r].begin && flat < o->ranges[r].end) return packed + flat - o->ranges[r].begin;
    packed += o->ranges[r].end - o->ranges[r].begin;
  }
  return -1;
}

int64_t optimizer_bytes(const optimizer *o) { return optimizer_moments(o) * o->size * (int64_t)sizeof(float); }

int64_t optimizer_updates(const optimizer *o) { return o->updates; }

void optimizer_set_updates(optimizer *o, int64_t updates) { o->updates = updates; }
