// The levels of a UNet on the way down and up, and the middle.
#include <stdio.h>

#include "backend/node.h"
#include "nn/attention_block.h"
#include "nn/residual_block.h"
#include "nn/transformer_block.h"
#include "nn/unet_walk.h"

// Scopes "NAME.I"
static void push_index(unet_walk *w, const char *name, int i) {
  char text[64];
  snprintf(text, sizeof text, "%s.%d", name, i);
  elbo_scope_push(w->graph, text);
}

static bool groups_divide(unet_walk *w, const char *name, int64_t groups, int64_t channels) {
  if (groups >= 1 && channels % groups == 0) return true;
  if (groups == 0) return graph_fail(w->graph, ELBO_ERROR_ARGUMENT, "%s: norm_num_groups: null; this block needs a number", name) != NULL;
  return graph_fail(w->graph, ELBO_ERROR_ARGUMENT, "%s: %lld groups (norm_num_groups) do not divide its %lld channels", name,
                    (long long)groups, (long long)channels) != NULL;
}

elbo_tensor *unet_norm(unet_walk *w, elbo_tensor *x, const char *name, int64_t groups) {
  if (!x || !groups_divide(w, name, groups, elbo_tensor_dim(x, -1))) return NULL;
  return norm_layer_eps(x, name, (int)groups, w->config->norm_eps);
}

static elbo_tensor *grouped_resnet(unet_walk *w, elbo_tensor *x, const char *name, const unet_level *level, int resample, int64_t groups,
                                   int64_t groups_out) {
  if (!x || !groups_divide(w, name, groups, elbo_tensor_dim(x, -1)) || !groups_divide(w, name, groups_out, level->out)) return NULL;
  block_config block = {.out = level->out,
                        .kernel = 3,
                        .groups = (int)groups,
                        .groups_out = (int)groups_out,
                        .eps = w->config->norm_eps,
                        .activation = w->activation,
                        .dropout = w->dropout,
                        .gain = 1,
                        .rescale = level->rescale,
                        .embedding = w->embedding,
                        .scale_shift = w->config->resnet_time_scale_shift == UNET_SHIFT_SCALE,
                        .embedding_as_is = level->embedding_as_is,
                        .always_shortcut = resample == RESAMPLE_FIR_UP || resample == RESAMPLE_FIR_DOWN,
                        .resample = resample};
  return residual_block(x, name, &block);
}

static elbo_tensor *resnet(unet_walk *w, elbo_tensor *x, const char *name, const unet_level *level, int resample) {
  return grouped_resnet(w, x, name, level, resample, w->config->norm_num_groups, w->config->norm_num_groups);
}

static int64_t at_most_32(int64_t n) { return n < 32 ? n : 32; }

// Of the middle and of the last norm, which do with a norm_num_groups of null
int64_t unet_groups(const unet_config *c, int64_t channels) { return c->norm_num_groups ? c->norm_num_groups : at_most_32(channels / 4); }

static bool is_fir(const unet_level *level) { return level->type && level->type->resampler == UNET_RESAMPLE_FIR; }

static elbo_tensor *self_attention(unet_walk *w, elbo_tensor *x, const char *name, const unet_level *level, int64_t groups) {
  if (groups && !groups_divide(w, name, groups, elbo_tensor_dim(x, -1))) return NULL;
  attention_block_config c = {.groups = (int)groups, .eps = w->config->norm_eps, .head_dim = level->head_dim};
  c.rescale = is_fir(level) || !level->type ? level->rescale : 1;
  return attention_block(x, name, &c);
}

static elbo_tensor *cross_attention(unet_walk *w, elbo_tensor *x, const char *name, const unet_level *level, int64_t layer,
                                    int64_t groups) {
  int64_t channels = elbo_tensor_dim(x, -1);
  if (!groups_divide(w, name, groups, channels)) return NULL;
  if (level->heads < 1 || level->heads > channels)
    return graph_fail(w->graph, ELBO_ERROR_ARGUMENT, "%s: %lld heads (attention_head_dim) of %lld channels", name, (long long)level->heads,
                      (long long)channels);
  transformer_config c = {
      .heads = level->heads, .head_dim = channels / level->heads, .context = w->context, .only_context = level->only_cross};
  return spatial_transformer(x, name, (int)groups, unet_depth(level, layer), w->config->use_linear_projection, &c);
}

static elbo_tensor *added_attention(unet_walk *w, elbo_tensor *x, const char *name, const unet_level *level, int64_t groups) {
  static const context_norm norms[] = {[UNET_CONTEXT_NORM_NULL] = CONTEXT_NORM_NONE,
                                       [UNET_CONTEXT_NORM_LAYER] = CONTEXT_NORM_LAYER,
                                       [UNET_CONTEXT_NORM_GROUP] = CONTEXT_NORM_GROUP};
  if (!groups_divide(w, name, groups, elbo_tensor_dim(x, -1))) return NULL;
  if (w->config->cross_attention_norm == UNET_CONTEXT_NORM_LAYER && elbo_tensor_dim(w->context, -1) != elbo_tensor_dim(x, -1))
    return graph_fail(w->graph, ELBO_ERROR_ARGUMENT, "%s: cross_attention_norm: layer_norm of %lld numbers, the context has %lld", name,
                      (long long)elbo_tensor_dim(x, -1), (long long)elbo_tensor_dim(w->context, -1));
  added_attention_config c = {.groups = (int)groups,
                              .head_dim = level->head_dim,
                              .context = w->context,
                              .only_context = level->only_cross,
                              .norm = norms[w->config->cross_attention_norm]};
  return added_attention_block(x, name, &c);
}

static elbo_tensor *attention(unet_walk *w, elbo_tensor *x, unet_attention kind, const unet_level *level, int64_t layer) {
  char name[32];
  if (!x) return NULL;
  snprintf(name, sizeof name, "attentions.%lld", (long long)layer);
  switch (kind) {
  case UNET_ATTENTION_NONE: return x;
  case UNET_ATTENTION_SELF: return self_attention(w, x, name, level, is_fir(level) ? 32 : w->config->norm_num_groups);
  case UNET_ATTENTION_CROSS: return cross_attention(w, x, name, level, layer, w->config->norm_num_groups);
  case UNET_ATTENTION_ADDED: return added_attention(w, x, name, level, w->config->norm_num_groups);
  }
  return NULL;
}

static elbo_tensor *pushed(unet_walk *w, elbo_tensor *x) {
  if (!x) return NULL;
  if (w->n_skips == UNET_SKIPS_MAX) return graph_fail(w->graph, ELBO_ERROR_ARGUMENT, "layers_per_block: too many layers");
  return w->skips[w->n_skips++] = x;
}

static elbo_tensor *step_down(unet_walk *w, elbo_tensor *x, const unet_level *level) {
  if (level->resampler == UNET_RESAMPLE_RESNET) return resnet(w, x, "downsamplers.0", level, RESAMPLE_DOWN);
  if (level->resampler == UNET_RESAMPLE_CONV) {
    int before = (int)w->config->downsample_padding;
    return conv_layer_padded(x, "downsamplers.0.conv", level->out, 3, 2, (int[]){before, before, 1, 1}, 1);
  }
  int64_t groups = at_most_32(level->out / 4);
  x = grouped_resnet(w, x, "resnet_down", level, RESAMPLE_FIR_DOWN, groups, groups);
  w->picture = resample_map(w->picture, RESAMPLE_FIR_DOWN);
  return elbo_add(conv_layer(w->picture, "skip_conv", level->out, 1, 1, 0, 1), x);
}

elbo_tensor *unet_down_level(unet_walk *w, elbo_tensor *x, const unet_level *level, int i) {
  push_index(w, "down_blocks", i);
  for (int j = 0; j < (int)level->layers && x; j++) {
    char name[32];
    snprintf(name, sizeof name, "resnets.%d", j);
    if (is_fir(level)) {
      x = grouped_resnet(w, x, name, level, RESAMPLE_NONE, at_most_32(elbo_tensor_dim(x, -1) / 4), at_most_32(level->out / 4));
    } else {
      x = resnet(w, x, name, level, RESAMPLE_NONE);
    }
    x = pushed(w, attention(w, x, level->type->attention, level, j));
  }
  if (!level->last) x = pushed(w, step_down(w, x, level));
  elbo_scope_pop(w->graph);
  return x;
}

static elbo_tensor *middle_attention(unet_walk *w, elbo_tensor *x, const unet_level *level) {
  const unet_config *c = w->config;
  if (!x) return NULL;
  if (c->mid_block_type == UNET_MID_CROSS) return cross_attention(w, x, "attentions.0", level, 0, unet_groups(c, level->out));
  if (c->mid_block_type == UNET_MID_SIMPLE_CROSS) return added_attention(w, x, "attentions.0", level, unet_groups(c, level->out));
  if (!c->add_attention) return x;
  // there is no norm in front when the time comes as scale and shift, unless it is asked for
  int64_t groups = c->resnet_time_scale_shift == UNET_SHIFT_DEFAULT ? unet_groups(c, level->out) : 0;
  return self_attention(w, x, "attentions.0", level, c->attn_norm_num_groups ? c->attn_norm_num_groups : groups);
}

elbo_tensor *unet_middle(unet_walk *w, elbo_tensor *x, const unet_level *level) {
  const unet_config *c = w->config;
  if (c->mid_block_type == UNET_MID_NONE) return x;
  elbo_scope_push(w->graph, "mid_block");
  int64_t groups = unet_groups(c, level->out);
  x = grouped_resnet(w, x, "resnets.0", level, RESAMPLE_NONE, groups, groups);
  // a condition model's plain middle is that one block
  if (c->class == UNET_2D || c->mid_block_type != UNET_MID_PLAIN) {
    x = middle_attention(w, x, level);
    x = grouped_resnet(w, x, "resnets.1", level, RESAMPLE_NONE, groups, groups);
  }
  elbo_scope_pop(w->graph);
  return x;
}

// A condition model takes odd sizes: 2n is cut to 2n - 1, which is what nearest neighbours to that size are.
static elbo_tensor *cut_to_skip(unet_walk *w, elbo_tensor *x) {
  const elbo_tensor *skip = w->n_skips ? w->skips[w->n_skips - 1] : NULL;
  for (int axis = 1; axis < 3 && skip && x; axis++)
    if (elbo_tensor_dim(x, axis) == elbo_tensor_dim(skip, axis) + 1) x = elbo_slice(x, axis, 0, elbo_tensor_dim(skip, axis));
  return x;
}

static elbo_tensor *step_up(unet_walk *w, elbo_tensor *x, const unet_level *level) {
  if (level->resampler == UNET_RESAMPLE_RESNET) return resnet(w, x, "upsamplers.0", level, RESAMPLE_UP);
  x = resample_map(x, RESAMPLE_UP);
  if (w->config->class == UNET_2D_CONDITION && level->type->resampler == UNET_RESAMPLE_CONV) x = cut_to_skip(w, x);
  return conv_layer(x, "upsamplers.0.conv", level->out, 3, 1, 1, 1);
}

// score_sde: what the level adds to the picture outside, and the step up
static elbo_tensor *outer_picture(unet_walk *w, elbo_tensor *x, const unet_level *level) {
  int64_t groups = at_most_32(level->out / 4);
  w->picture = resample_map(w->picture, RESAMPLE_FIR_UP);
  if (level->last || !x) return x;
  elbo_tensor *part = conv_layer(elbo_silu(unet_norm(w, x, "skip_norm", groups)), "skip_conv", 3, 3, 1, 1, 1);
  w->picture = w->picture ? elbo_add(w->picture, part) : part;
  return grouped_resnet(w, x, "resnet_up", level, RESAMPLE_FIR_UP, groups, groups);
}

static elbo_tensor *fir_up_resnet(unet_walk *w, elbo_tensor *x, const char *name, const unet_level *level, int64_t before, int64_t skip) {
  // with attention diffusers divides the skip's channels alone
  int64_t groups = level->type->attention == UNET_ATTENTION_SELF ? before + skip / 4 : (before + skip) / 4;
  return grouped_resnet(w, x, name, level, RESAMPLE_NONE, at_most_32(groups), at_most_32(level->out / 4));
}

elbo_tensor *unet_up_level(unet_walk *w, elbo_tensor *x, const unet_level *level, int i) {
  push_index(w, "up_blocks", i);
  for (int j = 0; j < (int)level->layers && x; j++) {
    char name[32];
    snprintf(name, sizeof name, "resnets.%d", j);
    elbo_tensor *skip = w->skips[--w->n_skips];
    int64_t before = elbo_tensor_dim(x, -1);
    x = elbo_concat(2, (elbo_tensor *[]){x, skip}, 3);
    if (is_fir(level)) {
      x = fir_up_resnet(w, x, name, level, before, elbo_tensor_dim(skip, -1));
    } else {
      x = attention(w, resnet(w, x, name, level, RESAMPLE_NONE), level->type->attention, level, j);
    }
  }
  if (is_fir(level)) {
    x = outer_picture(w, attention(w, x, level->type->attention, level, 0), level);
  } else if (!level->last) {
    x = step_up(w, x, level);
  }
  elbo_scope_pop(w->graph);
  return x;
}
