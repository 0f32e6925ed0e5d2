// The codes of all training examples in a file, so that a model of codes trains at the speed of its own network:
//
//   RUN/latents/train.safetensors
//     codes    float32 (n,h,w,c), or (n,h,w,2c): means, and behind them in the channels standard deviations; scaled (latent_space.h)
//     example  int64 (n): which example of the split a row is of
//     label    int32 (n), of data that have labels
//     scale, shift  float32 (c)
//
// With data.flip each example has a row as it is and one of its mirror image. The file says what it was made from, and is made anew when
// that is no longer so.
#ifndef MODELS_LATENT_CACHE_H
#define MODELS_LATENT_CACHE_H

#include "data/data_config.h"
#include "models/latent_space.h"

typedef enum latent_scaling { LATENT_SCALE_ALL, LATENT_SCALE_CHANNEL, LATENT_SCALE_MODEL } latent_scaling;
#define LATENT_SCALING_NAMES "all|channel|model"

typedef struct latent_cache_request {
  latent_space *space; // its scale is set from the file
  elbo_dataset *data;
  const data_config *transforms;
  bool moments;              // deviations are kept beside the means
  int scaling;               // latent_scaling
  elbo_progress_fn progress; // "encode"; may be NULL
  void *progress_user;
} latent_cache_request;

// Opens RUN/latents, making it where it is not there or stale; stopped by the progress, it leaves nothing half made. run NULL: made in a
// file without a name. *out is a data set of one part, the rows of the file, mapped; whatever it reads of `data` (conditions) it borrows.
elbo_status latent_cache_open(elbo_ctx *ctx, const char *run, const latent_cache_request *request, elbo_dataset **out);

// FLOPs of encoding all training examples, mirror images included.
elbo_status latent_cache_flops(const latent_cache_request *request, int64_t *out);

// What data a cache can be made of: refuses windows and values drawn anew each time an example is seen. `file` names the recipe.
elbo_status latent_cache_check(elbo_ctx *ctx, const data_config *transforms, const char *file);

#endif
