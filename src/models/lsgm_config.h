// The sections of an lsgm recipe: a VAE whose prior is a diffusion model of its codes, trained with it by one bound [Vahdat21].
#ifndef MODELS_LSGM_CONFIG_H
#define MODELS_LSGM_CONFIG_H

#include "diffusion/score_times.h"
#include "models/diffusion_config.h"
#include "models/vae_config.h"

typedef enum lsgm_times { TIMES_SHARED, TIMES_SEPARATE } lsgm_times;

typedef struct lsgm_model {
  model_config vae;
  diffusion_config prior;
} lsgm_model;

typedef struct lsgm_objective {
  double beta;
  int64_t kl_warmup_steps;
  int weighting;   // score_weighting of what trains the network of the prior
  bool importance; // times by the densities of the weightings; false: uniform
  int times;       // lsgm_times
  double spectral;
} lsgm_objective;

typedef struct lsgm_recipe {
  lsgm_model model;
  lsgm_objective objective;
  sampling_config sample;
} lsgm_recipe;
extern const config_table lsgm_sections;

// An LSGM on data of a certain shape. The prior is a diffusion model of float data, of the shape that its network sees codes in.
typedef struct lsgm_spec {
  vae_spec vae;
  diffusion_spec prior;
} lsgm_spec;

// Fits the prior to the code and checks what tables cannot say. `file` names the recipe in messages; lists live in the arena.
elbo_status lsgm_spec_make(elbo_ctx *ctx, arena *a, const lsgm_recipe *recipe, const vae_spec *vae, const char *file, lsgm_spec *out);
// That the choices of a prior go together, and with a bound on codes.
elbo_status lsgm_prior_check(elbo_ctx *ctx, const diffusion_config *prior, const char *file);
// The shape in which the prior's network sees a code: the map of a code that is one, else a vector as (1,1,D).
elbo_status lsgm_code_shape(elbo_ctx *ctx, const vae_spec *vae, const denoiser_config *network, const char *file, picture_shape *out);

#endif
