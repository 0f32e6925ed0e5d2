// What the trainings around a diffusion decoder share: diffae, diffusion-decoder, code-prior.
#ifndef MODELS_DIFFUSION_DECODER_TASK_H
#define MODELS_DIFFUSION_DECODER_TASK_H

#include "models/diffusion_decoder.h"
#include "models/diffusion_task.h"

// What the hooks of one task know.
typedef struct decoder_task {
  elbo_ctx *ctx;
  arena *arena;
  decoder_spec spec; // of a code prior: the autoencoder's
  diffusion_spec prior;
  diffusion_source source;
  elbo_dataset *data;
  elbo_model *frozen; // the VAE, or the autoencoder; NULL
  uint64_t seed;
} decoder_task;

elbo_status decoder_task_new(elbo_ctx *ctx, const preset_request *request, decoder_task **out);
void decoder_task_destroy(void *user);

// Means of the codes of training examples, float32 (n,dim), at most some thousands: for a mixture, and for the size of what a prior is of.
elbo_status decoder_training_codes(const decoder_task *t, elbo_model *m, elbo_array **codes);
// Copies what the frozen model knows of the parameters that training holds but does not train: those that do not begin with `but`.
elbo_status decoder_copy_frozen(elbo_store *to, const elbo_store *from, const char *but);

bool decoder_has_pictures(const diffusion_spec *s); // that a preview can show
elbo_status decoder_preview_samples(const decoder_task *t, elbo_model *m, int64_t step, const char *directory);
// The graph of one call of the denoiser; `status` is that of making its spec, handed on.
elbo_status decoder_forward(elbo_ctx *ctx, const preset_request *request, elbo_status status, const diffusion_spec *spec,
                            elbo_graph **graph, elbo_tensor **out);

#endif
