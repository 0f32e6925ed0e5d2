// The family's oracle: one instruction at a time, one element at a time, in double precision.
#include <math.h>
#include <stdlib.h>

#include "core/philox.h"
#include "ops/fused_elementwise.h"

static double sigmoid_double(double x) { return x >= 0 ? 1.0 / (1.0 + exp(-x)) : exp(x) / (1.0 + exp(x)); }

double elementwise_evaluate(elementwise_code code, double a, double b, const double *x) {
  double u = elementwise_operands(code) > 0 ? x[0] : 0.0, v = elementwise_operands(code) > 1 ? x[1] : 0.0;
  switch (code) {
  case EW_NEG: return -u;
  case EW_ABS: return fabs(u);
  case EW_SIGN: return isnan(u) ? u : (double)((u > 0) - (u < 0));
  case EW_EXP: return exp(u);
  case EW_LOG: return log(u);
  case EW_LOG1P: return log1p(u);
  case EW_EXPM1: return expm1(u);
  case EW_SQRT: return sqrt(u);
  case EW_RSQRT: return 1.0 / sqrt(u);
  case EW_SQUARE: return u * u;
  case EW_RECIPROCAL: return 1.0 / u;
  case EW_SIN: return sin(u);
  case EW_COS: return cos(u);
  case EW_TANH: return tanh(u);
  case EW_SIGMOID: return sigmoid_double(u);
  case EW_SOFTPLUS: return u > 0 ? u + log1p(exp(-u)) : log1p(exp(u));
  case EW_RELU: return u <= 0 ? 0.0 : u;
  case EW_LEAKY_RELU: return u > 0 ? u : a * u;
  case EW_GELU: return 0.5 * u * erfc(-u * 0.70710678118654752);
  case EW_GELU_TANH: return 0.5 * u * (1.0 + tanh(0.79788456080286536 * (u + 0.044715 * u * u * u)));
  case EW_SILU: return u * sigmoid_double(u);
  case EW_ERF: return erf(u);
  case EW_CLAMP: return u < a ? a : u > b ? b : u;
  case EW_SCALE: return a * u + b;
  case EW_ADD: return u + v;
  case EW_SUB: return u - v;
  case EW_MUL: return u * v;
  case EW_DIV: return u / v;
  case EW_MAXIMUM: return u > v || isnan(u) ? u : v;
  case EW_MINIMUM: return u < v || isnan(u) ? u : v;
  case EW_LESS: return u < v ? 1.0 : 0.0;
  case EW_WHERE: return u > 0.5 ? v : x[2];
  case EW_COPY: return u;
  case EW_CONSTANT: return a;
  default: return NAN;
  }
}

// Element `element` of sample `sample` of a stream; for dropout the uniform number that decides.
static double random_element(elementwise_code code, int64_t seed, uint32_t stream, int64_t sample, int64_t element) {
  uint32_t word[4];
  double pair[2];
  philox_draw((uint64_t)seed, stream, (uint64_t)sample, (uint32_t)(element / 4), word);
  int lane = (int)(element % 4);
  if (code != EW_RANDOM_NORMAL) return philox_uniform(word[lane]);
  philox_normal2(word[lane & 2], word[(lane & 2) + 1], pair);
  return pair[lane & 1];
}

static double evaluate_random(const elementwise_instruction *c, const double *reg, const void *const *in, int64_t linear,
                              int64_t per_sample) {
  int first = c->code == EW_DROPOUT; // the operand before seed and sample_index
  const int64_t *seed = in[c->src[first]], *sample_index = in[c->src[first + 1]];
  double r = random_element((elementwise_code)c->code, *seed, c->stream, sample_index[linear / per_sample], linear % per_sample);
  if (c->code != EW_DROPOUT) return r;
  return r >= c->a ? reg[c->src[0]] / (1.0 - c->a) : 0.0;
}

elbo_status elementwise_program_reference(elbo_ctx *ctx, const elementwise_program *p, elbo_tensor *const *in_tensor, const void *const *in,
                                          void *const *out) {
  int64_t stride[EW_MAX_INPUTS][ELBO_MAX_RANK] = {{0}}, index[ELBO_MAX_RANK] = {0}, count = shape_count(&p->iteration), row_length = 1;
  int rank = p->iteration.rank;
  for (int i = 0; i < p->n_in; i++)
    if (in_tensor[i]->dtype == ELBO_F32) broadcast_strides(&in_tensor[i]->shape, &p->iteration, stride[i]);
  for (int64_t axis = p->sum_axis; axis < rank; axis++) row_length *= p->iteration.dim[axis];
  int64_t per_sample = rank > 0 && p->iteration.dim[0] > 0 ? count / p->iteration.dim[0] : 1, n_rows = row_length ? count / row_length : 0;
  double *sums; // [n_out][n_rows]; apart, for an output may share the memory of an input
  TRY(array_new(ctx, (size_t)(p->n_out * n_rows), sizeof *sums, "sums of the oracle", (void **)&sums));
  for (int64_t linear = 0; linear < count; linear++) {
    double reg[EW_MAX_REGISTERS];
    for (int i = 0; i < p->n_in; i++) {
      int64_t offset = 0;
      for (int axis = 0; axis < rank; axis++) offset += index[axis] * stride[i][axis];
      reg[i] = in_tensor[i]->dtype == ELBO_F32 ? ((const double *)in[i])[offset] : 0.0;
    }
    for (int i = 0; i < p->n_instructions; i++) {
      const elementwise_instruction *c = &p->code[i];
      double x[3];
      if (c->code == EW_RANDOM_NORMAL || c->code == EW_RANDOM_UNIFORM || c->code == EW_DROPOUT) {
        reg[p->n_in + i] = evaluate_random(c, reg, in, linear, per_sample);
        continue;
      }
      for (int s = 0; s < elementwise_operands((elementwise_code)c->code); s++) x[s] = reg[c->src[s]];
      reg[p->n_in + i] = elementwise_evaluate((elementwise_code)c->code, c->a, c->b, x);
    }
    for (int o = 0; o < p->n_out; o++) {
      if (p->out[o].sum)
        sums[o * n_rows + linear / row_length] += reg[p->out[o].reg];
      else
        ((double *)out[o])[linear] = reg[p->out[o].reg];
    }
    for (int axis = rank - 1; axis >= 0 && ++index[axis] == p->iteration.dim[axis]; axis--) index[axis] = 0;
  }
  for (int o = 0; o < p->n_out; o++)
    for (int64_t row = 0; row < n_rows && p->out[o].sum; row++) ((double *)out[o])[row] = sums[o * n_rows + row];
  free(sums);
  return ELBO_OK;
}

elbo_status elementwise_reference(elbo_ctx *ctx, const node *n, const void *const *in, void *const *out) {
  elementwise_program p;
  if (!elementwise_program_of(n, &p)) return fail(ctx, ELBO_ERROR_INTERNAL, "%s is not an element-wise operation", n->op->name);
  return elementwise_program_reference(ctx, &p, n->in, in, out);
}
