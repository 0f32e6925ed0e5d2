// A picture as its Haar coefficients, coarse to fine, in axes of grey and two colours: what the groups of a top-down model code under
// latent.pyramid. Splitting and joining are inverse to each other and orthogonal up to one scale a level, so a Gaussian on independent
// coefficients is a Gaussian on the picture, and noise of one width in them is noise of one width in the pixels.
#ifndef MODELS_PICTURE_PYRAMID_H
#define MODELS_PICTURE_PYRAMID_H

#include <elbo/ops.h>

// Coefficients are in units of 1 / PYRAMID_SCALE of the range of x, which brings those of photographs near 1.
#define PYRAMID_SCALE 8

// x (B,H,W,C) in 0..1 -> the picture in axes (B,H,W,C), and back
elbo_tensor *pyramid_axes(elbo_tensor *x);
elbo_tensor *pyramid_picture(elbo_tensor *axes);
// (B,2h,2w,C) -> (B,h,w,4C): means of 2x2 (C), then for each channel its horizontal, vertical and diagonal difference (3C); and back
elbo_tensor *pyramid_split(elbo_tensor *axes);
elbo_tensor *pyramid_join(elbo_tensor *coefficients);

// How the coefficients of a level go to its `groups` groups: each but the last takes one part, means (of the coarsest level alone) or the
// differences of one channel, and the last takes the rest. Numbers are of channels in what pyramid_split gives.
int pyramid_parts(int64_t channels, int coarsest); // the most groups
void pyramid_part(int64_t channels, int coarsest, int64_t groups, int64_t index, int64_t *from, int64_t *to);

#endif
