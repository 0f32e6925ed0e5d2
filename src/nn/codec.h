// A convolutional autoencoder between pictures and maps of codes, by its kind: configuration, files, graphs. A kind is one row of the table
// in codec.c.
#ifndef NN_CODEC_H
#define NN_CODEC_H

#include "nn/akl.h"
#include "nn/tiny_autoencoder.h"

typedef enum codec_kind { CODEC_KL, CODEC_VQ, CODEC_TINY, CODEC_KINDS } codec_kind;
#define CODEC_NAMES "kl|vq|tiny"

typedef struct codec_config {
  int network; // codec_kind
  akl_config kl, vq;
  tiny_config tiny;
} codec_config;

// What is fixed of arrays on both sides
typedef struct codec_shape {
  int64_t in_channels, out_channels; // of pictures
  int64_t code_channels;             // of what is decoded
  int64_t height, width;             // of the pictures of training; 0: not said
  int levels;                        // encoding halves height and width levels - 1 times
  int64_t up;                        // decoding multiplies them by this
} codec_shape;
codec_shape codec_config_shape(const codec_config *c);
// Height or width of the codes of pictures of `size`
int64_t codec_code_size(const codec_config *c, int64_t size);

// x (B,H,W,in_channels), in -1..1 for pictures. logvar: of KL alone, elsewhere NULL; of VQ the code is not yet quantised.
typedef struct codec_code {
  elbo_tensor *mean, *logvar; // (B,h,w,code_channels)
} codec_code;
// Parameters in the present scope, by the names of diffusers' tensors ("encoder.conv_in.weight").
codec_code codec_encode(const codec_config *c, elbo_tensor *x);
// z (B,h,w,code_channels) -> (B,H,W,out_channels). VQ: quantised first.
elbo_tensor *codec_decode(const codec_config *c, elbo_tensor *z);

elbo_status codec_check(elbo_ctx *ctx, const codec_config *c, const char *where);
// "kl", "vq", "tiny"
const char *codec_key(const codec_config *c);
// "AutoencoderKL" and the like: what a config.json is of
const char *codec_class_name(const codec_config *c);
// config.json. Lists live in the arena.
elbo_status codec_read(elbo_ctx *ctx, arena *a, const char *path, codec_config *out);
elbo_status codec_write(elbo_ctx *ctx, const char *path, const codec_config *c);

#endif
