// The graphs of a VAE-GAN's training step: who is differentiated by what.
//
// With L_rec = -log p(x|z), in features, pixels or not at all, L_adv what deceives the adversary, and the adversary's own loss L_dis
// [Larsen16 algorithm 1], routing: split:
//   encoder  <-  beta KL + L_rec            decoder  <-  gamma L_rec + w L_adv            discriminator  <-  L_dis
// and routing: sum: encoder and decoder  <-  beta KL + gamma L_rec + w L_adv. An adversary of codes
// [Makhzani16] is deceived by the encoder alone, whatever the routing.
#ifndef MODELS_VAE_GAN_GRAPH_H
#define MODELS_VAE_GAN_GRAPH_H

#include "models/vae_gan_config.h"
#include "models/vae_graph.h"
#include "train/task.h"

// What a graph trains. Both at once costs one pass through the networks; each by itself is needed where the decoder may stand still.
typedef enum gan_part { GAN_AUTOENCODER, GAN_ENCODER, GAN_DECODER, GAN_DISCRIMINATOR } gan_part;

enum { GAN_METRICS = 10 };

typedef struct vae_gan_graph {
  elbo_graph *graph;
  elbo_tensor *loss;
  elbo_tensor *enable; // NULL: always
  int n_metrics;
  train_metric metric[GAN_METRICS];
} vae_gan_graph;

// Inputs: "x", "weight" (B), and scalars "beta", "adversarial" (the weight of L_adv; 0: the adversary is not there yet), "temperature" (1).
// On failure out->graph is NULL.
elbo_status vae_gan_graph_build(elbo_ctx *ctx, const vae_gan_spec *spec, gan_part part, int64_t batch, vae_gan_graph *out);

#endif
