// Karras' UNets: SongUNet (DDPM++ and NCSN++) and DhariwalUNet (ADM), the raw network F of [Karras22 eq. 7]; its preconditioning is the
// caller's. Keys and parameters' names as in the authors' classes ("enc.32x32_conv.weight"), without the "model." of a preconditioner.
#ifndef NN_EDM_H
#define NN_EDM_H

#include "core/config.h"
#include "nn/denoiser.h"

typedef enum edm_type { EDM_SONG, EDM_DHARIWAL } edm_type;
typedef enum edm_embedding { EDM_POSITIONAL, EDM_FOURIER } edm_embedding;
typedef enum edm_encoder { EDM_ENCODER_STANDARD, EDM_ENCODER_RESIDUAL, EDM_ENCODER_SKIP } edm_encoder;
typedef enum edm_decoder { EDM_DECODER_STANDARD, EDM_DECODER_SKIP } edm_decoder;

typedef struct edm_config {
  int model_type;                    // edm_type
  int64_t img_resolution;            // the side after which layers are named; 0: of the data
  int64_t in_channels, out_channels; // 0: of the data
  int64_t label_dim;                 // classes, or the width of a vector; 0: of the data
  int64_t augment_dim;
  int64_t model_channels;   // 0: 128, of DhariwalUNet 192
  config_ints channel_mult; // empty: [1, 2, 2, 2], of DhariwalUNet [1, 2, 3, 4]
  int64_t channel_mult_emb;
  int64_t num_blocks;           // 0: 4, of DhariwalUNet 3
  config_ints attn_resolutions; // [0]: [16], of DhariwalUNet [32, 16, 8]
  double dropout, label_dropout;
  int embedding_type; // the rest is SongUNet's
  int64_t channel_mult_noise;
  int encoder_type, decoder_type;
  config_ints resample_filter;
} edm_config;
extern const config_table edm_table;

// Fills what a recipe leaves to the data and to the type.
void edm_fit(edm_config *c, int64_t height, int64_t width, int64_t in_channels, int64_t out_channels, int64_t classes);
elbo_status edm_config_read(elbo_ctx *ctx, arena *a, const char *path, edm_config *out);
elbo_status edm_config_write(elbo_ctx *ctx, const char *path, const edm_config *c);
// Class labels are int32 (B), 0..label_dim-1 or label_dim for none, or float32 (B,label_dim) as the authors' code takes them (one-hot, or
// zeros for none).
denoiser_needs edm_needs(const edm_config *c);
elbo_status edm_check(elbo_ctx *ctx, const edm_config *c, int64_t height, int64_t width, int64_t channels, const char *where);
// A tensor of the authors' files that is no parameter but follows from the config: the resampling filters
bool edm_is_derived(const char *name);

// timestep: c_noise. -> (B,H,W,out_channels). Augmentation labels there are none: a network trained with them (augment_dim) is as with
// zeros, and cannot be trained.
elbo_tensor *edm_network(const edm_config *c, const denoiser_inputs *in);

#endif
