// The names that other code gives to the tensors of diffusers' UNets, turned into diffusers' own.
#ifndef MODELS_WEIGHTS_LAYOUT_H
#define MODELS_WEIGHTS_LAYOUT_H

#include "core/memory.h"
#include "models/weights.h"

typedef enum weights_layout {
  WEIGHTS_LAYOUT_UNKNOWN,
  WEIGHTS_LAYOUT_DIFFUSERS,  // already
  WEIGHTS_LAYOUT_DEPRECATED, // diffusers before 0.12: query, key, value, proj_attn
  WEIGHTS_LAYOUT_BLOCKS,     // input_blocks, middle_block, output_blocks: improved and guided diffusion, latent and Stable Diffusion
  WEIGHTS_LAYOUT_DDPM        // down, mid, up: the PyTorch port of the DDPM code, and the first latent diffusion autoencoders' cousins
} weights_layout;
const char *weights_layout_name(weights_layout layout);

// The layout that the names tell, and below which key ("model.diffusion_model", "") it lies.
weights_layout weights_recognise(const weights *w, const char **key);

// How a layer that holds query, key and value in one (qkv) has its rows: head by head, each its query, key and value rows (the default of
// guided diffusion, "legacy"), or all queries, all keys, all values. Head by head, the number of heads must be known: it shows in no shape.
typedef struct qkv_rows {
  bool by_kind;
  int64_t heads;    // 0: from head_dim
  int64_t head_dim; // 0: from heads
} qkv_rows;

typedef struct tensor_list {
  tensor_view *at;
  int64_t count, capacity;
} tensor_list;

// Appends every tensor of w under its diffusers name; names and changed data live in the arena. A tensor without a place in the layout is
// refused by name.
elbo_status weights_to_diffusers(elbo_ctx *ctx, const weights *w, weights_layout layout, const qkv_rows *rows, arena *a, tensor_list *out);
// The way back, from diffusers' names to WEIGHTS_LAYOUT_BLOCKS.
elbo_status weights_to_original(elbo_ctx *ctx, const weights *w, const qkv_rows *rows, arena *a, tensor_list *out);

// How many pieces of equal size the rows of each of query, key and value are in: the heads, 1 when they are ordered by kind. `v` stands in
// messages.
elbo_status qkv_heads(elbo_ctx *ctx, const weights *w, const tensor_view *v, int64_t channels, const qkv_rows *rows, int64_t *heads);

#endif
