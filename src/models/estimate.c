#include "models/estimate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/philox.h"
#include "data/data_config.h"
#include "eval/statistics.h"

void prepare_pictures(const vae_spec *spec, uint64_t seed, int64_t first, elbo_array *x) {
  if (spec->binarize == BINARIZE_NONE && spec->dequantize == DEQUANTIZE_NONE) return;
  uint32_t stream = philox_stream(spec->binarize != BINARIZE_NONE ? "eval.binarize" : "eval.dequantize");
  int64_t size = elbo_array_count(x) / (x->dim[0] ? x->dim[0] : 1);
  double levels = spec->bits == 16 ? 65536 : 256;
  for (int64_t i = 0; i < x->dim[0]; i++) {
    float *v = (float *)x->data + i * size;
    uint32_t word[4];
    for (int64_t j = 0; j < size; j++) {
      if (j % 4 == 0) philox_draw(seed, stream, (uint64_t)(first + i), (uint32_t)(j / 4), word);
      double u = philox_uniform(word[j % 4]);
      v[j] = spec->binarize != BINARIZE_NONE ? (float)(u < (double)v[j]) : (float)((round((double)v[j] * (levels - 1)) + u) / levels);
    }
  }
}

void bound_estimate_free(bound_estimate *e) {
  free(e->elbo);
  free(e->recon);
  free(e->kl);
  free(e->draw_variance);
  free(e->entropy);
  free(e->cross_entropy);
  free(e->cross_variance);
  free(e->kl_each);
  free(e->kl_group);
  *e = (bound_estimate){0};
}

// Scores with K draws: outputs log p(x|z) (R), KL (B), log w (R), and elementwise KL (B,code) where there is one.
static elbo_status open_scores(elbo_model *m, int64_t batch, int64_t samples, bool importance, bool *has_each, session *out) {
  elbo_graph *g = NULL;
  *out = (session){0};
  TRY(elbo_graph_create(m->ctx, "scores", &g));
  latent_request request = {.spec = &m->spec, .graph = g, .batch = batch, .samples = samples, .mode = LATENT_POSTERIOR};
  vae_latents z = vae_latent_pass(&request);
  likelihood l = vae_likelihood(&m->spec, false);
  elbo_scope_push(g, "decoder");
  elbo_tensor *log_x = likelihood_log_prob(&l, z.output, repeat_rows(vae_input_x(&m->spec, g, batch), samples), NULL);
  elbo_scope_pop(g);
  if (importance) {
    elbo_tensor *log_w = elbo_add(log_x, elbo_sub(z.log_p, z.log_q));
    return session_create(m->ctx, g, m->store, batch, 1, &log_w, out);
  }
  elbo_tensor *each[MAX_GROUPS], *outputs[3] = {log_x, z.kl, NULL};
  *has_each = z.n > 0;
  for (int i = 0; i < z.n; i++) {
    each[i] = z.group[i].kl;
    if (!each[i]) *has_each = false;
  }
  if (*has_each) outputs[2] = elbo_scale(z.n == 1 ? each[0] : elbo_concat(z.n, each, 1), 1, 0);
  return session_create(m->ctx, g, m->store, batch, *has_each ? 3 : 2, outputs, out);
}

elbo_status estimate_bound(elbo_model *m, const elbo_array *x, const elbo_array *label, const int64_t *index, int draws, uint64_t seed,
                           elbo_progress_fn progress, void *user, bound_estimate *out) {
  *out = (bound_estimate){0};
  int64_t n, d = vae_code_size(&m->spec);
  const void *told;
  TRY(model_check_pictures(m, "bound", x, &n));
  TRY(model_check_condition(m, "bound", label, n, &told));
  if (n < 1) return fail(m->ctx, ELBO_ERROR_ARGUMENT, "bound: no examples");
  session s = {0};
  elbo_status status;
  bool has_each = false;
  picture_shape group[MAX_GROUPS];
  double *squares = NULL;
  int64_t batch = n < m->batch_size ? n : m->batch_size;
  out->n = n, out->code_size = d, out->groups = vae_groups(&m->spec, group);
  TRY_GOTO(array_new(m->ctx, (size_t)n, sizeof(double), "scores", (void **)&out->elbo));
  TRY_GOTO(array_new(m->ctx, (size_t)n, sizeof(double), "scores", (void **)&out->recon));
  TRY_GOTO(array_new(m->ctx, (size_t)n, sizeof(double), "scores", (void **)&out->kl));
  TRY_GOTO(array_new(m->ctx, (size_t)n, sizeof(double), "scores", (void **)&squares));
  TRY_GOTO(array_new(m->ctx, (size_t)d, sizeof(double), "scores", (void **)&out->kl_each));
  TRY_GOTO(array_new(m->ctx, (size_t)out->groups, sizeof(double), "scores", (void **)&out->kl_group));
  TRY_GOTO(open_scores(m, batch, 1, false, &has_each, &s));
  for (int draw = 0; draw < draws; draw++)
    for (int64_t at = 0; at < n; at += batch) {
      int64_t count = n - at < batch ? n - at : batch;
      session_rows rows = {.x = x->data, .condition = told, .index = index, .seed = seed_of_part(seed, (uint64_t)draw)};
      TRY_GOTO(session_run(&s, &rows, at, count));
      const float *recon = session_output(&s, 0), *kl = session_output(&s, 1), *each = has_each ? session_output(&s, 2) : NULL;
      for (int64_t i = 0; i < count; i++) {
        double bound = (double)recon[i] - kl[i];
        out->recon[at + i] += recon[i] / (double)draws, out->kl[at + i] += kl[i] / (double)draws;
        out->elbo[at + i] += bound / draws, squares[at + i] += bound * bound / draws;
        for (int64_t j = 0; each && j < d; j++) out->kl_each[j] += each[i * d + j] / ((double)n * draws);
      }
      if (progress && !progress(user, "bound", draw * n + at + count, draws * n, "")) {
        status = fail(m->ctx, ELBO_ERROR_STOPPED, "evaluation stopped");
        goto fail;
      }
    }
  if (draws > 1) {
    for (int64_t i = 0; i < n; i++) {
      double spread = squares[i] - out->elbo[i] * out->elbo[i];
      squares[i] = spread > 0 ? spread / (draws - 1) : 0;
    }
    out->draw_variance = squares, squares = NULL;
  }
  if (has_each) {
    int64_t at = 0;
    for (int i = 0; i < out->groups; i++)
      for (int64_t j = group[i].height * group[i].width * group[i].channels; j > 0; j--) out->kl_group[i] += out->kl_each[at++];
  } else {
    free(out->kl_each);
    free(out->kl_group);
    out->kl_each = out->kl_group = NULL;
  }
  free(squares);
  session_destroy(&s);
  return ELBO_OK;
fail:
  free(squares);
  session_destroy(&s);
  bound_estimate_free(out);
  return status;
}

elbo_status estimate_importance(elbo_model *m, const elbo_array *x, const elbo_array *label, const int64_t *index, int64_t k, uint64_t seed,
                                elbo_progress_fn progress, void *user, double *log_p, double *effective, double *variance) {
  enum { CHUNK = 50, ROWS = 1000 };
  int64_t n;
  const void *told;
  TRY(model_check_pictures(m, "importance bound", x, &n));
  TRY(model_check_condition(m, "importance bound", label, n, &told));
  if (k < 1) return fail(m->ctx, ELBO_ERROR_ARGUMENT, "importance bound: %lld samples; at least 1 was expected", (long long)k);
  // the draws of an example depend on (seed, chunk, its index) and on k, not on how many examples go together
  int64_t chunks = (k + CHUNK - 1) / CHUNK, chunk = (k + chunks - 1) / chunks, batch = ROWS / chunk;
  if (batch > n) batch = n;
  session s = {0};
  elbo_status status;
  weight_sum *sums = NULL;
  TRY_GOTO(array_new(m->ctx, (size_t)n + 1, sizeof *sums, "importance weights", (void **)&sums));
  TRY_GOTO(open_scores(m, batch, chunk, true, NULL, &s));
  for (int64_t at = 0; at < n; at += batch) {
    int64_t count = n - at < batch ? n - at : batch;
    for (int64_t c = 0; c < chunks; c++) {
      session_rows rows = {.x = x->data, .condition = told, .index = index, .seed = seed_of_part(seed, (uint64_t)c)};
      TRY_GOTO(session_run(&s, &rows, at, count));
      const float *log_w = session_output(&s, 0); // (B,K)
      int64_t used = k - c * chunk < chunk ? k - c * chunk : chunk;
      for (int64_t i = 0; i < count; i++)
        for (int64_t j = 0; j < used; j++) weight_sum_add(&sums[at + i], log_w[i * chunk + j]);
      if (progress && !progress(user, "iwae", at * k + (c * chunk + used) * count, n * k, "")) {
        status = fail(m->ctx, ELBO_ERROR_STOPPED, "evaluation stopped");
        goto fail;
      }
    }
  }
  for (int64_t i = 0; i < n; i++) {
    log_p[i] = weight_sum_log_mean(&sums[i]);
    if (effective) effective[i] = weight_sum_effective(&sums[i]);
    if (variance) variance[i] = weight_sum_log_variance(&sums[i]);
  }
fail:
  free(sums);
  session_destroy(&s);
  return status;
}

void code_sample_free(code_sample *c) {
  elbo_array_destroy(&c->mean);
  elbo_array_destroy(&c->std);
  elbo_array_destroy(&c->code);
  elbo_array_destroy(&c->prior);
}

elbo_status sample_codes(elbo_model *m, const elbo_array *x, const elbo_array *label, uint64_t seed, code_sample *out) {
  *out = (code_sample){0};
  int64_t n;
  const void *told;
  TRY(model_check_pictures(m, "codes", x, &n));
  TRY(model_check_condition(m, "codes", label, n, &told));
  int64_t d = vae_code_size(&m->spec), batch = n < m->batch_size ? n : m->batch_size, dim[2] = {n, d};
  session s[2] = {0};
  elbo_status status;
  elbo_array **to[4] = {&out->mean, &out->std, &out->code, &out->prior};
  const int passes = m->prior ? 1 : 2;
  out->n = n, out->d = d;
  for (int i = 0; i < passes + 2; i++) TRY_GOTO(elbo_array_create(m->ctx, ELBO_F32, 2, dim, to[i]));
  for (int i = 0; i < passes; i++) {
    elbo_graph *g = NULL;
    TRY_GOTO(elbo_graph_create(m->ctx, "codes", &g));
    latent_request request = {.spec = &m->spec, .graph = g, .batch = batch, .samples = 1, .mode = i ? LATENT_PRIOR : LATENT_POSTERIOR};
    vae_latents z = vae_latent_pass(&request);
    elbo_tensor *outputs[3] = {i ? z.z : vae_posterior(&z, false), i ? NULL : vae_posterior(&z, true), z.z};
    TRY_GOTO(session_create(m->ctx, g, m->store, batch, i ? 1 : 3, outputs, &s[i]));
  }
  session_rows rows = {.x = x->data, .condition = told, .seed = seed_of_part(seed, 0), .temperature = 1};
  for (int64_t at = 0; at < n; at += batch) {
    int64_t count = n - at < batch ? n - at : batch;
    for (int i = 0; i < passes; i++) TRY_GOTO(session_run(&s[i], &rows, at, count));
    for (int i = 0; i < passes + 2; i++)
      memcpy((float *)(*to[i])->data + at * d, session_output(&s[i == 3], i % 3), (size_t)(count * d) * sizeof(float));
  }
  session_destroy(&s[0]);
  session_destroy(&s[1]);
  return ELBO_OK;
fail:
  session_destroy(&s[0]);
  session_destroy(&s[1]);
  code_sample_free(out);
  return status;
}
