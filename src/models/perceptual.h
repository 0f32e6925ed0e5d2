// How far two pictures are from one another to a network that knows such pictures [Zhang18 eq. 1]: features of every resolution, each
// place's vector brought to length 1, squared differences summed over channels, averaged over places and summed over resolutions. The
// network is a classifier trained here, or VGG-16 from a file, with LPIPS' weights of its channels where there are such (models/lpips.h).
// Figures are worth something beside others of the same weights alone, so their file's hash goes with them.
#ifndef MODELS_PERCEPTUAL_H
#define MODELS_PERCEPTUAL_H

#include <elbo/context.h>
#include <elbo/graph.h>

#include "nn/autoencoder.h"

// What the network's parameters in a graph and store are called: frozen, "perceptual.classifier.…" or "perceptual.vgg.…"
#define PERCEPTUAL_PREFIX "perceptual."

typedef struct perceptual perceptual;

// path: a run or model directory of a classifier, of pictures of this shape, or a file of VGG-16's weights; channels: of LPIPS' weights of
// VGG's channels, "": see lpips_weights_read. `what` names the key or option in messages. On failure *out is NULL.
elbo_status perceptual_open(elbo_ctx *ctx, const char *what, const char *path, const char *channels, const picture_shape *of,
                            perceptual **out);
void perceptual_close(perceptual **p);
const char *perceptual_hash(const perceptual *p); // SHA-256 of the weights' file, 64 digits; borrowed
const char *perceptual_name(const perceptual *p); // "classifier", "LPIPS (VGG-16)", "VGG-16, its channels alike"; borrowed

// x, y (B,H,W,C) in 0..1 -> (B)
elbo_tensor *perceptual_distance(const perceptual *p, elbo_tensor *x, elbo_tensor *y);
// The network's weights into a store whose graphs have such a distance.
elbo_status perceptual_fill(const perceptual *p, elbo_store *to);

#endif
