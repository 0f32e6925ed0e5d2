// The learned process and its loss: one bound, whose ends are raised with the network and whose interior is bent until the bound's
// estimate varies least [Kingma21 section 4, appendices H and I].
#include <math.h>

#include "models/diffusion_graph.h"
#include "nn/gamma_network.h"

enum { NEIGHBOURS = 16 }; // levels on either side that share a pixel's mass: at log-SNR 6 the next would have e^-40 of it

static gamma_config config_of(const diffusion_spec *spec) {
  return (gamma_config){
      .hidden = 1024, .logsnr_min = spec->model.process.logsnr_min, .logsnr_max = spec->model.process.logsnr_max, .learn_ends = true};
}

static elbo_tensor *gamma_at(const diffusion_spec *spec, elbo_graph *g, elbo_tensor *t) {
  gamma_config c = config_of(spec);
  elbo_scope_push(g, PROCESS_SCOPE);
  elbo_tensor *gamma = gamma_network(g, &c, t);
  elbo_scope_pop(g);
  return gamma;
}

void learned_process_parameters(const diffusion_spec *spec, elbo_graph *g) {
  const int64_t one = 1;
  gamma_at(spec, g, elbo_input(g, "t", ELBO_F32, 1, &one));
}

void learned_process_logsnr(void *user, double t, double *logsnr, double *dlogsnr) {
  double gamma, dgamma;
  if (gamma_network_host(user, PROCESS_SCOPE ".", t, &gamma, &dgamma) != ELBO_OK) gamma = dgamma = NAN;
  *logsnr = -gamma, *dlogsnr = -dgamma;
}

// --- the loss ---

static elbo_tensor *as_rows(elbo_tensor *v, int64_t batch) { return elbo_reshape(v, 4, (int64_t[]){batch, 1, 1, 1}); }
static elbo_tensor *pixel_mean(elbo_tensor *v) { return elbo_mean(v, 1u << 1 | 1u << 2 | 1u << 3, 0); }

// gamma and dgamma/dt of the times.
typedef struct schedule {
  elbo_tensor *first, *last;   // (1) gamma_0, gamma_1
  elbo_tensor *inside, *slope; // (B) (gamma - gamma_0) / (gamma_1 - gamma_0), and its derivative
} schedule;

static schedule schedule_at(const diffusion_build *b, elbo_tensor *t) {
  schedule s = {0};
  const int64_t two = 2;
  elbo_tensor *ends = elbo_constant_array(b->g, 1, &two, (const float[]){0, 1}), *gamma = gamma_at(b->spec, b->g, t), *slope = NULL;
  elbo_tensor *at_ends = gamma_at(b->spec, b->g, ends);
  s.first = elbo_slice(at_ends, 0, 0, 1), s.last = elbo_slice(at_ends, 0, 1, 2);
  elbo_tensor *span = elbo_sub(s.last, s.first);
  s.inside = elbo_div(elbo_sub(gamma, s.first), span);
  if (!s.inside || elbo_gradient(elbo_sum(s.inside, 1u, 0), 1, &t, &slope) != ELBO_OK) return s;
  s.slope = slope;
  return s;
}

static elbo_tensor *from_ends(const schedule *s, elbo_tensor *inside) {
  return elbo_add(s->first, elbo_mul(elbo_sub(s->last, s->first), inside));
}

// (alpha, sigma) of gamma (n): sqrt sigmoid(-gamma), sqrt sigmoid(gamma)
static elbo_tensor *alpha_of(elbo_tensor *gamma) { return elbo_sqrt(elbo_sigmoid(elbo_neg(gamma))); }
static elbo_tensor *sigma_of(elbo_tensor *gamma) { return elbo_sqrt(elbo_sigmoid(gamma)); }

// KL(q(z_1|x) || N(0, I)) a dimension: (B)
static elbo_tensor *prior_term(elbo_tensor *x, elbo_tensor *gamma_1) {
  elbo_tensor *variance = elbo_sigmoid(gamma_1), *log_variance = elbo_neg(elbo_softplus(elbo_neg(gamma_1)));
  elbo_tensor *square = elbo_mul(elbo_square(x), elbo_sigmoid(elbo_neg(gamma_1)));
  return pixel_mean(elbo_scale(elbo_add(square, elbo_sub(variance, log_variance)), 0.5, -0.5));
}

// -log p(x|z_0) a dimension: of 256 levels v, in proportion to N(z_0 / alpha_0; v, e^gamma_0)
static elbo_tensor *decoder_term(const diffusion_build *b, elbo_tensor *x, elbo_tensor *gamma_0) {
  const diffusion_spec *s = b->spec;
  elbo_tensor *noise = elbo_random_normal(b->g, "epsilon_0", 4, (int64_t[]){b->batch, s->height, s->width, s->channels});
  elbo_tensor *shift = elbo_mul(noise, elbo_exp(elbo_scale(gamma_0, 0.5, 0))); // z_0 / alpha_0 - x
  elbo_tensor *precision = elbo_exp(elbo_neg(gamma_0)), *total = NULL;
  elbo_tensor *low = elbo_constant(b->g, -1 - 1e-3), *high = elbo_constant(b->g, 1 + 1e-3), *none = elbo_constant(b->g, 0);
  for (int k = -NEIGHBOURS; k <= NEIGHBOURS; k++) { // log-weights against x's own level
    double step = 2.0 * k / 255;
    elbo_tensor *ratio = elbo_mul(elbo_scale(elbo_scale(shift, 2, -step), 0.5 * step, 0), precision);
    if (k == 0) continue;
    elbo_tensor *level = elbo_scale(x, 1, step), *possible = elbo_mul(elbo_less(low, level), elbo_less(level, high));
    elbo_tensor *mass = elbo_where(possible, elbo_exp(elbo_minimum(ratio, elbo_constant(b->g, 60))), none);
    total = total ? elbo_add(total, mass) : mass;
  }
  return pixel_mean(elbo_log1p(total));
}

static elbo_tensor *time_told(const diffusion_build *b, elbo_tensor *gamma, elbo_tensor *t) {
  int told = b->spec->model.time_input;
  if (told == TIME_INPUT_AUTO) told = b->spec->model.denoiser.network == DENOISER_VDM ? TIME_INPUT_LOGSNR : TIME_INPUT_SCALED;
  switch (told) {
  case TIME_INPUT_LOGSNR: return elbo_neg(gamma);
  case TIME_INPUT_LOG_SIGMA: return elbo_scale(gamma, 0.125, 0);
  case TIME_INPUT_SIGMA: return elbo_exp(elbo_scale(gamma, 0.5, 0));
  default: return elbo_scale(t, 1000, 0);
  }
}

// Squared error of epsilon a dimension at the noise of gamma (B)
static elbo_tensor *epsilon_error(const diffusion_build *b, elbo_tensor *x, elbo_tensor *gamma, elbo_tensor *t) {
  const diffusion_spec *s = b->spec;
  elbo_tensor *epsilon = elbo_random_normal(b->g, "epsilon", 4, (int64_t[]){b->batch, s->height, s->width, s->channels});
  elbo_tensor *alpha = as_rows(alpha_of(gamma), b->batch), *sigma = as_rows(sigma_of(gamma), b->batch);
  elbo_tensor *state = elbo_add(elbo_mul(alpha, x), elbo_mul(sigma, epsilon));
  diffusion_condition condition = diffusion_training_condition(s, b->g, b->batch, x, b->training);
  elbo_tensor *output = diffusion_network(s, b->g, state, time_told(b, gamma, t), &condition, b->training);
  if (s->model.prediction == PREDICT_V) output = elbo_add(elbo_mul(sigma, state), elbo_mul(alpha, output));
  if (s->model.prediction == PREDICT_X0) output = elbo_div(elbo_sub(state, elbo_mul(alpha, output)), sigma);
  return pixel_mean(elbo_square(elbo_sub(output, epsilon)));
}

// The interior's parameters get 2 L times the gradient that they would: that of L^2, whose mean is the variance of the estimate up to a
// constant, since the mean of L does not depend on them. The bound saw the schedule as leaves; what it asked of them goes on, so weighted,
// as the gradient of a sum whose value is taken off again.
static elbo_tensor *with_interior(const schedule *at, elbo_tensor *const leaf[2], elbo_tensor *diffusion, elbo_tensor *loss) {
  elbo_tensor *asked[2] = {0}, *through[2] = {at->inside, at->slope}, *sum = NULL;
  if (elbo_gradient(loss, 2, leaf, asked) != ELBO_OK) return NULL;
  for (int i = 0; i < 2; i++) {
    if (!asked[i]) continue;
    elbo_tensor *weight = elbo_scale(elbo_mul(elbo_stop_gradient(diffusion), elbo_stop_gradient(asked[i])), 2, 0);
    elbo_tensor *term = elbo_sum(elbo_mul(weight, through[i]), ELBO_ALL_AXES, 0);
    sum = sum ? elbo_add(sum, term) : term;
  }
  return sum ? elbo_add(loss, elbo_sub(sum, elbo_stop_gradient(sum))) : loss;
}

void learned_process_loss(diffusion_build *b) {
  const diffusion_spec *s = b->spec;
  const int64_t one = 1;
  elbo_tensor *x = diffusion_centred(s, elbo_input(b->g, "x", ELBO_F32, 4, (int64_t[]){b->batch, s->height, s->width, s->channels}));
  elbo_tensor *t = elbo_input(b->g, "t", ELBO_F32, 1, &b->batch);
  schedule at = schedule_at(b, t);
  if (!at.slope) return;
  elbo_tensor *span = elbo_sub(at.last, at.first), *leaf[2] = {at.inside, at.slope};
  for (int i = 0; b->training && i < 2; i++) leaf[i] = elbo_stop_gradient(leaf[i]);
  elbo_tensor *error = epsilon_error(b, x, from_ends(&at, leaf[0]), t);
  elbo_tensor *diffusion = elbo_scale(elbo_mul(elbo_mul(span, leaf[1]), error), 0.5, 0); // (B) nats a dimension [Kingma21 eq. 17]
  elbo_tensor *prior = prior_term(x, elbo_reshape(at.last, 4, (int64_t[]){one, 1, 1, 1}));
  elbo_tensor *decoder = decoder_term(b, x, elbo_reshape(at.first, 4, (int64_t[]){one, 1, 1, 1}));
  b->out->each = elbo_add(diffusion, elbo_add(prior, decoder));
  b->out->loss = build_mean(b, b->out->each);
  if (b->training) b->out->loss = with_interior(&at, leaf, diffusion, b->out->loss);
  const double bits = 1 / log(2);
  build_metric(b, "bpd", "bits/dim", elbo_scale(build_mean(b, b->out->each), bits, 0));
  build_metric(b, "diffusion", "bits/dim", elbo_scale(build_mean(b, diffusion), bits, 0));
  build_metric(b, "prior", "bits/dim", elbo_scale(build_mean(b, prior), bits, 0));
  build_metric(b, "decoder", "bits/dim", elbo_scale(build_mean(b, decoder), bits, 0));
  build_metric(b, "logsnr_max", "", elbo_scale(elbo_sum(at.first, 1u, 0), -1, 0));
  build_metric(b, "logsnr_min", "", elbo_scale(elbo_sum(at.last, 1u, 0), -1, 0));
}
