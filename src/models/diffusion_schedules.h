// Two looks at a whole model: how much the one-draw estimate of its bound varies under different noise schedules, and whether its density
// sums to one.
#ifndef MODELS_DIFFUSION_SCHEDULES_H
#define MODELS_DIFFUSION_SCHEDULES_H

#include "models/diffusion_bound.h"
#include "models/eval_result.h"

// Variance of the one-draw diffusion term in (bits/dim)^2, t uniform and independent, under the model's own schedule and under log-SNR
// linear, cosine and beta-linear ones moved to the same ends; ratios to the learned one with bootstrap intervals over the pictures
// [Kingma21 table 2]. draws: of (time, noise) for each picture; 0: 20. All schedules are judged by the same draws, uniform in log-SNR.
elbo_status report_schedule_variance(elbo_model *m, const scored_examples *e, int draws, elbo_eval_result *out);

// The sum of the density over a grid of 400 x 400 points around the examples, times a cell's area: 1 when the flow is right.
// Two-dimensional data only.
elbo_status report_density_mass(elbo_model *m, const scored_examples *e, elbo_eval_result *out);

#endif
