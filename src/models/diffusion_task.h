// A diffusion model as a training task.
#ifndef MODELS_DIFFUSION_TASK_H
#define MODELS_DIFFUSION_TASK_H

#include "models/diffusion_model.h"
#include "models/preset.h"

extern const preset_def preset_ddpm, preset_vdm;

#endif
