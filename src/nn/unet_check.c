// What a UNet's config cannot be. Everything that a look at the numbers shows is named here; a trial graph, without weights, finds the
// rest.
#include <stdlib.h>

#include "nn/denoiser_trial.h"
#include "nn/unet.h"
#include "nn/unet_levels.h"

static bool uses_context(const unet_level *l) {
  return l->type && (l->type->attention == UNET_ATTENTION_CROSS || l->type->attention == UNET_ATTENTION_ADDED);
}

static bool middle_uses_context(const unet_config *c) {
  return c->mid_block_type == UNET_MID_CROSS || c->mid_block_type == UNET_MID_SIMPLE_CROSS;
}

// The width of the context of all blocks that look at it: 0 when there are none, -1 when they differ or have none.
static int64_t context_of_blocks(const unet_config *c, const unet_levels *l) {
  int64_t width = 0;
  for (int i = 0; i < 2 * l->n + 1; i++) {
    const unet_level *level = i < l->n ? &l->down[i] : i < 2 * l->n ? &l->up[i - l->n] : &l->middle;
    if (i < 2 * l->n ? !uses_context(level) : !middle_uses_context(c)) continue;
    if (level->context == 0 || (width && width != level->context)) return -1;
    width = level->context;
  }
  return width;
}

denoiser_needs unet_needs(const unet_config *c) {
  denoiser_needs needs = {.in_channels = c->in_channels, .out_channels = c->out_channels, .timestep_cond_dim = c->time_cond_proj_dim};
  unet_levels l;
  if (unet_resolve(NULL, c, "", &l) != ELBO_OK) return needs;
  switch (c->class_embed_type) {
  case UNET_CLASS_TIMESTEP: needs.class_labels = CLASS_INPUT_NUMBER; break;
  case UNET_CLASS_IDENTITY: needs.class_labels = CLASS_INPUT_VECTOR, needs.class_dim = l.time_dim; break;
  case UNET_CLASS_PROJECTION:
  case UNET_CLASS_SIMPLE_PROJECTION:
    needs.class_labels = CLASS_INPUT_VECTOR, needs.class_dim = c->projection_class_embeddings_input_dim;
    break;
  default:
    if (c->num_class_embeds) needs.class_labels = CLASS_INPUT_INDEX, needs.classes = c->num_class_embeds;
  }
  int64_t context = context_of_blocks(c, &l);
  if (c->addition_embed_type == UNET_ADDITION_TEXT && !context && c->cross_attention_dim.count) context = c->cross_attention_dim.at[0];
  if (context > 0) needs.context_dim = c->encoder_hid_dim ? c->encoder_hid_dim : context;
  if (c->addition_embed_type == UNET_ADDITION_TEXT_TIME)
    needs.added_dim = c->projection_class_embeddings_input_dim, needs.time_id_dim = c->addition_time_embed_dim;
  return needs;
}

#define REFUSE(...) return fail(ctx, ELBO_ERROR_ARGUMENT, __VA_ARGS__)

static elbo_status check_time(elbo_ctx *ctx, const unet_config *c, const unet_levels *l, const char *where) {
  int64_t half = c->block_out_channels.at[0] / 2;
  if (c->time_embedding_type == UNET_TIME_LEARNED && c->class == UNET_2D_CONDITION)
    REFUSE("%s: time_embedding_type: learned; a UNet2DConditionModel takes positional or fourier", where);
  if (c->time_embedding_type == UNET_TIME_LEARNED && !c->num_train_timesteps)
    REFUSE("%s: num_train_timesteps: null; a learned time_embedding_type needs the number of times", where);
  if (c->time_embedding_type == UNET_TIME_POSITIONAL && (half < 1 || half == c->freq_shift))
    REFUSE("%s: freq_shift: %lld; an embedding of %lld channels has no such frequencies", where, (long long)c->freq_shift,
           (long long)(2 * half));
  if (c->time_embedding_type == UNET_TIME_FOURIER && c->class == UNET_2D_CONDITION && l->time_dim % 2)
    REFUSE("%s: time_embedding_dim: %lld; a fourier time_embedding_type needs an even number", where, (long long)l->time_dim);
  return ELBO_OK;
}

static elbo_status check_conditions(elbo_ctx *ctx, const unet_config *c, const char *where) {
  bool projection = c->class_embed_type == UNET_CLASS_PROJECTION || c->class_embed_type == UNET_CLASS_SIMPLE_PROJECTION;
  bool text_time = c->addition_embed_type == UNET_ADDITION_TEXT_TIME;
  if (projection && c->class == UNET_2D) REFUSE("%s: class_embed_type: a UNet2DModel takes null, timestep or identity", where);
  if ((projection || text_time) && !c->projection_class_embeddings_input_dim)
    REFUSE("%s: projection_class_embeddings_input_dim: null; %s needs it", where,
           text_time ? "addition_embed_type text_time" : "this class_embed_type");
  if (projection && text_time) REFUSE("%s: addition_embed_type: text_time, beside a class_embed_type that projects too", where);
  if (text_time && !c->addition_time_embed_dim) REFUSE("%s: addition_time_embed_dim: null; addition_embed_type text_time needs it", where);
  if (text_time && c->addition_time_embed_dim >= c->projection_class_embeddings_input_dim)
    REFUSE("%s: addition_time_embed_dim: %lld leaves nothing of projection_class_embeddings_input_dim, %lld, for text_embeds", where,
           (long long)c->addition_time_embed_dim, (long long)c->projection_class_embeddings_input_dim);
  if (text_time && c->addition_time_embed_dim / 2 == c->freq_shift)
    REFUSE("%s: freq_shift: %lld; an embedding of %lld channels has no such frequencies", where, (long long)c->freq_shift,
           (long long)c->addition_time_embed_dim);
  if (c->class_embeddings_concat && c->class_embed_type == UNET_CLASS_NULL && !c->num_class_embeds)
    REFUSE("%s: class_embeddings_concat: true; there is no class embedding", where);
  if (c->encoder_hid_dim_type && !c->encoder_hid_dim) REFUSE("%s: encoder_hid_dim: null; encoder_hid_dim_type needs it", where);
  return ELBO_OK;
}

static elbo_status check_context(elbo_ctx *ctx, const unet_config *c, const unet_levels *l, const char *where) {
  const config_ints *dims = &c->cross_attention_dim;
  bool text = c->addition_embed_type == UNET_ADDITION_TEXT;
  if (context_of_blocks(c, l) < 0)
    REFUSE("%s: cross_attention_dim: %s", where,
           dims->count ? "differs between blocks, which all look at one context" : "null; blocks with cross-attention need it");
  if (text && !dims->count && !c->encoder_hid_dim) REFUSE("%s: cross_attention_dim: null; addition_embed_type text needs it", where);
  if ((c->encoder_hid_dim || text) && dims->count != 1)
    REFUSE("%s: cross_attention_dim: a single number is needed with %s", where,
           c->encoder_hid_dim ? "encoder_hid_dim" : "addition_embed_type text");
  int64_t width = c->encoder_hid_dim ? c->encoder_hid_dim : dims->count ? dims->at[0] : 0;
  if (text && width % c->addition_embed_type_num_heads)
    REFUSE("%s: addition_embed_type_num_heads: %lld do not divide the context's %lld numbers", where,
           (long long)c->addition_embed_type_num_heads, (long long)width);
  int64_t seen = context_of_blocks(c, l); // behind its projection
  if (c->cross_attention_norm == UNET_CONTEXT_NORM_GROUP && seen % 32)
    REFUSE("%s: cross_attention_norm: group_norm has 32 groups, which do not divide the context's %lld numbers", where, (long long)seen);
  return ELBO_OK;
}

static elbo_status check_depths(elbo_ctx *ctx, const unet_config *c, const unet_levels *l, const char *where) {
  const config_int_lists *lists = &c->transformer_layers_per_block;
  int64_t total = 0, resnets = 0;
  for (int64_t i = 0; i < lists->count && lists->count > 1 && !c->reverse_transformer_layers_per_block.count; i++)
    if (lists->at[i].count != 1)
      REFUSE("%s: reverse_transformer_layers_per_block: null; lists within transformer_layers_per_block need it", where);
  for (int i = 0; i < 2 * l->n; i++) {
    const unet_level *level = i < l->n ? &l->down[i] : &l->up[i - l->n];
    resnets += level->layers;
    if (level->type->attention != UNET_ATTENTION_CROSS) continue;
    if (level->depth.count != 1 && level->depth.count < level->layers)
      REFUSE("%s: %s: a list of %lld for a level of %lld layers", where,
             i < l->n || !c->reverse_transformer_layers_per_block.count ? "transformer_layers_per_block"
                                                                        : "reverse_transformer_layers_per_block",
             (long long)level->depth.count, (long long)level->layers);
    for (int64_t j = 0; j < level->layers; j++) total += unet_depth(level, j);
  }
  if (c->mid_block_type == UNET_MID_CROSS && l->middle.depth.count == 0)
    REFUSE("%s: transformer_layers_per_block: an empty list for the middle", where);
  if (total > 4096 || resnets > 1024)
    REFUSE("%s: layers_per_block: %lld residual and %lld transformer blocks; at most 1024 and 4096 are built", where, (long long)resnets,
           (long long)total);
  return ELBO_OK;
}

// The blocks of score_sde carry a picture of three channels along, which only they resample.
static elbo_status check_skip_blocks(elbo_ctx *ctx, const unet_config *c, const unet_levels *l, const char *where) {
  bool down = false, up = false, left = false;
  for (int i = 0; i < l->n; i++) {
    bool fir = l->down[i].type->resampler == UNET_RESAMPLE_FIR;
    if (fir && left)
      REFUSE("%s: down_block_types[%d]: a Skip block behind another kind, which does not halve the picture it takes", where, i);
    left = left || !fir;
    down = down || (fir && !l->down[i].last);
    bool fir_up = l->up[i].type->resampler == UNET_RESAMPLE_FIR;
    if (up && !fir_up)
      REFUSE("%s: up_block_types[%d]: not a Skip block, behind one: the picture that it gave would not be doubled", where, i);
    up = up || fir_up;
  }
  if (down && c->in_channels != 3) REFUSE("%s: in_channels: %lld; the Skip blocks take pictures of 3", where, (long long)c->in_channels);
  if (up && l->n > 1 && c->out_channels != 3)
    REFUSE("%s: out_channels: %lld; the Skip blocks give pictures of 3", where, (long long)c->out_channels);
  return ELBO_OK;
}

static elbo_status check_sizes(elbo_ctx *ctx, const unet_config *c, const unet_levels *l, int64_t height, int64_t width,
                               const char *where) {
  int64_t size[2] = {height, width};
  for (int i = 0; i + 1 < l->n; i++) {
    // a condition model's convolutions round up, and its way up is cut to the sizes of the way down
    bool cut = c->class == UNET_2D_CONDITION && l->down[i].resampler == UNET_RESAMPLE_CONV && c->downsample_padding == 1 &&
               l->up[l->n - 2 - i].type->resampler == UNET_RESAMPLE_CONV;
    for (int d = 0; d < 2; d++) {
      if (size[d] % 2 && !cut)
        REFUSE("%s: sample_size: a %lldx%lld picture cannot be halved %d times: after %d the %s is %lld, which is odd; data.size makes "
               "another of it",
               where, (long long)height, (long long)width, l->n - 1, i, d ? "width" : "height", (long long)size[d]);
      size[d] = (size[d] + 1) / 2;
    }
  }
  return ELBO_OK;
}

static elbo_tensor *build(const void *config, const denoiser_inputs *in) { return unet_network(config, in); }

static elbo_status build_on_trial(elbo_ctx *ctx, const unet_config *c, int64_t height, int64_t width, const char *where) {
  denoiser_needs needs = unet_needs(c);
  return denoiser_trial(ctx, where, &needs, height, width, build, c, NULL);
}

elbo_status unet_check(elbo_ctx *ctx, const unet_config *c, int64_t height, int64_t width, const char *where) {
  unet_levels l;
  TRY(unet_check_keys(ctx, c, where));
  TRY(unet_resolve(ctx, c, where, &l));
  if (c->class == UNET_2D && c->mid_block_type > UNET_MID_PLAIN)
    REFUSE("%s: mid_block_type: a UNet2DModel takes UNetMidBlock2D or null", where);
  if (c->num_attention_heads)
    REFUSE("%s: num_attention_heads: %lld; diffusers takes it from attention_head_dim and refuses this key", where,
           (long long)c->num_attention_heads);
  if (c->dual_cross_attention) REFUSE("%s: dual_cross_attention: true; it is not implemented", where);
  if (c->conv_in_kernel % 2 == 0 || c->conv_out_kernel % 2 == 0)
    REFUSE("%s: %s: even; a kernel of 1, 3, 5, ... keeps the size", where, c->conv_in_kernel % 2 ? "conv_out_kernel" : "conv_in_kernel");
  TRY(check_time(ctx, c, &l, where));
  TRY(check_conditions(ctx, c, where));
  TRY(check_context(ctx, c, &l, where));
  TRY(check_depths(ctx, c, &l, where));
  TRY(check_skip_blocks(ctx, c, &l, where));
  int64_t least = (int64_t)1 << (l.n - 1);
  if (height <= 0 || width <= 0) return build_on_trial(ctx, c, least, least, where);
  TRY(check_sizes(ctx, c, &l, height, width, where));
  return build_on_trial(ctx, c, height, width, where);
}
