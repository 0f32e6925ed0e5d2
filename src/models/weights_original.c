// The way back: diffusers' names into those of input_blocks, middle_block and output_blocks.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/weights_rules.h"

// What the names of all tensors tell about the network.
typedef struct diffusers_outline {
  int64_t layers; // residual blocks of a level on the way down
  bool joint;     // attention is to be one layer for query, key and value
} diffusers_outline;

// The place of an upsampler in its block depends on whether there is attention in it.
static bool level_has_attention(const weights *w, int64_t level) {
  char prefix[64];
  int n = snprintf(prefix, sizeof prefix, "up_blocks.%lld.attentions.", (long long)level);
  for (int64_t i = 0; i < weights_count(w); i++)
    if (!strncmp(weights_at(w, i)->name, prefix, (size_t)n)) return true;
  return false;
}

static bool rename_part(const diffusers_outline *o, const char *part, const char *text, const char *prefix, renaming *out) {
  if (!strcmp(part, "attentions")) return name_by_rule(o->joint ? BLOCKS_ATTENTION : BLOCKS_TRANSFORMER, true, text, prefix, out);
  if (!strcmp(part, "downsamplers") && name_by_rule(BLOCKS_DOWN, true, text, prefix, out)) return true;
  if (!strcmp(part, "upsamplers") && name_by_rule(BLOCKS_UP, true, text, prefix, out)) return true;
  return name_by_rule(BLOCKS_RESNET, true, text, prefix, out);
}

// "resnets.1.rest", "downsamplers.0.rest", ...: which it is, its number and the rest; NULL for anything else.
static const char *read_part(const char *text, const char **part, int64_t *index) {
  static const char *const parts[] = {"resnets", "attentions", "downsamplers", "upsamplers"};
  for (size_t i = 0; i < 4; i++) {
    const char *rest = name_behind(text, parts[i]);
    if (!rest) continue;
    *part = parts[i];
    return name_number(rest, index);
  }
  return NULL;
}

static bool rename_original(const weights *w, const diffusers_outline *o, const char *name, renaming *out) {
  const char *part, *rest;
  char prefix[64];
  int64_t level, index;
  if ((rest = name_behind(name, "add_embedding"))) {
    static const name_rule added[] = {{"0", "linear_1", CHANGE_NONE}, {"2", "linear_2", CHANGE_NONE}, {NULL, NULL, CHANGE_NONE}};
    return name_by_rule(added, true, rest, "label_emb.0", out);
  }
  if (name_by_rule(BLOCKS_TOP, true, name, "", out)) return true;
  if ((rest = name_behind(name, "mid_block"))) {
    rest = read_part(rest, &part, &index);
    if (!rest || index > 1) return false;
    snprintf(prefix, sizeof prefix, "middle_block.%d", !strcmp(part, "attentions") ? 1 : index ? 2 : 0);
    return rename_part(o, part, rest, prefix, out);
  }
  bool up = name_behind(name, "up_blocks") != NULL;
  rest = name_behind(name, up ? "up_blocks" : "down_blocks");
  rest = rest ? name_number(rest, &level) : NULL;
  rest = rest ? read_part(rest, &part, &index) : NULL;
  if (!rest || index > o->layers) return false;
  bool attention = !strcmp(part, "attentions"), sampler = !strcmp(part, "upsamplers") || !strcmp(part, "downsamplers");
  long long block = level * (o->layers + 1) + (sampler ? o->layers : index) + !up;
  int place = attention ? 1 : !up || !sampler ? 0 : level_has_attention(w, level) ? 2 : 1;
  snprintf(prefix, sizeof prefix, "%s_blocks.%lld.%d", up ? "output" : "input", block, place);
  return rename_part(o, part, rest, prefix, out);
}

// The rows of to_q, to_k and to_v in one tensor; `name` has ".to_q." in it.
static elbo_status join_rows(elbo_ctx *ctx, const weights *w, const diffusers_outline *o, const tensor_view *q, const qkv_rows *rows,
                             arena *a, tensor_list *out) {
  static const char *const parts[] = {"to_q", "to_k", "to_v"};
  const tensor_view *three[3];
  char name[WEIGHTS_NAME_BYTES + 8];
  const char *at = strstr(q->name, ".to_q.");
  renaming r;
  for (int i = 0; i < 3; i++) {
    snprintf(name, sizeof name, "%.*s.%s%s", (int)(at - q->name), q->name, parts[i], at + strlen(".to_q"));
    three[i] = weights_find(w, name);
    if (!three[i] || three[i]->bytes != q->bytes || three[i]->dtype != q->dtype)
      return fail(ctx, ELBO_ERROR_FORMAT, "%s: tensor '%.300s' is missing, or not like '%s'", weights_path(w), name, q->name);
  }
  int64_t channels = q->rank ? q->dim[0] : 0, heads;
  TRY(qkv_heads(ctx, w, q, channels, rows, &heads));
  snprintf(name, sizeof name, "%.*s.to_qkv%s", (int)(at - q->name), q->name, at + strlen(".to_q"));
  if (!rename_original(w, o, name, &r)) return fail(ctx, ELBO_ERROR_UNSUPPORTED, "%s: tensor '%s' has no place", weights_path(w), q->name);
  size_t one = q->bytes / (size_t)heads;
  tensor_view whole = *q;
  char *data = arena_alloc(a, 3 * q->bytes);
  if (!data) return fail_memory(ctx, 3 * q->bytes, q->name);
  for (size_t h = 0; h < (size_t)heads; h++)
    for (size_t part = 0; part < 3; part++) memcpy(data + (h * 3 + part) * one, (const char *)three[part]->data + h * one, one);
  whole.dim[0] = 3 * channels, whole.bytes = 3 * q->bytes, whole.data = data;
  if (whole.rank == 2) whole.dim[whole.rank++] = 1;
  return tensor_list_add(ctx, a, out, &whole, r.name);
}

elbo_status weights_to_original(elbo_ctx *ctx, const weights *w, const qkv_rows *rows, arena *a, tensor_list *out) {
  diffusers_outline o = {0};
  int64_t index;
  for (int64_t i = 0; i < weights_count(w); i++) {
    const char *name = weights_at(w, i)->name, *rest = name_behind(name, "down_blocks.0.resnets");
    if (rest && name_number(rest, &index) && index >= o.layers) o.layers = index + 1;
    if (strstr(name, ".group_norm.")) o.joint = true;
  }
  for (int64_t i = 0; i < weights_count(w); i++) {
    tensor_view v = *weights_at(w, i);
    renaming r;
    if (o.joint && strstr(v.name, ".to_q.")) {
      TRY(join_rows(ctx, w, &o, &v, rows, a, out));
      continue;
    }
    if (o.joint && (strstr(v.name, ".to_k.") || strstr(v.name, ".to_v."))) continue; // with its to_q
    if (!rename_original(w, &o, v.name, &r))
      return fail(ctx, ELBO_ERROR_UNSUPPORTED, "%s: tensor '%.300s' has no place in the layout '%s'", weights_path(w), v.name,
                  weights_layout_name(WEIGHTS_LAYOUT_BLOCKS));
    if (r.change == CHANGE_SQUEEZE && v.rank == 2) v.dim[v.rank++] = 1; // a convolution over the tokens
    TRY(tensor_list_add(ctx, a, out, &v, r.name));
  }
  return ELBO_OK;
}
