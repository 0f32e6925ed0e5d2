// The preset of convolutional autoencoders, diffusers' AutoencoderKL, VQModel and AutoencoderTiny: trained, and called to be measured.
#ifndef MODELS_AUTOENCODER_PRESET_H
#define MODELS_AUTOENCODER_PRESET_H

#include "models/preset.h"

extern const preset_def preset_autoencoder;

#endif
