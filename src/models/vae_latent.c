// The latent code of a flat model: posterior, the four priors, their densities and draws.
#include <math.h>

#include "models/vae_graph.h"
#include "nn/likelihood_discrete.h"

elbo_tensor *vae_input_x(const vae_spec *spec, elbo_graph *g, int64_t batch) {
  return elbo_input(g, "x", ELBO_F32, 4, (int64_t[]){batch, spec->shape.height, spec->shape.width, spec->shape.channels});
}

elbo_tensor *gaussian_kl(elbo_tensor *mean, elbo_tensor *log_std, elbo_tensor *prior_mean, elbo_tensor *prior_log_std) {
  // log(sp/sq) + (sq^2 + (mq - mp)^2) / (2 sp^2) - 1/2
  elbo_tensor *ratio = elbo_sub(log_std, prior_log_std);
  elbo_tensor *shift = elbo_mul(elbo_sub(mean, prior_mean), elbo_exp(elbo_neg(prior_log_std)));
  elbo_tensor *quadratic = elbo_scale(elbo_add(elbo_exp(elbo_scale(ratio, 2, 0)), elbo_square(shift)), 0.5, -0.5);
  return elbo_sub(quadratic, ratio);
}

void flat_posterior(const latent_parts *parts, elbo_tensor *x, elbo_tensor *condition, bool training, elbo_tensor **mean,
                    elbo_tensor **log_std) {
  const latent_request *r = parts->request;
  const model_config *m = &r->spec->model;
  elbo_scope_push(r->graph, "encoder");
  encoder_features f = encoder_network(&m->encoder, x, condition, training);
  elbo_tensor *head = linear_layer(f.vector, "head", 2 * m->latent.dim, 1);
  elbo_scope_pop(r->graph);
  *mean = elbo_slice(head, 1, 0, m->latent.dim);
  elbo_tensor *log_var = elbo_slice(head, 1, m->latent.dim, 2 * m->latent.dim);
  *log_std = elbo_scale(elbo_clamp(log_var, -m->latent.log_var_bound, m->latent.log_var_bound), 0.5, 0);
}

static elbo_tensor *prior_parameter(const latent_parts *parts, const char *name, int rank, const int64_t *dim, elbo_init init) {
  elbo_scope_push(parts->request->graph, "prior");
  elbo_tensor *p = elbo_parameter(parts->request->graph, name, rank, dim, ELBO_PARAM_TRAINED, init);
  elbo_scope_pop(parts->request->graph);
  return p;
}

// A diagonal Gaussian, for each class its own when there is a condition: (D) or (R,D)
static void learned_prior(const latent_parts *parts, elbo_tensor **mean, elbo_tensor **log_std) {
  const latent_request *r = parts->request;
  int64_t d = r->spec->model.latent.dim;
  if (parts->row_condition) {
    elbo_scope_push(r->graph, "prior");
    elbo_tensor *both = linear_layer(parts->row_condition, "fc", 2 * d, 0);
    elbo_scope_pop(r->graph);
    *mean = elbo_slice(both, 1, 0, d);
    *log_std = elbo_clamp(elbo_slice(both, 1, d, 2 * d), -7, 7);
    return;
  }
  *mean = prior_parameter(parts, "mean", 1, &d, ELBO_INIT_ZEROS);
  *log_std = elbo_clamp(prior_parameter(parts, "log_std", 1, &d, ELBO_INIT_ZEROS), -7, 7);
}

// Components of mixture and vamp: means and log standard deviations (K,D), log weights (1,K)
static void components(const latent_parts *parts, elbo_tensor **mean, elbo_tensor **log_std, elbo_tensor **log_weight) {
  const latent_request *r = parts->request;
  const vae_spec *spec = r->spec;
  int64_t k = spec->model.prior.components, d = spec->model.latent.dim;
  if (spec->model.prior.type == PRIOR_VAMP) {
    // [Tomczak18 eq. 9]: posteriors of learned pseudo-inputs, all of one weight; a sigmoid keeps the inputs in the range of pictures
    int64_t dim[4] = {k, spec->shape.height, spec->shape.width, spec->shape.channels};
    elbo_tensor *pseudo = prior_parameter(parts, "pseudo_inputs", 4, dim, (elbo_init){ELBO_INIT_KIND_NORMAL, 1, 0});
    elbo_tensor *no_condition = parts->condition ? elbo_scale(repeat_rows(elbo_slice(parts->condition, 0, 0, 1), k), 0, 0) : NULL;
    flat_posterior(parts, elbo_sigmoid(pseudo), no_condition, false, mean, log_std);
    *log_weight = elbo_constant(r->graph, -log((double)k));
    return;
  }
  *mean = prior_parameter(parts, "means", 2, (int64_t[]){k, d}, (elbo_init){ELBO_INIT_KIND_NORMAL, 1, 0});
  *log_std = elbo_clamp(prior_parameter(parts, "log_stds", 2, (int64_t[]){k, d}, ELBO_INIT_ZEROS), -7, 7);
  elbo_tensor *logit = prior_parameter(parts, "logits", 2, (int64_t[]){1, k}, ELBO_INIT_ZEROS);
  *log_weight = elbo_sub(logit, elbo_logsumexp(logit, 1u << 1, 1));
}

static elbo_tensor *rows_sum(elbo_tensor *x) { return elbo_sum_per_example(x); }

elbo_tensor *prior_log_density(const latent_parts *parts, elbo_tensor *z, latent_group *group) {
  const latent_request *r = parts->request;
  if (!z) return NULL;
  int type = r->spec->model.prior.type;
  if (type == PRIOR_STANDARD) {
    group->prior_mean = elbo_constant(r->graph, 0), group->prior_log_std = elbo_constant(r->graph, 0);
    return rows_sum(elbo_scale(elbo_square(z), -0.5, -0.91893853320467274178));
  }
  if (type == PRIOR_LEARNED) {
    learned_prior(parts, &group->prior_mean, &group->prior_log_std);
    return rows_sum(gaussian_log_density(z, group->prior_mean, group->prior_log_std));
  }
  elbo_tensor *mean, *log_std, *log_weight;
  components(parts, &mean, &log_std, &log_weight);
  elbo_tensor *wide = elbo_reshape(z, 3, (int64_t[]){elbo_tensor_dim(z, 0), 1, elbo_tensor_dim(z, 1)});
  elbo_tensor *each = elbo_sum(gaussian_log_density(wide, mean, log_std), 1u << 2, 0); // (R,K)
  return elbo_logsumexp(elbo_add(each, log_weight), 1u << 1, 0);
}

elbo_tensor *prior_draw(const latent_parts *parts) {
  const latent_request *r = parts->request;
  int64_t d = r->spec->model.latent.dim, k = r->spec->model.prior.components;
  elbo_tensor *temperature = elbo_input(r->graph, "temperature", ELBO_F32, 0, NULL);
  elbo_tensor *noise = elbo_mul(elbo_random_normal(r->graph, "prior", 2, (int64_t[]){r->batch, d}), temperature);
  elbo_tensor *mean, *log_std, *log_weight;
  switch (r->spec->model.prior.type) {
  case PRIOR_STANDARD: return noise;
  case PRIOR_LEARNED: learned_prior(parts, &mean, &log_std); return elbo_add(mean, elbo_mul(noise, elbo_exp(log_std)));
  default: break;
  }
  components(parts, &mean, &log_std, &log_weight);
  elbo_tensor *u = elbo_random_uniform(r->graph, "prior.component", 2, (int64_t[]){r->batch, 1});
  elbo_tensor *weight = elbo_broadcast_to(elbo_exp(log_weight), 2, (int64_t[]){1, k});
  elbo_tensor *one = choose_one(weight, u); // (B,K)
  return elbo_add(elbo_matmul(one, mean, 0, 0), elbo_mul(noise, elbo_matmul(one, elbo_exp(log_std), 0, 0)));
}
