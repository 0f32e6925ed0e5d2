// The graph of an autoencoder's training step [Rombach22 app. G; Oord17 eq. 3]. All terms are per number of the picture, D of them:
//
//   loss = d(x, y) + w_KL KL(q(z|x) || N(0, I)) / D                   AutoencoderKL
//   loss = d(x, y) + what pulls the codes and their table together    VQModel
//   loss = d(x, y)                                                    AutoencoderTiny
#ifndef MODELS_AUTOENCODER_TRAINING_H
#define MODELS_AUTOENCODER_TRAINING_H

#include "models/autoencoder_config.h"
#include "nn/vector_quantizer.h"
#include "train/task.h"

enum { AUTOENCODER_METRICS = 12 };

// A batch through both sides.
typedef struct autoencoder_pass {
  elbo_tensor *x, *y;         // (B,H,W,C) in -1..1: input "x" so scaled, and what is made of it
  elbo_tensor *mean, *logvar; // (B,h,w,c); logvar of AutoencoderKL alone
  elbo_tensor *z;             // (B,h,w,c): what is decoded
  elbo_tensor *table;         // (V,c) of VQModel
  quantized quantized;        // the same
  elbo_tensor *error;         // (B) distance, the mean over the picture
  elbo_tensor *kl;            // (B,h,w,c) nats, of AutoencoderKL
} autoencoder_pass;
// draw: z is drawn from q(z|x), from inputs "seed" and "sample_index"; otherwise its mean. Zeroed after an error, which the graph keeps.
autoencoder_pass autoencoder_forward(const autoencoder_spec *spec, elbo_graph *g, int64_t batch, bool draw);

// State parameters of a VQModel's training: (V) steps since each code was last taken; (1) how many were put elsewhere so far.
#define CODE_AGE "objective.code_age"
#define CODE_RESTARTS "objective.code_restarts"

typedef struct autoencoder_training {
  elbo_graph *graph;
  elbo_tensor *loss;
  elbo_tensor *observed; // of a VQModel whose dead codes are restarted: (B,h,w,c+1) each place before the table, and the code it takes
  int n_metrics;
  train_metric metric[AUTOENCODER_METRICS];
} autoencoder_training;
// Inputs: "x", "weight" (B), and those of draws. On failure out->graph is NULL.
elbo_status autoencoder_training_build(elbo_ctx *ctx, const autoencoder_spec *spec, int64_t batch, autoencoder_training *out);

#endif
