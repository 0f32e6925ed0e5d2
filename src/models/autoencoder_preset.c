#include "models/autoencoder_preset.h"

#include <stdio.h>

#include "core/error.h"
#include "nn/codec.h"

typedef struct autoencoder_recipe {
  struct autoencoder_model {
    int preset;
    codec_config network;
  } model;
} autoencoder_recipe;

static const config_field model_fields[] = {
    CONFIG_ENUM(struct autoencoder_model, preset, "autoencoder", "autoencoder", "kind of model; the other keys depend on it"),
    {"network", CONFIG_TYPE_ENUM, offsetof(struct autoencoder_model, network.network), 0, 0, "kl", "", "which autoencoder", CODEC_NAMES,
     NULL, 0},
    {"kl", CONFIG_TYPE_SECTION, offsetof(struct autoencoder_model, network.kl), 0, 0, "{}", "", "", NULL, &kl_table, 0},
    {"vq", CONFIG_TYPE_SECTION, offsetof(struct autoencoder_model, network.vq), 0, 0, "{}", "", "", NULL, &vq_table, 0},
    {"tiny", CONFIG_TYPE_SECTION, offsetof(struct autoencoder_model, network.tiny), 0, 0, "{}", "", "", NULL, &tiny_table, 0},
};
static const config_table model_table = CONFIG_TABLE("model", struct autoencoder_model, model_fields, "an autoencoder with a map of codes");
static const config_field section_fields[] = {CONFIG_SECTION(autoencoder_recipe, model, &model_table)};
static const config_table sections = CONFIG_TABLE("autoencoder", autoencoder_recipe, section_fields, "an autoencoder with a map of codes");

static elbo_status create(elbo_ctx *ctx, const preset_request *request, preset_task *out) {
  *out = (preset_task){0};
  return fail(ctx, ELBO_ERROR_UNSUPPORTED, "%s: model.preset: autoencoder: is not trained here; elbo bench with bench.forward calls it",
              request->file);
}

// Pictures of the data's size go in; a decoder alone takes codes as large as theirs.
static elbo_status forward(elbo_ctx *ctx, const preset_request *request, elbo_graph **graph, elbo_tensor **out) {
  const codec_config *c = &((const autoencoder_recipe *)request->config)->model.network;
  const elbo_dataset_info *info = &request->info;
  const codec_shape s = codec_config_shape(c);
  const int part = request->stage->bench.part;
  const int64_t channels = part == BENCH_DECODER ? s.code_channels : s.in_channels;
  int64_t dim[4] = {request->micro_batch, info->height, info->width, channels};
  char where[512];
  *graph = NULL;
  snprintf(where, sizeof where, "%s: model.%s", request->file, codec_key(c));
  TRY(codec_check(ctx, c, where));
  if (!request->data && info->channels != channels)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: bench.shape: %d channels; what is called takes %lld", request->file, info->channels,
                (long long)channels);
  if (request->data && info->channels != s.in_channels)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s.in_channels: %lld; the data have %d", where, (long long)s.in_channels, info->channels);
  for (int i = 1; i < 3 && request->data && part == BENCH_DECODER; i++) dim[i] = codec_code_size(c, dim[i]);
  TRY(elbo_graph_create(ctx, "forward", graph));
  elbo_tensor *x = elbo_input(*graph, "x", ELBO_F32, 4, dim);
  if (part != BENCH_DECODER) x = codec_encode(c, x).mean;
  *out = part == BENCH_ENCODER ? x : codec_decode(c, x);
  return ELBO_OK;
}

const preset_def preset_autoencoder = {.name = "autoencoder",
                                       .summary = "an autoencoder between pictures and maps of codes",
                                       .sections = &sections,
                                       .create = create,
                                       .forward = forward};
