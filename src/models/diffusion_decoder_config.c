// The recipes of models with a diffusion for a decoder.
#include <stdio.h>

#include "models/diffusion_decoder.h"

static const config_field code_fields[] = {
    CONFIG_INT(code_config, dim, 1, 65536, "64", "", "numbers of the code z"),
    CONFIG_FLOAT(
        code_config, kl, 0, 1e6, "0", "",
        "weight of KL(q(z|x) || N(0, I)), in the units of the loss: a number of the picture counts 1 there; 0: z is a function of x"),
    CONFIG_INT(code_config, maps, 0, 1024, "0", "channels",
               "that a linear layer makes of z, beside the state; 0: z joins the embedding of the time alone"),
    CONFIG_INTS(
        code_config, hidden, 1, 1e6, "[]", "",
        "dense layers (SiLU) that z passes before its maps and its part of the embedding: then places and sizes need not be linear in z"),
    CONFIG_FLOAT(code_config, dropout, 0, 0.999, "0", "", "probability that a training example goes without its code: guidance needs it"),
    CONFIG_INT(code_config, fitted, 0, 1024, "10", "",
               "components of the mixture fitted to training codes when a checkpoint is written, from which samples come; 0: none"),
};
const config_table code_table = CONFIG_TABLE("code", code_config, code_fields, "the code of a diffusion autoencoder");

static const config_field diffae_model_fields[] = {
    {"preset", CONFIG_TYPE_ENUM, offsetof(struct diffae_model, diffusion.preset), 0, 0, "diffae", "", "kind of model", "diffae", NULL, 0},
    CONFIG_SECTION(struct diffae_model, encoder, &encoder_table),
    CONFIG_SECTION(struct diffae_model, code, &code_table),
    DIFFUSION_NETWORK_FIELDS(struct diffae_model, diffusion.),
};
static const config_table diffae_model_table =
    CONFIG_TABLE("model", struct diffae_model, diffae_model_fields, "an encoder, and the denoiser that decodes");
static const config_field diffae_fields[] = {
    CONFIG_SECTION(diffae_recipe, model, &diffae_model_table),
    CONFIG_SECTION(diffae_recipe, objective, &diffusion_objective_table),
    CONFIG_SECTION(diffae_recipe, sample, &sampling_table),
};
const config_table diffae_sections = CONFIG_TABLE("diffae", diffae_recipe, diffae_fields, "a diffusion autoencoder");

static const config_field refiner_model_fields[] = {
    {"preset", CONFIG_TYPE_ENUM, offsetof(struct refiner_model, diffusion.preset), 0, 0, "diffusion-decoder", "", "kind of model",
     "diffusion-decoder", NULL, 0},
    CONFIG_STRING(struct refiner_model, vae, NULL,
                  "the VAE whose reconstructions are refined: an earlier stage, a run or a model directory"),
    CONFIG_ENUM(struct refiner_model, formulation, "1", "1|2",
                "how the reconstruction comes in: 1: beside the state; 2: beside it, and the process runs around it, from N(x_hat, I)"),
    CONFIG_INT(struct refiner_model, fitted, 0, 1024, "0", "",
               "components of a mixture fitted to the VAE's codes, from which samples come in place of the VAE's prior; 0: none"),
    DIFFUSION_NETWORK_FIELDS(struct refiner_model, diffusion.),
};
static const config_table refiner_model_table =
    CONFIG_TABLE("model", struct refiner_model, refiner_model_fields, "a frozen VAE, and the denoiser that refines what it decodes");
static const config_field refiner_fields[] = {
    CONFIG_SECTION(refiner_recipe, model, &refiner_model_table),
    CONFIG_SECTION(refiner_recipe, objective, &diffusion_objective_table),
    CONFIG_SECTION(refiner_recipe, sample, &sampling_table),
};
const config_table refiner_sections = CONFIG_TABLE("diffusion-decoder", refiner_recipe, refiner_fields, "a VAE with a diffusion decoder");

static const config_field prior_model_fields[] = {
    {"preset", CONFIG_TYPE_ENUM, offsetof(struct code_prior_model, diffusion.preset), 0, 0, "code-prior", "", "kind of model", "code-prior",
     NULL, 0},
    CONFIG_STRING(struct code_prior_model, autoencoder, NULL,
                  "the diffae whose codes are modelled: an earlier stage, a run or a model directory"),
    DIFFUSION_NETWORK_FIELDS(struct code_prior_model, diffusion.),
};
static const config_table prior_model_table =
    CONFIG_TABLE("model", struct code_prior_model, prior_model_fields, "a diffusion over the codes of a frozen diffusion autoencoder");
static const config_field prior_fields[] = {
    CONFIG_SECTION(code_prior_recipe, model, &prior_model_table),
    CONFIG_SECTION(code_prior_recipe, objective, &diffusion_objective_table),
    CONFIG_SECTION(code_prior_recipe, sample, &sampling_table),
};
const config_table code_prior_sections =
    CONFIG_TABLE("code-prior", code_prior_recipe, prior_fields, "a diffusion over a diffusion autoencoder's codes");

int64_t decoder_code_size(const elbo_model *m) {
  const decoder_model *d = m->decoder;
  return d->spec.told == TOLD_CODE ? d->spec.code.dim : vae_code_size(&d->vae->spec);
}

static elbo_status check_process(elbo_ctx *ctx, const diffusion_config *m, const char *file) {
  if (m->process.type != PROCESS_LEARNED) return ELBO_OK;
  return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: model.process.type: learned is of preset vdm, whose bound trains it; another was expected",
              file);
}

elbo_status decoder_spec_check(elbo_ctx *ctx, const decoder_spec *s, const char *file) {
  TRY(check_process(ctx, &s->pixels.model, file));
  if (s->told != TOLD_CODE) return ELBO_OK;
  const picture_shape shape = {s->pixels.height, s->pixels.width, s->pixels.channels};
  char where[512];
  if (s->encoder.type != NETWORK_MLP && !s->encoder.channels.count)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: model.encoder.channels: empty; expected the channels of each resolution", file);
  snprintf(where, sizeof where, "%s: model.encoder.channels", file);
  return check_halvings(ctx, where, &shape, encoder_halvings(&s->encoder));
}

elbo_status diffae_spec_make(elbo_ctx *ctx, arena *a, const diffae_recipe *recipe, const elbo_dataset_info *info, const char *file,
                             decoder_spec *out) {
  diffusion_recipe pixels = {.model = recipe->model.diffusion, .objective = recipe->objective, .sample = recipe->sample};
  *out = (decoder_spec){.told = TOLD_CODE, .encoder = recipe->model.encoder, .code = recipe->model.code};
  pixels.model.preset = 0;
  pixels.model.condition = (diffusion_condition_config){.type = DIFFUSION_CODE,
                                                        .dim = out->code.dim,
                                                        .tokens = 1,
                                                        .factor = 2,
                                                        .dropout = out->code.dropout,
                                                        .maps = out->code.maps,
                                                        .hidden = out->code.hidden};
  TRY(diffusion_spec_make(ctx, a, &pixels, info, file, &out->pixels));
  return decoder_spec_check(ctx, out, file);
}

elbo_status refiner_spec_make(elbo_ctx *ctx, arena *a, const refiner_recipe *recipe, const elbo_model *vae, const elbo_dataset_info *info,
                              const char *file, decoder_spec *out) {
  diffusion_recipe pixels = {.model = recipe->model.diffusion, .objective = recipe->objective, .sample = recipe->sample};
  *out = (decoder_spec){.told = TOLD_RECONSTRUCTION};
  if (!vae || vae->kind != &model_kind_vae)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: model.vae: '%s' is a model of kind %s; a VAE was expected", file, recipe->model.vae,
                vae ? vae->kind->preset : "none");
  const picture_shape *s = &vae->spec.shape;
  if (s->height != info->height || s->width != info->width || s->channels != info->channels)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: model.vae: '%s' is of pictures %lld x %lld x %lld; the data are %d x %d x %d", file,
                recipe->model.vae, (long long)s->height, (long long)s->width, (long long)s->channels, info->height, info->width,
                info->channels);
  if (vae->spec.model.condition.type != CONDITION_NONE)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: model.vae: '%s' is conditioned; a VAE without a condition was expected", file,
                recipe->model.vae);
  pixels.model.preset = 0;
  pixels.model.condition = (diffusion_condition_config){
      .type = DIFFUSION_RECONSTRUCTION, .dim = 1, .tokens = 1, .factor = 2, .centred = recipe->model.formulation == 1};
  TRY(diffusion_spec_make(ctx, a, &pixels, info, file, &out->pixels));
  out->code.fitted = recipe->model.fitted;
  return decoder_spec_check(ctx, out, file);
}
