// elbo_convert_tiny_pair: two files of numbered layers to a folder of diffusers' AutoencoderTiny.
#include <stdio.h>
#include <stdlib.h>

#include "core/file.h"
#include "models/autoencoder.h"
#include "models/tiny_pair.h"
#include "models/weights_files.h"
#include "tasks/convert.h"

// That the renamed tensors are the network's, each of its shape: an unfilled check costs a graph and no copies.
static elbo_status check_tensors(elbo_ctx *ctx, const tiny_config *tiny, const char *file, const tensor_list *list) {
  codec_config c = {.network = CODEC_TINY, .tiny = *tiny};
  elbo_graph *g = NULL;
  elbo_store *store = NULL;
  TRY(autoencoder_graph(ctx, &c, &g));
  elbo_status status = elbo_store_create(ctx, 1, &g, 0, &store);
  if (status == ELBO_OK) status = weights_check_views(ctx, file, list->count, list->at, store);
  elbo_store_destroy(&store);
  elbo_graph_destroy(&g);
  return status;
}

static elbo_status write_pair(elbo_ctx *ctx, const char *folder, const tiny_config *c, const tensor_list *list,
                              const elbo_convert_config *config, elbo_convert_result *result) {
  char path[PATH_MAX];
  TRY(path_join(ctx, path, sizeof path, folder, WEIGHTS_NAME));
  TRY(weights_write_files(ctx, path, list->count, list->at, config->dtype, config->max_shard_bytes, &result->files, &result->bytes));
  TRY(path_join(ctx, path, sizeof path, folder, "config.json"));
  return tiny_config_write(ctx, path, c);
}

elbo_status elbo_convert_tiny_pair(elbo_ctx *ctx, const char *encoder, const char *decoder, const char *out,
                                   const elbo_convert_config *config, elbo_convert_result *result) {
  elbo_convert_config defaults;
  elbo_convert_result unused;
  weights *e = NULL, *d = NULL;
  tensor_list list = {0};
  tiny_config c;
  elbo_status status;
  if (!config) elbo_convert_defaults(&defaults), config = &defaults;
  if (!result) result = &unused;
  *result = (elbo_convert_result){0};
  TRY(convert_check_config(ctx, config));
  if (config->key || config->names != ELBO_NAMES_AS_THEY_ARE)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: a key and a change of names are for one file; this is a pair", encoder);
  arena *a = arena_create(1 << 16);
  if (!a) return fail_memory(ctx, 1 << 16, "a conversion");
  TRY_GOTO(weights_open(ctx, encoder, &e));
  TRY_GOTO(weights_open(ctx, decoder, &d));
  TRY_GOTO(tiny_pair_read(ctx, a, e, d, &c, &list));
  TRY_GOTO(check_tensors(ctx, &c, encoder, &list));
  staged_directory s;
  TRY_GOTO(staged_directory_open(ctx, out, &s));
  status = staged_directory_close(ctx, &s, write_pair(ctx, s.path, &c, &list, config, result));
  result->tensors = list.count;
  for (int64_t i = 0; i < list.count; i++) result->parameters += (int64_t)(list.at[i].bytes / elbo_dtype_size(list.at[i].dtype));
  snprintf(result->from, sizeof result->from, "pair of %s", weights_format(e));
  snprintf(result->names, sizeof result->names, "tiny autoencoder");
fail:
  free(list.at);
  weights_close(&e), weights_close(&d);
  arena_destroy(&a);
  return status;
}
