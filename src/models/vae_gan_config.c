#include "models/vae_gan_config.h"

static const config_field model_fields[] = {
    {"preset", CONFIG_TYPE_ENUM, offsetof(vae_gan_model, vae.preset), 0, 0, "vae-gan", "", "kind of model", "vae-gan", NULL, 0},
    {"latent", CONFIG_TYPE_SECTION, offsetof(vae_gan_model, vae.latent), 0, 0, "{}", "", "", NULL, &latent_table, 0},
    {"encoder", CONFIG_TYPE_SECTION, offsetof(vae_gan_model, vae.encoder), 0, 0, "{}", "", "", NULL, &encoder_table, 0},
    {"decoder", CONFIG_TYPE_SECTION, offsetof(vae_gan_model, vae.decoder), 0, 0, "{}", "", "", NULL, &decoder_table, 0},
    {"prior", CONFIG_TYPE_SECTION, offsetof(vae_gan_model, vae.prior), 0, 0, "{}", "", "", NULL, &prior_table, 0},
    {"condition", CONFIG_TYPE_SECTION, offsetof(vae_gan_model, vae.condition), 0, 0, "{}", "", "", NULL, &condition_table, 0},
    CONFIG_SECTION(vae_gan_model, discriminator, &discriminator_table),
};
static const config_table vae_gan_model_table =
    CONFIG_TABLE("model", vae_gan_model, model_fields, "encoder, prior, decoder, and the adversary that trains them");

static const config_field objective_fields[] = {
    CONFIG_FLOAT(vae_gan_objective, beta, 0, 1e6, "1", "", "weight of the KL term"),
    CONFIG_INT(vae_gan_objective, kl_warmup_steps, 0, 1e12, "0", "steps", "beta rises from 0 over so many"),
    CONFIG_ENUM(vae_gan_objective, adversary, "pictures", "pictures|code",
                "what the adversary tells apart: pictures from decoded ones; draws of the prior from codes (an adversarial autoencoder)"),
    CONFIG_ENUM(vae_gan_objective, reconstruction, "features", "features|pixels|none",
                "the likelihood of x given z: a Gaussian of unit width in the adversary's features; the decoder's own; none"),
    CONFIG_INT(vae_gan_objective, layer, 0, DISCRIMINATOR_LAYERS, "0", "",
               "features: of which layer of the discriminator, counted from 1, convolutions first; 0: the last"),
    CONFIG_FLOAT(vae_gan_objective, gamma, 0, 1e6, "1", "", "weight of the reconstruction in what trains the decoder"),
    CONFIG_ENUM(vae_gan_objective, loss, "non_saturating", GAN_KIND_NAMES, "what the adversary is trained by, and what deceives it"),
    CONFIG_FLOAT(vae_gan_objective, adversarial, 0, 1e6, "1", "", "weight of the adversarial term"),
    CONFIG_INT(vae_gan_objective, adversarial_start, 0, 1e12, "0", "steps", "before which neither the adversary nor its term is there"),
    CONFIG_ENUM(vae_gan_objective, fakes, "both", "both|reconstructions|samples",
                "the decoded pictures that the adversary sees: of codes of x, of draws of the prior"),
    CONFIG_ENUM(
        vae_gan_objective, routing, "split", "split|sum",
        "who is trained by what: the encoder by KL and reconstruction, the decoder by gamma times the reconstruction and the adversary; "
        "or both by the sum of all (with gamma)"),
    CONFIG_FLOAT(vae_gan_objective, r1, 0, 1e6, "0", "", "weight of half the squared gradient of the adversary at what is real"),
    CONFIG_FLOAT(vae_gan_objective, gradient_penalty, 0, 1e6, "10", "",
                 "wgan_gp: weight of (|gradient| - 1)^2 between what is real and what is not"),
    CONFIG_ENUM(
        vae_gan_objective, control, "none", "none|equilibrium",
        "who trains when: always both; or the adversary only while both of its losses are above equilibrium - margin, the decoder only "
        "while both are below equilibrium + margin, both where neither would"),
    CONFIG_FLOAT(vae_gan_objective, equilibrium, -1e6, 1e6, "0.68", "", "loss of an adversary that is evenly matched"),
    CONFIG_FLOAT(vae_gan_objective, margin, 0, 1e6, "0.35", "", "around it"),
};
static const config_table vae_gan_objective_table =
    CONFIG_TABLE("objective", vae_gan_objective, objective_fields, "the terms, and who is trained by which");

static const config_field section_fields[] = {
    CONFIG_SECTION(vae_gan_recipe, model, &vae_gan_model_table),
    CONFIG_SECTION(vae_gan_recipe, objective, &vae_gan_objective_table),
};
const config_table vae_gan_sections = CONFIG_TABLE("vae-gan", vae_gan_recipe, section_fields, "a VAE with an adversary");

picture_shape vae_gan_adversary_shape(const vae_gan_spec *spec) {
  if (spec->objective.adversary == ADVERSARY_PICTURES) return spec->vae.shape;
  return (picture_shape){1, 1, vae_code_size(&spec->vae)};
}

// The parts that an adversary's graphs do not know.
static elbo_status check_model(elbo_ctx *ctx, const vae_gan_spec *s, const char *file) {
  const model_config *m = &s->vae.model;
  const char *key = m->latent.groups.count                ? "model.latent.groups: a flat code ([])"
                    : m->prior.type != PRIOR_STANDARD     ? "model.prior.type: standard"
                    : m->prior.fitted                     ? "model.prior.fitted: 0"
                    : m->condition.type != CONDITION_NONE ? "model.condition.type: none"
                                                          : NULL;
  if (key) return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: %s was expected: a vae-gan is of a flat code, N(0, I) and no condition", file, key);
  int width = likelihood_variance(m->decoder.likelihood, m->decoder.variance);
  bool learned = width == WIDTH_LEARNED && s->objective.reconstruction != RECONSTRUCTION_PIXELS;
  if (width == WIDTH_OPTIMAL || learned)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: model.decoder.variance: fixed or pixel was expected%s", file,
                learned ? ": without objective.reconstruction: pixels nothing learns a width" : "");
  return ELBO_OK;
}

static elbo_status check_objective(elbo_ctx *ctx, const vae_gan_spec *s, const char *file) {
  const vae_gan_objective *o = &s->objective;
  bool code = o->adversary == ADVERSARY_CODE;
  if (code != (s->discriminator.type == DISCRIMINATOR_MLP))
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: model.discriminator.type: an adversary of %s was expected", file,
                code ? "codes, mlp," : "pictures, conv or patch,");
  if (code && o->reconstruction != RECONSTRUCTION_PIXELS)
    return fail(
        ctx, ELBO_ERROR_ARGUMENT,
        "%s: objective.reconstruction: pixels was expected: an adversary of codes has no features of pictures, and nothing else would "
        "train the decoder",
        file);
  if (o->reconstruction == RECONSTRUCTION_NONE && o->routing == ROUTING_SPLIT)
    return fail(ctx, ELBO_ERROR_ARGUMENT,
                "%s: objective.routing: sum was expected with reconstruction: none; split would leave the encoder its KL alone", file);
  if (o->reconstruction == RECONSTRUCTION_NONE && o->fakes == FAKES_SAMPLES)
    return fail(ctx, ELBO_ERROR_ARGUMENT,
                "%s: objective.fakes: samples with reconstruction: none would leave the encoder its KL alone; both or reconstructions was "
                "expected",
                file);
  int layers = discriminator_layer_count(&s->discriminator);
  if (o->layer > layers)
    return fail(ctx, ELBO_ERROR_ARGUMENT,
                "%s: objective.layer: %lld, but the discriminator has %d layers; 1 to %d, or 0 for the last, was expected", file,
                (long long)o->layer, layers, layers);
  if (o->control == CONTROL_EQUILIBRIUM && o->loss == GAN_WASSERSTEIN)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: objective.control: the losses of wgan_gp have no equilibrium; none was expected", file);
  return ELBO_OK;
}

elbo_status vae_gan_check(elbo_ctx *ctx, const vae_gan_spec *s, const char *file) {
  TRY(vae_spec_check(ctx, &s->vae, file));
  TRY(check_model(ctx, s, file));
  TRY(check_objective(ctx, s, file));
  picture_shape shape = vae_gan_adversary_shape(s);
  TRY(discriminator_check(ctx, file, &s->discriminator, &shape));
  if (s->objective.reconstruction != RECONSTRUCTION_PIXELS) return ELBO_OK;
  const objective_config plain = {.beta = 1, .samples = 1};
  return objective_check(ctx, &plain, &s->vae, file);
}
