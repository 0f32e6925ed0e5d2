// What every diffusion network is to its users: a function of a noisy state, the time and what it is conditioned on.
#ifndef NN_DENOISER_H
#define NN_DENOISER_H

#include <stdbool.h>

#include <elbo/ops.h>

// The inputs of one call. Tensors that a network has no use for are NULL; a network given what it cannot use, or lacking what it needs, is
// a graph error that names the input.
typedef struct denoiser_inputs {
  elbo_graph *graph;
  elbo_tensor *sample;       // (B,H,W,C)
  elbo_tensor *timestep;     // (B) float32: the time in the form that the network is told (an index, log-SNR, ...)
  elbo_tensor *class_labels; // int32 (B), or float32 (B,E) where the network projects a vector; NULL
  elbo_tensor *context;      // encoder_hidden_states (B,N,D); NULL
  bool training;             // dropout is on
} denoiser_inputs;

#endif
