// Opening and writing autoencoders.
#include "models/autoencoder.h"

#include <limits.h>
#include <string.h>

#include "core/file.h"
#include "graph/store_memory.h"
#include "models/weights.h"
#include "train/run.h"

elbo_status autoencoder_graph(elbo_ctx *ctx, const codec_config *c, elbo_graph **out) {
  elbo_graph *g = NULL;
  codec_shape s = codec_config_shape(c);
  int64_t side = (int64_t)1 << (s.levels - 1);
  *out = NULL;
  TRY(elbo_graph_create(ctx, "autoencoder", &g));
  codec_encode(c, elbo_input(g, "x", ELBO_F32, 4, (int64_t[]){1, side, side, s.in_channels}));
  codec_decode(c, elbo_input(g, "z", ELBO_F32, 4, (int64_t[]){1, 1, 1, s.code_channels}));
  elbo_status status = elbo_graph_check(g);
  if (status == ELBO_OK)
    *out = g;
  else
    elbo_graph_destroy(&g);
  return status;
}

elbo_status autoencoder_write(elbo_ctx *ctx, const char *folder, const codec_config *c, const char *prefix, elbo_store *store) {
  char path[PATH_MAX];
  TRY(directory_make(ctx, folder));
  TRY(path_join(ctx, path, sizeof path, folder, "config.json"));
  TRY(codec_write(ctx, path, c));
  return weights_write(ctx, folder, prefix, store);
}

elbo_status autoencoder_write_trained(elbo_ctx *ctx, const char *folder, const codec_config *c, elbo_store *store) {
  elbo_graph *g = NULL;
  elbo_store *own = NULL;
  elbo_status status;
  TRY_GOTO(autoencoder_graph(ctx, c, &g));
  TRY_GOTO(store_create_unfilled(ctx, 1, &g, &own));
  for (int i = 0; i < own->n; i++) {
    int at = store_index(store, own->entries[i].name);
    if (at < 0) {
      status = fail(ctx, ELBO_ERROR_INTERNAL, "an autoencoder's weights have no '%s'", own->entries[i].name);
      goto fail;
    }
    store_lend(own, i, store_data(store, at), false);
  }
  status = autoencoder_write(ctx, folder, c, "", own);
fail:
  elbo_store_destroy(&own);
  elbo_graph_destroy(&g);
  return status;
}

// --- the kind ---

// Other weights of a checkpoint than those of its own files
static elbo_status read_checkpoint(elbo_model *m, const char *directory, elbo_graph **g) {
  char training[PATH_MAX];
  TRY(path_join(m->ctx, training, sizeof training, directory, "training"));
  if (!directory_exists(training))
    return fail(m->ctx, ELBO_ERROR_ARGUMENT, "%s: raw and averaged weights are of checkpoints; this is an autoencoder alone", directory);
  TRY(elbo_store_create(m->ctx, 1, g, 0, &m->store));
  return run_read_weights(m->ctx, directory, m->ema, m->store);
}

static elbo_status lend_weights(elbo_model *m, const char *directory, elbo_graph **g) {
  weights *w = NULL;
  TRY(store_create_unfilled(m->ctx, 1, g, &m->store));
  elbo_status status = weights_open(m->ctx, directory, &w);
  if (status == ELBO_OK) status = weights_lend_to_store(m->ctx, &w, "", m->store);
  weights_close(&w);
  return status == ELBO_OK ? store_check_filled(m->store) : status;
}

static elbo_status open_autoencoder(elbo_model *m, const char *directory) {
  char path[PATH_MAX];
  elbo_graph *g = NULL;
  codec_config *c = arena_alloc(m->arena, sizeof *c);
  if (!c) return fail_memory(m->ctx, sizeof *c, "an autoencoder");
  TRY(path_join(m->ctx, path, sizeof path, directory, "config.json"));
  TRY(codec_read(m->ctx, m->arena, path, c));
  m->autoencoder = c, m->step = -1;
  elbo_status status = autoencoder_graph(m->ctx, c, &g);
  if (status != ELBO_OK) return fail_within(m->ctx, status, "%s", path);
  status = m->ema != 0 ? read_checkpoint(m, directory, &g) : lend_weights(m, directory, &g);
  elbo_graph_destroy(&g);
  return status;
}

static void info(const elbo_model *m, elbo_model_info *out) {
  codec_shape s = codec_config_shape(m->autoencoder);
  int64_t h = s.height ? codec_code_size(m->autoencoder, s.height) : 0, w = s.width ? codec_code_size(m->autoencoder, s.width) : 0;
  *out = (elbo_model_info){.preset = "autoencoder",
                           .weights = m->weights,
                           .likelihood = "none",
                           .height = (int)s.height,
                           .width = (int)s.width,
                           .channels = (int)s.in_channels,
                           .low = -1,
                           .high = 1,
                           .bits = 8,
                           .latent_dim = (int)(h * w * s.code_channels),
                           .latent_groups = 1,
                           .params = m->params,
                           .step = m->step,
                           .any_size = 1};
}

static const char *const class_names[] = {"AutoencoderKL", "VQModel", "AutoencoderTiny", TINY_OWN_CLASS, NULL};
const model_kind model_kind_autoencoder = {.preset = "autoencoder",
                                           .class_names = class_names,
                                           .why_not = "has no prior to draw from",
                                           .open = open_autoencoder,
                                           .info = info,
                                           .reconstruct = autoencoder_reconstruct,
                                           .encode = autoencoder_encode,
                                           .decode = autoencoder_decode,
                                           .decode_tiled = autoencoder_decode_tiled,
                                           .interpolate = autoencoder_interpolate,
                                           .evaluate = autoencoder_evaluate,
                                           .apply = autoencoder_apply};
