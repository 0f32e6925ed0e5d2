#include "core/memory.h"
#include "ops/conv_cpu.h"
#include "ops/gemm_cpu.h"
#include "ops/matmul.h"

#include <stdlib.h>

typedef struct state {
  gemm_job job;
  matmul_sizes size;
  int64_t packed;  // floats
  bool by_product; // each product wholly in one thread
} state;

static void destroy(kernel *k) {
  free(k->state);
  k->state = NULL;
}

typedef struct region {
  const state *s;
  const kernel_args *args;
} region;

static gemm_io io_of(const state *s, const kernel_args *a, int64_t l) {
  return (gemm_io){.a = (const float *)a->in[0] + l * s->size.a_step,
                   .b = (const float *)a->in[1] + l * s->size.b_step,
                   .c = (float *)a->out[0] + l * s->size.M * s->size.N};
}

static void products(void *arg, int id, int count) {
  const region *r = arg;
  const state *s = r->s;
  int64_t l0, l1;
  split_range(s->size.batch, id, count, &l0, &l1);
  size_t block = ISA(gemm_scratch_bytes)(1) / sizeof(float);
  float *scratch = (float *)r->args->scratch + id * ((int64_t)block + s->packed);
  for (int64_t l = l0; l < l1; l++) {
    gemm_io io = io_of(s, r->args, l);
    io.packed = scratch + block;
    io.packed_valid = l > l0 && s->size.b_step == 0;
    ISA(gemm_run_single)(&s->job, &io, scratch);
  }
}

static elbo_status run(const kernel *k, const kernel_args *a) {
  const state *s = k->state;
  if (s->by_product) {
    parallel_run(a->pool, products, &(region){s, a});
    return ELBO_OK;
  }
  for (int64_t l = 0; l < s->size.batch; l++) {
    gemm_io io = io_of(s, a, l);
    io.scratch = a->scratch;
    io.packed = (float *)((char *)a->scratch + ISA(gemm_scratch_bytes)(pool_threads(a->pool)));
    io.packed_valid = l > 0 && s->size.b_step == 0;
    ISA(gemm_run)(a->pool, &s->job, 1, &io);
  }
  return ELBO_OK;
}

// The gradients of a linear layer: by its input dy w, by its weight dy' x.
static elbo_status prepare_gradient(compile_env *env, const matmul_attr *t, const matmul_sizes *z, kernel *k) {
  if (z->batch != 1 || t->transpose_b) return ELBO_ERROR_UNSUPPORTED;
  conv_product p = t->transpose_a ? (conv_product){CONV_WEIGHT_GRAD, z->K, z->N, z->M, 1, -1, 0, -1, -1, false}
                                  : (conv_product){CONV_TRANSPOSED, z->M, z->N, z->K, -1, 1, 0, -1, -1, false};
  return conv_onednn_takes_product(env, p.rows, p.I, p.O) ? conv_onednn_product(env, &p, k) : ELBO_ERROR_UNSUPPORTED;
}

static elbo_status prepare(compile_env *env, const node *n, kernel *k) {
  const matmul_attr *t = n->attr;
  int threads = pool_threads(env->pool);
  matmul_sizes z = matmul_sizes_of(n);
  if (!t->transpose_a && z.b_step == 0) z.M *= z.batch, z.batch = 1; // one tall product
  elbo_status status = prepare_gradient(env, t, &z, k);
  if (status != ELBO_ERROR_UNSUPPORTED) return status;
  k->destroy = destroy;
  TRY(array_new(env->ctx, 1, sizeof(state), "kernel state", &k->state));
  state *s = k->state;
  s->size = z;
  s->job = (gemm_job){.M = z.M,
                      .N = z.N,
                      .K = z.K,
                      .lda = t->transpose_a ? z.M : z.K,
                      .ldb = t->transpose_b ? z.K : z.N,
                      .ldc = z.N,
                      .a_transposed = t->transpose_a,
                      .b_transposed = t->transpose_b,
                      .epilogue = CONTRACTION_EPILOGUE_NONE};
  s->job.precision = gemm_precision_of(env->bf16, env->bf16_unit, z.M);
  s->by_product = z.batch >= 2 * threads;
  s->packed = ISA(gemm_plan)(&s->job, s->by_product ? 1 : threads); // of one product
  k->scratch_bytes = ISA(gemm_scratch_bytes)(threads) + (size_t)s->packed * sizeof(float) * (size_t)(s->by_product ? threads : 1);
  k->run = run;
  k->name = ISA(gemm_name)(s->job.precision);
  return ELBO_OK;
}

const cpu_op ISA(matmul_cpu) = {prepare};
