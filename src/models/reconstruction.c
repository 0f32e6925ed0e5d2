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

static bool named(const char *metrics, const char *usual, const char *prefix, const char *name) {
  char whole[64];
  snprintf(whole, sizeof whole, "%s%s", prefix, name);
  return metric_asked(metrics, usual, whole);
}

reconstruction_wanted reconstruction_asked(const char *metrics, const char *usual, const char *prefix) {
  return (reconstruction_wanted){named(metrics, usual, prefix, "psnr"), named(metrics, usual, prefix, "mse"),
                                 named(metrics, usual, prefix, "mae"), named(metrics, usual, prefix, "ssim"),
                                 named(metrics, usual, prefix, "perceptual")};
}

bool reconstruction_any(reconstruction_wanted w) { return w.psnr || w.mse || w.mae || w.ssim || w.perceptual; }

// What is averaged over the pictures of one report.
typedef struct pictures {
  elbo_ctx *ctx;
  const elbo_array *x, *y;
  const char *prefix;
  elbo_eval_result *result;
} pictures;

typedef enum measure { SQUARED, ABSOLUTE, STRUCTURAL } measure;

static double measure_one(measure of, const elbo_array *x, const float *a, const float *b, int64_t size) {
  double sum = 0;
  if (of == SQUARED) return picture_mean_squared_error(a, b, size);
  if (of == STRUCTURAL) return structural_similarity(a, b, x->dim[1], x->dim[2], x->dim[3]);
  for (int64_t i = 0; i < size; i++) sum += fabs((double)a[i] - (double)b[i]);
  return sum / (double)size;
}

static elbo_status measure_all(const pictures *p, measure of, double **each, double *mean, double *error) {
  const int64_t n = p->x->dim[0], size = elbo_array_count(p->x) / n;
  const float *a = p->x->data, *b = p->y->data;
  TRY(array_new(p->ctx, (size_t)n, sizeof(double), "scores", (void **)each));
  for (int64_t i = 0; i < n; i++) (*each)[i] = measure_one(of, p->x, a + i * size, b + i * size, size);
  mean_and_error(*each, n, mean, error);
  return ELBO_OK;
}

// Takes `each` over; NULL: no values of single pictures.
static elbo_metric *add(const pictures *p, const char *name, const char *unit, double value, double error, double *each) {
  char whole[64];
  snprintf(whole, sizeof whole, "%s%s", p->prefix, name);
  return eval_result_add(p->result, whole, unit, value, error, p->x->dim[0], each);
}

static elbo_status report_mean(const pictures *p, measure of, const char *name) {
  double *each, mean, error;
  TRY(measure_all(p, of, &each, &mean, &error));
  add(p, name, "", mean, error, each);
  return ELBO_OK;
}

static elbo_status report_psnr(const pictures *p, const char *how) {
  double *each, mean, error;
  TRY(measure_all(p, SQUARED, &each, &mean, &error));
  free(each);
  elbo_metric *m = add(p, "psnr", "dB", decibels(mean), 10 / log(10) * error / mean, NULL);
  snprintf(m->note, sizeof m->note, "of the mean squared error over the set; %s", how);
  return ELBO_OK;
}

static elbo_status report_perceptual(const pictures *p, const elbo_eval_config *config) {
  elbo_ctx *ctx = p->ctx;
  feature_net *net = NULL;
  elbo_array *fx = NULL, *fy = NULL;
  double *each = NULL, apart = 0, mean, error;
  int64_t n = p->x->dim[0];
  elbo_status status;
  if (!config->features)
    return fail(ctx, ELBO_ERROR_ARGUMENT,
                "metrics: perceptual needs features: the run of a classifier (preset classifier), or a file of Inception-v3 weights");
  if (n < 2) return fail(ctx, ELBO_ERROR_ARGUMENT, "metrics: perceptual compares with other pictures; at least 2 were expected");
  TRY_GOTO(feature_net_open(ctx, config->features, &net));
  TRY_GOTO(feature_net_run(net, p->x, config->progress, config->progress_user, &fx));
  TRY_GOTO(feature_net_run(net, p->y, config->progress, config->progress_user, &fy));
  TRY_GOTO(array_new(ctx, (size_t)n, sizeof *each, "scores", (void **)&each));
  int64_t d = feature_net_dim(net);
  const double *a = fx->data, *b = fy->data;
  for (int64_t i = 0; i < n; i++) {
    each[i] = squared_distance(a + i * d, b + i * d, d);
    apart += squared_distance(a + i * d, a + (i + 1) % n * d, d) / (double)n;
  }
  for (int64_t i = 0; i < n; i++) each[i] = apart > 0 ? each[i] / apart : NAN;
  mean_and_error(each, n, &mean, &error);
  elbo_metric *m = add(p, "perceptual", "", mean, error, each);
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

elbo_status reconstruction_report(elbo_ctx *ctx, const elbo_array *x, const elbo_array *y, const char *how, const char *prefix,
                                  reconstruction_wanted wanted, const elbo_eval_config *config, elbo_eval_result *result) {
  const pictures p = {ctx, x, y, prefix, result};
  if (wanted.psnr) TRY(report_psnr(&p, how));
  if (wanted.ssim) TRY(report_mean(&p, STRUCTURAL, "ssim"));
  if (wanted.mse) TRY(report_mean(&p, SQUARED, "mse"));
  if (wanted.mae) TRY(report_mean(&p, ABSOLUTE, "mae"));
  return wanted.perceptual ? report_perceptual(&p, config) : ELBO_OK;
}
