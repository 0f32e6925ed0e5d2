// The residual block of every convolutional network here: parameters as in diffusers' ResnetBlock2D.
#ifndef NN_RESIDUAL_BLOCK_H
#define NN_RESIDUAL_BLOCK_H

#include "nn/layers.h"

typedef enum block_resample {
  RESAMPLE_NONE,
  RESAMPLE_UP,     // nearest
  RESAMPLE_DOWN,   // means of 2x2
  RESAMPLE_FIR_UP, // both filtered by (1,3,3,1) [Song21 appendix C]
  RESAMPLE_FIR_DOWN,
  RESAMPLE_FIR_DOWN_INSIDE // where the filter lies inside the map: (B,H,W,C) -> (B,H/2-1,W/2-1,C)
} block_resample;

// What its parameters are called where that is not diffusers' way
typedef struct block_names {
  const char *norm1, *conv1, *projection, *norm2, *conv2, *shortcut;
} block_names;

typedef struct block_config {
  int64_t out;              // channels; 0: as many as come in
  int kernel;               // 3, or 1 for vectors as (B,1,1,C)
  int groups;               // of the norms, lowered to the largest divisor of the channels; 0: no norm
  int groups_out;           // of the second norm; 0: as the first
  double eps;               // of the norms; 0: 1e-5
  int activation;           // activation_kind
  double dropout;           // before the second convolution; 0 when not training
  double gain;              // of the last convolution
  double rescale;           // what the sum with x is divided by; 0: 1
  elbo_tensor *embedding;   // (B,E) or NULL: activated, projected and added after the first convolution
  bool scale_shift;         // instead: projected to a scale and a shift of the second norm's result, h (1 + scale) + shift
  bool embedding_as_is;     // the embedding is not activated before its projection
  bool always_shortcut;     // a 1x1 convolution of x even where widths agree
  int resample;             // block_resample, of both paths, behind the first activation
  int scheme;               // init_scheme of its layers
  bool zero_projection;     // the embedding has no say when training starts
  const block_names *names; // NULL: "norm1", "conv1", "time_emb_proj", "norm2", "conv2", "conv_shortcut"
} block_config;

// norm1, activation, conv1, (+ time_emb_proj), norm2, activation, dropout, conv2; + x, through conv_shortcut when widths differ
elbo_tensor *residual_block(elbo_tensor *x, const char *name, const block_config *c);

// (B,H,W,C) to twice or half the height and width
elbo_tensor *resample_map(elbo_tensor *x, block_resample kind);

#endif
