// The graphs of an LSGM: a training step, and the terms of its bound.
//
// The cross entropy of codes z ~ q(z|x) and the prior, in nats, by denoising [Vahdat21 theorem 1], here as a bound that leaves nothing out:
// with z_t = alpha z + sigma epsilon the prior draws z_1 ~ N(0, I), follows the reverse process to z_0 and gives z ~ N(z_0 / alpha_0,
// sigma_0^2 / alpha_0^2), so that [Kingma21 eq. 11, 15]
//
//   -E[log p(z)]  <=  KL(q(z_1|z) || N(0, I))  +  E_{t,epsilon}[ w_ll(t) / 2 |epsilon - epsilon_theta(z_t, t)|^2 ]
//                     +  D / 2 log(2 pi e sigma_0^2 / alpha_0^2)
//
// A network that says N(0, I), epsilon_theta = sigma z_t, has these three in closed form (normal_prior). So what is estimated is the
// difference alone, w_ll / 2 (|epsilon - epsilon_theta|^2 - |epsilon - sigma z_t|^2), at a fraction of the variance of the sum, which is
// mostly that of |epsilon|^2; the same holds for what the encoder is told.
//
// Who is trained by what:
//   encoder  <-  -log p(x|z) + beta (this - entropy of q)        decoder  <-  -log p(x|z)
//   (of a top-down model the decoder's groups place the codes, and it has the encoder's terms)
//   network of the prior, mixing  <-  the second term with its own weighting w
// z enters the network as a leaf. What the second term says of that leaf goes on to the encoder: with one time for both, w_ll / w times
// what the network's loss says, row by row; with times of their own, from a second call whose own gradient ends there.
#ifndef MODELS_LSGM_GRAPH_H
#define MODELS_LSGM_GRAPH_H

#include "models/lsgm_config.h"
#include "models/vae_graph.h"
#include "train/task.h"

enum { LSGM_METRICS = 14 };

// The bound with a network that says N(0, I): square z^2 + constant, nats for each number z of a code. Its integral over log-SNR is that of
// every variance-preserving process between the same ends.
typedef struct normal_prior {
  double square, constant;
} normal_prior;
normal_prior lsgm_normal_prior(const process *p);

// Squared errors of epsilon, (R,D), R = batch * samples: the network's at the code `leaf` and those of N(0, I) at `code`, equal in value.
typedef struct lsgm_error {
  elbo_tensor *network, *normal;
} lsgm_error;
// Noise is drawn under the name "PREFIX.epsilon"; inputs (R): "PREFIX.alpha", "PREFIX.sigma", "PREFIX.time", "PREFIX.epsilon_of_state",
// "PREFIX.epsilon_of_output", which lsgm_fill knows. Zeroed after an error.
lsgm_error lsgm_errors(const lsgm_spec *spec, elbo_graph *g, int64_t batch, int64_t samples, elbo_tensor *leaf, elbo_tensor *code,
                       const char *prefix, bool training);
// The value of such an input, by its name behind the prefix, at time t; false: not one of them.
bool lsgm_fill(const lsgm_spec *spec, const process *p, double t, const char *name, float *value);
// Entropy of q of each number of a code, (R,D), all groups side by side.
elbo_tensor *lsgm_entropies(const vae_latents *z);

typedef struct lsgm_training_graph {
  elbo_graph *graph;
  elbo_tensor *loss; // its value is the negative bound under beta
  int n_metrics;
  train_metric metric[LSGM_METRICS];
} lsgm_training_graph;
// Inputs: "x", "weight", "beta", those of lsgm_errors with prefix "score", with times of their own also with prefix "bound", and
// "score.weight", "bound.weight" (B): half the weighting over the density of the time. On failure out->graph is NULL.
elbo_status lsgm_training_build(elbo_ctx *ctx, const lsgm_spec *spec, const lsgm_objective *objective, const process *p, int64_t batch,
                                lsgm_training_graph *out);
// Whether encoder and network have times of their own.
bool lsgm_separate(const lsgm_objective *objective);

#endif
