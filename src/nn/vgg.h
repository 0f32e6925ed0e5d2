// The thirteen convolutions of VGG-16 [Simonyan15 table 1, D], whose maps the perceptual distances of the literature are of.
#ifndef NN_VGG_H
#define NN_VGG_H

#include <elbo/graph.h>

enum { VGG_LEVELS = 5, VGG_LEAST_SIDE = 16 }; // four halvings

typedef struct vgg_maps {
  elbo_tensor *map[VGG_LEVELS]; // relu1_2, relu2_2, relu3_3, relu4_3, relu5_3: 64, 128, 256, 512, 512 channels, halved in between
} vgg_maps;

// x (B,H,W,3), normed as the network was trained. Parameters are frozen and named as torchvision names them: features.0.weight (64,3,3,3),
// features.0.bias ... features.28.bias. All maps NULL on failure.
vgg_maps vgg_features(elbo_tensor *x);
int64_t vgg_channels(int level);

#endif
