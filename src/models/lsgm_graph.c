#include "models/lsgm_graph.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "models/diffusion_graph.h"
#include "nn/spectral.h"
#include "ops/op.h"

#define HALF_LOG_2_PI 0.91893853320467274178

bool lsgm_separate(const lsgm_objective *o) { return o->times == TIMES_SEPARATE && o->weighting != SCORE_LIKELIHOOD; }

// With l from l_0 to l_1, alpha^2 = sigmoid(l): E|epsilon - sigma z_t|^2 = alpha^4 + alpha^2 sigma^2 z^2, whose half integrates over l to
// (softplus(l_0) - softplus(l_1) - (1 - z^2) (alpha_0^2 - alpha_1^2)) / 2; the ends take l_1 out of it.
normal_prior lsgm_normal_prior(const process *p) {
  process_point start = process_at(p, 0);
  double alpha2 = start.alpha * start.alpha, sigma2 = start.sigma * start.sigma;
  return (normal_prior){.square = 0.5 * alpha2, .constant = HALF_LOG_2_PI + 0.5 * (sigma2 - log(alpha2))};
}

static elbo_tensor *call_input(elbo_graph *g, const char *prefix, const char *name, int64_t rows) {
  char full[48];
  snprintf(full, sizeof full, "%s.%s", prefix, name);
  return row_input(g, full, rows);
}

lsgm_error lsgm_errors(const lsgm_spec *spec, elbo_graph *g, int64_t batch, int64_t samples, elbo_tensor *leaf, elbo_tensor *code,
                       const char *prefix, bool training) {
  lsgm_error out = {0};
  if (!leaf || !code) return out;
  const diffusion_spec *s = &spec->prior;
  int64_t rows = batch * samples, d = s->height * s->width * s->channels;
  char name[48];
  snprintf(name, sizeof name, "%s.epsilon", prefix);
  elbo_tensor *epsilon = elbo_random_normal(g, name, 3, (int64_t[]){batch, samples, d});
  epsilon = as_map(elbo_reshape(epsilon, 2, (int64_t[]){rows, d}), s->height, s->width, s->channels);
  elbo_tensor *alpha = call_input(g, prefix, "alpha", rows), *sigma = call_input(g, prefix, "sigma", rows),
              *noise = elbo_mul(sigma, epsilon);
  elbo_tensor *state = elbo_add(elbo_mul(alpha, as_map(leaf, s->height, s->width, s->channels)), noise);
  elbo_tensor *live = elbo_add(elbo_mul(alpha, as_map(code, s->height, s->width, s->channels)), noise);
  elbo_tensor *time = elbo_reshape(call_input(g, prefix, "time", rows), 1, &rows);
  diffusion_condition none = {0};
  elbo_tensor *raw = diffusion_network(s, g, state, time, &none, training);
  elbo_tensor *said = elbo_add(elbo_mul(state, call_input(g, prefix, "epsilon_of_state", rows)),
                               elbo_mul(raw, call_input(g, prefix, "epsilon_of_output", rows)));
  out.network = flatten_rows(elbo_square(elbo_sub(epsilon, said)));
  out.normal = flatten_rows(elbo_square(elbo_sub(epsilon, elbo_mul(sigma, live))));
  return out;
}

bool lsgm_fill(const lsgm_spec *spec, const process *p, double t, const char *name, float *value) {
  process_point q = process_at(p, t);
  prediction_map map = prediction_coefficients(spec->prior.model.prediction, q.alpha, q.sigma, 1);
  int64_t steps = process_steps(p);
  if (!strcmp(name, "alpha"))
    *value = (float)q.alpha;
  else if (!strcmp(name, "sigma"))
    *value = (float)q.sigma;
  else if (!strcmp(name, "time")) // of a discrete process between its steps, and in front of them, too
    *value = (float)diffusion_time_told(&spec->prior, p, steps ? t * (double)steps - 1 : process_network_time(p, t));
  else if (!strcmp(name, "epsilon_of_state"))
    *value = (float)map.epsilon_x;
  else if (!strcmp(name, "epsilon_of_output"))
    *value = (float)map.epsilon_output;
  else
    return false;
  return true;
}

elbo_tensor *lsgm_entropies(const vae_latents *z) {
  elbo_tensor *part[MAX_GROUPS];
  for (int i = 0; i < z->n; i++) part[i] = elbo_scale(z->group[i].log_std, 1, 0.5 + HALF_LOG_2_PI);
  return z->n == 0 ? NULL : z->n == 1 ? part[0] : elbo_concat(z->n, part, 1);
}

// --- training ---

typedef struct terms {
  const lsgm_spec *spec;
  const lsgm_objective *objective;
  elbo_graph *g;
  int64_t batch;
  elbo_tensor *weight, *total, *beta; // (B), scalars
  vae_latents z;
  elbo_tensor *leaf;          // (B,D) z as the prior's network sees it
  elbo_tensor *score_loss;    // scalar
  elbo_tensor *errors;        // (B,D) of the network, weighted as the bound has them
  elbo_tensor *normal;        // (B,D) those of N(0, I), a function of z
  elbo_tensor *to_encoder;    // (B,D) what the former say of the leaf, divided by the batch
  elbo_tensor *cross, *recon; // (B,D) nats, the cut leaf inside; (B)
} terms;

static elbo_tensor *mean_of(const terms *t, elbo_tensor *each) {
  return elbo_div(elbo_sum(elbo_mul(each, t->weight), ELBO_ALL_AXES, 0), t->total);
}

static elbo_tensor *column_mean(const terms *t, elbo_tensor *v) {
  elbo_tensor *w = elbo_reshape(t->weight, 2, (int64_t[]){t->batch, 1});
  return elbo_div(elbo_sum(elbo_mul(v, w), 1u, 0), t->total);
}

// A gradient without a value.
static elbo_tensor *gradient_alone(elbo_tensor *v) { return elbo_sub(v, elbo_stop_gradient(v)); }

static elbo_tensor *row_weight(const terms *t, const char *name) {
  return elbo_reshape(elbo_input(t->g, name, ELBO_F32, 1, &t->batch), 2, (int64_t[]){t->batch, 1});
}

// Both uses of epsilon's error.
static bool score_terms(terms *t) {
  const int64_t b = t->batch;
  const bool separate = lsgm_separate(t->objective);
  lsgm_error e = lsgm_errors(t->spec, t->g, b, 1, t->leaf, t->z.z, "score", true);
  elbo_tensor *of_score = row_weight(t, "score.weight"), *of_bound = of_score;
  if (t->objective->weighting != SCORE_LIKELIHOOD) of_bound = row_weight(t, "bound.weight");
  t->score_loss = mean_of(t, elbo_sum_per_example(elbo_mul(e.network, of_score)));
  if (separate) e = lsgm_errors(t->spec, t->g, b, 1, t->leaf, t->z.z, "bound", true);
  t->errors = elbo_mul(e.network, of_bound), t->normal = elbo_mul(e.normal, of_bound);
  elbo_tensor *from = separate ? mean_of(t, elbo_sum_per_example(t->errors)) : t->score_loss;
  if (elbo_gradient(from, 1, &t->leaf, &t->to_encoder) != ELBO_OK) return false;
  // rows do not see each other: what w_ll says of a row's leaf is w_ll / w times what w says of it
  if (!separate && of_bound != of_score && t->to_encoder) t->to_encoder = elbo_mul(t->to_encoder, elbo_div(of_bound, of_score));
  return true;
}

static elbo_tensor *build_loss(terms *t, const process *p) {
  normal_prior normal = lsgm_normal_prior(p);
  if (!score_terms(t)) return NULL;
  elbo_tensor *closed = elbo_scale(elbo_square(t->z.z), normal.square, normal.constant), *entropy = lsgm_entropies(&t->z);
  t->cross = elbo_add(closed, elbo_sub(elbo_stop_gradient(t->errors), t->normal));
  elbo_tensor *loss = elbo_mul(t->beta, mean_of(t, elbo_sum_per_example(elbo_sub(t->cross, entropy))));
  loss = elbo_sub(loss, mean_of(t, t->recon));
  if (t->to_encoder) {
    elbo_tensor *along = elbo_sum(elbo_mul(elbo_stop_gradient(t->to_encoder), t->z.drawn), ELBO_ALL_AXES, 0);
    loss = elbo_add(loss, elbo_mul(t->beta, gradient_alone(along)));
  }
  return elbo_add(loss, gradient_alone(t->score_loss));
}

static void add_metric(lsgm_training_graph *out, const char *name, const char *unit, elbo_tensor *value, bool quiet) {
  out->metric[out->n_metrics++] = (train_metric){name, unit, value, quiet};
}

// (D) numbers of a code -> (groups)
static elbo_tensor *by_group(const terms *t, elbo_tensor *columns) {
  elbo_tensor *each[MAX_GROUPS];
  picture_shape group[MAX_GROUPS];
  int n = vae_groups(&t->spec->vae, group);
  for (int64_t i = 0, at = 0; i < n; i++) {
    int64_t count = group[i].height * group[i].width * group[i].channels;
    each[i] = elbo_reshape(elbo_sum(elbo_slice(columns, 0, at, at + count), 1u, 0), 1, (int64_t[]){1});
    at += count;
  }
  return elbo_concat(n, each, 0);
}

static void add_metrics(const terms *t, lsgm_training_graph *out) {
  elbo_tensor *entropies = lsgm_entropies(&t->z), *entropy = mean_of(t, elbo_sum_per_example(entropies));
  elbo_tensor *cross = mean_of(t, elbo_sum_per_example(t->cross)), *recon = mean_of(t, t->recon), *kl = elbo_sub(cross, entropy);
  add_metric(out, "elbo", "nats", elbo_sub(recon, kl), false);
  add_metric(out, "recon", "nats", recon, false);
  add_metric(out, "kl", "nats", kl, false);
  add_metric(out, "cross_entropy", "nats", cross, true);
  add_metric(out, "entropy", "nats", entropy, true);
  add_metric(out, "score_loss", "", elbo_scale(t->score_loss, 1, 0), true);
  add_metric(out, "beta", "", elbo_scale(t->beta, 1, 0), true);
  if (t->z.n > 1) {
    add_metric(out, "cross_entropy_group", "nats", by_group(t, column_mean(t, t->cross)), true);
    add_metric(out, "entropy_group", "nats", by_group(t, column_mean(t, entropies)), true);
    return;
  }
  add_metric(out, "code_mean", "", column_mean(t, t->z.group[0].mean), true);
  add_metric(out, "code_square", "", column_mean(t, elbo_square(t->z.group[0].mean)), true);
}

static bool is_weight(const node *n) {
  const char *dot = strrchr(n->name, '.');
  return n->op == &op_parameter && ((const parameter_attr *)n->attr)->kind == ELBO_PARAM_TRAINED && n->out[0]->shape.rank >= 2 && dot &&
         strcmp(dot, ".weight") == 0;
}

// The sum of the largest singular values of all weights of convolutions and dense layers [Vahdat20 sec. 3.2, Vahdat21]: it
// bounds how steep the networks, and with them the bound, can be. Their vectors are the training's alone: "spectral.NAME".
static elbo_tensor *spectral_sum(elbo_graph *g) {
  elbo_tensor *sum = NULL;
  elbo_scope_push(g, "spectral");
  for (int64_t i = 0, n = g->n_nodes; i < n; i++) {
    if (!is_weight(g->nodes[i])) continue;
    elbo_tensor *value = spectral_value(g->nodes[i]->out[0], g->nodes[i]->name, true);
    sum = sum ? elbo_add(sum, value) : value;
  }
  elbo_scope_pop(g);
  return sum;
}

elbo_status lsgm_training_build(elbo_ctx *ctx, const lsgm_spec *spec, const lsgm_objective *objective, const process *p, int64_t batch,
                                lsgm_training_graph *out) {
  *out = (lsgm_training_graph){0};
  TRY(elbo_graph_create(ctx, "lsgm", &out->graph));
  elbo_graph *g = out->graph;
  terms t = {.spec = spec, .objective = objective, .g = g, .batch = batch};
  latent_request request = {.spec = &spec->vae, .graph = g, .batch = batch, .samples = 1, .mode = LATENT_POSTERIOR, .training = true};
  t.weight = elbo_input(g, "weight", ELBO_F32, 1, &batch);
  t.total = elbo_sum(t.weight, ELBO_ALL_AXES, 0);
  t.beta = elbo_input(g, "beta", ELBO_F32, 0, NULL);
  t.z = vae_latent_pass(&request);
  t.leaf = elbo_stop_gradient(t.z.z);
  likelihood l = vae_likelihood(&spec->vae, true);
  elbo_scope_push(g, "decoder");
  t.recon = likelihood_log_prob(&l, t.z.output, vae_input_x(&spec->vae, g, batch), t.weight);
  elbo_scope_pop(g);
  out->loss = t.recon ? build_loss(&t, p) : NULL;
  if (out->loss) add_metrics(&t, out);
  if (out->loss && objective->spectral > 0) {
    elbo_tensor *sum = spectral_sum(g);
    add_metric(out, "spectral", "", elbo_scale(sum, 1, 0), true);
    out->loss = elbo_add(out->loss, elbo_scale(sum, objective->spectral, 0));
  }
  elbo_status status = elbo_graph_check(g);
  if (status == ELBO_OK && !out->loss) status = fail(ctx, ELBO_ERROR_INTERNAL, "the training graph has no loss");
  if (status != ELBO_OK) elbo_graph_destroy(&out->graph);
  return status;
}
