// The autoencoder in the directory of a model of its codes.
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/config_json.h"
#include "core/file.h"
#include "models/autoencoder.h"
#include "models/latent_space.h"

// "_elbo_latent": what is true of every autoencoder, whether or not diffusers' configs have keys for it
typedef struct latent_index {
  int64_t height, width, channels, bits;
  config_floats scale, shift;
} latent_index;
static const config_field index_fields[] = {
    CONFIG_INT(latent_index, height, 1, 65536, NULL, "pixels", "of the pictures"),
    CONFIG_INT(latent_index, width, 1, 65536, NULL, "pixels", "of the pictures"),
    CONFIG_INT(latent_index, channels, 1, 1e6, NULL, "", "of the pictures"),
    CONFIG_INT(latent_index, bits, 0, 16, "8", "", "of a pixel of the training data, 0: float"),
    CONFIG_FLOATS(latent_index, scale, 1e-30, 1e30, NULL, "", "of each channel: state = (code - shift) scale"),
    CONFIG_FLOATS(latent_index, shift, -1e30, 1e30, NULL, "", "of each channel"),
};
static const config_table index_table = CONFIG_TABLE("_elbo_latent", latent_index, index_fields, "pictures, and the scale of their codes");

const char *latent_space_class(const latent_space *s, bool *diffusers) {
  const codec_config *c = s->autoencoder->autoencoder;
  const char *name = c ? codec_class_name(c) : "ElboVAE";
  *diffusers = c && strcmp(name, TINY_OWN_CLASS) != 0;
  return name;
}

static double *widened(const latent_space *s, const float *from, bool inverse) {
  double *out = calloc((size_t)s->code.channels, sizeof *out);
  for (int64_t i = 0; out && i < s->code.channels; i++) out[i] = inverse ? 1 / (double)from[i] : (double)from[i];
  return out;
}

json_t *latent_space_json(const latent_space *s) {
  double *scale = widened(s, s->scale, false), *shift = widened(s, s->shift, false);
  json_t *json = NULL;
  if (scale && shift) {
    latent_index of = {s->picture.height, s->picture.width,          s->picture.channels,
                       s->bits,           {s->code.channels, scale}, {s->code.channels, shift}};
    json = config_json(&index_table, &of);
  }
  free(scale);
  free(shift);
  return json;
}

static bool is_even(const latent_space *s, const float *v) {
  for (int64_t i = 1; i < s->code.channels; i++)
    if (v[i] != v[0]) return false;
  return true;
}

// Its config with the scale in the keys that diffusers' pipelines read; a VQModel and an AutoencoderTiny have none for single channels.
static elbo_status write_codec(const latent_space *s, const char *folder) {
  codec_config c = *s->autoencoder->autoencoder;
  double *mean = widened(s, s->shift, false), *deviation = widened(s, s->scale, true);
  const bool even = is_even(s, s->scale) && is_even(s, s->shift);
  elbo_status status = mean && deviation ? ELBO_OK : fail_memory(s->ctx, 1024, "the scale of codes");
  if (status == ELBO_OK && c.network == CODEC_KL) {
    c.kl.scaling_factor = even ? (double)s->scale[0] : 1, c.kl.shift_factor = even ? (double)s->shift[0] : 0;
    c.kl.latents_mean = even ? (config_floats){0} : (config_floats){s->code.channels, mean};
    c.kl.latents_std = even ? (config_floats){0} : (config_floats){s->code.channels, deviation};
  } else if (status == ELBO_OK && even && c.network == CODEC_VQ) {
    c.vq.scaling_factor = (double)s->scale[0];
  } else if (status == ELBO_OK && even) {
    c.tiny.scaling_factor = (double)s->scale[0], c.tiny.shift_factor = (double)s->shift[0];
  }
  if (status == ELBO_OK) status = autoencoder_write(s->ctx, folder, &c, "", s->autoencoder->store);
  free(mean);
  free(deviation);
  return status;
}

elbo_status latent_space_write(const latent_space *s, const char *directory, const char *name) {
  const elbo_model *m = s->autoencoder;
  char folder[PATH_MAX];
  TRY(path_join(s->ctx, folder, sizeof folder, directory, name));
  TRY(directory_make(s->ctx, folder));
  return m->autoencoder ? write_codec(s, folder) : model_directory_write(s->ctx, folder, &m->spec, m->store, m->step);
}

// --- reading ---

static elbo_status take_index(latent_space *s, const yaml_node *own, const latent_index *of) {
  const config_floats *lists[2] = {&of->scale, &of->shift};
  float *to[2] = {s->scale, s->shift};

  for (int k = 0; k < 2; k++) {
    if (lists[k]->count != s->code.channels)
      return yaml_fail(s->ctx, own, k ? "shift" : "scale", "%lld numbers; the autoencoder's codes have %lld channels",
                       (long long)lists[k]->count, (long long)s->code.channels);
    for (int64_t i = 0; i < s->code.channels; i++) to[k][i] = (float)lists[k]->at[i];
  }
  return ELBO_OK;
}

static elbo_status fit(elbo_ctx *ctx, arena *a, elbo_model *m, const char *folder, const yaml_node *own, const picture_shape *state,
                       latent_space **out) {
  picture_shape picture = {0};
  latent_index of = {.bits = 8};
  char text[256];
  if (own) {
    TRY(config_load(ctx, a, &index_table, own, "_elbo_latent", &of));
    picture = (picture_shape){of.height, of.width, of.channels};
  } else if (m->autoencoder && state->height) { // as large as the network's states say
    codec_shape s = codec_config_shape(m->autoencoder);
    picture = (picture_shape){state->height * s.up, state->width * s.up, s.in_channels};
  }
  TRY(latent_space_create(ctx, a, m, &picture, (int)of.bits, folder, out));
  if (own) TRY(take_index(*out, own, &of));
  const picture_shape *c = &(*out)->code;
  if (c->channels == state->channels && (!state->height || (c->height == state->height && c->width == state->width))) return ELBO_OK;
  return fail(ctx, ELBO_ERROR_FORMAT, "%s: %s; the network's are (%lld,%lld,%lld)", folder, latent_space_text(*out, text, sizeof text),
              (long long)state->height, (long long)state->width, (long long)state->channels);
}

elbo_status latent_space_read(elbo_ctx *ctx, arena *a, const char *directory, const char *name, const yaml_node *own,
                              const picture_shape *state, latent_space **out) {
  char folder[PATH_MAX];
  elbo_model *m = NULL;
  *out = NULL;
  TRY(path_join(ctx, folder, sizeof folder, directory, name));
  TRY(elbo_model_load(ctx, folder, NULL, &m));
  elbo_status status = fit(ctx, a, m, folder, own, state, out);
  if (status == ELBO_OK) {
    (*out)->owned = true;
    return ELBO_OK;
  }
  *out = NULL;
  elbo_model_destroy(&m);
  return status;
}
