// A classifier on data of a certain shape, and its model directory: model_index.json (ElboClassifier), classifier/config.json and
// classifier/diffusion_pytorch_model.safetensors.
#ifndef MODELS_CLASSIFIER_H
#define MODELS_CLASSIFIER_H

#include "models/model.h"
#include "nn/classifier.h"

// The sections of a recipe with `model.preset: classifier`.
typedef struct classifier_recipe {
  struct classifier_model {
    int preset;
    classifier_config network;
  } model;
  struct classifier_objective {
    double label_smoothing; // share of the target that is spread evenly over all classes
  } objective;
} classifier_recipe;
extern const config_table classifier_sections;

typedef struct classifier_spec {
  classifier_config network;
  picture_shape shape;
  int64_t classes;
  int bits; // of a pixel of the training data: 8, 16; 0: float
} classifier_spec;

// What the table cannot check: sizes that do not halve, data without labels. `file` names the recipe in messages.
elbo_status classifier_spec_check(elbo_ctx *ctx, const classifier_spec *spec, const char *file);
// The network on input "x" (B,H,W,C), parameters "classifier.…".
classifier_output classifier_graph(const classifier_spec *spec, elbo_graph *g, int64_t batch, bool training);

// A store with the parameters of a spec, and their initial values.
elbo_status classifier_store_create(elbo_ctx *ctx, const classifier_spec *spec, uint64_t seed, elbo_store **out);

elbo_status classifier_directory_write(elbo_ctx *ctx, const char *directory, const classifier_spec *spec, elbo_store *store, int64_t step);
// Reads the configuration alone; lists live in the arena. ELBO_ERROR_UNSUPPORTED for a directory of another kind of model.
elbo_status classifier_directory_read_spec(elbo_ctx *ctx, arena *a, const char *directory, classifier_spec *spec, int64_t *step);
// Fills a store made of the spec; every parameter must be there with its shape, and nothing else.
elbo_status classifier_directory_read_weights(elbo_ctx *ctx, const char *directory, elbo_store *store);

// Share of wrong answers on a split, and the mean cross-entropy (nats) with its standard error.
typedef struct classifier_score {
  int64_t n;
  double error, loss, loss_error;
} classifier_score;
elbo_status classifier_score_on(elbo_ctx *ctx, const classifier_spec *spec, elbo_store *weights, elbo_dataset *data, elbo_split split,
                                classifier_score *out);

#endif
