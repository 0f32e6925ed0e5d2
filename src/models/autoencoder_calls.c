// An autoencoder's networks on arrays: the loop over batches, and the calls of elbo/model.h.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "models/autoencoder.h"
#include "models/tiled_decode.h"
#include "nn/vector_quantizer.h"

enum { SIDE_MAX = 1 << 16, PIXELS_AT_ONCE = 1 << 17 };

// --- batches ---

static elbo_status check_input(const autoencoder_call *c) {
  const elbo_array *v = c->in;
  codec_shape s = codec_config_shape(c->m->autoencoder);
  char given[ARRAY_TEXT_SIZE];
  int64_t channels = c->decoding ? s.code_channels : s.in_channels, least = c->decoding ? 1 : (int64_t)1 << (s.levels - 1);
  bool fits = v && v->dtype == ELBO_F32 && v->rank == 4 && v->dim[0] > 0 && v->dim[3] == channels;
  for (int i = 1; i < 3 && fits; i++) fits = c->fixed ? v->dim[i] == c->fixed[i - 1] : v->dim[i] >= least && v->dim[i] <= SIDE_MAX;
  if (!fits && c->fixed)
    return fail(c->m->ctx, ELBO_ERROR_ARGUMENT, "%s: float32 (n,%lld,%lld,%lld) was expected, not %s", c->what, (long long)c->fixed[0],
                (long long)c->fixed[1], (long long)channels, array_text(v, given, sizeof given));
  if (!fits)
    return fail(c->m->ctx, ELBO_ERROR_ARGUMENT, "%s: (n,height,width,%lld) with sides of at least %lld was expected, not %s", c->what,
                (long long)channels, (long long)least, array_text(v, given, sizeof given));
  const float *at = v->data;
  for (int64_t i = 0, n = elbo_array_count(v); i < n; i++)
    if (!isfinite(at[i]))
      return fail(c->m->ctx, ELBO_ERROR_NUMERIC, "%s: example %lld holds a value that is not finite", c->what,
                  (long long)(i / (n / v->dim[0])));
  return ELBO_OK;
}

// Small batches of large pictures
static int64_t batch_of(const autoencoder_call *c) {
  int64_t up = c->decoding ? codec_config_shape(c->m->autoencoder).up : 1, pixels = c->in->dim[1] * up * c->in->dim[2] * up;
  int64_t batch = PIXELS_AT_ONCE / pixels;
  if (batch > c->m->batch_size) batch = c->m->batch_size;
  if (batch > c->in->dim[0]) batch = c->in->dim[0];
  return batch < 1 ? 1 : batch;
}

static elbo_status open_session(const autoencoder_call *c, autoencoder_outputs_fn make, const void *user, int n_out, session *s,
                                elbo_array **out) {
  elbo_ctx *ctx = c->m->ctx;
  elbo_graph *g = NULL;
  elbo_tensor *outputs[APPLY_OUTPUTS] = {NULL};
  int64_t batch = batch_of(c), dim[4] = {batch, c->in->dim[1], c->in->dim[2], c->in->dim[3]};
  TRY(elbo_graph_create(ctx, c->decoding ? "decoder" : "autoencoder", &g));
  elbo_status status = make(c, elbo_input(g, c->decoding ? "codes" : "x", ELBO_F32, 4, dim), user, outputs);
  if (status != ELBO_OK) {
    elbo_graph_destroy(&g);
    return status;
  }
  TRY(session_create(ctx, g, c->m->store, batch, n_out, outputs, s));
  for (int i = 0; i < n_out; i++) {
    int64_t size[4] = {c->in->dim[0]};
    int rank = elbo_tensor_rank(outputs[i]);
    for (int k = 1; k < rank; k++) size[k] = elbo_tensor_dim(outputs[i], k);
    TRY(elbo_array_create(ctx, ELBO_F32, rank, size, &out[i]));
  }
  return ELBO_OK;
}

elbo_status autoencoder_run(const autoencoder_call *c, autoencoder_outputs_fn make, const void *user, int n_out, elbo_array **out) {
  session s = {0};
  elbo_status status;
  for (int i = 0; i < n_out; i++) out[i] = NULL;
  TRY(check_input(c));
  TRY_GOTO(open_session(c, make, user, n_out, &s, out));
  session_rows rows = {.x = c->decoding ? NULL : c->in->data, .codes = c->decoding ? c->in->data : NULL, .seed = c->seed};
  int64_t n = c->in->dim[0];
  for (int64_t at = 0; at < n; at += s.batch) {
    int64_t count = n - at < s.batch ? n - at : s.batch;
    TRY_GOTO(session_run(&s, &rows, at, count));
    for (int i = 0; i < n_out; i++) {
      size_t row = elbo_array_bytes(out[i]) / (size_t)n;
      memcpy((char *)out[i]->data + (size_t)at * row, session_output(&s, i), (size_t)count * row);
    }
    if (c->report && !c->report(c->report_user, c->what, at + count, n, "")) {
      status = fail(c->m->ctx, ELBO_ERROR_STOPPED, "%s: stopped", c->what);
      goto fail;
    }
  }
fail:
  for (int i = 0; i < n_out && status != ELBO_OK; i++) elbo_array_destroy(&out[i]);
  session_destroy(&s);
  return status;
}

// --- the calls ---

elbo_model autoencoder_of_weights(elbo_ctx *ctx, const codec_config *c, elbo_store *store, int batch_size) {
  return (elbo_model){.ctx = ctx,
                      .kind = &model_kind_autoencoder,
                      .autoencoder = c,
                      .store = store,
                      .weights = "ema",
                      .step = -1,
                      .batch_size = batch_size};
}

void autoencoder_take_pictures(int bits, elbo_array *x) {
  float *v = x->data;
  for (int64_t i = 0, n = bits ? elbo_array_count(x) : 0; i < n; i++) v[i] = 2 * v[i] - 1;
}

static elbo_tensor *deviation(elbo_tensor *logvar) { return elbo_exp(elbo_scale(logvar, 0.5, 0)); }

// mean and deviation, which is 0 where a code is a point
static elbo_status make_codes(const autoencoder_call *c, elbo_tensor *in, const void *user, elbo_tensor **outputs) {
  codec_code code = codec_encode(c->m->autoencoder, in);
  (void)user;
  outputs[0] = elbo_scale(code.mean, 1, 0);
  outputs[1] = code.logvar ? deviation(code.logvar) : elbo_scale(code.mean, 0, 0);
  return ELBO_OK;
}

static elbo_status make_reconstruction(const autoencoder_call *c, elbo_tensor *in, const void *user, elbo_tensor **outputs) {
  codec_code code = codec_encode(c->m->autoencoder, in);
  const int *sample = user;
  if (*sample && code.logvar) {
    int64_t dim[4];
    for (int i = 0; i < 4; i++) dim[i] = elbo_tensor_dim(code.mean, i);
    elbo_tensor *epsilon = elbo_random_normal(elbo_tensor_graph(in), "code", 4, dim);
    code.mean = elbo_add(code.mean, elbo_mul(deviation(code.logvar), epsilon));
  }
  outputs[0] = codec_decode(c->m->autoencoder, code.mean);
  return ELBO_OK;
}

static elbo_status make_pictures(const autoencoder_call *c, elbo_tensor *in, const void *user, elbo_tensor **outputs) {
  (void)user;
  outputs[0] = codec_decode(c->m->autoencoder, in);
  return ELBO_OK;
}

static elbo_status refuse_condition(const elbo_model *m, const char *what, const elbo_array *condition) {
  if (!condition) return ELBO_OK;
  return fail(m->ctx, ELBO_ERROR_ARGUMENT, "%s: a class or vector was given, but an autoencoder is not conditioned on one", what);
}

// What comes out has the size of what went in only where that halves as often as the encoder does.
static elbo_status check_halves(const elbo_model *m, const char *what, const elbo_array *x) {
  codec_shape s = codec_config_shape(m->autoencoder);
  for (int i = 1; i < 3 && x && x->rank == 4; i++)
    if (codec_code_size(m->autoencoder, x->dim[i]) * s.up != x->dim[i])
      return fail(m->ctx, ELBO_ERROR_ARGUMENT, "%s: pictures of %lldx%lld would come back as %lldx%lld", what, (long long)x->dim[1],
                  (long long)x->dim[2], (long long)(codec_code_size(m->autoencoder, x->dim[1]) * s.up),
                  (long long)(codec_code_size(m->autoencoder, x->dim[2]) * s.up));
  return ELBO_OK;
}

elbo_status autoencoder_reconstruct(elbo_model *m, const elbo_array *x, const elbo_array *label, int sample, uint64_t seed,
                                    elbo_array **out) {
  TRY(refuse_condition(m, "reconstruct", label));
  TRY(check_halves(m, "reconstruct", x));
  autoencoder_call call = {.m = m, .what = "reconstruct", .in = x, .seed = seed};
  return autoencoder_run(&call, make_reconstruction, &sample, 1, out);
}

elbo_status autoencoder_encode(elbo_model *m, const elbo_array *x, const elbo_array *label, elbo_array **mean, elbo_array **stddev) {
  elbo_array *out[2];
  TRY(refuse_condition(m, "encode", label));
  autoencoder_call call = {.m = m, .what = "encode", .in = x};
  TRY(autoencoder_run(&call, make_codes, NULL, stddev ? 2 : 1, out));
  *mean = out[0];
  if (stddev) *stddev = out[1];
  return ELBO_OK;
}

// Maps of any size, or the flat codes of pictures of training's size.
static elbo_array map_of(const elbo_model *m, const elbo_array *codes) {
  elbo_array map = codes ? *codes : (elbo_array){0};
  const codec_config *c = m->autoencoder;
  codec_shape s = codec_config_shape(c);
  int64_t h = s.height ? codec_code_size(c, s.height) : 0, w = s.width ? codec_code_size(c, s.width) : 0;
  if (map.rank == 2 && h && map.dim[1] == h * w * s.code_channels)
    map.rank = 4, map.dim[1] = h, map.dim[2] = w, map.dim[3] = s.code_channels;
  return map;
}

elbo_status autoencoder_decode(elbo_model *m, const elbo_array *codes, const elbo_array *label, elbo_array **x) {
  elbo_array map = map_of(m, codes);
  TRY(refuse_condition(m, "decode", label));
  autoencoder_call call = {.m = m, .what = "decode", .decoding = true, .in = codes ? &map : NULL};
  return autoencoder_run(&call, make_pictures, NULL, 1, x);
}

elbo_status autoencoder_choose_rows(elbo_model *m, int64_t n, int64_t h, int64_t w, const elbo_decode_config *config, int64_t *rows,
                                    int64_t *bytes) {
  *rows = config->tile < h ? config->tile : h;
  if (*rows || !config->memory_limit) return tiled_decode_bytes(m, n, h, w, *rows, bytes);
  TRY(tiled_decode_bytes(m, n, h, w, 0, bytes));
  if (*bytes <= config->memory_limit) return ELBO_OK;
  TRY(tiled_decode_check(m, "decode: memory_limit"));
  for (*rows = 64; *rows >= 2; *rows /= 2) {
    if (*rows > h && *rows > 2) continue;
    TRY(tiled_decode_bytes(m, n, h, w, *rows, bytes));
    if (*bytes <= config->memory_limit) return ELBO_OK;
  }
  return fail(m->ctx, ELBO_ERROR_ARGUMENT, "decode: memory_limit: %lld bytes; %lld codes of %lldx%lld take %lld at the least",
              (long long)config->memory_limit, (long long)n, (long long)h, (long long)w, (long long)*bytes);
}

elbo_status autoencoder_decode_tiled(elbo_model *m, const elbo_array *codes, const elbo_decode_config *config, elbo_array **x) {
  elbo_decode_config defaults;
  elbo_array map = map_of(m, codes);
  int64_t rows, bytes;
  elbo_decode_defaults(&defaults);
  if (!config) config = &defaults;
  elbo_model one = *m; // as the reckoning has it
  one.batch_size = 1;
  autoencoder_call call = {.m = &one, .what = "decode", .decoding = true, .in = codes ? &map : NULL};
  TRY(check_input(&call));
  if (config->tile < 0 || config->tile == 1 || config->memory_limit < 0)
    return fail(m->ctx, ELBO_ERROR_ARGUMENT, "decode: tile: %lld rows; at least 2, or 0, was expected", (long long)config->tile);
  if (config->tile) TRY(tiled_decode_check(m, "decode: tile"));
  TRY(autoencoder_choose_rows(m, map.dim[0], map.dim[1], map.dim[2], config, &rows, &bytes));
  if (config->planned_bytes) *config->planned_bytes = bytes;
  if (rows) return tiled_decode(m, &map, rows, config, x);
  call.report = config->progress, call.report_user = config->progress_user;
  return autoencoder_run(&call, make_pictures, NULL, 1, x);
}

elbo_status autoencoder_interpolate(elbo_model *m, const elbo_array *a, const elbo_array *b, int label, int steps, elbo_array **x) {
  const elbo_array *end[2] = {a, b};
  elbo_array *mean[2] = {NULL, NULL}, *codes = NULL;
  elbo_status status;
  if (label >= 0) return fail(m->ctx, ELBO_ERROR_ARGUMENT, "interpolate: a class was given, but an autoencoder is not conditioned on one");
  if (steps < 2) return fail(m->ctx, ELBO_ERROR_ARGUMENT, "interpolate: %d steps; at least 2 were expected", steps);
  for (int i = 0; i < 2; i++) {
    elbo_array one = end[i] ? *end[i] : (elbo_array){0};
    if (one.rank == 3) {
      for (int k = 3; k > 0; k--) one.dim[k] = one.dim[k - 1];
      one.rank = 4, one.dim[0] = 1;
    }
    TRY_GOTO(autoencoder_encode(m, end[i] ? &one : NULL, NULL, &mean[i], NULL));
  }
  if (mean[0]->dim[0] != 1 || elbo_array_count(mean[0]) != elbo_array_count(mean[1]) || mean[0]->dim[1] != mean[1]->dim[1]) {
    status = fail(m->ctx, ELBO_ERROR_ARGUMENT, "interpolate: two pictures of one size were expected");
    goto fail;
  }
  int64_t d = elbo_array_count(mean[0]);
  TRY_GOTO(elbo_array_create(m->ctx, ELBO_F32, 4, (int64_t[]){steps, mean[0]->dim[1], mean[0]->dim[2], mean[0]->dim[3]}, &codes));
  for (int i = 0; i < steps; i++)
    for (int64_t j = 0; j < d; j++) {
      double t = (double)i / (steps - 1);
      ((float *)codes->data)[i * d + j] = (float)((1 - t) * ((float *)mean[0]->data)[j] + t * ((float *)mean[1]->data)[j]);
    }
  status = autoencoder_decode(m, codes, NULL, x);
fail:
  for (int i = 0; i < 2; i++) elbo_array_destroy(&mean[i]);
  elbo_array_destroy(&codes);
  return status;
}
