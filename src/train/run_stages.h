// A run of several stages: a directory of runs, one a stage.
//
//   RUN/recipe.yaml          all stages, fully resolved
//   RUN/.lock                held while a process works on the run
//   RUN/stages/1-NAME/       the run of the first stage (run.h), and so on
//
// Where RUN stands for a model, it is that of the last stage that is finished.
#ifndef TRAIN_RUN_STAGES_H
#define TRAIN_RUN_STAGES_H

#include <stdbool.h>

#include "core/error.h"

// RUN/stages/N-NAME of a stage, `index` from 0.
elbo_status run_stage_path(elbo_ctx *ctx, const char *run, int index, const char *name, char *path, size_t size);
// Whether `path` is a run of several stages.
bool run_has_stages(const char *path);
// The newest checkpoint's step of a stage's directory, and how many its recipe asks for. *step -1: there is no checkpoint yet.
elbo_status run_stage_progress(elbo_ctx *ctx, const char *stage, int64_t *step, int64_t *steps);
// The one run that `path` means: of several stages the last that is finished, the first where none is; of any other directory itself.
elbo_status run_resolve(elbo_ctx *ctx, const char *path, char *out, size_t size);

#endif
