// The graph of a training step: the bound, what is added to it or taken from it, and what is watched.
#include <math.h>

#include "models/vae_graph.h"

typedef struct terms {
  const vae_spec *spec;
  const objective_config *objective;
  elbo_graph *g;
  int64_t batch, samples;
  elbo_tensor *weight, *weight_sum; // (B), scalar
  elbo_tensor *beta;
  vae_latents z;
  elbo_tensor *log_x; // (R) log p(x|z)
} terms;

// (B) -> scalar, by weight
static elbo_tensor *batch_mean(const terms *t, elbo_tensor *v) {
  return elbo_div(elbo_sum(elbo_mul(v, t->weight), ELBO_ALL_AXES, 0), t->weight_sum);
}

// (B,D) -> (D), by weight
static elbo_tensor *column_mean(const terms *t, elbo_tensor *v) {
  elbo_tensor *w = elbo_reshape(t->weight, 2, (int64_t[]){t->batch, 1});
  return elbo_div(elbo_sum(elbo_mul(v, w), 1u, 0), t->weight_sum);
}

// (R) -> (B,K)
static elbo_tensor *by_example(const terms *t, elbo_tensor *v) { return elbo_reshape(v, 2, (int64_t[]){t->batch, t->samples}); }

static elbo_tensor *draw_mean(const terms *t, elbo_tensor *v) { return elbo_mean(by_example(t, v), 1u << 1, 0); }

// KL of group i, averaged over the batch: a scalar
static elbo_tensor *group_kl(const terms *t, int i) {
  elbo_tensor *kl = elbo_sum_per_example(t->z.group[i].kl);
  if (t->spec->model.latent.groups.count) kl = draw_mean(t, kl);
  return batch_mean(t, kl);
}

static elbo_tensor *free_bits_term(const terms *t) {
  elbo_tensor *floor = elbo_constant(t->g, t->objective->free_bits), *total = NULL;
  if (t->spec->model.latent.groups.count) {
    for (int i = 0; i < t->z.n; i++) {
      elbo_tensor *kl = elbo_maximum(group_kl(t, i), floor);
      total = total ? elbo_add(total, kl) : kl;
    }
    return total;
  }
  if (!t->z.group[0].kl) return elbo_maximum(batch_mean(t, t->z.kl), floor); // no closed form: the KL as a whole
  return elbo_sum(elbo_maximum(column_mean(t, t->z.group[0].kl), floor), ELBO_ALL_AXES, 0);
}

// KL = index-code information + total correlation + the numbers' own KLs, estimated within the batch by weighting [Chen18 eq. 2, app. C.1]
static elbo_tensor *total_correlation_term(const terms *t, int64_t n_data, elbo_tensor **correlation) {
  const latent_group *g = &t->z.group[0];
  int64_t b = t->batch, d = t->spec->model.latent.dim;
  elbo_tensor *z = elbo_reshape(t->z.z, 3, (int64_t[]){b, 1, d});
  elbo_tensor *pair = gaussian_log_density(z, g->mean, g->log_std); // (B,B,D): draw i under the posterior of example j
  double norm = log((double)n_data * (double)b);
  elbo_tensor *log_q = elbo_scale(elbo_logsumexp(elbo_sum(pair, 1u << 2, 0), 1u << 1, 0), 1, -norm);
  elbo_tensor *log_product = elbo_sum(elbo_scale(elbo_logsumexp(pair, 1u << 1, 0), 1, -norm), 1u << 1, 0);
  *correlation = batch_mean(t, elbo_sub(log_q, log_product));
  elbo_tensor *rest = elbo_add(elbo_sub(t->z.log_q, log_q), elbo_sub(log_product, t->z.log_p));
  return elbo_add(elbo_mul(t->beta, batch_mean(t, rest)), elbo_scale(*correlation, t->objective->tc, 0));
}

// mean of 2D / (2D + |a_i - b_j|^2), the inverse multiquadratic kernel [Tolstikhin18 sec. 4]
static elbo_tensor *kernel_mean(elbo_tensor *a, elbo_tensor *b) {
  if (!a || !b) return NULL;
  int64_t rows_a = elbo_tensor_dim(a, 0), rows_b = elbo_tensor_dim(b, 0);
  double c = 2.0 * (double)elbo_tensor_dim(a, 1);
  elbo_tensor *aa = elbo_reshape(elbo_sum(elbo_square(a), 1u << 1, 0), 2, (int64_t[]){rows_a, 1});
  elbo_tensor *bb = elbo_reshape(elbo_sum(elbo_square(b), 1u << 1, 0), 2, (int64_t[]){1, rows_b});
  elbo_tensor *distance = elbo_sub(elbo_add(aa, bb), elbo_scale(elbo_matmul(a, b, 0, 1), 2, 0));
  distance = elbo_maximum(distance, elbo_constant(elbo_tensor_graph(a), 0));
  return elbo_mean(elbo_scale(elbo_reciprocal(elbo_scale(distance, 1, c)), c, 0), ELBO_ALL_AXES, 0);
}

static elbo_tensor *mmd_term(const terms *t) {
  elbo_tensor *prior = elbo_random_normal(t->g, "mmd", 2, (int64_t[]){t->batch, t->spec->model.latent.dim});
  elbo_tensor *z = t->z.z, *cross = elbo_scale(kernel_mean(z, prior), -2, 0);
  return elbo_add(elbo_add(kernel_mean(z, z), kernel_mean(prior, prior)), cross);
}

static elbo_tensor *elbo_loss(const terms *t, int64_t n_data, vae_training_graph *out) {
  const objective_config *o = t->objective;
  elbo_tensor *fit = elbo_neg(batch_mean(t, draw_mean(t, t->log_x))), *kl = batch_mean(t, t->z.kl), *term;
  if (o->tc > 0) {
    elbo_tensor *correlation;
    term = total_correlation_term(t, n_data, &correlation);
    out->metric_name[out->n_metrics] = "tc", out->metric_unit[out->n_metrics] = "nats", out->metric[out->n_metrics++] = correlation;
  } else if (o->capacity > 0) {
    term = elbo_mul(t->beta, elbo_abs(elbo_sub(kl, elbo_input(t->g, "capacity", ELBO_F32, 0, NULL)))); // [Burgess18 eq. 8]
  } else if (o->free_bits > 0) {
    term = elbo_mul(t->beta, free_bits_term(t)); // [Kingma16 sec. 4]
  } else {
    term = elbo_mul(t->beta, kl);
  }
  elbo_tensor *loss = elbo_add(fit, term);
  if (o->mmd > 0) {
    elbo_tensor *mmd = mmd_term(t);
    out->metric_name[out->n_metrics] = "mmd", out->metric_unit[out->n_metrics] = "", out->metric[out->n_metrics++] = mmd;
    loss = elbo_add(loss, elbo_scale(mmd, o->mmd, 0));
  }
  return loss;
}

// log (1/K) sum_k p(x,z_k) / q(z_k|x) [Burda16 eq. 8]; with DReG its encoder gradient through the draws alone, weighted by the squared
// normalised weights [Tucker19 eq. 8].
static elbo_tensor *importance_loss(terms *t, vae_training_graph *out) {
  elbo_tensor *ratio = elbo_mul(t->beta, elbo_sub(t->z.log_p, t->z.log_q));
  elbo_tensor *log_w = by_example(t, elbo_add(t->log_x, ratio)); // (B,K)
  elbo_tensor *bound = elbo_scale(elbo_logsumexp(log_w, 1u << 1, 0), 1, -log((double)t->samples));
  elbo_tensor *mean = batch_mean(t, bound);
  out->metric_name[out->n_metrics] = "iwae", out->metric_unit[out->n_metrics] = "nats", out->metric[out->n_metrics++] = mean;
  if (t->objective->estimator == ESTIMATOR_IWAE) return elbo_neg(mean);
  elbo_tensor *share = elbo_stop_gradient(elbo_softmax(log_w)); // (B,K)
  elbo_tensor *model = elbo_sum(elbo_mul(share, log_w), 1u << 1, 0), *dz = NULL;
  // the path: d(sum_k share_k log w_k)/dz is share_k dlog w_k/dz; once more times share_k, along dz/d(encoder)
  if (elbo_gradient(model, 1, &t->z.z, &dz) != ELBO_OK || !dz) return NULL;
  int64_t rows = t->batch * t->samples;
  elbo_tensor *scaled = elbo_mul(elbo_stop_gradient(dz), elbo_reshape(share, 2, (int64_t[]){rows, 1}));
  elbo_tensor *path = elbo_sum(by_example(t, elbo_sum(elbo_mul(scaled, t->z.drawn), 1u << 1, 0)), 1u << 1, 0);
  return elbo_neg(batch_mean(t, elbo_add(model, path)));
}

static void add_metric(vae_training_graph *out, const char *name, const char *unit, elbo_tensor *value, bool quiet) {
  int i = out->n_metrics++;
  out->metric_name[i] = name, out->metric_unit[i] = unit, out->metric[i] = value, out->metric_quiet[i] = quiet;
}

static void add_metrics(const terms *t, vae_training_graph *out) {
  elbo_tensor *recon = batch_mean(t, draw_mean(t, t->log_x)), *kl = batch_mean(t, t->z.kl);
  add_metric(out, "elbo", "nats", elbo_sub(recon, kl), false);
  add_metric(out, "recon", "nats", recon, false);
  add_metric(out, "kl", "nats", kl, false);
  add_metric(out, "beta", "", elbo_scale(t->beta, 1, 0), true);
  const latent_group *g = &t->z.group[0];
  if (t->spec->model.latent.groups.count) {
    elbo_tensor *each[MAX_GROUPS];
    for (int i = 0; i < t->z.n; i++) each[i] = elbo_reshape(group_kl(t, i), 1, (int64_t[]){1});
    add_metric(out, "kl_group", "nats", elbo_concat(t->z.n, each, 0), true);
    return;
  }
  // where the prior is a mixture there is no KL of one number; the spread of the means still tells which are used
  if (g->kl) add_metric(out, "kl_dim", "nats", column_mean(t, g->kl), true);
  add_metric(out, "code_mean", "", column_mean(t, g->mean), true);
  add_metric(out, "code_square", "", column_mean(t, elbo_square(g->mean)), true);
}

elbo_status vae_training_build(elbo_ctx *ctx, const vae_spec *spec, const objective_config *objective, int64_t batch, int64_t n_data,
                               vae_training_graph *out) {
  *out = (vae_training_graph){0};
  TRY(elbo_graph_create(ctx, "vae", &out->graph));
  elbo_graph *g = out->graph;
  terms t = {.spec = spec, .objective = objective, .g = g, .batch = batch, .samples = objective->samples};
  latent_request request = {.spec = spec,
                            .graph = g,
                            .batch = batch,
                            .samples = t.samples,
                            .mode = LATENT_POSTERIOR,
                            .training = true,
                            .leaf = objective->estimator == ESTIMATOR_DREG};
  t.weight = elbo_input(g, "weight", ELBO_F32, 1, &batch);
  t.weight_sum = elbo_sum(t.weight, ELBO_ALL_AXES, 0);
  t.beta = elbo_input(g, "beta", ELBO_F32, 0, NULL);
  t.z = vae_latent_pass(&request);
  likelihood l = vae_likelihood(spec, true);
  elbo_tensor *x = repeat_rows(vae_input_x(spec, g, batch), t.samples);
  elbo_scope_push(g, "decoder");
  t.log_x = likelihood_log_prob(&l, t.z.output, x, repeat_rows(t.weight, t.samples));
  elbo_scope_pop(g);
  if (t.log_x) {
    out->loss = objective->estimator == ESTIMATOR_ELBO ? elbo_loss(&t, n_data, out) : importance_loss(&t, out);
    add_metrics(&t, out);
  }
  elbo_status status = elbo_graph_check(g);
  if (status == ELBO_OK && !out->loss) status = fail(ctx, ELBO_ERROR_INTERNAL, "the training graph has no loss");
  if (status != ELBO_OK) elbo_graph_destroy(&out->graph);
  return status;
}
