#include "nn/unet_config.h"

#include <string.h>

#include "core/config_json.h"
#include "core/json.h"
#include "nn/layers.h"
#include "nn/unet_levels.h"

#define ACTIVATIONS DIFFUSERS_ACTIVATION_NAMES
enum { MAX_WIDTH = 1 << 20 };

static const config_field fields[] = {
    CONFIG_ENUM(unet_config, class, "UNet2DModel", "UNet2DModel|UNet2DConditionModel",
                "diffusers' class, which the other defaults depend on"),
    CONFIG_INTS_AS(unet_config, sample_size, 1, 65536, "null", "pixels", CONFIG_SINGLE | CONFIG_NULL, "height and width; null: the data's"),
    CONFIG_INT_OR_NULL(unet_config, in_channels, 1, MAX_WIDTH, "", "of the input; null: the data's"),
    CONFIG_INT_OR_NULL(unet_config, out_channels, 1, MAX_WIDTH, "", "of the result; null: as the objective needs"),
    CONFIG_BOOL_OR_NULL(unet_config, center_input_sample, "take 2 x - 1 for x"),
    CONFIG_ENUM(unet_config, time_embedding_type, "positional", "positional|fourier|learned", "how the time becomes a vector"),
    CONFIG_INT_OR_NULL(unet_config, time_embedding_dim, 1, MAX_WIDTH, "",
                       "of the embedded time; null: 4 (a condition model's fourier: 2) times the first width"),
    CONFIG_INT(unet_config, freq_shift, -1e6, 1e6, "0", "", "of the embedding's frequencies"),
    CONFIG_BOOL(unet_config, flip_sin_to_cos, "true", "cosines before sines"),
    CONFIG_STRINGS(unet_config, down_block_types, "[]", "finest first; []: the class's"),
    CONFIG_ENUM(unet_config, mid_block_type, "auto", "auto|null|UNetMidBlock2D|UNetMidBlock2DCrossAttn|UNetMidBlock2DSimpleCrossAttn",
                "auto: the class's"),
    CONFIG_STRINGS(unet_config, up_block_types, "[]", "coarsest first; []: the class's"),
    CONFIG_INTS_AS(unet_config, block_out_channels, 1, MAX_WIDTH, "[]", "", 0, "width of each level, finest first; []: the class's"),
    CONFIG_INTS_AS(unet_config, layers_per_block, 1, 64, "2", "", CONFIG_SINGLE, "residual blocks of each level down; one more up"),
    CONFIG_FLOAT(unet_config, mid_block_scale_factor, 1e-6, 1e6, "1", "", "what residual sums of the middle are divided by"),
    CONFIG_INT(unet_config, downsample_padding, 0, 1, "1", "", "of the strided convolutions; 0: right and bottom alone"),
    CONFIG_ENUM(unet_config, downsample_type, "conv", "conv|resnet", "UNet2DModel: how AttnDownBlock2D halves"),
    CONFIG_ENUM(unet_config, upsample_type, "conv", "conv|resnet", "UNet2DModel: how AttnUpBlock2D doubles"),
    CONFIG_FLOAT(unet_config, dropout, 0, 0.99, "0", "", "probability of dropping in residual blocks"),
    CONFIG_ENUM(unet_config, act_fn, "silu", ACTIVATIONS, "activation"),
    CONFIG_INTS_AS(unet_config, attention_head_dim, 1, MAX_WIDTH, "8", "", CONFIG_SINGLE | CONFIG_NULL,
                   "channels of a head (null: all); of the CrossAttn blocks it is the number of heads, as it is in diffusers"),
    {"norm_num_groups", CONFIG_TYPE_INT, offsetof(unet_config, norm_num_groups), 1, MAX_WIDTH, "32", "",
     "groups of the group norms; null: a quarter of the channels and at most 32, in the middle and of a UNet2DModel at the end", NULL, NULL,
     CONFIG_NULL},
    CONFIG_INT_OR_NULL(unet_config, attn_norm_num_groups, 1, MAX_WIDTH, "", "UNet2DModel: groups of the norm of the middle's attention"),
    CONFIG_FLOAT(unet_config, norm_eps, 1e-30, 1, "1e-5", "", "added to variances"),
    CONFIG_ENUM(unet_config, resnet_time_scale_shift, "default", "default|scale_shift",
                "how the time enters residual blocks: added, or as scale and shift of a norm"),
    CONFIG_BOOL(unet_config, add_attention, "true", "UNet2DModel: attention in the middle"),
    CONFIG_ENUM(unet_config, class_embed_type, "null", "null|timestep|identity|projection|simple_projection",
                "what class_labels are; null: none, or numbers of num_class_embeds"),
    CONFIG_INT_OR_NULL(unet_config, num_class_embeds, 1, 1e7, "",
                       "classes of a learned table, one for no class included where there is one; null: none, or the data's"),
    CONFIG_INT_OR_NULL(unet_config, num_train_timesteps, 1, 1e7, "", "UNet2DModel: rows of a learned time_embedding_type"),
    CONFIG_BOOLS_AS(unet_config, only_cross_attention, "false", CONFIG_SINGLE, "UNet2DConditionModel: no self-attention in a level"),
    CONFIG_INTS_AS(unet_config, cross_attention_dim, 1, MAX_WIDTH, "1280", "", CONFIG_SINGLE | CONFIG_NULL,
                   "UNet2DConditionModel: width of the context, of each level"),
    CONFIG_INT_LISTS_AS(unet_config, transformer_layers_per_block, 0, 256, "1", "", CONFIG_SINGLE,
                        "UNet2DConditionModel: transformer blocks behind each residual block, of each level"),
    CONFIG_INT_LISTS_AS(unet_config, reverse_transformer_layers_per_block, 0, 256, "null", "", CONFIG_NULL,
                        "UNet2DConditionModel: the like on the way up"),
    CONFIG_INT_OR_NULL(unet_config, encoder_hid_dim, 1, MAX_WIDTH, "", "UNet2DConditionModel: width of the context before its projection"),
    CONFIG_ENUM(unet_config, encoder_hid_dim_type, "null", "null|text_proj", "UNet2DConditionModel: how the context is projected"),
    CONFIG_INT_OR_NULL(unet_config, num_attention_heads, 1, MAX_WIDTH, "",
                       "UNet2DConditionModel: diffusers has it as attention_head_dim and refuses this"),
    CONFIG_BOOL_OR_NULL(unet_config, dual_cross_attention, "UNet2DConditionModel: only false"),
    CONFIG_BOOL_OR_NULL(unet_config, use_linear_projection,
                        "UNet2DConditionModel: linear layers around transformers in place of 1x1 convolutions"),
    CONFIG_ENUM(unet_config, addition_embed_type, "null", "null|text|text_time",
                "UNet2DConditionModel: what is added to the time's embedding"),
    CONFIG_INT_OR_NULL(unet_config, addition_time_embed_dim, 2, MAX_WIDTH, "",
                       "UNet2DConditionModel: text_time: width of each number's embedding"),
    CONFIG_BOOL_OR_NULL(unet_config, upcast_attention, "UNet2DConditionModel: says nothing in float32"),
    CONFIG_BOOL_OR_NULL(unet_config, resnet_skip_time_act,
                        "UNet2DConditionModel: the time's embedding is not activated in Resnet and SimpleCrossAttn blocks"),
    CONFIG_FLOAT(unet_config, resnet_out_scale_factor, 1e-6, 1e6, "1", "",
                 "UNet2DConditionModel: what residual sums of Resnet and SimpleCrossAttn blocks are divided by"),
    CONFIG_ENUM(unet_config, time_embedding_act_fn, "null", "null|" ACTIVATIONS,
                "UNet2DConditionModel: activation of the embedded time, once for all blocks"),
    CONFIG_ENUM(unet_config, timestep_post_act, "null", "null|" ACTIVATIONS,
                "UNet2DConditionModel: activation behind the time's own network"),
    CONFIG_INT_OR_NULL(unet_config, time_cond_proj_dim, 1, MAX_WIDTH, "", "UNet2DConditionModel: width of timestep_cond"),
    CONFIG_INT(unet_config, conv_in_kernel, 1, 15, "3", "", "UNet2DConditionModel: of the first convolution; odd"),
    CONFIG_INT(unet_config, conv_out_kernel, 1, 15, "3", "", "UNet2DConditionModel: of the last convolution; odd"),
    CONFIG_INT_OR_NULL(unet_config, projection_class_embeddings_input_dim, 1, MAX_WIDTH, "",
                       "UNet2DConditionModel: width of what projections and text_time take"),
    CONFIG_ENUM(unet_config, attention_type, "default", "default", "UNet2DConditionModel: only default"),
    CONFIG_BOOL_OR_NULL(unet_config, class_embeddings_concat, "UNet2DConditionModel: the class is set behind the time, not added"),
    CONFIG_ENUM(unet_config, mid_block_only_cross_attention, "null", "null|false|true",
                "UNet2DConditionModel: of UNetMidBlock2DSimpleCrossAttn; null: as only_cross_attention when that is single"),
    CONFIG_ENUM(unet_config, cross_attention_norm, "null", "null|layer_norm|group_norm",
                "UNet2DConditionModel: of the context in SimpleCrossAttn blocks"),
    CONFIG_INT(unet_config, addition_embed_type_num_heads, 1, MAX_WIDTH, "64", "",
               "UNet2DConditionModel: heads of addition_embed_type text"),
};
const config_table unet_table = CONFIG_TABLE("unet", unet_config, fields, "diffusers' UNet2DModel and UNet2DConditionModel");

// Whose key it is: the help of a key that only one class has begins with that class's name.
static bool belongs(const config_field *f, int class) {
  static const char *const other[] = {[UNET_2D] = "UNet2DConditionModel:", [UNET_2D_CONDITION] = "UNet2DModel:"};
  return strncmp(f->help, other[class], strlen(other[class])) != 0;
}

// A key of the other class, set to something, would be passed over by diffusers: here it is an error.
elbo_status unet_check_keys(elbo_ctx *ctx, const unet_config *c, const char *where) {
  unet_config plain;
  arena *a = arena_create(4096);
  if (!a) return fail_memory(ctx, 4096, "a config");
  elbo_status status = config_load(ctx, a, &unet_table, NULL, "", &plain);
  for (int i = 0; i < unet_table.n_fields && status == ELBO_OK; i++) {
    if (belongs(&fields[i], c->class)) continue;
    json_t *given = config_field_json(&fields[i], c), *usual = config_field_json(&fields[i], &plain);
    if (!given || !usual)
      status = fail_memory(ctx, 64, "JSON");
    else if (!json_equal(given, usual))
      status =
          fail(ctx, ELBO_ERROR_ARGUMENT, "%s: %s: a key of %s; the class is %s", where, fields[i].name,
               c->class == UNET_2D ? "UNet2DConditionModel" : "UNet2DModel", c->class == UNET_2D ? "UNet2DModel" : "UNet2DConditionModel");
    json_decref(given);
    json_decref(usual);
  }
  arena_destroy(&a);
  return status;
}

static config_strings four(const char *const *names) { return (config_strings){4, names}; }

static void class_defaults(unet_config *c) {
  static const char *const down[][4] = {{"DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"},
                                        {"CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"}};
  static const char *const up[][4] = {{"AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"},
                                      {"UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"}};
  static const int64_t widths[][4] = {{224, 448, 672, 896}, {320, 640, 1280, 1280}};
  if (!c->down_block_types.count) c->down_block_types = four(down[c->class]);
  if (!c->up_block_types.count) c->up_block_types = four(up[c->class]);
  if (!c->block_out_channels.count) c->block_out_channels = (config_ints){4, widths[c->class]};
  if (c->mid_block_type == UNET_MID_AUTO) c->mid_block_type = c->class == UNET_2D ? UNET_MID_PLAIN : UNET_MID_CROSS;
}

static elbo_status fit_number(elbo_ctx *ctx, const char *where, const char *key, int64_t *value, int64_t data, const char *what) {
  if (*value == 0) *value = data;
  if (*value == data) return ELBO_OK;
  return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: %s: %lld; %s is %lld", where, key, (long long)*value, what, (long long)data);
}

static elbo_status fit_size(elbo_ctx *ctx, arena *a, unet_config *c, const denoiser_shape *s, const char *where) {
  const config_ints *size = &c->sample_size;
  int64_t h = size->count ? size->at[0] : s->height, w = size->count ? size->at[size->count - 1] : s->width;
  if (h != s->height || w != s->width)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: sample_size: %lldx%lld; the data are %lldx%lld", where, (long long)h, (long long)w,
                (long long)s->height, (long long)s->width);
  if (size->count) return ELBO_OK;
  int64_t *both = arena_alloc(a, 2 * sizeof *both);
  if (!both) return fail_memory(ctx, 16, "sample_size");
  both[0] = h, both[1] = w;
  c->sample_size = (config_ints){h == w ? 1 : 2, both};
  return ELBO_OK;
}

elbo_status unet_fit(elbo_ctx *ctx, arena *a, unet_config *c, const denoiser_shape *s, const char *where) {
  int64_t plain = c->class == UNET_2D ? 3 : 4;
  class_defaults(c);
  if (c->sample_size.count > 2)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: sample_size: a list of %lld; expected height and width", where,
                (long long)c->sample_size.count);
  if (!s) {
    if (!c->in_channels) c->in_channels = plain;
    if (!c->out_channels) c->out_channels = plain;
    return ELBO_OK;
  }
  TRY(fit_size(ctx, a, c, s, where));
  TRY(fit_number(ctx, where, "in_channels", &c->in_channels, s->in_channels, "what the network is given"));
  TRY(fit_number(ctx, where, "out_channels", &c->out_channels, s->out_channels, "what it must give"));
  if (s->classes && c->class_embed_type == UNET_CLASS_NULL)
    TRY(fit_number(ctx, where, "num_class_embeds", &c->num_class_embeds, s->classes,
                   "the number of labels, one for no class included where there is one,"));
  return ELBO_OK;
}

// diffusers' names for the keys of a document: "_class_name" is `class`, other keys with an underscore in front are not the network's.
static elbo_status own_keys(elbo_ctx *ctx, arena *a, const yaml_node *from, yaml_node *to) {
  size_t n = (size_t)from->count;
  *to = *from;
  to->count = 0;
  to->key = arena_alloc(a, n * sizeof *to->key + 1), to->key_line = arena_alloc(a, n * sizeof *to->key_line + 1);
  to->child = arena_alloc(a, n * sizeof *to->child + 1);
  if (!to->key || !to->key_line || !to->child) return fail_memory(ctx, n * 24, "a config");
  for (int64_t i = 0; i < from->count; i++) {
    bool class_name = strcmp(from->key[i], "_class_name") == 0;
    if (from->key[i][0] == '_' && !class_name) continue;
    if (strcmp(from->key[i], "class") == 0) return yaml_fail(ctx, from->child[i], "class", "unknown key; did you mean '_class_name'?");
    to->key[to->count] = class_name ? "class" : from->key[i];
    to->key_line[to->count] = from->key_line[i];
    to->child[to->count++] = from->child[i];
  }
  return ELBO_OK;
}

static elbo_status read_document(elbo_ctx *ctx, arena *a, const char *name, const yaml_node *root, unet_config *out) {
  yaml_node own;
  if (root->kind != YAML_MAP) return yaml_fail(ctx, root, "", "expected the map of a UNet's config");
  TRY(own_keys(ctx, a, root, &own));
  if (!yaml_get(&own, "class")) return yaml_fail(ctx, root, "_class_name", "missing; expected UNet2DModel or UNet2DConditionModel");
  TRY(config_load(ctx, a, &unet_table, &own, "", out));
  TRY(unet_fit(ctx, a, out, NULL, name));
  return unet_check(ctx, out, 0, 0, name);
}

elbo_status unet_config_read(elbo_ctx *ctx, arena *a, const char *path, unet_config *out) {
  yaml_node *root;
  TRY(yaml_read(ctx, a, path, &root)); // JSON is YAML, and so come file and line into every message
  return read_document(ctx, a, path, root, out);
}

elbo_status unet_config_parse(elbo_ctx *ctx, arena *a, const char *name, const char *text, size_t size, unet_config *out) {
  yaml_node *root;
  TRY(yaml_parse(ctx, a, name, text, size, &root));
  return read_document(ctx, a, name, root, out);
}

elbo_status unet_config_write(elbo_ctx *ctx, const unet_config *c, json_t **out) {
  json_t *json = json_object();
  bool failed = !json;
  for (int i = 0; i < unet_table.n_fields && !failed; i++) {
    if (!belongs(&fields[i], c->class)) continue;
    const char *name = strcmp(fields[i].name, "class") == 0 ? "_class_name" : fields[i].name;
    failed = json_object_set_new(json, name, config_field_json(&fields[i], c)) != 0;
  }
  *out = failed ? NULL : json;
  if (!failed) return ELBO_OK;
  json_decref(json);
  return fail_memory(ctx, 4096, "a UNet's config");
}
