#include "nn/likelihood_discrete.h"

#include <assert.h>
#include <math.h>

#define MAX_CHANNELS 4

static elbo_tensor *scalar_like(elbo_tensor *x, double value) { return x ? elbo_constant(elbo_tensor_graph(x), value) : NULL; }

// The nearest level, as float
static elbo_tensor *to_level(elbo_tensor *x) {
  elbo_tensor *i = elbo_cast(elbo_scale(elbo_clamp(x, 0, 1), 255, 0.5), ELBO_I32);
  return elbo_scale(elbo_minimum(elbo_cast(i, ELBO_F32), scalar_like(x, 255)), 1.0 / 255, 0);
}

// With a and b the standardised upper and lower end of the level's interval, sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - e^(b-a))
// holds exactly and each factor's logarithm is stable, so no threshold between cdf and pdf is needed; the ends drop the factors that the
// tails make 1.
elbo_tensor *discretized_logistic_log_prob(elbo_tensor *x, elbo_tensor *m, elbo_tensor *log_s) {
  elbo_tensor *inverse = elbo_exp(elbo_neg(log_s)), *centre = elbo_sub(x, m);
  elbo_tensor *a = elbo_mul(inverse, elbo_scale(centre, 1, 0.5 / 255)), *b = elbo_mul(inverse, elbo_scale(centre, 1, -0.5 / 255));
  elbo_tensor *width = elbo_log(elbo_neg(elbo_expm1(elbo_scale(inverse, -1.0 / 255, 0))));
  elbo_tensor *first = elbo_less(x, scalar_like(x, 0.5 / 255)), *last = elbo_less(scalar_like(x, 254.5 / 255), x);
  elbo_tensor *zero = scalar_like(x, 0);
  elbo_tensor *upper = elbo_where(last, zero, elbo_softplus(elbo_neg(a))), *lower = elbo_where(first, zero, elbo_softplus(b));
  elbo_tensor *inner = elbo_where(elbo_maximum(first, last), zero, width);
  return elbo_sub(elbo_sub(inner, upper), lower);
}

static elbo_tensor *logistic_noise(elbo_tensor *u) {
  u = elbo_scale(u, 1 - 2e-5, 1e-5);
  return elbo_sub(elbo_log(u), elbo_log(elbo_scale(u, -1, 1)));
}

elbo_tensor *discretized_logistic_draw(elbo_graph *g, const char *name, const int64_t dim[4], elbo_tensor *m, elbo_tensor *log_s) {
  elbo_tensor *noise = logistic_noise(elbo_random_uniform(g, name, 4, dim));
  return to_level(elbo_add(m, elbo_mul(noise, elbo_exp(log_s))));
}

elbo_tensor *choose_one(elbo_tensor *probability, elbo_tensor *uniform) {
  if (!probability || !uniform) return NULL;
  elbo_graph *g = elbo_tensor_graph(probability);
  int64_t k = elbo_tensor_dim(probability, -1);
  // The sum of the probabilities before each component, to which the last one's round-off cannot reach: a product with the strict lower
  // triangle, made by comparing indices.
  float index[1024];
  assert(k <= 1024);
  for (int64_t i = 0; i < k; i++) index[i] = (float)i;
  elbo_tensor *column = elbo_constant_array(g, 2, (int64_t[]){k, 1}, index), *row = elbo_constant_array(g, 2, (int64_t[]){1, k}, index);
  elbo_tensor *before = elbo_linear(probability, elbo_less(row, column), NULL);
  elbo_tensor *reached =
      elbo_where(elbo_less(uniform, before), scalar_like(before, 0), scalar_like(before, 1)); // before <= u: 1,1,..,1,0,0
  int axis = elbo_tensor_rank(probability) - 1;
  elbo_tensor *next = elbo_pad(elbo_slice(reached, axis, 1, k), axis, 0, 1);
  return elbo_sub(reached, next);
}

// --- mixture of discretised logistics [Salimans17] ---------------------------------------------------------------------------------
// Per pixel: K logits; per channel K locations and K log-scales; for each channel c and each before it K coefficients: the location of
// channel c is moved by tanh(coefficient) times the value of the earlier channel.

typedef struct mixture_parts {
  elbo_tensor *logit;                                        // (R,H,W,K)
  elbo_tensor *location[MAX_CHANNELS], *log_s[MAX_CHANNELS]; // in units of x
  elbo_tensor *couple[MAX_CHANNELS][MAX_CHANNELS];           // [c][j], j < c
} mixture_parts;

static mixture_parts split_parts(const likelihood *l, elbo_tensor *p) {
  mixture_parts m = {0};
  int64_t k = l->mixtures, at = 0;
  int axis = elbo_tensor_rank(p) - 1, channels = (int)l->channels;
  m.logit = elbo_slice(p, axis, at, at + k), at += k;
  for (int c = 0; c < channels; c++, at += k) m.location[c] = elbo_scale(elbo_slice(p, axis, at, at + k), 0.5, 0.5);
  // scales in units of x in 0..1: the least, e^-7 / 2, is a ninth of a level
  for (int c = 0; c < channels; c++, at += k)
    m.log_s[c] = elbo_scale(elbo_maximum(elbo_slice(p, axis, at, at + k), scalar_like(p, -7)), 1, -log(2));
  for (int c = 1; c < channels; c++)
    for (int j = 0; j < c; j++, at += k) m.couple[c][j] = elbo_tanh(elbo_slice(p, axis, at, at + k));
  return m;
}

// Coupled location of channel c given the earlier channels' values (R,H,W,1 or K), which enter centred
static elbo_tensor *coupled(const mixture_parts *m, int c, elbo_tensor *const *value) {
  elbo_tensor *at = m->location[c];
  for (int j = 0; j < c; j++) at = elbo_add(at, elbo_mul(m->couple[c][j], elbo_scale(value[j], 1, -0.5)));
  return at;
}

elbo_tensor *logistic_mixture_log_prob(const likelihood *l, elbo_tensor *p, elbo_tensor *x) {
  if (!p || !x || l->channels > MAX_CHANNELS) return NULL;
  int axis = elbo_tensor_rank(p) - 1;
  mixture_parts m = split_parts(l, p);
  elbo_tensor *value[MAX_CHANNELS], *total = m.logit;
  for (int c = 0; c < (int)l->channels; c++) {
    value[c] = elbo_slice(x, axis, c, c + 1);
    total = elbo_add(total, discretized_logistic_log_prob(value[c], coupled(&m, c, value), m.log_s[c]));
  }
  unsigned last = 1u << axis;
  return elbo_sum_per_example(elbo_sub(elbo_logsumexp(total, last, 1), elbo_logsumexp(m.logit, last, 1)));
}

elbo_tensor *logistic_mixture_centred(const likelihood *l, elbo_tensor *p, elbo_tensor *x, double width) {
  if (!p || !x || l->channels > MAX_CHANNELS) return NULL;
  elbo_graph *g = elbo_tensor_graph(p);
  int64_t k = l->mixtures, channels = l->channels;
  int axis = elbo_tensor_rank(p) - 1, n = 0;
  mixture_parts m = split_parts(l, p);
  elbo_tensor *part[3 + MAX_CHANNELS], *value[MAX_CHANNELS];
  part[n++] = m.logit;
  for (int c = 0; c < (int)channels; c++) {
    // what coupled() will add for the earlier channels at x is taken off
    elbo_tensor *at = value[c] = elbo_slice(x, axis, c, c + 1);
    at = elbo_scale(at, 1, -0.5);
    for (int j = 0; j < c; j++) at = elbo_sub(at, elbo_mul(m.couple[c][j], elbo_scale(value[j], 1, -0.5)));
    part[n++] = elbo_add(elbo_slice(p, axis, k * (1 + c), k * (2 + c)), elbo_scale(at, 2, 0)); // a location is half the decoder's number
  }
  // equal components would stay equal: their scales begin a factor e^(1/2) apart
  float start[1024];
  assert(k * channels <= 1024);
  for (int64_t i = 0; i < k * channels; i++) start[i] = (float)(log(2 * width) + 0.5 * (double)(i % k) - 0.25 * (double)(k - 1));
  elbo_tensor *widths = elbo_slice(p, axis, k * (1 + channels), k * (1 + 2 * channels));
  part[n++] = elbo_add(widths, elbo_constant_array(g, 1, (int64_t[]){k * channels}, start));
  if (channels > 1) part[n++] = elbo_slice(p, axis, k * (1 + 2 * channels), likelihood_width(l));
  return elbo_concat(n, part, axis);
}

// Locations of the components, channel by channel with the earlier channels at theirs, weighted
elbo_tensor *logistic_mixture_mean(const likelihood *l, elbo_tensor *p) {
  if (!p || l->channels > MAX_CHANNELS) return NULL;
  int axis = elbo_tensor_rank(p) - 1;
  mixture_parts m = split_parts(l, p);
  elbo_tensor *value[MAX_CHANNELS], *weight = elbo_softmax(m.logit), *out[MAX_CHANNELS];
  for (int c = 0; c < (int)l->channels; c++) {
    value[c] = elbo_clamp(coupled(&m, c, value), 0, 1);
    out[c] = elbo_sum(elbo_mul(weight, value[c]), 1u << axis, 1);
  }
  return l->channels == 1 ? out[0] : elbo_concat((int)l->channels, out, axis);
}

elbo_tensor *logistic_mixture_draw(const likelihood *l, elbo_tensor *p, const char *name) {
  if (!p || l->channels > MAX_CHANNELS) return NULL;
  elbo_graph *g = elbo_tensor_graph(p);
  int axis = elbo_tensor_rank(p) - 1;
  mixture_parts m = split_parts(l, p);
  int64_t dim[4] = {elbo_tensor_dim(p, 0), elbo_tensor_dim(p, 1), elbo_tensor_dim(p, 2), 1 + l->channels};
  elbo_tensor *u = elbo_random_uniform(g, name, 4, dim); // one for the component, one for each channel
  elbo_tensor *one = choose_one(elbo_softmax(m.logit), elbo_slice(u, axis, 0, 1));
  elbo_tensor *value[MAX_CHANNELS];
  for (int c = 0; c < (int)l->channels; c++) {
    elbo_tensor *at = elbo_sum(elbo_mul(one, coupled(&m, c, value)), 1u << axis, 1);
    elbo_tensor *log_s = elbo_sum(elbo_mul(one, m.log_s[c]), 1u << axis, 1);
    value[c] = to_level(elbo_add(at, elbo_mul(logistic_noise(elbo_slice(u, axis, c + 1, c + 2)), elbo_exp(log_s))));
  }
  return l->channels == 1 ? value[0] : elbo_concat((int)l->channels, value, axis);
}

// --- 256 free levels ---------------------------------------------------------------------------------------------------------------

static elbo_tensor *level_logits(const likelihood *l, elbo_tensor *p) {
  return elbo_reshape(p, 5, (int64_t[]){elbo_tensor_dim(p, 0), elbo_tensor_dim(p, 1), elbo_tensor_dim(p, 2), l->channels, 256});
}

static elbo_tensor *levels(elbo_graph *g) {
  float at[256];
  for (int i = 0; i < 256; i++) at[i] = (float)i / 255.0f;
  return elbo_constant_array(g, 1, (int64_t[]){256}, at);
}

elbo_tensor *categorical_log_prob(const likelihood *l, elbo_tensor *p, elbo_tensor *x) {
  if (!p || !x) return NULL;
  elbo_tensor *logit = level_logits(l, p);
  elbo_tensor *value = elbo_reshape(x, 5, (int64_t[]){elbo_tensor_dim(p, 0), elbo_tensor_dim(p, 1), elbo_tensor_dim(p, 2), l->channels, 1});
  elbo_tensor *here = elbo_less(elbo_abs(elbo_sub(value, levels(elbo_tensor_graph(p)))), scalar_like(p, 0.5 / 255)); // one-hot
  elbo_tensor *chosen = elbo_sum(elbo_mul(here, logit), 1u << 4, 0);
  return elbo_sum_per_example(elbo_sub(chosen, elbo_logsumexp(logit, 1u << 4, 0)));
}

elbo_tensor *categorical_mean(const likelihood *l, elbo_tensor *p) {
  if (!p) return NULL;
  return elbo_sum(elbo_mul(elbo_softmax(level_logits(l, p)), levels(elbo_tensor_graph(p))), 1u << 4, 0);
}

elbo_tensor *categorical_draw(const likelihood *l, elbo_tensor *p, const char *name) {
  if (!p) return NULL;
  elbo_graph *g = elbo_tensor_graph(p);
  int64_t dim[5] = {elbo_tensor_dim(p, 0), elbo_tensor_dim(p, 1), elbo_tensor_dim(p, 2), l->channels, 1};
  elbo_tensor *one = choose_one(elbo_softmax(level_logits(l, p)), elbo_random_uniform(g, name, 5, dim));
  return elbo_sum(elbo_mul(one, levels(g)), 1u << 4, 0);
}
