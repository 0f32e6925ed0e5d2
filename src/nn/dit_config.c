// DiT's keys, and which of them fit together.
#include "core/config_file.h"
#include "nn/denoiser_trial.h"
#include "nn/dit.h"

static const config_field dit_fields[] = {
    CONFIG_INT(dit_config, num_attention_heads, 1, 1024, "16", "", "heads of the attention"),
    CONFIG_INT(dit_config, attention_head_dim, 1, 4096, "72", "", "numbers a head; heads times this is the width of a token"),
    CONFIG_INT(dit_config, num_layers, 1, 1024, "28", "", "blocks"),
    CONFIG_INT(dit_config, in_channels, 0, 4096, "0", "", "of the sample; 0: as the data have"),
    CONFIG_INT_OR_NULL(dit_config, out_channels, 1, 8192, "", "of the result; null: as the prediction needs"),
    CONFIG_INT(dit_config, sample_size, 0, 65536, "0", "pixels", "side of the pictures; 0: as the data have"),
    CONFIG_INT(dit_config, patch_size, 1, 1024, "2", "pixels", "side of a patch, which is one token"),
    CONFIG_FLOAT(dit_config, dropout, 0, 0.95, "0", "", "probability of dropping behind attention and in the feed-forward layers"),
    CONFIG_BOOL(dit_config, attention_bias, "true", "biases in the layers of queries, keys and values"),
    CONFIG_ENUM(dit_config, activation_fn, "gelu-approximate", DIT_ACTIVATION_NAMES, "of the feed-forward layers"),
    CONFIG_INT(dit_config, num_embeds_ada_norm, 0, 1e6, "0", "", "classes; 0: as the data have"),
    CONFIG_ENUM(dit_config, norm_type, "ada_norm_zero", "ada_norm_zero", "how time and class come in"),
    CONFIG_BOOL(dit_config, norm_elementwise_affine, "false", "weight and bias in the norm before the feed-forward layers"),
    CONFIG_FLOAT(dit_config, norm_eps, 1e-12, 1, "1e-5", "", "of that norm"),
    CONFIG_INT(dit_config, norm_num_groups, 0, 1e6, "32", "", "of no effect"),
    CONFIG_BOOL(dit_config, upcast_attention, "false", "of no effect: attention is computed in single precision"),
};
const config_table dit_table = CONFIG_TABLE("dit", dit_config, dit_fields, "the transformer over patches");

// Published DiTs call themselves Transformer2DModel, of which DiTTransformer2DModel is the part that they use.
static const config_file_form dit_form = {
    .classes = "DiTTransformer2DModel|Transformer2DModel",
    .version = "0.32.0",
    .absent = (const config_file_key[]){{"in_channels", "4"}, {"sample_size", "32"}, {"num_embeds_ada_norm", "1000"}, {0}},
    .neutral = (const config_file_key[]){{"cross_attention_dim", "null"},
                                         {"num_vector_embeds", "null"},
                                         {"only_cross_attention", "false"},
                                         {"double_self_attention", "false"},
                                         {"use_linear_projection", "false"},
                                         {"attention_type", "default"},
                                         {"caption_channels", "null"},
                                         {"interpolation_scale", "null"},
                                         {"use_additional_conditions", "null"},
                                         {0}}};

void dit_fit(dit_config *c, int64_t height, int64_t width, int64_t in_channels, int64_t out_channels, int64_t classes) {
  (void)width;
  if (!c->sample_size) c->sample_size = height;
  if (!c->in_channels) c->in_channels = in_channels;
  if (!c->out_channels) c->out_channels = out_channels;
  if (!c->num_embeds_ada_norm) c->num_embeds_ada_norm = classes;
}

elbo_status dit_config_read(elbo_ctx *ctx, arena *a, const char *path, dit_config *out) {
  TRY(config_file_read(ctx, a, &dit_table, &dit_form, path, out));
  if (out->in_channels < 1) return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: in_channels: 0; expected at least 1", path);
  if (out->sample_size < out->patch_size)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: sample_size: %lld is less than a patch of %lld", path, (long long)out->sample_size,
                (long long)out->patch_size);
  if (!out->out_channels) out->out_channels = out->in_channels;
  return ELBO_OK;
}

elbo_status dit_config_write(elbo_ctx *ctx, const char *path, const dit_config *c) {
  return config_file_write(ctx, &dit_table, &dit_form, c, path);
}

denoiser_needs dit_needs(const dit_config *c) {
  bool classes = c->num_embeds_ada_norm > 0;
  return (denoiser_needs){.in_channels = c->in_channels,
                          .out_channels = c->out_channels ? c->out_channels : c->in_channels,
                          .class_labels = classes ? CLASS_INPUT_INDEX : CLASS_INPUT_NONE,
                          .classes = classes ? c->num_embeds_ada_norm + 1 : 0,
                          .null_class = classes};
}

static elbo_tensor *build(const void *config, const denoiser_inputs *in) { return dit_network(config, in); }

elbo_status dit_check(elbo_ctx *ctx, const dit_config *c, int64_t height, int64_t width, int64_t channels, const char *where) {
  const denoiser_needs needs = dit_needs(c);
  TRY(denoiser_sizes_check(ctx, where, &needs, height, width, channels));
  int64_t inner = c->num_attention_heads * c->attention_head_dim;
  if (inner % 4)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s.attention_head_dim: %lld heads of %lld make a width of %lld; expected a multiple of 4", where,
                (long long)c->num_attention_heads, (long long)c->attention_head_dim, (long long)inner);
  if (c->sample_size < c->patch_size)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s.sample_size: %lld is less than a patch of %lld", where, (long long)c->sample_size,
                (long long)c->patch_size);
  if (height != width)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: a %lldx%lld picture; dit takes squares alone, as diffusers' class does", where,
                (long long)height, (long long)width);
  if (height % c->patch_size)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s.patch_size: a %lldx%lld picture does not come apart into patches of %lld", where,
                (long long)height, (long long)width, (long long)c->patch_size);
  return denoiser_trial(ctx, where, &needs, height, width, build, c, NULL);
}
