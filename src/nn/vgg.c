#include "nn/vgg.h"

#include <elbo/ops.h>
#include <stdio.h>

static const struct { int convolutions, channels; } levels[VGG_LEVELS] = {{2, 64}, {2, 128}, {3, 256}, {3, 512}, {3, 512}};

int64_t vgg_channels(int level) { return levels[level].channels; }

static elbo_tensor *convolution(elbo_tensor *x, int number, int64_t out) {
  if (!x) return NULL;
  char weight[64], bias[64];
  elbo_graph *g = elbo_tensor_graph(x);
  snprintf(weight, sizeof weight, "features.%d.weight", number);
  snprintf(bias, sizeof bias, "features.%d.bias", number);
  elbo_tensor *w = elbo_parameter(g, weight, 4, (int64_t[]){out, elbo_tensor_dim(x, -1), 3, 3}, ELBO_PARAM_FROZEN, ELBO_INIT_ZEROS);
  elbo_tensor *b = elbo_parameter(g, bias, 1, &out, ELBO_PARAM_FROZEN, ELBO_INIT_ZEROS);
  return elbo_relu(elbo_conv2d(x, w, b, &(elbo_conv2d_config){.stride = {1, 1}, .pad = {1, 1, 1, 1}}));
}

vgg_maps vgg_features(elbo_tensor *x) {
  vgg_maps out = {{NULL}};
  int number = 0; // of the layer: a convolution and what follows it are two, a pooling is one
  for (int l = 0; l < VGG_LEVELS; l++) {
    if (l) x = elbo_max_pool2d(x, (int[]){2, 2}, (int[]){2, 2}, NULL), number++;
    for (int i = 0; i < levels[l].convolutions; i++, number += 2) x = convolution(x, number, levels[l].channels);
    out.map[l] = x;
  }
  return x ? out : (vgg_maps){{NULL}};
}
