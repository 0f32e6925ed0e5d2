// The `model:` and `objective:` sections of an autoencoder's recipe, and what they come to on given data.
#ifndef MODELS_AUTOENCODER_CONFIG_H
#define MODELS_AUTOENCODER_CONFIG_H

#include <elbo/dataset.h>

#include "nn/autoencoder.h"
#include "nn/codec.h"
#include "nn/discriminator.h"
#include "nn/gan_loss.h"

typedef enum autoencoder_error { ERROR_L1, ERROR_L2 } autoencoder_error;

typedef struct autoencoder_objective {
  int reconstruction; // autoencoder_error
  double kl;          // weight of the KL of the whole code beside the summed error of the whole picture
  double commitment;
  bool legacy;
  int64_t restart_steps; // after which a code that no place took is put elsewhere; 0: never
  double adversarial;    // weight of the adversarial term; 0: there is no adversary
  int64_t adversarial_start;
  bool adaptive; // the term is brought to the size of the others at the decoder's last layer
  int loss;      // gan_kind
  double r1;
  const char *perceptual;          // run or model directory of a classifier, or a file of VGG-16's weights; "": none
  const char *perceptual_channels; // file of LPIPS' weights of VGG-16's channels
  double perceptual_weight;
} autoencoder_objective;

typedef struct autoencoder_recipe {
  struct autoencoder_model {
    int preset;
    codec_config network;
    discriminator_config discriminator;
  } model;
  autoencoder_objective objective;
} autoencoder_recipe;
extern const config_table autoencoder_sections; // of autoencoder_recipe

// An autoencoder on data of a certain shape. Lists are the recipe's; sample_size points into the struct itself, which must stay where it
// was made.
typedef struct autoencoder_spec {
  codec_config network;
  discriminator_config discriminator; // where objective.adversarial is above 0
  autoencoder_objective objective;
  picture_shape shape;
  int bits;        // of a pixel of the training data: 8, 16; 0: float, taken as it is
  int64_t size[2]; // height and width, as the written config.json has them
} autoencoder_spec;

// Fits the sections to the data; what does not fit is refused. `file` names the recipe in messages.
elbo_status autoencoder_spec_make(elbo_ctx *ctx, const autoencoder_recipe *recipe, const elbo_dataset_info *info, const char *file,
                                  autoencoder_spec *out);
// Numbers in the code of one picture of training
int64_t autoencoder_code_size(const autoencoder_spec *spec);

#endif
