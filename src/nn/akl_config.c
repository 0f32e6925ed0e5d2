// AutoencoderKL's and VQModel's keys, and which of them fit together.
#include <stdio.h>
#include <string.h>

#include "core/config_file.h"
#include "nn/akl.h"

enum { MAX_WIDTH = 1 << 20 };

// What both classes have; their defaults differ in latent_channels.
#define SHARED_FIELDS(LATENT)                                                                                                             \
  CONFIG_INT(akl_config, in_channels, 1, MAX_WIDTH, "3", "", "of the pictures"),                                                          \
      CONFIG_INT(akl_config, out_channels, 1, MAX_WIDTH, "3", "", "of what is decoded"),                                                  \
      CONFIG_STRINGS(akl_config, down_block_types, "[DownEncoderBlock2D]", "finest first: DownEncoderBlock2D or AttnDownEncoderBlock2D"), \
      CONFIG_STRINGS(akl_config, up_block_types, "[UpDecoderBlock2D]", "coarsest first: UpDecoderBlock2D or AttnUpDecoderBlock2D"),       \
      CONFIG_INTS(akl_config, block_out_channels, 1, MAX_WIDTH, "[64]", "", "width of each level, finest first"),                         \
      CONFIG_INT(akl_config, layers_per_block, 1, 64, "1", "", "residual blocks of each level of the encoder; one more in the decoder"),  \
      CONFIG_ENUM(akl_config, act_fn, "silu", DIFFUSERS_ACTIVATION_NAMES, "activation of the residual blocks"),                           \
      CONFIG_INT(akl_config, latent_channels, 1, MAX_WIDTH, LATENT, "", "numbers at each place of the code"),                             \
      CONFIG_INT(akl_config, norm_num_groups, 1, MAX_WIDTH, "32", "", "groups of the group norms"),                                       \
      CONFIG_INTS_AS(akl_config, sample_size, 1, 65536, "32", "pixels", CONFIG_SINGLE,                                                    \
                     "height and width of the pictures of training; others are taken too"),                                               \
      CONFIG_FLOAT(akl_config, scaling_factor, 1e-9, 1e9, "0.18215", "", "a prior sees codes times this"),                                \
      CONFIG_BOOL(akl_config, mid_block_add_attention, "true", "attention in the middle of encoder and decoder")

static const config_field kl_fields[] = {
    SHARED_FIELDS("4"),
    {"shift_factor", CONFIG_TYPE_FLOAT, offsetof(akl_config, shift_factor), -1e9, 1e9, "null", "",
     "subtracted from codes before a prior sees them", NULL, NULL, CONFIG_NULL},
    {"latents_mean", CONFIG_TYPE_FLOAT_LIST, offsetof(akl_config, latents_mean), -1e9, 1e9, "null", "", "of each channel of the codes",
     NULL, NULL, CONFIG_NULL},
    {"latents_std", CONFIG_TYPE_FLOAT_LIST, offsetof(akl_config, latents_std), 1e-9, 1e9, "null", "", "of each channel of the codes", NULL,
     NULL, CONFIG_NULL},
    CONFIG_BOOL(akl_config, force_upcast, "true", "of no effect: everything is computed in single precision"),
    CONFIG_BOOL(akl_config, use_quant_conv, "true", "a 1x1 convolution behind the encoder"),
    CONFIG_BOOL(akl_config, use_post_quant_conv, "true", "a 1x1 convolution before the decoder"),
};
const config_table kl_table = CONFIG_TABLE("kl", akl_config, kl_fields, "diffusers' AutoencoderKL");

static const config_field vq_fields[] = {
    SHARED_FIELDS("3"),
    CONFIG_INT(akl_config, num_vq_embeddings, 1, 1 << 24, "256", "", "codes in the table"),
    CONFIG_INT_OR_NULL(akl_config, vq_embed_dim, 1, MAX_WIDTH, "", "numbers of a code; null: latent_channels"),
    CONFIG_ENUM(akl_config, norm_type, "group", "group", "of the decoder's norms; only group"),
    CONFIG_BOOL(akl_config, lookup_from_codebook, "false", "of no effect: it is about calls that are not made here"),
    CONFIG_BOOL(akl_config, force_upcast, "false", "of no effect: everything is computed in single precision"),
};
const config_table vq_table = CONFIG_TABLE("vq", akl_config, vq_fields, "diffusers' VQModel");

static elbo_status check_types(elbo_ctx *ctx, const akl_config *c, const config_strings *types, const char *key, const char *plain,
                               const char *attention, const char *where) {
  if (types->count != c->block_out_channels.count)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: %s: %lld blocks; block_out_channels has %lld widths", where, key, (long long)types->count,
                (long long)c->block_out_channels.count);
  for (int64_t i = 0; i < types->count; i++) {
    char both[128], near[64];
    if (!strcmp(types->at[i], plain) || !strcmp(types->at[i], attention)) continue;
    snprintf(both, sizeof both, "%s|%s", plain, attention);
    if (config_nearest_name(both, types->at[i], near, sizeof near))
      return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: %s[%lld]: unknown block '%.100s'; did you mean '%s'?", where, key, (long long)i,
                  types->at[i], near);
    return fail(ctx, ELBO_ERROR_UNSUPPORTED, "%s: %s[%lld]: '%.100s' is no block that we have; expected %s or %s", where, key, (long long)i,
                types->at[i], plain, attention);
  }
  return ELBO_OK;
}

static elbo_status check_list(elbo_ctx *ctx, const akl_config *c, const config_floats *list, const char *key, const char *where) {
  if (!list->count || list->count == c->latent_channels) return ELBO_OK;
  return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: %s: %lld numbers; latent_channels is %lld", where, key, (long long)list->count,
              (long long)c->latent_channels);
}

elbo_status akl_check(elbo_ctx *ctx, const akl_config *c, const char *where) {
  const config_ints *width = &c->block_out_channels;
  if (width->count < 1 || width->count > 16)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: block_out_channels: %lld widths; expected 1 to 16", where, (long long)width->count);
  TRY(check_types(ctx, c, &c->down_block_types, "down_block_types", "DownEncoderBlock2D", "AttnDownEncoderBlock2D", where));
  TRY(check_types(ctx, c, &c->up_block_types, "up_block_types", "UpDecoderBlock2D", "AttnUpDecoderBlock2D", where));
  for (int64_t i = 0; i < width->count; i++)
    if (width->at[i] % c->norm_num_groups)
      return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: norm_num_groups: %lld does not divide block_out_channels[%lld], %lld", where,
                  (long long)c->norm_num_groups, (long long)i, (long long)width->at[i]);
  if (c->sample_size.count < 1 || c->sample_size.count > 2)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: sample_size: a list of %lld; expected height and width", where,
                (long long)c->sample_size.count);
  TRY(check_list(ctx, c, &c->latents_mean, "latents_mean", where));
  return check_list(ctx, c, &c->latents_std, "latents_std", where);
}

static const config_file_form kl_form = {.classes = "AutoencoderKL", .version = "0.32.0"};
static const config_file_form vq_form = {.classes = "VQModel", .version = "0.32.0"};

static elbo_status read_as(elbo_ctx *ctx, arena *a, const config_table *table, const config_file_form *form, const char *path,
                           akl_config *out) {
  *out = (akl_config){0};
  TRY(config_file_read(ctx, a, table, form, path, out));
  return akl_check(ctx, out, path);
}

elbo_status kl_config_read(elbo_ctx *ctx, arena *a, const char *path, akl_config *out) {
  return read_as(ctx, a, &kl_table, &kl_form, path, out);
}

elbo_status vq_config_read(elbo_ctx *ctx, arena *a, const char *path, akl_config *out) {
  return read_as(ctx, a, &vq_table, &vq_form, path, out);
}

elbo_status kl_config_write(elbo_ctx *ctx, const char *path, const akl_config *c) {
  return config_file_write(ctx, &kl_table, &kl_form, c, path);
}

elbo_status vq_config_write(elbo_ctx *ctx, const char *path, const akl_config *c) {
  return config_file_write(ctx, &vq_table, &vq_form, c, path);
}
