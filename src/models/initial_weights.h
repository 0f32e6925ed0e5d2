// Training that starts from the weights of a model: `train.init`.
#ifndef MODELS_INITIAL_WEIGHTS_H
#define MODELS_INITIAL_WEIGHTS_H

#include <elbo/graph.h>

// Copies the weights of the model or run directory `path` (of a run: its newest averages) into `to`. Every parameter must be there
// with its shape, and the model may have no others: what does not fit is listed by name, and then nothing is changed. State that only
// training keeps stays as it is: state (a history of losses), and parameters whose names begin with one of `training_only` (an adversary;
// train_task.training_only). So do parameters whose names begin with `may_be_new` (the network of a prior; NULL: none) where the model has
// not one of them.
elbo_status initial_weights_load(elbo_ctx *ctx, const char *path, const char *const *training_only, const char *may_be_new, elbo_store *to);

#endif
