// What pictures are compared by: a network that turns each into a row of numbers. Either the layer before the last of a classifier trained
// here, or Inception-v3 of the literature, whose weights come as a file. Figures made with other weights cannot be compared, so the hash of
// the weights' file goes with every figure.
#ifndef MODELS_FEATURE_NET_H
#define MODELS_FEATURE_NET_H

#include <elbo/array.h>
#include <elbo/graph.h>

#include "core/ctx.h"

typedef struct feature_net feature_net;

// path: a run or model directory of a classifier, or a file of Inception-v3 weights (.safetensors, .pth). On failure *out is NULL.
elbo_status feature_net_open(elbo_ctx *ctx, const char *path, feature_net **out);
void feature_net_close(feature_net **net);

const char *feature_net_name(const feature_net *net); // "classifier" or "inception-v3"; borrowed
const char *feature_net_hash(const feature_net *net); // SHA-256 of the weights' file, 64 digits; borrowed
int64_t feature_net_dim(const feature_net *net);      // numbers a picture
// The classifier and its weights, "classifier.…"; NULL of Inception. Borrowed.
const struct classifier_spec *feature_net_classifier(const feature_net *net);
elbo_store *feature_net_weights(const feature_net *net);

// x (n,H,W,C) float32 in 0..1, rounded to 8 bits first, as pictures are that anyone else would judge. A classifier takes pictures of its
// own size; Inception any size, of 1 or 3 channels. out (n,dim) float64, owned by the caller, NULL on failure. progress may be NULL.
elbo_status feature_net_run(feature_net *net, const elbo_array *x, elbo_progress_fn progress, void *user, elbo_array **out);

#endif
