// From a recipe and data to what trains: the one way in for elbo_train, its dry run and the benchmarks, so that all three mean the
// same graphs.
#ifndef MODELS_WORKLOAD_H
#define MODELS_WORKLOAD_H

#include <elbo/model.h>
#include <elbo/recipe.h>

#include "train/loop.h"

typedef struct workload workload;

// Fits the preset to the data, builds the graphs of a training step and a loader. data NULL: opened from the recipe's data.path and owned
// by the workload; otherwise borrowed for its life. `frozen`: where the earlier stage lies that the preset's frozen key names; NULL: it is
// not trained yet, or the key names none. On failure *out is NULL.
elbo_status workload_create(elbo_ctx *ctx, const elbo_recipe *recipe, elbo_dataset *data, const char *frozen, workload **out);
void workload_destroy(workload **w);

// All belong to the workload. A task is for one trainer (trainer_create builds gradients into its graphs).
const train_task *workload_task(const workload *w);
const train_config *workload_train_config(const workload *w);
const train_source *workload_source(const workload *w);
const elbo_model *workload_frozen(const workload *w); // NULL: it builds on no other model

#endif
