// What a model of codes answers to the calls that go through its autoencoder.
#include "models/diffusion_model.h"

// Pictures in the model's range, as a data set gives them
static elbo_status as_data(const latent_space *s, const elbo_array *x, elbo_array **out) {
  char given[ARRAY_TEXT_SIZE];
  if (!x || x->dtype != ELBO_F32)
    return fail(s->ctx, ELBO_ERROR_ARGUMENT, "encode: float32 pictures were expected, not %s", array_text(x, given, sizeof given));
  TRY(elbo_array_convert(s->ctx, x, ELBO_F32, out));
  float *v = (*out)->data;
  const float low = (float)s->low, scale = (float)(1 / (s->high - s->low));
  for (int64_t i = 0, n = s->bits ? elbo_array_count(x) : 0; i < n; i++) v[i] = (v[i] - low) * scale;
  return ELBO_OK;
}

elbo_status diffusion_encode(elbo_model *m, const elbo_array *x, const elbo_array *label, elbo_array **mean, elbo_array **stddev) {
  elbo_array *data;
  (void)label; // an autoencoder is told nothing
  TRY(as_data(m->diffusion->spec.latent, x, &data));
  elbo_status status = latent_encode(m->diffusion->spec.latent, data, mean, stddev);
  elbo_array_destroy(&data);
  return status;
}

elbo_status diffusion_decode(elbo_model *m, const elbo_array *codes, const elbo_array *label, elbo_array **x) {
  (void)label; // an autoencoder is told nothing
  return latent_decode(m->diffusion->spec.latent, codes, NULL, NULL, x);
}

elbo_status diffusion_decode_tiled(elbo_model *m, const elbo_array *states, const elbo_decode_config *config, elbo_array **x) {
  const latent_space *s = m->diffusion->spec.latent;
  elbo_array *codes;
  TRY(latent_codes(s, states, &codes));
  elbo_status status = elbo_decode_tiled(s->autoencoder, codes, config, x);
  elbo_array_destroy(&codes);
  TRY(status);
  float *v = (*x)->data;
  const float low = (float)s->low, high = (float)s->high;
  for (int64_t i = 0, n = s->bits ? elbo_array_count(*x) : 0; i < n; i++) v[i] = v[i] < low ? low : v[i] > high ? high : v[i];
  return ELBO_OK;
}

elbo_status diffusion_reconstruct(elbo_model *m, const elbo_array *x, const elbo_array *label, int sample, uint64_t seed,
                                  elbo_array **out) {
  elbo_array *codes;
  (void)seed;
  (void)label; // an autoencoder is told nothing
  if (sample) return fail(m->ctx, ELBO_ERROR_UNSUPPORTED, "reconstruct: from the mean of the code alone, not from a draw");
  TRY(diffusion_encode(m, x, NULL, &codes, NULL));
  elbo_status status = latent_decode(m->diffusion->spec.latent, codes, NULL, NULL, out);
  elbo_array_destroy(&codes);
  return status;
}
