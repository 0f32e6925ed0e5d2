// The `model:` and `objective:` sections of a recipe, and what they come to on given data.
#ifndef MODELS_VAE_CONFIG_H
#define MODELS_VAE_CONFIG_H

#include "nn/autoencoder.h"

enum { MAX_GROUPS = 64 };

typedef enum prior_type { PRIOR_STANDARD, PRIOR_LEARNED, PRIOR_MIXTURE, PRIOR_VAMP } prior_type;
typedef enum condition_type { CONDITION_NONE, CONDITION_CLASS, CONDITION_VECTOR } condition_type;
typedef enum estimator_kind { ESTIMATOR_ELBO, ESTIMATOR_IWAE, ESTIMATOR_DREG } estimator_kind;
typedef enum warmup_kind { WARMUP_LINEAR, WARMUP_CYCLICAL } warmup_kind;

typedef struct latent_config {
  int64_t dim;          // numbers in a vector group
  config_ints groups;   // top-down: vector groups, then groups at each resolution, coarsest first; empty: one flat code
  int64_t channels;     // of a spatial group
  int64_t width;        // top-down: of the vector state
  bool pyramid;         // top-down: spatial groups code the picture's Haar coefficients
  double log_var_bound; // log variances are clamped to +- this
} latent_config;

typedef struct prior_config {
  int type;
  int64_t components; // mixture, vamp
  int64_t fitted;     // components of the mixture fitted to the codes for sampling; 0: none
} prior_config;

typedef struct condition_config {
  int type;
  int64_t dim; // of the embedding of a class; of the vector
} condition_config;

typedef enum vae_preset { MODEL_VAE, MODEL_VAE_GAN, MODEL_LSGM } vae_preset;

typedef struct model_config {
  int preset; // vae_preset
  latent_config latent;
  encoder_config encoder;
  decoder_config decoder;
  prior_config prior;
  condition_config condition;
} model_config;

typedef struct objective_config {
  double beta;
  int64_t kl_warmup_steps;
  int kl_warmup;
  int64_t kl_cycles;
  double free_bits;
  double capacity;
  int64_t capacity_steps;
  double mmd;
  double tc;
  int estimator;
  int64_t samples;
} objective_config;

// What a recipe says of a VAE.
typedef struct vae_recipe {
  model_config model;
  objective_config objective;
} vae_recipe;

extern const config_table vae_sections; // of vae_recipe
extern const config_table model_table, objective_table, latent_table, prior_table, condition_table;

// A model on data of a certain shape: all that its graphs depend on.
typedef struct vae_spec {
  model_config model;
  picture_shape shape;
  int64_t classes; // of the condition; 0: none
  int bits;        // of a pixel of the training data: 8, 16; 0: float
  int binarize;    // binarize_mode of the training data
  int dequantize;  // dequantize_mode of the training data
} vae_spec;

// The checks that tables cannot make: shapes that do not halve, groups without maps, impossible pairs. `file` names the recipe in messages.
elbo_status vae_spec_check(elbo_ctx *ctx, const vae_spec *spec, const char *file);
// Settles model.condition.dim; data_dim: numbers in the vectors that the data carry, 0: they carry none. Before the other checks.
elbo_status vae_spec_fit_condition(elbo_ctx *ctx, vae_spec *spec, int64_t data_dim, const char *file);
elbo_status objective_check(elbo_ctx *ctx, const objective_config *objective, const vae_spec *spec, const char *file);

const char *vae_preset_name(const vae_spec *spec); // "vae"
// Whether its decoder was fitted by the bound. Where a term outside it had a hand in that (an adversary), nothing is called one.
bool vae_has_bound(const vae_spec *spec);
likelihood vae_likelihood(const vae_spec *spec, bool training);
// One flat code: 1. Otherwise the number of groups, and the shape of each as (h,w,c), vectors as (1,1,dim).
int vae_groups(const vae_spec *spec, picture_shape *group);
int64_t vae_code_size(const vae_spec *spec); // numbers in a code, all groups together
// Whether the groups at `level` (0 is the coarsest) of a model with latent.pyramid have coefficients to code: all but at the picture's
// size.
bool vae_pyramid_level(const vae_spec *spec, int level);

// The value of beta (or capacity) for a 0-based step.
double objective_beta_at(const objective_config *objective, int64_t step, int64_t steps);
double objective_capacity_at(const objective_config *objective, int64_t step);

#endif
