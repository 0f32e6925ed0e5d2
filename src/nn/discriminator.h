// An adversary: a network that tells what is real from what was made. On pictures convolutions that halve them [Radford16], or the same
// without dense layers, a verdict for each patch [Isola17]; on vectors dense layers. No batch norms: their statistics would tie the
// examples of a batch together, and penalties are of each by itself. Its layers are also features by which pictures can be compared.
#ifndef NN_DISCRIMINATOR_H
#define NN_DISCRIMINATOR_H

#include "nn/autoencoder.h"

typedef enum discriminator_type { DISCRIMINATOR_CONV, DISCRIMINATOR_PATCH, DISCRIMINATOR_MLP } discriminator_type;

typedef struct discriminator_config {
  int type;
  config_ints channels; // of the convolutions, finest first
  config_ints hidden;   // dense layers behind them; of an mlp all its layers
  int64_t norm_groups;
  int activation;
  bool spectral_norm;
  double init_gain;
} discriminator_config;

extern const config_table discriminator_table;

enum { DISCRIMINATOR_LAYERS = 24 };

// Its layers, each of which gives features: convolutions, then dense ones; the verdict is behind the last.
int discriminator_layer_count(const discriminator_config *c);
// What the table cannot say; `file` names the recipe in messages. shape: of what it looks at, vectors as (1,1,d).
elbo_status discriminator_check(elbo_ctx *ctx, const char *file, const discriminator_config *c, const picture_shape *shape);

// Its parameters in a graph, made once and used on several batches. They are called "discriminator.conv.0.weight", ...
typedef struct discriminator {
  const discriminator_config *config; // borrowed
  elbo_graph *graph;
  int n;                                                                          // layers, and one more to the verdict
  elbo_tensor *weight[DISCRIMINATOR_LAYERS + 1], *bias[DISCRIMINATOR_LAYERS + 1]; // the weight as it is used: divided by its spectral norm
  elbo_tensor *norm_weight[DISCRIMINATOR_LAYERS], *norm_bias[DISCRIMINATOR_LAYERS]; // NULL: no norm there
} discriminator;

typedef struct discriminator_output {
  elbo_tensor *logit;                         // (B), of patches their mean
  elbo_tensor *logits;                        // (B) or (B,h,w,1)
  elbo_tensor *feature[DISCRIMINATOR_LAYERS]; // (B,...) of every layer, behind its activation
} discriminator_output;

// trained: the graph's loss differentiates the parameters, and the vectors of the spectral norms take a step of the power iteration
// [Miyato18 algorithm 1]. Otherwise both are as they are: no gradient reaches a parameter. Zeroed after an error, which the graph keeps.
discriminator discriminator_create(const discriminator_config *c, elbo_graph *g, const picture_shape *shape, bool trained);
// x: (B,H,W,C) in 0..1, of an mlp (B,...)
discriminator_output discriminator_apply(const discriminator *d, elbo_tensor *x);

#endif
