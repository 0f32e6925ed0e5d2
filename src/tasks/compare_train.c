// The trainings of a comparison: runs as `elbo train` makes them, resumed where they stopped.
#include <elbo/train.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tasks/compare.h"

elbo_status compare_train(comparison *c, compared *m) {
  elbo_recipe *recipe = NULL;
  elbo_train_config train;
  elbo_train_result result;
  TRY(compare_load_recipe(c, m, 0, NULL, &recipe));
  elbo_train_defaults(&train);
  train.out = m->run, train.resume = 1, train.progress = compare_progress, train.progress_user = c;
  elbo_status status = elbo_train(c->ctx, recipe, &train, &result);
  elbo_recipe_destroy(&recipe);
  return status;
}
