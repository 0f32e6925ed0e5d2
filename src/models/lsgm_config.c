#include "models/lsgm_config.h"

#include <stdio.h>

#define OF(NAME, TABLE) \
  { #NAME, CONFIG_TYPE_SECTION, offsetof(diffusion_config, denoiser.NAME), 0, 0, "{}", "", "", NULL, &TABLE, 0 }
static const config_field prior_fields[] = {
    {"network", CONFIG_TYPE_ENUM, offsetof(diffusion_config, denoiser.network), 0, 0, "mlp", "",
     "kind of network; mlp takes the whole code as a vector, the others the map of latent.groups: [0, 1] and its like", DENOISER_NAMES,
     NULL, 0},
    OF(unet, unet_table),
    OF(dit, dit_table),
    OF(edm, edm_table),
    OF(vdm, vdm_table),
    OF(mlp, mlp_table),
    CONFIG_SECTION(diffusion_config, process, &process_table),
    CONFIG_ENUM(diffusion_config, prediction, "v", PREDICTION_NAMES, "what the network predicts: v, epsilon or x0; of N(0, I) v is 0"),
    CONFIG_ENUM(diffusion_config, time_input, "auto", TIME_INPUT_NAMES, "what the network is told of the time"),
    CONFIG_ENUM(diffusion_config, mixing, "channel", SCORE_MIXING_NAMES,
                "the score is mixed with that of N(0, I), by a learned share for each channel, or each number, of the code; prediction v"),
};
static const config_table prior_of_codes = CONFIG_TABLE("prior", diffusion_config, prior_fields, "p(z), a diffusion model");

#define PART(NAME, TABLE) \
  { #NAME, CONFIG_TYPE_SECTION, offsetof(lsgm_model, vae.NAME), 0, 0, "{}", "", "", NULL, &TABLE, 0 }
static const config_field model_fields[] = {
    {"preset", CONFIG_TYPE_ENUM, offsetof(lsgm_model, vae.preset), 0, 0, "lsgm", "", "kind of model", "lsgm", NULL, 0},
    PART(latent, latent_table),
    PART(encoder, encoder_table),
    PART(decoder, decoder_table),
    CONFIG_SECTION(lsgm_model, prior, &prior_of_codes),
};
static const config_table lsgm_model_table =
    CONFIG_TABLE("model", lsgm_model, model_fields, "encoder, decoder, and the diffusion model between them");

static const config_field objective_fields[] = {
    CONFIG_FLOAT(lsgm_objective, beta, 0, 1e6, "1", "", "weight of cross entropy and negative entropy in what trains encoder and decoder"),
    CONFIG_INT(lsgm_objective, kl_warmup_steps, 0, 1e12, "0", "steps", "beta rises from 0 over so many"),
    CONFIG_ENUM(lsgm_objective, weighting, "likelihood", SCORE_WEIGHTING_NAMES,
                "of epsilon's squared error in what trains the prior's network: g^2 / sigma^2, 1, g^2; encoder and decoder always have the "
                "first, the bound"),
    CONFIG_BOOL(lsgm_objective, importance, "true",
                "times are drawn so that the weighted errors vary little, and divided out again; false: uniformly"),
    CONFIG_ENUM(
        lsgm_objective, times, "shared", "shared|separate",
        "of another weighting than likelihood: one time, good for the network, serves encoder and network; or each has its own, for "
        "two calls of the network"),
    CONFIG_FLOAT(lsgm_objective, spectral, 0, 1e6, "0", "", "weight of the sum of the largest singular values of all weights"),
};
static const config_table lsgm_objective_table =
    CONFIG_TABLE("objective", lsgm_objective, objective_fields, "the bound, and who is trained by which weighting of it");

static const config_field section_fields[] = {
    CONFIG_SECTION(lsgm_recipe, model, &lsgm_model_table),
    CONFIG_SECTION(lsgm_recipe, objective, &lsgm_objective_table),
    CONFIG_SECTION(lsgm_recipe, sample, &sampling_table),
};
const config_table lsgm_sections = CONFIG_TABLE("lsgm", lsgm_recipe, section_fields, "a VAE with a diffusion prior");

elbo_status lsgm_code_shape(elbo_ctx *ctx, const vae_spec *vae, const denoiser_config *network, const char *file, picture_shape *out) {
  picture_shape group[MAX_GROUPS];
  int n = vae_groups(vae, group);
  *out = (picture_shape){1, 1, vae_code_size(vae)};
  if (network->network == DENOISER_MLP) return ELBO_OK;
  if (n > 1)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: model.prior.network: mlp was expected: a code of %d groups is a vector of %lld numbers",
                file, n, (long long)out->channels);
  *out = group[0];
  return ELBO_OK;
}

elbo_status lsgm_prior_check(elbo_ctx *ctx, const diffusion_config *m, const char *file) {
  const int type = m->process.type;
  if (type != PROCESS_DISCRETE && type != PROCESS_LINEAR && type != PROCESS_COSINE && type != PROCESS_SIGMOID)
    return fail(ctx, ELBO_ERROR_ARGUMENT,
                "%s: model.prior.process.type: a variance-preserving process was expected: linear, cosine, sigmoid or discrete", file);
  if (type == PROCESS_DISCRETE && m->process.zero_snr)
    return fail(ctx, ELBO_ERROR_ARGUMENT,
                "%s: model.prior.process.zero_snr: false was expected: at a log-SNR without end the weights of the bound have none either",
                file);
  if (m->prediction != PREDICT_V && m->prediction != PREDICT_EPSILON && m->prediction != PREDICT_X0)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: model.prior.prediction: v, epsilon or x0 was expected", file);
  if (m->mixing && m->prediction != PREDICT_V)
    return fail(ctx, ELBO_ERROR_ARGUMENT,
                "%s: model.prior.mixing: none was expected, or model.prior.prediction: v, which is 0 for N(0, I) at every time", file);
  if (m->time_input == TIME_INPUT_INDEX && type != PROCESS_DISCRETE)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: model.prior.time_input: index is of a discrete process", file);
  return ELBO_OK;
}

static elbo_status make_prior(elbo_ctx *ctx, arena *a, const lsgm_recipe *recipe, const vae_spec *vae, const char *file,
                              diffusion_spec *out) {
  picture_shape code;
  process *p = NULL;
  scheduler_config scheduler;
  char where[512];
  TRY(lsgm_prior_check(ctx, &recipe->model.prior, file));
  TRY(lsgm_code_shape(ctx, vae, &recipe->model.prior.denoiser, file, &code));
  *out = (diffusion_spec){
      .model = recipe->model.prior, .sample = recipe->sample, .height = code.height, .width = code.width, .channels = code.channels};
  out->model.preset = 0, out->model.sigma_data = 1,
  out->model.condition = (diffusion_condition_config){.dim = 16, .tokens = 77, .factor = 4};
  if (out->sample.guidance.scale != 1)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: sample.guidance.scale: 1 was expected: a prior of codes takes no condition", file);
  denoiser_data shape = {.height = code.height, .width = code.width, .in_channels = code.channels, .out_channels = code.channels};
  snprintf(where, sizeof where, "%s: model.prior", file);
  TRY(denoiser_fit(ctx, a, &out->model.denoiser, &shape, where));
  snprintf(where, sizeof where, "%s: model.prior.process", file);
  TRY(process_create(ctx, &out->model.process, where, &p));
  process_destroy(&p);
  snprintf(where, sizeof where, "%s: sample", file);
  return scheduler_from_sampler(ctx, a, &out->model.process, out->model.prediction, out->model.sigma_data, &out->sample.solver, NULL, where,
                                &scheduler);
}

elbo_status lsgm_spec_make(elbo_ctx *ctx, arena *a, const lsgm_recipe *recipe, const vae_spec *vae, const char *file, lsgm_spec *out) {
  const objective_config plain = {.beta = 1, .samples = 1};
  *out = (lsgm_spec){.vae = *vae};
  model_config *m = &out->vae.model;
  m->preset = MODEL_LSGM, m->prior = (prior_config){.components = 64}, m->condition = (condition_config){.dim = 16};
  TRY(vae_spec_check(ctx, &out->vae, file));
  if (likelihood_variance(m->decoder.likelihood, m->decoder.variance) == WIDTH_OPTIMAL)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: model.decoder.variance: fixed, learned or pixel was expected", file);
  TRY(objective_check(ctx, &plain, &out->vae, file));
  return make_prior(ctx, a, recipe, &out->vae, file, &out->prior);
}
