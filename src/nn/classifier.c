#include "nn/classifier.h"

#include <stdio.h>

static const config_field classifier_fields[] = {
    CONFIG_INTS(classifier_config, channels, 1, 4096, "[16, 32]", "",
                "channels of each resolution, finest first; each entry but the last halves the picture"),
    CONFIG_INT(classifier_config, stem, 1, 2, "2", "", "stride of the first convolution"),
    CONFIG_INT(classifier_config, blocks, 1, 64, "1", "", "residual blocks at each resolution"),
    CONFIG_INT(classifier_config, features, 2, 128, "64", "", "numbers in the layer before the last, by which pictures are compared"),
    CONFIG_INT(classifier_config, norm_groups, 0, 1024, "8", "", "groups of the group norms; 0: no norm"),
    CONFIG_ENUM(classifier_config, activation, "relu", ACTIVATION_NAMES, "activation"),
    CONFIG_FLOAT(classifier_config, dropout, 0, 0.95, "0.1", "", "probability of dropping, in residual blocks and before the last layer"),
};
const config_table classifier_table = CONFIG_TABLE("network", classifier_config, classifier_fields, "layers of a classifier");

int classifier_halvings(const classifier_config *c) { return (int)c->channels.count - 1 + (c->stem == 2); }

classifier_output classifier_network(const classifier_config *c, elbo_tensor *x, int64_t classes, bool training) {
  if (!x) return (classifier_output){0};
  double dropout = training ? c->dropout : 0;
  classifier_output out = {.n = (int)c->channels.count};
  elbo_tensor *h = conv_layer(elbo_scale(x, 2, -1), "conv_in", c->channels.at[0], 3, (int)c->stem, 1, 1);
  for (int64_t level = 0; level < c->channels.count; level++) {
    char name[64];
    snprintf(name, sizeof name, "down_blocks.%lld.downsample", (long long)level);
    if (level > 0) h = conv_layer(h, name, c->channels.at[level], 3, 2, 1, 1);
    for (int64_t block = 0; block < c->blocks; block++) {
      block_config b = {.kernel = 3, .groups = (int)c->norm_groups, .activation = c->activation, .dropout = dropout, .gain = 1};
      snprintf(name, sizeof name, "down_blocks.%lld.resnets.%lld", (long long)level, (long long)block);
      h = residual_block(h, name, &b);
    }
    out.map[level] = h;
  }
  h = activate(norm_layer(h, "norm_out", (int)c->norm_groups), c->activation);
  h = flatten_rows(h); // (B,hwC)
  out.features = activate(linear_layer(h, "features", c->features, 1), c->activation);
  h = dropout > 0 ? elbo_dropout(out.features, "dropout", dropout) : out.features;
  out.logits = linear_layer(h, "classes", classes, 1);
  if (!out.logits) return (classifier_output){0};
  return out;
}
