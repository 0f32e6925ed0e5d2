// Samplers: one table, one loop. A sampler moves a batch of states from noise to data by calling a network; it knows nothing of graphs,
// guidance or files. States are double; what they are of is `size` numbers a row.
#ifndef DIFFUSION_SAMPLER_H
#define DIFFUSION_SAMPLER_H

#include <elbo/context.h>

#include "diffusion/prediction.h"
#include "diffusion/process.h"
#include "diffusion/scheduler.h"

// The raw network on all rows: x (rows,size) in the scale that the network expects; `timestep` as diffusers would pass it (the index of a
// discrete process, possibly fractional; of a continuous process its time t in [0,1], which the model turns into what its network is told);
// output (rows,out_size), out_size = size, or 2 size with a learned variance: prediction and variance of each row one behind the other.
typedef elbo_status (*network_fn)(void *user, const double *x, double timestep, double *output);

typedef struct sampler_request {
  const scheduler_config *scheduler; // sampler, its options, prediction, step spacing, thresholding
  const process *process;
  int64_t rows, size;
  int steps;                   // network calls are a multiple of this for methods of several stages
  uint64_t seed;               // noise of a stochastic step is Philox(seed; step, sample_index[row], element)
  const int64_t *sample_index; // (rows)
  network_fn network;
  void *user;
  elbo_progress_fn progress; // done and total in steps; may be NULL
  void *progress_user;
} sampler_request;

// x (rows,size): unit-variance noise in (scaled by the sampler's first sigma as diffusers does), the solver's last state out.
elbo_status sampler_run(elbo_ctx *ctx, const sampler_request *request, double *x, int64_t *network_calls);

#endif
