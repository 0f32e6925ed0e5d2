#include "models/weights_layout.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/weights_rules.h"

enum { BLOCKS_MAX = 256 };

// What the names of all tensors tell about the network.
typedef struct network_outline {
  weights_layout layout;
  int64_t levels, layers; // resolutions; residual blocks of each on the way down
  bool joint;             // query, key and value in one layer
  bool added;             // label_emb is what SDXL adds to the time embedding
} network_outline;

const char *weights_layout_name(weights_layout layout) {
  static const char *const names[] = {"unknown", "diffusers", "diffusers before 0.12", "input_blocks", "ddpm"};
  return names[layout];
}

static bool rename_attention(const network_outline *o, const char *text, const char *prefix, renaming *out) {
  return name_by_rule(o->joint ? BLOCKS_ATTENTION : BLOCKS_TRANSFORMER, false, text, prefix, out);
}

// Level l has layers + 1 members in a row: its residual blocks and, on the way down but for the last level, the downsampler.
static bool rename_input(const network_outline *o, const char *text, renaming *out) {
  int64_t block, part;
  char prefix[64];
  text = name_number(text, &block);
  text = text ? name_number(text, &part) : NULL;
  if (!text || block < 1 || (block - 1) / (o->layers + 1) >= o->levels) return false;
  int64_t level = (block - 1) / (o->layers + 1), layer = (block - 1) % (o->layers + 1);
  if (layer == o->layers) {
    snprintf(prefix, sizeof prefix, "down_blocks.%lld.downsamplers.0", (long long)level);
    return part == 0 && (name_by_rule(BLOCKS_DOWN, false, text, prefix, out) || name_by_rule(BLOCKS_RESNET, false, text, prefix, out));
  }
  snprintf(prefix, sizeof prefix, "down_blocks.%lld.%s.%lld", (long long)level, part ? "attentions" : "resnets", (long long)layer);
  return part == 0 ? name_by_rule(BLOCKS_RESNET, false, text, prefix, out) : part == 1 && rename_attention(o, text, prefix, out);
}

// The upsampler is the last part of a level's last block, second or third as there is attention or not.
static bool rename_output(const network_outline *o, const char *text, renaming *out) {
  int64_t block, part;
  char prefix[64];
  text = name_number(text, &block);
  text = text ? name_number(text, &part) : NULL;
  if (!text || block / (o->layers + 1) >= o->levels) return false;
  long long level = block / (o->layers + 1), layer = block % (o->layers + 1);
  if (part > 0) {
    snprintf(prefix, sizeof prefix, "up_blocks.%lld.upsamplers.0", level);
    if (name_by_rule(BLOCKS_UP, false, text, prefix, out) || name_by_rule(BLOCKS_RESNET, false, text, prefix, out))
      return layer == o->layers;
  }
  snprintf(prefix, sizeof prefix, "up_blocks.%lld.%s.%lld", level, part ? "attentions" : "resnets", layer);
  return part == 0 ? name_by_rule(BLOCKS_RESNET, false, text, prefix, out) : part == 1 && rename_attention(o, text, prefix, out);
}

static bool rename_blocks(const network_outline *o, const char *name, renaming *out) {
  const char *rest;
  int64_t part;
  if (o->added && (rest = name_behind(name, "label_emb.0"))) {
    static const name_rule added[] = {{"0", "linear_1", CHANGE_NONE}, {"2", "linear_2", CHANGE_NONE}, {NULL, NULL, CHANGE_NONE}};
    return name_by_rule(added, false, rest, "add_embedding", out);
  }
  if (name_by_rule(BLOCKS_TOP, false, name, "", out)) return true;
  if ((rest = name_behind(name, "input_blocks"))) return rename_input(o, rest, out);
  if ((rest = name_behind(name, "output_blocks"))) return rename_output(o, rest, out);
  rest = name_behind(name, "middle_block");
  rest = rest ? name_number(rest, &part) : NULL;
  if (!rest || part > 2) return false;
  if (part == 1) return rename_attention(o, rest, "mid_block.attentions.0", out);
  return name_by_rule(BLOCKS_RESNET, false, rest, part ? "mid_block.resnets.1" : "mid_block.resnets.0", out);
}

// down.LEVEL.block.LAYER, down.LEVEL.attn.LAYER, down.LEVEL.downsample; on the way up the levels are counted from the top.
static bool rename_ddpm_level(const network_outline *o, const char *text, bool up, renaming *out) {
  int64_t level, layer;
  char prefix[64];
  const char *rest;
  text = name_number(text, &level);
  if (!text || level >= o->levels) return false;
  const char *side = up ? "up" : "down";
  long long block = up ? o->levels - 1 - level : level;
  if ((rest = name_behind(text, up ? "upsample" : "downsample"))) {
    snprintf(prefix, sizeof prefix, "%s_blocks.%lld.%ssamplers.0", side, block, side);
    return name_by_rule(BLOCKS_UP, false, rest, prefix, out);
  }
  bool attention = name_behind(text, "attn") != NULL;
  rest = name_behind(text, attention ? "attn" : "block");
  rest = rest ? name_number(rest, &layer) : NULL;
  if (!rest) return false;
  snprintf(prefix, sizeof prefix, "%s_blocks.%lld.%s.%lld", side, block, attention ? "attentions" : "resnets", (long long)layer);
  return name_by_rule(attention ? DDPM_ATTENTION : DDPM_RESNET, false, rest, prefix, out);
}

static bool rename_ddpm(const network_outline *o, const char *name, renaming *out) {
  const char *rest;
  if (name_by_rule(DDPM_TOP, false, name, "", out)) return true;
  if ((rest = name_behind(name, "down"))) return rename_ddpm_level(o, rest, false, out);
  if ((rest = name_behind(name, "up"))) return rename_ddpm_level(o, rest, true, out);
  if ((rest = name_behind(name, "mid.block_1"))) return name_by_rule(DDPM_RESNET, false, rest, "mid_block.resnets.0", out);
  if ((rest = name_behind(name, "mid.block_2"))) return name_by_rule(DDPM_RESNET, false, rest, "mid_block.resnets.1", out);
  rest = name_behind(name, "mid.attn_1");
  return rest && name_by_rule(DDPM_ATTENTION, false, rest, "mid_block.attentions.0", out);
}

// Only the last part but one of a name can be an attention layer's.
static bool rename_deprecated(const char *name, renaming *out) {
  const char *at = strstr(name, "attentions.");
  int64_t number;
  const char *rest = at ? name_number(at + strlen("attentions."), &number) : NULL;
  char prefix[WEIGHTS_NAME_BYTES];
  if (rest && (size_t)(rest - name) < sizeof prefix) {
    snprintf(prefix, sizeof prefix, "%.*s", (int)(rest - name) - 1, name);
    if (name_by_rule(DEPRECATED_ATTENTION, false, rest, prefix, out)) return true;
  }
  out->change = CHANGE_NONE;
  return (size_t)snprintf(out->name, sizeof out->name, "%s", name) < sizeof out->name;
}

static bool rename_tensor(const network_outline *o, const char *name, renaming *out) {
  switch (o->layout) {
  case WEIGHTS_LAYOUT_BLOCKS: return rename_blocks(o, name, out);
  case WEIGHTS_LAYOUT_DDPM: return rename_ddpm(o, name, out);
  default: return rename_deprecated(name, out);
  }
}

// --- recognising ---

static bool has(const weights *w, const char *key, const char *name) {
  char full[WEIGHTS_NAME_BYTES];
  snprintf(full, sizeof full, "%s%s%s", key, *key ? "." : "", name);
  return weights_find(w, full) != NULL;
}

weights_layout weights_recognise(const weights *w, const char **key) {
  static const char *const keys[] = {"", "model.diffusion_model", "diffusion_model", "model", "module", "state_dict.model.diffusion_model"};
  for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
    *key = keys[i];
    if (has(w, *key, "input_blocks.0.0.weight") && has(w, *key, "out.2.weight")) return WEIGHTS_LAYOUT_BLOCKS;
    if (has(w, *key, "temb.dense.0.weight") && has(w, *key, "mid.block_1.norm1.weight")) return WEIGHTS_LAYOUT_DDPM;
    if (has(w, *key, "mid_block.attentions.0.query.weight")) return WEIGHTS_LAYOUT_DEPRECATED;
    if (has(w, *key, "conv_in.weight") && has(w, *key, "conv_norm_out.weight")) return WEIGHTS_LAYOUT_DIFFUSERS;
  }
  *key = "";
  return WEIGHTS_LAYOUT_UNKNOWN;
}

// How many blocks of a kind there are, and the first output block that ends in an upsampler (BLOCKS_MAX: none).
static elbo_status outline_blocks(elbo_ctx *ctx, const weights *w, network_outline *o) {
  int64_t inputs = 0, outputs = 0, up = BLOCKS_MAX, block, part;
  for (int64_t i = 0; i < weights_count(w); i++) {
    const char *name = weights_at(w, i)->name, *rest = name_behind(name, "input_blocks");
    if (strstr(name, ".qkv.")) o->joint = true;
    if (rest && name_number(rest, &block) && block >= inputs) inputs = block + 1;
    rest = name_behind(name, "output_blocks");
    rest = rest ? name_number(rest, &block) : NULL;
    if (!rest) continue;
    if (block >= outputs) outputs = block + 1;
    rest = name_number(rest, &part);
    if (rest && part > 0 && (name_behind(rest, "conv") || name_behind(rest, "in_layers")) && block < up) up = block;
  }
  o->layers = up < BLOCKS_MAX ? up : outputs - 1;
  if (outputs < 2 || outputs != inputs || inputs > BLOCKS_MAX || o->layers < 1 || outputs % (o->layers + 1))
    return fail(ctx, ELBO_ERROR_UNSUPPORTED,
                "%s: %lld input and %lld output blocks, the first upsampler in %lld; expected as many of both, "
                "the same number a level",
                weights_path(w), (long long)inputs, (long long)outputs, (long long)o->layers);
  o->levels = outputs / (o->layers + 1);
  const tensor_view *label = weights_find(w, "label_emb.0.0.weight");
  o->added = label && label->rank == 2 && (label->dim[1] == 2816 || label->dim[1] == 2560); // SDXL and its refiner
  return ELBO_OK;
}

static elbo_status outline(elbo_ctx *ctx, const weights *w, network_outline *o) {
  int64_t level;
  if (o->layout == WEIGHTS_LAYOUT_BLOCKS) return outline_blocks(ctx, w, o);
  for (int64_t i = 0; i < weights_count(w); i++) {
    const char *rest = name_behind(weights_at(w, i)->name, "up");
    if (rest && name_number(rest, &level) && level >= o->levels) o->levels = level + 1;
  }
  return ELBO_OK;
}

// --- data ---

static void squeeze(tensor_view *v) {
  while (v->rank > 2 && v->dim[v->rank - 1] == 1) v->rank--;
}

elbo_status qkv_heads(elbo_ctx *ctx, const weights *w, const tensor_view *v, int64_t channels, const qkv_rows *rows, int64_t *heads) {
  *heads = rows->by_kind ? 1 : rows->heads;
  if (!*heads && rows->head_dim) *heads = channels / rows->head_dim;
  if (!*heads && !rows->head_dim)
    return fail(
        ctx, ELBO_ERROR_ARGUMENT,
        "%s: tensor '%s': query, key and value of all heads are in one tensor on one side: say how many heads there are, or how many "
        "channels one has, or that the rows are ordered by kind",
        weights_path(w), v->name);
  if (channels < 1 || *heads < 1 || channels % *heads || (rows->head_dim && channels % rows->head_dim))
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: tensor '%s': %lld channels; expected a multiple of %lld", weights_path(w), v->name,
                (long long)channels, (long long)(rows->head_dim ? rows->head_dim : *heads));
  return ELBO_OK;
}

// Rows [3 x channels] into three tensors of `channels` rows.
static elbo_status split_rows(elbo_ctx *ctx, const weights *w, const tensor_view *v, const char *name, const qkv_rows *rows, arena *a,
                              tensor_list *out) {
  static const char *const parts[] = {"to_q", "to_k", "to_v"};
  int64_t channels = v->rank ? v->dim[0] / 3 : 0, heads;
  if (v->rank && v->dim[0] % 3)
    return fail(ctx, ELBO_ERROR_FORMAT, "%s: tensor '%s': %lld rows; expected three times as many as channels", weights_path(w), v->name,
                (long long)v->dim[0]);
  TRY(qkv_heads(ctx, w, v, channels, rows, &heads));
  size_t row = v->bytes / (size_t)v->dim[0], depth = (size_t)(channels / heads), one = row * depth;
  for (size_t part = 0; part < 3; part++) {
    char full[WEIGHTS_NAME_BYTES];
    tensor_view piece = *v;
    const char *at = strstr(name, "to_qkv");
    snprintf(full, sizeof full, "%.*s%s%s", (int)(at - name), name, parts[part], at + strlen("to_qkv"));
    char *data = arena_alloc(a, v->bytes / 3);
    if (!data) return fail_memory(ctx, v->bytes / 3, v->name);
    for (size_t h = 0; h < (size_t)heads; h++) memcpy(data + h * one, (const char *)v->data + (h * 3 + part) * one, one);
    piece.dim[0] = channels, piece.data = data, piece.bytes = v->bytes / 3;
    squeeze(&piece);
    TRY(tensor_list_add(ctx, a, out, &piece, full));
  }
  return ELBO_OK;
}

elbo_status weights_to_diffusers(elbo_ctx *ctx, const weights *w, weights_layout layout, const qkv_rows *rows, arena *a, tensor_list *out) {
  network_outline o = {.layout = layout};
  renaming r;
  TRY(outline(ctx, w, &o));
  for (int64_t i = 0; i < weights_count(w); i++) {
    tensor_view v = *weights_at(w, i);
    if (!rename_tensor(&o, v.name, &r))
      return fail(ctx, ELBO_ERROR_UNSUPPORTED, "%s: tensor '%.300s' has no place in the layout '%s'", weights_path(w), v.name,
                  weights_layout_name(layout));
    if (r.change == CHANGE_SPLIT) {
      TRY(split_rows(ctx, w, &v, r.name, rows, a, out));
      continue;
    }
    if (r.change == CHANGE_SQUEEZE) squeeze(&v);
    TRY(tensor_list_add(ctx, a, out, &v, r.name));
  }
  return ELBO_OK;
}
