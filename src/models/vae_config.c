#include "models/vae_config.h"

#include <stdio.h>

#include "models/picture_pyramid.h"

static const config_field latent_fields[] = {
    CONFIG_INT(latent_config, dim, 1, 1e6, "20", "", "numbers in the code; with groups: in each vector group"),
    CONFIG_INTS(
        latent_config, groups, 0, 64, "[]", "",
        "top-down model: how many vector groups, then how many at each resolution of the decoder, coarsest first; []: one flat code"),
    CONFIG_INT(latent_config, channels, 1, 4096, "4", "", "numbers at each position of a spatial group"),
    CONFIG_INT(latent_config, width, 1, 65536, "128", "", "top-down model: width of the state between vector groups"),
    CONFIG_BOOL(latent_config, pyramid, "false",
                "top-down model: the groups of a resolution code the picture's Haar coefficients there, q beginning at what they are and "
                "the likelihood at what they add up to; channels is not read, and a resolution's groups share its coefficients: the means "
                "(at the coarsest), then the differences channel by channel, the last group the rest"),
    CONFIG_FLOAT(latent_config, log_var_bound, 1, 60, "20", "",
                 "log variances of q are clamped to +- this, in training and in every score"),
};
const config_table latent_table = CONFIG_TABLE("latent", latent_config, latent_fields, "the code z");

static const config_field prior_fields[] = {
    CONFIG_ENUM(prior_config, type, "standard", "standard|learned|mixture|vamp",
                "N(0, I); a learned diagonal Gaussian; a learned mixture of them; the posteriors of learned pseudo-inputs"),
    CONFIG_INT(prior_config, components, 1, 1024, "64", "", "of mixture and vamp"),
    CONFIG_INT(prior_config, fitted, 0, 1024, "0", "",
               "components of a mixture of Gaussians fitted to the codes of training examples at each checkpoint, from which samples are "
               "then drawn; "
               "0: samples are drawn from p(z)"),
};
const config_table prior_table = CONFIG_TABLE("prior", prior_config, prior_fields, "p(z)");

static const config_field condition_fields[] = {
    CONFIG_ENUM(condition_config, type, "none", "none|class|vector",
                "what encoder, decoder and a learned prior are told: the example's class, or a vector (input \"condition\")"),
    CONFIG_INT(condition_config, dim, 0, 65536, "0", "",
               "numbers in a class's embedding, 0: 16; or in the vector, 0: as many as the data's"),
};
const config_table condition_table = CONFIG_TABLE("condition", condition_config, condition_fields, "conditional models (CVAE)");

static const config_field model_fields[] = {
    CONFIG_ENUM(model_config, preset, "vae", "vae", "kind of model"),
    CONFIG_SECTION(model_config, latent, &latent_table),
    CONFIG_SECTION(model_config, encoder, &encoder_table),
    CONFIG_SECTION(model_config, decoder, &decoder_table),
    CONFIG_SECTION(model_config, prior, &prior_table),
    CONFIG_SECTION(model_config, condition, &condition_table),
};
const config_table model_table = CONFIG_TABLE("model", model_config, model_fields, "encoder, prior, decoder");

static const config_field objective_fields[] = {
    CONFIG_FLOAT(objective_config, beta, 0, 1e6, "1", "", "weight of the KL term"),
    CONFIG_INT(objective_config, kl_warmup_steps, 0, 1e12, "0", "steps", "beta rises from 0 over so many steps (of each cycle)"),
    CONFIG_ENUM(objective_config, kl_warmup, "linear", "linear|cyclical", "once, or again in each cycle"),
    CONFIG_INT(objective_config, kl_cycles, 1, 1e6, "4", "", "cyclical: cycles over the whole training"),
    CONFIG_FLOAT(objective_config, free_bits, 0, 1e6, "0", "nats",
                 "KL below this (of each number of a flat code, of each group of a top-down model, averaged over the batch) costs nothing"),
    CONFIG_FLOAT(objective_config, capacity, 0, 1e6, "0", "nats", "above 0: the KL term is beta |KL - C|, C rising from 0 to this"),
    CONFIG_INT(objective_config, capacity_steps, 1, 1e12, "10000", "steps", "over which C rises"),
    CONFIG_FLOAT(objective_config, mmd, 0, 1e6, "0", "", "weight of the maximum mean discrepancy between codes and prior (InfoVAE)"),
    CONFIG_FLOAT(objective_config, tc, 0, 1e6, "0", "",
                 "above 0: weight of the total correlation in the KL's decomposition (beta-TC); beta weighs its two other terms"),
    CONFIG_ENUM(objective_config, estimator, "elbo", "elbo|iwae|dreg", "the bound that is raised, and DReG's gradient of the IWAE bound"),
    CONFIG_INT(objective_config, samples, 1, 10000, "1", "", "draws of z for each example"),
};
const config_table objective_table = CONFIG_TABLE("objective", objective_config, objective_fields, "what training raises");

static const config_field section_fields[] = {
    CONFIG_SECTION(vae_recipe, model, &model_table),
    CONFIG_SECTION(vae_recipe, objective, &objective_table),
};
const config_table vae_sections = CONFIG_TABLE("vae", vae_recipe, section_fields, "a variational autoencoder");

const char *vae_preset_name(const vae_spec *spec) {
  static const char *const name[] = {"vae", "vae-gan", "lsgm"};
  return name[spec->model.preset];
}
bool vae_has_bound(const vae_spec *spec) { return spec->model.preset != MODEL_VAE_GAN; }

likelihood vae_likelihood(const vae_spec *spec, bool training) {
  const decoder_config *d = &spec->model.decoder;
  return (likelihood){.kind = d->likelihood,
                      .variance = likelihood_variance(d->likelihood, d->variance),
                      .sigma = d->sigma,
                      .mixtures = (int)d->mixtures,
                      .channels = spec->shape.channels,
                      .training = training};
}

int vae_groups(const vae_spec *spec, picture_shape *group) {
  const latent_config *l = &spec->model.latent;
  const decoder_config *d = &spec->model.decoder;
  if (l->groups.count == 0) {
    group[0] = (picture_shape){1, 1, l->dim};
    return 1;
  }
  int n = 0, halvings = decoder_halvings(d);
  for (int level = 0; level < (int)l->groups.count; level++)
    for (int64_t i = 0; i < l->groups.at[level] && n < MAX_GROUPS; i++) {
      if (level == 0)
        group[n++] = (picture_shape){1, 1, l->dim};
      else {
        int64_t from = 0, to = l->channels;
        if (l->pyramid) pyramid_part(spec->shape.channels, level == 1, l->groups.at[level], i, &from, &to);
        group[n++] = (picture_shape){spec->shape.height >> (halvings - level + 1), spec->shape.width >> (halvings - level + 1), to - from};
      }
    }
  return n;
}

bool vae_pyramid_level(const vae_spec *spec, int level) { return level < decoder_halvings(&spec->model.decoder); }

int64_t vae_code_size(const vae_spec *spec) {
  picture_shape group[MAX_GROUPS];
  int64_t total = 0;
  int n = vae_groups(spec, group);
  for (int i = 0; i < n; i++) total += group[i].height * group[i].width * group[i].channels;
  return total;
}

static elbo_status check_channels(elbo_ctx *ctx, const char *file, const char *which, int type, const config_ints *channels) {
  if (type == NETWORK_MLP) return ELBO_OK;
  if (channels->count == 0) return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: model.%s.channels: at least one entry is needed", file, which);
  if (channels->count > MAX_LEVELS)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: model.%s.channels: %lld entries; at most %d", file, which, (long long)channels->count,
                MAX_LEVELS);
  return ELBO_OK;
}

elbo_status vae_spec_fit_condition(elbo_ctx *ctx, vae_spec *spec, int64_t data_dim, const char *file) {
  condition_config *c = &spec->model.condition;
  if (c->type != CONDITION_VECTOR) {
    if (!c->dim) c->dim = 16;
    return ELBO_OK;
  }
  if (!data_dim)
    return fail(
        ctx, ELBO_ERROR_ARGUMENT,
        "%s: model.condition.type: vector, but the data carry none; data.condition names a .npy of them (attributes: those of the shapes)",
        file);
  if (!c->dim) c->dim = data_dim;
  if (c->dim != data_dim)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: model.condition.dim: %lld, but the data's vectors have %lld numbers", file,
                (long long)c->dim, (long long)data_dim);
  return ELBO_OK;
}

// Every coefficient has a group, and every group coefficients.
static elbo_status check_pyramid(elbo_ctx *ctx, const vae_spec *spec, const char *file) {
  const model_config *m = &spec->model;
  likelihood l = vae_likelihood(spec, false);
  int levels = decoder_levels(&m->decoder);
  if (levels == 0 || !vae_pyramid_level(spec, 0))
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: model.latent.pyramid: needs a decoder of type conv or resnet that halves the picture", file);
  if (spec->shape.channels > 4)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: model.latent.pyramid: is for pictures of 1 to 4 channels, the data have %lld", file,
                (long long)spec->shape.channels);
  if (!likelihood_has_location(&l))
    return fail(
        ctx, ELBO_ERROR_ARGUMENT,
        "%s: model.latent.pyramid: the likelihood must have a location to begin at the picture that the code gives: gaussian, laplace, "
        "discretized_logistic or logistic_mixture",
        file);
  for (int level = 0; level < levels; level++) {
    int64_t groups = level + 1 < (int)m->latent.groups.count ? m->latent.groups.at[level + 1] : 0;
    int most = vae_pyramid_level(spec, level) ? pyramid_parts(spec->shape.channels, level == 0) : 0;
    if (groups > most || groups < (most ? 1 : 0))
      return fail(ctx, ELBO_ERROR_ARGUMENT,
                  "%s: model.latent.groups: %lld at resolution %lldx%lld; with latent.pyramid %s%d there (entries: vector groups, then a "
                  "number for each resolution of the decoder, coarsest first)",
                  file, (long long)groups, (long long)(spec->shape.height >> (decoder_halvings(&m->decoder) - level)),
                  (long long)(spec->shape.width >> (decoder_halvings(&m->decoder) - level)), most ? "1 to " : "", most);
  }
  return ELBO_OK;
}

static elbo_status check_top_down(elbo_ctx *ctx, const vae_spec *spec, const char *file) {
  const model_config *m = &spec->model;
  int64_t total = 0, levels = m->decoder.type == NETWORK_MLP ? 0 : m->decoder.channels.count;
  for (int i = 0; i < (int)m->latent.groups.count; i++) total += m->latent.groups.at[i];
  if (total < 1 || total > MAX_GROUPS)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: model.latent.groups: %lld groups in all; 1 to %d are possible", file, (long long)total,
                MAX_GROUPS);
  if (m->latent.groups.count > 1 + levels)
    return fail(ctx, ELBO_ERROR_ARGUMENT,
                "%s: model.latent.groups: %lld entries, but there are only the vector groups and %lld resolutions of the decoder", file,
                (long long)m->latent.groups.count, (long long)levels);
  if (m->latent.groups.count > 1 && (m->encoder.type == NETWORK_MLP || encoder_halvings(&m->encoder) != decoder_halvings(&m->decoder) ||
                                     m->encoder.channels.count != m->decoder.channels.count || m->encoder.type != m->decoder.type))
    return fail(ctx, ELBO_ERROR_ARGUMENT,
                "%s: model.latent.groups: spatial groups need an encoder with the decoder's type and resolutions (same number of channels "
                "entries, same stem)",
                file);
  if (m->prior.type != PRIOR_STANDARD)
    return fail(ctx, ELBO_ERROR_ARGUMENT,
                "%s: model.prior.type: a top-down model (latent.groups) learns its priors; only 'standard' goes with it", file);
  return ELBO_OK;
}

elbo_status vae_spec_check(elbo_ctx *ctx, const vae_spec *spec, const char *file) {
  const model_config *m = &spec->model;
  TRY(check_channels(ctx, file, "encoder", m->encoder.type, &m->encoder.channels));
  TRY(check_channels(ctx, file, "decoder", m->decoder.type, &m->decoder.channels));
  if (!likelihood_valid(m->decoder.likelihood, m->decoder.variance))
    return fail(ctx, ELBO_ERROR_ARGUMENT,
                "%s: model.decoder.variance: does not go with this likelihood (optimal is gaussian's; fixed, learned and "
                "pixel are for gaussian, laplace and discretized_logistic)",
                file);
  likelihood l = vae_likelihood(spec, false);
  if (spec->shape.channels > 4 && l.kind == LIKELIHOOD_LOGISTIC_MIXTURE)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: model.decoder.likelihood: logistic_mixture couples at most 4 channels, the data have %lld",
                file, (long long)spec->shape.channels);
  if (m->condition.type == CONDITION_CLASS && spec->classes < 1)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: model.condition.type: class, but the data have no labels", file);
  char where[512];
  snprintf(where, sizeof where, "%s: model.encoder.channels", file);
  TRY(check_halvings(ctx, where, &spec->shape, encoder_halvings(&m->encoder)));
  snprintf(where, sizeof where, "%s: model.decoder.channels", file);
  TRY(check_halvings(ctx, where, &spec->shape, decoder_halvings(&m->decoder)));
  if (m->latent.groups.count) TRY(check_top_down(ctx, spec, file));
  if (m->latent.pyramid) TRY(check_pyramid(ctx, spec, file));
  if (m->prior.fitted && (m->latent.groups.count || m->condition.type != CONDITION_NONE))
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: model.prior.fitted: for a flat, unconditional code (no latent.groups, no condition)", file);
  int64_t pixels, numbers;
  if (spec->shape.height < 1 || spec->shape.width < 1 || spec->shape.channels < 1 ||
      !checked_mul(spec->shape.height, spec->shape.width, &pixels) || !checked_mul(pixels, likelihood_width(&l), &numbers) ||
      numbers > (1 << 28))
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: pictures of %lldx%lldx%lld are out of range", file, (long long)spec->shape.height,
                (long long)spec->shape.width, (long long)spec->shape.channels);
  return ELBO_OK;
}

elbo_status objective_check(elbo_ctx *ctx, const objective_config *o, const vae_spec *spec, const char *file) {
  bool iw = o->estimator != ESTIMATOR_ELBO;
  if (iw && (o->free_bits > 0 || o->capacity > 0 || o->mmd > 0 || o->tc > 0))
    return fail(ctx, ELBO_ERROR_ARGUMENT,
                "%s: objective.estimator: iwae and dreg raise the importance-weighted bound as a whole; free_bits, capacity, mmd and tc "
                "need 'elbo'",
                file);
  if (o->estimator == ESTIMATOR_DREG && spec->model.latent.groups.count)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: objective.estimator: dreg is for a flat code (no latent.groups); iwae works with groups",
                file);
  if ((o->tc > 0 || o->mmd > 0) && spec->model.latent.groups.count)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: objective: mmd and tc are for a flat code (no latent.groups)", file);
  if (o->mmd > 0 && spec->model.prior.type != PRIOR_STANDARD)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: objective.mmd: compares codes with N(0, I); model.prior.type must be standard", file);
  if (o->tc > 0 && spec->model.prior.type > PRIOR_LEARNED)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: objective.tc: the decomposition needs a prior of independent numbers (standard or learned)",
                file);
  if (o->tc > 0 && (o->free_bits > 0 || o->capacity > 0))
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: objective.tc: does not go with free_bits or capacity", file);
  if (o->capacity > 0 && o->free_bits > 0)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: objective.capacity: does not go with free_bits", file);
  if (likelihood_discrete(&(likelihood){.kind = spec->model.decoder.likelihood}) && spec->bits != 8)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: model.decoder.likelihood: a likelihood of 256 levels needs 8-bit pictures; these are %s",
                file, spec->bits == 16 ? "16-bit" : "float");
  if (likelihood_discrete(&(likelihood){.kind = spec->model.decoder.likelihood}) && spec->dequantize)
    return fail(ctx, ELBO_ERROR_ARGUMENT,
                "%s: data.dequantize: goes with densities; a likelihood of 256 levels takes the levels as they are", file);
  return ELBO_OK;
}

double objective_beta_at(const objective_config *o, int64_t step, int64_t steps) {
  if (o->kl_warmup == WARMUP_CYCLICAL) {
    // [Fu19]: in each cycle beta rises over the first part and stays for the rest
    double period = (double)steps / (double)o->kl_cycles, position = (double)step - period * (double)(int64_t)((double)step / period);
    double rise = o->kl_warmup_steps > 0 ? (double)o->kl_warmup_steps : period / 2;
    return o->beta * (position >= rise ? 1 : (position + 1) / (rise + 1));
  }
  if (o->kl_warmup_steps <= 0 || step >= o->kl_warmup_steps) return o->beta;
  return o->beta * (double)(step + 1) / (double)(o->kl_warmup_steps + 1);
}

double objective_capacity_at(const objective_config *o, int64_t step) {
  double done = (double)(step + 1) / (double)o->capacity_steps;
  return o->capacity * (done < 1 ? done : 1);
}
