// A UNet's config resolved level by level, for the checks and for the network: what diffusers' constructors hand to their blocks.
#ifndef NN_UNET_LEVELS_H
#define NN_UNET_LEVELS_H

#include "nn/unet_config.h"

typedef enum unet_attention {
  UNET_ATTENTION_NONE,
  UNET_ATTENTION_SELF,  // behind every residual block
  UNET_ATTENTION_CROSS, // a transformer with cross-attention behind every residual block
  UNET_ATTENTION_ADDED  // attention to positions and context at once behind every residual block
} unet_attention;

typedef enum unet_resampler { UNET_RESAMPLE_CONV, UNET_RESAMPLE_RESNET, UNET_RESAMPLE_BY_KEY, UNET_RESAMPLE_FIR } unet_resampler;

typedef struct unet_block_type {
  const char *down, *up; // names on either way
  bool plain, condition; // the classes that have it
  unet_attention attention;
  unet_resampler resampler;
} unet_block_type;

enum { UNET_LEVELS_MAX = 16 };

typedef struct unet_level {
  const unet_block_type *type;
  int64_t out;    // channels
  int64_t layers; // residual blocks
  bool last;      // there is no resampling behind it
  unet_resampler resampler;
  int64_t heads;        // cross: heads a transformer's attention has
  int64_t head_dim;     // self (0: all channels), added: channels of a head
  config_ints depth;    // cross: transformer blocks behind residual block i; one number counts for all
  int64_t context;      // cross, added: width of the context
  bool only_cross;      // cross: no self-attention; added: no keys of the positions
  double rescale;       // of residual blocks
  bool embedding_as_is; // of residual blocks
} unet_level;

typedef struct unet_levels {
  int n;
  unet_level down[UNET_LEVELS_MAX], up[UNET_LEVELS_MAX], middle; // middle.type is NULL
  int64_t time_dim;                                              // of the embedded time
  int64_t time_input_dim;                                        // of what its network takes
} unet_levels;

// The lists' lengths and the names of blocks are checked here, the rest by unet_check.
elbo_status unet_resolve(elbo_ctx *ctx, const unet_config *c, const char *where, unet_levels *out);
int64_t unet_depth(const unet_level *level, int64_t layer);
// That no key of the other class is set.
elbo_status unet_check_keys(elbo_ctx *ctx, const unet_config *c, const char *where);

#endif
