// oneDNN, behind a door: this pair of files alone knows its API (version 2's, Debian 12; version 3's, by the same functions).
// The library is opened when the first convolution asks for it, not when the process starts; where it is missing or refuses a shape,
// callers run kernels of our own.
#ifndef BACKEND_ONEDNN_H
#define BACKEND_ONEDNN_H

#include <stdbool.h>

#include "core/ctx.h"

typedef enum onednn_direction { ONEDNN_FORWARD, ONEDNN_BACKWARD_DATA, ONEDNN_BACKWARD_WEIGHTS } onednn_direction;

// Tensors are float32: x (B,H,W,groups I), y (B,OH,OW,groups O), weights (groups O,I,kh,kw).
typedef struct onednn_conv_config {
  onednn_direction direction;
  bool bias; // (groups O), added to y; forward alone
  bool bf16; // the two operands are rounded to bfloat16 before they are multiplied; only where the processor has its product
  int64_t B, H, W, I, O, kh, kw, OH, OW, groups;
  int64_t stride[2], dilation[2], pad[2]; // dilation 1: none; pad: top, left (the far side follows from the sizes)
} onednn_conv_config;

typedef struct onednn_conv onednn_conv;

// "2.6.3", or NULL when the library cannot be opened (it is opened here).
const char *onednn_version(void);

// ELBO_ERROR_UNSUPPORTED with a message when there is no library or it refuses. On failure *out is NULL.
elbo_status onednn_conv_create(elbo_ctx *ctx, const onednn_conv_config *config, onednn_conv **out);
void onednn_conv_destroy(onednn_conv **conv);
const char *onednn_conv_name(const onednn_conv *conv);     // "onednn:jit:avx2"
size_t onednn_conv_scratch_bytes(const onednn_conv *conv); // of its scratchpad and of rounded operands
size_t onednn_conv_packed_bytes(const onednn_conv *conv);  // of the weights in the layout that it wants; 0: as they are
// Converts weights (O,I,kh,kw) to its layout (forward, backward data), or its layout to (O,I,kh,kw) (backward weights).
elbo_status onednn_conv_reorder(onednn_conv *conv, const thread_pool *pool, const float *from, float *to);
// The two operands and the result, in the order of (x, w, y) without the one that is made. Weights are in its own layout. bias NULL without
// one. Scratch is 64-byte aligned.
elbo_status onednn_conv_run(onednn_conv *conv, const thread_pool *pool, const float *first, const float *second, const float *bias,
                            float *result, void *scratch);

#endif
