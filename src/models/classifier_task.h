// A classifier as a training task: cross-entropy, accuracy, and the error on the held-out part as the validation score.
#ifndef MODELS_CLASSIFIER_TASK_H
#define MODELS_CLASSIFIER_TASK_H

#include <elbo/dataset.h>

#include "models/classifier.h"
#include "models/preset.h"
#include "train/task.h"

typedef struct classifier_training_graph {
  elbo_graph *graph;
  elbo_tensor *loss;     // scalar, nats: cross-entropy with the smoothed target, weighted
  elbo_tensor *accuracy; // scalar
} classifier_training_graph;
// Inputs: "x", "label" int32 (B), "weight" (B), "label_smoothing".
elbo_status classifier_training_build(elbo_ctx *ctx, const classifier_spec *spec, int64_t batch, classifier_training_graph *out);

typedef struct classifier_task classifier_task;

// spec is copied (its list is borrowed for the task's life); data is borrowed: validation reads its held-out part (NULL: none).
elbo_status classifier_task_create(elbo_ctx *ctx, const classifier_spec *spec, double label_smoothing, int64_t batch, elbo_dataset *data,
                                   classifier_task **out);
void classifier_task_destroy(classifier_task **t);
const train_task *classifier_task_of(const classifier_task *t);

extern const preset_def preset_classifier;

#endif
