// The weights of Inception-v3 as the Fréchet distance of the literature uses it: pt_inception-2015-12-05-6726825d.pth or a safetensors file
// with its names.
#ifndef MODELS_INCEPTION_WEIGHTS_H
#define MODELS_INCEPTION_WEIGHTS_H

#include <elbo/graph.h>

// A store of the parameters of inception_features, batch norms folded into the convolutions. What is missing, mis-shaped or of another
// network is named.
elbo_status inception_weights_read(elbo_ctx *ctx, const char *path, elbo_store **out);

#endif
