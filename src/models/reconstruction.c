#include "models/reconstruction.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/memory.h"
#include "eval/pictures.h"
#include "eval/statistics.h"
#include "models/feature_net.h"

static double squared_distance(const double *a, const double *b, int64_t d) {
  double sum = 0;
  for (int64_t i = 0; i < d; i++) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return sum;
}

static elbo_status report_perceptual(elbo_ctx *ctx, const elbo_array *x, const elbo_array *y, const elbo_eval_config *config,
                                     elbo_eval_result *result) {
  feature_net *net = NULL;
  elbo_array *fx = NULL, *fy = NULL;
  double *each = NULL, apart = 0, mean, error;
  int64_t n = x->dim[0];
  elbo_status status;
  if (!config->features)
    return fail(ctx, ELBO_ERROR_ARGUMENT,
                "metrics: perceptual needs features: the run of a classifier (preset classifier), or a file of Inception-v3 weights");
  if (n < 2) return fail(ctx, ELBO_ERROR_ARGUMENT, "metrics: perceptual compares with other pictures; at least 2 were expected");
  TRY_GOTO(feature_net_open(ctx, config->features, &net));
  TRY_GOTO(feature_net_run(net, x, config->progress, config->progress_user, &fx));
  TRY_GOTO(feature_net_run(net, y, config->progress, config->progress_user, &fy));
  TRY_GOTO(array_new(ctx, (size_t)n, sizeof *each, "scores", (void **)&each));
  int64_t d = feature_net_dim(net);
  const double *a = fx->data, *b = fy->data;
  for (int64_t i = 0; i < n; i++) {
    each[i] = squared_distance(a + i * d, b + i * d, d);
    apart += squared_distance(a + i * d, a + (i + 1) % n * d, d) / (double)n;
  }
  for (int64_t i = 0; i < n; i++) each[i] = apart > 0 ? each[i] / apart : NAN;
  mean_and_error(each, n, &mean, &error);
  elbo_metric *m = eval_result_add(result, "perceptual", "", mean, error, n, each);
  each = NULL;
  snprintf(m->note, sizeof m->note, "distance of features, 1: another picture; %s %lld, sha256 %s", feature_net_name(net), (long long)d,
           feature_net_hash(net));
fail:
  free(each);
  elbo_array_destroy(&fx);
  elbo_array_destroy(&fy);
  feature_net_close(&net);
  return status;
}

elbo_status reconstruction_report(elbo_ctx *ctx, const elbo_array *x, const elbo_array *y, const char *how, reconstruction_wanted wanted,
                                  const elbo_eval_config *config, elbo_eval_result *result) {
  int64_t n = x->dim[0], size = elbo_array_count(x) / n;
  double *mse = NULL, *ssim = NULL, mean, error;
  elbo_status status;
  TRY_GOTO(array_new(ctx, (size_t)n, sizeof(double), "scores", (void **)&mse));
  const float *a = x->data, *b = y->data;
  for (int64_t i = 0; i < n; i++) mse[i] = picture_mean_squared_error(a + i * size, b + i * size, size);
  mean_and_error(mse, n, &mean, &error);
  if (wanted.psnr) {
    elbo_metric *m = eval_result_add(result, "psnr", "dB", decibels(mean), 10 / log(10) * error / mean, n, NULL);
    snprintf(m->note, sizeof m->note, "of the mean squared error over the set; %s", how);
  }
  if (wanted.ssim) {
    TRY_GOTO(array_new(ctx, (size_t)n, sizeof(double), "scores", (void **)&ssim));
    for (int64_t i = 0; i < n; i++) ssim[i] = structural_similarity(a + i * size, b + i * size, x->dim[1], x->dim[2], x->dim[3]);
    double value, value_error;
    mean_and_error(ssim, n, &value, &value_error);
    eval_result_add(result, "ssim", "", value, value_error, n, ssim);
    ssim = NULL;
  }
  if (wanted.mse) eval_result_add(result, "mse", "", mean, error, n, mse), mse = NULL;
  if (wanted.perceptual) status = report_perceptual(ctx, x, y, config, result);
fail:
  free(mse);
  free(ssim);
  return status;
}
