#include "models/vae_graph.h"

static latent_parts inputs_of(const latent_request *r) {
  latent_parts p = {.request = r};
  const vae_spec *spec = r->spec;
  bool reads_x = r->mode == LATENT_POSTERIOR || r->mode == LATENT_MEAN;
  if (reads_x) p.x = vae_input_x(spec, r->graph, r->batch);
  const condition_config *c = &spec->model.condition;
  if (c->type == CONDITION_CLASS) {
    elbo_tensor *label = elbo_input(r->graph, "label", ELBO_I32, 1, &r->batch);
    // one table for encoder, decoder and prior, kept with the decoder, which every use of the model needs
    elbo_tensor *table = elbo_parameter(r->graph, "decoder.class_embedding.weight", 2, (int64_t[]){spec->classes, c->dim},
                                        ELBO_PARAM_TRAINED, (elbo_init){ELBO_INIT_KIND_NORMAL, 1, 0});
    p.condition = elbo_embedding(label, table);
  } else if (c->type == CONDITION_VECTOR) {
    p.condition = elbo_input(r->graph, "condition", ELBO_F32, 2, (int64_t[]){r->batch, c->dim});
  }
  p.row_condition = repeat_rows(p.condition, r->samples);
  return p;
}

static vae_latents flat_pass(const latent_parts *parts) {
  const latent_request *r = parts->request;
  vae_latents out = {.n = 1};
  latent_group *g = &out.group[0];
  int64_t d = r->spec->model.latent.dim, rows = r->batch * r->samples;
  if (parts->x) flat_posterior(parts, parts->x, parts->condition, r->training, &g->mean, &g->log_std);
  switch (r->mode) {
  case LATENT_POSTERIOR: {
    elbo_tensor *noise = elbo_random_normal(r->graph, "z", 3, (int64_t[]){r->batch, r->samples, d});
    noise = elbo_reshape(noise, 2, (int64_t[]){rows, d});
    elbo_tensor *mean = repeat_rows(g->mean, r->samples), *log_std = repeat_rows(g->log_std, r->samples);
    out.drawn = elbo_add(mean, elbo_mul(noise, elbo_exp(log_std)));
    out.z = r->leaf ? elbo_stop_gradient(out.drawn) : out.drawn;
    if (r->leaf) mean = elbo_stop_gradient(mean), log_std = elbo_stop_gradient(log_std);
    out.log_q = elbo_sum_per_example(gaussian_log_density(out.z, mean, log_std));
    break;
  }
  case LATENT_MEAN: out.z = out.drawn = g->mean; break;
  case LATENT_PRIOR: out.z = out.drawn = prior_draw(parts); break;
  case LATENT_GIVEN: out.z = out.drawn = elbo_input(r->graph, "codes", ELBO_F32, 2, (int64_t[]){r->batch, d}); break;
  }
  g->z = out.z;
  if (parts->x) {
    out.log_p = prior_log_density(parts, out.z, g);
    if (g->prior_mean && r->samples == 1) {
      g->kl = gaussian_kl(g->mean, g->log_std, g->prior_mean, g->prior_log_std);
      out.kl = elbo_sum_per_example(g->kl);
    } else if (g->prior_mean) {
      // a conditional prior comes once a row; the rows of an example agree
      elbo_tensor *kl = gaussian_kl(repeat_rows(g->mean, r->samples), repeat_rows(g->log_std, r->samples), g->prior_mean, g->prior_log_std);
      g->kl = elbo_mean(elbo_reshape(kl, 3, (int64_t[]){r->batch, r->samples, d}), 1u << 1, 0);
      out.kl = elbo_sum_per_example(g->kl);
    } else if (out.log_q) {
      out.kl = elbo_mean(elbo_reshape(elbo_sub(out.log_q, out.log_p), 2, (int64_t[]){r->batch, r->samples}), 1u << 1, 0);
    }
  }
  likelihood l = vae_likelihood(r->spec, r->training);
  elbo_scope_push(r->graph, "decoder");
  out.output = decoder_network(&r->spec->model.decoder, &r->spec->shape, likelihood_width(&l), out.z, parts->row_condition, r->training);
  elbo_scope_pop(r->graph);
  return out;
}

vae_latents vae_latent_pass(const latent_request *r) {
  latent_parts parts = inputs_of(r);
  vae_latents out = r->spec->model.latent.groups.count ? top_down_pass(&parts) : flat_pass(&parts);
  if (!out.output) out = (vae_latents){0};
  return out;
}

elbo_tensor *vae_posterior(const vae_latents *z, bool std) {
  elbo_tensor *part[MAX_GROUPS];
  for (int i = 0; i < z->n; i++) part[i] = std ? elbo_exp(z->group[i].log_std) : z->group[i].mean;
  return z->n == 0 ? NULL : z->n == 1 ? part[0] : elbo_concat(z->n, part, 1);
}
