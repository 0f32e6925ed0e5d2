// A trainer's insides, for those who step it, log it and save it.
#ifndef TRAIN_TRAINER_H
#define TRAIN_TRAINER_H

#include "graph/store.h"
#include "train/loop.h"
#include "train/parameter_group.h"

// One input of a phase's plan and where its values come from.
typedef enum input_source { INPUT_UNRESOLVED, INPUT_FROM_BATCH, INPUT_FROM_SEED, INPUT_FROM_SCHEDULE, INPUT_FROM_TASK } input_source;
typedef struct phase_input {
  const char *name;
  elbo_dtype dtype;
  shape shape;
  void *memory; // in the plan
  size_t bytes;
  input_source source;
} phase_input;

// The trained parameters of a phase's graph that it trains, in the store's order, with their gradients (NULL: none).
typedef struct trained_list {
  int64_t n;
  elbo_tensor **wrt, **gradient;
  const store_entry **entry;
} trained_list;

typedef struct phase_state {
  const train_phase *def;
  trained_list list;       // while the trainer is made
  optimizer_config config; // of parameters that are in no group of their own
  parameter_groups groups;
  elbo_plan *plan; // outputs: loss, enable and observed if there are such, metrics, gradients
  int n_inputs;
  phase_input *inputs;
  int first_value; // of its values: loss, metrics, learning_rate, grad_norm
} phase_state;

// A number or vector of the last step, as it is averaged and logged.
typedef struct step_value {
  const char *name; // "loss", "kl"; phases after the first put "PHASE." in front
  const char *unit;
  int count;
  double *at;
  bool quiet;     // not in the progress line
  bool last_only; // logged as it is, not averaged
} step_value;

struct trainer {
  elbo_ctx *ctx;
  const train_config *config;
  const train_task *task;
  const train_source *source;
  elbo_store *weights;
  int n_averages; // as many as train.ema has
  elbo_store *averages[MOST_AVERAGES];
  bool owns_weights;
  float *gradient;     // laid out as weights->data[ELBO_PARAM_TRAINED]
  float *micro;        // gradient of one micro-batch; NULL when there is but one
  float *state_before; // state parameters before the phase ran, to undo a step that failed
  int n_phases;
  phase_state *phases;
  int n_values;
  step_value *values;
  double *numbers; // what the values point into
  int64_t n_numbers;
  data_batch *staged;     // (accumulate) copies of a step's micro-batches, when several phases need them; else NULL
  const data_batch *lent; // by the source
  arena *arena;           // names
  int64_t step;           // updates done
  int64_t skipped;        // of them left out because something was not finite
  int64_t skipped_in_a_row;
  int64_t recomputed, recomputed_bytes, recomputed_flops; // elbo_train_cost's, of a micro-batch
  bool last_was_finite;                                   // the last step was not skipped: its values count
};

// step_plans.c: the plans of all phases, within train.memory_limit.
elbo_status step_plans_create(trainer *t);

// step_inputs.c: finds the inputs of a phase's plan and fills them.
elbo_status phase_inputs_create(trainer *t, phase_state *p);
elbo_status phase_inputs_fill(trainer *t, phase_state *p, const data_batch *batch);
train_rows rows_of_batch(trainer *t, const data_batch *batch);
// Micro-batch `part` of the present step for phase `phase`.
elbo_status step_batch(trainer *t, int phase, int64_t part, const data_batch **out);
void step_batches_destroy(trainer *t);

// nonfinite.c: what was the first thing to be not finite, as text.
elbo_status step_diagnose(trainer *t, phase_state *p, const data_batch *batch, char *text, size_t size);

#endif
