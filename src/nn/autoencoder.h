// Networks from pictures to features and back: `mlp`, `conv` (strided), `resnet` (residual blocks, optional attention).
#ifndef NN_AUTOENCODER_H
#define NN_AUTOENCODER_H

#include "core/config.h"
#include "nn/layers.h"
#include "nn/likelihood.h"
#include "nn/residual_block.h"

typedef enum network_type { NETWORK_MLP, NETWORK_CONV, NETWORK_RESNET } network_type;

typedef enum encoder_pool { POOL_NONE, POOL_MEAN, POOL_MOMENTS } encoder_pool;

typedef struct encoder_config {
  int type;
  config_ints channels; // of each resolution, finest first
  config_ints hidden;   // dense layers behind the feature maps; the layers of an mlp
  int64_t blocks;       // resnet: residual blocks at each resolution
  int64_t stem;         // resnet: stride of the first convolution, 1 or 2
  bool attention;       // resnet: at the coarsest resolution
  int pool;             // encoder_pool: of the last map
  int64_t norm_groups;
  int activation;
  double init_gain; // of the layers in front of activations, beside residual blocks
  double dropout;
} encoder_config;

typedef struct decoder_config {
  int type;
  config_ints channels; // of each resolution, coarsest first
  config_ints hidden;
  int64_t blocks;
  int64_t stem; // resnet: 2: the last step up is a transposed convolution
  bool attention;
  int64_t norm_groups;
  int activation;
  double init_gain; // of the layers in front of activations, beside residual blocks
  double dropout;
  int likelihood;
  int variance;
  double sigma;
  int64_t mixtures;
} decoder_config;

extern const config_table encoder_table, decoder_table;

typedef struct picture_shape {
  int64_t height, width, channels;
} picture_shape;

// The sizes that fit: "28x28 cannot be halved 4 times (28, 14, 7)". halvings: of a network with such channels.
int encoder_halvings(const encoder_config *c);
int decoder_halvings(const decoder_config *c);
elbo_status check_halvings(elbo_ctx *ctx, const char *where, const picture_shape *s, int halvings);

enum { MAX_LEVELS = 8 };
// What an encoder gives: one feature vector, and for top-down models a map of each resolution.
typedef struct encoder_features {
  elbo_tensor *vector;          // (B,F), after the last activation
  int n_maps;                   // 0 for an mlp
  elbo_tensor *map[MAX_LEVELS]; // (B,h,w,c), coarsest first
} encoder_features;

// x (B,H,W,C) in 0..1, condition (B,E) or NULL. Parameters in the present scope.
encoder_features encoder_network(const encoder_config *c, elbo_tensor *x, elbo_tensor *condition, bool training);

// code (R,D), condition (R,E) or NULL -> (R,H,W,width)
elbo_tensor *decoder_network(const decoder_config *c, const picture_shape *s, int64_t width, elbo_tensor *code, elbo_tensor *condition,
                             bool training);

// The pieces, for top-down models: the first map from a vector; everything at level `level` (0 is the coarsest) but the step up; the step
// up; the last layers.
int decoder_levels(const decoder_config *c);
elbo_tensor *decoder_first_map(const decoder_config *c, const picture_shape *s, elbo_tensor *vector);
elbo_tensor *decoder_level(const decoder_config *c, int level, elbo_tensor *h, elbo_tensor *condition, bool training);
elbo_tensor *decoder_step_up(const decoder_config *c, int level, elbo_tensor *h);
// gain: of the last layer's initial weights
elbo_tensor *decoder_last(const decoder_config *c, elbo_tensor *h, int64_t width, double gain);

block_config encoder_block(const encoder_config *c, int64_t out, elbo_tensor *condition, bool training);
block_config decoder_block(const decoder_config *c, int64_t out, elbo_tensor *condition, bool training);

#endif
