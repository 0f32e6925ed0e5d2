// diffusers' AutoencoderKL and VQModel [Rombach22; Esser21]: convolutions between pictures and smaller maps of codes.
#ifndef NN_AKL_H
#define NN_AKL_H

#include "core/config.h"
#include "nn/layers.h"

#define AKL_NORM_EPS 1e-6

// Keys of config.json of both classes; what only one of them has is 0 in the other.
typedef struct akl_config {
  int64_t in_channels, out_channels;
  config_strings down_block_types, up_block_types; // finest first; coarsest first
  config_ints block_out_channels;                  // finest first
  int64_t layers_per_block;                        // residual blocks of a level of the encoder; the decoder has one more
  int act_fn;                                      // of DIFFUSERS_ACTIVATION_NAMES; the last activation is always silu
  int64_t latent_channels, norm_num_groups;
  config_ints sample_size; // height and width that it was trained on, or one number for both; it takes others
  double scaling_factor;   // a prior sees (z - shift_factor) scaling_factor
  bool mid_block_add_attention, force_upcast;
  // AutoencoderKL
  double shift_factor;
  config_floats latents_mean, latents_std; // of each channel; empty: none
  bool use_quant_conv, use_post_quant_conv;
  // VQModel
  int64_t num_vq_embeddings, vq_embed_dim; // 0: latent_channels
  int norm_type;                           // only "group"
  bool lookup_from_codebook;
} akl_config;
extern const config_table kl_table, vq_table; // sections of a recipe

// What the table cannot check; `where` stands in front of messages.
elbo_status akl_check(elbo_ctx *ctx, const akl_config *c, const char *where);
elbo_status kl_config_read(elbo_ctx *ctx, arena *a, const char *path, akl_config *out);
elbo_status vq_config_read(elbo_ctx *ctx, arena *a, const char *path, akl_config *out);
elbo_status kl_config_write(elbo_ctx *ctx, const char *path, const akl_config *c);
elbo_status vq_config_write(elbo_ctx *ctx, const char *path, const akl_config *c);

// Parameters in the present scope, by the names of diffusers' tensors. x (B,H,W,in_channels), in -1..1 for pictures; each level but the
// last halves height and width, odd ones rounded down.
// AutoencoderKL: mean and log-variance, the latter within -30..20, each (B,h,w,latent_channels)
void kl_encoder(const akl_config *c, elbo_tensor *x, elbo_tensor **mean, elbo_tensor **logvar);
// VQModel: (B,h,w,vq_embed_dim), not yet quantised
elbo_tensor *vq_encoder(const akl_config *c, elbo_tensor *x);
// z (B,h,w,latent_channels or vq_embed_dim) -> (B,H,W,out_channels); VQModel: z is a code of the table already
elbo_tensor *kl_decoder(const akl_config *c, elbo_tensor *z);
// The same up to the levels (nn/akl_bands.h): (B,h,w,width of the coarsest)
elbo_tensor *kl_decoder_start(const akl_config *c, elbo_tensor *z);
elbo_tensor *vq_decoder(const akl_config *c, elbo_tensor *z);
// The table of codes of VQModel, "quantize.embedding.weight" (num_vq_embeddings,vq_embed_dim)
elbo_tensor *vq_codebook(const akl_config *c, elbo_graph *g);
int64_t vq_code_channels(const akl_config *c);

#endif
