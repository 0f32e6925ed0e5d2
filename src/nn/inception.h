// Inception-v3 [Szegedy16] as the Fréchet distance of the literature uses it: the weights of 2015-12-05, whose average pools leave the
// padding out of the count and whose last block pools by the maximum [Heusel17]. Tensors are named as in the PyTorch form of those weights.
#ifndef NN_INCEPTION_H
#define NN_INCEPTION_H

#include <elbo/ops.h>

enum { INCEPTION_SIDE = 299, INCEPTION_FEATURES = 2048 };
#define INCEPTION_BATCH_NORM_EPS 1e-3

// x (B,H,W,3) in 0..1, any size -> (B,2048): resized to 299 x 299, brought to -1..1, the mean of the last map. Parameters, one pair for
// each convolution with its batch norm folded in: NAME.conv.weight (O,I,kh,kw) and NAME.conv.bias (O), NAME "Conv2d_1a_3x3" to
// "Mixed_7c.branch_pool".
elbo_tensor *inception_features(elbo_tensor *x);

#endif
