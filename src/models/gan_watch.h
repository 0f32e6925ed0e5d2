// An adversary that has won, or that learns nothing, noticed while a model trains.
#ifndef MODELS_GAN_WATCH_H
#define MODELS_GAN_WATCH_H

#include "models/vae_gan_config.h"

typedef struct gan_watch {
  int won, lost;        // intervals in a row
  int64_t next_warning; // step before which nothing is said again
  int warnings;         // said so far
} gan_watch;

// One logging interval's averages (train_task.watch).
void gan_watch_interval(gan_watch *w, elbo_ctx *ctx, const vae_gan_spec *spec, int64_t step, int n, const char *const *names,
                        const double *const *values);

#endif
