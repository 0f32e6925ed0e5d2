// Posterior collapse and over-regularisation, noticed while a model trains.
#ifndef MODELS_COLLAPSE_WATCH_H
#define MODELS_COLLAPSE_WATCH_H

#include "models/estimate.h"

typedef struct collapse_watch {
  int bad_intervals;    // in a row
  int64_t next_warning; // step before which nothing is said again
  int warnings;         // said so far
} collapse_watch;

// One logging interval's averages (train_task.watch).
void collapse_watch_interval(collapse_watch *w, elbo_ctx *ctx, const vae_spec *spec, const objective_config *objective, int64_t step, int n,
                             const char *const *names, const int *counts, const double *const *values);
// Held-out codes: mutual information with its ceiling, active units, mismatch with the prior. Logged; warned about when out of hand.
elbo_status collapse_check_codes(collapse_watch *w, elbo_model *m, const elbo_array *x, const elbo_array *label, uint64_t seed,
                                 int64_t step);

#endif
