// Codes from a table: each vector becomes the nearest row [Oord17].
#ifndef NN_VECTOR_QUANTIZER_H
#define NN_VECTOR_QUANTIZER_H

#include <stdbool.h>

#include <elbo/ops.h>

typedef struct quantized {
  elbo_tensor *index; // int32 (...): the nearest row of the table, the first of several
  elbo_tensor *row;   // (...,D): that row, with a gradient to the table
  elbo_tensor *codes; // (...,D): the same values, whose gradient goes straight through to z [Oord17 sec. 3.2]
} quantized;

// z (...,D), table (V,D). All NULL after an error.
quantized quantize_vectors(elbo_tensor *z, elbo_tensor *table);

// What pulls rows and vectors together: mean (z - stop(row))^2 and mean (stop(z) - row)^2. `commitment` weighs the former, as in [Oord17
// eq. 3]; with `legacy` the latter, as diffusers' VQModel has it. weight (B): of each entry of the first axis; NULL: all alike. A scalar.
elbo_tensor *quantization_loss(elbo_tensor *z, const quantized *q, double commitment, bool legacy, elbo_tensor *weight);

// How often each of the n rows is the nearest one, (n), summing to 1. weight: as index, or broadcast to it; NULL: all alike.
elbo_tensor *code_shares(const quantized *q, int64_t n, elbo_tensor *weight);
// e to the entropy of such shares: how many codes would be as evenly used. A scalar.
elbo_tensor *code_perplexity(elbo_tensor *shares);

#endif
