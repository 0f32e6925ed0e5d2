#include "nn/mlp.h"

#include <stdio.h>

#include "core/config_file.h"
#include "nn/denoiser_trial.h"
#include "nn/residual_block.h"
#include "nn/time_embedding.h"

static const config_field mlp_fields[] = {
    CONFIG_INT(mlp_config, in_channels, 0, 65536, "0", "", "numbers of a point; 0: as the data have"),
    CONFIG_INT(mlp_config, out_channels, 0, 65536, "0", "", "of the result; 0: as the prediction needs"),
    CONFIG_INT(mlp_config, width, 2, 65536, "128", "", "of every layer"),
    CONFIG_INT(mlp_config, layers, 1, 256, "4", "", "residual blocks of two layers"),
    CONFIG_FLOAT(mlp_config, dropout, 0, 0.95, "0", "", "probability of dropping in residual blocks"),
    CONFIG_INT(mlp_config, norm_num_groups, 0, 1024, "0", "", "groups of the norms; 0: no norm"),
    CONFIG_ENUM(mlp_config, time_embedding, "sinusoidal", "sinusoidal|fourier", "of the time: fixed or random frequencies"),
    CONFIG_INT(mlp_config, time_width, 4, 65536, "128", "", "of that embedding"),
    CONFIG_FLOAT(mlp_config, time_scale, 1e-6, 1e6, "1", "", "what the time is multiplied by first"),
    CONFIG_FLOAT(mlp_config, fourier_scale, 1e-6, 1e6, "16", "", "standard deviation of the random frequencies"),
    CONFIG_INT(mlp_config, num_class_embeds, 0, 1e6, "0", "", "classes; 0: as the data have"),
    CONFIG_INT(mlp_config, condition_dim, 0, 65536, "0", "", "width of a vector instead of a class; 0: none"),
};
const config_table mlp_table = CONFIG_TABLE("mlp", mlp_config, mlp_fields, "a network for vectors");

static const config_file_form mlp_form = {.classes = "MLPDenoiser"};

void mlp_fit(mlp_config *c, int64_t height, int64_t width, int64_t in_channels, int64_t out_channels, int64_t classes) {
  (void)height, (void)width;
  if (!c->in_channels) c->in_channels = in_channels;
  if (!c->out_channels) c->out_channels = out_channels;
  if (!c->num_class_embeds && !c->condition_dim) c->num_class_embeds = classes;
}

elbo_status mlp_config_read(elbo_ctx *ctx, arena *a, const char *path, mlp_config *out) {
  TRY(config_file_read(ctx, a, &mlp_table, &mlp_form, path, out));
  if (!out->in_channels) return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: in_channels: missing or 0", path);
  if (!out->out_channels) return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: out_channels: missing or 0", path);
  return ELBO_OK;
}

elbo_status mlp_config_write(elbo_ctx *ctx, const char *path, const mlp_config *c) {
  return config_file_write(ctx, &mlp_table, &mlp_form, c, path);
}

denoiser_needs mlp_needs(const mlp_config *c) {
  bool classes = c->num_class_embeds > 0;
  return (denoiser_needs){.in_channels = c->in_channels,
                          .out_channels = c->out_channels,
                          .class_labels = classes            ? CLASS_INPUT_INDEX
                                          : c->condition_dim ? CLASS_INPUT_VECTOR
                                                             : CLASS_INPUT_NONE,
                          .classes = classes ? c->num_class_embeds + 1 : 0,
                          .null_class = classes,
                          .class_dim = c->condition_dim,
                          .shared_time = true};
}

static elbo_tensor *build(const void *config, const denoiser_inputs *in) { return mlp_network(config, in); }

elbo_status mlp_check(elbo_ctx *ctx, const mlp_config *c, int64_t height, int64_t width, int64_t channels, const char *where) {
  const denoiser_needs needs = mlp_needs(c);
  TRY(denoiser_sizes_check(ctx, where, &needs, height, width, channels));
  if (height != 1 || width != 1)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: a %lldx%lld picture; mlp takes vectors, 1x1 with their numbers as channels", where,
                (long long)height, (long long)width);
  if (c->num_class_embeds && c->condition_dim)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s.condition_dim: a class or a vector, not both; expected 0 next to num_class_embeds", where);
  if (c->time_width % 2)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s.time_width: %lld; expected an even number", where, (long long)c->time_width);
  if (c->norm_num_groups && c->width % c->norm_num_groups)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s.norm_num_groups: a width of %lld does not come apart into %lld equal groups", where,
                (long long)c->width, (long long)c->norm_num_groups);
  return denoiser_trial(ctx, where, &needs, 1, 1, build, c, NULL);
}

// Time, and class or vector: (B,4 width), or (1,4 width) of a time that all rows share
static elbo_tensor *mlp_embedding_of(const mlp_config *c, const denoiser_inputs *in) {
  const sinusoid_config sinusoid = {.width = c->time_width, .freq_shift = 1};
  elbo_tensor *t = c->time_scale == 1 ? in->timestep : elbo_scale(in->timestep, c->time_scale, 0), *e;
  e = c->time_embedding == MLP_FOURIER ? fourier_embedding(t, "time_proj", c->time_width / 2, c->fourier_scale, false)
                                       : sinusoid_embedding(t, &sinusoid);
  e = embedding_network(e, "time_embedding", 4 * c->width, ACTIVATION_SILU, NULL);
  if (c->num_class_embeds) return elbo_add(e, embedding_layer(in->class_labels, "class_embedding", c->num_class_embeds + 1, 4 * c->width));
  return c->condition_dim ? elbo_add(e, linear_layer(in->class_labels, "class_embedding", 4 * c->width, 1)) : e;
}

elbo_tensor *mlp_network(const mlp_config *c, const denoiser_inputs *in) {
  const denoiser_needs needs = mlp_needs(c);
  if (!denoiser_inputs_check(&needs, in)) return NULL;
  const block_config block = {.out = c->width,
                              .kernel = 1,
                              .groups = (int)c->norm_num_groups,
                              .activation = ACTIVATION_SILU,
                              .dropout = in->training ? c->dropout : 0,
                              .gain = 1,
                              .embedding = mlp_embedding_of(c, in)};
  elbo_tensor *x = linear_layer(in->sample, "proj_in", c->width, 1);
  for (int i = 0; i < (int)c->layers && x; i++) {
    char name[32];
    snprintf(name, sizeof name, "blocks.%d", i);
    x = residual_block(x, name, &block);
  }
  x = elbo_silu(norm_layer(x, "norm_out", (int)c->norm_num_groups));
  return linear_layer(x, "proj_out", c->out_channels, 0);
}
