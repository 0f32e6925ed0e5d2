// The graphs of a variational autoencoder: how encoder, latent code, prior and decoder are put together for training, scoring, drawing.
//
// Rows: a batch of B examples with K draws each is R = B K rows; row b K + k is draw k of example b.
#ifndef MODELS_VAE_GRAPH_H
#define MODELS_VAE_GRAPH_H

#include "models/vae_config.h"

typedef enum latent_mode {
  LATENT_POSTERIOR, // z drawn from q(z|x)
  LATENT_MEAN,      // z the mean of q, group by group
  LATENT_PRIOR,     // z drawn from p(z), standard deviations times input "temperature"
  LATENT_GIVEN      // z read from input "codes" (B, code size)
} latent_mode;

typedef struct latent_request {
  const vae_spec *spec;
  elbo_graph *graph;
  int64_t batch;   // B
  int64_t samples; // K; 1 for all but LATENT_POSTERIOR
  latent_mode mode;
  bool training;
  bool leaf; // z enters everything behind it as a leaf with the gradient cut (DReG)
} latent_request;

typedef struct latent_group {
  elbo_tensor *mean, *log_std;             // of q, (R,D_g); NULL in LATENT_PRIOR and LATENT_GIVEN. A flat code: (B,D_g), before repetition
  elbo_tensor *prior_mean, *prior_log_std; // (R,D_g) or broadcastable; NULL: not a Gaussian
  elbo_tensor *z;                          // (R,D_g)
  elbo_tensor *kl; // (R or B,D_g) elementwise KL(q||p) in closed form; NULL without q or where p is a mixture: see vae_latents.kl
} latent_group;

typedef struct vae_latents {
  int n;
  latent_group group[MAX_GROUPS];
  elbo_tensor *z;     // (R, code size), groups one behind the other
  elbo_tensor *drawn; // z before the cut of latent_request.leaf; otherwise z
  elbo_tensor *log_p; // (R) log p(z) of the drawn z
  elbo_tensor *log_q; // (R) log q(z|x); NULL without q
  elbo_tensor
      *kl; // (B): in closed form where there is one (a top-down model: given the draws above, averaged over K), else mean of log_q - log_p
  elbo_tensor *output; // (R,H,W,width) of the likelihood
} vae_latents;

// Inputs that the graph of a spec reads: "x" (B,H,W,C), with a class condition "label" int32 (B), with a vector "condition" (B,dim).
elbo_tensor *vae_input_x(const vae_spec *spec, elbo_graph *g, int64_t batch);

// Builds everything from the inputs to the likelihood's parameters. Zeroed after an error, which the graph keeps.
vae_latents vae_latent_pass(const latent_request *request);
// The means, or the standard deviations, of all groups side by side: (B,code). NULL after an error.
elbo_tensor *vae_posterior(const vae_latents *z, bool std);

// --- shared by vae_graph.c, vae_latent.c and top_down.c ---
typedef struct latent_parts { // of one pass
  const latent_request *request;
  elbo_tensor *x;
  elbo_tensor *condition;     // (B,E) or NULL
  elbo_tensor *row_condition; // (R,E) or NULL
} latent_parts;
// log p(z) of a flat code under the configured prior, (R,D) -> (R); fills group->prior_*
elbo_tensor *prior_log_density(const latent_parts *parts, elbo_tensor *z, latent_group *group);
elbo_tensor *prior_draw(const latent_parts *parts);
// q(z|x) of a flat code: (B,D) each. Without `training` nothing is dropped.
void flat_posterior(const latent_parts *parts, elbo_tensor *x, elbo_tensor *condition, bool training, elbo_tensor **mean,
                    elbo_tensor **log_std);
// Elementwise KL between two Gaussians given by means and log standard deviations.
elbo_tensor *gaussian_kl(elbo_tensor *mean, elbo_tensor *log_std, elbo_tensor *prior_mean, elbo_tensor *prior_log_std);
vae_latents top_down_pass(const latent_parts *parts);

// --- training ---
typedef struct vae_training_graph {
  elbo_graph *graph;
  elbo_tensor *loss;
  int n_metrics;
  const char *metric_name[12];
  const char *metric_unit[12];
  elbo_tensor *metric[12];
  bool metric_quiet[12];
} vae_training_graph;
// Inputs: those of the spec, "weight" (B), "beta", and where the objective says so "capacity". n_data: training examples (for tc).
elbo_status vae_training_build(elbo_ctx *ctx, const vae_spec *spec, const objective_config *objective, int64_t batch, int64_t n_data,
                               vae_training_graph *out);

#endif
