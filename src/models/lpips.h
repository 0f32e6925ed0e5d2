// LPIPS on VGG-16 [Zhang18 eq. 1]: the network as torchvision has it, and weights of its channels, learned from people's judgements.
#ifndef MODELS_LPIPS_H
#define MODELS_LPIPS_H

#include <stdbool.h>

#include "nn/vgg.h"

typedef struct lpips_maps {
  vgg_maps features;
  elbo_tensor *channels[VGG_LEVELS]; // (C), frozen "linear.0" to "linear.4"
} lpips_maps;

// x (B,H,W,1 or 3) in 0..1, normed as LPIPS does: (2 x - 1 - shift) / scale, grey as three equal channels.
lpips_maps lpips_features(elbo_tensor *x);

// A store of these parameters. vgg: a file of VGG-16's weights, named features.N.weight as torchvision does or net.sliceK.N.weight as
// the lpips package does; the layers behind the features are passed over. channels: a file with lin0.model.1.weight (1,64,1,1) to
// lin4.model.1.weight; "": those of the first file, or ones where it has none. *learned: whether they were in a file. What is missing,
// mis-shaped, negative or of another network is named.
elbo_status lpips_weights_read(elbo_ctx *ctx, const char *vgg, const char *channels, elbo_store **out, bool *learned);

#endif
