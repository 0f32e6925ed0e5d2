// An adversary that has won, or that learns nothing, noticed while a model trains.
#ifndef MODELS_GAN_WATCH_H
#define MODELS_GAN_WATCH_H

#include <stdbool.h>

#include "core/ctx.h"
#include "nn/gan_loss.h"

// The training at hand, as far as advice depends on it.
typedef struct gan_watched {
  int loss;      // gan_kind
  int64_t start; // step at which the adversary begins
  double r1;
  bool spectral_norm;
  bool may_control; // objective.control is there and off
} gan_watched;

typedef struct gan_watch {
  int won, lost;        // intervals in a row
  int64_t next_warning; // step before which nothing is said again
  int warnings;         // said so far
} gan_watch;

// One logging interval's averages (train_task.watch).
void gan_watch_interval(gan_watch *w, elbo_ctx *ctx, const gan_watched *about, int64_t step, int n, const char *const *names,
                        const double *const *values);

#endif
