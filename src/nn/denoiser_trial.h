// A network built once without weights: whether it can be, for pictures of some size, and how many parameters it has.
#ifndef NN_DENOISER_TRIAL_H
#define NN_DENOISER_TRIAL_H

#include "core/error.h"
#include "nn/denoiser.h"

typedef elbo_tensor *(*denoiser_fn)(const void *config, const denoiser_inputs *in);

// Builds it for a batch of one picture, labels and all other inputs as `needs` has them. A result of another shape than
// (1,height,width,out_channels) is refused too; `where` stands in front of messages. *parameters: of every kind; may be NULL.
elbo_status denoiser_trial(elbo_ctx *ctx, const char *where, const denoiser_needs *needs, int64_t height, int64_t width, denoiser_fn build,
                           const void *config, int64_t *parameters);

// What all networks ask of the data first: sizes of at least one pixel, and the channels that the network takes.
elbo_status denoiser_sizes_check(elbo_ctx *ctx, const char *where, const denoiser_needs *needs, int64_t height, int64_t width,
                                 int64_t channels);

#endif
