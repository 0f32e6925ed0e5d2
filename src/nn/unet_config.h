// The config of `unet`: the keys of diffusers' UNet2DModel and UNet2DConditionModel in one table, which serves a recipe's block and a
// model's config.json alike.
#ifndef NN_UNET_CONFIG_H
#define NN_UNET_CONFIG_H

#include <jansson.h>

#include "core/config.h"
#include "nn/denoiser.h"

typedef enum unet_class { UNET_2D, UNET_2D_CONDITION } unet_class;

enum { UNET_TIME_POSITIONAL, UNET_TIME_FOURIER, UNET_TIME_LEARNED };
enum { UNET_MID_AUTO, UNET_MID_NONE, UNET_MID_PLAIN, UNET_MID_CROSS, UNET_MID_SIMPLE_CROSS };
enum { UNET_SAMPLER_CONV, UNET_SAMPLER_RESNET };
enum { UNET_SHIFT_DEFAULT, UNET_SHIFT_SCALE };
enum { UNET_CLASS_NULL, UNET_CLASS_TIMESTEP, UNET_CLASS_IDENTITY, UNET_CLASS_PROJECTION, UNET_CLASS_SIMPLE_PROJECTION };
enum { UNET_ADDITION_NULL, UNET_ADDITION_TEXT, UNET_ADDITION_TEXT_TIME };
enum { UNET_CONTEXT_NORM_NULL, UNET_CONTEXT_NORM_LAYER, UNET_CONTEXT_NORM_GROUP };
enum { UNET_BOOL_NULL, UNET_BOOL_FALSE, UNET_BOOL_TRUE };

// In the keys' own words. 0, an empty list: null, or left to the class and the data until unet_fit.
typedef struct unet_config {
  int class;
  config_ints sample_size;
  int64_t in_channels, out_channels;
  bool center_input_sample;
  int time_embedding_type;
  int64_t time_embedding_dim, freq_shift;
  bool flip_sin_to_cos;
  config_strings down_block_types;
  int mid_block_type;
  config_strings up_block_types;
  config_ints block_out_channels, layers_per_block;
  double mid_block_scale_factor;
  int64_t downsample_padding;
  int downsample_type, upsample_type;
  double dropout;
  int act_fn;
  config_ints attention_head_dim;
  int64_t norm_num_groups, attn_norm_num_groups;
  double norm_eps;
  int resnet_time_scale_shift;
  bool add_attention;
  int class_embed_type;
  int64_t num_class_embeds, num_train_timesteps;
  config_bools only_cross_attention;
  config_ints cross_attention_dim;
  config_int_lists transformer_layers_per_block, reverse_transformer_layers_per_block;
  int64_t encoder_hid_dim;
  int encoder_hid_dim_type;
  int64_t num_attention_heads;
  bool dual_cross_attention, use_linear_projection;
  int addition_embed_type;
  int64_t addition_time_embed_dim;
  bool upcast_attention, resnet_skip_time_act;
  double resnet_out_scale_factor;
  int time_embedding_act_fn, timestep_post_act;
  int64_t time_cond_proj_dim, conv_in_kernel, conv_out_kernel, projection_class_embeddings_input_dim;
  int attention_type;
  bool class_embeddings_concat;
  int mid_block_only_cross_attention, cross_attention_norm;
  int64_t addition_embed_type_num_heads;
} unet_config;

extern const config_table unet_table;

// config.json of either class, with the class's defaults for absent keys; checked as far as that goes without a picture's size. Keys that
// begin with "_" say nothing about the network and are passed over.
elbo_status unet_config_read(elbo_ctx *ctx, arena *a, const char *path, unet_config *out);
// The same from memory; `name` stands in messages.
elbo_status unet_config_parse(elbo_ctx *ctx, arena *a, const char *name, const char *text, size_t size, unet_config *out);
// The class's own keys and "_class_name"; *out is the caller's to release.
elbo_status unet_config_write(elbo_ctx *ctx, const unet_config *c, json_t **out);

// What the data say of a network.
typedef struct denoiser_shape {
  int64_t height, width;
  int64_t in_channels, out_channels; // of its input and result: more than the data's for a condition, for a learned variance
  int64_t classes;                   // labels that it is told, one for "no class" included where there is one; 0: none
} denoiser_shape;

// Fills what is left to the class and to the data (`shape`, or NULL: the class alone). What was given and contradicts the data is an error.
elbo_status unet_fit(elbo_ctx *ctx, arena *a, unet_config *c, const denoiser_shape *shape, const char *where);

// Of a config that unet_fit has completed.
denoiser_needs unet_needs(const unet_config *c);
// That such a network can be built and takes height x width pictures (0 x 0: whatever the size). `where` stands in front of messages, which
// name the key.
elbo_status unet_check(elbo_ctx *ctx, const unet_config *c, int64_t height, int64_t width, const char *where);

#endif
