// Samples of a diffusion decoder: where their codes come from, and the diffusion that is told of them.
#include <string.h>

#include "core/philox.h"
#include "eval/statistics.h"
#include "models/diffusion_decoder.h"

enum { MOST_OPTIONS = 128 };

typedef struct code_options {
  const char *at[MOST_OPTIONS];
  int n;
} code_options;

// Codes (n,dim) from the diffusion over codes, and how often its network was called.
static elbo_status codes_of_prior(elbo_model *m, const elbo_sample_config *config, uint64_t seed, int64_t *calls, elbo_array **codes) {
  decoder_model *d = m->decoder;
  const int64_t dim = d->spec.code.dim;
  elbo_sample_config c;
  elbo_array *u = NULL;
  elbo_sample_defaults(&c);
  c.n = config->n, c.seed = seed, c.temperature = config->temperature, c.network_calls = calls;
  c.progress = config->progress, c.progress_user = config->progress_user;
  TRY(elbo_sample(d->prior, &c, &u));
  elbo_status status = elbo_array_create(m->ctx, ELBO_F32, 2, (int64_t[]){config->n, dim}, codes);
  const float *from = u->data;
  for (int64_t i = 0; status == ELBO_OK && i < config->n * dim; i++)
    ((float *)(*codes)->data)[i] = d->mean[i % dim] + d->scale[i % dim] * from[i];
  elbo_array_destroy(&u);
  return status;
}

static elbo_status codes_of_gaussians(elbo_model *m, const elbo_sample_config *config, bool mixture, uint64_t seed, elbo_array **codes) {
  const int64_t dim = decoder_code_size(m);
  TRY(elbo_array_create(m->ctx, ELBO_F32, 2, (int64_t[]){config->n, dim}, codes));
  float *z = (*codes)->data;
  for (int64_t i = 0; i < config->n; i++, z += dim) {
    if (mixture) {
      gaussian_mixture_draw(&m->fitted, seed, (uint64_t)i, config->temperature, z);
      continue;
    }
    for (int64_t k = 0; k < dim; k += 2) {
      uint32_t bits[4];
      double pair[2];
      philox_draw(seed, philox_stream("sample.code"), (uint64_t)i, (uint32_t)(k / 2), bits);
      philox_normal2(bits[0], bits[1], pair);
      for (int64_t j = k; j < k + 2 && j < dim; j++) z[j] = (float)(config->temperature * pair[j - k]);
    }
  }
  return ELBO_OK;
}

const char *const code_source_names[] = {"diffusion", "mixture", "prior"};

bool decoder_has_source(const elbo_model *m, code_source source) {
  const decoder_model *d = m->decoder;
  return source == CODES_DIFFUSION ? d->prior != NULL : source == CODES_MIXTURE ? m->fitted.components > 0 : d->vae || d->spec.code.kl > 0;
}

// Takes "codes=mixture" and the like, which is no key of a sampler, from the options; without it the first that there is, or (prior) the
// last.
static elbo_status choose_source(const elbo_model *m, const elbo_sample_config *config, code_options *o, code_source *out) {
  int left = 0, named = -1;
  for (int i = 0; i < o->n; i++) {
    if (strncmp(o->at[i], "codes=", 6) != 0) {
      o->at[left++] = o->at[i];
      continue;
    }
    for (named = CODES_PRIOR; named >= 0 && strcmp(o->at[i] + 6, code_source_names[named]) != 0;) named--;
    if (named < 0) return fail(m->ctx, ELBO_ERROR_ARGUMENT, "sample.codes: '%s'; diffusion, mixture or prior was expected", o->at[i] + 6);
    if (!decoder_has_source(m, (code_source)named))
      return fail(m->ctx, ELBO_ERROR_ARGUMENT, "sample.codes: %s: this model has none", code_source_names[named]);
  }
  o->n = left;
  for (int k = 0; k < 3 && named < 0; k++) {
    const int source = config->prior ? 2 - k : k;
    if (decoder_has_source(m, (code_source)source) && !(config->prior && source == CODES_MIXTURE)) named = source;
  }
  if (named < 0 && !config->condition)
    return fail(
        m->ctx, ELBO_ERROR_UNSUPPORTED,
        "sample: nothing says how the codes of this model are distributed: it has no mixture fitted to them (model.code.fitted), no "
        "KL held them to N(0, I) (model.code.kl), and no stage of preset code-prior has learned them; --condition takes codes");
  if (named >= 0) *out = (code_source)named;
  return ELBO_OK;
}

// What the denoiser is told of each sample; the codes given as a condition go before all.
static elbo_status told_of_samples(elbo_model *m, const elbo_sample_config *config, code_source source, int64_t *calls, elbo_array **told) {
  const decoder_model *d = m->decoder;
  const uint64_t seed = seed_of_part(config->seed, 1); // not that of the pictures' noise
  elbo_array *codes = NULL, *y = NULL;
  if (config->condition) {
    TRY(decoder_check_codes(m, "sample: condition", config->condition, config->n));
    return decoder_told_of_codes(m, config->condition, told);
  }
  if (d->vae && source == CODES_PRIOR) { // the VAE draws by itself
    elbo_sample_config c = *config;
    c.seed = seed, c.n_options = 0, c.options = NULL, c.noise = NULL, c.network_calls = NULL, c.loop_seconds = c.network_seconds = NULL,
    c.prior = m->fitted.components > 0;
    TRY(elbo_sample(d->vae, &c, &y));
    elbo_status status = decoder_to_model_range(m, y, told);
    elbo_array_destroy(&y);
    return status;
  }
  if (source == CODES_DIFFUSION)
    TRY(codes_of_prior(m, config, seed, calls, &codes));
  else
    TRY(codes_of_gaussians(m, config, source == CODES_MIXTURE, seed, &codes));
  elbo_status status = decoder_told_of_codes(m, codes, told);
  elbo_array_destroy(&codes);
  return status;
}

elbo_status decoder_sample(elbo_model *m, const elbo_sample_config *config, elbo_array **x) {
  elbo_array *told = NULL;
  code_options o = {0};
  code_source source = CODES_PRIOR;
  if (config->label >= 0) return fail(m->ctx, ELBO_ERROR_ARGUMENT, "sample: a class was given, but this model is not conditioned on one");
  for (int i = 0; i < m->n_options && o.n < MOST_OPTIONS; i++) o.at[o.n++] = m->options[i];
  for (int i = 0; i < config->n_options && o.n < MOST_OPTIONS; i++) o.at[o.n++] = config->options[i];
  TRY(choose_source(m, config, &o, &source));
  int64_t calls = 0;
  TRY(told_of_samples(m, config, source, &calls, &told));
  elbo_sample_config c = *config;
  c.condition = told, c.temperature = 1, c.n_options = o.n, c.options = o.at; // the temperature is of the codes
  elbo_status status = diffusion_sample(m, &c, x);
  if (config->network_calls) *config->network_calls += calls;
  elbo_array_destroy(&told);
  return status;
}
