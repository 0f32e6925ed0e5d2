// Weights that PyTorch's side and ours make alike from their names, so that no file of millions of numbers need be kept.
#ifndef SUPPORT_NAMED_WEIGHTS_H
#define SUPPORT_NAMED_WEIGHTS_H

#include "core/safetensors.h"
#include "support/test.h"

// Number `index` of a name, in [-1, 1): 32-bit FNV-1a of the name, then the finaliser of MurmurHash3.
double named_uniform(const char *name, uint32_t index);

enum { NAMED_MOST = 500 };
typedef struct named_weights {
  int n;
  char name[NAMED_MOST][64];
  tensor_view view[NAMED_MOST];
} named_weights;

// float32 offset + scale * named_uniform(name, i) under name = stem rest.
void named_add(named_weights *w, const char *stem, const char *rest, int rank, const int64_t *dim, double scale, double offset);
void named_write(elbo_ctx *ctx, const named_weights *w, const char *path); // as safetensors
void named_drop(named_weights *w, int n);                                  // the last n
void named_free(named_weights *w);                                         // leaves it empty

#endif
