// The graph of an autoencoder's training step [Rombach22 app. G; Oord17 eq. 3]. All terms are per number of the picture, D of them:
//
//   loss = d(x, y) + w_KL KL(q(z|x) || N(0, I)) / D                   AutoencoderKL
//   loss = d(x, y) + what pulls the codes and their table together    VQModel
//   loss = d(x, y)                                                    AutoencoderTiny
//
// and with an adversary + w lambda L_adv, lambda = |dL_rec/dW| / (|dL_adv/dW| + 1e-4) at the weight W of the decoder's last convolution,
// L_rec the distance d, which may have a perceptual one in it (models/perceptual.h) [Esser21 eq. 7; Rombach22 app. G].
#ifndef MODELS_AUTOENCODER_TRAINING_H
#define MODELS_AUTOENCODER_TRAINING_H

#include "models/autoencoder_config.h"
#include "models/perceptual.h"
#include "nn/vector_quantizer.h"
#include "train/task.h"

enum { AUTOENCODER_METRICS = 16 };

// A batch through both sides.
typedef struct autoencoder_pass {
  elbo_tensor *x, *y;         // (B,H,W,C) in -1..1: input "x" so scaled, and what is made of it
  elbo_tensor *mean, *logvar; // (B,h,w,c); logvar of AutoencoderKL alone
  elbo_tensor *z;             // (B,h,w,c): what is decoded
  elbo_tensor *table;         // (V,c) of VQModel
  quantized quantized;        // the same
  elbo_tensor *error;         // (B) distance, the mean over the picture
  elbo_tensor *kl;            // (B,h,w,c) nats, of AutoencoderKL
  elbo_tensor *last;          // weight of the decoder's last convolution
} autoencoder_pass;
// draw: z is drawn from q(z|x), from inputs "seed" and "sample_index"; otherwise its mean. Zeroed after an error, which the graph keeps.
autoencoder_pass autoencoder_forward(const autoencoder_spec *spec, elbo_graph *g, int64_t batch, bool draw);

// State parameters of a VQModel's training: (V) steps since each code was last taken; (1) how many were put elsewhere so far.
#define CODE_AGE "objective.code_age"
#define CODE_RESTARTS "objective.code_restarts"

typedef struct autoencoder_training {
  elbo_graph *graph;
  elbo_tensor *loss;
  elbo_tensor *enable;   // of the adversary's graph: whether it trains; NULL: always
  elbo_tensor *observed; // of a VQModel whose dead codes are restarted: (B,h,w,c+1) each place before the table, and the code it takes
  int n_metrics;
  train_metric metric[AUTOENCODER_METRICS];
} autoencoder_training;
// Inputs: "x", "weight" (B), those of draws, and with an adversary the scalar "adversarial": its weight, 0 before it is there. On failure
// out->graph is NULL.
// features: for the perceptual distance; NULL: there is none.
elbo_status autoencoder_training_build(elbo_ctx *ctx, const autoencoder_spec *spec, const perceptual *features, int64_t batch,
                                       autoencoder_training *out);
// The adversary's own step: parameters "discriminator.…"
elbo_status autoencoder_adversary_build(elbo_ctx *ctx, const autoencoder_spec *spec, int64_t batch, autoencoder_training *out);

// --- shared by autoencoder_training.c and autoencoder_adversary.c ---
typedef struct autoencoder_terms {
  const autoencoder_spec *spec;
  const perceptual *features;
  elbo_graph *g;
  int64_t batch;
  autoencoder_pass pass;
  elbo_tensor *weight, *total; // (B), scalar: their sum
  autoencoder_training *out;
} autoencoder_terms;
// (B,...) -> scalar: the mean of each example, weighed
elbo_tensor *autoencoder_mean(const autoencoder_terms *t, elbo_tensor *each);
void autoencoder_metric(autoencoder_terms *t, const char *name, const char *unit, elbo_tensor *value, bool quiet);
// Rec and what deceives the adversary, weighed, as one scalar
elbo_tensor *autoencoder_deceive(autoencoder_terms *t, elbo_tensor *rec);

#endif
