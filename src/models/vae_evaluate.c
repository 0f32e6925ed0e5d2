// What a VAE is worth: which numbers may be called a log-likelihood is decided here, in one place (`what_is_scored`).
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/philox.h"
#include "eval/codes.h"
#include "eval/statistics.h"
#include "models/diffusion_model.h"
#include "models/estimate.h"
#include "models/eval_result.h"
#include "models/lsgm_model.h"
#include "models/reconstruction.h"
#include "models/sample_quality.h"

enum { DEFAULT_SAMPLES = 100, PRIOR_TIMES = 20, CODES_LIMIT = 2000, GAP_LIMIT = 1000, BOUND_DRAWS = 2 };

typedef struct evaluation {
  elbo_model *m;
  const elbo_eval_config *config;
  elbo_array *x, *label; // prepared; label: what the model is told of each (model_check_condition), or NULL
  int64_t n;
  int bits; // of the data set's pixels
  bool proper;
  const char *why; // not proper
  bound_estimate bound;
  elbo_eval_result *out;
} evaluation;

#define METRICS                                                                                                             \
  "elbo, iwae, recon, kl, entropy, cross_entropy, nll, bits_per_dim, iwae_bits_per_dim, active_units, mutual_information, " \
  "mismatch, " RECONSTRUCTION_METRICS ", " QUALITY_METRICS

static bool all_binary(const elbo_array *x) {
  const float *v = x->data;
  for (int64_t i = 0, n = elbo_array_count(x); i < n; i++)
    if (v[i] != 0 && v[i] != 1) return false;
  return true;
}

// A Bernoulli of grey pixels is no distribution of them, and a density at whole grey levels is unbounded: neither is a log-likelihood.
static void what_is_scored(evaluation *e) {
  likelihood l = vae_likelihood(&e->m->spec, false);
  e->proper = true, e->why = "";
  if (l.kind == LIKELIHOOD_BERNOULLI) {
    e->proper = all_binary(e->x);
    if (!e->proper) e->why = "Bernoulli on grey pixels: not a log-likelihood of them";
  } else if (likelihood_discrete(&l)) {
    e->proper = e->bits == 8;
    if (!e->proper) e->why = "a likelihood of 256 levels on data that are not 8-bit";
  } else {
    e->proper = e->bits == 0 || e->m->spec.dequantize;
    if (!e->proper) e->why = "density at undequantised pixel levels: not a log-likelihood of them";
  }
}

static double root_of_sum(const double *variance, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++) sum += variance[i];
  return sqrt(sum) / (double)n;
}

static int samples_of(const evaluation *e) { return e->config->samples > 0 ? e->config->samples : DEFAULT_SAMPLES; }

static const char *usual(const evaluation *e) {
  if (e->m->prior) return "elbo,recon,kl,entropy,cross_entropy,active_units,psnr";
  if (!vae_has_bound(&e->m->spec)) return "kl,active_units,psnr";
  return e->m->spec.shape.height * e->m->spec.shape.width > 1 ? "elbo,recon,kl,active_units,psnr" : "elbo,recon,kl,active_units";
}

static bool asked(const evaluation *e, const char *name) { return metric_asked(e->config->metrics, usual(e), name); }

static int times_of(const evaluation *e) { return e->config->samples > 0 ? e->config->samples : PRIOR_TIMES; }

// The two parts of a diffusion prior's KL.
static void report_prior(evaluation *e) {
  const bound_estimate *b = &e->bound;
  double mean, error;
  if (!b->cross_entropy) return;
  if (asked(e, "entropy")) {
    mean_and_error(b->entropy, b->n, &mean, &error);
    eval_result_add(e->out, "entropy", "nats/image", mean, error, b->n, doubles_copy(b->entropy, b->n));
  }
  if (asked(e, "cross_entropy")) {
    mean_and_error(b->cross_entropy, b->n, &mean, &error);
    elbo_metric *m = eval_result_add(e->out, "cross_entropy", "nats/image", mean, error, b->n, doubles_copy(b->cross_entropy, b->n));
    m->mc_stderr = root_of_sum(b->cross_variance, b->n), m->k = (int)b->times;
  }
}

static double bits_of_nats(const evaluation *e) {
  const picture_shape *s = &e->m->spec.shape;
  return 1 / ((double)(s->height * s->width * s->channels) * log(2));
}

// Whether the likelihood is one of 8-bit pixels.
static bool of_pixels(const evaluation *e) { return e->bits == 8 && vae_likelihood(&e->m->spec, false).kind != LIKELIHOOD_BERNOULLI; }

static void report_bound(evaluation *e) {
  const bound_estimate *b = &e->bound;
  double mean, error, mc = b->draw_variance ? root_of_sum(b->draw_variance, b->n) : NAN;
  mean_and_error(b->elbo, b->n, &mean, &error);
  if (asked(e, "elbo")) {
    elbo_metric *m =
        eval_result_add(e->out, e->proper ? "elbo" : "bound_unnormalised", "nats/image", mean, error, b->n, doubles_copy(b->elbo, b->n));
    m->mc_stderr = mc;
    if (e->proper && b->cross_entropy)
      snprintf(m->note, sizeof m->note, "one-sample bound, likelihood weighting, averaged over 2 draws and %lld times",
               (long long)b->times);
    else
      metric_note(m, e->proper ? "one-sample bound, averaged over 2 draws" : e->why);
  }
  double scale = bits_of_nats(e);
  likelihood l = vae_likelihood(&e->m->spec, false);
  bool pixels = of_pixels(e);
  if (e->config->metrics && asked(e, "bits_per_dim") && !(e->proper && pixels))
    log_warning(e->m->ctx, "bits_per_dim is left out: %s", e->proper ? "it is of 8-bit pixels and a likelihood of theirs" : e->why);
  if (e->proper && pixels && (asked(e, "bits_per_dim") || !e->config->metrics)) {
    // a density of (v + u)/256 bounds the probability of v from below by 256^-D times itself [Theis16 sec. 3.1]
    elbo_metric *m =
        eval_result_add(e->out, "bits_per_dim", "bits/dim", -mean * scale + (likelihood_discrete(&l) ? 0 : 8), error * scale, b->n, NULL);
    m->mc_stderr = mc * scale;
    metric_note(m, "upper bound, from the one-sample bound");
  }
  if (asked(e, "recon")) {
    mean_and_error(b->recon, b->n, &mean, &error);
    elbo_metric *m = eval_result_add(e->out, "recon", "nats/image", mean, error, b->n, doubles_copy(b->recon, b->n));
    if (!e->proper) metric_note(m, e->why);
  }
  if (asked(e, "kl")) {
    mean_and_error(b->kl, b->n, &mean, &error);
    elbo_metric *m = eval_result_add(e->out, "kl", "nats/image", mean, error, b->n, doubles_copy(b->kl, b->n));
    if (b->cross_entropy) metric_note(m, "cross entropy less entropy");
  }
  report_prior(e);
  if (b->kl_each && b->code_size <= 4096) eval_result_list(e->out, "kl_per_dim", b->kl_each, b->code_size);
  if (b->kl_group && b->groups > 1) eval_result_list(e->out, "kl_per_group", b->kl_group, b->groups);
}

static elbo_status report_iwae(evaluation *e) {
  int64_t n = e->n;
  double *log_p = NULL, *effective = NULL, *variance = NULL, mean, error;
  elbo_status status;
  TRY_GOTO(array_new(e->m->ctx, (size_t)n, sizeof(double), "scores", (void **)&log_p));
  TRY_GOTO(array_new(e->m->ctx, (size_t)n, sizeof(double), "scores", (void **)&effective));
  TRY_GOTO(array_new(e->m->ctx, (size_t)n, sizeof(double), "scores", (void **)&variance));
  TRY_GOTO(estimate_importance(e->m, e->x, e->label, NULL, samples_of(e), seed_of_part(e->config->seed, 101), e->config->progress,
                               e->config->progress_user, log_p, effective, variance));
  mean_and_error(log_p, n, &mean, &error);
  elbo_metric *m = eval_result_add(e->out, e->proper ? "iwae" : "iwae_unnormalised", "nats/image", mean, error, n, log_p);
  log_p = NULL;
  m->mc_stderr = root_of_sum(variance, n), m->k = samples_of(e);
  if (!e->proper) metric_note(m, e->why);
  if (asked(e, "iwae_bits_per_dim") && e->proper && of_pixels(e)) {
    likelihood l = vae_likelihood(&e->m->spec, false);
    double scale = bits_of_nats(e);
    elbo_metric *bits =
        eval_result_add(e->out, "iwae_bits_per_dim", "bits/dim", -mean * scale + (likelihood_discrete(&l) ? 0 : 8), error * scale, n, NULL);
    bits->mc_stderr = m->mc_stderr * scale, bits->k = m->k;
    metric_note(bits, "upper bound, from the k-sample bound");
  }
  mean_and_error(effective, n, &mean, &error);
  m = eval_result_add(e->out, "iwae_effective_samples", "samples", mean, error, n, effective);
  effective = NULL;
  m->k = samples_of(e);
fail:
  free(log_p);
  free(effective);
  free(variance);
  return status;
}

// -log p(x): the bound on all images less its mean gap to the k-sample estimate on a random thousand.
static elbo_status report_nll(evaluation *e) {
  int64_t n = e->n, part = n < GAP_LIMIT ? n : GAP_LIMIT, size = elbo_array_count(e->x) / n;
  elbo_ctx *ctx = e->m->ctx;
  elbo_array *x = NULL, *label = NULL;
  int64_t *order = NULL;
  double *log_p = NULL, *variance = NULL, mean, error, gap, gap_error;
  elbo_status status;
  TRY_GOTO(array_new(ctx, (size_t)n, sizeof *order, "subset", (void **)&order));
  TRY_GOTO(array_new(ctx, (size_t)part, sizeof(double), "scores", (void **)&log_p));
  TRY_GOTO(array_new(ctx, (size_t)part, sizeof(double), "scores", (void **)&variance));
  philox_permutation(e->config->seed, philox_stream("eval.gap"), n, order);
  TRY_GOTO(elbo_array_create(ctx, ELBO_F32, 2, (int64_t[]){part, size}, &x));
  if (e->label) TRY_GOTO(elbo_array_create(ctx, e->label->dtype, e->label->rank, (int64_t[]){part, e->label->dim[1]}, &label));
  for (int64_t i = 0; i < part; i++) {
    memcpy((float *)x->data + i * size, (float *)e->x->data + order[i] * size, (size_t)size * sizeof(float));
    if (label) row_copy(label, i, e->label, order[i]);
  }
  TRY_GOTO(estimate_importance(e->m, x, label, order, samples_of(e), seed_of_part(e->config->seed, 102), e->config->progress,
                               e->config->progress_user, log_p, NULL, variance));
  for (int64_t i = 0; i < part; i++) log_p[i] -= e->bound.elbo[order[i]];
  mean_and_error(e->bound.elbo, n, &mean, &error);
  mean_and_error(log_p, part, &gap, &gap_error);
  elbo_metric *m = eval_result_add(e->out, e->proper ? "nll" : "nll_unnormalised", "nats/image", -(mean + gap),
                                   sqrt(error * error + gap_error * gap_error), n, NULL);
  double bound_mc = e->bound.draw_variance ? root_of_sum(e->bound.draw_variance, n) : 0;
  m->k = samples_of(e), m->mc_stderr = sqrt(bound_mc * bound_mc + pow(root_of_sum(variance, part), 2));
  if (e->proper)
    snprintf(m->note, sizeof m->note, "bound on %lld images less its gap (%.3f) to k = %d on %lld random ones", (long long)n, gap, m->k,
             (long long)part);
  else
    metric_note(m, e->why);
fail:
  elbo_array_destroy(&x);
  elbo_array_destroy(&label);
  free(order);
  free(log_p);
  free(variance);
  return status;
}

static elbo_status report_codes(evaluation *e) {
  elbo_ctx *ctx = e->m->ctx;
  bool mi = asked(e, "mutual_information"), mismatch = asked(e, "mismatch");
  elbo_array part = *e->x, part_label;
  if ((mi || mismatch) && part.dim[0] > CODES_LIMIT) part.dim[0] = CODES_LIMIT;
  if (e->label) part_label = *e->label, part_label.dim[0] = part.dim[0];
  int64_t n = part.dim[0];
  code_sample c;
  double *each = NULL, *variance = NULL, mean, error;
  elbo_status status;
  TRY(sample_codes(e->m, &part, e->label ? &part_label : NULL, seed_of_part(e->config->seed, 103), &c));
  if (asked(e, "active_units")) {
    TRY_GOTO(array_new(ctx, (size_t)c.d, sizeof(double), "variances", (void **)&variance));
    elbo_metric *m = eval_result_add(e->out, "active_units", "numbers", (double)active_units(c.mean->data, n, c.d, variance),
                                     active_units_error(c.mean->data, n, c.d), n, NULL);
    snprintf(m->note, sizeof m->note, "of %lld; variance of the posterior mean over the data above 0.01", (long long)c.d);
  }
  if (mi) {
    TRY_GOTO(array_new(ctx, (size_t)n, sizeof(double), "scores", (void **)&each));
    TRY_GOTO(index_code_information(ctx, c.mean->data, c.std->data, c.code->data, n, c.d, each));
    mean_and_error(each, n, &mean, &error);
    elbo_metric *m = eval_result_add(e->out, "mutual_information", "nats", mean, error, n, each);
    each = NULL;
    double ceiling = log((double)n);
    snprintf(m->note, sizeof m->note, "index-code information; ceiling ln %lld = %.3f%s", (long long)n, ceiling,
             mean > 0.9 * ceiling ? "; saturated" : "");
  }
  if (mismatch && e->m->prior) {
    elbo_sample_config drawn;
    elbo_sample_defaults(&drawn);
    drawn.n = n, drawn.seed = seed_of_part(e->config->seed, 103);
    TRY_GOTO(diffusion_sample(e->m->prior, &drawn, &c.prior));
  }
  if (mismatch) {
    double discrepancy, p_value;
    int64_t few = n < 1000 ? n : 1000;
    TRY_GOTO(two_sample_test(ctx, c.code->data, c.prior->data, few, c.d, 99, e->config->seed, &discrepancy, &error, &p_value));
    elbo_metric *m = eval_result_add(e->out, "mismatch", "squared MMD", discrepancy, error, few, NULL);
    snprintf(m->note, sizeof m->note, "codes of held-out data against p(z), two-sample test: p %.2f", p_value);
  }
fail:
  free(each);
  free(variance);
  code_sample_free(&c);
  return status;
}

static elbo_status report_pictures(evaluation *e) {
  const reconstruction_wanted wanted = reconstruction_asked(e->config->metrics, usual(e), "");
  elbo_array *y = NULL;
  if (!reconstruction_any(wanted)) return ELBO_OK;
  elbo_status status = elbo_reconstruct(e->m, e->x, e->label, 1, seed_of_part(e->config->seed, 104), &y);
  if (status == ELBO_OK)
    status = reconstruction_report(e->m->ctx, e->x, y, "reconstructions from a posterior sample", "", wanted, e->config, e->out);
  elbo_array_destroy(&y);
  return status;
}

// The examples to score: all of a split, or a random part of it, in the order of the data.
static elbo_status read_examples(evaluation *e, elbo_dataset *data) {
  elbo_ctx *ctx = e->m->ctx;
  elbo_dataset_info info;
  elbo_dataset_get_info(data, &info);
  e->bits = info.bits;
  int64_t all = info.count[e->config->split], limit = e->config->limit;
  const picture_shape *s = &e->m->spec.shape;
  if (all < 1)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "evaluate: the data have no examples in the %s split%s", split_text(e->config->split),
                e->config->split == ELBO_SPLIT_VALID ? "; data.holdout=N holds some out" : "");
  if (info.height != s->height || info.width != s->width || info.channels != s->channels)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "evaluate: the examples of the data are %d x %d x %d; the model's are %lld x %lld x %lld",
                info.height, info.width, info.channels, (long long)s->height, (long long)s->width, (long long)s->channels);
  TRY(read_conditioned(&e->m->spec, data, e->config->split, 0, all, 0, 0, &e->x, &e->label));
  prepare_pictures(&e->m->spec, e->config->seed, 0, e->x);
  e->n = e->x->dim[0];
  if (limit <= 0 || limit >= e->n) return ELBO_OK;
  e->n = limit;
  return examples_subset(ctx, e->config->seed, limit, e->x, e->label);
}

// What an adversary had a hand in has no likelihood: its decoder was not fitted to p(x|z).
static elbo_status check_bound(const elbo_model *m, const char *metrics) {
  static const char *const bounds[] = {"elbo", "iwae", "recon", "nll", "bits_per_dim", "iwae_bits_per_dim"};
  for (size_t i = 0; !vae_has_bound(&m->spec) && i < sizeof bounds / sizeof *bounds; i++)
    if (metrics && metric_asked(metrics, "", bounds[i]))
      return fail(
          m->ctx, ELBO_ERROR_UNSUPPORTED,
          "evaluate: %s: an adversary, which is no part of the bound, trained this model (%s): it has no likelihood; kl, active_units, "
          "mutual_information, mismatch, psnr, mse, ssim, perceptual and the measures of samples were expected",
          bounds[i], vae_preset_name(&m->spec));
  return ELBO_OK;
}

// What asks for p(z) itself, of which a diffusion prior gives a bound; and what is about such a prior alone.
static elbo_status check_prior(const elbo_model *m, const char *metrics) {
  static const char *const densities[] = {"iwae", "nll", "iwae_bits_per_dim", NULL}, *const parts[] = {"entropy", "cross_entropy", NULL};
  for (const char *const *name = m->prior ? densities : parts; metrics && *name; name++) {
    if (metric_asked(metrics, "", *name))
      return fail(m->ctx, ELBO_ERROR_UNSUPPORTED, "evaluate: %s: %s; elbo, recon, kl and bits_per_dim were expected", *name,
                  m->prior ? "weighs draws by p(z), of which a diffusion prior (lsgm) gives a bound alone"
                           : "is a part of the bound of a model with a diffusion prior (lsgm)");
  }
  return ELBO_OK;
}

static elbo_status score_bound(evaluation *e) {
  const elbo_eval_config *c = e->config;
  uint64_t seed = seed_of_part(c->seed, 100);
  if (e->m->prior) return lsgm_bound(e->m, e->x, NULL, BOUND_DRAWS, times_of(e), seed, c->progress, c->progress_user, &e->bound);
  return estimate_bound(e->m, e->x, e->label, NULL, BOUND_DRAWS, seed, c->progress, c->progress_user, &e->bound);
}

elbo_status vae_evaluate(elbo_model *m, elbo_dataset *data, const elbo_eval_config *config, elbo_eval_result **out) {
  TRY(metric_names_check(m->ctx, config->metrics, METRICS));
  TRY(check_bound(m, config->metrics));
  TRY(check_prior(m, config->metrics));
  evaluation e = {.m = m, .config = config};
  elbo_status status;
  TRY(eval_result_new(m->ctx, &e.out));
  TRY_GOTO(read_examples(&e, data));
  what_is_scored(&e);
  bool nll = asked(&e, "nll");
  bool prior = m->prior && (asked(&e, "entropy") || asked(&e, "cross_entropy"));
  if (asked(&e, "elbo") || asked(&e, "recon") || asked(&e, "kl") || asked(&e, "bits_per_dim") || nll || prior) {
    TRY_GOTO(score_bound(&e));
    report_bound(&e);
  }
  if (asked(&e, "iwae") || asked(&e, "iwae_bits_per_dim")) TRY_GOTO(report_iwae(&e));
  if (nll) TRY_GOTO(report_nll(&e));
  if (asked(&e, "active_units") || asked(&e, "mutual_information") || asked(&e, "mismatch")) TRY_GOTO(report_codes(&e));
  TRY_GOTO(report_pictures(&e));
  if (quality_asked(config->metrics)) TRY_GOTO(model_quality_report(m, true, data, config, e.out));
  TRY_GOTO(eval_result_finish(m, config, e.out));
  *out = e.out, e.out = NULL;
fail:
  elbo_eval_destroy(&e.out);
  bound_estimate_free(&e.bound);
  elbo_array_destroy(&e.x);
  elbo_array_destroy(&e.label);
  return status;
}
