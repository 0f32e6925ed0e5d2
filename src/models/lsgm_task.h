// A VAE and the diffusion prior of its codes as one training task [Vahdat21].
#ifndef MODELS_LSGM_TASK_H
#define MODELS_LSGM_TASK_H

#include "models/lsgm_graph.h"
#include "models/preset.h"

typedef struct lsgm_task lsgm_task;

// spec and objective are copied (lists of spec are borrowed for the task's life); data is borrowed, for validation; NULL: none.
// batch: examples of a run of the graph; batch_size: of a training step, over which times are spread.
elbo_status lsgm_task_create(elbo_ctx *ctx, const lsgm_spec *spec, const lsgm_objective *objective, int64_t batch, int64_t batch_size,
                             elbo_dataset *data, uint64_t seed, lsgm_task **out);
void lsgm_task_destroy(lsgm_task **t);
const train_task *lsgm_task_of(const lsgm_task *t);

extern const preset_def preset_lsgm;

#endif
