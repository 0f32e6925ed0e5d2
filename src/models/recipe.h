// A recipe, loaded.
#ifndef MODELS_RECIPE_H
#define MODELS_RECIPE_H

#include <elbo/recipe.h>

#include "data/data_config.h"
#include "models/vae_config.h"
#include "train/train_config.h"

typedef struct recipe_config {
  model_config model;
  objective_config objective;
  data_config data;
  train_config train;
} recipe_config;

struct elbo_recipe {
  elbo_ctx *ctx;
  arena *arena;     // strings and lists of config
  const char *name; // file or bare name, for messages
  recipe_config config;
};

extern const config_table recipe_table;

#endif
