// What is at hand while a UNet's graph is built, and its blocks.
#ifndef NN_UNET_WALK_H
#define NN_UNET_WALK_H

#include "nn/unet_levels.h"

enum { UNET_SKIPS_MAX = 1 + UNET_LEVELS_MAX * 65 };

typedef struct unet_walk {
  const unet_config *config;
  elbo_graph *graph;
  int activation;         // activation_kind of residual blocks
  double dropout;         // 0 when not training
  elbo_tensor *embedding; // (B,E): time, class and what is added
  elbo_tensor *context;   // (B,M,D) or NULL
  elbo_tensor *picture;   // score_sde: the picture that goes along the network's outside
  elbo_tensor *skips[UNET_SKIPS_MAX];
  int n_skips;
} unet_walk;

// (B,E) from the time and the conditions (unet_embedding.c)
elbo_tensor *unet_embedding(const unet_config *c, const unet_levels *levels, const denoiser_inputs *in);

elbo_tensor *unet_down_level(unet_walk *w, elbo_tensor *x, const unet_level *level, int i);
elbo_tensor *unet_middle(unet_walk *w, elbo_tensor *x, const unet_level *level);
elbo_tensor *unet_up_level(unet_walk *w, elbo_tensor *x, const unet_level *level, int i);
// Groups of the middle's norms and of the last one: a norm_num_groups of null leaves them to the channels.
int64_t unet_groups(const unet_config *c, int64_t channels);
// Group norm with a divisor of the channels, or a graph error.
elbo_tensor *unet_norm(unet_walk *w, elbo_tensor *x, const char *name, int64_t groups);

#endif
