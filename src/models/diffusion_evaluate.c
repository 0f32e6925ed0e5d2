// What a diffusion model is worth on data: which numbers may be called bits/dim is decided here.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/philox.h"
#include "eval/statistics.h"
#include "models/diffusion_bound.h"
#include "models/diffusion_density.h"
#include "models/diffusion_schedules.h"
#include "models/eval_result.h"
#include "models/reconstruction.h"
#include "models/sample_quality.h"

enum { TIME_DRAWS = 20, EXACT_MOST = 16 };
#define METRICS "bpd, bpd_parts, ode_bpd, ode_nll, density_mass, schedule_variance, " RECONSTRUCTION_METRICS ", " QUALITY_METRICS

typedef struct evaluation {
  elbo_model *m;
  const elbo_eval_config *config;
  elbo_array *x, *label;
  scored_examples examples;
  double scale; // nats of an example to bits a dimension
  elbo_eval_result *out;
} evaluation;

static bool asked(const evaluation *e, const char *name) {
  return metric_asked(e->config->metrics, e->m->diffusion->spec.bits == 8 ? "bpd" : "ode_nll", name);
}

// Random parts of a split in the order of the data, as the VAE's evaluation takes them.
static elbo_status read_examples(evaluation *e, elbo_dataset *data) {
  elbo_ctx *ctx = e->m->ctx;
  const diffusion_spec *s = &e->m->diffusion->spec;
  elbo_dataset_info info;
  elbo_dataset_get_info(data, &info);
  int64_t all = info.count[e->config->split], limit = e->config->limit;
  if (all < 1)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "evaluate: the data have no examples in the %s split%s", split_text(e->config->split),
                e->config->split == ELBO_SPLIT_VALID ? "; data.holdout=N holds some out" : "");
  elbo_model_info own;
  elbo_model_get_info(e->m, &own);
  if (info.height != own.height || info.width != own.width || info.channels != own.channels)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "evaluate: the examples of the data are %d x %d x %d; the model's are %d x %d x %d", info.height,
                info.width, info.channels, own.height, own.width, own.channels);
  if (s->model.condition.type == DIFFUSION_CLASS && info.classes < 1)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "evaluate: this model is conditioned on a class; the data have no labels");
  if (s->model.condition.type == DIFFUSION_CLASS && info.classes > s->classes)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "evaluate: the data have %d classes; the model knows %lld", info.classes, (long long)s->classes);
  TRY(diffusion_condition_check(ctx, s, info.condition_tokens, info.condition_dim, "evaluate"));
  if (s->bits == 8 && info.bits != 8)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "evaluate: the model is of 8-bit pictures; these are %s", info.bits ? "16-bit" : "float");
  if (s->latent) return ELBO_OK; // its samples and its autoencoder's reconstructions are judged
  TRY(diffusion_read(s, data, e->config->split, 0, all, &e->x, &e->label));
  if (limit > 0 && limit < e->x->dim[0]) TRY(examples_subset(ctx, e->config->seed, limit, e->x, e->label));
  e->examples = (scored_examples){.x = e->x,
                                  .label = e->label,
                                  .n = e->x->dim[0],
                                  .seed = e->config->seed,
                                  .progress = e->config->progress,
                                  .user = e->config->progress_user};
  e->scale = 1 / ((double)(s->height * s->width * s->channels) * log(2));
  return ELBO_OK;
}

static elbo_metric *add_mean(evaluation *e, const char *name, const char *unit, const double *v, double scale, bool keep) {
  int64_t n = e->examples.n;
  double mean, error;
  mean_and_error(v, n, &mean, &error);
  double *each = keep ? doubles_copy(v, n) : NULL;
  for (int64_t i = 0; each && i < n; i++) each[i] *= scale;
  return eval_result_add(e->out, name, unit, mean * scale, error * scale, n, each);
}

static double mean_variance_root(const double *variance, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++) sum += variance[i];
  return sqrt(sum) / (double)n;
}

static elbo_status report_bound(evaluation *e, bool all) {
  const diffusion_model *d = e->m->diffusion;
  if (d->spec.bits != 8)
    return fail(e->m->ctx, ELBO_ERROR_ARGUMENT, "metrics: %s: of 8-bit pictures; ode_nll scores float data", all ? "bpd_parts" : "bpd");
  if (d->spec.model.process.type == PROCESS_FLOW)
    return fail(e->m->ctx, ELBO_ERROR_ARGUMENT,
                "metrics: %s: the bound is infinite at the ends of process flow, where there is no noise, or no data; ode_bpd is not",
                all ? "bpd_parts" : "bpd");
  int draws = e->config->samples > 0 ? e->config->samples : TIME_DRAWS;
  diffusion_bound b;
  TRY(diffusion_bound_estimate(e->m, &e->examples, all, draws, &b));
  bool summed = all && process_steps(d->process);
  elbo_metric *m = add_mean(e, "bpd", "bits/dim", b.total, e->scale, true);
  if (b.draw_variance) m->mc_stderr = mean_variance_root(b.draw_variance, b.n) * e->scale, m->k = draws;
  if (summed)
    snprintf(m->note, sizeof m->note, "upper bound, all %lld terms", (long long)b.steps);
  else if (process_steps(d->process))
    snprintf(m->note, sizeof m->note, "upper bound, %d of the %lld terms drawn for each picture", draws,
             (long long)process_steps(d->process));
  else
    snprintf(m->note, sizeof m->note, "upper bound, continuous time, %d times drawn for each picture", draws);
  if (all) {
    add_mean(e, "bpd_prior", "bits/dim", b.prior, e->scale, false);
    m = add_mean(e, "bpd_diffusion", "bits/dim", b.middle, e->scale, false);
    if (b.draw_variance) m->mc_stderr = mean_variance_root(b.draw_variance, b.n) * e->scale, m->k = draws;
    add_mean(e, "bpd_decoder", "bits/dim", b.decoder, e->scale, false);
    for (int64_t i = 0; i < b.steps; i++) b.each_step[i] *= e->scale;
    if (b.steps) eval_result_list(e->out, "bpd_per_step", b.each_step, b.steps);
  }
  add_mean(e, "nll_bound", "nats/image", b.total, 1, false);
  diffusion_bound_free(&b);
  return ELBO_OK;
}

static elbo_status report_ode(evaluation *e, bool bits) {
  const diffusion_model *d = e->m->diffusion;
  elbo_ctx *ctx = e->m->ctx;
  int64_t n = e->examples.n, size = d->spec.height * d->spec.width * d->spec.channels, calls;
  if (bits && d->spec.bits != 8) return fail(ctx, ELBO_ERROR_ARGUMENT, "metrics: ode_bpd: of 8-bit pictures; ode_nll scores float data");
  ode_options o = {.exact = size <= EXACT_MOST, .rtol = 1e-5, .atol = 1e-5};
  if (e->config->tolerance > 0) o.rtol = o.atol = e->config->tolerance;
  o.draws = o.exact && d->spec.bits != 8 ? 1 : e->config->samples > 0 ? e->config->samples : 1;
  o.t_min = e->config->t_min > 0 ? e->config->t_min : diffusion_ode_start(d->process);
  double *nll = NULL, *variance = NULL;
  elbo_status status;
  TRY_GOTO(array_new(ctx, (size_t)n, sizeof(double), "scores", (void **)&nll));
  TRY_GOTO(array_new(ctx, (size_t)n, sizeof(double), "scores", (void **)&variance));
  TRY_GOTO(diffusion_ode_nll(e->m, &e->examples, &o, nll, variance, &calls));
  int64_t rows = n < e->m->batch_size ? n : e->m->batch_size, batches = (n + rows - 1) / rows * o.draws;
  elbo_metric *m = bits ? add_mean(e, "ode_bpd", "bits/dim", nll, e->scale, true) : add_mean(e, "ode_nll", "nats/example", nll, 1, true);
  if (o.draws > 1) m->mc_stderr = mean_variance_root(variance, n) * (bits ? e->scale : 1), m->k = o.draws;
  snprintf(m->note, sizeof m->note, "%sprobability flow, %s, t_min %g, rtol = atol = %g, %d draw%s%s, %lld network calls a batch",
           bits ? "upper bound: " : "", o.exact ? "exact trace" : "Hutchinson's trace", o.t_min, o.rtol, o.draws, o.draws > 1 ? "s" : "",
           bits ? ", uniform dequantisation" : "", (long long)(calls / batches));
fail:
  free(nll);
  free(variance);
  return status;
}

// A model of codes has a density of codes, not of pictures.
static elbo_status check_likelihoods(const elbo_model *m, const char *metrics) {
  static const char *const of_data[] = {"bpd", "bpd_parts", "ode_bpd", "ode_nll", "density_mass", "schedule_variance"};
  if (!m->diffusion->spec.latent) return ELBO_OK;
  const bool bounded = m->diffusion->spec.latent->autoencoder->kind == &model_kind_vae;
  for (size_t i = 0; i < sizeof of_data / sizeof *of_data; i++)
    if (!metrics || metric_asked(metrics, "", of_data[i]))
      return fail(
          m->ctx, ELBO_ERROR_UNSUPPORTED,
          "metrics: %s: a model of an autoencoder's codes has no likelihood of pictures%s; its samples can be judged: " QUALITY_METRICS,
          metrics ? of_data[i] : "likelihoods",
          bounded ? ": the bound of encoder, decoder and this prior together is not computed"
                  : ", as what decodes them was trained to look right (perceptual and adversarial terms are no likelihood)");
  return ELBO_OK;
}

// Of a model of codes: what its autoencoder, which limits it, keeps of pictures.
static elbo_status report_reconstructions(evaluation *e, elbo_dataset *data) {
  const reconstruction_wanted wanted = reconstruction_asked(e->config->metrics, "", "");
  elbo_array *x = NULL, *in = NULL, *y = NULL;
  elbo_dataset_info about;
  elbo_model_info info;
  elbo_status status;
  if (!reconstruction_any(wanted)) return ELBO_OK;
  if (!e->m->diffusion->spec.latent)
    return fail(e->m->ctx, ELBO_ERROR_UNSUPPORTED, "metrics: " RECONSTRUCTION_METRICS " are of reconstructions: this model %s",
                e->m->kind->why_not);
  elbo_dataset_get_info(data, &about);
  elbo_model_get_info(e->m, &info);
  int64_t all = about.count[e->config->split], limit = e->config->limit;
  TRY_GOTO(elbo_dataset_read(data, e->config->split, 0, all, 0, 0, &x, NULL));
  if (limit > 0 && limit < x->dim[0]) TRY_GOTO(examples_subset(e->m->ctx, e->config->seed, limit, x, NULL));
  TRY_GOTO(elbo_array_convert(e->m->ctx, x, ELBO_F32, &in));
  const float low = (float)info.low, width = (float)(info.high - info.low);
  for (int64_t i = 0, n = elbo_array_count(in); i < n; i++) ((float *)in->data)[i] = low + ((float *)in->data)[i] * width;
  TRY_GOTO(elbo_reconstruct(e->m, in, NULL, 1, seed_of_part(e->config->seed, 104), &y));
  for (int64_t i = 0, n = elbo_array_count(y); i < n; i++) ((float *)y->data)[i] = (((float *)y->data)[i] - low) / width;
  status =
      reconstruction_report(e->m->ctx, x, y, "reconstructions of the autoencoder, from a draw of the code", "", wanted, e->config, e->out);
fail:
  elbo_array_destroy(&x);
  elbo_array_destroy(&in);
  elbo_array_destroy(&y);
  return status;
}

elbo_status diffusion_evaluate(elbo_model *m, elbo_dataset *data, const elbo_eval_config *config, elbo_eval_result **out) {
  TRY(metric_names_check(m->ctx, config->metrics, METRICS));
  TRY(check_likelihoods(m, config->metrics));
  if (!m->diffusion->process) return fail(m->ctx, ELBO_ERROR_UNSUPPORTED, "evaluate: this network comes without a process");
  evaluation e = {.m = m, .config = config};
  elbo_status status;
  TRY(eval_result_new(m->ctx, &e.out));
  TRY_GOTO(read_examples(&e, data));
  if (asked(&e, "bpd_parts"))
    TRY_GOTO(report_bound(&e, true));
  else if (asked(&e, "bpd"))
    TRY_GOTO(report_bound(&e, false));
  if (asked(&e, "ode_bpd")) TRY_GOTO(report_ode(&e, true));
  if (asked(&e, "ode_nll")) TRY_GOTO(report_ode(&e, false));
  if (asked(&e, "density_mass")) TRY_GOTO(report_density_mass(m, &e.examples, e.out));
  if (asked(&e, "schedule_variance")) TRY_GOTO(report_schedule_variance(m, &e.examples, config->samples, e.out));
  TRY_GOTO(report_reconstructions(&e, data));
  if (quality_asked(config->metrics)) TRY_GOTO(model_quality_report(m, false, data, config, e.out));
  TRY_GOTO(eval_result_finish(m, config, e.out));
  *out = e.out, e.out = NULL;
fail:
  elbo_eval_destroy(&e.out);
  elbo_array_destroy(&e.x);
  elbo_array_destroy(&e.label);
  return status;
}
