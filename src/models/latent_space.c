#include "models/latent_space.h"

#include <stdio.h>
#include <string.h>

#include "backend/node.h"
#include "models/autoencoder.h"

enum { PIXELS_AT_ONCE = 1 << 17 };

int64_t latent_code_numbers(const latent_space *s) { return s->code.height * s->code.width * s->code.channels; }

const char *latent_space_text(const latent_space *s, char *text, size_t size) {
  snprintf(text, size, "codes (%lld,%lld,%lld) of pictures (%lld,%lld,%lld)", (long long)s->code.height, (long long)s->code.width,
           (long long)s->code.channels, (long long)s->picture.height, (long long)s->picture.width, (long long)s->picture.channels);
  return text;
}

// --- which models ---

static elbo_status other_pictures(const latent_space *s, const picture_shape *own, const char *where) {
  return fail(s->ctx, ELBO_ERROR_ARGUMENT, "%s: this autoencoder is of pictures (%lld,%lld,%lld); these are (%lld,%lld,%lld)", where,
              (long long)own->height, (long long)own->width, (long long)own->channels, (long long)s->picture.height,
              (long long)s->picture.width, (long long)s->picture.channels);
}

static elbo_status take_codec(latent_space *s, const char *where) {
  const codec_config *c = s->autoencoder->autoencoder;
  const codec_shape codec = codec_config_shape(c);
  picture_shape *p = &s->picture;
  if (!p->height) *p = (picture_shape){codec.height, codec.width, codec.in_channels};
  if (p->channels != codec.in_channels || codec.out_channels != codec.in_channels)
    return other_pictures(s, &(picture_shape){p->height, p->width, codec.in_channels}, where);
  s->code = (picture_shape){codec_code_size(c, p->height), codec_code_size(c, p->width), codec.code_channels};
  if (s->code.height * codec.up != p->height || s->code.width * codec.up != p->width)
    return fail(s->ctx, ELBO_ERROR_ARGUMENT, "%s: pictures (%lld,%lld,%lld) become codes (%lld,%lld,%lld), and those (%lld,%lld,%lld)",
                where, (long long)p->height, (long long)p->width, (long long)p->channels, (long long)s->code.height,
                (long long)s->code.width, (long long)s->code.channels, (long long)(s->code.height * codec.up),
                (long long)(s->code.width * codec.up), (long long)codec.out_channels);
  s->posterior = c->network == CODEC_KL, s->low = -1, s->high = 1;
  return ELBO_OK;
}

static elbo_status take_vae(latent_space *s, const char *where) {
  const vae_spec *v = &s->autoencoder->spec;
  picture_shape group[MAX_GROUPS];
  int groups = vae_groups(v, group);
  if (!s->picture.height) s->picture = v->shape;
  if (groups != 1)
    return fail(s->ctx, ELBO_ERROR_UNSUPPORTED,
                "%s: the code of this VAE is %d groups of different shapes; one of a single shape was expected", where, groups);
  if (v->model.condition.type != CONDITION_NONE)
    return fail(s->ctx, ELBO_ERROR_UNSUPPORTED, "%s: this VAE is told something of each picture; one without a condition was expected",
                where);
  if (memcmp(&s->picture, &v->shape, sizeof v->shape) != 0) return other_pictures(s, &v->shape, where);
  s->code = group[0], s->posterior = true, s->low = 0, s->high = 1;
  return ELBO_OK;
}

// What the autoencoder's config says of the scale of its codes
static elbo_status take_scale(latent_space *s, arena *a) {
  size_t n = (size_t)s->code.channels;
  s->scale = arena_alloc(a, n * sizeof *s->scale), s->shift = arena_alloc(a, n * sizeof *s->shift);
  if (!s->scale || !s->shift) return fail_memory(s->ctx, 2 * n * sizeof *s->scale, "the scale of codes");
  const codec_config *c = s->autoencoder->autoencoder;
  for (size_t i = 0; i < n; i++) {
    double scale = 1, shift = 0;
    if (c && c->network == CODEC_TINY) {
      scale = c->tiny.scaling_factor, shift = c->tiny.shift_factor;
    } else if (c) {
      const akl_config *k = c->network == CODEC_VQ ? &c->vq : &c->kl;
      bool each = c->network == CODEC_KL && k->latents_mean.count && k->latents_std.count;
      scale = each ? k->scaling_factor / k->latents_std.at[i] : k->scaling_factor;
      shift = each ? k->latents_mean.at[i] : c->network == CODEC_KL ? k->shift_factor : 0;
    }
    s->scale[i] = (float)scale, s->shift[i] = (float)shift;
  }
  return ELBO_OK;
}

elbo_status latent_space_create(elbo_ctx *ctx, arena *a, elbo_model *autoencoder, const picture_shape *picture, int bits, const char *where,
                                latent_space **out) {
  *out = NULL;
  latent_space *s = arena_alloc(a, sizeof *s);
  if (!s) return fail_memory(ctx, sizeof *s, "an autoencoder");
  *s = (latent_space){.ctx = ctx, .autoencoder = autoencoder, .picture = *picture, .bits = bits};
  if (autoencoder->autoencoder)
    TRY(take_codec(s, where));
  else if (autoencoder->kind == &model_kind_vae)
    TRY(take_vae(s, where));
  else
    return fail(ctx, ELBO_ERROR_UNSUPPORTED, "%s: a model of another kind (%s); an autoencoder was expected", where,
                autoencoder->kind->preset);
  TRY(take_scale(s, a));
  *out = s;
  return ELBO_OK;
}

void latent_space_close(latent_space *s) {
  if (s && s->owned) elbo_model_destroy(&s->autoencoder);
}

// --- plans ---

int64_t latent_batch(const latent_space *s, int64_t n) {
  int64_t batch = PIXELS_AT_ONCE / (s->picture.height * s->picture.width);
  if (batch > 64) batch = 64;
  if (batch > n) batch = n;
  return batch < 1 ? 1 : batch;
}

// outputs: mean, and the deviation where there is one
static elbo_status encoder_graph(const latent_space *s, int64_t batch, elbo_graph **g, elbo_tensor **outputs) {
  const elbo_model *m = s->autoencoder;
  TRY(elbo_graph_create(s->ctx, "encoder", g));
  if (m->autoencoder) {
    elbo_tensor *x = elbo_input(*g, "x", ELBO_F32, 4, (int64_t[]){batch, s->picture.height, s->picture.width, s->picture.channels});
    codec_code code = codec_encode(m->autoencoder, s->bits ? elbo_scale(x, 2, -1) : x);
    outputs[0] = code.mean, outputs[1] = code.logvar ? elbo_exp(elbo_scale(code.logvar, 0.5, 0)) : NULL;
  } else {
    latent_request request = {.spec = &m->spec, .graph = *g, .batch = batch, .samples = 1, .mode = LATENT_MEAN};
    vae_latents z = vae_latent_pass(&request);
    outputs[0] = vae_posterior(&z, false), outputs[1] = vae_posterior(&z, true);
  }
  return ELBO_OK;
}

elbo_status latent_encoder_open(const latent_space *s, int64_t batch, session *out) {
  elbo_graph *g = NULL;
  elbo_tensor *outputs[2] = {NULL};
  *out = (session){0};
  TRY(encoder_graph(s, batch, &g, outputs));
  return session_create(s->ctx, g, s->autoencoder->store, batch, s->posterior ? 2 : 1, outputs, out);
}

elbo_status latent_encoder_hash(const latent_space *s, char out[65]) {
  elbo_graph *g = NULL;
  elbo_tensor *outputs[2] = {NULL};
  TRY(encoder_graph(s, 1, &g, outputs));
  elbo_status status = elbo_graph_check(g);
  if (status == ELBO_OK) graph_hash(g, out);
  elbo_graph_destroy(&g);
  return status;
}

elbo_status latent_decoder_open(const latent_space *s, int64_t batch, session *out) {
  const elbo_model *m = s->autoencoder;
  elbo_graph *g = NULL;
  elbo_tensor *x = NULL;
  *out = (session){0};
  TRY(elbo_graph_create(s->ctx, "decoder", &g));
  if (m->autoencoder) {
    elbo_tensor *z = elbo_input(g, "codes", ELBO_F32, 4, (int64_t[]){batch, s->code.height, s->code.width, s->code.channels});
    x = codec_decode(m->autoencoder, z);
  } else {
    latent_request request = {.spec = &m->spec, .graph = g, .batch = batch, .samples = 1, .mode = LATENT_GIVEN};
    vae_latents z = vae_latent_pass(&request);
    likelihood l = vae_likelihood(&m->spec, false);
    elbo_scope_push(g, "decoder");
    x = likelihood_mean(&l, z.output);
    elbo_scope_pop(g);
  }
  if (s->bits && x) x = elbo_maximum(elbo_minimum(x, elbo_constant(g, s->high)), elbo_constant(g, s->low));
  return session_create(s->ctx, g, m->store, batch, 1, &x, out);
}

// --- scale ---

void latent_scale(const latent_space *s, int64_t rows, bool deviations, float *codes) {
  const int64_t n = rows * latent_code_numbers(s), c = s->code.channels;
  for (int64_t i = 0; i < n; i++) codes[i] = (deviations ? codes[i] : codes[i] - s->shift[i % c]) * s->scale[i % c];
}

void latent_unscale(const latent_space *s, int64_t rows, float *states) {
  const int64_t n = rows * latent_code_numbers(s), c = s->code.channels;
  for (int64_t i = 0; i < n; i++) states[i] = states[i] / s->scale[i % c] + s->shift[i % c];
}

// --- arrays ---

static elbo_status wrong_array(const latent_space *s, const char *what, const picture_shape *want, const elbo_array *given) {
  char text[ARRAY_TEXT_SIZE];
  return fail(s->ctx, ELBO_ERROR_ARGUMENT, "%s: float32 (n,%lld,%lld,%lld) was expected, not %s", what, (long long)want->height,
              (long long)want->width, (long long)want->channels, array_text(given, text, sizeof text));
}

static bool fits(const elbo_array *a, const picture_shape *of, bool flat) {
  if (!a || a->dtype != ELBO_F32 || a->rank < 1 || a->dim[0] < 1) return false;
  if (flat && a->rank == 2) return a->dim[1] == of->height * of->width * of->channels;
  return a->rank == 4 && a->dim[1] == of->height && a->dim[2] == of->width && a->dim[3] == of->channels;
}

elbo_status latent_encode(const latent_space *s, const elbo_array *x, elbo_array **mean, elbo_array **stddev) {
  session encoder = {0};
  elbo_status status;
  *mean = NULL;
  if (stddev) *stddev = NULL;
  if (!fits(x, &s->picture, false)) return wrong_array(s, "encode", &s->picture, x);
  int64_t n = x->dim[0], size = latent_code_numbers(s), batch = latent_batch(s, n);
  int64_t dim[4] = {n, s->code.height, s->code.width, s->code.channels};
  session_rows rows = {.x = x->data};
  TRY_GOTO(latent_encoder_open(s, batch, &encoder));
  TRY_GOTO(elbo_array_create(s->ctx, ELBO_F32, 4, dim, mean));
  if (stddev) TRY_GOTO(elbo_array_create(s->ctx, ELBO_F32, 4, dim, stddev)); // zeros: of a point
  for (int64_t at = 0; at < n; at += batch) {
    int64_t count = n - at < batch ? n - at : batch;
    TRY_GOTO(session_run(&encoder, &rows, at, count));
    size_t bytes = (size_t)(count * size) * sizeof(float);
    memcpy((float *)(*mean)->data + at * size, session_output(&encoder, 0), bytes);
    if (stddev && s->posterior) memcpy((float *)(*stddev)->data + at * size, session_output(&encoder, 1), bytes);
  }
  latent_scale(s, n, false, (*mean)->data);
  if (stddev) latent_scale(s, n, true, (*stddev)->data);
fail:
  session_destroy(&encoder);
  if (status != ELBO_OK) elbo_array_destroy(mean);
  if (status != ELBO_OK && stddev) elbo_array_destroy(stddev);
  return status;
}

elbo_status latent_codes(const latent_space *s, const elbo_array *states, elbo_array **codes) {
  *codes = NULL;
  if (!fits(states, &s->code, true)) return wrong_array(s, "decode", &s->code, states);
  TRY(elbo_array_convert(s->ctx, states, ELBO_F32, codes));
  const int64_t dim[4] = {states->dim[0], s->code.height, s->code.width, s->code.channels};
  (*codes)->rank = 4;
  memcpy((*codes)->dim, dim, sizeof dim);
  latent_unscale(s, states->dim[0], (*codes)->data);
  return ELBO_OK;
}

elbo_status latent_decode(const latent_space *s, const elbo_array *states, elbo_progress_fn progress, void *user, elbo_array **x) {
  session decoder = {0};
  elbo_array *codes = NULL;
  elbo_status status;
  *x = NULL;
  TRY(latent_codes(s, states, &codes));
  int64_t n = states->dim[0], size = s->picture.height * s->picture.width * s->picture.channels, batch = latent_batch(s, n);
  int64_t dim[4] = {n, s->picture.height, s->picture.width, s->picture.channels};
  TRY_GOTO(latent_decoder_open(s, batch, &decoder));
  TRY_GOTO(elbo_array_create(s->ctx, ELBO_F32, 4, dim, x));
  session_rows rows = {.codes = codes->data};
  for (int64_t at = 0; at < n; at += batch) {
    int64_t count = n - at < batch ? n - at : batch;
    TRY_GOTO(session_run(&decoder, &rows, at, count));
    memcpy((float *)(*x)->data + at * size, session_output(&decoder, 0), (size_t)(count * size) * sizeof(float));
    if (progress && n > batch && !progress(user, "decode", at + count, n, ""))
      TRY_GOTO(fail(s->ctx, ELBO_ERROR_STOPPED, "decode: stopped"));
  }
fail:
  session_destroy(&decoder);
  elbo_array_destroy(&codes);
  if (status != ELBO_OK) elbo_array_destroy(x);
  return status;
}
