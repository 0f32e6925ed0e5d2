// Convolution and transposed convolution as products of gathered patches and packed weights. Serves every shape.
#include <stdlib.h>

#include "core/memory.h"
#include "ops/conv_patch.h"
#include "ops/gemm_cpu.h"

typedef struct state {
  conv_problem problem;
  int64_t n_jobs;
  gemm_job *jobs;
  conv_patches *sets;
  int64_t *store;
  int64_t packed; // floats
} state;

static void destroy(kernel *k) {
  state *s = k->state;
  if (!s) return;
  free(s->jobs);
  free(s->sets);
  free(s->store);
  free(s);
  k->state = NULL;
}

static void gather(const gemm_job *j, const float *a, int64_t m0, int64_t rows, int64_t k0, int64_t kc, float *dst) {
  ISA(gather_patches)(j->user, a, m0, rows, k0, kc, dst);
}
static void pack(const gemm_job *j, const float *b, int64_t k0, int64_t kc, int64_t n0, int width, float *dst) {
  ISA(pack_patch_weights)(j->user, b, j->N, k0, kc, n0, width, dst);
}
static void place(const gemm_job *j, int64_t m0, int rows, int64_t *offset) { ISA(place_patches)(j->user, m0, rows, offset); }

static elbo_status run(const kernel *k, const kernel_args *a) {
  const state *s = k->state;
  const conv_problem *p = &s->problem;
  int data = p->direction == CONV_TRANSPOSED ? p->y : p->x;
  uint64_t *packed_version = a->persist;
  size_t head = p->weights_constant ? 64 : 0;
  gemm_io io = {.a = a->in[data],
                .b = a->in[p->w],
                .bias = p->bias >= 0 ? a->in[p->bias] : NULL,
                .residual = p->residual >= 0 ? a->in[p->residual] : NULL,
                .c = a->out[0],
                .pre = p->epilogue.keep_pre ? a->out[1] : NULL,
                .scratch = a->scratch};
  if (p->weights_constant) {
    io.packed = (float *)((char *)a->persist + head);
    io.packed_valid = *packed_version == a->version[p->w] + 1; // 0: never packed
  } else {
    io.packed = (float *)((char *)a->scratch + ISA(gemm_scratch_bytes)(pool_threads(a->pool)));
  }
  ISA(gemm_run)(a->pool, s->jobs, s->n_jobs, &io);
  if (p->weights_constant) *packed_version = a->version[p->w] + 1;
  return ELBO_OK;
}

static bool supports(const conv_problem *p) { return p->direction != CONV_WEIGHT_GRAD; }

static double cost(const conv_problem *p) {
  const conv_sizes *z = &p->size;
  bool t = p->direction == CONV_TRANSPOSED;
  double rows = t ? (double)(z->B * z->H * z->W) / (p->attr.stride[0] * p->attr.stride[1]) : (double)(z->B * z->OH * z->OW);
  double K = (double)(z->kh * z->kw * (t ? z->O : z->I)), vectors = (double)(((t ? z->I : z->O) + VW - 1) / VW);
  // Weights that change are packed anew, lane by lane (4x4 and 7x7 maps of 256 and 512 channels: 3 to 4 each, 13 to 15 where taps lie
  // apart).
  double packed = p->weights_constant || z->kh * z->kw == 1 ? 0 : (t ? 3.0 : 12.0) * VW * K * vectors;
  return (double)z->groups * (rows * (K * (vectors * conv_product_cost(p) + 0.3) + 8 * vectors) + packed);
}

static elbo_status prepare(compile_env *env, const conv_problem *p, kernel *k) {
  bool transposed = p->direction == CONV_TRANSPOSED;
  const conv_sizes *z = &p->size;
  int64_t sets = conv_patch_set_count(p, transposed), groups = z->groups;
  int threads = pool_threads(env->pool);
  k->destroy = destroy;
  state *s;
  TRY(array_new(env->ctx, 1, sizeof *s, "kernel state", (void **)&k->state));
  s = k->state;
  s->problem = *p;
  TRY(array_new(env->ctx, (size_t)(sets * groups), sizeof *s->jobs, "kernel state", (void **)&s->jobs));
  TRY(array_new(env->ctx, (size_t)(sets * groups), sizeof *s->sets, "kernel state", (void **)&s->sets));
  TRY(array_new(env->ctx, (size_t)(patch_store_size(p, transposed) * groups), sizeof *s->store, "kernel state", (void **)&s->store));
  int64_t *store = s->store;
  for (int64_t g = 0; g < groups; g++) {
    conv_patches *set = s->sets + s->n_jobs;
    int n = conv_patch_sets(p, transposed, g, set, &store);
    for (int i = 0; i < n; i++, s->n_jobs++) {
      gemm_job *j = s->jobs + s->n_jobs;
      *j = (gemm_job){.M = set[i].rows,
                      .N = transposed ? z->I : z->O,
                      .K = patch_length(set + i),
                      .precision = gemm_precision_of(p->bf16, p->bf16_unit, set[i].rows),
                      .n_offset = g * (transposed ? z->I : z->O),
                      .packed_offset = s->packed,
                      .gather = gather,
                      .pack = pack,
                      .place = place,
                      .user = set + i,
                      .epilogue = p->epilogue};
      s->packed += ISA(gemm_plan)(j, threads);
    }
  }
  size_t bytes = (size_t)s->packed * sizeof(float);
  k->scratch_bytes = ISA(gemm_scratch_bytes)(threads) + (p->weights_constant ? 0 : bytes);
  k->persist_bytes = p->weights_constant ? bytes + 64 : 0;
  k->run = run;
  k->name = !p->bf16                                ? "own:patch_gemm." ISA_TEXT
            : s->jobs[0].precision == GEMM_BF16_DOT ? "own:patch_gemm_bf16_dot." ISA_TEXT
                                                    : "own:patch_gemm_bf16." ISA_TEXT;
  return ELBO_OK;
}

const conv_kernel ISA(conv_gemm) = {"patch_gemm", supports, cost, prepare, false};
