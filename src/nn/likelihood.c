// Likelihoods as compositions of element-wise operations, which the fuse pass joins into one loop each.
#include "nn/likelihood.h"

#include <math.h>

#include "nn/likelihood_discrete.h"

#define HALF_LOG_2PI 0.91893853320467274178

int likelihood_variance(int kind, int variance) {
  if (variance != WIDTH_AUTO) return variance;
  if (kind == LIKELIHOOD_LAPLACE) return WIDTH_LEARNED;
  if (kind == LIKELIHOOD_DISCRETIZED_LOGISTIC) return WIDTH_PIXEL;
  return WIDTH_FIXED;
}

bool likelihood_valid(int kind, int variance) {
  if (variance == WIDTH_AUTO) return true;
  if (variance == WIDTH_OPTIMAL) return kind == LIKELIHOOD_GAUSSIAN;
  return kind == LIKELIHOOD_GAUSSIAN || kind == LIKELIHOOD_LAPLACE || kind == LIKELIHOOD_DISCRETIZED_LOGISTIC;
}

int64_t likelihood_width(const likelihood *l) {
  int64_t c = l->channels;
  switch ((likelihood_kind)l->kind) {
  case LIKELIHOOD_BERNOULLI:
  case LIKELIHOOD_CONTINUOUS_BERNOULLI: return c;
  case LIKELIHOOD_GAUSSIAN:
  case LIKELIHOOD_LAPLACE:
  case LIKELIHOOD_DISCRETIZED_LOGISTIC: return likelihood_variance(l->kind, l->variance) == WIDTH_PIXEL ? 2 * c : c;
  case LIKELIHOOD_LOGISTIC_MIXTURE: return l->mixtures * (1 + 2 * c + c * (c - 1) / 2);
  case LIKELIHOOD_CATEGORICAL: return 256 * c;
  }
  return c;
}

bool likelihood_discrete(const likelihood *l) { return l->kind >= LIKELIHOOD_DISCRETIZED_LOGISTIC; }

bool likelihood_has_location(const likelihood *l) {
  return l->kind == LIKELIHOOD_GAUSSIAN || l->kind == LIKELIHOOD_LAPLACE || l->kind == LIKELIHOOD_DISCRETIZED_LOGISTIC ||
         l->kind == LIKELIHOOD_LOGISTIC_MIXTURE;
}

elbo_tensor *likelihood_centred(const likelihood *l, elbo_tensor *p, elbo_tensor *x, double width) {
  if (!p || !x) return NULL;
  if (l->kind == LIKELIHOOD_LOGISTIC_MIXTURE) return logistic_mixture_centred(l, p, x, width);
  elbo_tensor *centre = elbo_scale(x, 1, -0.5);
  if (likelihood_width(l) == l->channels) return elbo_add(p, centre);
  // log_width takes 1 off
  int axis = elbo_tensor_rank(p) - 1;
  elbo_tensor *both[2] = {elbo_add(elbo_slice(p, axis, 0, l->channels), centre),
                          elbo_scale(elbo_slice(p, axis, l->channels, 2 * l->channels), 1, 1 + log(width))};
  return elbo_concat(2, both, axis);
}

elbo_tensor *gaussian_log_density(elbo_tensor *z, elbo_tensor *mean, elbo_tensor *log_std) {
  elbo_tensor *u = elbo_mul(elbo_sub(z, mean), elbo_exp(elbo_neg(log_std)));
  return elbo_sub(elbo_scale(elbo_square(u), -0.5, -HALF_LOG_2PI), log_std);
}

// The decoder's location in the units of x: sigmoid would squash what lies at the ends, so locations are plain numbers around 1/2.
static elbo_tensor *location(const likelihood *l, elbo_tensor *p) {
  if (!p) return NULL;
  elbo_tensor *m = elbo_tensor_dim(p, -1) == l->channels ? p : elbo_slice(p, elbo_tensor_rank(p) - 1, 0, l->channels);
  return elbo_scale(m, 1, 0.5);
}

// log of the width: a constant, a parameter or a decoder output; the last kept in a range where exp stays harmless
static elbo_tensor *log_width(const likelihood *l, elbo_tensor *p) {
  if (!p) return NULL;
  elbo_graph *g = elbo_tensor_graph(p);
  int axis = elbo_tensor_rank(p) - 1;
  switch (likelihood_variance(l->kind, l->variance)) {
  case WIDTH_FIXED: return elbo_constant(g, log(l->sigma));
  case WIDTH_LEARNED: {
    elbo_init at = {ELBO_INIT_KIND_CONSTANT, log(l->sigma), 0};
    return elbo_clamp(elbo_parameter(g, "log_sigma", 1, (int64_t[]){1}, ELBO_PARAM_TRAINED, at), -7, 7);
  }
  case WIDTH_OPTIMAL: {
    elbo_init at = {ELBO_INIT_KIND_CONSTANT, log(l->sigma), 0};
    return elbo_parameter(g, "log_sigma", 1, (int64_t[]){1}, ELBO_PARAM_STATE, at);
  }
  default: return elbo_clamp(elbo_scale(elbo_slice(p, axis, l->channels, 2 * l->channels), 1, -1), -7, 7);
  }
}

// log(l / tanh(l/2)): the normaliser of the continuous Bernoulli with logit l [LoaizaGanem19], by its series around 0 (error below 1e-8
// inside |l| < 0.3)
static elbo_tensor *continuous_bernoulli_normaliser(elbo_tensor *logit) {
  elbo_tensor *a = elbo_abs(logit), *edge = elbo_constant(elbo_tensor_graph(logit), 0.3);
  elbo_tensor *far = elbo_maximum(a, edge);
  elbo_tensor *exact = elbo_sub(elbo_log(far), elbo_log(elbo_tanh(elbo_scale(far, 0.5, 0))));
  elbo_tensor *s = elbo_scale(elbo_square(elbo_clamp(logit, -0.3, 0.3)), 0.25, 0); // (l/2)^2
  elbo_tensor *series = elbo_scale(elbo_mul(s, elbo_scale(elbo_mul(s, elbo_scale(s, 62.0 / 2835, -7.0 / 90)), 1, 1.0 / 3)), 1, log(2));
  return elbo_where(elbo_less(a, edge), series, exact);
}

static elbo_tensor *optimal_log_prob(const likelihood *l, elbo_tensor *p, elbo_tensor *x, elbo_tensor *weight) {
  elbo_graph *g = elbo_tensor_graph(p);
  elbo_tensor *error = elbo_sum_per_example(elbo_square(elbo_sub(x, location(l, p)))); // (R)
  if (!error) return NULL;
  double count = (double)elbo_tensor_dim(x, 1) * (double)elbo_tensor_dim(x, 2) * (double)elbo_tensor_dim(x, 3);
  elbo_tensor *running = log_width(l, p); // (1)
  elbo_tensor *log_sigma = running;
  if (l->training) {
    elbo_tensor *total = weight ? elbo_sum(elbo_mul(error, weight), ELBO_ALL_AXES, 0) : elbo_sum(error, ELBO_ALL_AXES, 0);
    elbo_tensor *rows = weight ? elbo_sum(weight, ELBO_ALL_AXES, 0) : elbo_constant(g, (double)elbo_tensor_dim(x, 0));
    elbo_tensor *mse = elbo_scale(elbo_div(total, rows), 1 / count, 1e-8);
    log_sigma = elbo_reshape(elbo_scale(elbo_log(mse), 0.5, 0), 1, (int64_t[]){1});
    // the running mean is of log sigma, over about a hundred steps; what is saved with a model is measured anew
    elbo_state_update(running, elbo_stop_gradient(elbo_add(elbo_scale(running, 0.99, 0), elbo_scale(log_sigma, 0.01, 0))));
  }
  elbo_tensor *fit = elbo_mul(elbo_scale(error, -0.5, 0), elbo_exp(elbo_scale(log_sigma, -2, 0)));
  return elbo_sub(fit, elbo_scale(log_sigma, count, count * HALF_LOG_2PI));
}

elbo_tensor *likelihood_log_prob(const likelihood *l, elbo_tensor *p, elbo_tensor *x, elbo_tensor *weight) {
  if (!p || !x) return NULL;
  switch ((likelihood_kind)l->kind) {
  case LIKELIHOOD_BERNOULLI: return elbo_sum_per_example(elbo_sub(elbo_mul(x, p), elbo_softplus(p)));
  case LIKELIHOOD_CONTINUOUS_BERNOULLI:
    return elbo_sum_per_example(elbo_add(elbo_sub(elbo_mul(x, p), elbo_softplus(p)), continuous_bernoulli_normaliser(p)));
  case LIKELIHOOD_GAUSSIAN:
    if (l->variance == WIDTH_OPTIMAL) return optimal_log_prob(l, p, x, weight);
    return elbo_sum_per_example(gaussian_log_density(x, location(l, p), log_width(l, p)));
  case LIKELIHOOD_LAPLACE: {
    elbo_tensor *w = log_width(l, p), *d = elbo_abs(elbo_sub(x, location(l, p)));
    return elbo_sum_per_example(elbo_sub(elbo_scale(elbo_mul(d, elbo_exp(elbo_neg(w))), -1, -log(2)), w));
  }
  case LIKELIHOOD_DISCRETIZED_LOGISTIC: return elbo_sum_per_example(discretized_logistic_log_prob(x, location(l, p), log_width(l, p)));
  case LIKELIHOOD_LOGISTIC_MIXTURE: return logistic_mixture_log_prob(l, p, x);
  case LIKELIHOOD_CATEGORICAL: return categorical_log_prob(l, p, x);
  }
  return NULL;
}

// 1/(1-e^-l) - 1/l, by its series around 0
static elbo_tensor *continuous_bernoulli_mean(elbo_tensor *l) {
  elbo_graph *g = elbo_tensor_graph(l);
  elbo_tensor *near = elbo_less(elbo_abs(l), elbo_constant(g, 0.3));
  elbo_tensor *safe = elbo_where(near, elbo_constant(g, 1), l);
  elbo_tensor *exact =
      elbo_sub(elbo_neg(elbo_reciprocal(elbo_expm1(elbo_neg(elbo_maximum(safe, elbo_constant(g, -80)))))), elbo_reciprocal(safe));
  elbo_tensor *c = elbo_clamp(l, -0.3, 0.3), *s = elbo_square(c);
  elbo_tensor *series = elbo_scale(elbo_mul(c, elbo_scale(elbo_mul(s, elbo_scale(s, 1.0 / 30240, -1.0 / 720)), 1, 1.0 / 12)), 1, 0.5);
  return elbo_where(near, series, exact);
}

elbo_tensor *likelihood_mean(const likelihood *l, elbo_tensor *p) {
  if (!p) return NULL;
  switch ((likelihood_kind)l->kind) {
  case LIKELIHOOD_BERNOULLI: return elbo_sigmoid(p);
  case LIKELIHOOD_CONTINUOUS_BERNOULLI: return continuous_bernoulli_mean(p);
  case LIKELIHOOD_GAUSSIAN:
  case LIKELIHOOD_LAPLACE: return location(l, p);
  case LIKELIHOOD_DISCRETIZED_LOGISTIC: return elbo_clamp(location(l, p), 0, 1);
  case LIKELIHOOD_LOGISTIC_MIXTURE: return logistic_mixture_mean(l, p);
  case LIKELIHOOD_CATEGORICAL: return categorical_mean(l, p);
  }
  return NULL;
}

elbo_tensor *likelihood_draw(const likelihood *l, elbo_tensor *p, const char *name) {
  if (!p) return NULL;
  elbo_graph *g = elbo_tensor_graph(p);
  int64_t dim[4] = {elbo_tensor_dim(p, 0), elbo_tensor_dim(p, 1), elbo_tensor_dim(p, 2), l->channels};
  switch ((likelihood_kind)l->kind) {
  case LIKELIHOOD_BERNOULLI: return elbo_less(elbo_random_uniform(g, name, 4, dim), elbo_sigmoid(p));
  case LIKELIHOOD_CONTINUOUS_BERNOULLI: {
    // x = log(1 + u (e^-a - 1)) / -a for a = |l|, mirrored where l > 0
    elbo_tensor *a = elbo_maximum(elbo_abs(p), elbo_constant(g, 1e-3));
    elbo_tensor *x = elbo_div(elbo_log1p(elbo_mul(elbo_random_uniform(g, name, 4, dim), elbo_expm1(elbo_neg(a)))), elbo_neg(a));
    return elbo_clamp(elbo_where(elbo_less(elbo_constant(g, 0), p), elbo_scale(x, -1, 1), x), 0, 1);
  }
  case LIKELIHOOD_GAUSSIAN: return elbo_add(location(l, p), elbo_mul(elbo_random_normal(g, name, 4, dim), elbo_exp(log_width(l, p))));
  case LIKELIHOOD_LAPLACE: {
    // -b sign(v) log(1 - 2|v|), v uniform in (-1/2, 1/2)
    elbo_tensor *v = elbo_scale(elbo_random_uniform(g, name, 4, dim), 0.9999999, -0.49999995);
    elbo_tensor *noise = elbo_mul(elbo_neg(elbo_sign(v)), elbo_log(elbo_scale(elbo_abs(v), -2, 1)));
    return elbo_add(location(l, p), elbo_mul(noise, elbo_exp(log_width(l, p))));
  }
  case LIKELIHOOD_DISCRETIZED_LOGISTIC: return discretized_logistic_draw(g, name, dim, location(l, p), log_width(l, p));
  case LIKELIHOOD_LOGISTIC_MIXTURE: return logistic_mixture_draw(l, p, name);
  case LIKELIHOOD_CATEGORICAL: return categorical_draw(l, p, name);
  }
  return NULL;
}
