// Training: a recipe and data in, a run directory out. A recipe of several stages trains one after the other, each in its own run
// RUN/stages/1-NAME, ...; where RUN stands for a model it is that of the last stage that is finished.
#ifndef ELBO_TRAIN_H
#define ELBO_TRAIN_H

#include <elbo/dataset.h>
#include <elbo/recipe.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct elbo_train_config {
  size_t size;               // sizeof, set by elbo_train_defaults
  const char *out;           // run directory; borrowed. Must not exist, be empty, or hold the same recipe's run when resume is set
  int resume;                // 1: continue bit for bit; starts anew when there is no checkpoint; a finished run is left as it is
  elbo_dataset *data;        // borrowed; NULL: opened from the recipe's data.path
  elbo_progress_fn progress; // after every step ("train", of several stages "train NAME"); a false return writes a checkpoint and stops
                             // (ELBO_ERROR_STOPPED). May be NULL
  void *progress_user;
  // One for each stage: seconds of training (all sessions, steps alone) after which it stops as if the callback had asked for it; looked at
  // after every step; borrowed. NULL: it goes on to its last step.
  const double *stop_after;
} elbo_train_config;

typedef struct elbo_train_result { // of several stages: all of them together, but for the loss, which is the last one's
  int64_t steps;                   // done in all
  int64_t samples;                 // consumed in all
  double seconds;                  // of training alone, all sessions of the run
  double flops;                    // training FLOPs in all (direct algorithm, 2 per multiply-add), and those of what was prepared for it
  double loss;                     // of the last logged interval
  int already_finished;            // resume met a finished run
  int resumed_from;                // step, 0: from the start
} elbo_train_result;

ELBO_API void elbo_train_defaults(elbo_train_config *config);
ELBO_API ELBO_MUST_CHECK elbo_status elbo_train(elbo_ctx *ctx, const elbo_recipe *recipe, const elbo_train_config *config,
                                                elbo_train_result *out);

// What training would take, without running anything (--dry-run). Of several stages each is asked by itself (elbo_recipe_stage).
typedef struct elbo_train_cost {
  int64_t params; // trained numbers
  int64_t flops_per_step;
  int64_t prepare_flops; // once, before the first step: the codes of all examples (latent diffusion); else 0
  int64_t planned_bytes; // everything below together
  int64_t arena_bytes, weight_bytes, optimizer_bytes, library_bytes, loader_bytes;
  int64_t moved_bytes; // read and written by all operations of a step
  // Operations that run twice to keep train.memory_limit, and what of moved_bytes and flops_per_step is theirs.
  int64_t recomputed, recomputed_bytes, recomputed_flops;
} elbo_train_cost;
ELBO_API ELBO_MUST_CHECK elbo_status elbo_train_dry_run(elbo_ctx *ctx, const elbo_recipe *recipe, elbo_dataset *data, elbo_train_cost *out);

#ifdef __cplusplus
}
#endif
#endif
