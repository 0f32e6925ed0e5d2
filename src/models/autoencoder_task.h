// An autoencoder as something that trains.
#ifndef MODELS_AUTOENCODER_TASK_H
#define MODELS_AUTOENCODER_TASK_H

#include "models/autoencoder_config.h"
#include "models/preset.h"

// The preset's create: the recipe's sections fitted to the request's data.
elbo_status autoencoder_task_create(elbo_ctx *ctx, const preset_request *request, preset_task *out);

#endif
