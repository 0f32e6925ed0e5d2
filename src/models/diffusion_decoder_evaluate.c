// What a diffusion decoder is worth: how well it keeps pictures, and how good its samples are. It has no likelihood.
#include <math.h>
#include <stdlib.h>

#include "eval/codes.h"
#include "eval/statistics.h"
#include "models/diffusion_decoder.h"
#include "models/eval_result.h"
#include "models/reconstruction.h"
#include "models/sample_quality.h"

enum { LIMIT = 1000 };
#define METRICS RECONSTRUCTION_METRICS ", noise_psnr, noise_ssim, kl, active_units, " QUALITY_METRICS
#define USUAL "psnr,ssim,active_units"

typedef struct evaluation {
  elbo_model *m;
  const elbo_eval_config *config;
  elbo_array *x; // in the model's range
  elbo_eval_result *out;
} evaluation;

static bool asked(const evaluation *e, const char *name) { return metric_asked(e->config->metrics, USUAL, name); }

// The loss is a weighted sum of denoising errors, of which the bound is another; and the code was found by it, not by a bound on log p(x).
static elbo_status check_metrics(const elbo_model *m, const char *metrics) {
  static const char *const bounds[] = {"elbo", "iwae", "recon", "nll", "bits_per_dim", "bpd", "bpd_parts", "ode_bpd", "ode_nll"};
  elbo_model_info info;
  elbo_model_get_info(m, &info);
  for (size_t i = 0; metrics && i < sizeof bounds / sizeof *bounds; i++)
    if (metric_asked(metrics, "", bounds[i]))
      return fail(
          m->ctx, ELBO_ERROR_UNSUPPORTED,
          "evaluate: %s: a %s has no likelihood: its decoder was trained by the errors of denoising, not by a bound on log p(x), and "
          "what is likely given a code says nothing of how likely the code is; " METRICS " were expected",
          bounds[i], info.preset);
  return metric_names_check(m->ctx, metrics, METRICS);
}

static elbo_status read_examples(evaluation *e, elbo_dataset *data) {
  elbo_ctx *ctx = e->m->ctx;
  const diffusion_spec *s = &e->m->diffusion->spec;
  elbo_dataset_info info;
  elbo_dataset_get_info(data, &info);
  const int64_t all = info.count[e->config->split], limit = e->config->limit > 0 ? e->config->limit : LIMIT;
  if (all < 1)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "evaluate: the data have no examples in the %s split%s", split_text(e->config->split),
                e->config->split == ELBO_SPLIT_VALID ? "; data.holdout=N holds some out" : "");
  if (info.height != s->height || info.width != s->width || info.channels != s->channels)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "evaluate: the examples of the data are %d x %d x %d; the model's are %lld x %lld x %lld",
                info.height, info.width, info.channels, (long long)s->height, (long long)s->width, (long long)s->channels);
  TRY(elbo_dataset_read(data, e->config->split, 0, all, 0, 0, &e->x, NULL));
  if (limit < e->x->dim[0]) TRY(examples_subset(ctx, e->config->seed, limit, e->x, NULL));
  float *v = e->x->data;
  for (int64_t i = 0, n = elbo_array_count(e->x); s->bits && i < n; i++) v[i] = 2 * v[i] - 1;
  return ELBO_OK;
}

// To 0..1; what is drawn may lie beyond.
static void to_pictures(const diffusion_spec *s, elbo_array *x) {
  float *v = x->data;
  for (int64_t i = 0, n = elbo_array_count(x); s->bits && i < n; i++) v[i] = fminf(1, fmaxf(0, 0.5f * v[i] + 0.5f));
}

// Of reconstructions from drawn noise (a draw of p(x|z)), or from each picture's own.
static elbo_status report_pictures(evaluation *e, bool own_noise) {
  const char *prefix = own_noise ? "noise_" : "";
  const char *how = own_noise ? "from code and inferred noise, as many numbers as the picture: says how well ddim goes there and back"
                              : "decoded from the code and drawn noise";
  reconstruction_wanted wanted = reconstruction_asked(e->config->metrics, USUAL, prefix);
  elbo_array *x = NULL, *y = NULL;
  elbo_status status;
  if (!reconstruction_any(wanted)) return ELBO_OK;
  TRY_GOTO(elbo_array_convert(e->m->ctx, e->x, ELBO_F32, &x));
  TRY_GOTO(elbo_reconstruct(e->m, x, NULL, !own_noise, seed_of_part(e->config->seed, 104), &y));
  to_pictures(&e->m->diffusion->spec, x), to_pictures(&e->m->diffusion->spec, y);
  status = reconstruction_report(e->m->ctx, x, y, how, prefix, wanted, e->config, e->out);
fail:
  elbo_array_destroy(&x);
  elbo_array_destroy(&y);
  return status;
}

static elbo_status report_codes(evaluation *e) {
  elbo_array *mean = NULL, *std = NULL;
  double *kl = NULL, value, error;
  elbo_status status;
  TRY_GOTO(elbo_encode(e->m, e->x, NULL, &mean, &std));
  const int64_t n = mean->dim[0], d = mean->dim[1];
  const float *a = mean->data, *b = std->data;
  if (asked(e, "active_units")) {
    elbo_metric *m =
        eval_result_add(e->out, "active_units", "numbers", (double)active_units(a, n, d, NULL), active_units_error(a, n, d), n, NULL);
    snprintf(m->note, sizeof m->note, "of %lld; variance of the code's mean over the data above 0.01", (long long)d);
  }
  if (e->config->metrics && asked(e, "kl")) {
    if (!(e->m->decoder->spec.code.kl > 0) && !e->m->decoder->vae) {
      status = fail(e->m->ctx, ELBO_ERROR_ARGUMENT, "evaluate: kl: this model's code is a function of x (model.code.kl: 0)");
      goto fail;
    }
    TRY_GOTO(array_new(e->m->ctx, (size_t)n, sizeof(double), "scores", (void **)&kl));
    for (int64_t i = 0; i < n * d; i++) {
      double m = (double)a[i], s = (double)b[i];
      kl[i / d] += 0.5 * (m * m + s * s - 1) - log(s); // [Kingma14 app. B]
    }
    mean_and_error(kl, n, &value, &error);
    metric_note(eval_result_add(e->out, "kl", "nats/image", value, error, n, kl), "of the code's posterior against N(0, I)");
    kl = NULL;
  }
fail:
  elbo_array_destroy(&mean);
  elbo_array_destroy(&std);
  free(kl);
  return status;
}

elbo_status decoder_evaluate(elbo_model *m, elbo_dataset *data, const elbo_eval_config *config, elbo_eval_result **out) {
  TRY(check_metrics(m, config->metrics));
  evaluation e = {.m = m, .config = config};
  elbo_status status;
  TRY(eval_result_new(m->ctx, &e.out));
  TRY_GOTO(read_examples(&e, data));
  TRY_GOTO(report_pictures(&e, false));
  TRY_GOTO(report_pictures(&e, true));
  if (asked(&e, "active_units") || asked(&e, "kl")) TRY_GOTO(report_codes(&e));
  if (quality_asked(config->metrics)) TRY_GOTO(model_quality_report(m, false, data, config, e.out));
  TRY_GOTO(eval_result_finish(m, config, e.out));
  *out = e.out, e.out = NULL;
fail:
  elbo_eval_destroy(&e.out);
  elbo_array_destroy(&e.x);
  return status;
}
