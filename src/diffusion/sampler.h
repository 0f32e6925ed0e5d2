// Samplers: one table, one loop. A sampler moves a batch of states from noise to data by calling a network; it knows nothing of graphs,
// guidance or files. States are double; what they are of is `size` numbers a row.
#ifndef DIFFUSION_SAMPLER_H
#define DIFFUSION_SAMPLER_H

#include <elbo/context.h>

#include "diffusion/prediction.h"
#include "diffusion/process.h"
#include "diffusion/scheduler.h"

// The raw network on all rows: x (rows,size) in the scale that the network expects: alpha x0 + sigma epsilon of the process, but for
// PREDICT_EDM times c_in, and of unit-variance data [Karras22 table 1]. `timestep` as diffusers would pass it: the index of a discrete
// process, possibly fractional; c_noise = log(sigma)/4 of the EDM classes, sigma of ScoreSdeVe, 1000 t of the flow classes (all these by
// num_train_timesteps); for SCHEDULER_OWN on a continuous process its time t in [0,1], which the model turns into what its network is told.
// output (rows,out_size), out_size = size, or 2 size with a learned variance: prediction and variance of each row one behind the other.
typedef elbo_status (*network_fn)(void *user, const double *x, double timestep, double *output);
// Replaces the noise, for comparisons with other implementations: the draw-th (from 0) standard normals of the run, (rows,size).
typedef void (*noise_fn)(void *user, int64_t draw, double *out);
// Sees the state x (rows,size) after a step, for tests: alpha x0 + sigma epsilon, the solver's alpha and sigma being given (1 and the ratio
// where it works on x / alpha). It may replace the state by the exact one, so that a multistep solver starts from exact values, and then
// returns true: a corrector leaves that state alone.
typedef bool (*state_fn)(void *user, int step, double alpha, double sigma, double *x);

typedef struct sampler_request {
  const scheduler_config *scheduler; // sampler, its options, prediction, step spacing, thresholding
  const process *process;
  int64_t rows, size;
  int steps;                   // 0: what the scheduler says; network calls are more for methods of several stages
  uint64_t seed;               // noise of a stochastic step is Philox(seed; step, sample_index[row], element)
  const int64_t *sample_index; // (rows)
  network_fn network;
  void *user;
  elbo_progress_fn progress; // done and total in steps; may be NULL
  void *progress_user;
  noise_fn noise; // NULL: the house's
  state_fn state; // may be NULL
  void *hook_user;
} sampler_request;

// x (rows,size): unit-variance noise in (scaled by the sampler's first sigma as diffusers does), the solver's last state out.
elbo_status sampler_run(elbo_ctx *ctx, const sampler_request *request, double *x, int64_t *network_calls);
// The way back of DDIM without fresh noise, by the same nodes [Song21ddim sec. 4.3]: data in, out the unit-variance noise from which
// sampler_run leads to them, up to an error that falls with the steps. Other samplers are refused. x0 is not clipped.
elbo_status sampler_reverse(elbo_ctx *ctx, const sampler_request *request, double *x, int64_t *network_calls);
// How many network calls a run will take; rk45, whose steps depend on what it sees, gives 0. Fails as sampler_run does on bad steps.
elbo_status sampler_calls(elbo_ctx *ctx, const scheduler_config *scheduler, const process *p, int steps, int64_t *out);

#endif
