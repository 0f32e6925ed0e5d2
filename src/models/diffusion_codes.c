// What a model of codes answers to the calls that go through its autoencoder.
#include "core/philox.h"
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
  *x = NULL;
  TRY(latent_codes(s, states, &codes));
  elbo_status status = elbo_decode_tiled(s->autoencoder, codes, config, x);
  elbo_array_destroy(&codes);
  TRY(status);
  float *v = (*x)->data;
  const float low = (float)s->low, high = (float)s->high;
  for (int64_t i = 0, n = s->bits ? elbo_array_count(*x) : 0; i < n; i++) v[i] = v[i] < low ? low : v[i] > high ? high : v[i];
  return ELBO_OK;
}

// z = mean + stddev epsilon, which is 0 where a code is a point
static void draw_codes(uint64_t seed, const elbo_array *stddev, elbo_array *codes) {
  const uint32_t stream = philox_stream("reconstruct");
  const float *deviation = stddev->data;
  float *z = codes->data;
  for (int64_t i = 0, n = elbo_array_count(codes); i < n; i += 4) {
    uint32_t bits[4];
    double epsilon[4];
    philox_draw(seed, stream, (uint64_t)i, 0, bits);
    philox_normal2(bits[0], bits[1], epsilon), philox_normal2(bits[2], bits[3], epsilon + 2);
    for (int64_t k = i; k < i + 4 && k < n; k++) z[k] += (float)epsilon[k - i] * deviation[k];
  }
}

elbo_status diffusion_reconstruct(elbo_model *m, const elbo_array *x, const elbo_array *label, int sample, uint64_t seed,
                                  elbo_array **out) {
  elbo_array *codes = NULL, *stddev = NULL;
  (void)label; // an autoencoder is told nothing
  TRY(diffusion_encode(m, x, NULL, &codes, sample ? &stddev : NULL));
  if (sample) draw_codes(seed, stddev, codes);
  elbo_status status = latent_decode(m->diffusion->spec.latent, codes, NULL, NULL, out);
  elbo_array_destroy(&codes);
  elbo_array_destroy(&stddev);
  return status;
}
