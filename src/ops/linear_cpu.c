#include "core/memory.h"
#include "ops/conv_cpu.h"
#include "ops/gemm_cpu.h"
#include "ops/linear.h"

#include <stdlib.h>

typedef struct state {
  gemm_job job;
  int x, w, bias, residual; // inputs, -1 for none
  bool keep_pre, keep_packed;
} state;

static void destroy(kernel *k) {
  free(k->state);
  k->state = NULL;
}

// persist: the version that is packed, plus one, in 64 bytes; then the packed weights
static elbo_status run(const kernel *k, const kernel_args *a) {
  const state *s = k->state;
  gemm_io io = {.a = a->in[s->x],
                .b = a->in[s->w],
                .bias = s->bias >= 0 ? a->in[s->bias] : NULL,
                .residual = s->residual >= 0 ? a->in[s->residual] : NULL,
                .c = a->out[0],
                .pre = s->keep_pre ? a->out[1] : NULL,
                .scratch = a->scratch};
  if (s->keep_packed) {
    uint64_t *packed_version = a->persist;
    io.packed = (float *)a->persist + 16;
    io.packed_valid = *packed_version == a->version[s->w] + 1;
    *packed_version = a->version[s->w] + 1;
  } else {
    io.packed = (float *)((char *)a->scratch + ISA(gemm_scratch_bytes)(pool_threads(a->pool)));
  }
  ISA(gemm_run)(a->pool, &s->job, 1, &io);
  return ELBO_OK;
}

static elbo_status prepare(compile_env *env, const node *n, kernel *k) {
  bool fused = n->op == &op_fused_linear;
  if (!fused && !env->weights_constant) {
    int64_t O = n->in[1]->shape.dim[0], I = n->in[1]->shape.dim[1];
    conv_product p = {CONV_FORWARD, shape_count(&n->out[0]->shape) / (O ? O : 1), I, O, 0, 1, -1, n->in[2] ? 2 : -1};
    elbo_status status = conv_onednn_takes_product(env, p.rows, I, O) ? conv_onednn_product(env, &p, k) : ELBO_ERROR_UNSUPPORTED;
    if (status != ELBO_ERROR_UNSUPPORTED) return status;
  }
  k->destroy = destroy;
  TRY(array_new(env->ctx, 1, sizeof(state), "kernel state", &k->state));
  state *s = k->state;
  s->x = fused ? FUSED_X : 0;
  s->w = fused ? FUSED_WEIGHT : 1;
  s->bias = fused ? FUSED_BIAS : 2;
  s->residual = fused && n->in[FUSED_RESIDUAL] ? FUSED_RESIDUAL : -1;
  if (!n->in[s->bias]) s->bias = -1;
  s->keep_packed = env->weights_constant;
  int64_t O = n->in[s->w]->shape.dim[0], I = n->in[s->w]->shape.dim[1], rows = shape_count(&n->out[0]->shape) / (O ? O : 1);
  s->job = (gemm_job){.M = rows, .N = O, .K = I, .lda = I, .ldb = I, .ldc = O, .b_transposed = true, .epilogue = CONTRACTION_EPILOGUE_NONE};
  if (fused) s->job.epilogue = ((const fused_contraction_attr *)n->attr)->epilogue;
  s->job.keep = s->keep_packed;
  s->job.precision = gemm_precision_of(env->bf16, env->bf16_unit, rows);
  s->keep_pre = s->job.epilogue.keep_pre;
  size_t packed = (size_t)ISA(gemm_plan)(&s->job, pool_threads(env->pool)) * sizeof(float);
  k->scratch_bytes = ISA(gemm_scratch_bytes)(pool_threads(env->pool)) + (s->keep_packed ? 0 : packed);
  k->persist_bytes = s->keep_packed ? packed + 64 : 0;
  k->run = run;
  k->name = ISA(gemm_name)(s->job.precision);
  return ELBO_OK;
}

const cpu_op ISA(linear_cpu) = {prepare};
const cpu_op ISA(fused_linear_cpu) = {prepare};
