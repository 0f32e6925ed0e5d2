#include "nn/denoiser_config.h"

#include <stdio.h>
#include <string.h>

#include "core/json.h"
#include "nn/unet.h"

// One kind: where its config lies in denoiser_config, and its functions.
typedef struct denoiser_def {
  const char *key;     // of a recipe's model section
  const char *classes; // "A|B"
  const char *folder;  // of a model directory
  elbo_status (*fit)(elbo_ctx *ctx, arena *a, denoiser_config *c, const denoiser_data *d, const char *where);
  elbo_status (*check)(elbo_ctx *ctx, const denoiser_config *c, int64_t h, int64_t w, const char *where);
  denoiser_needs (*needs)(const denoiser_config *c);
  elbo_tensor *(*network)(const denoiser_config *c, const denoiser_inputs *in);
  elbo_status (*read)(elbo_ctx *ctx, arena *a, const char *path, denoiser_config *c);
  elbo_status (*write)(elbo_ctx *ctx, const char *path, const denoiser_config *c);
} denoiser_def;

// The four networks whose functions go by one pattern.
#define WRAP(NAME)                                                                                                                     \
  static elbo_status NAME##_check_any(elbo_ctx *ctx, const denoiser_config *c, int64_t h, int64_t w, const char *where) {              \
    return NAME##_check(ctx, &c->NAME, h, w, c->NAME.in_channels, where);                                                              \
  }                                                                                                                                    \
  static denoiser_needs NAME##_needs_any(const denoiser_config *c) { return NAME##_needs(&c->NAME); }                                  \
  static elbo_tensor *NAME##_network_any(const denoiser_config *c, const denoiser_inputs *in) { return NAME##_network(&c->NAME, in); } \
  static elbo_status NAME##_read_any(elbo_ctx *ctx, arena *a, const char *path, denoiser_config *c) {                                  \
    return NAME##_config_read(ctx, a, path, &c->NAME);                                                                                 \
  }                                                                                                                                    \
  static elbo_status NAME##_write_any(elbo_ctx *ctx, const char *path, const denoiser_config *c) {                                     \
    return NAME##_config_write(ctx, path, &c->NAME);                                                                                   \
  }                                                                                                                                    \
  static elbo_status NAME##_fit_any(elbo_ctx *ctx, arena *a, denoiser_config *c, const denoiser_data *d, const char *where) {          \
    char at[512];                                                                                                                      \
    (void)a;                                                                                                                           \
    snprintf(at, sizeof at, "%s." #NAME, where);                                                                                       \
    NAME##_fit(&c->NAME, d->height, d->width, d->in_channels, d->out_channels, d->classes);                                            \
    return NAME##_check(ctx, &c->NAME, d->height, d->width, d->in_channels, at);                                                       \
  }
WRAP(dit)
WRAP(edm)
WRAP(vdm)
WRAP(mlp)

// --- diffusers' UNets ---

static elbo_status unet_fit_any(elbo_ctx *ctx, arena *a, denoiser_config *c, const denoiser_data *d, const char *where) {
  denoiser_shape shape = {.height = d->height,
                          .width = d->width,
                          .in_channels = d->in_channels,
                          .out_channels = d->out_channels,
                          .classes = d->classes ? d->classes + d->null_class : 0};
  char at[512];
  snprintf(at, sizeof at, "%s.unet", where);
  TRY(unet_fit(ctx, a, &c->unet, &shape, at));
  return unet_check(ctx, &c->unet, d->height, d->width, at);
}
static elbo_status unet_check_any(elbo_ctx *ctx, const denoiser_config *c, int64_t h, int64_t w, const char *where) {
  return unet_check(ctx, &c->unet, h, w, where);
}
static denoiser_needs unet_needs_any(const denoiser_config *c) { return unet_needs(&c->unet); }
static elbo_tensor *unet_network_any(const denoiser_config *c, const denoiser_inputs *in) { return unet_network(&c->unet, in); }
static elbo_status unet_read_any(elbo_ctx *ctx, arena *a, const char *path, denoiser_config *c) {
  return unet_config_read(ctx, a, path, &c->unet);
}
static elbo_status unet_write_any(elbo_ctx *ctx, const char *path, const denoiser_config *c) {
  json_t *json = NULL;
  TRY(unet_config_write(ctx, &c->unet, &json));
  elbo_status status = json_write(ctx, path, json);
  json_decref(json);
  return status;
}

#define ROW(KEY, CLASSES, FOLDER) \
  { #KEY, CLASSES, FOLDER, KEY##_fit_any, KEY##_check_any, KEY##_needs_any, KEY##_network_any, KEY##_read_any, KEY##_write_any }
static const denoiser_def kinds[DENOISER_KINDS] = {
    ROW(unet, "UNet2DModel|UNet2DConditionModel", "unet"),
    ROW(dit, "DiTTransformer2DModel|Transformer2DModel", "transformer"),
    ROW(edm, "EDMUNet", "unet"),
    ROW(vdm, "VDMUNet", "unet"),
    ROW(mlp, "MLPDenoiser", "network"),
};

// --- the calls ---

elbo_status denoiser_fit(elbo_ctx *ctx, arena *a, denoiser_config *config, const denoiser_data *data, const char *where) {
  if (config->network == DENOISER_MLP && !config->mlp.condition_dim) config->mlp.condition_dim = data->class_dim;
  if (config->network == DENOISER_UNET && data->adapted && config->unet.class == UNET_2D &&
      config->unet.class_embed_type == UNET_CLASS_NULL)
    config->unet.class_embed_type = UNET_CLASS_IDENTITY; // added to the embedding of the time
  TRY(kinds[config->network].fit(ctx, a, config, data, where));
  denoiser_needs needs = denoiser_config_needs(config);
  const char *key = kinds[config->network].key;
  if (needs.out_channels != data->out_channels)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s.%s.out_channels: %lld, but the prediction has %lld", where, key,
                (long long)needs.out_channels, (long long)data->out_channels);
  if (data->classes && (needs.class_labels != CLASS_INPUT_INDEX || needs.classes < data->classes + data->null_class))
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s.%s: takes no %lld classes%s, which model.condition asks for", where, key,
                (long long)data->classes, data->null_class ? " and one more for none" : "");
  if (data->adapted && needs.class_labels != CLASS_INPUT_VECTOR)
    return fail(
        ctx, ELBO_ERROR_ARGUMENT,
        "%s.%s: takes no vector, which a code is; unet (of class UNet2DConditionModel with class_embed_type: projection) or mlp was "
        "expected",
        where, key);
  if (data->class_dim && !data->adapted && (needs.class_labels != CLASS_INPUT_VECTOR || needs.class_dim != data->class_dim))
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s.%s: takes no vector of %lld numbers, which model.condition asks for", where, key,
                (long long)data->class_dim);
  if (!data->classes && !data->class_dim && needs.class_labels != CLASS_INPUT_NONE)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s.%s: needs class labels, but model.condition.type gives none", where, key);
  if (needs.context_dim != data->context_dim)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s.%s: takes a context of width %lld; model.condition gives %lld%s", where, key,
                (long long)needs.context_dim, (long long)data->context_dim,
                data->context_dim ? " (a unet of class UNet2DConditionModel takes cross_attention_dim)" : "");
  return ELBO_OK;
}

elbo_status denoiser_check(elbo_ctx *ctx, const denoiser_config *config, int64_t height, int64_t width, const char *where) {
  return kinds[config->network].check(ctx, config, height, width, where);
}
denoiser_needs denoiser_config_needs(const denoiser_config *config) { return kinds[config->network].needs(config); }
elbo_tensor *denoiser_network(const denoiser_config *config, const denoiser_inputs *in) {
  return kinds[config->network].network(config, in);
}
const char *denoiser_folder(const denoiser_config *config) { return kinds[config->network].folder; }

void denoiser_sample_size(const denoiser_config *c, int64_t *height, int64_t *width) {
  *height = *width = 0;
  if (c->network == DENOISER_UNET && c->unet.sample_size.count) {
    *height = c->unet.sample_size.at[0];
    *width = c->unet.sample_size.at[c->unet.sample_size.count - 1];
  }
  if (c->network == DENOISER_DIT) *height = *width = c->dit.sample_size;
  if (c->network == DENOISER_EDM) *height = *width = c->edm.img_resolution;
}

// Whether `name` is the i-th of "A|B".
static bool class_at(const char *classes, int i, char *out, size_t size) {
  for (; i > 0 && classes; i--) classes = strchr(classes, '|') ? strchr(classes, '|') + 1 : NULL;
  if (!classes) return false;
  snprintf(out, size, "%.*s", (int)strcspn(classes, "|"), classes);
  return true;
}

static int kind_of_class(const char *class_name) {
  char name[64];
  for (int k = 0; k < DENOISER_KINDS; k++)
    for (int i = 0; class_at(kinds[k].classes, i, name, sizeof name); i++)
      if (strcmp(name, class_name) == 0) return k;
  return -1;
}

bool denoiser_knows_class(const char *class_name) { return kind_of_class(class_name) >= 0; }

const char *denoiser_class_name(const denoiser_config *c) {
  static const char *const names[DENOISER_KINDS] = {"UNet2DModel", "DiTTransformer2DModel", "EDMUNet", "VDMUNet", "MLPDenoiser"};
  return c->network == DENOISER_UNET && c->unet.class == UNET_2D_CONDITION ? "UNet2DConditionModel" : names[c->network];
}

elbo_status denoiser_read(elbo_ctx *ctx, arena *a, const char *path, denoiser_config *out) {
  yaml_node *root = NULL;
  TRY(yaml_read(ctx, a, path, &root));
  const yaml_node *name = yaml_get(root, "_class_name");
  if (!name || name->kind != YAML_SCALAR) return fail(ctx, ELBO_ERROR_FORMAT, "%s: _class_name: missing", path);
  int kind = kind_of_class(name->text);
  if (kind < 0) return yaml_fail(ctx, name, "_class_name", "'%.100s'; one of %s was expected", name->text, DENOISER_CLASS_NAMES);
  memset(out, 0, sizeof *out);
  out->network = kind;
  return kinds[kind].read(ctx, a, path, out);
}

elbo_status denoiser_write(elbo_ctx *ctx, const char *path, const denoiser_config *config) {
  return kinds[config->network].write(ctx, path, config);
}
