// What an autoencoder keeps of pictures, and what of its codes is used. It is no likelihood: nothing here is called a bound.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "eval/statistics.h"
#include "models/autoencoder.h"
#include "models/eval_result.h"
#include "models/reconstruction.h"
#include "models/sample_quality.h"
#include "nn/vector_quantizer.h"

#define METRICS RECONSTRUCTION_METRICS ", kl, code_usage, perplexity, " QUALITY_METRICS

typedef struct evaluation {
  elbo_model *m;
  const elbo_eval_config *config;
  elbo_dataset *data;
  int bits;
  elbo_array *x; // in -1..1
  elbo_eval_result *out;
} evaluation;

static const char *const usual[CODEC_KINDS] = {"psnr,ssim,kl", "psnr,ssim,code_usage,perplexity", "psnr,ssim"};
static bool asked(const evaluation *e, const char *name) {
  return metric_asked(e->config->metrics, usual[e->m->autoencoder->network], name);
}

// To 0..1, as a picture is written
static void to_pictures(elbo_array *x) {
  float *v = x->data;
  for (int64_t i = 0, n = elbo_array_count(x); i < n; i++) v[i] = fminf(fmaxf(0.5f * v[i] + 0.5f, 0), 1);
}

static elbo_status reconstruct(const evaluation *e, const elbo_array *x, uint64_t seed, elbo_array **y) {
  return elbo_reconstruct(e->m, x, NULL, 1, seed, y);
}

static elbo_status measure(elbo_ctx *ctx, int64_t n, double **out) {
  return array_new(ctx, (size_t)n, sizeof(double), "scores", (void **)out);
}

static elbo_status report_pictures(evaluation *e) {
  const reconstruction_wanted wanted = reconstruction_asked(e->config->metrics, usual[e->m->autoencoder->network], "");
  const char *how = e->m->autoencoder->network == CODEC_KL ? "reconstructions from a draw of the code" : "reconstructions from the code";
  elbo_ctx *ctx = e->m->ctx;
  elbo_array *x = NULL, *y = NULL;
  elbo_status status;
  if (!reconstruction_any(wanted)) return ELBO_OK;
  TRY_GOTO(elbo_array_convert(ctx, e->x, ELBO_F32, &x));
  TRY_GOTO(reconstruct(e, x, seed_of_part(e->config->seed, 104), &y));
  to_pictures(x), to_pictures(y);
  status = reconstruction_report(ctx, x, y, how, "", wanted, e->config, e->out);
fail:
  elbo_array_destroy(&x), elbo_array_destroy(&y);
  return status;
}

static elbo_status report_kl(evaluation *e) {
  elbo_array *mean = NULL, *deviation = NULL;
  double *kl = NULL, value, error;
  elbo_status status;
  TRY_GOTO(elbo_encode(e->m, e->x, NULL, &mean, &deviation));
  const int64_t n = mean->dim[0], size = elbo_array_count(mean) / n;
  TRY_GOTO(measure(e->m->ctx, n, &kl));
  for (int64_t i = 0; i < n * size; i++) {
    double m = ((const float *)mean->data)[i], s = ((const float *)deviation->data)[i];
    kl[i / size] += 0.5 * (m * m + s * s - 1) - log(s);
  }
  mean_and_error(kl, n, &value, &error);
  eval_result_add(e->out, "kl", "nats/image", value, error, n, kl), kl = NULL;
fail:
  elbo_array_destroy(&mean), elbo_array_destroy(&deviation);
  free(kl);
  return status;
}

// The row of the table that each place of the code takes, as a float
static elbo_status make_indices(const autoencoder_call *c, elbo_tensor *in, const void *user, elbo_tensor **outputs) {
  const codec_config *config = c->m->autoencoder;
  (void)user;
  elbo_tensor *z = codec_encode(config, in).mean;
  if (z) outputs[0] = elbo_cast(quantize_vectors(z, vq_codebook(&config->vq, elbo_tensor_graph(in))).index, ELBO_F32);
  return ELBO_OK;
}

static elbo_status report_codes(evaluation *e) {
  const int64_t codes = e->m->autoencoder->vq.num_vq_embeddings;
  elbo_array *index = NULL;
  double *share = NULL, entropy = 0;
  int64_t used = 0;
  elbo_status status;
  autoencoder_call call = {.m = e->m, .what = "codes", .in = e->x};
  TRY_GOTO(autoencoder_run(&call, make_indices, NULL, 1, &index));
  TRY_GOTO(measure(e->m->ctx, codes, &share));
  const int64_t places = elbo_array_count(index), n = e->x->dim[0];
  for (int64_t i = 0; i < places; i++) share[(int64_t)((const float *)index->data)[i]] += 1 / (double)places;
  for (int64_t k = 0; k < codes; k++) {
    used += share[k] > 0;
    if (share[k] > 0) entropy -= share[k] * log(share[k]);
  }
  if (asked(e, "code_usage")) {
    elbo_metric *m = eval_result_add(e->out, "code_usage", "", (double)used / (double)codes, NAN, n, NULL);
    snprintf(m->note, sizeof m->note, "%lld of %lld codes, by %lld places", (long long)used, (long long)codes, (long long)places);
  }
  if (asked(e, "perplexity")) eval_result_add(e->out, "perplexity", "codes", exp(entropy), NAN, n, NULL);
fail:
  elbo_array_destroy(&index);
  free(share);
  return status;
}

// --- as pictures ---

// Reconstructions of the very pictures whose originals are the floor: no prior over these codes can come nearer to the data.
static elbo_status draw_reconstructions(void *user, int64_t n, uint64_t seed, elbo_array **out) {
  const evaluation *e = user;
  elbo_array *x = NULL, *y = NULL;
  elbo_status status;
  TRY_GOTO(elbo_dataset_read(e->data, e->config->split, 0, 2 * n, 1, e->config->seed, &x, NULL));
  autoencoder_take_pictures(e->bits, x);
  elbo_array part = *x;
  part.dim[0] = n, part.data = (float *)x->data + elbo_array_count(x) / 2;
  TRY_GOTO(reconstruct(e, &part, seed, &y));
  to_pictures(y);
  *out = y, y = NULL;
fail:
  elbo_array_destroy(&x), elbo_array_destroy(&y);
  return status;
}

// --- the whole ---

static elbo_status check_names(const evaluation *e) {
  const char *metrics = e->config->metrics;
  const int network = e->m->autoencoder->network;
  TRY(metric_names_check(e->m->ctx, metrics, METRICS));
  if (metrics && network != CODEC_KL && metric_asked(metrics, "", "kl"))
    return fail(e->m->ctx, ELBO_ERROR_ARGUMENT, "metrics: kl: only an AutoencoderKL has a posterior");
  if (metrics && network != CODEC_VQ && (metric_asked(metrics, "", "code_usage") || metric_asked(metrics, "", "perplexity")))
    return fail(e->m->ctx, ELBO_ERROR_ARGUMENT, "metrics: code_usage and perplexity are of a VQModel's table");
  return ELBO_OK;
}

static elbo_status read_examples(evaluation *e) {
  elbo_ctx *ctx = e->m->ctx;
  elbo_dataset_info info;
  elbo_dataset_get_info(e->data, &info);
  const elbo_split split = e->config->split;
  const int64_t all = info.count[split], limit = e->config->limit, channels = codec_config_shape(e->m->autoencoder).in_channels;
  e->bits = info.bits;
  if (all < 1)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "evaluate: the data have no examples in the %s split%s", split_text(split),
                split == ELBO_SPLIT_VALID ? "; data.holdout=N holds some out" : "");
  if (info.channels != channels)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "evaluate: the examples of the data have %d channels; the autoencoder takes %lld", info.channels,
                (long long)channels);
  TRY(elbo_dataset_read(e->data, split, 0, all, 0, 0, &e->x, NULL));
  if (limit > 0 && limit < e->x->dim[0]) TRY(examples_subset(ctx, e->config->seed, limit, e->x, NULL));
  autoencoder_take_pictures(e->bits, e->x);
  return ELBO_OK;
}

elbo_status autoencoder_evaluate(elbo_model *m, elbo_dataset *data, const elbo_eval_config *config, elbo_eval_result **out) {
  evaluation e = {.m = m, .config = config, .data = data};
  elbo_status status;
  TRY(check_names(&e));
  TRY(eval_result_new(m->ctx, &e.out));
  TRY_GOTO(read_examples(&e));
  TRY_GOTO(report_pictures(&e));
  if (asked(&e, "kl")) TRY_GOTO(report_kl(&e));
  if (asked(&e, "code_usage") || asked(&e, "perplexity")) TRY_GOTO(report_codes(&e));
  if (quality_asked(config->metrics)) {
    quality_source source = {.draw = draw_reconstructions, .user = &e, .seeds = 1, .judged = "reconstructions"};
    TRY_GOTO(quality_report(m->ctx, &source, data, config, e.out));
  }
  TRY_GOTO(eval_result_finish(m, config, e.out));
  *out = e.out, e.out = NULL;
fail:
  elbo_array_destroy(&e.x);
  elbo_eval_destroy(&e.out);
  return status;
}
