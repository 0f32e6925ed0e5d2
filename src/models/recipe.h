// A recipe, loaded.
#ifndef MODELS_RECIPE_H
#define MODELS_RECIPE_H

#include <elbo/recipe.h>

#include "models/preset.h"

enum { MAX_SECTIONS = 8, MAX_STAGES = 16 };

// One stage, or several: then the fields below `stages` are unset, and each stage is a recipe of its own.
struct elbo_recipe {
  elbo_ctx *ctx;
  arena *arena;             // everything below; of several stages: the whole's
  const char *name;         // file or bare name, for messages
  const char *stage_name;   // "prior"; "" of the short form
  int n_stages;             // 0: this is one stage
  elbo_recipe *stages;      // (n_stages)
  const elbo_recipe *whole; // of a stage: the recipe that it is a stage of; NULL
  const preset_def *preset;
  stage_config *stage; // data, train, engine and bench
  void *config;        // the preset's own sections
  config_field field[MAX_SECTIONS];
  config_table table; // of one block that holds both
};

// --- shared by recipe.c and recipe_stages.c ---
// The preset that a block names, "vae" where it names none.
elbo_status recipe_find_preset(elbo_ctx *ctx, const yaml_node *block, const preset_def **out);
// Fills the fields of one stage from its block.
elbo_status recipe_load_block(elbo_recipe *r, yaml_node *block);
// The same of `stages:`, the root's only key, with the overrides that are for one or all of them.
elbo_status recipe_load_stages(elbo_recipe *r, yaml_node *root, int n_overrides, const char *const *overrides);

// A recipe from its text, as elbo_recipe_text writes it; `name` for messages.
elbo_status recipe_parse(elbo_ctx *ctx, const char *name, const char *text, elbo_recipe **out);
// The stage before `stage` in its recipe that has this name; NULL: there is none.
const elbo_recipe *recipe_earlier_stage(const elbo_recipe *stage, const char *name);
// For calls that are about one stage: fails, naming the stages, where the recipe has several.
elbo_status recipe_check_single(const elbo_recipe *recipe, const char *what);

#endif
