#include "nn/spectral.h"

static elbo_tensor *unit(elbo_tensor *v) {
  elbo_tensor *length = elbo_sqrt(elbo_scale(elbo_sum(elbo_square(v), ELBO_ALL_AXES, 0), 1, 1e-24));
  return elbo_div(v, length);
}

elbo_tensor *spectral_value(elbo_tensor *weight, const char *name, bool trained) {
  if (!weight) return NULL;
  elbo_graph *g = elbo_tensor_graph(weight);
  int64_t rows = elbo_tensor_dim(weight, 0);
  elbo_tensor *state = elbo_parameter(g, name, 2, (int64_t[]){1, rows}, ELBO_PARAM_STATE, (elbo_init){ELBO_INIT_KIND_NORMAL, 1, 0});
  elbo_tensor *matrix = elbo_reshape(weight, 2, (int64_t[]){rows, -1}), *fixed = elbo_stop_gradient(matrix); // (O,N)
  elbo_tensor *u = unit(state);
  elbo_tensor *v = unit(elbo_matmul(u, fixed, 0, 0)); // (1,N)
  if (trained) {
    u = unit(elbo_matmul(v, fixed, 0, 1)); // (1,O)
    elbo_state_update(state, elbo_stop_gradient(u));
  }
  u = elbo_stop_gradient(u), v = elbo_stop_gradient(v);
  return elbo_sum(elbo_mul(elbo_matmul(v, matrix, 0, 1), u), ELBO_ALL_AXES, 0);
}
