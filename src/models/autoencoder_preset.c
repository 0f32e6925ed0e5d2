#include "models/autoencoder_preset.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/error.h"
#include "models/autoencoder.h"
#include "models/autoencoder_task.h"

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

static elbo_status make_untrained(elbo_model *m, const preset_request *request) {
  elbo_graph *g = NULL;
  autoencoder_spec *spec = arena_alloc(m->arena, sizeof *spec);
  if (!spec) return fail_memory(m->ctx, sizeof *spec, "an autoencoder");
  TRY(autoencoder_spec_make(m->ctx, request->config, &request->info, request->file, spec));
  m->autoencoder = &spec->network;
  TRY(autoencoder_graph(m->ctx, m->autoencoder, &g));
  elbo_status status = elbo_store_create(m->ctx, 1, &g, (uint64_t)request->stage->train.seed, &m->store);
  elbo_graph_destroy(&g);
  return status;
}

static elbo_status untrained(elbo_ctx *ctx, const preset_request *request, elbo_model **out) {
  elbo_model *m = calloc(1, sizeof *m);
  *out = NULL;
  if (!m) return fail_memory(ctx, sizeof *m, "an autoencoder");
  *m = autoencoder_of_weights(ctx, NULL, NULL, 64);
  m->arena = arena_create(1 << 12);
  elbo_status status = m->arena ? make_untrained(m, request) : fail_memory(ctx, 1 << 12, "an autoencoder");
  if (status == ELBO_OK)
    *out = m;
  else
    elbo_model_destroy(&m);
  return status;
}

static const char *const defaults[] = {"model.discriminator.type=patch", "model.discriminator.channels=[32, 64, 128]", NULL};
const preset_def preset_autoencoder = {.name = "autoencoder",
                                       .summary = "an autoencoder between pictures and maps of codes",
                                       .sections = &autoencoder_sections,
                                       .defaults = defaults,
                                       .create = autoencoder_task_create,
                                       .forward = forward,
                                       .untrained = untrained};
