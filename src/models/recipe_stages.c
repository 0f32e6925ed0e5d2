// Recipes of several stages: a list of blocks with names, each a recipe of its own.
#include <stdio.h>
#include <string.h>

#include "models/recipe.h"

#define STAGE_NAME_CHARACTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"

// Takes `name:` out of a stage's block; where there is none it is the preset's.
static elbo_status take_name(elbo_recipe *stage, yaml_node *block) {
  const yaml_node *named = yaml_get(block, "name");
  if (named &&
      (named->kind != YAML_SCALAR || !named->text[0] || strlen(named->text) > 64 ||
       strspn(named->text, STAGE_NAME_CHARACTERS) != strlen(named->text) || strspn(named->text, "0123456789") == strlen(named->text)))
    return yaml_fail(stage->ctx, named, "name", "a stage's name is letters, digits, _ and -, not digits alone, at most 64");
  if (!named) {
    const preset_def *preset;
    TRY(recipe_find_preset(stage->ctx, block, &preset));
    stage->stage_name = preset->name;
    return ELBO_OK;
  }
  stage->stage_name = named->text;
  int64_t at = 0;
  while (strcmp(block->key[at], "name") != 0) at++;
  for (block->count--; at < block->count; at++) {
    block->key[at] = block->key[at + 1];
    block->key_line[at] = block->key_line[at + 1];
    block->child[at] = block->child[at + 1];
  }
  return ELBO_OK;
}

// Splits the list into stages with names, no two of which are the same.
static elbo_status list_stages(elbo_recipe *r, yaml_node *root) {
  const yaml_node *list = yaml_get(root, "stages");
  if (root->count != 1)
    return fail(r->ctx, ELBO_ERROR_ARGUMENT, "%s:%d: stages: stands alone; move the other keys into the stages", list->file, list->line);
  if (list->kind != YAML_LIST || list->count < 1 || list->count > MAX_STAGES)
    return fail(r->ctx, ELBO_ERROR_ARGUMENT, "%s:%d: stages: a list of 1 to %d blocks (name, model, objective, data, train) was expected",
                list->file, list->line, MAX_STAGES);
  r->stages = arena_alloc(r->arena, (size_t)list->count * sizeof *r->stages);
  if (!r->stages) return fail_memory(r->ctx, sizeof *r->stages, "a recipe's stages");
  memset(r->stages, 0, (size_t)list->count * sizeof *r->stages);
  for (; r->n_stages < list->count; r->n_stages++) {
    yaml_node *block = list->child[r->n_stages];
    elbo_recipe *stage = &r->stages[r->n_stages];
    *stage = (elbo_recipe){.ctx = r->ctx, .arena = r->arena, .name = r->name, .stage_name = "", .whole = r};
    if (block->kind != YAML_MAP)
      return fail(r->ctx, ELBO_ERROR_ARGUMENT, "%s:%d: stages: a block (name, model, objective, data, train) was expected", list->file,
                  block->line);
    TRY(take_name(stage, block));
    if (recipe_earlier_stage(stage, stage->stage_name))
      return fail(r->ctx, ELBO_ERROR_ARGUMENT, "%s:%d: stages: two are called '%s'; give each a `name:`", list->file, block->line,
                  stage->stage_name);
  }
  return ELBO_OK;
}

static elbo_status no_such_stage(const elbo_recipe *r, const char *assignment) {
  char all[512] = "";
  size_t used = 0;
  for (int i = 0; i < r->n_stages && used < sizeof all; i++)
    used += (size_t)snprintf(all + used, sizeof all - used, "%s%d or %s", i ? ", " : "", i, r->stages[i].stage_name);
  return fail(r->ctx, ELBO_ERROR_ARGUMENT, "command line: '%s': no such stage; expected %s", assignment, all);
}

// "stages.1.train.steps=5" and "stages.prior.train.steps=5" are for one stage, "train.steps=5" for all of them.
static elbo_status override_stages(elbo_recipe *r, const yaml_node *list, const char *assignment) {
  if (strncmp(assignment, "stages.", 7) != 0) {
    for (int i = 0; i < r->n_stages; i++) TRY(yaml_override(r->ctx, r->arena, list->child[i], assignment));
    return ELBO_OK;
  }
  const char *which = assignment + 7;
  size_t length = strcspn(which, ".=");
  for (int i = 0; i < r->n_stages; i++) {
    char index[16];
    snprintf(index, sizeof index, "%d", i);
    const char *const names[2] = {index, r->stages[i].stage_name};
    for (int k = 0; k < 2; k++)
      if (which[length] == '.' && strlen(names[k]) == length && memcmp(names[k], which, length) == 0)
        return yaml_override(r->ctx, r->arena, list->child[i], which + length + 1);
  }
  return no_such_stage(r, assignment);
}

elbo_status recipe_load_stages(elbo_recipe *r, yaml_node *root, int n_overrides, const char *const *overrides) {
  TRY(list_stages(r, root));
  const yaml_node *list = yaml_get(root, "stages");
  for (int i = 0; i < n_overrides; i++) TRY(override_stages(r, list, overrides[i]));
  if (r->n_stages == 1) { // a list of one is that one
    r->n_stages = 0;
    return recipe_load_block(r, list->child[0]);
  }
  for (int i = 0; i < r->n_stages; i++) TRY(recipe_load_block(&r->stages[i], list->child[i]));
  return ELBO_OK;
}

const elbo_recipe *recipe_earlier_stage(const elbo_recipe *stage, const char *name) {
  for (const elbo_recipe *s = stage->whole ? stage->whole->stages : stage; s < stage; s++)
    if (strcmp(s->stage_name, name) == 0) return s;
  return NULL;
}

elbo_status recipe_check_single(const elbo_recipe *r, const char *what) {
  if (!r->n_stages) return ELBO_OK;
  return fail(r->ctx, ELBO_ERROR_ARGUMENT,
              "%s: %s is about one stage, and this recipe has %d; write them as recipes of their own, or ask for "
              "each (elbo_recipe_stage)",
              r->name, what, r->n_stages);
}

int elbo_recipe_stage_count(const elbo_recipe *recipe) { return recipe->n_stages ? recipe->n_stages : 1; }

const elbo_recipe *elbo_recipe_stage(const elbo_recipe *recipe, int i) {
  if (i < 0 || i >= elbo_recipe_stage_count(recipe)) return NULL;
  return recipe->n_stages ? &recipe->stages[i] : recipe;
}

const char *elbo_recipe_stage_name(const elbo_recipe *recipe) { return recipe->stage_name; }
