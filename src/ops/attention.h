// softmax and attention.
#ifndef OPS_ATTENTION_H
#define OPS_ATTENTION_H

#include "ops/kernel_util.h"

// attention: in q (B,Nq,heads*d), k, v (B,Nk,heads*d), bias NULL or broadcastable to (B,heads,Nq,Nk); out y (B,Nq,heads*d),
//   lse (B,heads,Nq) = log sum_j exp(scale q.k_j + bias_j). A query that may see no key has y = 0 and lse = -infinity.
// attention_grad: in q, k, v, bias or NULL, y, lse, dy; out dq, dk, dv, dbias (bias's shape; one number, 0, when it is not wanted)
typedef struct attention_attr {
  int64_t heads;
  double scale;
  int64_t causal;     // query i sees keys 0 .. i + Nk - Nq
  int64_t want_dbias; // of the gradient
} attention_attr;

OP_REFERENCE(softmax);
OP_REFERENCE(softmax_grad);
OP_REFERENCE(attention);
OP_REFERENCE(attention_grad);

#endif
