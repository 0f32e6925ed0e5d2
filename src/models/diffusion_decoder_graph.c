// What a training step of a diffusion decoder is told, made in its graph: so that the loss reaches the encoder, or does not reach the VAE.
#include "models/diffusion_decoder.h"

void code_posterior(const decoder_spec *spec, elbo_graph *g, elbo_tensor *x, bool training, elbo_tensor **mean, elbo_tensor **log_std) {
  const int64_t d = spec->code.dim;
  *log_std = NULL;
  elbo_scope_push(g, "encoder");
  encoder_features f = encoder_network(&spec->encoder, x, NULL, training);
  elbo_tensor *head = linear_layer(f.vector, "head", spec->code.kl > 0 ? 2 * d : d, 1);
  elbo_scope_pop(g);
  *mean = head;
  if (spec->code.kl <= 0) return;
  *mean = elbo_slice(head, 1, 0, d);
  *log_std = elbo_scale(elbo_clamp(elbo_slice(head, 1, d, 2 * d), -14, 14), 0.5, 0);
}

static elbo_tensor *input_x(const diffusion_spec *s, diffusion_build *t) {
  return elbo_input(t->g, "x", ELBO_F32, 4, (int64_t[]){t->batch, s->height, s->width, s->channels});
}

void diffae_batch(const void *user, diffusion_build *t, diffusion_batch *out) {
  const decoder_spec *spec = user;
  elbo_tensor *x = input_x(t->spec, t), *mean, *log_std;
  code_posterior(spec, t->g, x, t->training, &mean, &log_std);
  elbo_tensor *z = mean;
  if (log_std) {
    elbo_tensor *noise = elbo_random_normal(t->g, "z", 2, (int64_t[]){t->batch, spec->code.dim});
    elbo_tensor *zero = elbo_constant(t->g, 0), *kl = elbo_sum_per_example(gaussian_kl(mean, log_std, zero, zero)); // (B) nats
    z = elbo_add(mean, elbo_mul(noise, elbo_exp(log_std)));
    build_metric(t, "kl", "nats", build_mean(t, kl));
    const double size = (double)(t->spec->height * t->spec->width * t->spec->channels);
    out->penalty = elbo_scale(kl, spec->code.kl / size, 0);
  }
  out->x0 = diffusion_centred(t->spec, x);
  out->condition.label = drop_rows(t->spec, t->g, z, t->training);
}

void refiner_batch(const void *user, diffusion_build *t, diffusion_batch *out) {
  const vae_spec *spec = user;
  latent_request pass = {.spec = spec, .graph = t->g, .batch = t->batch, .samples = 1, .mode = LATENT_POSTERIOR};
  elbo_tensor *x = input_x(t->spec, t);
  vae_latents z = vae_latent_pass(&pass); // reads the same x
  likelihood l = vae_likelihood(spec, false);
  out->x0 = diffusion_centred(t->spec, x);
  if (!z.output) return;
  elbo_scope_push(t->g, "decoder");
  out->condition.picture = elbo_stop_gradient(diffusion_centred(t->spec, likelihood_mean(&l, z.output)));
  elbo_scope_pop(t->g);
}

void code_prior_batch(const void *user, diffusion_build *t, diffusion_batch *out) {
  const decoder_spec *spec = user;
  const int64_t d = spec->code.dim, dim[4] = {t->batch, 1, 1, d};
  elbo_tensor *x = input_x(&spec->pixels, t), *code, *log_std;
  code_posterior(spec, t->g, x, false, &code, &log_std);
  if (log_std) // the decoder was trained with draws
    code = elbo_add(code, elbo_mul(elbo_random_normal(t->g, "z", 2, (int64_t[]){t->batch, d}), elbo_exp(log_std)));
  elbo_tensor *mean = elbo_parameter(t->g, CODE_MEAN, 1, &d, ELBO_PARAM_STATE, ELBO_INIT_ZEROS);
  elbo_tensor *scale = elbo_parameter(t->g, CODE_SCALE, 1, &d, ELBO_PARAM_STATE, ELBO_INIT_ONES);
  out->x0 = elbo_reshape(elbo_stop_gradient(elbo_div(elbo_sub(code, mean), scale)), 4, dim);
}
