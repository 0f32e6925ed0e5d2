#include "nn/vdm.h"

#include <math.h>
#include <stdio.h>

#include "core/config_file.h"
#include "nn/attention_block.h"
#include "nn/denoiser_trial.h"
#include "nn/residual_block.h"
#include "nn/time_embedding.h"

static const config_field vdm_fields[] = {
    CONFIG_INT(vdm_config, in_channels, 0, 4096, "0", "", "of the sample; 0: as the data have"),
    CONFIG_INT(vdm_config, out_channels, 0, 4096, "0", "", "of the result; 0: as the prediction needs"),
    CONFIG_INT(vdm_config, channels, 4, 8192, "128", "", "of every map"),
    CONFIG_INT(vdm_config, layers, 1, 256, "32", "", "residual blocks on the way down; up there is one more"),
    CONFIG_FLOAT(vdm_config, dropout, 0, 0.95, "0.1", "", "probability of dropping in residual blocks"),
    CONFIG_BOOL(vdm_config, attention, "false", "attention behind every residual block; false: in the middle alone"),
    CONFIG_INT(vdm_config, attention_head_dim, 0, 8192, "0", "", "channels of a head; 0: one head"),
    CONFIG_INTS(vdm_config, fourier, 0, 16, "[7, 8]", "", "exponents n: sin and cos of 2^n pi x join the input"),
    CONFIG_INT(vdm_config, norm_num_groups, 1, 1024, "32", "", "groups of the group norms"),
    CONFIG_FLOAT(vdm_config, norm_eps, 1e-12, 1, "1e-6", "", "of the group norms"),
    CONFIG_INT(vdm_config, num_class_embeds, 0, 1e6, "0", "", "classes; 0: as the data have"),
    CONFIG_FLOAT(vdm_config, logsnr_min, -100, 100, "-5", "", "log-SNR that the network is told as time 1"),
    CONFIG_FLOAT(vdm_config, logsnr_max, -100, 100, "13.3", "", "log-SNR that the network is told as time 0"),
    CONFIG_BOOL(vdm_config, add_input, "true", "the sample is added to the result, so that training starts from it"),
};
const config_table vdm_table = CONFIG_TABLE("vdm", vdm_config, vdm_fields, "VDM's UNet");

static const config_file_form vdm_form = {.classes = "VDMUNet"};

void vdm_fit(vdm_config *c, int64_t height, int64_t width, int64_t in_channels, int64_t out_channels, int64_t classes) {
  (void)height, (void)width;
  if (!c->in_channels) c->in_channels = in_channels;
  if (!c->out_channels) c->out_channels = out_channels;
  if (!c->num_class_embeds) c->num_class_embeds = classes;
}

elbo_status vdm_config_read(elbo_ctx *ctx, arena *a, const char *path, vdm_config *out) {
  TRY(config_file_read(ctx, a, &vdm_table, &vdm_form, path, out));
  if (!out->in_channels) return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: in_channels: missing or 0", path);
  if (!out->out_channels) return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: out_channels: missing or 0", path);
  return ELBO_OK;
}

elbo_status vdm_config_write(elbo_ctx *ctx, const char *path, const vdm_config *c) {
  return config_file_write(ctx, &vdm_table, &vdm_form, c, path);
}

denoiser_needs vdm_needs(const vdm_config *c) {
  bool classes = c->num_class_embeds > 0;
  return (denoiser_needs){.in_channels = c->in_channels,
                          .out_channels = c->out_channels,
                          .class_labels = classes ? CLASS_INPUT_INDEX : CLASS_INPUT_NONE,
                          .classes = classes ? c->num_class_embeds + 1 : 0,
                          .null_class = classes};
}

static elbo_tensor *build(const void *config, const denoiser_inputs *in) { return vdm_network(config, in); }

elbo_status vdm_check(elbo_ctx *ctx, const vdm_config *c, int64_t height, int64_t width, int64_t channels, const char *where) {
  const denoiser_needs needs = vdm_needs(c);
  TRY(denoiser_sizes_check(ctx, where, &needs, height, width, channels));
  if (!(c->logsnr_min < c->logsnr_max))
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s.logsnr_min: %g; expected less than logsnr_max, %g", where, c->logsnr_min, c->logsnr_max);
  if (c->channels % c->norm_num_groups)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s.norm_num_groups: %lld channels do not come apart into %lld equal groups", where,
                (long long)c->channels, (long long)c->norm_num_groups);
  if (c->attention_head_dim && c->channels % c->attention_head_dim)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s.attention_head_dim: %lld channels do not come apart into heads of %lld", where,
                (long long)c->channels, (long long)c->attention_head_dim);
  if (c->add_input && c->out_channels > c->in_channels)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s.add_input: a sample of %lld channels cannot be added to a result of %lld; expected false",
                where, (long long)c->in_channels, (long long)c->out_channels);
  return denoiser_trial(ctx, where, &needs, height, width, build, c, NULL);
}

// x, sin(2^n pi x), cos(2^n pi x): (B,H,W,C) -> (B,H,W,C (1 + 2 N)) [Kingma21 appendix C]
static elbo_tensor *add_fourier_features(const vdm_config *c, elbo_tensor *x) {
  enum { MAX = 17 };
  float factor[MAX];
  int64_t n = c->fourier.count < MAX ? c->fourier.count : MAX;
  if (n == 0) return x;
  int64_t b = elbo_tensor_dim(x, 0), h = elbo_tensor_dim(x, 1), w = elbo_tensor_dim(x, 2), channels = elbo_tensor_dim(x, 3);
  for (int64_t i = 0; i < n; i++) factor[i] = (float)ldexp(3.14159265358979324, (int)c->fourier.at[i]);
  elbo_tensor *angle =
      elbo_mul(elbo_reshape(x, 5, (int64_t[]){b, h, w, channels, 1}), elbo_constant_array(elbo_tensor_graph(x), 1, &n, factor));
  angle = as_map(angle, h, w, channels * n);
  return elbo_concat(3, (elbo_tensor *[]){x, elbo_sin(angle), elbo_cos(angle)}, 3);
}

// Log-SNR as a time from 0 to 1, and the class: (B,4 channels)
static elbo_tensor *vdm_embedding(const vdm_config *c, const denoiser_inputs *in) {
  const sinusoid_config sinusoid = {.width = c->channels, .freq_shift = 1};
  double scale = 1000 / (c->logsnr_max - c->logsnr_min);
  elbo_tensor *t = elbo_scale(in->timestep, -scale, scale * c->logsnr_max);
  elbo_tensor *e = embedding_network(sinusoid_embedding(t, &sinusoid), "time_embedding", 4 * c->channels, ACTIVATION_SILU, NULL);
  if (!c->num_class_embeds) return e;
  return elbo_add(e, embedding_layer(in->class_labels, "class_embedding", c->num_class_embeds + 1, 4 * c->channels));
}

// "NAME.INDEX.resnets.0", and attention behind it where there is
static elbo_tensor *vdm_layer(const vdm_config *c, elbo_tensor *x, const char *name, int index, const block_config *block) {
  char scope[32];
  if (!x) return NULL;
  elbo_graph *g = elbo_tensor_graph(x);
  snprintf(scope, sizeof scope, "%s.%d", name, index);
  elbo_scope_push(g, scope);
  x = residual_block(x, "resnets.0", block);
  const attention_block_config attention = {
      .groups = (int)c->norm_num_groups, .eps = c->norm_eps, .head_dim = c->attention_head_dim, .zero_out = true};
  if (c->attention) x = attention_block(x, "attentions.0", &attention);
  elbo_scope_pop(g);
  return x;
}

static elbo_tensor *vdm_middle(const vdm_config *c, elbo_tensor *x, const block_config *block) {
  if (!x) return NULL;
  elbo_graph *g = elbo_tensor_graph(x);
  const attention_block_config attention = {
      .groups = (int)c->norm_num_groups, .eps = c->norm_eps, .head_dim = c->attention_head_dim, .zero_out = true};
  elbo_scope_push(g, "mid_block");
  x = residual_block(x, "resnets.0", block);
  x = attention_block(x, "attentions.0", &attention);
  x = residual_block(x, "resnets.1", block);
  elbo_scope_pop(g);
  return x;
}

elbo_tensor *vdm_network(const vdm_config *c, const denoiser_inputs *in) {
  enum { LAYERS_MAX = 256 };
  const denoiser_needs needs = vdm_needs(c);
  if (!denoiser_inputs_check(&needs, in)) return NULL;
  elbo_tensor *skip[LAYERS_MAX + 1];
  int layers = c->layers < LAYERS_MAX ? (int)c->layers : LAYERS_MAX;
  const block_config block = {.out = c->channels,
                              .kernel = 3,
                              .groups = (int)c->norm_num_groups,
                              .eps = c->norm_eps,
                              .activation = ACTIVATION_SILU,
                              .dropout = in->training ? c->dropout : 0,
                              .gain = 0,
                              .embedding = vdm_embedding(c, in),
                              .zero_projection = true};
  elbo_tensor *x = conv_layer(add_fourier_features(c, in->sample), "conv_in", c->channels, 3, 1, 1, 1);
  skip[0] = x;
  for (int i = 0; i < layers; i++) skip[i + 1] = x = vdm_layer(c, x, "down_blocks", i, &block);
  x = vdm_middle(c, x, &block);
  for (int i = 0; i <= layers; i++) x = vdm_layer(c, elbo_concat(2, (elbo_tensor *[]){x, skip[layers - i]}, 3), "up_blocks", i, &block);
  x = elbo_silu(norm_layer_eps(x, "conv_norm_out", (int)c->norm_num_groups, c->norm_eps));
  x = conv_layer(x, "conv_out", c->out_channels, 3, 1, 1, 0);
  if (!c->add_input) return x;
  elbo_tensor *base = c->in_channels == c->out_channels ? in->sample : elbo_slice(in->sample, 3, 0, c->out_channels);
  return elbo_add(x, base);
}
