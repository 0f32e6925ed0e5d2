// Recipes: a model, its objective, its data and its training, written in YAML. docs/recipes.md lists every key.
#ifndef ELBO_RECIPE_H
#define ELBO_RECIPE_H

#include <elbo/context.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct elbo_recipe elbo_recipe;

// Loads a recipe from a file, or by the bare name of one that comes with the project ("vae-mnist"), and applies `overrides`
// ("train.steps=100"), the last one winning. An unknown key, a wrong type or a value out of range is an error with file, line and the
// nearest valid key. On failure *out is NULL.
ELBO_API ELBO_MUST_CHECK elbo_status elbo_recipe_load(elbo_ctx *ctx, const char *path_or_name, int n_overrides,
                                                      const char *const *overrides, elbo_recipe **out);
// The same, but a bare name means the workload of recipes/bench where there is one of that name: `ddpm-cifar10` is a full-length training
// to elbo_recipe_load, and the step that is compared with other programs to this.
ELBO_API ELBO_MUST_CHECK elbo_status elbo_recipe_load_benchmark(elbo_ctx *ctx, const char *path_or_name, int n_overrides,
                                                                const char *const *overrides, elbo_recipe **out);
ELBO_API void elbo_recipe_destroy(elbo_recipe **recipe);

// The fully resolved recipe as YAML (every key, defaults included). Owned by the caller: free().
ELBO_API ELBO_MUST_CHECK elbo_status elbo_recipe_text(const elbo_recipe *recipe, char **out);
// The value of one key as text ("train.steps"; of several stages "stages.0.train.steps" or "stages.NAME.train.steps"). Owned by the caller:
// free().
ELBO_API ELBO_MUST_CHECK elbo_status elbo_recipe_get(const elbo_recipe *recipe, const char *key, char **out);

// A recipe's stages, trained one after the other; 1 where it is written without a list of them.
ELBO_API int elbo_recipe_stage_count(const elbo_recipe *recipe);
// Stage `i` as a recipe of its own, borrowed from the whole; of a recipe of one stage the recipe itself. NULL: there is no such stage.
ELBO_API const elbo_recipe *elbo_recipe_stage(const elbo_recipe *recipe, int i);
// Its name ("prior"), "" where the recipe has but one stage. Borrowed.
ELBO_API const char *elbo_recipe_stage_name(const elbo_recipe *stage);

// The recipes that can be named, in alphabetical order, from $ELBO_RECIPES, the build tree and the installed share directory: `each` is
// called with name, path and the first comment line; a false return ends it.
typedef int (*elbo_recipe_each_fn)(void *user, const char *name, const char *path, const char *summary);
ELBO_API ELBO_MUST_CHECK elbo_status elbo_recipe_list(elbo_ctx *ctx, elbo_recipe_each_fn each, void *user);

// Every key of the schema as Markdown (docs/recipes.md). Owned by the caller: free().
ELBO_API ELBO_MUST_CHECK elbo_status elbo_recipe_keys_markdown(elbo_ctx *ctx, char **out);

#ifdef __cplusplus
}
#endif
#endif
