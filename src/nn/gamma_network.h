// VDM's learned noise schedule: gamma(t) = -log SNR(t), a monotone network between two learned ends [Kingma21 appendix H].
//   gamma~(t) = l1(t) + l3(sigmoid(l2(l1(t)))), all weights positive;  gamma = gamma_0 + (gamma_1 - gamma_0) (gamma~(t) - gamma~(0)) /
//   (gamma~(1) - gamma~(0))
#ifndef NN_GAMMA_NETWORK_H
#define NN_GAMMA_NETWORK_H

#include <elbo/ops.h>

#include "core/config.h"

typedef struct gamma_config {
  int64_t hidden;
  double logsnr_min, logsnr_max; // where the ends begin: gamma_1 = -logsnr_min, gamma_0 = -logsnr_max
  bool learn_ends;               // false: they stay there
} gamma_config;
extern const config_table gamma_table;

elbo_status gamma_config_check(elbo_ctx *ctx, const gamma_config *c, const char *where);

// t (B) in 0..1 -> (B). Parameters "l1.weight", "l1.bias", "l2.weight", "l2.bias", "l3.weight", "gamma_0", "gamma_1" in the present scope;
// positive are softplus(weight). Differentiable twice, to t (dgamma/dt of every example: elbo_gradient of the result) and to parameters.
elbo_tensor *gamma_network(elbo_graph *graph, const gamma_config *c, elbo_tensor *t);

// The same and its derivative in double from a store's parameters, `prefix` ("gamma." or "") in front of their names. Fails when they are
// not there or the ends have crossed.
elbo_status gamma_network_host(const elbo_store *store, const char *prefix, double t, double *gamma, double *dgamma);

#endif
