#include "models/weights_rules.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// --- rules: blocks ---
const name_rule BLOCKS_TOP[] = {
    {"time_embed.0", "time_embedding.linear_1", CHANGE_NONE},
    {"time_embed.2", "time_embedding.linear_2", CHANGE_NONE},
    {"label_emb.0.0", "class_embedding.linear_1", CHANGE_NONE},
    {"label_emb.0.2", "class_embedding.linear_2", CHANGE_NONE},
    {"label_emb", "class_embedding", CHANGE_NONE},
    {"input_blocks.0.0", "conv_in", CHANGE_NONE},
    {"out.0", "conv_norm_out", CHANGE_NONE},
    {"out.2", "conv_out", CHANGE_NONE},
    {NULL, NULL, CHANGE_NONE},
};
const name_rule BLOCKS_RESNET[] = {
    {"in_layers.0", "norm1", CHANGE_NONE},
    {"in_layers.2", "conv1", CHANGE_NONE},
    {"emb_layers.1", "time_emb_proj", CHANGE_NONE},
    {"out_layers.0", "norm2", CHANGE_NONE},
    {"out_layers.3", "conv2", CHANGE_NONE},
    {"skip_connection", "conv_shortcut", CHANGE_NONE},
    {NULL, NULL, CHANGE_NONE},
};
const name_rule BLOCKS_ATTENTION[] = {
    {"norm", "group_norm", CHANGE_NONE},
    {"qkv", "to_qkv", CHANGE_SPLIT},
    {"proj_out", "to_out.0", CHANGE_SQUEEZE},
    {NULL, NULL, CHANGE_NONE},
};
// A transformer's names are the same in both.
const name_rule BLOCKS_TRANSFORMER[] = {
    {"norm", "norm", CHANGE_NONE},
    {"proj_in", "proj_in", CHANGE_NONE},
    {"proj_out", "proj_out", CHANGE_NONE},
    {"transformer_blocks", "transformer_blocks", CHANGE_NONE},
    {NULL, NULL, CHANGE_NONE},
};
const name_rule BLOCKS_DOWN[] = {{"op", "conv", CHANGE_NONE}, {NULL, NULL, CHANGE_NONE}};
const name_rule BLOCKS_UP[] = {{"conv", "conv", CHANGE_NONE}, {NULL, NULL, CHANGE_NONE}};

// --- rules: DDPM ---
const name_rule DDPM_TOP[] = {
    {"temb.dense.0", "time_embedding.linear_1", CHANGE_NONE},
    {"temb.dense.1", "time_embedding.linear_2", CHANGE_NONE},
    {"conv_in", "conv_in", CHANGE_NONE},
    {"norm_out", "conv_norm_out", CHANGE_NONE},
    {"conv_out", "conv_out", CHANGE_NONE},
    {NULL, NULL, CHANGE_NONE},
};
const name_rule DDPM_RESNET[] = {
    {"norm1", "norm1", CHANGE_NONE},
    {"conv1", "conv1", CHANGE_NONE},
    {"temb_proj", "time_emb_proj", CHANGE_NONE},
    {"norm2", "norm2", CHANGE_NONE},
    {"conv2", "conv2", CHANGE_NONE},
    {"nin_shortcut", "conv_shortcut", CHANGE_NONE},
    {"conv_shortcut", "conv_shortcut", CHANGE_NONE},
    {NULL, NULL, CHANGE_NONE},
};
const name_rule DDPM_ATTENTION[] = {
    {"norm", "group_norm", CHANGE_NONE},      {"q", "to_q", CHANGE_SQUEEZE}, {"k", "to_k", CHANGE_SQUEEZE}, {"v", "to_v", CHANGE_SQUEEZE},
    {"proj_out", "to_out.0", CHANGE_SQUEEZE}, {NULL, NULL, CHANGE_NONE},
};

const name_rule DEPRECATED_ATTENTION[] = {
    {"query", "to_q", CHANGE_SQUEEZE},         {"key", "to_k", CHANGE_SQUEEZE}, {"value", "to_v", CHANGE_SQUEEZE},
    {"proj_attn", "to_out.0", CHANGE_SQUEEZE}, {NULL, NULL, CHANGE_NONE},
};

const char *name_number(const char *text, int64_t *out) {
  size_t n = strspn(text, "0123456789");
  *out = -1;
  if (!n || n > 6 || text[n] != '.') return NULL;
  *out = strtoll(text, NULL, 10);
  return text + n + 1;
}

const char *name_behind(const char *text, const char *word) {
  size_t n = strlen(word);
  return !strncmp(text, word, n) && text[n] == '.' ? text + n + 1 : NULL;
}

const name_rule *name_find_rule(const name_rule *rules, bool back, const char *text, const char **rest) {
  for (; rules->from; rules++) {
    *rest = name_behind(text, back ? rules->to : rules->from);
    if (*rest) return rules;
  }
  return NULL;
}

bool name_by_rule(const name_rule *rules, bool back, const char *text, const char *prefix, renaming *out) {
  const char *rest;
  const name_rule *rule = name_find_rule(rules, back, text, &rest);
  if (!rule) return false;
  out->change = rule->change;
  int n = snprintf(out->name, sizeof out->name, "%s%s%s.%s", prefix, *prefix ? "." : "", back ? rule->from : rule->to, rest);
  return n > 0 && (size_t)n < sizeof out->name;
}

elbo_status tensor_list_add(elbo_ctx *ctx, arena *a, tensor_list *out, const tensor_view *v, const char *name) {
  TRY(array_grow(ctx, &out->at, &out->capacity, out->count + 1, sizeof *v));
  tensor_view *to = &out->at[out->count++];
  *to = *v;
  to->name = arena_string(a, name);
  return to->name ? ELBO_OK : fail_memory(ctx, strlen(name), "a tensor's name");
}
