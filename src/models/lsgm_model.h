// A loaded LSGM: a VAE whose elbo_model.prior is a diffusion model of its codes, on the same store.
#ifndef MODELS_LSGM_MODEL_H
#define MODELS_LSGM_MODEL_H

#include "models/estimate.h"
#include "models/lsgm_config.h"

extern const model_kind model_kind_lsgm;

// A model around a spec and weights (both borrowed): what training evaluates and draws previews with. lsgm_view_close it.
elbo_status lsgm_view(elbo_ctx *ctx, const lsgm_spec *spec, elbo_store *store, elbo_model *out);
void lsgm_view_close(elbo_model *m);
// A store with the parameters of both parts.
elbo_status lsgm_store_create(elbo_ctx *ctx, const lsgm_spec *spec, uint64_t seed, elbo_store **out);
// A VAE's model directory with the prior's, a diffusion model's, inside: latent_prior/.
elbo_status lsgm_directory_write(elbo_ctx *ctx, const char *directory, const lsgm_spec *spec, elbo_store *store, int64_t step);

// The one-sample bound with the likelihood weighting, whatever trained the model: log p(x|z) over `draws` codes, the cross entropy over
// `times` codes and times of each example. These come in up to four sets, each spread evenly over the quantiles of the density of w_ll from
// an offset of its own, whose differences are the Monte-Carlo error. Of the result kl is cross_entropy - entropy.
elbo_status lsgm_bound(elbo_model *m, const elbo_array *x, const int64_t *index, int draws, int times, uint64_t seed,
                       elbo_progress_fn progress, void *user, bound_estimate *out);

#endif
