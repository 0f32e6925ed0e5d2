// The run directory around the checkpoints: who may use it, for which recipe, and from where the run goes on.
#ifndef TRAIN_RUN_DIRECTORY_H
#define TRAIN_RUN_DIRECTORY_H

#include "core/lock.h"
#include "train/checkpoint.h"

typedef struct run_directory {
  const char *path; // borrowed
  directory_lock *lock;
  bool fresh;   // no checkpoint: from the start
  int64_t step; // of the newest checkpoint
  char checkpoint[4096];
  run_record record;
} run_directory;

// Makes or checks the directory, takes its lock, sweeps up what a killed process left, writes recipe.yaml, finds the newest checkpoint.
// Fails without changing anything where the directory holds something else, another recipe's run, or (not resume) a run at all.
elbo_status run_directory_open(elbo_ctx *ctx, const char *path, bool resume, const char *recipe_text, run_directory *out);
void run_directory_close(run_directory *d);
// The same checks for the directory of a run of several stages (run_stages.h): makes it with its recipe.yaml and an empty stages/, and
// takes its lock, which is the caller's.
elbo_status run_directory_claim(elbo_ctx *ctx, const char *path, bool resume, const char *recipe_text, directory_lock **lock);

// The first key whose value differs between two recipes, keys that may change between sessions of a run left out; false: none.
// "model.latent.dim is 20 there and 32 here"
elbo_status recipe_difference(elbo_ctx *ctx, const char *there, const char *here, char *text, size_t size, bool *differs);

#endif
