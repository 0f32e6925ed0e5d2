#include "ops/embedding.h"

OP_REFERENCE(embedding) {
  const int32_t *index = in[0];
  const double *table = in[1];
  double *y = out[0];
  int64_t count = shape_count(&n->in[0]->shape), rows = n->in[1]->shape.dim[0], width = n->in[1]->shape.dim[1];
  TRY(embedding_check(ctx, index, count, rows));
  for (int64_t i = 0; i < count; i++)
    for (int64_t d = 0; d < width; d++) y[i * width + d] = table[index[i] * width + d];
  return ELBO_OK;
}

OP_REFERENCE(embedding_grad) {
  const int32_t *index = in[0];
  const double *dy = in[1];
  double *dtable = out[0];
  int64_t count = shape_count(&n->in[0]->shape), rows = n->out[0]->shape.dim[0], width = n->out[0]->shape.dim[1];
  TRY(embedding_check(ctx, index, count, rows));
  for (int64_t i = 0; i < rows * width; i++) dtable[i] = 0;
  for (int64_t i = 0; i < count; i++)
    for (int64_t d = 0; d < width; d++) dtable[index[i] * width + d] += dy[i * width + d];
  return ELBO_OK;
}
