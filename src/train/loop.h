// The trainer: one task, its weights, plans, gradients, moments and averages, advanced step by step. It knows nothing of files: the run
// directory is run.h's matter, and so `elbo bench` times the very code that trains.
#ifndef TRAIN_LOOP_H
#define TRAIN_LOOP_H

#include <stdbool.h>

#include <elbo/train.h>

#include "data/loader.h"
#include "train/task.h"
#include "train/train_config.h"

// Where batches come from. Each batch is one micro-batch (train_micro_batch examples), its fields named like the graphs' inputs.
typedef struct train_source {
  void *user;
  elbo_status (*next)(void *user, const data_batch **out); // borrowed until the next call
  elbo_status (*seek)(void *user, int64_t samples);        // the next batch is the one after `samples` examples; NULL: cannot (no resume)
  int64_t (*bytes)(void *user);                            // memory held; NULL: 0
  elbo_status (*begin)(void *user);                        // the first batch is wanted soon; NULL: nothing to be done before `next`
} train_source;

train_source train_source_of_loader(loader *l);

typedef struct trainer trainer;

// Builds gradients into the phases' graphs (once a graph: a task is for one trainer), makes weights, plans and state. `weights`: a store
// that holds the parameters of all the phases, borrowed; NULL: one is made from the graphs and the seed. task, config and source->user are
// borrowed for the trainer's life; source may be NULL for a trainer that is only asked for its cost.
elbo_status trainer_create(elbo_ctx *ctx, const train_config *config, const train_task *task, const train_source *source,
                           elbo_store *weights, trainer **out);
void trainer_destroy(trainer **t);

// Before the first step: `set` changes the weights, and the averages begin from what it made of them.
elbo_status trainer_start_from(trainer *t, elbo_status (*set)(void *user, elbo_store *weights), void *user);

// One update of every phase. ELBO_ERROR_NUMERIC when a loss or gradient is not finite (the weights are then those before the step).
elbo_status trainer_step(trainer *t);

int64_t trainer_steps_done(const trainer *t);
elbo_store *trainer_weights(trainer *t);    // raw
elbo_store *trainer_averages(trainer *t);   // the first EMA; the raw store where train.ema is 0
double trainer_last_loss(const trainer *t); // of phase 0
// params, flops_per_step and bytes; loader_bytes from source->bytes (0 without source).
void trainer_get_cost(const trainer *t, elbo_train_cost *out);
elbo_plan *trainer_plan(trainer *t, int phase); // for profiles

#endif
