// The `model:` and `objective:` sections of a vae-gan recipe.
#ifndef MODELS_VAE_GAN_CONFIG_H
#define MODELS_VAE_GAN_CONFIG_H

#include "models/vae_config.h"
#include "nn/discriminator.h"
#include "nn/gan_loss.h"

typedef enum adversary_place { ADVERSARY_PICTURES, ADVERSARY_CODE } adversary_place;
typedef enum gan_reconstruction { RECONSTRUCTION_FEATURES, RECONSTRUCTION_PIXELS, RECONSTRUCTION_NONE } gan_reconstruction;
typedef enum gan_routing { ROUTING_SPLIT, ROUTING_SUM } gan_routing;
typedef enum gan_fakes { FAKES_BOTH, FAKES_RECONSTRUCTIONS, FAKES_SAMPLES } gan_fakes;
typedef enum gan_control { CONTROL_NONE, CONTROL_EQUILIBRIUM } gan_control;

typedef struct vae_gan_model {
  model_config vae;
  discriminator_config discriminator;
} vae_gan_model;

typedef struct vae_gan_objective {
  double beta;
  int64_t kl_warmup_steps;
  int adversary;      // adversary_place
  int reconstruction; // gan_reconstruction
  int64_t layer;      // whose features are compared, from 1; 0: the last
  double gamma;       // weight of the reconstruction in what trains the decoder
  int loss;           // gan_kind
  double adversarial; // weight of the adversarial term
  int64_t adversarial_start;
  int fakes;   // gan_fakes
  int routing; // gan_routing
  double r1, gradient_penalty;
  int control; // gan_control
  double equilibrium, margin;
} vae_gan_objective;

typedef struct vae_gan_recipe {
  vae_gan_model model;
  vae_gan_objective objective;
} vae_gan_recipe;

extern const config_table vae_gan_sections; // of vae_gan_recipe

// A VAE-GAN on data of a certain shape. spec.model is model->vae.
typedef struct vae_gan_spec {
  vae_spec vae;
  discriminator_config discriminator;
  vae_gan_objective objective;
} vae_gan_spec;

// What tables cannot say: pairs that make no sense, a layer that does not exist, shapes. `file` names the recipe in messages.
elbo_status vae_gan_check(elbo_ctx *ctx, const vae_gan_spec *spec, const char *file);
// What the adversary looks at: pictures, or codes as (1,1,dim).
picture_shape vae_gan_adversary_shape(const vae_gan_spec *spec);

#endif
