#include "models/preset.h"

#include <string.h>

#include "models/autoencoder_preset.h"
#include "models/classifier_task.h"
#include "models/diffusion_decoder.h"
#include "models/diffusion_task.h"
#include "models/lsgm_task.h"
#include "models/vae_gan_task.h"
#include "models/vae_task.h"

static const preset_def *const presets[] = {
    &preset_vae,    &preset_vae_gan,           &preset_ddpm,      &preset_vdm, &preset_lsgm, &preset_classifier, &preset_autoencoder,
    &preset_diffae, &preset_diffusion_decoder, &preset_code_prior};
enum { N_PRESETS = sizeof presets / sizeof *presets };

const preset_def *preset_find(const char *name) {
  for (int i = 0; i < N_PRESETS; i++)
    if (strcmp(presets[i]->name, name) == 0) return presets[i];
  return NULL;
}

const preset_def *preset_at(int i) { return i >= 0 && i < N_PRESETS ? presets[i] : NULL; }
