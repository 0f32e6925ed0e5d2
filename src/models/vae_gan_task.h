// A VAE-GAN as a training task [Larsen16]; what it writes is a VAE's model directory.
#ifndef MODELS_VAE_GAN_TASK_H
#define MODELS_VAE_GAN_TASK_H

#include "models/gan_watch.h"
#include "models/preset.h"
#include "models/vae_gan_graph.h"

typedef struct vae_gan_task vae_gan_task;

// spec is copied (its lists are borrowed for the task's life); data is borrowed, for previews of conditioned models; NULL: none.
elbo_status vae_gan_task_create(elbo_ctx *ctx, const vae_gan_spec *spec, int64_t batch, elbo_dataset *data, uint64_t seed,
                                vae_gan_task **out);
void vae_gan_task_destroy(vae_gan_task **t);
const train_task *vae_gan_task_of(const vae_gan_task *t);

// What its adversary's watch must know.
gan_watched vae_gan_watched(const vae_gan_spec *spec);

extern const preset_def preset_vae_gan;

#endif
