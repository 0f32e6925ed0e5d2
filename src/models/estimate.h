// Estimates of what a model thinks of pictures: one value per picture, in double.
#ifndef MODELS_ESTIMATE_H
#define MODELS_ESTIMATE_H

#include "models/model.h"

// Makes grey pictures what the model is a density of: binarised once from (seed, first + position in x), or dequantised, as its training
// data were.
void prepare_pictures(const vae_spec *spec, uint64_t seed, int64_t first, elbo_array *x);

// The one-sample bound E_q log p(x|z) - KL, averaged over `draws` draws.
typedef struct bound_estimate {
  int64_t n, code_size, groups;
  int64_t times;                   // of cross_entropy, drawn for each example
  double *elbo, *recon, *kl;       // (n) nats
  double *entropy, *cross_entropy; // (n) of a diffusion prior, whose kl is the second less the first; else NULL
  double *cross_variance;          // (n) of cross_entropy over its draws, divided by their number; NULL likewise
  double *draw_variance;           // (n) of elbo over its draws, divided by their number; NULL with one draw
  double *kl_each;                 // (code_size) mean KL of each number of the code; NULL where the prior is a mixture
  double *kl_group;                // (groups); NULL likewise
} bound_estimate;
void bound_estimate_free(bound_estimate *e);
// x (n,...) prepared; label (n) int32 or NULL; index (n) the draws' own numbers, NULL: 0..n-1.
elbo_status estimate_bound(elbo_model *m, const elbo_array *x, const elbo_array *label, const int64_t *index, int draws, uint64_t seed,
                           elbo_progress_fn progress, void *user, bound_estimate *out);

// log (1/k) sum p(x,z)/q(z|x): log_p (n), effective sample sizes (n), variance over draws (n); each may be NULL but log_p.
elbo_status estimate_importance(elbo_model *m, const elbo_array *x, const elbo_array *label, const int64_t *index, int64_t k, uint64_t seed,
                                elbo_progress_fn progress, void *user, double *log_p, double *effective, double *variance);

// Posterior means, standard deviations and one draw of each code, (n,code_size) float32, and so many draws from p(z); of a diffusion prior,
// whose draws cost many calls of a network, none: NULL.
typedef struct code_sample {
  int64_t n, d;
  elbo_array *mean, *std, *code, *prior;
} code_sample;
void code_sample_free(code_sample *c);
elbo_status sample_codes(elbo_model *m, const elbo_array *x, const elbo_array *label, uint64_t seed, code_sample *out);

#endif
