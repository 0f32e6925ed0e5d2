// Training a diffusion: the presets ddpm and vdm, and whatever else has a diffusion's loss.
#ifndef MODELS_DIFFUSION_TASK_H
#define MODELS_DIFFUSION_TASK_H

#include "models/diffusion_model.h"
#include "models/preset.h"

extern const preset_def preset_ddpm, preset_vdm;

// What a preset does its own way. Every pointer may be NULL: as ddpm does it.
typedef struct diffusion_hooks {
  void *user;
  const diffusion_source *source; // of x and condition; borrowed for the task's life
  const char *prefix;             // of the parameters that are trained
  elbo_status (*initialize)(void *user, elbo_store *weights);
  elbo_status (*save)(void *user, elbo_store *weights, const char *directory, int64_t step);
  elbo_status (*preview)(void *user, elbo_store *weights, int64_t step, const char *directory);
  void (*destroy)(void *user); // called once, also when the task is not made
} diffusion_hooks;

// spec: a copy is taken; its lists must live as long as the task. The data's examples are the graph's input "x".
elbo_status diffusion_task_create(elbo_ctx *ctx, const preset_request *request, const diffusion_spec *spec,
                                  const diffusion_objective *objective, const diffusion_hooks *hooks, preset_task *out);

#endif
