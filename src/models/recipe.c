#include "models/recipe.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/place.h"

#define NAME_LIMIT 128
enum { MAX_KEYS = 64 };

static const config_field bench_fields[] = {
    CONFIG_BOOL(bench_config, forward, "false",
                "one call of the network on a batch is measured, without dropout, in place of a training step"),
    CONFIG_INTS_AS(bench_config, shape, 1, 65536, "null", "", CONFIG_NULL,
                   "height, width and channels of what that call is given; null: those of the data, which then need not be there"),
    CONFIG_ENUM(bench_config, part, "whole", BENCH_PART_NAMES, "of an autoencoder: the side that is called; a decoder is given codes"),
};
const config_table bench_table = CONFIG_TABLE("bench", bench_config, bench_fields, "what elbo bench measures of this recipe");

// --- where recipes lie ---------------------------------------------------------------------------------------------------------------

// Calls each(user, directory) for $ELBO_RECIPES (colons between), the share directory of the installation that this is, the source tree and
// the configured share directory, until it returns true.
static bool each_directory(bool (*each)(void *user, const char *directory), void *user) {
  const char *list = getenv("ELBO_RECIPES");
  while (list && *list) {
    size_t length = strcspn(list, ":");
    char directory[PATH_MAX];
    if (length > 0 && length < sizeof directory) {
      memcpy(directory, list, length);
      directory[length] = 0;
      if (each(user, directory)) return true;
    }
    list += length + (list[length] == ':');
  }
  char beside[PATH_MAX];
  if (place_beside("recipes", beside, sizeof beside) && each(user, beside)) return true;
  return each(user, ELBO_SOURCE_DIR "/recipes") || each(user, ELBO_DATADIR "/recipes");
}

typedef struct finder {
  const char *name;
  bool benchmark;
  char path[PATH_MAX];
} finder;

static bool find_in(void *user, const char *directory) {
  finder *f = user;
  static const char *const pattern[] = {"%s/%s.yaml", "%s/bench/%s.yaml"};
  for (int i = 0; i < 2; i++) {
    int n = snprintf(f->path, sizeof f->path, pattern[f->benchmark ? 1 - i : i], directory, f->name);
    if (n > 0 && (size_t)n < sizeof f->path && file_exists(f->path)) return true;
  }
  return false;
}

typedef struct name_list {
  char (*at)[NAME_LIMIT];
  char **path;
  int64_t count, capacity, path_capacity;
  elbo_ctx *ctx;
  elbo_status status;
} name_list;

static bool add_directory(void *user, const char *directory) {
  name_list *l = user;
  DIR *d = opendir(directory);
  if (!d) return false;
  for (struct dirent *e; (e = readdir(d)) && l->status == ELBO_OK;) {
    size_t length = strlen(e->d_name);
    if (length < 6 || length - 5 >= NAME_LIMIT || strcmp(e->d_name + length - 5, ".yaml") != 0 || e->d_name[0] == '.') continue;
    char name[NAME_LIMIT];
    memcpy(name, e->d_name, length - 5);
    name[length - 5] = 0;
    bool known = false;
    for (int64_t i = 0; i < l->count; i++) known = known || strcmp(l->at[i], name) == 0;
    if (known) continue;
    l->status = array_grow(l->ctx, &l->at, &l->capacity, l->count + 1, sizeof *l->at);
    if (l->status == ELBO_OK) l->status = array_grow(l->ctx, &l->path, &l->path_capacity, l->count + 1, sizeof *l->path);
    if (l->status != ELBO_OK) break;
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", directory, e->d_name);
    memcpy(l->at[l->count], name, sizeof name);
    l->path[l->count] = string_copy(path);
    if (!l->path[l->count])
      l->status = fail_memory(l->ctx, strlen(path), "a path");
    else
      l->count++;
  }
  closedir(d);
  return l->status != ELBO_OK;
}

static elbo_status list_names(elbo_ctx *ctx, name_list *l) {
  *l = (name_list){.ctx = ctx};
  each_directory(add_directory, l);
  for (int64_t i = 1; i < l->count; i++) // a dozen names
    for (int64_t j = i; j > 0 && strcmp(l->at[j - 1], l->at[j]) > 0; j--) {
      char name[NAME_LIMIT], *path = l->path[j];
      memcpy(name, l->at[j], sizeof name), memcpy(l->at[j], l->at[j - 1], sizeof name), memcpy(l->at[j - 1], name, sizeof name);
      l->path[j] = l->path[j - 1], l->path[j - 1] = path;
    }
  return l->status;
}

static void free_names(name_list *l) {
  for (int64_t i = 0; i < l->count; i++) free(l->path[i]);
  free(l->path);
  free(l->at);
}

elbo_status elbo_recipe_list(elbo_ctx *ctx, elbo_recipe_each_fn each, void *user) {
  name_list l;
  elbo_status status = list_names(ctx, &l);
  for (int64_t i = 0; status == ELBO_OK && i < l.count; i++) {
    char summary[512] = "";
    FILE *f = fopen(l.path[i], "re");
    if (f) {
      char line[512];
      if (fgets(line, sizeof line, f) && line[0] == '#') {
        char *text = line + strspn(line, "# ");
        text[strcspn(text, "\r\n")] = 0;
        snprintf(summary, sizeof summary, "%s", text);
      }
      fclose(f);
    }
    if (!each(user, l.at[i], l.path[i], summary)) break;
  }
  free_names(&l);
  return status;
}

static elbo_status unknown_recipe(elbo_ctx *ctx, const char *name) {
  name_list l;
  char all[1024] = "";
  size_t used = 0;
  if (list_names(ctx, &l) == ELBO_OK)
    for (int64_t i = 0; i < l.count && used < sizeof all; i++) {
      int n = snprintf(all + used, sizeof all - used, "%s%s", i ? ", " : "", l.at[i]);
      used += n > 0 ? (size_t)n : 0;
    }
  free_names(&l);
  return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: neither a recipe file nor the name of one (%s)", name, used ? all : "none were found");
}

static elbo_status resolve_path(elbo_ctx *ctx, const char *name, bool benchmark, char *path, size_t size) {
  if (!name || !*name) return fail(ctx, ELBO_ERROR_ARGUMENT, "no recipe was named");
  size_t length = strlen(name);
  bool looks_like_file = (length > 5 && strcmp(name + length - 5, ".yaml") == 0) || (length > 4 && strcmp(name + length - 4, ".yml") == 0);
  finder f = {.name = name, .benchmark = benchmark};
  if (!looks_like_file && length < NAME_LIMIT && each_directory(find_in, &f)) {
    snprintf(path, size, "%s", f.path);
    return ELBO_OK;
  }
  if (!looks_like_file && (!file_exists(name) || directory_exists(name))) return unknown_recipe(ctx, name);
  if (length >= size) return fail(ctx, ELBO_ERROR_ARGUMENT, "the recipe's path is longer than %zu bytes", size);
  memcpy(path, name, length + 1);
  return ELBO_OK;
}

// --- loading -------------------------------------------------------------------------------------------------------------------------

elbo_status recipe_find_preset(elbo_ctx *ctx, const yaml_node *root, const preset_def **out) {
  const yaml_node *model = yaml_get(root, "model"), *name = model && model->kind == YAML_MAP ? yaml_get(model, "preset") : NULL;
  *out = preset_find(name && name->kind == YAML_SCALAR ? name->text : "vae");
  if (*out) return ELBO_OK;
  char all[512] = "";
  size_t used = 0;
  for (int i = 0; preset_at(i) && used < sizeof all; i++)
    used += (size_t)snprintf(all + used, sizeof all - used, "%s%s", i ? ", " : "", preset_at(i)->name);
  return yaml_fail(ctx, name, "model.preset", "'%s': one of %s was expected", name->text, all);
}

// One block of memory: what all stages have, and behind it the preset's own struct; one table over both, so that the order in which a
// recipe is written out is model, objective, ..., data, train, engine, bench.
elbo_status recipe_load_block(elbo_recipe *r, yaml_node *root) {
  static const config_field common[] = {CONFIG_SECTION(stage_config, data, &data_table), CONFIG_SECTION(stage_config, train, &train_table),
                                        CONFIG_SECTION(stage_config, engine, &engine_table),
                                        CONFIG_SECTION(stage_config, bench, &bench_table)};
  const size_t own = (sizeof(stage_config) + 15) / 16 * 16;
  TRY(recipe_find_preset(r->ctx, root, &r->preset));
  const config_table *sections = r->preset->sections;
  int n = 0;
  for (int i = 0; i < sections->n_fields; i++) {
    r->field[n] = sections->fields[i];
    r->field[n++].offset += own;
  }
  for (size_t i = 0; i < sizeof common / sizeof *common; i++) r->field[n++] = common[i];
  r->table = (config_table){"recipe", own + sections->struct_size, r->field, n, "a model, its objective, its data, its training"};
  char *block = arena_alloc(r->arena, r->table.struct_size);
  if (!block) return fail_memory(r->ctx, r->table.struct_size, "a recipe");
  for (const char *const *line = r->preset->defaults; line && *line; line++) {
    char key[NAME_LIMIT];
    snprintf(key, sizeof key, "%.*s", (int)strcspn(*line, "="), *line);
    if (!yaml_has(root, key)) TRY(yaml_set(r->ctx, r->arena, r->preset->name, root, *line));
  }
  TRY(config_load(r->ctx, r->arena, &r->table, root, "", block));
  r->stage = (void *)block, r->config = block + own;
  return train_config_check(r->ctx, &r->stage->train);
}

static elbo_status load_single(elbo_recipe *r, yaml_node *root, int n_overrides, const char *const *overrides) {
  for (int i = 0; i < n_overrides; i++) TRY(yaml_override(r->ctx, r->arena, root, overrides[i]));
  return recipe_load_block(r, root);
}

static elbo_status load_root(elbo_recipe *r, const char *from, yaml_node *root, int n_overrides, const char *const *overrides) {
  if (!root || root->kind != YAML_MAP)
    return fail(r->ctx, ELBO_ERROR_FORMAT, "%s: a recipe is a map of model, objective, data, train, or of stages", from);
  return yaml_get(root, "stages") ? recipe_load_stages(r, root, n_overrides, overrides) : load_single(r, root, n_overrides, overrides);
}

static elbo_status create(elbo_ctx *ctx, const char *name, elbo_recipe **out) {
  elbo_recipe *r = *out = calloc(1, sizeof *r);
  if (!r) return fail_memory(ctx, sizeof *r, "a recipe");
  r->ctx = ctx, r->stage_name = "";
  r->arena = arena_create(1 << 14);
  r->name = r->arena ? arena_string(r->arena, name) : NULL;
  return r->name ? ELBO_OK : fail_memory(ctx, 1 << 14, "a recipe");
}

static elbo_status load(elbo_ctx *ctx, const char *path_or_name, bool benchmark, int n_overrides, const char *const *overrides,
                        elbo_recipe **out) {
  *out = NULL;
  char path[PATH_MAX];
  TRY(resolve_path(ctx, path_or_name, benchmark, path, sizeof path));
  yaml_node *root = NULL;
  elbo_status status = create(ctx, path_or_name, out);
  if (status == ELBO_OK) status = yaml_read(ctx, (*out)->arena, path, &root);
  if (status == ELBO_OK) status = load_root(*out, path, root, n_overrides, overrides);
  if (status != ELBO_OK) elbo_recipe_destroy(out);
  return status;
}

elbo_status recipe_parse(elbo_ctx *ctx, const char *name, const char *text, elbo_recipe **out) {
  yaml_node *root = NULL;
  elbo_status status = create(ctx, name, out);
  if (status == ELBO_OK) status = yaml_parse(ctx, (*out)->arena, name, text, strlen(text), &root);
  if (status == ELBO_OK) status = load_root(*out, name, root, 0, NULL);
  if (status != ELBO_OK) elbo_recipe_destroy(out);
  return status;
}

elbo_status elbo_recipe_load(elbo_ctx *ctx, const char *path_or_name, int n_overrides, const char *const *overrides, elbo_recipe **out) {
  return load(ctx, path_or_name, false, n_overrides, overrides, out);
}

elbo_status elbo_recipe_load_benchmark(elbo_ctx *ctx, const char *path_or_name, int n_overrides, const char *const *overrides,
                                       elbo_recipe **out) {
  return load(ctx, path_or_name, true, n_overrides, overrides, out);
}

void elbo_recipe_destroy(elbo_recipe **recipe) {
  if (!recipe || !*recipe) return;
  if ((*recipe)->arena) arena_destroy(&(*recipe)->arena);
  free(*recipe);
  *recipe = NULL;
}

static elbo_status take_text(elbo_ctx *ctx, text_buffer *t, char **out) {
  *out = text_take(t);
  return *out ? ELBO_OK : fail_memory(ctx, t->capacity, "a text");
}

elbo_status elbo_recipe_text(const elbo_recipe *recipe, char **out) {
  text_buffer t = {0};
  if (!recipe->n_stages) config_write(&recipe->table, recipe->stage, 0, false, &t);
  if (recipe->n_stages) text_add(&t, "stages:\n");
  for (int i = 0; i < recipe->n_stages; i++) {
    const elbo_recipe *stage = &recipe->stages[i];
    text_add(&t, "  - name: \"%s\"\n", stage->stage_name);
    config_write(&stage->table, stage->stage, 4, false, &t);
  }
  return take_text(recipe->ctx, &t, out);
}

// Scalars as they are, lists as "[a, b]"
static void node_text(const yaml_node *n, text_buffer *t) {
  if (n->kind == YAML_SCALAR) {
    text_add(t, "%s", n->text);
    return;
  }
  text_add(t, n->kind == YAML_LIST ? "[" : "{");
  for (int64_t i = 0; i < n->count; i++) {
    if (i) text_add(t, ", ");
    if (n->kind == YAML_MAP) text_add(t, "%s: ", n->key[i]);
    node_text(n->child[i], t);
  }
  text_add(t, n->kind == YAML_LIST ? "]" : "}");
}

// A map's key; a stage by its number or its name. NULL: there is none.
static const yaml_node *find_value(const elbo_recipe *recipe, const yaml_node *n, const char *part) {
  if (n->kind == YAML_MAP) return yaml_get(n, part);
  char index[16];
  for (int i = 0; n->kind == YAML_LIST && i < recipe->n_stages && i < n->count; i++) {
    snprintf(index, sizeof index, "%d", i);
    if (strcmp(index, part) == 0 || strcmp(recipe->stages[i].stage_name, part) == 0) return n->child[i];
  }
  return NULL;
}

elbo_status elbo_recipe_get(const elbo_recipe *recipe, const char *key, char **out) {
  *out = NULL;
  elbo_ctx *ctx = recipe->ctx;
  char *text = NULL;
  TRY(elbo_recipe_text(recipe, &text));
  arena *a = arena_create(1 << 14);
  yaml_node *root = NULL;
  elbo_status status = a ? yaml_parse(ctx, a, recipe->name, text, strlen(text), &root) : fail_memory(ctx, 1 << 14, "a recipe");
  const yaml_node *n = root;
  char part[NAME_LIMIT];
  for (const char *at = key; status == ELBO_OK && n && *at;) {
    size_t length = strcspn(at, ".");
    if (length >= sizeof part)
      n = NULL;
    else {
      memcpy(part, at, length);
      part[length] = 0;
      n = find_value(recipe, n, part);
    }
    at += length + (at[length] == '.');
  }
  if (status == ELBO_OK && !n) status = fail(ctx, ELBO_ERROR_ARGUMENT, "%s: no key '%s'", recipe->name, key);
  if (status == ELBO_OK) {
    text_buffer t = {0};
    node_text(n, &t);
    status = take_text(ctx, &t, out);
  }
  arena_destroy(&a);
  free(text);
  return status;
}

// Whether an earlier table of the same section has this very key.
static bool has_key(const config_table *earlier, const config_table *of, const config_field *f) {
  if (strcmp(earlier->name, of->name) != 0) return false;
  for (int i = 0; i < earlier->n_fields; i++) {
    const config_field *g = &earlier->fields[i];
    if (strcmp(f->name, g->name) == 0 && f->type == g->type && f->section == g->section && strcmp(f->help, g->help) == 0) return true;
  }
  return false;
}

// Keys that an earlier table has whole (a diffusion's, of every preset that has one) are named, not written out again.
static void add_section(text_buffer *t, const config_table *section, const char *of, int n_earlier, const config_table *const *earlier) {
  config_field own[MAX_KEYS];
  char shared[512] = "";
  size_t used = 0;
  int n = 0;
  for (int i = 0; i < section->n_fields && n < MAX_KEYS; i++) {
    const config_field *f = &section->fields[i];
    bool known = false;
    for (int k = 0; k < n_earlier && !known; k++) known = f->section && has_key(earlier[k], section, f);
    if (!known) own[n++] = *f;
    if (known && used < sizeof shared) used += (size_t)snprintf(shared + used, sizeof shared - used, "%s`%s`", used ? ", " : "", f->name);
  }
  config_table rest = *section;
  rest.fields = own, rest.n_fields = n;
  text_add(t, "\n## %s: %s%s%s%s\n\n", section->name, section->help, of ? " (" : "", of ? of : "", of ? ")" : "");
  if (used) text_add(t, "And %s, as above.\n\n", shared);
  text_add(t, "| key | type | default | range | meaning |\n|---|---|---|---|---|\n");
  config_markdown(&rest, section->name, t);
}

elbo_status elbo_recipe_keys_markdown(elbo_ctx *ctx, char **out) {
  text_buffer t = {0};
  text_add(
      &t, "# Recipes: every key\n\n"
          "A recipe is a YAML map of four blocks: what is modelled (`model`), what training raises (`objective`), where the examples come\n"
          "from (`data`) and how it is trained (`train`). Every key has a default; `KEY=VALUE` on the command line (`train.steps=100`)\n"
          "overrides the file. This page is made from the tables that read recipes.\n\n"
          "A list `stages:` of such blocks, each with a `name`, is trained one after the other by one `elbo train` in one run. A stage\n"
          "takes over what an earlier one learned by naming it: `train.init: NAME` begins with its weights, and `train.freeze` says\n"
          "which of them stay as they are. On the command line `stages.1.train.steps=100` or `stages.NAME.train.steps=100` sets a key of\n"
          "one stage (counted from 0), `train.steps=100` that of every stage.\n");
  const config_table *written[2 * MAX_SECTIONS] = {0};
  int n = 0;
  for (int p = 0; preset_at(p); p++) { // presets share tables
    const config_table *sections = preset_at(p)->sections;
    for (int i = 0; i < sections->n_fields; i++) {
      const config_table *section = sections->fields[i].section;
      bool known = n == 2 * MAX_SECTIONS;
      for (int k = 0; k < n; k++) known = known || written[k] == section;
      if (known) continue;
      add_section(&t, section, preset_at(p)->summary, n, written);
      written[n++] = section;
    }
  }
  add_section(&t, &data_table, NULL, 0, NULL);
  add_section(&t, &train_table, NULL, 0, NULL);
  add_section(&t, &engine_table, NULL, 0, NULL);
  add_section(&t, &bench_table, NULL, 0, NULL);
  return take_text(ctx, &t, out);
}
