#include "models/diffusion_config.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "models/latent_cache.h"

static const config_field condition_fields[] = {
    CONFIG_ENUM(diffusion_condition_config, type, "none", DIFFUSION_CONDITION_NAMES,
                "what the network is told: the example's class; a vector (data.condition); the picture in low resolution, or with a box "
                "cut out, beside the state; a sequence of embeddings, as of a text (data.condition)"),
    CONFIG_INT(diffusion_condition_config, dim, 1, 65536, "16", "", "numbers of the vector, or of each embedding of context"),
    CONFIG_INT(diffusion_condition_config, tokens, 1, 65536, "77", "", "embeddings of context"),
    CONFIG_INT(diffusion_condition_config, factor, 2, 64, "4", "", "lowres: how many times smaller"),
    CONFIG_FLOAT(diffusion_condition_config, dropout, 0, 0.999, "0", "",
                 "probability that a training example goes without its condition: guidance needs it"),
};
const config_table diffusion_condition_table =
    CONFIG_TABLE("condition", diffusion_condition_config, condition_fields, "conditional models");

static const config_field condition_file_fields[] = {
    {"type", CONFIG_TYPE_ENUM, offsetof(diffusion_condition_config, type), 0, 0, "none", "", "", DIFFUSION_CONDITION_FILE_NAMES, NULL, 0},
    CONFIG_INT(diffusion_condition_config, dim, 1, 65536, "16", "", ""),
    CONFIG_INT(diffusion_condition_config, tokens, 1, 65536, "77", "", ""),
    CONFIG_INT(diffusion_condition_config, factor, 2, 64, "4", "", ""),
    CONFIG_FLOAT(diffusion_condition_config, dropout, 0, 0.999, "0", "", ""),
    CONFIG_INT(diffusion_condition_config, maps, 0, 1024, "0", "", ""),
    CONFIG_INTS(diffusion_condition_config, hidden, 1, 1e6, "[]", "", ""),
    CONFIG_BOOL(diffusion_condition_config, centred, "false", ""),
};
const config_table diffusion_condition_file_table = CONFIG_TABLE("condition", diffusion_condition_config, condition_file_fields, "");

static const config_field codes_fields[] = {
    CONFIG_ENUM(diffusion_latent_config, cache, "moments", LATENT_MOMENTS_NAMES,
                "what is kept of each training example: mean and deviation of its code, from which each step draws, or the mean alone; a "
                "code that is a point is its mean"),
    CONFIG_ENUM(diffusion_latent_config, scale, "all", LATENT_SCALING_NAMES,
                "codes are brought to a deviation of 1 over the whole training set: with one factor, channel by channel about its mean, or "
                "as the autoencoder's own config says"),
};
static const config_table codes_table = CONFIG_TABLE("latent", diffusion_latent_config, codes_fields, "codes as data (model.autoencoder)");

static const config_field model_fields[] = {
    CONFIG_ENUM(diffusion_config, preset, "ddpm", "ddpm|vdm", "kind of model: where the keys below begin"),
    CONFIG_STRING(diffusion_config, autoencoder, "",
                  "latent diffusion: a model of the codes of this frozen autoencoder, an earlier stage of the recipe, a run or a model "
                  "directory (AutoencoderKL, VQModel, AutoencoderTiny, or a VAE with one flat code); nothing: of the data themselves"),
    CONFIG_SECTION(diffusion_config, latent, &codes_table),
    DIFFUSION_NETWORK_FIELDS(diffusion_config, ),
    CONFIG_SECTION(diffusion_config, condition, &diffusion_condition_table),
};
static const config_table diffusion_model_table =
    CONFIG_TABLE("model", diffusion_config, model_fields, "process, network, prediction, condition");

static const config_field objective_fields[] = {
    CONFIG_ENUM(diffusion_objective, weighting, "simple", LOSS_WEIGHTING_NAMES,
                "of the squared error: none, in the space of the prediction; the bound's; min-SNR; P2; EDM's; a sigmoid of log-SNR"),
    CONFIG_FLOAT(diffusion_objective, gamma, 0, 1e6, "5", "", "of min_snr"),
    CONFIG_FLOAT(diffusion_objective, p2_gamma, 0, 1e6, "1", "", "exponent of p2"),
    CONFIG_FLOAT(diffusion_objective, p2_k, 0, 1e6, "1", "", "of p2"),
    CONFIG_FLOAT(diffusion_objective, bias, -100, 100, "2", "log-SNR", "of sigmoid"),
    CONFIG_ENUM(diffusion_objective, time, "uniform", TIME_SAMPLING_NAMES,
                "how times are drawn; importance: by the losses seen so far, divided out again"),
    CONFIG_FLOAT(diffusion_objective, time_mean, -100, 100, "-1.2", "", "of log sigma (lognormal), of logit t (logit_normal)"),
    CONFIG_FLOAT(diffusion_objective, time_std, 1e-6, 100, "1.2", "", "likewise"),
    CONFIG_FLOAT(diffusion_objective, variance_weight, 0, 1e6, "0.001", "", "of the bound's term in L_hybrid (variance: learned_range)"),
};
const config_table diffusion_objective_table =
    CONFIG_TABLE("objective", diffusion_objective, objective_fields, "weighting and times of the loss");

static const config_field section_fields[] = {
    CONFIG_SECTION(diffusion_recipe, model, &diffusion_model_table),
    CONFIG_SECTION(diffusion_recipe, objective, &diffusion_objective_table),
    CONFIG_SECTION(diffusion_recipe, sample, &sampling_table),
};
const config_table diffusion_sections = CONFIG_TABLE("diffusion", diffusion_recipe, section_fields, "a diffusion model");

int64_t diffusion_picture_channels(const diffusion_spec *spec) {
  switch (spec->model.condition.type) {
  case DIFFUSION_LOWRES:
  case DIFFUSION_RECONSTRUCTION: return spec->channels;
  case DIFFUSION_MASKED: return spec->channels + 1;
  default: return 0;
  }
}

int64_t diffusion_extra_channels(const diffusion_spec *spec) {
  return spec->model.condition.type == DIFFUSION_CODE ? spec->model.condition.maps : diffusion_picture_channels(spec);
}

bool diffusion_draws_codes(const diffusion_spec *spec) {
  return spec->latent && spec->latent->posterior && spec->model.latent.cache == LATENT_MOMENTS;
}

bool diffusion_learned_variance(const diffusion_spec *spec) { return spec->model.variance == REVERSE_LEARNED_RANGE; }

int64_t diffusion_null_class(const diffusion_spec *spec) {
  denoiser_needs needs = denoiser_config_needs(&spec->model.denoiser);
  if (needs.class_labels != CLASS_INPUT_INDEX) return -1;
  if (needs.null_class) return needs.classes - 1;
  return needs.classes > spec->classes ? spec->classes : -1; // a table with a row more than there are classes
}

// --- checks: what single keys cannot know ---

// What has to come out of the network should be of one size whatever the noise [Karras22 sec. 5]. Noise levels that span orders of
// magnitude leave v = alpha epsilon - sigma x0 with the size of sigma where alpha is 1, and the score -epsilon / sigma with that of 1 /
// sigma, which [Song21 appendix H] has the network itself divide by.
static elbo_status check_prediction(elbo_ctx *ctx, const diffusion_spec *spec, const char *file) {
  const diffusion_config *m = &spec->model;
  const unet_config *unet = &m->denoiser.unet;
  const bool exploding = m->process.type == PROCESS_EDM || m->process.type == PROCESS_VE;
  const bool divides = m->denoiser.network == DENOISER_UNET && unet->class == UNET_2D && unet->time_embedding_type == UNET_TIME_FOURIER;
  const bool told_sigma = m->time_input == TIME_INPUT_SIGMA || (m->time_input == TIME_INPUT_AUTO && m->process.type == PROCESS_VE);
  if (m->prediction == PREDICT_V && exploding)
    return fail(ctx, ELBO_ERROR_ARGUMENT,
                "%s: model.prediction: v, alpha epsilon - sigma x0, grows with sigma on process edm and ve, where alpha is 1; edm is its "
                "preconditioned form",
                file);
  if (divides && !told_sigma)
    return fail(ctx, ELBO_ERROR_ARGUMENT,
                "%s: model.unet.time_embedding_type: fourier divides by the noise level that it is told: process ve, or model.time_input: "
                "sigma, was expected",
                file);
  if (divides && m->prediction != PREDICT_SCORE)
    return fail(ctx, ELBO_ERROR_ARGUMENT,
                "%s: model.prediction: a UNet2DModel with time_embedding_type fourier divides by sigma what it says: score was expected",
                file);
  if (m->prediction == PREDICT_SCORE && !divides)
    return fail(ctx, ELBO_ERROR_ARGUMENT,
                "%s: model.prediction: score, -epsilon / sigma, is of networks that divide by sigma themselves (a UNet2DModel with "
                "model.unet.time_embedding_type: fourier); epsilon says the same at the size of 1",
                file);
  return ELBO_OK;
}

static elbo_status check_choices(elbo_ctx *ctx, const diffusion_spec *spec, const char *file) {
  const diffusion_config *m = &spec->model;
  const bool discrete = m->process.type == PROCESS_DISCRETE;
  if (m->variance == REVERSE_LEARNED_RANGE && !discrete)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: model.variance: learned_range is of the steps of a discrete process (model.process.type)",
                file);
  if (m->variance == REVERSE_LEARNED_RANGE && m->denoiser.network != DENOISER_UNET && m->denoiser.network != DENOISER_DIT)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: model.variance: learned_range needs a network with a second output (unet, dit)", file);
  if (m->prediction == PREDICT_FLOW && m->process.type != PROCESS_FLOW)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: model.prediction: flow is the velocity of process flow (alpha 1 - t, sigma t)", file);
  if (m->time_input == TIME_INPUT_INDEX && !discrete)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: model.time_input: index is of a discrete process", file);
  if (m->process.type == PROCESS_LEARNED && m->prediction != PREDICT_EPSILON && m->prediction != PREDICT_V && m->prediction != PREDICT_X0)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: model.prediction: a learned process goes with epsilon, v or x0", file);
  TRY(check_prediction(ctx, spec, file));
  if (m->process.zero_snr && discrete && (m->prediction == PREDICT_EPSILON || m->prediction == PREDICT_SCORE))
    return fail(ctx, ELBO_ERROR_ARGUMENT,
                "%s: model.prediction: with process.zero_snr the last step is pure noise, of which epsilon says nothing; v or x0 is needed",
                file);
  return ELBO_OK;
}

elbo_status diffusion_condition_check(elbo_ctx *ctx, const diffusion_spec *spec, int64_t tokens, int64_t dim, const char *file) {
  const diffusion_condition_config *c = &spec->model.condition;
  const bool sequences = c->type == DIFFUSION_CONTEXT;
  if (!sequences && c->type != DIFFUSION_VECTOR) return ELBO_OK;
  if (!dim)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: model.condition.type: %s, but the data carry none; data.condition names a .npy of them%s",
                file, sequences ? "context" : "vector", sequences ? " (examples,embeddings,numbers)" : "");
  if (sequences != (tokens > 0))
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: model.condition.type: %s, but the data give %s (data.condition)", file,
                sequences ? "context" : "vector", sequences ? "vectors, not sequences of them" : "sequences, which context takes");
  if (sequences && tokens != c->tokens)
    return fail(ctx, ELBO_ERROR_ARGUMENT,
                "%s: model.condition.tokens: %lld, but the data give sequences of %lld embeddings (data.condition)", file,
                (long long)c->tokens, (long long)tokens);
  if (dim != c->dim)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: model.condition.dim: %lld, but the data give %s of %lld numbers (data.condition)", file,
                (long long)c->dim, sequences ? "embeddings" : "vectors", (long long)dim);
  return ELBO_OK;
}

static elbo_status check_condition(elbo_ctx *ctx, const diffusion_spec *spec, const char *file) {
  const diffusion_condition_config *c = &spec->model.condition;
  if (spec->latent && (c->type == DIFFUSION_LOWRES || c->type == DIFFUSION_MASKED))
    return fail(ctx, ELBO_ERROR_UNSUPPORTED, "%s: model.condition.type: lowres and masked are of pictures, not of codes", file);
  if (c->type == DIFFUSION_CLASS && spec->classes < 1)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: model.condition.type: class, but the data have no labels", file);
  if (c->type == DIFFUSION_VECTOR || c->type == DIFFUSION_CONTEXT)
    TRY(diffusion_condition_check(ctx, spec, spec->condition_tokens, spec->condition_dim, file));
  if (c->type == DIFFUSION_UNCONDITIONAL && c->dropout > 0)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: model.condition.dropout: there is no condition (condition.type)", file);
  if ((c->type == DIFFUSION_LOWRES || c->type == DIFFUSION_MASKED) && spec->height * spec->width < 4)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: model.condition.type: lowres and masked are of pictures", file);
  if (c->type == DIFFUSION_LOWRES && (spec->height % c->factor || spec->width % c->factor))
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: model.condition.factor: %lld does not divide %lldx%lld", file, (long long)c->factor,
                (long long)spec->height, (long long)spec->width);
  if (spec->sample.guidance.scale != 1 && !*spec->sample.guidance.model && c->dropout <= 0)
    return fail(
        ctx, ELBO_ERROR_ARGUMENT,
        "%s: sample.guidance.scale: guidance needs a model that was trained without its condition too (model.condition.dropout), or "
        "a second model (sample.guidance.model)",
        file);
  return ELBO_OK;
}

// Pictures lie within -1..1, and where alpha is all but 0 a small error of epsilon throws x0 far out of it: the reverse steps of the papers
// [Ho20] clip. Flows and preconditioned networks see x0 through no such division.
static bool clips_by_itself(const diffusion_spec *spec) {
  return spec->bits && spec->model.prediction != PREDICT_FLOW && spec->model.prediction != PREDICT_EDM;
}

elbo_status diffusion_spec_make(elbo_ctx *ctx, arena *a, const diffusion_recipe *recipe, const elbo_dataset_info *info, const char *file,
                                diffusion_spec *out) {
  return diffusion_spec_of_codes(ctx, a, recipe, info, NULL, file, out);
}

elbo_status diffusion_spec_of_codes(elbo_ctx *ctx, arena *a, const diffusion_recipe *recipe, const elbo_dataset_info *of_data,
                                    latent_space *latent, const char *file, diffusion_spec *out) {
  elbo_dataset_info codes = *of_data, *info = &codes;
  if (latent) codes.height = (int)latent->code.height, codes.width = (int)latent->code.width, codes.channels = (int)latent->code.channels;
  if (latent) codes.bits = 0;
  *out = (diffusion_spec){.model = recipe->model,
                          .sample = recipe->sample,
                          .latent = latent,
                          .height = info->height,
                          .width = info->width,
                          .channels = info->channels,
                          .classes = info->classes,
                          .condition_dim = info->condition_dim,
                          .condition_tokens = info->condition_tokens,
                          .bits = info->bits};
  const diffusion_condition_config *c = &out->model.condition;
  TRY(check_choices(ctx, out, file));
  TRY(check_condition(ctx, out, file));
  denoiser_data shape = {.height = info->height,
                         .width = info->width,
                         .in_channels = info->channels + diffusion_extra_channels(out),
                         .out_channels = info->channels * (diffusion_learned_variance(out) ? 2 : 1),
                         .classes = c->type == DIFFUSION_CLASS ? info->classes : 0,
                         .null_class = c->dropout > 0,
                         .class_dim = c->type == DIFFUSION_VECTOR || c->type == DIFFUSION_CODE ? c->dim : 0,
                         .adapted = c->type == DIFFUSION_CODE,
                         .context_dim = c->type == DIFFUSION_CONTEXT ? c->dim : 0};
  char where[512];
  snprintf(where, sizeof where, "%s: model", file);
  elbo_status fitted = denoiser_fit(ctx, a, &out->model.denoiser, &shape, where);
  if (fitted != ELBO_OK && latent) {
    char codes_text[128];
    return fail_within(ctx, fitted, "%s: model.autoencoder: %s", file, latent_space_text(latent, codes_text, sizeof codes_text));
  }
  TRY(fitted);
  sampler_config *solver = &out->sample.solver;
  if (solver->variance == VARIANCE_FIXED_SMALL && out->model.variance != REVERSE_FIXED_SMALL) // the one that the model was trained for
    solver->variance = out->model.variance == REVERSE_FIXED_LARGE ? VARIANCE_FIXED_LARGE : VARIANCE_LEARNED_RANGE;
  if (solver->clip == STEP_CLIP_AUTO && clips_by_itself(out)) solver->clip = STEP_CLIP_STATIC;
  process *p = NULL;
  snprintf(where, sizeof where, "%s: model.process", file);
  if (out->model.process.type != PROCESS_LEARNED) TRY(process_create(ctx, &out->model.process, where, &p));
  process_destroy(&p);
  scheduler_config scheduler;
  snprintf(where, sizeof where, "%s: sample", file);
  return scheduler_from_sampler(ctx, a, &out->model.process, out->model.prediction, out->model.sigma_data, &out->sample.solver, NULL, where,
                                &scheduler);
}

elbo_status diffusion_objective_check(elbo_ctx *ctx, const diffusion_objective *o, const diffusion_spec *spec, const char *file) {
  const diffusion_config *m = &spec->model;
  const bool discrete = m->process.type == PROCESS_DISCRETE, learned = m->process.type == PROCESS_LEARNED;
  if (o->time == TIME_LOGIT_NORMAL && discrete)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: objective.time: logit_normal is for a continuous process", file);
  if (learned && (o->time == TIME_IMPORTANCE || o->time == TIME_LOGNORMAL || o->time == TIME_LOGIT_NORMAL))
    return fail(ctx, ELBO_ERROR_ARGUMENT,
                "%s: objective.time: a learned process chooses by itself where it looks; uniform or low_discrepancy goes with it", file);
  if (learned && o->weighting != WEIGHTING_BOUND)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: objective.weighting: a learned process is trained by the bound", file);
  if (learned && (spec->bits != 8))
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: model.process.type: a learned process is of 8-bit pictures; these are %s", file,
                spec->latent       ? "codes"
                : spec->bits == 16 ? "16-bit"
                                   : "float");
  if (o->weighting == WEIGHTING_BOUND && (m->process.type == PROCESS_FLOW))
    return fail(ctx, ELBO_ERROR_ARGUMENT,
                "%s: objective.weighting: the bound is infinite at the ends of process flow, where there is no noise, or no data", file);
  return ELBO_OK;
}

// --- time ---

double diffusion_time_of_step(const process *p, double timestep) {
  const process_type kind = process_kind(p);
  switch (kind) {
  case PROCESS_DISCRETE: return (timestep + 1) / (double)process_steps(p);
  case PROCESS_EDM: return process_time_of_logsnr(p, -8 * timestep);
  case PROCESS_FLOW: return process_time_of_logsnr(p, 2 * log((1000 - timestep) / timestep));
  case PROCESS_VE: return process_time_of_logsnr(p, -2 * log(timestep));
  default: return timestep;
  }
}

double diffusion_time_told(const diffusion_spec *spec, const process *p, double timestep) {
  int told = spec->model.time_input;
  const process_type kind = process_kind(p);
  bool in_diffusers = kind == PROCESS_DISCRETE || kind == PROCESS_EDM || kind == PROCESS_FLOW || kind == PROCESS_VE;
  if (told == TIME_INPUT_AUTO) {
    if (spec->model.denoiser.network == DENOISER_VDM)
      told = TIME_INPUT_LOGSNR;
    else if (spec->model.prediction == PREDICT_EDM && kind != PROCESS_EDM)
      told = TIME_INPUT_LOG_SIGMA;
    else if (in_diffusers)
      return timestep;
    else
      told = TIME_INPUT_SCALED;
  }
  if (told == TIME_INPUT_INDEX) return timestep;
  double t = diffusion_time_of_step(p, timestep);
  if (told == TIME_INPUT_SCALED) return 1000 * t;
  double logsnr = process_at(p, t).logsnr;
  if (!isfinite(logsnr)) logsnr = logsnr > 0 ? 40 : -40;
  return told == TIME_INPUT_LOGSNR ? logsnr : told == TIME_INPUT_LOG_SIGMA ? -logsnr / 8 : exp(-0.5 * logsnr);
}
