#include "models/tiny_pair.h"

#include <stdio.h>
#include <string.h>

#include "models/weights_rules.h"

enum { LAYERS_MAX = 128 };

typedef enum layer_kind { LAYER_NONE, LAYER_CONV, LAYER_CONV_UNBIASED, LAYER_BLOCK, LAYER_POOLED_BLOCK } layer_kind;

// What the names of a file's tensors say of its layers; LAYER_NONE: one without parameters.
typedef struct layer_outline {
  const weights *file;
  int64_t count;
  layer_kind kind[LAYERS_MAX];
} layer_outline;

static bool has(const weights *w, int64_t layer, const char *part) {
  char name[64];
  snprintf(name, sizeof name, "%lld.%s", (long long)layer, part);
  return weights_find(w, name) != NULL;
}

static elbo_status outline(elbo_ctx *ctx, const weights *w, layer_outline *out) {
  int64_t layer;
  *out = (layer_outline){.file = w};
  for (int64_t i = 0; i < weights_count(w); i++) {
    const char *name = weights_at(w, i)->name;
    if (!name_number(name, &layer) || layer >= LAYERS_MAX)
      return fail(ctx, ELBO_ERROR_FORMAT, "%s: tensor '%.200s': one side of a tiny autoencoder was expected, whose layers are numbers",
                  weights_path(w), name);
    if (layer >= out->count) out->count = layer + 1;
  }
  for (int64_t i = 0; i < out->count; i++) {
    if (has(w, i, "conv.0.weight"))
      out->kind[i] = has(w, i, "pool.0.weight") ? LAYER_POOLED_BLOCK : LAYER_BLOCK;
    else if (has(w, i, "weight"))
      out->kind[i] = has(w, i, "bias") ? LAYER_CONV : LAYER_CONV_UNBIASED;
  }
  return ELBO_OK;
}

static elbo_status refuse_layer(elbo_ctx *ctx, const layer_outline *o, int64_t layer, const char *expected) {
  static const char *const names[] = {"none with parameters", "a convolution", "a convolution without bias", "a block", "a pooled block"};
  return fail(ctx, ELBO_ERROR_UNSUPPORTED,
              "%s: layer %lld: %s, where %s was expected in the tiny autoencoders of Stable Diffusion and FLUX", weights_path(o->file),
              (long long)layer, names[layer < o->count ? o->kind[layer] : LAYER_NONE], expected);
}

// The stages of one side: blocks, then `gap` layers without parameters and a convolution without bias, and so on; a convolution at the end.
// first: of the blocks. pooled: the stage whose blocks are, -1: none.
typedef struct stages {
  int64_t *blocks;
  int64_t count, pooled;
} stages;

static elbo_status read_stages(elbo_ctx *ctx, arena *a, const layer_outline *o, int64_t first, int64_t gap, stages *out) {
  *out = (stages){.blocks = arena_alloc(a, LAYERS_MAX * sizeof(int64_t)), .pooled = -1};
  if (!out->blocks) return fail_memory(ctx, LAYERS_MAX * sizeof(int64_t), "the layers of an autoencoder");
  int64_t at = first;
  for (;;) {
    int64_t n = 0;
    layer_kind kind = at < o->count && o->kind[at] == LAYER_POOLED_BLOCK ? LAYER_POOLED_BLOCK : LAYER_BLOCK;
    if (kind == LAYER_POOLED_BLOCK && out->pooled >= 0) return refuse_layer(ctx, o, at, "a block (one stage alone is pooled)");
    if (kind == LAYER_POOLED_BLOCK) out->pooled = out->count;
    for (; at < o->count && o->kind[at] == kind; at++) n++;
    out->blocks[out->count++] = n;
    if (at == o->count - 1 && o->kind[at] == LAYER_CONV) return ELBO_OK;
    for (int64_t i = 0; i < gap; i++, at++)
      if (at >= o->count || o->kind[at] != LAYER_NONE) return refuse_layer(ctx, o, at, "an upsampling, or the last convolution,");
    if (at >= o->count || o->kind[at] != LAYER_CONV_UNBIASED) return refuse_layer(ctx, o, at, "a convolution without bias");
    at++;
  }
}

static int64_t dim_of(const weights *w, int64_t layer, int axis) {
  char name[64];
  snprintf(name, sizeof name, "%lld.weight", (long long)layer);
  const tensor_view *v = weights_find(w, name);
  return v && v->rank == 4 ? v->dim[axis] : 0;
}

static elbo_status repeat(elbo_ctx *ctx, arena *a, int64_t value, int64_t count, config_ints *out) {
  int64_t *list = arena_alloc(a, (size_t)count * sizeof *list);
  if (!list) return fail_memory(ctx, (size_t)count * sizeof *list, "the layers of an autoencoder");
  for (int64_t i = 0; i < count; i++) list[i] = value;
  *out = (config_ints){count, list};
  return ELBO_OK;
}

// "LAYER.rest" as "SIDE.layers.LAYER - shift.rest"
static elbo_status rename_all(elbo_ctx *ctx, arena *a, const weights *w, const char *side, int64_t shift, tensor_list *out) {
  for (int64_t i = 0; i < weights_count(w); i++) {
    const tensor_view *v = weights_at(w, i);
    char name[WEIGHTS_NAME_BYTES];
    int64_t layer;
    const char *rest = name_number(v->name, &layer);
    snprintf(name, sizeof name, "%s.layers.%lld.%s", side, (long long)(layer - shift), rest);
    TRY(tensor_list_add(ctx, a, out, v, name));
  }
  return ELBO_OK;
}

elbo_status tiny_pair_read(elbo_ctx *ctx, arena *a, const weights *encoder, const weights *decoder, tiny_config *config, tensor_list *out) {
  layer_outline e, d;
  stages down, up;
  TRY(outline(ctx, encoder, &e));
  TRY(outline(ctx, decoder, &d));
  if (e.kind[0] == LAYER_NONE && e.kind[1] == LAYER_CONV && d.kind[0] == LAYER_CONV)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: is a decoder; the encoder comes first", weights_path(encoder));
  if (e.kind[0] != LAYER_CONV) return refuse_layer(ctx, &e, 0, "a convolution");
  if (d.kind[0] != LAYER_NONE) return refuse_layer(ctx, &d, 0, "none with parameters");
  if (d.kind[1] != LAYER_CONV) return refuse_layer(ctx, &d, 1, "a convolution");
  if (d.kind[2] != LAYER_NONE) return refuse_layer(ctx, &d, 2, "none with parameters");
  TRY(read_stages(ctx, a, &e, 1, 0, &down));
  TRY(read_stages(ctx, a, &d, 3, 1, &up));
  if ((down.pooled >= 0) != (up.pooled >= 0) || (down.pooled >= 0 && (down.pooled != down.count - 1 || up.pooled != 0)))
    return fail(ctx, ELBO_ERROR_UNSUPPORTED, "%s: pooled blocks that are not those of the coarsest stage on both sides",
                weights_path(up.pooled >= 0 ? decoder : encoder));
  TRY(config_load(ctx, a, &tiny_table, NULL, "", config));
  config->in_channels = dim_of(encoder, 0, 1), config->latent_channels = dim_of(encoder, e.count - 1, 0);
  config->out_channels = dim_of(decoder, d.count - 1, 0);
  config->num_encoder_blocks = (config_ints){down.count, down.blocks}, config->num_decoder_blocks = (config_ints){up.count, up.blocks};
  config->use_midblock_gn = down.pooled >= 0;
  TRY(repeat(ctx, a, dim_of(encoder, 0, 0), down.count, &config->encoder_block_out_channels));
  TRY(repeat(ctx, a, dim_of(decoder, 1, 0), up.count, &config->decoder_block_out_channels));
  if (dim_of(decoder, 1, 1) != config->latent_channels)
    return fail(ctx, ELBO_ERROR_FORMAT, "%s: takes codes of %lld channels; %s makes %lld", weights_path(decoder),
                (long long)dim_of(decoder, 1, 1), weights_path(encoder), (long long)config->latent_channels);
  TRY(tiny_check(ctx, config, weights_path(encoder)));
  TRY(rename_all(ctx, a, encoder, "encoder", 0, out));
  return rename_all(ctx, a, decoder, "decoder", 1, out); // diffusers' has no number for the first, which holds the codes in bounds
}
