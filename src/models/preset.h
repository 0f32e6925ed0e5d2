// Kinds of models by their names in recipes: what a preset reads from a recipe, and how it becomes something that trains.
#ifndef MODELS_PRESET_H
#define MODELS_PRESET_H

#include <elbo/dataset.h>
#include <elbo/model.h>

#include "data/data_config.h"
#include "train/loop.h"
#include "train/train_config.h"

// What `elbo bench` measures of a recipe.
typedef enum bench_part { BENCH_WHOLE, BENCH_ENCODER, BENCH_DECODER } bench_part;
#define BENCH_PART_NAMES "whole|encoder|decoder"
typedef struct bench_config {
  bool forward;      // one call of the network in place of a training step
  config_ints shape; // of what it is given: height, width, channels; empty: the data's
  int part;          // bench_part, of an autoencoder
} bench_config;
extern const config_table bench_table;

// What the stages of all presets have.
typedef struct stage_config {
  data_config data;
  train_config train;
  engine_config engine;
  bench_config bench;
} stage_config;

// A task with its owner.
typedef struct preset_task {
  void *self;
  const train_task *task;
  const train_source *source; // where its batches come from, when its prepare has run; NULL: the data
  void (*destroy)(void *self);
} preset_task;

// What a task is made from. `config` is the preset's own struct, filled from the recipe.
typedef struct preset_request {
  const char *file; // recipe, for messages
  const stage_config *stage;
  const void *config;
  elbo_dataset *data;     // borrowed for the task's life; NULL when a network is called without data
  elbo_dataset_info info; // of the data, or of what the network is called with
  int64_t micro_batch;    // examples of one run of its graphs
  elbo_model *frozen;     // what the preset's frozen key names; borrowed for the task's life; NULL: nothing
} preset_request;

// A key of a preset's `model` section that names a model which it builds on and leaves as it is.
typedef struct frozen_key {
  const char *name; // "model.autoencoder"; NULL: the preset has none
  size_t offset;    // in the config, of its text: an earlier stage's name, a run or a model directory; "": none
} frozen_key;

typedef struct preset_def {
  const char *name;
  const char *summary;          // one line
  const config_table *sections; // of the recipe, but data, train, engine and bench: model, objective, ...
  const char *const *defaults;  // "model.process.type=learned", where the recipe does not say; NULL-terminated; NULL: none
  elbo_status (*create)(elbo_ctx *ctx, const preset_request *request, preset_task *out);
  // One call of the network on micro_batch examples, without dropout: the graph (the caller's) and what it makes. On failure *graph is
  // NULL.
  elbo_status (*forward)(elbo_ctx *ctx, const preset_request *request, elbo_graph **graph, elbo_tensor **out);
  frozen_key frozen;
  // A model such as training makes, with drawn weights: what a later stage that names this one is fitted to before there is one to read.
  // It may borrow from the config. NULL: nothing is built on such models.
  elbo_status (*untrained)(elbo_ctx *ctx, const preset_request *request, elbo_model **out);
} preset_def;

// NULL when there is none.
const preset_def *preset_find(const char *name);
const preset_def *preset_at(int i); // NULL past the last

#endif
