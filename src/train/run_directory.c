#include "train/run_directory.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/config.h"
#include "core/file.h"
#include "core/sha256.h"
#include "train/run.h"
#include "train/run_stages.h"

enum { RECIPE_LIMIT = 1 << 20, PATH_SIZE = 4096 };

// --- two recipes compared ---

// What may change when a run goes on: how long, what it writes when, how samples are drawn of it, and how it is computed (a checkpoint's
// table of kernels tells). Nothing of the first two touches a step that both would make, but for schedules that look at the number of
// steps.
static const char *const free_keys[] = {"train.steps",
                                        "train.keep",
                                        "train.checkpoint_every",
                                        "train.log_every",
                                        "train.preview_every",
                                        "train.validate_every",
                                        "train.stop_on_nan",
                                        "engine",
                                        "sample"};

static bool is_free(const char *path) {
  const char *inside = strncmp(path, "stages[", 7) == 0 ? strchr(path, ']') : NULL;
  if (inside && inside[1] == '.') path = inside + 2;
  for (size_t i = 0; i < sizeof free_keys / sizeof free_keys[0]; i++)
    if (strcmp(path, free_keys[i]) == 0) return true;
  return false;
}

static void node_text(const yaml_node *n, char *text, size_t size) {
  if (!n)
    snprintf(text, size, "absent");
  else if (n->kind == YAML_SCALAR)
    snprintf(text, size, "%.100s", n->text);
  else
    snprintf(text, size, "a %s of %lld", n->kind == YAML_LIST ? "list" : "map", (long long)n->count);
}

// Numbers that are written differently (1e-3, 0.001) are the same value.
static bool same_scalar(const char *a, const char *b) {
  if (strcmp(a, b) == 0) return true;
  char *end_a, *end_b;
  double x = strtod(a, &end_a), y = strtod(b, &end_b);
  return end_a != a && end_b != b && !*end_a && !*end_b && x == y;
}

// A run from before a key existed has no line for it; a text that names nothing, a list of nothing and "none" say as much.
static bool is_unset(const yaml_node *n) {
  return !n || (n->kind == YAML_SCALAR && (!*n->text || !strcmp(n->text, "none"))) || (n->kind == YAML_LIST && !n->count);
}

static bool nodes_differ(const yaml_node *there, const yaml_node *here, const char *path, char *text, size_t size) {
  char a[128], b[128], deeper[512];
  if (is_free(path) || (is_unset(there) && is_unset(here))) return false;
  bool same_kind = there && here && there->kind == here->kind;
  if (!same_kind || (there->kind == YAML_SCALAR && !same_scalar(there->text, here->text)) ||
      (there->kind == YAML_LIST && there->count != here->count)) {
    node_text(there, a, sizeof a);
    node_text(here, b, sizeof b);
    snprintf(text, size, "%s is %s there and %s here", path, a, b);
    return true;
  }
  if (there->kind == YAML_LIST)
    for (int64_t i = 0; i < there->count; i++) {
      snprintf(deeper, sizeof deeper, "%s[%lld]", path, (long long)i);
      if (nodes_differ(there->child[i], here->child[i], deeper, text, size)) return true;
    }
  if (there->kind == YAML_MAP)
    for (int side = 0; side < 2; side++) {
      const yaml_node *map = side ? here : there;
      for (int64_t i = 0; i < map->count; i++) {
        const yaml_node *other = yaml_get(side ? there : here, map->key[i]);
        if (side && other) continue; // compared from the other side already
        snprintf(deeper, sizeof deeper, "%s%s%s", path, *path ? "." : "", map->key[i]);
        if (nodes_differ(side ? other : map->child[i], side ? map->child[i] : other, deeper, text, size)) return true;
      }
    }
  return false;
}

elbo_status recipe_difference(elbo_ctx *ctx, const char *there, const char *here, char *text, size_t size, bool *differs) {
  arena *a = arena_create(1 << 14);
  if (!a) return fail_memory(ctx, 1 << 14, "two recipes");
  yaml_node *x = NULL, *y = NULL;
  elbo_status status = yaml_parse(ctx, a, "the run's recipe.yaml", there, strlen(there), &x);
  if (status == ELBO_OK) status = yaml_parse(ctx, a, "the recipe", here, strlen(here), &y);
  if (status == ELBO_OK) *differs = nodes_differ(x, y, "", text, size);
  arena_destroy(&a);
  return status;
}

// --- what a directory holds ---

typedef struct contents {
  bool recipe, checkpoint; // recipe.yaml; a finished checkpoint
  bool begun;              // something was trained: there are lines of metrics, checkpoints or stages
  char foreign[256];       // the first entry that no run makes; "" when there is none
} contents;

static bool starts(const char *name, const char *prefix) { return strncmp(name, prefix, strlen(prefix)) == 0; }

static bool is_ours(const char *name) {
  return strcmp(name, ".lock") == 0 || strcmp(name, "checkpoints") == 0 || strcmp(name, "samples") == 0 || strcmp(name, "stages") == 0 ||
         strcmp(name, "latents") == 0 || starts(name, "metrics.jsonl") || starts(name, "recipe.yaml") ||
         starts(name, "events.out.tfevents.");
}

static bool file_is_empty(const char *directory, const char *name) {
  char path[PATH_SIZE];
  struct stat s;
  return snprintf(path, sizeof path, "%s/%s", directory, name) < (int)sizeof path && stat(path, &s) == 0 && s.st_size == 0;
}

static elbo_status look_into(elbo_ctx *ctx, const char *path, contents *c, bool *empty) {
  *c = (contents){0};
  *empty = true;
  DIR *d = opendir(path);
  if (!d) return errno == ENOENT ? ELBO_OK : fail_errno(ctx, path, "cannot be used as a run directory");
  for (struct dirent *e; (e = readdir(d));) {
    if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 || strcmp(e->d_name, ".lock") == 0) continue;
    *empty = false;
    if (strcmp(e->d_name, "recipe.yaml") == 0) c->recipe = true;
    if (strcmp(e->d_name, "stages") == 0) c->begun = true;
    if (strcmp(e->d_name, "metrics.jsonl") == 0) c->begun = c->begun || !file_is_empty(path, e->d_name);
    if (!is_ours(e->d_name) && !c->foreign[0]) snprintf(c->foreign, sizeof c->foreign, "%s", e->d_name);
  }
  closedir(d);
  int64_t *steps, n;
  TRY(checkpoint_list(ctx, path, &steps, &n));
  c->checkpoint = n > 0;
  c->begun = c->begun || n > 0;
  free(steps);
  return ELBO_OK;
}

static elbo_status read_recipe(elbo_ctx *ctx, const char *run, char **text) {
  char path[PATH_SIZE];
  size_t size;
  TRY(path_join(ctx, path, sizeof path, run, "recipe.yaml"));
  return file_read(ctx, path, RECIPE_LIMIT, text, &size);
}

// Whether this run may be made here; changes nothing.
static elbo_status admit(elbo_ctx *ctx, const char *path, bool resume, const char *recipe_text) {
  contents c;
  bool empty;
  TRY(look_into(ctx, path, &c, &empty));
  if (empty || (c.recipe && !c.begun)) return ELBO_OK; // nothing, or what a start that failed has left
  if (!c.recipe && (c.foreign[0] || c.checkpoint))
    return fail(ctx, ELBO_ERROR_STATE, "%s: is not empty and holds no run (found '%s'); choose another directory", path,
                c.foreign[0] ? c.foreign : "checkpoints");
  char text[512] = "";
  bool differs = false;
  if (c.recipe) {
    char *there;
    TRY(read_recipe(ctx, path, &there));
    elbo_status status = recipe_difference(ctx, there, recipe_text, text, sizeof text, &differs);
    free(there);
    TRY(status);
  }
  if (differs) return fail(ctx, ELBO_ERROR_STATE, "%s: holds a run of another recipe: %s", path, text);
  if (!resume) return fail(ctx, ELBO_ERROR_STATE, "%s: holds a run of this recipe already: resume it or choose another directory", path);
  return ELBO_OK;
}

// A run that was killed before its first checkpoint starts anew: its lines, events and pictures are of no use. A temporary recipe is a
// write that was killed.
static elbo_status sweep(elbo_ctx *ctx, const char *run, bool anew) {
  TRY(checkpoint_clean(ctx, run));
  char path[PATH_SIZE];
  DIR *d = opendir(run);
  if (!d) return fail_errno(ctx, run, "cannot list");
  elbo_status status = ELBO_OK;
  for (struct dirent *e; status == ELBO_OK && (e = readdir(d));) {
    bool temporary = starts(e->d_name, "recipe.yaml.tmp-");
    bool log = starts(e->d_name, "events.out.tfevents.") || strcmp(e->d_name, "metrics.jsonl") == 0;
    if (!temporary && !(anew && log)) continue;
    status = path_join(ctx, path, sizeof path, run, e->d_name);
    if (status == ELBO_OK && unlink(path) != 0 && errno != ENOENT) status = fail_errno(ctx, path, "cannot remove");
  }
  closedir(d);
  if (status == ELBO_OK && anew) {
    TRY(path_join(ctx, path, sizeof path, run, "samples"));
    status = directory_remove(ctx, path);
  }
  return status;
}

static elbo_status prepare(elbo_ctx *ctx, run_directory *d, const char *recipe_text) {
  int64_t *steps, n;
  TRY(checkpoint_list(ctx, d->path, &steps, &n));
  d->fresh = n == 0;
  d->step = n ? steps[n - 1] : 0;
  free(steps);
  TRY(sweep(ctx, d->path, d->fresh));
  if (!d->fresh) {
    int64_t step;
    TRY(checkpoint_path(ctx, d->path, d->step, d->checkpoint, sizeof d->checkpoint));
    TRY(checkpoint_read_record(ctx, d->checkpoint, &d->record, &step));
    if (step != d->step) return fail(ctx, ELBO_ERROR_FORMAT, "%s/training/state.json: says step %lld", d->checkpoint, (long long)step);
  } else {
    d->record.best_step = -1;
  }
  sha256 hash;
  sha256_begin(&hash);
  sha256_add(&hash, recipe_text, strlen(recipe_text));
  sha256_end_hex(&hash, d->record.recipe_sha256);
  char path[PATH_SIZE];
  TRY(path_join(ctx, path, sizeof path, d->path, "recipe.yaml"));
  TRY(file_write(ctx, path, recipe_text, strlen(recipe_text)));
  TRY(path_join(ctx, path, sizeof path, d->path, "checkpoints"));
  return directory_make(ctx, path);
}

elbo_status run_directory_open(elbo_ctx *ctx, const char *path, bool resume, const char *recipe_text, run_directory *d) {
  memset(d, 0, sizeof *d);
  d->path = path;
  TRY(admit(ctx, path, resume, recipe_text));
  TRY(directory_make(ctx, path));
  TRY(lock_take(ctx, path, &d->lock));
  elbo_status status = admit(ctx, path, resume, recipe_text); // another process may have come and gone in between
  if (status == ELBO_OK) status = prepare(ctx, d, recipe_text);
  if (status != ELBO_OK) run_directory_close(d);
  return status;
}

elbo_status run_directory_claim(elbo_ctx *ctx, const char *path, bool resume, const char *recipe_text, directory_lock **lock) {
  char file[PATH_SIZE];
  *lock = NULL;
  TRY(admit(ctx, path, resume, recipe_text));
  TRY(directory_make(ctx, path));
  TRY(lock_take(ctx, path, lock));
  elbo_status status = admit(ctx, path, resume, recipe_text);
  if (status == ELBO_OK) status = path_join(ctx, file, sizeof file, path, "stages");
  if (status == ELBO_OK) status = directory_make(ctx, file);
  if (status == ELBO_OK) status = path_join(ctx, file, sizeof file, path, "recipe.yaml");
  if (status == ELBO_OK) status = file_write(ctx, file, recipe_text, strlen(recipe_text));
  if (status != ELBO_OK) lock_release(lock);
  return status;
}

void run_directory_close(run_directory *d) { lock_release(&d->lock); }

// --- for readers of runs ---

bool run_is_run(const char *path) {
  char name[PATH_SIZE];
  if (run_has_stages(path)) return true;
  if (snprintf(name, sizeof name, "%s/recipe.yaml", path) >= (int)sizeof name || !file_exists(name)) return false;
  return snprintf(name, sizeof name, "%s/checkpoints", path) < (int)sizeof name && directory_exists(name);
}

static elbo_status no_such_step(elbo_ctx *ctx, const char *run, int64_t step, const int64_t *steps, int64_t n) {
  char have[256] = "";
  for (int64_t i = 0; i < n; i++) {
    size_t used = strlen(have);
    snprintf(have + used, sizeof have - used, "%s%lld", i ? ", " : "", (long long)steps[i]);
  }
  return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: has no checkpoint of step %lld, only of %s", run, (long long)step, have);
}

elbo_status run_find_checkpoint(elbo_ctx *ctx, const char *whole, int64_t step, char *path, size_t size, int64_t *found_step) {
  char run[PATH_SIZE];
  int64_t *steps, n;
  TRY(run_resolve(ctx, whole, run, sizeof run));
  TRY(checkpoint_list(ctx, run, &steps, &n));
  if (!n) return fail(ctx, ELBO_ERROR_STATE, "%s: has no checkpoint yet", run);
  int64_t found = steps[n - 1];
  elbo_status status = ELBO_OK;
  if (step == -2) {
    run_record record;
    int64_t at;
    status = checkpoint_path(ctx, run, found, path, size);
    if (status == ELBO_OK) status = checkpoint_read_record(ctx, path, &record, &at);
    for (int64_t i = 0; status == ELBO_OK && i < n; i++)
      if (steps[i] == record.best_step) found = steps[i];
  } else if (step >= 0) {
    found = -1;
    for (int64_t i = 0; i < n; i++)
      if (steps[i] == step) found = step;
    if (found < 0) status = no_such_step(ctx, run, step, steps, n);
  }
  free(steps);
  TRY(status);
  if (found_step) *found_step = found;
  return checkpoint_path(ctx, run, found, path, size);
}
