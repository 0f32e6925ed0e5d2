// Attention with its projections: parameters as in diffusers' Attention ("to_q.weight", "to_out.0.bias").
#ifndef NN_ATTENTION_BLOCK_H
#define NN_ATTENTION_BLOCK_H

#include "nn/layers.h"

typedef struct attention_config {
  int64_t heads, head_dim; // heads * head_dim numbers a token within
  bool bias;               // of to_q, to_k, to_v; to_out.0 always has one
  elbo_tensor *context;    // (B,M,D), what keys and values are made of; NULL: x
  int scheme;              // init_scheme; xavier takes to_q, to_k, to_v for one layer of three times the width
  bool zero_out;           // to_out.0 starts at zero
} attention_config;

// (B,N,C) -> (B,N,C), in the scope `name`
elbo_tensor *attention_layer(elbo_tensor *x, const char *name, const attention_config *c);

typedef struct attention_block_config {
  int groups;       // of the group norm in front, lowered to a divisor of the channels; 0: none
  double eps;       // of that norm; 0: 1e-5
  int64_t head_dim; // channels of a head, as many heads as fit into the channels; 0: one head
  double rescale;   // what the sum with x is divided by; 0: 1
  bool zero_out;    // to_out.0 starts at zero
} attention_block_config;

// Self-attention over the positions of (B,H,W,C), with its norm and residual
elbo_tensor *attention_block(elbo_tensor *x, const char *name, const attention_block_config *c);

typedef enum context_norm { CONTEXT_NORM_NONE, CONTEXT_NORM_LAYER, CONTEXT_NORM_GROUP } context_norm;

typedef struct added_attention_config {
  int groups;           // of the group norm in front
  double eps;           // of that norm; 0: 1e-5
  int64_t head_dim;     // divides the channels
  elbo_tensor *context; // (B,M,D): its keys and values stand before the positions' own
  bool only_context;    // there are no keys and values of the positions
  int norm;             // context_norm
} added_attention_config;

// Over the positions of (B,H,W,C) and a context at once, with norm and residual ("add_k_proj", "add_v_proj")
elbo_tensor *added_attention_block(elbo_tensor *x, const char *name, const added_attention_config *c);

#endif
