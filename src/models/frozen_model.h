// The model of another kind that a preset builds on and leaves as it is: what the recipe's key for it says (preset_def.frozen), opened.
#ifndef MODELS_FROZEN_MODEL_H
#define MODELS_FROZEN_MODEL_H

#include "models/model.h"
#include "models/recipe.h"

// An earlier stage's name, a run or a model directory; "": this recipe builds on no other model.
const char *frozen_model_named(const elbo_recipe *recipe);
// The stage of the same recipe that it names; NULL: none.
const elbo_recipe *frozen_model_stage(const elbo_recipe *recipe);

// Opens it. `path`: where the stage that it names lies; NULL: it is not trained yet, and a model of its recipe with drawn weights stands
// in, for which the stage's own data (`data`; NULL: those of its recipe) are opened. *out NULL where the key says nothing, and on failure.
elbo_status frozen_model_open(elbo_ctx *ctx, const elbo_recipe *recipe, const char *path, elbo_dataset *data, elbo_model **out);

// What tells one model from another: 64 digits over the names, shapes and values of its weights.
elbo_status frozen_model_hash(const elbo_model *m, char out[65]);

#endif
