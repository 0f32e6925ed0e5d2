// What a model with a diffusion for a decoder answers to the calls of elbo/model.h. Codes come and go as a VAE's do; the pictures are
// drawn by the samplers of every diffusion, told of the code.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/philox.h"
#include "eval/statistics.h"
#include "models/diffusion_decoder.h"

enum { NOISE_STEPS = 50, MOST_OPTIONS = 128 };

elbo_status decoder_view(elbo_ctx *ctx, const decoder_spec *spec, elbo_store *store, elbo_model *vae, elbo_model *out) {
  TRY(diffusion_view(ctx, &spec->pixels, store, out));
  out->kind = &model_kind_decoder;
  out->decoder = calloc(1, sizeof *out->decoder);
  if (!out->decoder) {
    diffusion_view_close(out);
    return fail_memory(ctx, sizeof *out->decoder, "a model");
  }
  out->decoder->spec = *spec, out->decoder->vae = vae;
  return ELBO_OK;
}

void decoder_view_close(elbo_model *m) {
  free(m->decoder);
  m->decoder = NULL;
  diffusion_view_close(m);
}

// --- arrays ---

static elbo_status copy_scaled(elbo_ctx *ctx, const elbo_array *x, double factor, double offset, elbo_array **out) {
  TRY(elbo_array_convert(ctx, x, ELBO_F32, out));
  float *v = (*out)->data;
  for (int64_t i = 0, n = elbo_array_count(*out); i < n; i++) v[i] = (float)(factor * (double)v[i] + offset);
  return ELBO_OK;
}

// Between the model's -1..1 and the 0..1 of data, encoders and VAEs; float data are as they are.
static elbo_status to_data_range(const elbo_model *m, const elbo_array *x, elbo_array **out) {
  return copy_scaled(m->ctx, x, m->diffusion->spec.bits ? 0.5 : 1, m->diffusion->spec.bits ? 0.5 : 0, out);
}
elbo_status decoder_to_model_range(const elbo_model *m, const elbo_array *x, elbo_array **out) {
  return copy_scaled(m->ctx, x, m->diffusion->spec.bits ? 2 : 1, m->diffusion->spec.bits ? -1 : 0, out);
}

static elbo_status check_numbers(const elbo_model *m, const char *what, const elbo_array *a) {
  const float *v = a->data;
  int64_t n = elbo_array_count(a);
  for (int64_t i = 0; i < n; i++)
    if (!isfinite(v[i]))
      return fail(m->ctx, ELBO_ERROR_NUMERIC, "%s: example %lld holds a value that is not finite", what, (long long)(i / (n / a->dim[0])));
  return ELBO_OK;
}

static elbo_status check_pictures(const elbo_model *m, const char *what, const elbo_array *x) {
  const diffusion_spec *s = &m->diffusion->spec;
  char given[ARRAY_TEXT_SIZE];
  if (!x || x->dtype != ELBO_F32 || x->rank != 4 || x->dim[0] < 1 || x->dim[1] != s->height || x->dim[2] != s->width ||
      x->dim[3] != s->channels)
    return fail(m->ctx, ELBO_ERROR_ARGUMENT, "%s: float32 (n,%lld,%lld,%lld) was expected, not %s", what, (long long)s->height,
                (long long)s->width, (long long)s->channels, array_text(x, given, sizeof given));
  return check_numbers(m, what, x);
}

elbo_status decoder_check_codes(const elbo_model *m, const char *what, const elbo_array *codes, int64_t n) {
  const int64_t d = decoder_code_size(m);
  char given[ARRAY_TEXT_SIZE], rows[24] = "n";
  if (n) snprintf(rows, sizeof rows, "%lld", (long long)n);
  if (!codes || codes->dtype != ELBO_F32 || codes->rank != 2 || codes->dim[0] < 1 || codes->dim[1] != d || (n && codes->dim[0] != n))
    return fail(m->ctx, ELBO_ERROR_ARGUMENT, "%s: float32 codes (%s,%lld) were expected, not %s", what, rows, (long long)d,
                array_text(codes, given, sizeof given));
  return check_numbers(m, what, codes);
}

static elbo_status check_label(const elbo_model *m, const char *what, const elbo_array *label) {
  return label ? fail(m->ctx, ELBO_ERROR_ARGUMENT, "%s: a class or vector was given, but this model is not conditioned on one", what)
               : ELBO_OK;
}

// --- codes ---

// x in the range of data (n,H,W,C) to the mean and deviation (n,dim) of its code.
static elbo_status encode_with_network(elbo_model *m, const elbo_array *x, elbo_array *mean, elbo_array *std) {
  const decoder_spec *spec = &m->decoder->spec;
  const diffusion_spec *p = &spec->pixels;
  const int64_t n = x->dim[0], d = spec->code.dim, batch = n < m->batch_size ? n : m->batch_size;
  elbo_graph *g = NULL;
  session s = {0};
  elbo_tensor *outputs[2], *log_std;
  TRY(elbo_graph_create(m->ctx, "encoder", &g));
  code_posterior(spec, g, elbo_input(g, "x", ELBO_F32, 4, (int64_t[]){batch, p->height, p->width, p->channels}), false, &outputs[0],
                 &log_std);
  if (log_std) outputs[1] = elbo_exp(log_std);
  TRY(session_create(m->ctx, g, m->store, batch, log_std ? 2 : 1, outputs, &s));
  const bool drawn = spec->code.kl > 0;
  session_rows rows = {.x = x->data};
  elbo_status status = ELBO_OK;
  for (int64_t at = 0; at < n && status == ELBO_OK; at += batch) {
    int64_t count = n - at < batch ? n - at : batch;
    status = session_run(&s, &rows, at, count);
    if (status != ELBO_OK) break;
    memcpy((float *)mean->data + at * d, session_output(&s, 0), (size_t)(count * d) * sizeof(float));
    if (std && drawn) memcpy((float *)std->data + at * d, session_output(&s, 1), (size_t)(count * d) * sizeof(float));
  }
  session_destroy(&s);
  return status;
}

static elbo_status decoder_encode(elbo_model *m, const elbo_array *x, const elbo_array *label, elbo_array **mean, elbo_array **std) {
  TRY(check_label(m, "encode", label));
  TRY(check_pictures(m, "encode", x));
  elbo_array *data = NULL;
  elbo_status status;
  const int64_t dim[2] = {x->dim[0], decoder_code_size(m)};
  TRY_GOTO(to_data_range(m, x, &data));
  if (m->decoder->vae) {
    status = elbo_encode(m->decoder->vae, data, NULL, mean, std);
    goto fail;
  }
  TRY_GOTO(elbo_array_create(m->ctx, ELBO_F32, 2, dim, mean));
  if (std) TRY_GOTO(elbo_array_create(m->ctx, ELBO_F32, 2, dim, std)); // zeros where a code is a function of x
  status = encode_with_network(m, data, *mean, std ? *std : NULL);
fail:
  elbo_array_destroy(&data);
  if (status == ELBO_OK) return ELBO_OK;
  elbo_array_destroy(mean);
  if (std) elbo_array_destroy(std);
  return status;
}

elbo_status decoder_told_of_codes(elbo_model *m, const elbo_array *codes, elbo_array **out) {
  if (!m->decoder->vae) return elbo_array_convert(m->ctx, codes, ELBO_F32, out);
  elbo_array *y = NULL;
  TRY(elbo_decode(m->decoder->vae, codes, NULL, &y));
  elbo_status status = decoder_to_model_range(m, y, out);
  elbo_array_destroy(&y);
  return status;
}

// --- pictures ---

typedef struct draw_options {
  const char *at[MOST_OPTIONS];
  int n;
  char steps[32], batch[32];
} draw_options;

static void add_options(draw_options *o, int n, const char *const *options) {
  for (int i = 0; i < n && o->n < MOST_OPTIONS; i++) o->at[o->n++] = options[i];
}

// Of n pictures, which need no larger batch than they are.
static void begin_options(const elbo_model *m, int64_t n, draw_options *o) {
  o->n = 0;
  if (n >= m->diffusion->spec.sample.batch_size) return;
  snprintf(o->batch, sizeof o->batch, "batch_size=%lld", (long long)n);
  o->at[o->n++] = o->batch;
}

// How a picture and its own noise lead to each other: DDIM without fresh noise, clipping or guidance, so that each step has a way back.
static void noise_options(const elbo_model *m, int64_t n, draw_options *o) {
  static const char *const fixed[] = {"sampler=ddim", "eta=0", "clip=none", "spacing=auto", "table=[]", "final=auto", "guidance.scale=1"};
  const process_config *p = &m->diffusion->spec.model.process;
  const int64_t most = p->type == PROCESS_DISCRETE ? p->steps : NOISE_STEPS;
  begin_options(m, n, o);
  snprintf(o->steps, sizeof o->steps, "steps=%lld", (long long)(most < NOISE_STEPS ? most : NOISE_STEPS));
  o->at[o->n++] = o->steps;
  add_options(o, m->n_options, m->options);
  add_options(o, (int)(sizeof fixed / sizeof *fixed), fixed);
}

static elbo_status encode_noise_of(elbo_model *m, const elbo_array *x, const elbo_array *told, elbo_array **noise) {
  draw_options o;
  elbo_sample_config config;
  elbo_sample_defaults(&config);
  noise_options(m, x->dim[0], &o);
  config.n = x->dim[0], config.condition = told, config.n_options = o.n, config.options = o.at;
  return diffusion_reverse(m, &config, x, noise);
}

static elbo_status decode_noise_of(elbo_model *m, const elbo_array *told, const elbo_array *noise, elbo_array **x) {
  draw_options o;
  elbo_sample_config config;
  elbo_sample_defaults(&config);
  noise_options(m, noise->dim[0], &o);
  config.n = noise->dim[0], config.condition = told, config.noise = noise, config.n_options = o.n, config.options = o.at;
  return diffusion_sample(m, &config, x);
}

static elbo_status decode_drawn(elbo_model *m, const elbo_array *told, uint64_t seed, elbo_array **x) {
  draw_options o;
  elbo_sample_config config;
  elbo_sample_defaults(&config);
  begin_options(m, told->dim[0], &o);
  add_options(&o, m->n_options, m->options);
  config.n = told->dim[0], config.condition = told, config.seed = seed;
  config.n_options = o.n, config.options = o.at;
  return diffusion_sample(m, &config, x);
}

static elbo_status decoder_encode_noise(elbo_model *m, const elbo_array *x, const elbo_array *codes, elbo_array **noise) {
  elbo_array *own = NULL, *told = NULL;
  elbo_status status;
  TRY(check_pictures(m, "encode", x));
  if (codes) TRY(decoder_check_codes(m, "encode", codes, x->dim[0]));
  if (!codes) TRY_GOTO(decoder_encode(m, x, NULL, &own, NULL));
  TRY_GOTO(decoder_told_of_codes(m, codes ? codes : own, &told));
  status = encode_noise_of(m, x, told, noise);
fail:
  elbo_array_destroy(&own);
  elbo_array_destroy(&told);
  return status;
}

static elbo_status decoder_decode_noise(elbo_model *m, const elbo_array *codes, const elbo_array *noise, elbo_array **x) {
  elbo_array *told = NULL;
  TRY(check_pictures(m, "decode: noise", noise));
  TRY(decoder_check_codes(m, "decode", codes, noise->dim[0]));
  TRY(decoder_told_of_codes(m, codes, &told));
  elbo_status status = decode_noise_of(m, told, noise, x);
  elbo_array_destroy(&told);
  return status;
}

static elbo_status decoder_decode(elbo_model *m, const elbo_array *codes, const elbo_array *label, elbo_array **x) {
  elbo_array *told = NULL;
  TRY(check_label(m, "decode", label));
  TRY(decoder_check_codes(m, "decode", codes, 0));
  TRY(decoder_told_of_codes(m, codes, &told));
  elbo_status status = decode_drawn(m, told, 0, x);
  elbo_array_destroy(&told);
  return status;
}

// mean + deviation times noise of (seed, example).
static void draw_codes(elbo_array *mean, const elbo_array *std, uint64_t seed) {
  const int64_t d = mean->dim[1];
  float *z = mean->data;
  const float *s = std->data;
  for (int64_t i = 0; i < mean->dim[0]; i++)
    for (int64_t k = 0; k < d; k += 2) {
      uint32_t bits[4];
      double pair[2];
      philox_draw(seed, philox_stream("reconstruct.code"), (uint64_t)i, (uint32_t)(k / 2), bits);
      philox_normal2(bits[0], bits[1], pair);
      for (int64_t j = k; j < k + 2 && j < d; j++) z[i * d + j] += (float)(pair[j - k] * (double)s[i * d + j]);
    }
}

// sample: a draw of the code where it has a spread, and of the noise; else the code's mean and the picture's own noise.
static elbo_status decoder_reconstruct(elbo_model *m, const elbo_array *x, const elbo_array *label, int sample, uint64_t seed,
                                       elbo_array **out) {
  elbo_array *mean = NULL, *std = NULL, *told = NULL, *noise = NULL;
  elbo_status status;
  TRY_GOTO(decoder_encode(m, x, label, &mean, &std));
  if (sample) draw_codes(mean, std, seed);
  TRY_GOTO(decoder_told_of_codes(m, mean, &told));
  if (sample) {
    status = decode_drawn(m, told, seed, out);
    goto fail;
  }
  TRY_GOTO(encode_noise_of(m, x, told, &noise));
  status = decode_noise_of(m, told, noise, out);
fail:
  elbo_array_destroy(&mean);
  elbo_array_destroy(&std);
  elbo_array_destroy(&told);
  elbo_array_destroy(&noise);
  return status;
}

// The straight line between codes, the great circle between noises, whose length is then that of noise all along [Shoemake85].
static void slerp(const float *a, const float *b, int64_t n, double t, float *out) {
  double aa = 0, bb = 0, ab = 0;
  for (int64_t i = 0; i < n; i++) {
    aa += (double)a[i] * (double)a[i], bb += (double)b[i] * (double)b[i];
    ab += (double)a[i] * (double)b[i];
  }
  double cosine = aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : 1, angle = acos(cosine > 1 ? 1 : cosine < -1 ? -1 : cosine);
  const bool line = sin(angle) < 1e-6; // the two lie along each other
  double u = line ? 1 - t : sin((1 - t) * angle) / sin(angle), v = line ? t : sin(t * angle) / sin(angle);
  for (int64_t i = 0; i < n; i++) out[i] = (float)(u * (double)a[i] + v * (double)b[i]);
}

static elbo_status decoder_interpolate(elbo_model *m, const elbo_array *a, const elbo_array *b, int label, int steps, elbo_array **x) {
  const diffusion_spec *s = &m->diffusion->spec;
  const int64_t size = s->height * s->width * s->channels, d = decoder_code_size(m);
  elbo_array *both = NULL, *mean = NULL, *noise = NULL, *codes = NULL, *between = NULL;
  elbo_status status;
  if (label >= 0) return fail(m->ctx, ELBO_ERROR_ARGUMENT, "interpolate: a class was given, but this model is not conditioned on one");
  if (steps < 2) return fail(m->ctx, ELBO_ERROR_ARGUMENT, "interpolate: %d steps; at least 2 were expected", steps);
  TRY_GOTO(elbo_array_create(m->ctx, ELBO_F32, 4, (int64_t[]){2, s->height, s->width, s->channels}, &both));
  for (int i = 0; i < 2; i++) {
    const elbo_array *end = i ? b : a;
    if (!end || end->dtype != ELBO_F32 || end->rank < 3 || elbo_array_count(end) != size) {
      status = fail(m->ctx, ELBO_ERROR_ARGUMENT, "interpolate: picture %c: float32 (%lld,%lld,%lld) was expected", "ab"[i],
                    (long long)s -> height, (long long)s -> width, (long long)s -> channels);
      goto fail;
    }
    memcpy((float *)both->data + i * size, end->data, (size_t)size * sizeof(float));
  }
  TRY_GOTO(decoder_encode(m, both, NULL, &mean, NULL));
  TRY_GOTO(decoder_encode_noise(m, both, mean, &noise));
  TRY_GOTO(elbo_array_create(m->ctx, ELBO_F32, 2, (int64_t[]){steps, d}, &codes));
  TRY_GOTO(elbo_array_create(m->ctx, ELBO_F32, 4, (int64_t[]){steps, s->height, s->width, s->channels}, &between));
  const float *z = mean->data, *e = noise->data;
  for (int i = 0; i < steps; i++) {
    double t = (double)i / (steps - 1);
    for (int64_t k = 0; k < d; k++) ((float *)codes->data)[i * d + k] = (float)((1 - t) * (double)z[k] + t * (double)z[d + k]);
    slerp(e, e + size, size, t, (float *)between->data + i * size);
  }
  status = decoder_decode_noise(m, codes, between, x);
fail:
  elbo_array_destroy(&both);
  elbo_array_destroy(&mean);
  elbo_array_destroy(&noise);
  elbo_array_destroy(&codes);
  elbo_array_destroy(&between);
  return status;
}

static void info(const elbo_model *m, elbo_model_info *out) {
  const diffusion_spec *s = &m->diffusion->spec;
  *out = (elbo_model_info){.preset = m->decoder->spec.told == TOLD_CODE ? "diffae" : "diffusion-decoder",
                           .weights = m->weights,
                           .likelihood = "none",
                           .height = (int)s->height,
                           .width = (int)s->width,
                           .channels = (int)s->channels,
                           .low = s->bits ? -1 : 0,
                           .high = 1,
                           .bits = s->bits,
                           .latent_dim = (int)decoder_code_size(m),
                           .latent_groups = 1,
                           .params = m->params + (m->decoder->vae ? m->decoder->vae->params : 0) +
                                     (m->decoder->prior ? m->decoder->prior->params : 0),
                           .step = m->step};
}

static void abilities(const elbo_model *m, model_abilities *out) {
  *out = (model_abilities){.no_score = m->decoder->spec.told == TOLD_CODE
                                           ? "trained by the errors of denoising, with a code of which no prior is part of a bound"
                                           : "a VAE's decoder followed by a diffusion: neither's bound is the whole's"};
  if (!decoder_has_source(m, CODES_PRIOR) || !decoder_has_source(m, CODES_MIXTURE)) return;
  out->second = "fitted codes", out->second_how = "from a mixture";
  snprintf(out->usual, sizeof out->usual, "codes=%s",
           code_source_names[decoder_has_source(m, CODES_DIFFUSION) ? CODES_DIFFUSION : CODES_PRIOR]);
  snprintf(out->other, sizeof out->other, "codes=%s", code_source_names[CODES_MIXTURE]);
}

// The calls of a diffusion over codes are a sample's too: what they leave of `calls` is the pictures'.
static int sample_within(const elbo_model *m, int64_t calls, bool own, sample_option *options) {
  const int64_t codes = m->decoder->prior ? diffusion_usual_calls(m->decoder->prior) : 0;
  return diffusion_sample_within(m, !own ? calls : calls > codes ? calls - codes : 1, own, options);
}

static const char *const class_names[] = {"ElboDiffusionDecoder", NULL};
const model_kind model_kind_decoder = {.preset = "diffusion decoder",
                                       .class_names = class_names,
                                       .why_not = "has no such call; elbo apply takes the networks in its folders",
                                       .open = decoder_directory_open,
                                       .close = decoder_close,
                                       .info = info,
                                       .sample = decoder_sample,
                                       .reconstruct = decoder_reconstruct,
                                       .encode = decoder_encode,
                                       .decode = decoder_decode,
                                       .encode_noise = decoder_encode_noise,
                                       .decode_noise = decoder_decode_noise,
                                       .interpolate = decoder_interpolate,
                                       .evaluate = decoder_evaluate,
                                       .abilities = abilities,
                                       .sample_within = sample_within};
