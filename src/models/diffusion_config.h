// The sections of a diffusion model's recipe, and what they come to on given data. Process, network, prediction, weighting and sampler are
// five independent choices [Karras22].
#ifndef MODELS_DIFFUSION_CONFIG_H
#define MODELS_DIFFUSION_CONFIG_H

#include <elbo/dataset.h>

#include "diffusion/guidance.h"
#include "diffusion/scheduler.h"
#include "diffusion/time_sampling.h"
#include "nn/denoiser_config.h"

// What the network is told of the time.
typedef enum time_input {
  TIME_INPUT_AUTO,      // logsnr for the network vdm; log_sigma for prediction edm; else as diffusers tells it, or scaled
  TIME_INPUT_INDEX,     // 0 .. T-1
  TIME_INPUT_SCALED,    // 1000 t
  TIME_INPUT_LOGSNR,    // log-SNR
  TIME_INPUT_LOG_SIGMA, // log(sigma / alpha) / 4 [Karras22 table 1]
  TIME_INPUT_SIGMA      // sigma / alpha
} time_input;
#define TIME_INPUT_NAMES "auto|index|scaled|logsnr|log_sigma|sigma"

typedef enum diffusion_condition_type {
  DIFFUSION_UNCONDITIONAL,
  DIFFUSION_CLASS,   // the example's class
  DIFFUSION_VECTOR,  // input "condition" (B,dim)
  DIFFUSION_LOWRES,  // the picture reduced and enlarged again, concatenated: super-resolution [Ho22a]
  DIFFUSION_MASKED,  // the picture with a box cut out, and the box, concatenated: inpainting
  DIFFUSION_CONTEXT, // a sequence of embeddings, input "condition" (B,tokens,dim)
  // Of presets that make the condition themselves (decoder_config.h):
  DIFFUSION_CODE,          // an encoder's code, input "condition" (B,dim), through linear layers of the model's own [Preechakul22]
  DIFFUSION_RECONSTRUCTION // a picture of the same shape, input "picture", beside the state [Pandey22]
} diffusion_condition_type;
#define DIFFUSION_CONDITION_NAMES "none|class|vector|lowres|masked|context"
#define DIFFUSION_CONDITION_FILE_NAMES DIFFUSION_CONDITION_NAMES "|code|reconstruction"

typedef struct diffusion_condition_config {
  int type;
  int64_t dim;        // of vector, context and code
  int64_t tokens;     // of context
  int64_t factor;     // of lowres
  double dropout;     // probability of "no condition" in training, for guidance
  int64_t maps;       // of code: channels beside the state that a linear layer makes of it
  config_ints hidden; // of code: dense layers before that one and the embedding's
  bool centred;       // of reconstruction: the process runs around it
} diffusion_condition_config;

typedef enum reverse_variance { REVERSE_FIXED_SMALL, REVERSE_FIXED_LARGE, REVERSE_LEARNED_RANGE } reverse_variance;

#define REVERSE_VARIANCE_NAMES "fixed_small|fixed_large|learned_range"

// Of a model of a frozen autoencoder's codes
typedef struct diffusion_latent_config {
  int cache; // latent_moments
  int scale; // latent_scaling
} diffusion_latent_config;
typedef enum latent_moments { LATENT_MOMENTS, LATENT_MEANS } latent_moments;
#define LATENT_MOMENTS_NAMES "moments|mean"

// A share of N(0, I) in the score, (1 - a) of its own and a of the network's, with a learned a [Vahdat21 sec. 3.2]. N(0, I) stays as it is
// under a variance-preserving process, and its v is 0: mixed with it, v is a times what the network says.
typedef enum score_mixing { MIXING_NONE, MIXING_CHANNEL, MIXING_DIMENSION } score_mixing;
#define SCORE_MIXING_NAMES "none|channel|dimension"

typedef struct diffusion_config {
  int preset;
  const char *autoencoder; // an earlier stage, a run or a model directory; "": the model is of the data themselves
  diffusion_latent_config latent;
  denoiser_config denoiser;
  process_config process;
  int prediction;    // prediction_type
  int variance;      // reverse_variance
  double sigma_data; // of prediction edm and weighting edm
  int time_input;
  int mixing; // score_mixing; of prediction v
  diffusion_condition_config condition;
} diffusion_config;

typedef struct diffusion_objective {
  int weighting; // loss_weighting
  double gamma;  // of min_snr
  double p2_gamma;
  double p2_k; // of p2
  double bias; // of sigmoid
  int time;    // time_sampling
  double time_mean, time_std;
  double variance_weight; // of the bound in L_hybrid [Nichol21 eq. 16]
} diffusion_objective;

// What a recipe says of a diffusion model.
typedef struct diffusion_recipe {
  diffusion_config model;
  diffusion_objective objective;
  sampling_config sample;
} diffusion_recipe;
extern const config_table diffusion_sections;
extern const config_table diffusion_objective_table;
extern const config_table diffusion_condition_table;
extern const config_table diffusion_condition_file_table; // with what recipes cannot say, for a model's index

// The keys of `model` that every preset with a diffusion has; of struct S, whose diffusion_config is AT ("", or "diffusion.").
#define DIFFUSION_NETWORK_FIELDS(S, AT)                                                                                          \
  {"network", CONFIG_TYPE_ENUM, offsetof(S, AT denoiser.network), 0, 0, "unet", "", "kind of network", DENOISER_NAMES, NULL, 0}, \
      {"unet", CONFIG_TYPE_SECTION, offsetof(S, AT denoiser.unet), 0, 0, "{}", "", "", NULL, &unet_table, 0},                    \
      {"dit", CONFIG_TYPE_SECTION, offsetof(S, AT denoiser.dit), 0, 0, "{}", "", "", NULL, &dit_table, 0},                       \
      {"edm", CONFIG_TYPE_SECTION, offsetof(S, AT denoiser.edm), 0, 0, "{}", "", "", NULL, &edm_table, 0},                       \
      {"vdm", CONFIG_TYPE_SECTION, offsetof(S, AT denoiser.vdm), 0, 0, "{}", "", "", NULL, &vdm_table, 0},                       \
      {"mlp", CONFIG_TYPE_SECTION, offsetof(S, AT denoiser.mlp), 0, 0, "{}", "", "", NULL, &mlp_table, 0},                       \
      {"process", CONFIG_TYPE_SECTION, offsetof(S, AT process), 0, 0, "{}", "", "", NULL, &process_table, 0},                    \
      {"prediction",                                                                                                             \
       CONFIG_TYPE_ENUM,                                                                                                         \
       offsetof(S, AT prediction),                                                                                               \
       0,                                                                                                                        \
       0,                                                                                                                        \
       "epsilon",                                                                                                                \
       "",                                                                                                                       \
       "what the network predicts; process edm and ve: edm, epsilon or x0; score: of a network that divides by sigma itself",    \
       PREDICTION_NAMES,                                                                                                         \
       NULL,                                                                                                                     \
       0},                                                                                                                       \
      {"variance",                                                                                                               \
       CONFIG_TYPE_ENUM,                                                                                                         \
       offsetof(S, AT variance),                                                                                                 \
       0,                                                                                                                        \
       0,                                                                                                                        \
       "fixed_small",                                                                                                            \
       "",                                                                                                                       \
       "of the reverse steps of a discrete process; learned_range: a second output between the two, trained by L_hybrid",        \
       REVERSE_VARIANCE_NAMES,                                                                                                   \
       NULL,                                                                                                                     \
       0},                                                                                                                       \
      {"sigma_data",                                                                                                             \
       CONFIG_TYPE_FLOAT,                                                                                                        \
       offsetof(S, AT sigma_data),                                                                                               \
       1e-4,                                                                                                                     \
       1e4,                                                                                                                      \
       "0.5",                                                                                                                    \
       "",                                                                                                                       \
       "standard deviation of the data, of prediction and weighting edm",                                                        \
       NULL,                                                                                                                     \
       NULL,                                                                                                                     \
       0},                                                                                                                       \
  {                                                                                                                              \
    "time_input", CONFIG_TYPE_ENUM, offsetof(S, AT time_input), 0, 0, "auto", "", "what the network is told of the time",        \
        TIME_INPUT_NAMES, NULL, 0                                                                                                \
  }

// A model on data of a certain shape: all that its graphs depend on.
typedef struct diffusion_spec {
  diffusion_config model;
  sampling_config sample;
  int64_t height, width, channels;
  int64_t classes;             // of the data
  int64_t condition_dim;       // of the data's vectors or embeddings
  int64_t condition_tokens;    // embeddings of the data's sequences; 0: the data give vectors, or nothing
  int bits;                    // of a pixel of the training data: 8, 16: values are -1..1 inside; 0: float, taken as they are
  struct latent_space *latent; // the data are codes of this autoencoder (borrowed); NULL: the data themselves
} diffusion_spec;

// Fits the config to the data: fills what is left open, refuses what does not go together, by key. `file` names the recipe in messages.
elbo_status diffusion_spec_make(elbo_ctx *ctx, arena *a, const diffusion_recipe *recipe, const elbo_dataset_info *info, const char *file,
                                diffusion_spec *out);
// The same to the codes of an autoencoder (borrowed; NULL: to the data themselves).
elbo_status diffusion_spec_of_codes(elbo_ctx *ctx, arena *a, const diffusion_recipe *recipe, const elbo_dataset_info *info,
                                    struct latent_space *latent, const char *file, diffusion_spec *out);
// Whether training draws codes from their posteriors: the batch's x has means and deviations.
bool diffusion_draws_codes(const diffusion_spec *spec);
// Whether data whose conditions are sequences of `tokens` embeddings (0: vectors) of `dim` numbers (0: none) are what a model told of a
// vector or of a sequence wants.
elbo_status diffusion_condition_check(elbo_ctx *ctx, const diffusion_spec *spec, int64_t tokens, int64_t dim, const char *file);
elbo_status diffusion_objective_check(elbo_ctx *ctx, const diffusion_objective *objective, const diffusion_spec *spec, const char *file);

// Channels that are concatenated to the state; of them, those of the input "picture" (the others are made of a code).
int64_t diffusion_extra_channels(const diffusion_spec *spec);
int64_t diffusion_picture_channels(const diffusion_spec *spec);
bool diffusion_learned_variance(const diffusion_spec *spec);
// The class that stands for "no class": the last row of the table; -1: there is none.
int64_t diffusion_null_class(const diffusion_spec *spec);
// What the network is told, and the time in [0,1], of a timestep as samplers pass it (process_network_time).
double diffusion_time_told(const diffusion_spec *spec, const process *p, double timestep);
double diffusion_time_of_step(const process *p, double timestep);

#endif
