// A training run in its directory:
//
//   RUN/recipe.yaml            fully resolved
//   RUN/lock                   held while a process works on the run
//   RUN/metrics.jsonl          one line an interval, one a validation
//   RUN/events.out.tfevents.*  the same for TensorBoard
//   RUN/samples/               previews
//   RUN/latents/               what a task prepares: the codes of the training examples (models/latent_cache.h)
//   RUN/checkpoints/step-N/    a model directory (EMA weights) written by task->save, and in it
//     training/state.safetensors  raw weights, moments, averages, sums of the open interval
//     training/state.json         counters, format version, recipe hash, best
//     training/kernels.json       which kernel ran every operation
//     training/log.json           seconds so far, lengths of the log files
//
// A checkpoint is written as checkpoints/tmp-*, synced and renamed. A run resumes from its newest checkpoint bit for bit.
#ifndef TRAIN_RUN_H
#define TRAIN_RUN_H

#include "train/loop.h"

typedef struct run_options {
  const char *out; // run directory; NULL: nothing is written
  bool resume;
  const char *recipe_text; // the resolved recipe (elbo_recipe_text); borrowed
  const train_config *train;
  // Of the model that the task builds on: the recipe's key for it ("model.autoencoder"), and what tells it from others. A run goes on only
  // with the one that it began with. NULL and "": it builds on none.
  const char *frozen_key, *frozen_sha256;
  train_source source;
  elbo_store *weights;                                        // initial weights, borrowed and changed; NULL: drawn from the seed
  elbo_status (*initialize)(void *user, elbo_store *weights); // sets the weights of a new run, never of a resumed one; may be NULL
  void *initialize_user;
  elbo_progress_fn progress; // "train", step, steps, "loss 103.2 kl 21.0 5120 samples/s"; may be NULL
  void *progress_user;
  const double *stop_after; // seconds of training in all; NULL: to the last step
} run_options;

// Trains to the end, or until the callback stops it (a checkpoint is written, ELBO_ERROR_STOPPED). *out is filled on every path.
elbo_status run_training(elbo_ctx *ctx, const run_options *options, const train_task *task, elbo_train_result *out);

// Whether `path` is a run directory (has a recipe.yaml and checkpoints/, or stages/).
bool run_is_run(const char *path);
// The directory of a checkpoint of a run, of several stages of the one that run_resolve finds (run_stages.h): step -1 the newest, -2 the
// best (the newest where none was scored), else that step's. *found_step may be NULL.
elbo_status run_find_checkpoint(elbo_ctx *ctx, const char *run, int64_t step, char *path, size_t size, int64_t *found_step);
// The decays of the averages that a checkpoint holds, the first being the one in its model directory; *n is -1 where it does not say.
elbo_status run_list_averages(elbo_ctx *ctx, const char *checkpoint, double decay[MOST_AVERAGES], int *n);
// Reads the average of that decay, or the raw weights (decay -1), of a checkpoint into a store of the same parameters (every one must be
// there, of the same shape).
elbo_status run_read_weights(elbo_ctx *ctx, const char *checkpoint, double decay, elbo_store *weights);

#endif
