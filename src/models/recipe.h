// A recipe, loaded.
#ifndef MODELS_RECIPE_H
#define MODELS_RECIPE_H

#include <elbo/recipe.h>

#include "models/preset.h"

enum { MAX_SECTIONS = 8 };

struct elbo_recipe {
  elbo_ctx *ctx;
  arena *arena;     // everything below
  const char *name; // file or bare name, for messages
  const preset_def *preset;
  stage_config *stage; // data, train, engine and bench
  void *config;        // the preset's own sections
  config_field field[MAX_SECTIONS];
  config_table table; // of one block that holds both
};

#endif
