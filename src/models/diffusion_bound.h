// What a diffusion model is worth on pictures: its bound in parts, and its exact likelihood by the probability flow. One value a picture,
// in double.
#ifndef MODELS_DIFFUSION_BOUND_H
#define MODELS_DIFFUSION_BOUND_H

#include "models/diffusion_model.h"

// The examples that are scored: x (n,H,W,C) float32, 0..1 for pictures.
typedef struct scored_examples {
  const elbo_array *x;
  const elbo_array *label; // int32 (n) or NULL
  int64_t n;
  uint64_t seed;
  elbo_progress_fn progress;
  void *user;
} scored_examples;

// The negative bound in nats: of all parts together in `total`.
typedef struct diffusion_bound {
  int64_t n, steps;                 // steps: of `each_step`
  double *total;                    // (n)
  double *prior, *middle, *decoder; // (n) KL to the prior; all terms between; -log p(x|z_0)
  double *draw_variance;            // (n) of `middle` over its draws, divided by their number; NULL where every term was summed
  double *each_step;                // (steps) mean over the examples of every term; NULL unless `all`
} diffusion_bound;
void diffusion_bound_free(diffusion_bound *b);

// all: every step of a discrete process is summed [Ho20 eq. 5]; else, and always for a continuous process, `draws` times spread evenly
// (stratified) over its length, each with noise of its own [Kingma21 eq. 15].
elbo_status diffusion_bound_estimate(elbo_model *m, const scored_examples *e, bool all, int draws, diffusion_bound *out);

// Squared error of epsilon, summed over the picture, of each example at times t (n): errors (n). Draws of noise by `seed`.
elbo_status diffusion_epsilon_errors(elbo_model *m, const scored_examples *e, const double *times, uint64_t seed, double *errors);

typedef struct ode_options {
  int draws;  // of Hutchinson's vector, and of dequantisation
  bool exact; // the trace itself, by one derivative for each number of an example
  double rtol, atol, t_min;
} ode_options;
// The time at which the flow begins: the process' own end, or where that has no noise at all, all but there.
double diffusion_ode_start(const process *p);
// -log p(x) in nats of each example by the probability flow [Song21 sec. 4.3]; 8-bit pictures are dequantised uniformly, and the value is
// then an upper bound on their discrete code length. log_p (n), variance over draws divided by their number (n; may be NULL).
elbo_status diffusion_ode_nll(elbo_model *m, const scored_examples *e, const ode_options *options, double *nll, double *variance,
                              int64_t *calls);

#endif
