#include "models/diffusion_graph.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "nn/layers.h"

elbo_tensor *row_input(elbo_graph *g, const char *name, int64_t batch) {
  return elbo_reshape(elbo_input(g, name, ELBO_F32, 1, &batch), 4, (int64_t[]){batch, 1, 1, 1});
}

elbo_tensor *diffusion_centred(const diffusion_spec *spec, elbo_tensor *x) { return spec->bits ? elbo_scale(x, 2, -1) : x; }

elbo_tensor *diffusion_input(const diffusion_spec *spec, elbo_graph *g, int64_t batch, bool training) {
  const bool draws = training && diffusion_draws_codes(spec);
  int64_t dim[4] = {batch, spec->height, spec->width, spec->channels}, c = spec->channels;
  elbo_tensor *x = elbo_input(g, "x", ELBO_F32, 4, (int64_t[]){batch, spec->height, spec->width, draws ? 2 * c : c});
  if (!draws) return diffusion_centred(spec, x);
  return elbo_add(elbo_slice(x, 3, 0, c), elbo_mul(elbo_slice(x, 3, c, 2 * c), elbo_random_normal(g, "posterior", 4, dim)));
}

// --- conditions ---

// 1 where an example keeps its condition, else 0: (B)
static elbo_tensor *kept(const diffusion_spec *spec, elbo_graph *g, int64_t batch) {
  elbo_tensor *u = elbo_random_uniform(g, "condition.dropout", 1, &batch);
  return elbo_scale(elbo_less(u, elbo_constant(g, spec->model.condition.dropout)), -1, 1);
}

elbo_tensor *drop_rows(const diffusion_spec *spec, elbo_graph *g, elbo_tensor *v, bool drop) {
  if (!v || !drop || spec->model.condition.dropout <= 0) return v;
  int64_t batch = elbo_tensor_dim(v, 0), dim[ELBO_MAX_RANK] = {batch, 1, 1, 1, 1};
  return elbo_mul(v, elbo_reshape(kept(spec, g, batch), elbo_tensor_rank(v), dim));
}

static elbo_tensor *drop_class(const diffusion_spec *spec, elbo_graph *g, elbo_tensor *label, bool drop) {
  if (!label || !drop || spec->model.condition.dropout <= 0) return label;
  elbo_tensor *none = elbo_constant(g, (double)diffusion_null_class(spec));
  elbo_tensor *number = elbo_where(kept(spec, g, elbo_tensor_dim(label, 0)), elbo_cast(label, ELBO_F32), none);
  return elbo_cast(number, ELBO_I32);
}

// 1 inside a random box whose sides are a quarter to three quarters of the picture's: (B,H,W,1)
static elbo_tensor *random_box(const diffusion_spec *spec, elbo_graph *g, int64_t batch) {
  elbo_tensor *inside = NULL;
  for (int axis = 0; axis < 2; axis++) {
    int64_t n = axis ? spec->width : spec->height, dim[4] = {1, axis ? 1 : n, axis ? n : 1, 1};
    float at[16384];
    if (n > 16384) return NULL;
    for (int64_t i = 0; i < n; i++) at[i] = ((float)i + 0.5f) / (float)n;
    elbo_tensor *place = elbo_constant_array(g, 4, dim, at);
    elbo_tensor *u = elbo_random_uniform(g, axis ? "condition.box.x" : "condition.box.y", 2, (int64_t[]){batch, 2});
    elbo_tensor *size = elbo_scale(elbo_reshape(elbo_slice(u, 1, 0, 1), 4, (int64_t[]){batch, 1, 1, 1}), 0.5, 0.25);
    elbo_tensor *start = elbo_mul(elbo_reshape(elbo_slice(u, 1, 1, 2), 4, (int64_t[]){batch, 1, 1, 1}), elbo_scale(size, -1, 1));
    elbo_tensor *in = elbo_mul(elbo_less(start, place), elbo_less(place, elbo_add(start, size)));
    inside = inside ? elbo_mul(inside, in) : in;
  }
  return inside;
}

// The null sequence is zeros, as the null vector is.
static elbo_tensor *context_input(const diffusion_spec *spec, elbo_graph *g, int64_t batch) {
  const diffusion_condition_config *c = &spec->model.condition;
  return elbo_input(g, "condition", ELBO_F32, 3, (int64_t[]){batch, c->tokens, c->dim});
}

diffusion_condition diffusion_training_condition(const diffusion_spec *spec, elbo_graph *g, int64_t batch, elbo_tensor *x, bool drop) {
  const diffusion_condition_config *c = &spec->model.condition;
  diffusion_condition out = {0};
  switch (c->type) {
  case DIFFUSION_CLASS: out.label = drop_class(spec, g, elbo_input(g, "label", ELBO_I32, 1, &batch), drop); break;
  case DIFFUSION_CODE:
  case DIFFUSION_VECTOR: out.label = drop_rows(spec, g, elbo_input(g, "condition", ELBO_F32, 2, (int64_t[]){batch, c->dim}), drop); break;
  case DIFFUSION_CONTEXT: out.context = drop_rows(spec, g, context_input(spec, g, batch), drop); break;
  case DIFFUSION_LOWRES: {
    elbo_tensor *small = elbo_avg_pool2d(x, (int)c->factor, (int)c->factor);
    out.picture = drop_rows(spec, g, elbo_resize_bilinear(small, spec->height, spec->width), drop);
    break;
  }
  case DIFFUSION_RECONSTRUCTION: {
    int64_t dim[4] = {batch, spec->height, spec->width, spec->channels};
    out.picture = elbo_input(g, "picture", ELBO_F32, 4, dim);
    break;
  }
  case DIFFUSION_MASKED: {
    elbo_tensor *box = random_box(spec, g, batch), *parts[2] = {elbo_mul(x, elbo_scale(box, -1, 1)), box};
    out.picture = drop_rows(spec, g, elbo_concat(2, parts, 3), drop);
    break;
  }
  default: break;
  }
  return out;
}

// A code as the network takes it: a vector that joins the embedding of the time, and maps beside the state.
static diffusion_condition of_code(const diffusion_spec *spec, elbo_graph *g, elbo_tensor *code) {
  diffusion_condition out = {0};
  const int64_t maps = spec->model.condition.maps;
  elbo_scope_push(g, CODE_SCOPE);
  for (int i = 0; i < (int)spec->model.condition.hidden.count; i++) {
    char name[32];
    snprintf(name, sizeof name, "hidden.%d", i);
    code = elbo_silu(linear_layer(code, name, spec->model.condition.hidden.at[i], sqrt(6))); // He's gain
  }
  out.label = linear_layer(code, "embedding", denoiser_config_needs(&spec->model.denoiser).class_dim, 1);
  if (maps) out.picture = as_map(linear_layer(code, "maps", spec->height * spec->width * maps, 1), spec->height, spec->width, maps);
  elbo_scope_pop(g);
  return out;
}

void diffusion_code_layers(const diffusion_spec *spec, elbo_graph *g) {
  of_code(spec, g, elbo_input(g, "condition", ELBO_F32, 2, (int64_t[]){1, spec->model.condition.dim}));
}

elbo_tensor *diffusion_mixed(const diffusion_spec *spec, elbo_tensor *output) {
  if (!output || spec->model.mixing == MIXING_NONE) return output;
  elbo_graph *g = elbo_tensor_graph(output);
  const bool channel = spec->model.mixing == MIXING_CHANNEL;
  int64_t dim[3] = {channel ? 1 : spec->height, channel ? 1 : spec->width, spec->channels};
  elbo_init mostly_normal = {ELBO_INIT_KIND_CONSTANT, -3, 0};
  return elbo_mul(output, elbo_sigmoid(elbo_parameter(g, "mixing_logit", 3, dim, ELBO_PARAM_TRAINED, mostly_normal)));
}

elbo_tensor *diffusion_network(const diffusion_spec *spec, elbo_graph *g, elbo_tensor *state, elbo_tensor *time,
                               const diffusion_condition *given, bool training) {
  const diffusion_condition_config *c = &spec->model.condition;
  diffusion_condition condition = c->type == DIFFUSION_CODE ? of_code(spec, g, given->label) : *given;
  // x_t = alpha x0 + x_hat + sigma epsilon, and the network is told of x_hat too [Pandey22 formulation 2]. Outside of it the process is the
  // plain one of x_t - x_hat.
  if (c->type == DIFFUSION_RECONSTRUCTION && c->centred) state = elbo_add(state, condition.picture);
  elbo_tensor *parts[2] = {state, condition.picture};
  denoiser_inputs in = {.graph = g,
                        .sample = condition.picture ? elbo_concat(2, parts, 3) : state,
                        .timestep = time,
                        .class_labels = condition.label,
                        .context = condition.context,
                        .training = training};
  elbo_scope_push(g, DENOISER_SCOPE);
  elbo_tensor *out = diffusion_mixed(spec, denoiser_network(&spec->model.denoiser, &in));
  elbo_scope_pop(g);
  return out;
}

elbo_tensor *diffusion_call_graph(const diffusion_spec *s, elbo_graph *g, int64_t batch) {
  const diffusion_condition_config *c = &s->model.condition;
  diffusion_condition condition = {0};
  int64_t extra = diffusion_picture_channels(s);
  elbo_tensor *state = elbo_input(g, "sample", ELBO_F32, 4, (int64_t[]){batch, s->height, s->width, s->channels});
  int64_t times = denoiser_config_needs(&s->model.denoiser).shared_time ? 1 : batch; // samplers and solvers move all rows together
  elbo_tensor *time = elbo_input(g, "timestep", ELBO_F32, 1, &times);
  if (c->type == DIFFUSION_CLASS) condition.label = elbo_input(g, "label", ELBO_I32, 1, &batch);
  if (c->type == DIFFUSION_VECTOR || c->type == DIFFUSION_CODE)
    condition.label = elbo_input(g, "condition", ELBO_F32, 2, (int64_t[]){batch, c->dim});
  if (c->type == DIFFUSION_CONTEXT) condition.context = context_input(s, g, batch);
  if (extra) condition.picture = elbo_input(g, "picture", ELBO_F32, 4, (int64_t[]){batch, s->height, s->width, extra});
  return diffusion_network(s, g, state, time, &condition, false);
}

void diffusion_set_time(elbo_plan *plan, double told) {
  float *time = elbo_plan_input(plan, "timestep"); // NULL: of a network that is not told
  size_t n = time ? elbo_plan_input_bytes(plan, "timestep") / sizeof *time : 0;
  for (size_t i = 0; i < n; i++) time[i] = (float)told;
}

// --- the bound ---

elbo_tensor *diffusion_x0(elbo_graph *g, int64_t batch, elbo_tensor *state, elbo_tensor *output) {
  return elbo_add(elbo_mul(state, row_input(g, "x0_of_state", batch)), elbo_mul(output, row_input(g, "x0_of_output", batch)));
}

static elbo_tensor *normal_cdf(elbo_tensor *z) { return elbo_scale(elbo_erf(elbo_scale(z, 0.70710678118654752440, 0)), 0.5, 0.5); }

elbo_tensor *discretized_gaussian_log_mass(elbo_tensor *x, elbo_tensor *mean, elbo_tensor *log_sigma) {
  if (!x || !mean || !log_sigma) return NULL;
  elbo_graph *g = elbo_tensor_graph(x);
  const double half = 1.0 / 255;
  elbo_tensor *inverse = elbo_exp(elbo_neg(log_sigma)), *d = elbo_sub(x, mean), *floor = elbo_constant(g, 1e-12);
  elbo_tensor *above = normal_cdf(elbo_mul(elbo_scale(d, 1, half), inverse));
  elbo_tensor *below = normal_cdf(elbo_mul(elbo_scale(d, 1, -half), inverse));
  elbo_tensor *first = elbo_less(x, elbo_constant(g, -0.999)), *last = elbo_less(elbo_constant(g, 0.999), x);
  elbo_tensor *mass = elbo_where(first, above, elbo_where(last, elbo_scale(below, -1, 1), elbo_sub(above, below)));
  return elbo_log(elbo_maximum(mass, floor));
}

// Elementwise KL of two Gaussians from their means' difference and log variances.
static elbo_tensor *gaussian_kl_of(elbo_tensor *difference, elbo_tensor *log_var, elbo_tensor *model_log_var) {
  elbo_tensor *ratio = elbo_sub(log_var, model_log_var);
  elbo_tensor *square = elbo_mul(elbo_square(difference), elbo_exp(elbo_neg(model_log_var)));
  return elbo_scale(elbo_sub(elbo_add(elbo_exp(ratio), square), ratio), 0.5, -0.5);
}

elbo_tensor *discrete_bound_term(const diffusion_spec *spec, elbo_graph *g, int64_t batch, elbo_tensor *x0, elbo_tensor *x0_hat,
                                 elbo_tensor *fraction) {
  elbo_tensor *posterior = row_input(g, "posterior_log_variance", batch), *widest = row_input(g, "log_beta", batch), *model = posterior;
  if (fraction) { // interpolated in the logarithm, v in -1..1 [Nichol21 eq. 15]
    elbo_tensor *v = elbo_scale(fraction, 0.5, 0.5);
    model = elbo_add(posterior, elbo_mul(v, elbo_sub(widest, posterior)));
  } else if (spec->model.variance == REVERSE_FIXED_LARGE) {
    model = widest;
  }
  elbo_tensor *difference = elbo_mul(elbo_sub(x0, x0_hat), row_input(g, "mean_factor", batch));
  elbo_tensor *kl = gaussian_kl_of(difference, posterior, model);
  elbo_tensor *decoder = elbo_neg(discretized_gaussian_log_mass(x0, x0_hat, elbo_scale(model, 0.5, 0)));
  return elbo_sum_per_example(elbo_where(row_input(g, "first", batch), decoder, kl));
}

// --- training ---

elbo_tensor *build_mean(const diffusion_build *t, elbo_tensor *v) {
  return elbo_div(elbo_sum(elbo_mul(v, t->weight), ELBO_ALL_AXES, 0), t->weight_sum);
}

void build_metric(const diffusion_build *t, const char *name, const char *unit, elbo_tensor *v) {
  int i = t->out->n_metrics++;
  t->out->metric_name[i] = name, t->out->metric_unit[i] = unit, t->out->metric[i] = v;
}

// What the network should say, from x0 and epsilon.
static elbo_tensor *target_of(const diffusion_build *t, elbo_tensor *state, elbo_tensor *x0, elbo_tensor *epsilon, elbo_tensor *alpha,
                              elbo_tensor *sigma) {
  switch (t->spec->model.prediction) {
  case PREDICT_X0: return x0;
  case PREDICT_V: return elbo_sub(elbo_mul(alpha, epsilon), elbo_mul(sigma, x0));
  case PREDICT_SCORE: return elbo_neg(elbo_div(epsilon, sigma));
  case PREDICT_FLOW: return elbo_sub(epsilon, x0);
  case PREDICT_EDM: { // (x0 - c_skip x / alpha) / c_out: x0 = x0_of_state x + x0_of_output F
    elbo_tensor *rest = elbo_sub(x0, elbo_mul(state, row_input(t->g, "x0_of_state", t->batch)));
    return elbo_div(rest, row_input(t->g, "x0_of_output", t->batch));
  }
  default: return epsilon;
  }
}

static elbo_tensor *hybrid_term(diffusion_build *t, elbo_tensor *x0, elbo_tensor *state, elbo_tensor *output, elbo_tensor *fraction) {
  elbo_tensor *x0_hat = elbo_stop_gradient(diffusion_x0(t->g, t->batch, state, output)); // the mean is L_simple's [Nichol21 sec. 3.1]
  double size = (double)(t->spec->height * t->spec->width * t->spec->channels);
  elbo_tensor *nats = discrete_bound_term(t->spec, t->g, t->batch, x0, x0_hat, fraction);
  elbo_tensor *bits = elbo_scale(nats, (double)t->spec->model.process.steps / (size * log(2)), 0); // of the whole bound, were all terms so
  build_metric(t, "bound", "bits/dim", build_mean(t, bits));
  return elbo_scale(bits, t->objective->variance_weight, 0);
}

static diffusion_batch batch_of(diffusion_build *t) {
  const diffusion_spec *s = t->spec;
  diffusion_batch out = {0};
  if (t->source) {
    t->source->build(t->source->user, t, &out);
    return out;
  }
  out.x0 = diffusion_input(s, t->g, t->batch, t->training);
  out.condition = diffusion_training_condition(s, t->g, t->batch, out.x0, t->training);
  return out;
}

static void build_loss(diffusion_build *t, const process *p) {
  elbo_graph *g = t->g;
  const diffusion_spec *s = t->spec;
  int64_t b = t->batch, dim[4] = {b, s->height, s->width, s->channels};
  diffusion_batch of = batch_of(t);
  elbo_tensor *x0 = of.x0;
  elbo_tensor *epsilon = elbo_random_normal(g, "epsilon", 4, dim), *alpha = row_input(g, "alpha", b), *sigma = row_input(g, "sigma", b);
  elbo_tensor *state = elbo_add(elbo_mul(alpha, x0), elbo_mul(sigma, epsilon));
  elbo_tensor *time = elbo_input(g, "time", ELBO_F32, 1, &b);
  elbo_tensor *shown = s->model.prediction == PREDICT_EDM ? elbo_mul(state, row_input(g, "c_in", b)) : state;
  elbo_tensor *raw = diffusion_network(s, g, shown, time, &of.condition, t->training), *output = raw;
  if (diffusion_learned_variance(s)) output = elbo_slice(raw, 3, 0, s->channels);
  elbo_tensor *error = elbo_square(elbo_sub(output, target_of(t, state, x0, epsilon, alpha, sigma)));
  elbo_tensor *each = elbo_mean(error, 1u << 1 | 1u << 2 | 1u << 3, 0); // (B)
  elbo_tensor *weighted = elbo_mul(each, elbo_input(g, "loss_weight", ELBO_F32, 1, &b));
  if (t->objective->weighting != WEIGHTING_SIMPLE) build_metric(t, "mse", "", build_mean(t, each));
  if (diffusion_learned_variance(s))
    weighted = elbo_add(weighted, hybrid_term(t, x0, state, output, elbo_slice(raw, 3, s->channels, 2 * s->channels)));
  t->out->each = weighted;
  if (t->training && t->objective->time == TIME_IMPORTANCE) {
    int64_t size = time_history_size(p);
    t->out->observed = elbo_scale(weighted, 1, 0);
    elbo_parameter(g, TIME_HISTORY, 1, &size, ELBO_PARAM_STATE, ELBO_INIT_ZEROS);
    weighted = elbo_mul(weighted, elbo_input(g, "importance", ELBO_F32, 1, &b));
  }
  if (of.penalty) { // not among what chooses times: it has none
    t->out->each = elbo_add(t->out->each, of.penalty);
    weighted = elbo_add(weighted, of.penalty);
  }
  t->out->loss = build_mean(t, weighted);
}

elbo_status diffusion_training_build(elbo_ctx *ctx, const diffusion_spec *spec, const diffusion_objective *objective, const process *p,
                                     int64_t batch, bool training, diffusion_training_graph *out) {
  return diffusion_training_build_from(ctx, spec, objective, p, batch, training, NULL, out);
}

elbo_status diffusion_training_build_from(elbo_ctx *ctx, const diffusion_spec *spec, const diffusion_objective *objective, const process *p,
                                          int64_t batch, bool training, const diffusion_source *source, diffusion_training_graph *out) {
  *out = (diffusion_training_graph){0};
  TRY(elbo_graph_create(ctx, "diffusion", &out->graph));
  diffusion_build t = {
      .spec = spec, .objective = objective, .g = out->graph, .batch = batch, .training = training, .source = source, .out = out};
  t.weight = elbo_input(t.g, "weight", ELBO_F32, 1, &batch);
  t.weight_sum = elbo_sum(t.weight, ELBO_ALL_AXES, 0);
  if (spec->model.process.type == PROCESS_LEARNED)
    learned_process_loss(&t);
  else
    build_loss(&t, p);
  elbo_status status = elbo_graph_check(out->graph);
  if (status == ELBO_OK && !out->loss) status = fail(ctx, ELBO_ERROR_INTERNAL, "the training graph has no loss");
  if (status != ELBO_OK) elbo_graph_destroy(&out->graph);
  return status;
}

// --- what the host fills in ---

typedef struct posterior { // of a discrete process at index i
  double log_variance, log_beta, mean_factor;
} posterior;

// beta_t and its like from alpha_bar [Ho20 eq. 7]; the posterior's variance at i = 0 is that of i = 1 [Nichol21 sec. 3.1]
static posterior posterior_at(const process *p, int64_t i) {
  const double *bar = process_alpha_bar(p);
  int64_t k = i > 0 ? i : process_steps(p) > 1 ? 1 : 0;
  double previous = k > 0 ? bar[k - 1] : 1, beta = 1 - bar[k] / previous;
  double own_previous = i > 0 ? bar[i - 1] : 1, own_beta = 1 - bar[i] / own_previous;
  return (posterior){.log_variance = log((1 - previous) / (1 - bar[k]) * beta),
                     .log_beta = log(own_beta),
                     .mean_factor = sqrt(own_previous) * own_beta / (1 - bar[i])};
}

bool diffusion_fill(const diffusion_spec *spec, const diffusion_objective *objective, const process *p, double t, const char *input,
                    float *value) {
  process_point q = process_at(p, t);
  const diffusion_config *m = &spec->model;
  int64_t steps = process_steps(p), i = steps ? (int64_t)llround(t * (double)steps) - 1 : -1;
  double v;
  if (!strcmp(input, "alpha"))
    v = q.alpha;
  else if (!strcmp(input, "sigma"))
    v = q.sigma;
  else if (!strcmp(input, "time"))
    v = diffusion_time_told(spec, p, steps ? (double)i : process_network_time(p, t));
  else if (!strcmp(input, "c_in"))
    v = 1 / sqrt(q.sigma * q.sigma + m->sigma_data * m->sigma_data * q.alpha * q.alpha);
  else if (!strcmp(input, "x0_of_state"))
    v = prediction_coefficients(m->prediction, q.alpha, q.sigma, m->sigma_data).x0_x;
  else if (!strcmp(input, "x0_of_output"))
    v = prediction_coefficients(m->prediction, q.alpha, q.sigma, m->sigma_data).x0_output;
  else if (!strcmp(input, "loss_weight") && objective) {
    double gamma = objective->weighting == WEIGHTING_P2 ? objective->p2_gamma : objective->gamma;
    weighting_config w = {objective->weighting, gamma, objective->p2_k, objective->bias, m->sigma_data};
    v = loss_weight_at(&w, p, m->prediction, t);
  } else if (steps && !strcmp(input, "posterior_log_variance"))
    v = posterior_at(p, i).log_variance;
  else if (steps && !strcmp(input, "log_beta"))
    v = i == 0 && m->variance == REVERSE_FIXED_LARGE ? posterior_at(p, i).log_variance : posterior_at(p, i).log_beta;
  else if (steps && !strcmp(input, "mean_factor"))
    v = posterior_at(p, i).mean_factor;
  else if (steps && !strcmp(input, "first"))
    v = i == 0;
  else
    return false;
  *value = (float)v;
  return true;
}
