// What a variational autoencoder answers to the calls of elbo/model.h.
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/model.h"
#include "train/run.h"

elbo_status model_parameter_graph(elbo_ctx *ctx, const vae_spec *spec, elbo_graph **out) {
  TRY(elbo_graph_create(ctx, "model", out));
  elbo_graph *g = *out;
  latent_request request = {.spec = spec, .graph = g, .batch = 1, .samples = 1, .mode = LATENT_POSTERIOR};
  vae_latents z = vae_latent_pass(&request);
  likelihood l = vae_likelihood(spec, false);
  elbo_scope_push(g, "decoder");
  likelihood_log_prob(&l, z.output, vae_input_x(spec, g, 1), NULL);
  elbo_scope_pop(g);
  elbo_status status = elbo_graph_check(g);
  if (status != ELBO_OK) elbo_graph_destroy(out);
  return status;
}

elbo_status model_store_create(elbo_ctx *ctx, const vae_spec *spec, uint64_t seed, elbo_store **out) {
  *out = NULL;
  elbo_graph *g = NULL;
  TRY(model_parameter_graph(ctx, spec, &g));
  elbo_status status = elbo_store_create(ctx, 1, &g, seed, out);
  elbo_graph_destroy(&g);
  return status;
}

static elbo_status vae_open(elbo_model *m, const char *directory) {
  TRY(model_directory_read_spec(m->ctx, m->arena, directory, &m->spec, &m->step));
  TRY(model_store_create(m->ctx, &m->spec, 0, &m->store));
  if (m->ema != 0) return run_read_weights(m->ctx, directory, m->ema, m->store);
  TRY(model_directory_read_weights(m->ctx, directory, m->store));
  return m->spec.model.prior.fitted ? model_directory_read_mixture(m->ctx, directory, vae_code_size(&m->spec), &m->fitted) : ELBO_OK;
}

// Used beside a training plan, whose memory should stay nearly all of the process's: small batches of large pictures.
elbo_model model_of_weights(elbo_ctx *ctx, const vae_spec *spec, elbo_store *store) {
  int64_t size = spec->shape.height * spec->shape.width * spec->shape.channels, batch = 64 * 784 / (size > 784 ? size : 784);
  return (elbo_model){.ctx = ctx,
                      .kind = &model_kind_vae,
                      .spec = *spec,
                      .store = store,
                      .weights = "ema",
                      .step = -1,
                      .batch_size = batch < 8 ? 8 : (int)batch};
}

elbo_status model_check_pictures(const elbo_model *m, const char *what, const elbo_array *x, int64_t *n) {
  const picture_shape *s = &m->spec.shape;
  int64_t size = s->height * s->width * s->channels;
  bool fits = x && x->dtype == ELBO_F32 && x->rank >= 2 &&
              ((x->rank == 4 && x->dim[1] == s->height && x->dim[2] == s->width && x->dim[3] == s->channels) ||
               (x->rank == 2 && x->dim[1] == size));
  char given[ARRAY_TEXT_SIZE];
  if (!fits)
    return fail(m->ctx, ELBO_ERROR_ARGUMENT, "%s: float32 (n,%lld,%lld,%lld) was expected, not %s", what, (long long)s->height,
                (long long)s->width, (long long)s->channels, array_text(x, given, sizeof given));
  const float *v = x->data;
  for (int64_t i = 0; i < x->dim[0] * size; i++)
    if (!isfinite(v[i]))
      return fail(m->ctx, ELBO_ERROR_NUMERIC, "%s: example %lld holds a value that is not finite", what, (long long)(i / size));
  *n = x->dim[0];
  return ELBO_OK;
}

static elbo_status check_vectors(const elbo_model *m, const char *what, const elbo_array *vectors, int64_t n) {
  int64_t dim = m->spec.model.condition.dim;
  char given[ARRAY_TEXT_SIZE];
  if (!vectors || vectors->dtype != ELBO_F32 || vectors->rank != 2 || vectors->dim[0] != n || vectors->dim[1] != dim)
    return fail(m->ctx, ELBO_ERROR_ARGUMENT,
                "%s: this model is conditioned on a vector: conditions float32 (%lld,%lld) were expected, not %s", what, (long long)n,
                (long long)dim, array_text(vectors, given, sizeof given));
  const float *v = vectors->data;
  for (int64_t i = 0; i < n * dim; i++)
    if (!isfinite(v[i]))
      return fail(m->ctx, ELBO_ERROR_NUMERIC, "%s: the condition of example %lld holds a value that is not finite", what,
                  (long long)(i / dim));
  return ELBO_OK;
}

elbo_status model_check_condition(const elbo_model *m, const char *what, const elbo_array *label, int64_t n, const void **out) {
  *out = NULL;
  const condition_config *c = &m->spec.model.condition;
  if (c->type == CONDITION_NONE) return ELBO_OK;
  if (c->type == CONDITION_VECTOR) {
    TRY(check_vectors(m, what, label, n));
    *out = label->data;
    return ELBO_OK;
  }
  if (!label) return fail(m->ctx, ELBO_ERROR_ARGUMENT, "%s: this model is conditioned on a class: labels are needed", what);
  char given[ARRAY_TEXT_SIZE];
  if (label->dtype != ELBO_I32 || label->rank != 1 || label->dim[0] != n)
    return fail(m->ctx, ELBO_ERROR_ARGUMENT, "%s: labels: int32 (%lld) was expected, not %s", what, (long long)n,
                array_text(label, given, sizeof given));
  const int32_t *v = label->data;
  for (int64_t i = 0; i < n; i++)
    if (v[i] < 0 || v[i] >= m->spec.classes)
      return fail(m->ctx, ELBO_ERROR_ARGUMENT, "%s: label %d of example %lld: 0 to %lld was expected", what, (int)v[i], (long long)i,
                  (long long)m->spec.classes - 1);
  *out = v;
  return ELBO_OK;
}

elbo_status read_conditioned(const vae_spec *spec, elbo_dataset *data, elbo_split split, int64_t first, int64_t count, int shuffle,
                             uint64_t seed, elbo_array **x, elbo_array **condition) {
  *condition = NULL;
  TRY(elbo_dataset_read(data, split, first, count, shuffle, seed, x, spec->model.condition.type == CONDITION_CLASS ? condition : NULL));
  if (spec->model.condition.type != CONDITION_VECTOR) return ELBO_OK;
  elbo_status status = elbo_dataset_read_condition(data, split, first, count, shuffle, seed, condition);
  if (status != ELBO_OK) elbo_array_destroy(x);
  return status;
}

static int64_t batch_for(const elbo_model *m, int64_t n) { return n < m->batch_size ? (n > 0 ? n : 1) : m->batch_size; }

// A session of one latent pass; outputs are chosen by `pick`, which may add to the graph. Returns how many it made.
typedef int (*pick_fn)(const elbo_model *m, const vae_latents *z, const void *arg, elbo_tensor **outputs);
static elbo_status open_session(elbo_model *m, latent_mode mode, int64_t n, pick_fn pick, const void *arg, session *out) {
  elbo_graph *g = NULL;
  *out = (session){0};
  TRY(elbo_graph_create(m->ctx, "model", &g));
  latent_request request = {.spec = &m->spec, .graph = g, .batch = batch_for(m, n), .samples = 1, .mode = mode};
  vae_latents z = vae_latent_pass(&request);
  elbo_tensor *outputs[4] = {0};
  int count = pick(m, &z, arg, outputs);
  return session_create(m->ctx, g, m->store, request.batch, count, outputs, out);
}

// Runs all rows; output i goes to arrays[i]. `what` and progress may be NULL.
static elbo_status run_rows(session *s, const session_rows *rows, int64_t n, int n_out, elbo_array *const *arrays,
                            elbo_progress_fn progress, void *user, const char *what) {
  for (int64_t at = 0; at < n; at += s->batch) {
    int64_t count = n - at < s->batch ? n - at : s->batch;
    TRY(session_run(s, rows, at, count));
    for (int i = 0; i < n_out; i++) {
      if (!arrays[i]) continue;
      size_t row = elbo_array_bytes(arrays[i]) / (size_t)n;
      memcpy((char *)arrays[i]->data + (size_t)at * row, session_output(s, i), (size_t)count * row);
    }
    if (progress && !progress(user, what, at + count, n, "")) return fail(s->ctx, ELBO_ERROR_STOPPED, "%s: stopped", what);
  }
  return ELBO_OK;
}

static elbo_status new_pictures(const elbo_model *m, int64_t n, elbo_array **out) {
  const picture_shape *s = &m->spec.shape;
  return elbo_array_create(m->ctx, ELBO_F32, 4, (int64_t[]){n, s->height, s->width, s->channels}, out);
}

// --- the calls ---

static int pick_picture(const elbo_model *m, const vae_latents *z, const void *draw, elbo_tensor **outputs) {
  likelihood l = vae_likelihood(&m->spec, false);
  elbo_graph *g = z->output ? elbo_tensor_graph(z->output) : NULL;
  if (!g) return 1;
  elbo_scope_push(g, "decoder");
  outputs[0] = *(const int *)draw ? likelihood_draw(&l, z->output, "pixels") : likelihood_mean(&l, z->output);
  elbo_scope_pop(g);
  return 1;
}

static int pick_code(const elbo_model *m, const vae_latents *z, const void *arg, elbo_tensor **outputs) {
  (void)m, (void)arg;
  outputs[0] = vae_posterior(z, false), outputs[1] = vae_posterior(z, true);
  return 2;
}

elbo_status vae_draw_pictures(elbo_model *m, const elbo_array *codes, const elbo_sample_config *config, elbo_array **x) {
  session s = {0};
  elbo_status status;
  *x = NULL;
  TRY_GOTO(open_session(m, LATENT_GIVEN, config->n, pick_picture, &config->draw, &s));
  TRY_GOTO(new_pictures(m, config->n, x));
  session_rows rows = {.codes = codes->data, .seed = config->seed};
  TRY_GOTO(run_rows(&s, &rows, config->n, 1, x, config->progress, config->progress_user, "sample"));
fail:
  if (status != ELBO_OK) elbo_array_destroy(x);
  session_destroy(&s);
  return status;
}

// Codes from the fitted mixture, decoded.
static elbo_status sample_fitted(elbo_model *m, const elbo_sample_config *config, elbo_array **x) {
  elbo_array *codes = NULL;
  int64_t d = vae_code_size(&m->spec);
  TRY(elbo_array_create(m->ctx, ELBO_F32, 2, (int64_t[]){config->n, d}, &codes));
  for (int64_t i = 0; i < config->n; i++)
    gaussian_mixture_draw(&m->fitted, config->seed, (uint64_t)i, config->temperature, (float *)codes->data + i * d);
  elbo_status status = vae_draw_pictures(m, codes, config, x);
  elbo_array_destroy(&codes);
  return status;
}

// What each of n samples is told: the vector or the vectors given, in turn; the class given, or all in turn. NULL: nothing.
static elbo_status sample_conditions(const elbo_model *m, const elbo_sample_config *config, elbo_array **out) {
  const condition_config *c = &m->spec.model.condition;
  const elbo_array *given = config->condition;
  char text[ARRAY_TEXT_SIZE];
  *out = NULL;
  if (config->n_options > 0)
    return fail(m->ctx, ELBO_ERROR_ARGUMENT, "sample: '%s': a VAE has no sampler with keys; diffusion models do", config->options[0]);
  if (given && c->type != CONDITION_VECTOR)
    return fail(m->ctx, ELBO_ERROR_ARGUMENT, "sample: a condition was given, but this model is not conditioned on a vector");
  if (config->label >= 0 && c->type != CONDITION_CLASS)
    return fail(m->ctx, ELBO_ERROR_ARGUMENT, "sample: a class was given, but this model is not conditioned on one");
  if (c->type == CONDITION_VECTOR) {
    elbo_array rows = given ? *given : (elbo_array){0};
    if (rows.rank == 1) rows.rank = 2, rows.dim[1] = rows.dim[0], rows.dim[0] = 1;
    if (rows.rank != 2 || rows.dim[0] < 1)
      return fail(m->ctx, ELBO_ERROR_ARGUMENT,
                  "sample: this model is conditioned on a vector: conditions float32 (rows,%lld) were expected, not %s", (long long)c->dim,
                  array_text(given, text, sizeof text));
    TRY(check_vectors(m, "sample", &rows, rows.dim[0]));
    TRY(elbo_array_create(m->ctx, ELBO_F32, 2, (int64_t[]){config->n, c->dim}, out));
    for (int64_t i = 0; i < config->n; i++)
      memcpy((float *)(*out)->data + i * c->dim, (const float *)given->data + i % rows.dim[0] * c->dim, (size_t)c->dim * sizeof(float));
  } else if (c->type == CONDITION_CLASS) {
    if (config->label >= m->spec.classes)
      return fail(m->ctx, ELBO_ERROR_ARGUMENT, "sample: class %d: 0 to %lld was expected", config->label, (long long)m->spec.classes - 1);
    TRY(elbo_array_create(m->ctx, ELBO_I32, 1, &config->n, out));
    for (int64_t i = 0; i < config->n; i++)
      ((int32_t *)(*out)->data)[i] = config->label >= 0 ? config->label : (int32_t)(i % m->spec.classes);
  }
  return ELBO_OK;
}

static elbo_status vae_sample(elbo_model *m, const elbo_sample_config *config, elbo_array **x) {
  elbo_array *told;
  if (config->noise) return fail(m->ctx, ELBO_ERROR_ARGUMENT, "sample: noise: a diffusion model begins with noise; this one draws codes");
  TRY(sample_conditions(m, config, &told));
  if (m->fitted.components && !config->prior) return sample_fitted(m, config, x); // unconditional
  session s = {0};
  elbo_status status;
  TRY_GOTO(open_session(m, LATENT_PRIOR, config->n, pick_picture, &config->draw, &s));
  TRY_GOTO(new_pictures(m, config->n, x));
  session_rows rows = {.condition = told ? told->data : NULL, .seed = config->seed, .temperature = (float)config->temperature};
  TRY_GOTO(run_rows(&s, &rows, config->n, 1, x, config->progress, config->progress_user, "sample"));
fail:
  if (status != ELBO_OK) elbo_array_destroy(x);
  elbo_array_destroy(&told);
  session_destroy(&s);
  return status;
}

elbo_status vae_reconstruct(elbo_model *m, const elbo_array *x, const elbo_array *label, int sample, uint64_t seed, elbo_array **out) {
  int64_t n;
  const void *told;
  TRY(model_check_pictures(m, "reconstruct", x, &n));
  TRY(model_check_condition(m, "reconstruct", label, n, &told));
  session s = {0};
  elbo_status status;
  int draw = 0;
  TRY_GOTO(open_session(m, sample ? LATENT_POSTERIOR : LATENT_MEAN, n, pick_picture, &draw, &s));
  TRY_GOTO(new_pictures(m, n, out));
  session_rows rows = {.x = x->data, .condition = told, .seed = seed};
  TRY_GOTO(run_rows(&s, &rows, n, 1, out, NULL, NULL, NULL));
  session_destroy(&s);
  return ELBO_OK;
fail:
  session_destroy(&s);
  elbo_array_destroy(out);
  return status;
}

elbo_status vae_encode(elbo_model *m, const elbo_array *x, const elbo_array *label, elbo_array **mean, elbo_array **stddev) {
  int64_t n;
  const void *told;
  TRY(model_check_pictures(m, "encode", x, &n));
  TRY(model_check_condition(m, "encode", label, n, &told));
  session s = {0};
  elbo_status status;
  int64_t dim[2] = {n, vae_code_size(&m->spec)};
  TRY_GOTO(open_session(m, LATENT_MEAN, n, pick_code, NULL, &s));
  TRY_GOTO(elbo_array_create(m->ctx, ELBO_F32, 2, dim, mean));
  if (stddev) TRY_GOTO(elbo_array_create(m->ctx, ELBO_F32, 2, dim, stddev));
  elbo_array *arrays[2] = {*mean, stddev ? *stddev : NULL};
  session_rows rows = {.x = x->data, .condition = told};
  TRY_GOTO(run_rows(&s, &rows, n, 2, arrays, NULL, NULL, NULL));
  session_destroy(&s);
  return ELBO_OK;
fail:
  session_destroy(&s);
  elbo_array_destroy(mean);
  if (stddev) elbo_array_destroy(stddev);
  return status;
}

elbo_status vae_decode(elbo_model *m, const elbo_array *codes, const elbo_array *label, elbo_array **x) {
  int64_t d = vae_code_size(&m->spec);
  char given[ARRAY_TEXT_SIZE];
  if (!codes || codes->dtype != ELBO_F32 || codes->rank != 2 || codes->dim[1] != d)
    return fail(m->ctx, ELBO_ERROR_ARGUMENT, "decode: float32 codes (n,%lld) were expected, not %s", (long long)d,
                array_text(codes, given, sizeof given));
  int64_t n = codes->dim[0];
  const void *told;
  TRY(model_check_condition(m, "decode", label, n, &told));
  session s = {0};
  elbo_status status;
  int draw = 0;
  TRY_GOTO(open_session(m, LATENT_GIVEN, n, pick_picture, &draw, &s));
  TRY_GOTO(new_pictures(m, n, x));
  session_rows rows = {.codes = codes->data, .condition = told};
  TRY_GOTO(run_rows(&s, &rows, n, 1, x, NULL, NULL, NULL));
  session_destroy(&s);
  return ELBO_OK;
fail:
  session_destroy(&s);
  elbo_array_destroy(x);
  return status;
}

void vae_info(const elbo_model *m, elbo_model_info *out) {
  static const char *const likelihood_name[] = {"bernoulli",        "continuous_bernoulli", "gaussian", "laplace", "discretized_logistic",
                                                "logistic_mixture", "categorical256"};
  picture_shape group[MAX_GROUPS];
  *out = (elbo_model_info){.preset = vae_preset_name(&m->spec),
                           .weights = m->weights,
                           .likelihood = vae_has_bound(&m->spec) ? likelihood_name[m->spec.model.decoder.likelihood] : "none",
                           .height = (int)m->spec.shape.height,
                           .width = (int)m->spec.shape.width,
                           .channels = (int)m->spec.shape.channels,
                           .low = 0,
                           .high = 1,
                           .bits = m->spec.bits,
                           .latent_dim = (int)vae_code_size(&m->spec),
                           .latent_groups = vae_groups(&m->spec, group),
                           .classes = m->spec.model.condition.type == CONDITION_CLASS ? (int)m->spec.classes : 0,
                           .params = m->params,
                           .step = m->step,
                           .condition_dim = m->spec.model.condition.type == CONDITION_VECTOR ? (int)m->spec.model.condition.dim : 0};
}

void vae_abilities(const elbo_model *m, model_abilities *out) {
  likelihood l = vae_likelihood(&m->spec, false);
  if (!vae_has_bound(&m->spec))
    out->no_score = "an adversary, which is no part of the bound, trained it";
  else if (m->spec.bits != 8 || l.kind == LIKELIHOOD_BERNOULLI || !(likelihood_discrete(&l) || m->spec.dequantize))
    out->no_score = "its likelihood is not one of 256 levels";
  else if (m->spec.binarize)
    out->no_score = "its pictures are binarised";
  else
    out->score[SCORE_ONE_SAMPLE] = "bits_per_dim", out->score[SCORE_K_SAMPLES] = "iwae_bits_per_dim";
  if (!out->no_score) // of a Bernoulli's mean grey, or a density's width, they are no pictures
    out->second = "draws", out->second_how = "from p(x|z)", out->second_draws = true;
}

static const char *const class_names[] = {"ElboVAE", NULL};
const model_kind model_kind_vae = {.preset = "vae",
                                   .class_names = class_names,
                                   .why_not = "cannot",
                                   .open = vae_open,
                                   .info = vae_info,
                                   .sample = vae_sample,
                                   .reconstruct = vae_reconstruct,
                                   .encode = vae_encode,
                                   .decode = vae_decode,
                                   .interpolate = vae_interpolate,
                                   .evaluate = vae_evaluate,
                                   .apply = vae_apply,
                                   .abilities = vae_abilities};
