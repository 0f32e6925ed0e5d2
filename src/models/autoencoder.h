// Autoencoders in diffusers' layout: a folder with config.json (AutoencoderKL, VQModel, AutoencoderTiny) and its weights, alone or as a
// component ("vae") of a pipeline.
#ifndef MODELS_AUTOENCODER_H
#define MODELS_AUTOENCODER_H

#include "models/model.h"
#include "nn/codec.h"

extern const model_kind model_kind_autoencoder;

// Every parameter of both sides, on the smallest pictures that it takes: what a store of its weights is made from.
elbo_status autoencoder_graph(elbo_ctx *ctx, const codec_config *c, elbo_graph **out);
// FOLDER/config.json and its weights. Parameters of the store are named as the tensors, behind "PREFIX." unless it is "".
elbo_status autoencoder_write(elbo_ctx *ctx, const char *folder, const codec_config *c, const char *prefix, elbo_store *store);

// An array through the encoder ("x" -> "mean" and "logvar" of AutoencoderKL, "latents" of the others) or the decoder ("z" -> "sample").
elbo_status autoencoder_apply(elbo_model *m, const char *component, int n_in, const elbo_named_array *in, int n_out, elbo_named_array *out);

#endif
