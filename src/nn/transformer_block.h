// Transformer blocks of the latent diffusion kind: parameters as in diffusers' BasicTransformerBlock and Transformer2DModel [Rombach22].
#ifndef NN_TRANSFORMER_BLOCK_H
#define NN_TRANSFORMER_BLOCK_H

#include "nn/attention_block.h"

typedef struct transformer_config {
  int64_t heads, head_dim;
  elbo_tensor *context; // (B,M,D) of the second attention; NULL: there is none
  bool only_context;    // the first attention looks at the context too
} transformer_config;

// (B,N,C): norm1, attn1, norm2, attn2, norm3, ff (gated by gelu, four times as wide), each with its residual
elbo_tensor *transformer_block(elbo_tensor *x, const char *name, const transformer_config *c);

// (B,H,W,C): norm, proj_in, `depth` blocks over the positions, proj_out, and the residual. `linear`: the projections are linear layers
// rather than 1x1 convolutions, which differs in the weights' shape alone.
elbo_tensor *spatial_transformer(elbo_tensor *x, const char *name, int groups, int64_t depth, bool linear, const transformer_config *c);

#endif
