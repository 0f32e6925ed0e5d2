// Times as vectors: sines and cosines of them, and the little network behind.
#ifndef NN_TIME_EMBEDDING_H
#define NN_TIME_EMBEDDING_H

#include "nn/layers.h"

typedef struct sinusoid_config {
  int64_t width;     // of the result; an odd one ends with a zero
  bool cosine_first; // (cos, sin) rather than (sin, cos)
  double freq_shift; // frequency i is max_period^(-i / (width / 2 - freq_shift))
  double max_period; // 0: 10000
} sinusoid_config;

// (B) float32 -> (B,width) [Ho20 section 3.2, from Vaswani17 section 3.5]
elbo_tensor *sinusoid_embedding(elbo_tensor *t, const sinusoid_config *c);

// (B) float32 -> (B, 2 half): sines and cosines of 2 pi w t, w drawn once from N(0, scale^2), the frozen parameter "NAME.weight"
// [Tancik20]
elbo_tensor *fourier_embedding(elbo_tensor *t, const char *name, int64_t half, double scale, bool cosine_first);

// The same of frequencies w (half) that the caller has
elbo_tensor *fourier_features(elbo_tensor *t, elbo_tensor *w, bool cosine_first);

// (B,I) -> (B,width): linear_1, activation, linear_2 in the scope `name`. `condition` (B,K), or NULL, is added to the input through
// "cond_proj".
elbo_tensor *embedding_network(elbo_tensor *x, const char *name, int64_t width, int activation, elbo_tensor *condition);

#endif
