// The transformer over patches: diffusers' DiTTransformer2DModel, its keys and its parameters' names [Peebles23].
#ifndef NN_DIT_H
#define NN_DIT_H

#include "core/config.h"
#include "nn/denoiser.h"

typedef enum dit_activation { DIT_GELU_TANH, DIT_GELU, DIT_GEGLU, DIT_GEGLU_APPROXIMATE, DIT_SWIGLU, DIT_LINEAR_SILU } dit_activation;
#define DIT_ACTIVATION_NAMES "gelu-approximate|gelu|geglu|geglu-approximate|swiglu|linear-silu"

typedef struct dit_config {
  int64_t num_attention_heads, attention_head_dim, num_layers;
  int64_t in_channels, out_channels; // 0: of the data; out_channels 0: as in_channels
  int64_t sample_size;               // 0: of the data
  int64_t patch_size;
  double dropout;
  bool attention_bias;
  int activation_fn;           // dit_activation
  int64_t num_embeds_ada_norm; // classes; row num_embeds_ada_norm of the table is "no class"
  int norm_type;
  bool norm_elementwise_affine;
  double norm_eps;
  int64_t norm_num_groups; // of no effect
  bool upcast_attention;   // of no effect: attention is float32
} dit_config;
extern const config_table dit_table;

// Fills what a recipe leaves to the data. out_channels: what the prediction needs, twice the data's with a learned variance.
void dit_fit(dit_config *c, int64_t height, int64_t width, int64_t in_channels, int64_t out_channels, int64_t classes);
elbo_status dit_config_read(elbo_ctx *ctx, arena *a, const char *path, dit_config *out);
elbo_status dit_config_write(elbo_ctx *ctx, const char *path, const dit_config *c);
denoiser_needs dit_needs(const dit_config *c);
// `where` ("FILE: model.dit") stands in front of messages
elbo_status dit_check(elbo_ctx *ctx, const dit_config *c, int64_t height, int64_t width, int64_t channels, const char *where);

// -> (B,H,W,out_channels). Without classes (num_embeds_ada_norm 0) it takes no class_labels: all rows are "no class". Labels are not
// dropped here in training: a task that wants guidance puts the last row's number in their place.
elbo_tensor *dit_network(const dit_config *c, const denoiser_inputs *in);

#endif
