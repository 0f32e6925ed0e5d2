#include "models/autoencoder_config.h"

#include <stdio.h>

static const config_field model_fields[] = {
    CONFIG_ENUM(struct autoencoder_model, preset, "autoencoder", "autoencoder", "kind of model; the other keys depend on it"),
    {"network", CONFIG_TYPE_ENUM, offsetof(struct autoencoder_model, network.network), 0, 0, "kl", "", "which autoencoder", CODEC_NAMES,
     NULL, 0},
    {"kl", CONFIG_TYPE_SECTION, offsetof(struct autoencoder_model, network.kl), 0, 0, "{}", "", "", NULL, &kl_table, 0},
    {"vq", CONFIG_TYPE_SECTION, offsetof(struct autoencoder_model, network.vq), 0, 0, "{}", "", "", NULL, &vq_table, 0},
    {"tiny", CONFIG_TYPE_SECTION, offsetof(struct autoencoder_model, network.tiny), 0, 0, "{}", "", "", NULL, &tiny_table, 0},
    CONFIG_SECTION(struct autoencoder_model, discriminator, &discriminator_table),
};
static const config_table model_table = CONFIG_TABLE("model", struct autoencoder_model, model_fields, "an autoencoder with a map of codes");

static const config_field objective_fields[] = {
    CONFIG_ENUM(autoencoder_objective, reconstruction, "l1", "l1|l2",
                "distance between a picture in -1..1 and what is made of it: absolute or squared, the mean over its numbers"),
    CONFIG_FLOAT(autoencoder_objective, kl, 0, 1e6, "1e-6", "",
                 "kl: weight of the code's KL to N(0, I) in nats beside the distance summed over the picture"),
    CONFIG_FLOAT(autoencoder_objective, commitment, 0, 1e6, "0.25", "", "vq: weight beta of what pulls codes and table together"),
    CONFIG_BOOL(autoencoder_objective, legacy, "true",
                "vq: as diffusers' VQModel has it, beta is on what pulls the table; false: on what pulls the encoder, as published"),
    CONFIG_INT(autoencoder_objective, restart_steps, 0, 1e9, "100", "steps",
               "vq: a code that no place of so many batches took becomes that of a random place of the last one; 0: never"),
    CONFIG_STRING(autoencoder_objective, perceptual, "",
                  "run or model directory of a classifier, or a file of VGG-16's weights (safetensors, .pth): the distance of its normed "
                  "features (LPIPS) is added to that of the pixels"),
    CONFIG_STRING(autoencoder_objective, perceptual_channels, "",
                  "file of LPIPS' learned weights of VGG-16's channels; \"\": those in the file before, or all alike where it has none"),
    CONFIG_FLOAT(autoencoder_objective, perceptual_weight, 0, 1e6, "1", "", "of that distance"),
    CONFIG_FLOAT(autoencoder_objective, adversarial, 0, 1e6, "0", "",
                 "weight of what deceives model.discriminator; 0: there is no adversary"),
    CONFIG_INT(autoencoder_objective, adversarial_start, 0, 1e12, "0", "steps", "before which neither the adversary nor its term is there"),
    CONFIG_BOOL(autoencoder_objective, adaptive, "true",
                "that weight is times the ratio of the gradients of distance and adversarial term at the decoder's last weight"),
    CONFIG_ENUM(autoencoder_objective, loss, "hinge", "non_saturating|minimax|hinge|least_squares",
                "what the adversary is trained by, and what deceives it"),
    CONFIG_FLOAT(autoencoder_objective, r1, 0, 1e6, "0", "", "weight of half the squared gradient of the adversary at what is real"),
};
static const config_table objective_table = CONFIG_TABLE("objective", autoencoder_objective, objective_fields, "what training lowers");

static const config_field section_fields[] = {CONFIG_SECTION(autoencoder_recipe, model, &model_table),
                                              CONFIG_SECTION(autoencoder_recipe, objective, &objective_table)};
const config_table autoencoder_sections =
    CONFIG_TABLE("autoencoder", autoencoder_recipe, section_fields, "an autoencoder with a map of codes");

// What comes out is compared with what went in, so both are of one shape.
static elbo_status check_shapes(elbo_ctx *ctx, const autoencoder_spec *s, const char *where) {
  const codec_shape shape = codec_config_shape(&s->network);
  const int64_t down = (int64_t)1 << (shape.levels - 1);
  if (shape.in_channels != s->shape.channels)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s.in_channels: %lld; the data have %lld", where, (long long)shape.in_channels,
                (long long)s->shape.channels);
  if (shape.out_channels != shape.in_channels)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s.out_channels: %lld; to be trained it gives as many as it takes, %lld", where,
                (long long)shape.out_channels, (long long)shape.in_channels);
  if (shape.up != down)
    return fail(ctx, ELBO_ERROR_ARGUMENT,
                "%s: the encoder makes maps %lld times smaller, the decoder %lld times larger; to be trained "
                "they must agree",
                where, (long long)down, (long long)shape.up);
  if (s->shape.height % down || s->shape.width % down)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: pictures of %lldx%lld do not halve %d times; data.size chooses another", where,
                (long long)s->shape.height, (long long)s->shape.width, shape.levels - 1);
  return ELBO_OK;
}

elbo_status autoencoder_spec_make(elbo_ctx *ctx, const autoencoder_recipe *recipe, const elbo_dataset_info *info, const char *file,
                                  autoencoder_spec *out) {
  char where[512];
  *out = (autoencoder_spec){.network = recipe->model.network,
                            .discriminator = recipe->model.discriminator,
                            .objective = recipe->objective,
                            .shape = {info->height, info->width, info->channels},
                            .bits = info->bits,
                            .size = {info->height, info->width}};
  snprintf(where, sizeof where, "%s: model.%s", file, codec_key(&out->network));
  TRY(codec_check(ctx, &out->network, where));
  TRY(check_shapes(ctx, out, where));
  if (out->objective.adversarial > 0) {
    if (out->discriminator.type == DISCRIMINATOR_MLP)
      return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: model.discriminator.type: an adversary of pictures, patch or conv, was expected", file);
    TRY(discriminator_check(ctx, file, &out->discriminator, &out->shape));
  }
  const config_ints size = {out->size[0] == out->size[1] ? 1 : 2, out->size};
  out->network.kl.sample_size = out->network.vq.sample_size = size;
  return ELBO_OK;
}

int64_t autoencoder_code_size(const autoencoder_spec *s) {
  return codec_code_size(&s->network, s->shape.height) * codec_code_size(&s->network, s->shape.width) *
         codec_config_shape(&s->network).code_channels;
}
