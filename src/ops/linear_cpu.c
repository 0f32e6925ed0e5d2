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
  const int x = fused ? FUSED_X : 0, w = fused ? FUSED_WEIGHT : 1, b = fused ? FUSED_BIAS : 2, bias = n->in[b] ? b : -1;
  const int residual = fused && n->in[FUSED_RESIDUAL] ? FUSED_RESIDUAL : -1;
  const int64_t O = n->in[w]->shape.dim[0], I = n->in[w]->shape.dim[1], rows = shape_count(&n->out[0]->shape) / (O ? O : 1);
  contraction_epilogue e = CONTRACTION_EPILOGUE_NONE;
  if (fused) e = ((const fused_contraction_attr *)n->attr)->epilogue;
  bool simple = e.activation == CONTRACTION_LINEAR && !e.keep_pre && e.alpha == 1 && (env->bf16 || (!fused && !env->weights_constant));
  if (simple && conv_onednn_takes_product(env, rows, I, O)) {
    elbo_status status = conv_onednn_product(env, &(conv_product){CONV_FORWARD, rows, I, O, x, w, -1, bias, residual, true}, k);
    if (status != ELBO_ERROR_UNSUPPORTED) return status;
  }
  k->destroy = destroy;
  TRY(array_new(env->ctx, 1, sizeof(state), "kernel state", &k->state));
  state *s = k->state;
  s->x = x, s->w = w, s->bias = bias, s->residual = residual;
  s->keep_packed = env->weights_constant;
  s->job = (gemm_job){.M = rows, .N = O, .K = I, .lda = I, .ldb = I, .ldc = O, .b_transposed = true, .epilogue = e};
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
