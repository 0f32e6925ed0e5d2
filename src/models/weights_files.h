// Tensors into safetensors, one file or several behind an index, in another float type where that is asked for.
#ifndef MODELS_WEIGHTS_FILES_H
#define MODELS_WEIGHTS_FILES_H

#include "models/weights.h"

// `path` ends in ".safetensors". When the tensors take more than max_shard_bytes (0: no limit), NAME.safetensors becomes
// NAME-00001-of-00002.safetensors, ... and NAME.safetensors.index.json, as diffusers has them; a larger tensor gets a file of its own.
// dtype: what float tensors become, -1: what they are. *files and *bytes count what was written.
elbo_status weights_write_files(elbo_ctx *ctx, const char *path, int64_t n, const tensor_view *views, int dtype, int64_t max_shard_bytes,
                                int *files, int64_t *bytes);

#endif
