// The public tiny autoencoders: an encoder and a decoder in a file each, as sequences of numbered layers.
#ifndef MODELS_TINY_PAIR_H
#define MODELS_TINY_PAIR_H

#include "models/weights_layout.h"
#include "nn/tiny_autoencoder.h"

// The network that both files describe, and every tensor by its name in diffusers' AutoencoderTiny (appended; names live in the arena).
// What is no such pair is refused, by the layer at fault.
elbo_status tiny_pair_read(elbo_ctx *ctx, arena *a, const weights *encoder, const weights *decoder, tiny_config *config, tensor_list *out);

#endif
