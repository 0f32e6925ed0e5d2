// How near reconstructions come to what they are of: the same measures for every kind of model that makes them.
#ifndef MODELS_RECONSTRUCTION_H
#define MODELS_RECONSTRUCTION_H

#include "models/eval_result.h"

#define RECONSTRUCTION_METRICS "psnr, mse, mae, ssim, perceptual"

// Which of them are to be reported.
typedef struct reconstruction_wanted {
  bool psnr, mse, mae, ssim, perceptual;
} reconstruction_wanted;

// Those that a list of metrics names (NULL: `usual` does), each with `prefix` before it; and whether there are any.
reconstruction_wanted reconstruction_asked(const char *metrics, const char *usual, const char *prefix);
bool reconstruction_any(reconstruction_wanted wanted);

// x, y (n,H,W,C) float32 in 0..1: pictures and their reconstructions; `how`: what these are ("reconstructions from a posterior sample");
// `prefix` goes before the names that are reported. perceptual is the squared distance of features (config->features) over that of two
// different pictures of x: 0 is the same picture, 1 another one.
elbo_status reconstruction_report(elbo_ctx *ctx, const elbo_array *x, const elbo_array *y, const char *how, const char *prefix,
                                  reconstruction_wanted wanted, const elbo_eval_config *config, elbo_eval_result *result);

#endif
