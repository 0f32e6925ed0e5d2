#include "nn/unet_levels.h"

#include <string.h>

static const unet_block_type block_types[] = {
    {"DownBlock2D", "UpBlock2D", true, true, UNET_ATTENTION_NONE, UNET_RESAMPLE_CONV},
    {"AttnDownBlock2D", "AttnUpBlock2D", true, true, UNET_ATTENTION_SELF, UNET_RESAMPLE_BY_KEY},
    {"ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D", true, true, UNET_ATTENTION_NONE, UNET_RESAMPLE_RESNET},
    {"SkipDownBlock2D", "SkipUpBlock2D", true, false, UNET_ATTENTION_NONE, UNET_RESAMPLE_FIR},
    {"AttnSkipDownBlock2D", "AttnSkipUpBlock2D", true, false, UNET_ATTENTION_SELF, UNET_RESAMPLE_FIR},
    {"CrossAttnDownBlock2D", "CrossAttnUpBlock2D", false, true, UNET_ATTENTION_CROSS, UNET_RESAMPLE_CONV},
    {"SimpleCrossAttnDownBlock2D", "SimpleCrossAttnUpBlock2D", false, true, UNET_ATTENTION_ADDED, UNET_RESAMPLE_RESNET},
};
enum { N_TYPES = sizeof block_types / sizeof *block_types };
#define DOWN_NAMES                                                                                                \
  "DownBlock2D|AttnDownBlock2D|ResnetDownsampleBlock2D|SkipDownBlock2D|AttnSkipDownBlock2D|CrossAttnDownBlock2D|" \
  "SimpleCrossAttnDownBlock2D"
#define UP_NAMES "UpBlock2D|AttnUpBlock2D|ResnetUpsampleBlock2D|SkipUpBlock2D|AttnSkipUpBlock2D|CrossAttnUpBlock2D|SimpleCrossAttnUpBlock2D"

// "a|b" as "a, b"
static const char *listed(const char *names, char buffer[320]) {
  size_t n = 0;
  for (; *names && n + 3 < 320; names++) {
    buffer[n++] = *names == '|' ? ',' : *names;
    if (*names == '|') buffer[n++] = ' ';
  }
  buffer[n] = 0;
  return buffer;
}

static elbo_status find_type(elbo_ctx *ctx, const unet_config *c, const char *where, bool up, int64_t i, const unet_block_type **out) {
  const config_strings *list = up ? &c->up_block_types : &c->down_block_types;
  const char *key = up ? "up_block_types" : "down_block_types", *name = list->at[i];
  if (strncmp(name, "UNetRes", 7) == 0) name += 7; // as the first releases of diffusers had it
  for (int t = 0; t < N_TYPES; t++) {
    if (strcmp(name, up ? block_types[t].up : block_types[t].down) != 0) continue;
    *out = &block_types[t];
    if (c->class == UNET_2D ? block_types[t].plain : block_types[t].condition) return ELBO_OK;
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: %s[%lld]: %s does not go into a %s", where, key, (long long)i, name,
                c->class == UNET_2D ? "UNet2DModel" : "UNet2DConditionModel");
  }
  char near[64], all[320];
  const char *names = up ? UP_NAMES : DOWN_NAMES;
  bool of_autoencoders = strstr(name, "EncoderBlock2D") || strstr(name, "DecoderBlock2D");
  if (strncmp(name, up ? "KUp" : "KDown", up ? 3 : 5) == 0 || strncmp(name, "KCrossAttn", 10) == 0 || of_autoencoders)
    return fail(ctx, ELBO_ERROR_UNSUPPORTED, "%s: %s[%lld]: %.100s is not implemented; expected one of %s", where, key, (long long)i, name,
                listed(names, all));
  if (config_nearest_name(names, name, near, sizeof near))
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: %s[%lld]: unknown block '%.100s'; did you mean '%s'?", where, key, (long long)i, name, near);
  return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: %s[%lld]: '%.100s' is no block that we have; expected one of %s", where, key, (long long)i,
              name, listed(names, all));
}

static elbo_status check_length(elbo_ctx *ctx, const char *where, const char *key, int64_t count, int64_t levels, bool single) {
  if (count == levels || (single && count == 1)) return ELBO_OK;
  return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: %s: a list of %lld; there are %lld down_block_types", where, key, (long long)count,
              (long long)levels);
}

static elbo_status check_lengths(elbo_ctx *ctx, const unet_config *c, const char *where) {
  int64_t n = c->down_block_types.count;
  bool lists = c->class == UNET_2D_CONDITION;
  if (n < 1 || n > UNET_LEVELS_MAX)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: down_block_types: a list of %lld; expected 1 to %d", where, (long long)n, UNET_LEVELS_MAX);
  TRY(check_length(ctx, where, "up_block_types", c->up_block_types.count, n, false));
  TRY(check_length(ctx, where, "block_out_channels", c->block_out_channels.count, n, false));
  if (!lists && (c->layers_per_block.count != 1 || c->attention_head_dim.count > 1))
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: %s: a list; a UNet2DModel takes a single number", where,
                c->layers_per_block.count != 1 ? "layers_per_block" : "attention_head_dim");
  if (lists && c->attention_head_dim.count == 0)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: attention_head_dim: null; a UNet2DConditionModel needs a number", where);
  TRY(check_length(ctx, where, "layers_per_block", c->layers_per_block.count, n, true));
  if (c->attention_head_dim.count) TRY(check_length(ctx, where, "attention_head_dim", c->attention_head_dim.count, n, true));
  TRY(check_length(ctx, where, "only_cross_attention", c->only_cross_attention.count, n, true));
  if (c->cross_attention_dim.count) TRY(check_length(ctx, where, "cross_attention_dim", c->cross_attention_dim.count, n, true));
  TRY(check_length(ctx, where, "transformer_layers_per_block", c->transformer_layers_per_block.count, n,
                   c->transformer_layers_per_block.count == 1 && c->transformer_layers_per_block.at[0].count == 1));
  if (c->reverse_transformer_layers_per_block.count)
    TRY(check_length(ctx, where, "reverse_transformer_layers_per_block", c->reverse_transformer_layers_per_block.count, n, false));
  return ELBO_OK;
}

static int64_t at_level(const config_ints *list, int64_t i) { return list->count == 0 ? 0 : list->count == 1 ? list->at[0] : list->at[i]; }

static config_ints depth_at(const unet_config *c, bool up, int64_t i, int64_t n) {
  const config_int_lists *own = &c->transformer_layers_per_block, *reverse = &c->reverse_transformer_layers_per_block;
  if (up && reverse->count) return reverse->at[i];
  return own->at[own->count == 1 ? 0 : up ? n - 1 - i : i];
}

static unet_resampler resampler_of(const unet_config *c, const unet_block_type *type, bool up) {
  if (type->resampler != UNET_RESAMPLE_BY_KEY) return type->resampler;
  return (up ? c->upsample_type : c->downsample_type) == UNET_SAMPLER_RESNET ? UNET_RESAMPLE_RESNET : UNET_RESAMPLE_CONV;
}

// Level i of the way down or up; `f` is its place in the lists, which are ordered finest first.
static unet_level level_at(const unet_config *c, const unet_block_type *type, bool up, int64_t i, int64_t n) {
  int64_t f = up ? n - 1 - i : i, dim = at_level(&c->attention_head_dim, f);
  unet_level l = {.type = type, .out = c->block_out_channels.at[f], .last = i == n - 1, .rescale = 1};
  l.layers = at_level(&c->layers_per_block, f) + up;
  l.resampler = resampler_of(c, type, up);
  l.heads = dim;
  l.head_dim =
      up ? at_level(&c->attention_head_dim, i) : dim; // on the way up diffusers takes channels of a head in the order of the way down
  l.depth = depth_at(c, up, i, n);
  l.context = at_level(&c->cross_attention_dim, f);
  l.only_cross = c->only_cross_attention.at[c->only_cross_attention.count == 1 ? 0 : f];
  if (type->resampler == UNET_RESAMPLE_RESNET) l.rescale = c->resnet_out_scale_factor, l.embedding_as_is = c->resnet_skip_time_act;
  if (type->resampler == UNET_RESAMPLE_FIR) l.rescale = 1.4142135623730951;
  return l;
}

static unet_level middle_of(const unet_config *c, int64_t n) {
  unet_level l = {.out = c->block_out_channels.at[n - 1], .last = true, .rescale = c->mid_block_scale_factor};
  l.heads = l.head_dim = at_level(&c->attention_head_dim, n - 1);
  l.depth = depth_at(c, false, n - 1, n);
  l.context = at_level(&c->cross_attention_dim, n - 1);
  if (c->mid_block_type == UNET_MID_SIMPLE_CROSS) {
    bool single = c->only_cross_attention.count == 1 && c->only_cross_attention.at[0];
    l.only_cross = c->mid_block_only_cross_attention == UNET_BOOL_NULL ? single : c->mid_block_only_cross_attention == UNET_BOOL_TRUE;
    l.embedding_as_is = c->resnet_skip_time_act;
  }
  return l;
}

elbo_status unet_resolve(elbo_ctx *ctx, const unet_config *c, const char *where, unet_levels *out) {
  *out = (unet_levels){0};
  TRY(check_lengths(ctx, c, where));
  int64_t n = c->down_block_types.count, width = c->block_out_channels.at[0];
  out->n = (int)n;
  for (int64_t i = 0; i < n; i++) {
    const unet_block_type *down, *up;
    TRY(find_type(ctx, c, where, false, i, &down));
    TRY(find_type(ctx, c, where, true, i, &up));
    out->down[i] = level_at(c, down, false, i, n);
    out->up[i] = level_at(c, up, true, i, n);
  }
  out->middle = middle_of(c, n);
  bool fourier = c->time_embedding_type == UNET_TIME_FOURIER;
  if (c->class == UNET_2D) {
    out->time_dim = c->time_embedding_dim ? c->time_embedding_dim : 4 * width;
    out->time_input_dim = fourier ? 2 * width : width;
  } else {
    out->time_dim = c->time_embedding_dim ? c->time_embedding_dim : fourier ? 2 * width : 4 * width;
    out->time_input_dim = fourier ? out->time_dim : width;
  }
  return ELBO_OK;
}

int64_t unet_depth(const unet_level *level, int64_t layer) {
  return level->depth.count == 1 ? level->depth.at[0] : layer < level->depth.count ? level->depth.at[layer] : 0;
}
