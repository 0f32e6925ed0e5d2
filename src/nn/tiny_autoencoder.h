// diffusers' AutoencoderTiny: the tiny autoencoders that stand in for those of Stable Diffusion and FLUX, convolutions and relu alone.
#ifndef NN_TINY_AUTOENCODER_H
#define NN_TINY_AUTOENCODER_H

#include "core/config.h"
#include "nn/layers.h"

// The class of config.json with use_midblock_gn
#define TINY_OWN_CLASS "ElboAutoencoderTiny"

typedef struct tiny_config {
  int64_t in_channels, out_channels;
  config_ints encoder_block_out_channels, decoder_block_out_channels; // width of each stage, in the order in which they run
  config_ints num_encoder_blocks, num_decoder_blocks;                 // residual blocks of each stage
  config_ints block_out_channels; // as decoder_block_out_channels: diffusers writes it for those who ask
  int act_fn, upsample_fn;        // only "nearest"
  int64_t latent_channels, upsampling_scaling_factor;
  double latent_magnitude, latent_shift; // of codes kept as 8-bit pictures
  double scaling_factor, shift_factor;
  bool force_upcast;
  bool use_midblock_gn; // not of diffusers: the blocks of the coarsest stage begin with a normed branch over the whole map
} tiny_config;
extern const config_table tiny_table; // section of a recipe

elbo_status tiny_check(elbo_ctx *ctx, const tiny_config *c, const char *where);
// own: a file of TINY_OWN_CLASS
elbo_status tiny_config_read(elbo_ctx *ctx, arena *a, const char *path, bool own, tiny_config *out);
elbo_status tiny_config_write(elbo_ctx *ctx, const char *path, const tiny_config *c);

// Parameters in the present scope, by the names of diffusers' tensors.
// x (B,H,W,in_channels) in -1..1 -> (B,h,w,latent_channels); each stage but the first halves height and width, odd ones rounded up
elbo_tensor *tiny_encoder(const tiny_config *c, elbo_tensor *x);
// z (B,h,w,latent_channels) -> (B,H,W,out_channels) in -1..1
elbo_tensor *tiny_decoder(const tiny_config *c, elbo_tensor *z);

#endif
