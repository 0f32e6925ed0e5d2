// What a model hands to the training loop: phases over graphs, and what to do around them.
#ifndef TRAIN_TASK_H
#define TRAIN_TASK_H

#include <stdbool.h>

#include <elbo/graph.h>

#include "train/optimizer.h"

// A number (or a vector) that the loop averages over the logging interval and writes to metrics.jsonl and the progress line.
typedef struct train_metric {
  const char *name;   // "kl"
  const char *unit;   // "nats"
  elbo_tensor *value; // scalar or (D), in the phase's graph
  bool quiet;         // not in the progress line
} train_metric;

// One update: graph, loss, whose parameters it differentiates, and a switch. A VAE has one, a GAN two.
typedef struct train_phase {
  const char *name;                  // "vae"
  elbo_graph *graph;                 // its inputs are a batch's fields by name, "seed", and whatever `schedule` fills
  elbo_tensor *loss;                 // scalar, already averaged over the batch by weight
  const char *prefix;                // trains the TRAINED parameters whose names begin so; "": all
  const optimizer_config *optimizer; // borrowed; NULL: the train section's (train_optimizer)
  elbo_tensor *enable;               // scalar: the update is applied when above 0.5; NULL: always
  elbo_tensor *observed;             // (B,...) handed to train_task.observe after every run; NULL: nothing
  int n_metrics;
  const train_metric *metrics;
} train_phase;

// The examples of one run of a phase.
typedef struct train_rows {
  int64_t step, steps;         // 0-based, of so many
  int64_t n;                   // examples, padding included
  const int64_t *sample_index; // (n) position in the training stream; NULL where the data do not say
  const float *weight;         // (n) 0: padding; NULL likewise
  elbo_store *weights;
} train_rows;

typedef struct train_task {
  void *user;
  int n_phases;
  const train_phase *phases;
  // Parameters whose names begin with one of these are in no model directory, only in checkpoints; NULL-terminated; NULL: none
  const char *const *training_only;
  const char *may_be_new; // where train.init's model has no parameter whose name begins so, these begin as drawn; NULL: none
  // Makes what steps read and no checkpoint holds (a cache) in the run's directory (NULL: nothing is to be written). Called once, before
  // the first step of a run, new or resumed; the progress may stop it, which is ELBO_ERROR_STOPPED. May be NULL.
  elbo_status (*prepare)(void *user, const char *run, elbo_progress_fn progress, void *progress_user);
  // FLOPs of what prepare makes, where nothing of it is there yet. NULL: it computes nothing.
  elbo_status (*prepare_flops)(void *user, int64_t *out);
  // Sets initial weights that are not drawn (a frozen teacher, running statistics). Called once, before the first step of a new run. May be
  // NULL.
  elbo_status (*initialize)(void *user, elbo_store *weights);
  // Fills scalar input `input` of a graph for `step` (0-based): "beta", "capacity". false: not known (an error that names it).
  bool (*schedule)(void *user, int64_t step, int64_t steps, const char *input, float *value);
  // Fills float32 input `input` (n,...) of a graph, `count` numbers a row, for these examples: times, weights of the loss. What it gives
  // must be a function of sample_index, step and the state parameters of the store alone. false: not known. May be NULL.
  bool (*fill)(void *user, const train_rows *rows, const char *input, int64_t count, float *values);
  // Receives phase->observed of these examples; may change state parameters of the store (a history of losses). May be NULL.
  void (*observe)(void *user, const train_rows *rows, const float *values);
  // Called after the updates of every step that was not skipped; may change any parameter, of the weights and of their averages alike
  // (codes that nothing takes). What it does must be a function of the step, of what `observe` saw in it, and of the stores. May be NULL.
  void (*after_step)(void *user, int64_t step, elbo_store *weights, int n_averages, elbo_store *const *averages);
  // Called with every logging interval's averages (values[i] has counts[i] numbers); may log warnings (posterior collapse).
  void (*watch)(void *user, elbo_ctx *ctx, int64_t step, int n, const char *const *names, const int *counts, const double *const *values);
  // Validation score of the given weights, lower is better (negative ELBO per example); called before each checkpoint (and every
  // train.validate_every steps), not at one that an interruption makes: what it computes may depend on weights and step alone. May be NULL.
  elbo_status (*validate)(void *user, elbo_store *weights, int64_t step, double *score);
  // Writes the model directory (model_index.json, components) of `weights` into the existing, empty `directory`.
  elbo_status (*save)(void *user, elbo_store *weights, const char *directory);
  // Writes pictures of the present state to DIRECTORY/step-N.png, DIRECTORY/step-N-NAME.png (TensorBoard gets them too). May be NULL.
  elbo_status (*preview)(void *user, elbo_store *weights, int64_t step, const char *directory);
} train_task;

#endif
