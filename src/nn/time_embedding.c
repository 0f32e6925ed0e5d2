#include "nn/time_embedding.h"

#include <math.h>
#include <stdlib.h>

#include "backend/node.h"

static elbo_tensor *sine_and_cosine(elbo_tensor *angle, bool cosine_first) {
  elbo_tensor *sine = elbo_sin(angle), *cosine = elbo_cos(angle);
  return elbo_concat(2, cosine_first ? (elbo_tensor *[]){cosine, sine} : (elbo_tensor *[]){sine, cosine}, 1);
}

static elbo_tensor *as_column(elbo_tensor *t) { return t ? elbo_reshape(t, 2, (int64_t[]){elbo_tensor_dim(t, 0), 1}) : NULL; }

elbo_tensor *sinusoid_embedding(elbo_tensor *t, const sinusoid_config *c) {
  if (!t) return NULL;
  elbo_graph *g = elbo_tensor_graph(t);
  int64_t half = c->width / 2;
  if (half < 1 || !((double)half != c->freq_shift))
    return graph_fail(g, ELBO_ERROR_ARGUMENT, "a time embedding of width %lld with frequency shift %g", (long long)c->width, c->freq_shift);
  float *frequency = malloc((size_t)half * sizeof *frequency);
  if (!frequency) return graph_fail(g, ELBO_ERROR_MEMORY, "out of memory for frequencies");
  // In single precision as the networks were trained with: at t = 1000 one rounding of a frequency is a ten-thousandth of a radian.
  float period = (float)-log(c->max_period > 0 ? c->max_period : 10000);
  for (int64_t i = 0; i < half; i++) frequency[i] = expf(period * (float)i / (float)((double)half - c->freq_shift));
  elbo_tensor *w = elbo_constant_array(g, 2, (int64_t[]){1, half}, frequency);
  free(frequency);
  elbo_tensor *e = sine_and_cosine(elbo_mul(as_column(t), w), c->cosine_first);
  return c->width % 2 ? elbo_pad(e, 1, 0, 1) : e;
}

elbo_tensor *fourier_features(elbo_tensor *t, elbo_tensor *w, bool cosine_first) {
  if (!t || !w) return NULL;
  elbo_tensor *angle = elbo_mul(as_column(t), elbo_reshape(w, 2, (int64_t[]){1, elbo_tensor_dim(w, 0)}));
  return sine_and_cosine(elbo_scale(angle, 6.283185307179586, 0), cosine_first);
}

elbo_tensor *fourier_embedding(elbo_tensor *t, const char *name, int64_t half, double scale, bool cosine_first) {
  if (!t) return NULL;
  elbo_graph *g = elbo_tensor_graph(t);
  elbo_scope_push(g, name);
  elbo_tensor *w = elbo_parameter(g, "weight", 1, &half, ELBO_PARAM_FROZEN, (elbo_init){ELBO_INIT_KIND_NORMAL, scale, 0});
  elbo_scope_pop(g);
  return fourier_features(t, w, cosine_first);
}

elbo_tensor *embedding_network(elbo_tensor *x, const char *name, int64_t width, int activation, elbo_tensor *condition) {
  if (!x) return NULL;
  elbo_graph *g = elbo_tensor_graph(x);
  elbo_scope_push(g, name);
  if (condition) x = elbo_add(x, linear_layer_unbiased(condition, "cond_proj", elbo_tensor_dim(x, -1)));
  x = linear_layer(activate(linear_layer(x, "linear_1", width, 1), activation), "linear_2", width, 1);
  elbo_scope_pop(g);
  return x;
}
