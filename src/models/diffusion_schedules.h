// How much the one-draw estimate of a model's bound varies under different noise schedules.
#ifndef MODELS_DIFFUSION_SCHEDULES_H
#define MODELS_DIFFUSION_SCHEDULES_H

#include "models/diffusion_bound.h"
#include "models/eval_result.h"

// Variance of the one-draw diffusion term in (bits/dim)^2, t uniform and independent, under the model's own schedule and under log-SNR
// linear, cosine and beta-linear ones moved to the same ends; ratios to the learned one with bootstrap intervals over the pictures
// [Kingma21 table 2]. draws: of (time, noise) for each picture; 0: 20. All schedules are judged by the same draws, uniform in log-SNR.
elbo_status report_schedule_variance(elbo_model *m, const scored_examples *e, int draws, elbo_eval_result *out);

#endif
