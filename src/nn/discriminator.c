#include "nn/discriminator.h"

#include <math.h>
#include <stdio.h>

#include "nn/spectral.h"

static const config_field discriminator_fields[] = {
    CONFIG_ENUM(
        discriminator_config, type, "conv", "conv|patch|mlp",
        "4x4 convolutions that halve the picture, then dense layers; PatchGAN: all but the last entry of channels halve it, and every "
        "patch is judged by itself; dense layers alone"),
    CONFIG_INTS(discriminator_config, channels, 1, 4096, "[32, 64, 128]", "", "of the convolutions, finest first"),
    CONFIG_INTS(discriminator_config, hidden, 1, 1e6, "[]", "", "conv: dense layers behind the convolutions; mlp: all its layers"),
    CONFIG_INT(discriminator_config, norm_groups, 0, 1024, "0", "",
               "groups of the group norms behind all convolutions but the first; 0: no norm"),
    CONFIG_ENUM(discriminator_config, activation, "leaky_relu", ACTIVATION_NAMES, "activation"),
    CONFIG_BOOL(discriminator_config, spectral_norm, "false", "every weight is divided by its largest singular value"),
    CONFIG_FLOAT(discriminator_config, init_gain, 0.01, 100, "2.4", "", "initial weights are PyTorch's times this"),
};
const config_table discriminator_table = CONFIG_TABLE("discriminator", discriminator_config, discriminator_fields, "the adversary");

static int conv_count(const discriminator_config *c) { return c->type == DISCRIMINATOR_MLP ? 0 : (int)c->channels.count; }
static int dense_count(const discriminator_config *c) { return c->type == DISCRIMINATOR_PATCH ? 0 : (int)c->hidden.count; }
int discriminator_layer_count(const discriminator_config *c) { return conv_count(c) + dense_count(c); }

// Stride of convolution i; the one to the verdict of patches is number conv_count.
static int stride_of(const discriminator_config *c, int i) { return c->type == DISCRIMINATOR_PATCH && i >= conv_count(c) - 1 ? 1 : 2; }

static int64_t after_conv(int64_t size, int stride) { return size < 2 ? 0 : (size + 2 - 4) / stride + 1; }

elbo_status discriminator_check(elbo_ctx *ctx, const char *file, const discriminator_config *c, const picture_shape *shape) {
  int layers = discriminator_layer_count(c);
  const char *list = c->type == DISCRIMINATOR_MLP ? "hidden" : "channels";
  if (layers > DISCRIMINATOR_LAYERS || (c->type == DISCRIMINATOR_MLP ? layers < 1 : conv_count(c) < 1))
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: model.discriminator.%s: %d layers; 1 to %d are possible", file, list, layers,
                DISCRIMINATOR_LAYERS);
  if (c->type == DISCRIMINATOR_PATCH && c->hidden.count)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: model.discriminator.hidden: patches are judged without dense layers; [] was expected", file);
  int64_t h = shape->height, w = shape->width;
  for (int i = 0; i < conv_count(c) + (c->type == DISCRIMINATOR_PATCH); i++) {
    int64_t was_h = h, was_w = w;
    h = after_conv(h, stride_of(c, i)), w = after_conv(w, stride_of(c, i));
    if (h < 1 || w < 1)
      return fail(
          ctx, ELBO_ERROR_ARGUMENT,
          "%s: model.discriminator.channels: %lldx%lld pictures are too small for %d convolutions: after %d there are %lldx%lld left", file,
          (long long)shape->height, (long long)shape->width, conv_count(c), i, (long long)was_h, (long long)was_w);
  }
  return ELBO_OK;
}

// --- parameters ---

// weight / sigma [Miyato18 algorithm 1]
static elbo_tensor *spectrally_normed(elbo_tensor *weight, bool trained) { return elbo_div(weight, spectral_value(weight, "u", trained)); }

static elbo_tensor *fixed_unless(elbo_tensor *p, bool trained) { return trained ? p : elbo_stop_gradient(p); }

// Weight and bias of layer `at`, which is called `name`.
static void make_layer(discriminator *d, int at, const char *name, int rank, const int64_t *dim, double gain, bool trained) {
  int64_t fan_in = 1;
  for (int i = 1; i < rank; i++) fan_in *= dim[i];
  layer_init init = scheme_init(INIT_TORCH, gain, fan_in, dim[0]);
  elbo_scope_push(d->graph, name);
  elbo_tensor *weight = fixed_unless(elbo_parameter(d->graph, "weight", rank, dim, ELBO_PARAM_TRAINED, init.weight), trained);
  if (d->config->spectral_norm) weight = spectrally_normed(weight, trained);
  d->weight[at] = weight;
  d->bias[at] = fixed_unless(elbo_parameter(d->graph, "bias", 1, dim, ELBO_PARAM_TRAINED, ELBO_INIT_ZEROS), trained);
  elbo_scope_pop(d->graph);
}

static void make_norm(discriminator *d, int at, bool trained) {
  char name[32];
  snprintf(name, sizeof name, "norm.%d", at);
  elbo_scope_push(d->graph, name);
  const int64_t *channels = &d->config->channels.at[at];
  d->norm_weight[at] = fixed_unless(elbo_parameter(d->graph, "weight", 1, channels, ELBO_PARAM_TRAINED, ELBO_INIT_ONES), trained);
  d->norm_bias[at] = fixed_unless(elbo_parameter(d->graph, "bias", 1, channels, ELBO_PARAM_TRAINED, ELBO_INIT_ZEROS), trained);
  elbo_scope_pop(d->graph);
}

discriminator discriminator_create(const discriminator_config *c, elbo_graph *g, const picture_shape *shape, bool trained) {
  discriminator d = {.config = c, .graph = g, .n = discriminator_layer_count(c)};
  int64_t h = shape->height, w = shape->width, in = shape->channels;
  int convs = conv_count(c);
  char name[32];
  elbo_scope_push(g, "discriminator");
  for (int i = 0; i < convs; i++) {
    snprintf(name, sizeof name, "conv.%d", i);
    make_layer(&d, i, name, 4, (int64_t[]){c->channels.at[i], in, 4, 4}, c->init_gain, trained);
    if (i > 0 && c->norm_groups > 0) make_norm(&d, i, trained);
    in = c->channels.at[i], h = after_conv(h, stride_of(c, i)), w = after_conv(w, stride_of(c, i));
  }
  if (c->type == DISCRIMINATOR_PATCH) {
    make_layer(&d, convs, "out", 4, (int64_t[]){1, in, 4, 4}, 1, trained);
  } else {
    in *= h * w;
    for (int i = 0; i < dense_count(c); i++) {
      snprintf(name, sizeof name, "fc.%d", i);
      make_layer(&d, convs + i, name, 2, (int64_t[]){c->hidden.at[i], in}, c->init_gain, trained);
      in = c->hidden.at[i];
    }
    make_layer(&d, d.n, "out", 2, (int64_t[]){1, in}, 1, trained);
  }
  elbo_scope_pop(g);
  return d.weight[d.n] ? d : (discriminator){0};
}

// --- use ---

static elbo_tensor *convolve(const discriminator *d, int at, elbo_tensor *h) {
  int stride = stride_of(d->config, at);
  elbo_conv2d_config c = {.stride = {stride, stride}, .pad = {1, 1, 1, 1}};
  return elbo_conv2d(h, d->weight[at], d->bias[at], &c);
}

static elbo_tensor *group_normed(const discriminator *d, int at, elbo_tensor *h) {
  if (!d->norm_weight[at]) return h;
  int64_t channels = d->config->channels.at[at], groups = d->config->norm_groups < channels ? d->config->norm_groups : channels;
  while (channels % groups) groups--;
  return elbo_group_norm(h, d->norm_weight[at], d->norm_bias[at], (int)groups, 1e-5);
}

discriminator_output discriminator_apply(const discriminator *d, elbo_tensor *x) {
  discriminator_output out = {0};
  if (!d->config || !x) return out;
  const discriminator_config *c = d->config;
  int convs = conv_count(c);
  elbo_tensor *h = c->type == DISCRIMINATOR_MLP ? flatten_rows(x) : elbo_scale(x, 2, -1);
  for (int i = 0; i < convs; i++) h = out.feature[i] = activate(group_normed(d, i, convolve(d, i, h)), c->activation);
  if (c->type == DISCRIMINATOR_PATCH) {
    out.logits = convolve(d, convs, h);
    out.logit = elbo_mean(out.logits, 7u << 1, 0);
    return out;
  }
  h = flatten_rows(h);
  for (int i = convs; i < d->n; i++) h = out.feature[i] = activate(elbo_linear(h, d->weight[i], d->bias[i]), c->activation);
  h = elbo_linear(h, d->weight[d->n], d->bias[d->n]); // (B,1)
  if (h) out.logit = out.logits = elbo_reshape(h, 1, (int64_t[]){elbo_tensor_dim(h, 0)});
  return out;
}
