// Checkpoints on disk: written whole or not at all, read back to the bit.
#ifndef TRAIN_CHECKPOINT_H
#define TRAIN_CHECKPOINT_H

#include "train/run_log.h"

// What a run knows beside the trainer's state.
typedef struct run_record {
  char recipe_sha256[65];
  char frozen_sha256[65]; // of the model that the run builds on; "": none
  int64_t best_step;      // -1: no checkpoint was scored
  double best_score;
  double flops;                          // of training so far
  double seconds, last_loss;             // as read back
  int64_t metrics_length, events_length; // as read back
  char events_name[256];
} run_record;

// The steps of the checkpoints in RUN/checkpoints, ascending; *steps is freed by the caller. None: *n is 0.
elbo_status checkpoint_list(elbo_ctx *ctx, const char *run, int64_t **steps, int64_t *n);
elbo_status checkpoint_path(elbo_ctx *ctx, const char *run, int64_t step, char *path, size_t size);
// Removes what killed saves and deletions left behind.
elbo_status checkpoint_clean(elbo_ctx *ctx, const char *run);

// Writes RUN/checkpoints/step-N of the trainer's present step.
elbo_status checkpoint_write(elbo_ctx *ctx, const char *run, trainer *t, run_log *log, const run_record *record);
// Removes all but the newest `keep` (0: keep all) and the best.
elbo_status checkpoint_retain(elbo_ctx *ctx, const char *run, int64_t keep, int64_t best_step);
// Counters and the record, cheap: before anything is built.
elbo_status checkpoint_read_record(elbo_ctx *ctx, const char *directory, run_record *record, int64_t *step);
// The trainer's and the open interval's state.
elbo_status checkpoint_read(elbo_ctx *ctx, const char *directory, trainer *t, run_log *log);

#endif
