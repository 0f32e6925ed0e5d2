// diffusers' UNet2DModel and UNet2DConditionModel as graphs [Ho20; Dhariwal21; Rombach22; Podell23].
#ifndef NN_UNET_H
#define NN_UNET_H

#include "nn/unet_config.h"

// (B,H,W,out_channels). Parameters in the present scope, by the names of diffusers' tensors. `c` has been through unet_fit; what unet_check
// refuses is a graph error here.
elbo_tensor *unet_network(const unet_config *c, const denoiser_inputs *in);

#endif
