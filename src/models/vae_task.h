// A variational autoencoder as a training task.
#ifndef MODELS_VAE_TASK_H
#define MODELS_VAE_TASK_H

#include "models/model.h"
#include "models/preset.h"

typedef struct vae_task vae_task;

// spec and objective are copied (their lists are borrowed for the task's life); data is borrowed: validation reads its held-out part (NULL:
// none)
elbo_status vae_task_create(elbo_ctx *ctx, const vae_spec *spec, const objective_config *objective, int64_t batch, elbo_dataset *data,
                            uint64_t seed, vae_task **out);
void vae_task_destroy(vae_task **t);
// Pictures of samples, to DIRECTORY/step-N.png (train_task.preview). data may be NULL.
elbo_status vae_preview(elbo_ctx *ctx, const vae_spec *spec, elbo_dataset *data, uint64_t seed, elbo_store *weights, int64_t step,
                        const char *directory);
const train_task *vae_task_of(const vae_task *t);
// A model of a spec (whose lists are borrowed) with drawn weights; elbo_model_destroy it.
elbo_status vae_untrained(elbo_ctx *ctx, const vae_spec *spec, uint64_t seed, elbo_model **out);

extern const preset_def preset_vae;

#endif
