// A small convolutional classifier: residual blocks at each resolution, one dense layer whose outputs are the features, one more to the
// classes. Its features are what pictures are compared by (models/feature_net.h).
#ifndef NN_CLASSIFIER_H
#define NN_CLASSIFIER_H

#include "nn/autoencoder.h"

typedef struct classifier_config {
  config_ints channels; // of each resolution, finest first
  int64_t stem;         // stride of the first convolution
  int64_t blocks;       // at each resolution
  int64_t features;     // numbers in the layer before the last
  int64_t norm_groups;
  int activation;
  double dropout;
} classifier_config;

extern const config_table classifier_table; // "network"

int classifier_halvings(const classifier_config *c);

typedef struct classifier_output {
  int n;                        // resolutions
  elbo_tensor *map[MAX_LEVELS]; // (B,h,w,C) of each, finest first, behind its last block
  elbo_tensor *features;        // (B,features), after the activation
  elbo_tensor *logits;          // (B,classes)
} classifier_output;

// x (B,H,W,C) in 0..1. Parameters in the present scope; nothing is dropped without `training`.
classifier_output classifier_network(const classifier_config *c, elbo_tensor *x, int64_t classes, bool training);

#endif
