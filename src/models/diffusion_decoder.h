// Models whose decoder is a diffusion: p(x|z) draws noise and leads it to a picture, told of the code.
//
//   diffae             an encoder and the denoiser, trained together by the diffusion's loss alone: the code is whatever helps to
//                      denoise [Preechakul22]; with a KL on it, or none
//   diffusion-decoder  a denoiser told of what a frozen VAE reconstructs [Pandey22]
//   code-prior         a diffusion over the codes of a frozen diffae, from which its samples are then drawn
//
// A picture has two codes here: z, what it is of, and the noise x_T from which the denoiser, told of z, leads to exactly this picture.
#ifndef MODELS_DIFFUSION_DECODER_H
#define MODELS_DIFFUSION_DECODER_H

#include "models/diffusion_model.h"
#include "models/preset.h"

typedef enum decoder_told { TOLD_CODE, TOLD_RECONSTRUCTION } decoder_told;

// `model.code`
typedef struct code_config {
  int64_t dim;
  double kl;          // weight of KL(q(z|x) || N(0, I)); 0: z is a function of x
  int64_t maps;       // channels beside the state that a linear layer makes of z; 0: z joins the time alone
  config_ints hidden; // dense layers that z passes first
  double dropout;     // probability of "no code" in training, for guidance
  int64_t fitted;     // components of the mixture fitted to the codes for sampling; 0: none
} code_config;
extern const config_table code_table;

typedef struct diffae_recipe {
  struct diffae_model {
    diffusion_config diffusion;
    encoder_config encoder;
    code_config code;
  } model;
  diffusion_objective objective;
  sampling_config sample;
} diffae_recipe;
extern const config_table diffae_sections;

typedef struct refiner_recipe {
  struct refiner_model {
    diffusion_config diffusion;
    const char *vae; // an earlier stage, a run or a model directory
    int formulation; // 1 or 2, counted from 0
    int64_t fitted;
  } model;
  diffusion_objective objective;
  sampling_config sample;
} refiner_recipe;
extern const config_table refiner_sections;

typedef struct code_prior_recipe {
  struct code_prior_model {
    diffusion_config diffusion;
    const char *autoencoder;
  } model;
  diffusion_objective objective;
  sampling_config sample;
} code_prior_recipe;
extern const config_table code_prior_sections;

// A model on data of a certain shape.
typedef struct decoder_spec {
  int told; // decoder_told
  diffusion_spec pixels;
  encoder_config encoder; // of TOLD_CODE
  code_config code;
} decoder_spec;

// What elbo_model.decoder is of a loaded model, beside elbo_model.diffusion (of the pictures) and elbo_model.fitted. Both are models of
// their own, of their own folders of the directory.
typedef struct decoder_model {
  decoder_spec spec;
  elbo_model *vae;     // of TOLD_RECONSTRUCTION
  elbo_model *prior;   // a diffusion over codes (n,1,1,dim); NULL: none
  float *mean, *scale; // (dim) of the codes that the prior is of: z = mean + scale u
} decoder_model;

extern const model_kind model_kind_decoder;
extern const preset_def preset_diffae, preset_diffusion_decoder, preset_code_prior;

// --- diffusion_decoder_config.c ---
elbo_status diffae_spec_make(elbo_ctx *ctx, arena *a, const diffae_recipe *recipe, const elbo_dataset_info *info, const char *file,
                             decoder_spec *out);
elbo_status refiner_spec_make(elbo_ctx *ctx, arena *a, const refiner_recipe *recipe, const elbo_model *vae, const elbo_dataset_info *info,
                              const char *file, decoder_spec *out);
// Of what a model directory says.
elbo_status decoder_spec_check(elbo_ctx *ctx, const decoder_spec *spec, const char *file);
// Numbers of a code.
int64_t decoder_code_size(const elbo_model *m);

// --- diffusion_decoder_graph.c ---
// q(z|x) of x in 0..1 (float data: as they are): (B,dim) each; *log_std NULL where z is a function of x.
void code_posterior(const decoder_spec *spec, elbo_graph *g, elbo_tensor *x, bool training, elbo_tensor **mean, elbo_tensor **log_std);
// Sources of a training step (diffusion_source.build): x0 with its code and the KL of that, user a decoder_spec; x0 with what the VAE makes
// of a draw from its posterior, user a vae_spec; the code itself, less its mean and over its deviation, user the autoencoder's
// decoder_spec.
void diffae_batch(const void *user, diffusion_build *t, diffusion_batch *out);
void refiner_batch(const void *user, diffusion_build *t, diffusion_batch *out);
void code_prior_batch(const void *user, diffusion_build *t, diffusion_batch *out);
#define CODE_MEAN "code.mean" // state parameters (dim) of that stage
#define CODE_SCALE "code.scale"

// --- diffusion_decoder_directory.c ---
// DIRECTORY/model_index.json; `decoder`, a diffusion model's directory; `encoder`, or `vae`, a VAE's.
elbo_status decoder_directory_write(elbo_ctx *ctx, const char *directory, const decoder_spec *spec, elbo_store *store,
                                    const elbo_model *vae, int64_t step);
// Beside them, in `prior`: the mixture; a diffusion over codes, store's parameters those of its network, mean and scale (dim) of the codes.
elbo_status decoder_directory_write_mixture(elbo_ctx *ctx, const char *directory, const gaussian_mixture *mixture);
elbo_status decoder_directory_write_prior(elbo_ctx *ctx, const char *directory, const diffusion_spec *spec, elbo_store *store,
                                          const float *mean, const float *scale, int64_t step);
elbo_status decoder_directory_open(elbo_model *m, const char *directory);
void decoder_close(elbo_model *m);
// A store with every parameter of a spec, for weights of a file or drawn.
elbo_status decoder_store_create(elbo_ctx *ctx, const decoder_spec *spec, uint64_t seed, elbo_store **out);

// --- diffusion_decoder_model.c ---
// A model around a spec and weights, and for TOLD_RECONSTRUCTION a VAE (all borrowed): what training evaluates and previews with.
// decoder_view_close it.
elbo_status decoder_view(elbo_ctx *ctx, const decoder_spec *spec, elbo_store *store, elbo_model *vae, elbo_model *out);
void decoder_view_close(elbo_model *m);

// Codes float32 (n,dim), finite; n 0: any number of them. `what` names the call.
elbo_status decoder_check_codes(const elbo_model *m, const char *what, const elbo_array *codes, int64_t n);
// What the denoiser is told of codes: themselves, or the VAE's picture of them.
elbo_status decoder_told_of_codes(elbo_model *m, const elbo_array *codes, elbo_array **out);
// Pictures of 0..1, as data and VAEs have them, in -1..1; float data as they are.
elbo_status decoder_to_model_range(const elbo_model *m, const elbo_array *x, elbo_array **out);

// --- diffusion_decoder_sample.c ---
// Where codes come from: the diffusion over them, the mixture fitted to them, or what training held them to (the VAE's prior, N(0, I)).
typedef enum code_source { CODES_DIFFUSION, CODES_MIXTURE, CODES_PRIOR } code_source;
extern const char *const code_source_names[];
bool decoder_has_source(const elbo_model *m, code_source source);
// Keys of config->options as elbo_sample takes them, and "codes=diffusion|mixture|prior".
elbo_status decoder_sample(elbo_model *m, const elbo_sample_config *config, elbo_array **x);

// --- diffusion_decoder_evaluate.c ---
elbo_status decoder_evaluate(elbo_model *m, elbo_dataset *data, const elbo_eval_config *config, elbo_eval_result **out);

#endif
