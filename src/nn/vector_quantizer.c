#include "nn/vector_quantizer.h"

#include <stdlib.h>

#include "backend/node.h"

// 0, 1, ..., n-1 as floats, exact up to 2^24
static elbo_tensor *counting(elbo_graph *g, int64_t n) {
  float *values = malloc((size_t)n * sizeof *values);
  if (!values) return graph_fail(g, ELBO_ERROR_MEMORY, "out of memory for %lld numbers", (long long)n);
  for (int64_t i = 0; i < n; i++) values[i] = (float)i;
  elbo_tensor *t = elbo_constant_array(g, 1, &n, values);
  free(values);
  return t;
}

quantized quantize_vectors(elbo_tensor *z, elbo_tensor *table) {
  if (!z || !table) return (quantized){0};
  elbo_graph *g = elbo_tensor_graph(z);
  int rank = elbo_tensor_rank(z);
  int64_t n = elbo_tensor_dim(table, 0), dim[ELBO_MAX_RANK];
  const unsigned last = 1u << (rank - 1);
  for (int i = 0; i < rank - 1; i++) dim[i] = elbo_tensor_dim(z, i);
  // -|z - e|^2 + |z|^2 = 2 z e - |e|^2: (...,V)
  elbo_tensor *e = elbo_stop_gradient(table);
  elbo_tensor *nearness = elbo_sub(elbo_scale(elbo_linear(elbo_stop_gradient(z), e, NULL), 2, 0), elbo_sum(elbo_square(e), 1u << 1, 0));
  elbo_tensor *further = elbo_less(nearness, elbo_max(nearness, last, 1));
  elbo_tensor *negative = elbo_where(further, elbo_constant(g, -(double)n), elbo_neg(counting(g, n)));
  elbo_tensor *index = elbo_cast(elbo_neg(elbo_reshape(elbo_max(negative, last, 1), rank - 1, dim)), ELBO_I32);
  elbo_tensor *row = elbo_embedding(index, table);
  return (quantized){.index = index, .row = row, .codes = elbo_add(z, elbo_stop_gradient(elbo_sub(row, z)))};
}

// The mean square over all, or over what counts.
static elbo_tensor *mean_square(elbo_tensor *off, elbo_tensor *weight) {
  off = elbo_square(off);
  if (!off || !weight) return elbo_mean(off, ELBO_ALL_AXES, 0);
  const int rank = elbo_tensor_rank(off);
  elbo_tensor *each = elbo_mean(off, ((1u << rank) - 1) & ~1u, 0);
  return elbo_div(elbo_sum(elbo_mul(each, weight), ELBO_ALL_AXES, 0), elbo_sum(weight, ELBO_ALL_AXES, 0));
}

elbo_tensor *quantization_loss(elbo_tensor *z, const quantized *q, double commitment, bool legacy, elbo_tensor *weight) {
  elbo_tensor *commit = mean_square(elbo_sub(elbo_stop_gradient(q->row), z), weight);
  elbo_tensor *rows = mean_square(elbo_sub(q->row, elbo_stop_gradient(z)), weight);
  return legacy ? elbo_add(commit, elbo_scale(rows, commitment, 0)) : elbo_add(elbo_scale(commit, commitment, 0), rows);
}

elbo_tensor *code_shares(const quantized *q, int64_t n, elbo_tensor *weight) {
  if (!q->index) return NULL;
  const int rank = elbo_tensor_rank(q->index);
  int64_t dim[ELBO_MAX_RANK];
  for (int i = 0; i < rank; i++) dim[i] = elbo_tensor_dim(q->index, i);
  dim[rank] = 1;
  elbo_graph *g = elbo_tensor_graph(q->index);
  elbo_tensor *at = elbo_reshape(elbo_cast(q->index, ELBO_F32), rank + 1, dim);
  elbo_tensor *hit = elbo_less(elbo_abs(elbo_sub(at, counting(g, n))), elbo_constant(g, 0.5)); // (...,n)
  if (weight) {
    for (int i = 0; i < rank; i++) dim[i] = elbo_tensor_dim(weight, i);
    hit = elbo_mul(hit, elbo_reshape(weight, rank + 1, dim));
  }
  elbo_tensor *count = elbo_sum(hit, (1u << rank) - 1, 0);
  return elbo_div(count, elbo_sum(count, ELBO_ALL_AXES, 0));
}

elbo_tensor *code_perplexity(elbo_tensor *shares) {
  elbo_tensor *each = elbo_mul(shares, elbo_log(elbo_scale(shares, 1, 1e-30))); // 0 log 0 = 0
  return elbo_exp(elbo_neg(elbo_sum(each, ELBO_ALL_AXES, 0)));
}
