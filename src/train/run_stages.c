#include "train/run_stages.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/config.h"
#include "core/file.h"
#include "train/checkpoint.h"

enum { PATH_SIZE = 4096, MOST_STAGES = 99 };

elbo_status run_stage_path(elbo_ctx *ctx, const char *run, int index, const char *name, char *path, size_t size) {
  char part[128];
  snprintf(part, sizeof part, "stages/%d-%.100s", index + 1, name);
  return path_join(ctx, path, size, run, part);
}

bool run_has_stages(const char *path) {
  char name[PATH_SIZE];
  if (snprintf(name, sizeof name, "%s/recipe.yaml", path) >= (int)sizeof name || !file_exists(name)) return false;
  return snprintf(name, sizeof name, "%s/stages", path) < (int)sizeof name && directory_exists(name);
}

elbo_status run_stage_progress(elbo_ctx *ctx, const char *stage, int64_t *step, int64_t *steps) {
  char path[PATH_SIZE];
  int64_t *all, n;
  *step = -1, *steps = 0;
  TRY(checkpoint_list(ctx, stage, &all, &n));
  if (n) *step = all[n - 1];
  free(all);
  if (!n) return ELBO_OK;
  arena *a = arena_create(1 << 14);
  if (!a) return fail_memory(ctx, 1 << 14, "a recipe");
  yaml_node *root = NULL;
  elbo_status status = path_join(ctx, path, sizeof path, stage, "recipe.yaml");
  if (status == ELBO_OK) status = yaml_read(ctx, a, path, &root);
  const yaml_node *value = status == ELBO_OK ? yaml_get(yaml_get(root, "train"), "steps") : NULL;
  if (status == ELBO_OK && (!value || value->kind != YAML_SCALAR || (*steps = strtoll(value->text, NULL, 10)) < 1))
    status = fail(ctx, ELBO_ERROR_FORMAT, "%s: train.steps: a number of steps was expected", path);
  arena_destroy(&a);
  return status;
}

// The names "N-NAME" of directories in RUN/stages by their numbers; freed by the caller, each.
static elbo_status list_stages(elbo_ctx *ctx, const char *run, char *name[MOST_STAGES]) {
  char path[PATH_SIZE], stage[PATH_SIZE];
  memset(name, 0, MOST_STAGES * sizeof *name);
  TRY(path_join(ctx, path, sizeof path, run, "stages"));
  DIR *d = opendir(path);
  if (!d) return fail_errno(ctx, path, "cannot list");
  elbo_status status = ELBO_OK;
  for (struct dirent *e; status == ELBO_OK && (e = readdir(d));) {
    char *end;
    long at = e->d_name[0] >= '1' && e->d_name[0] <= '9' ? strtol(e->d_name, &end, 10) : 0;
    if (at < 1 || at > MOST_STAGES || *end != '-' || name[at - 1]) continue;
    status = path_join(ctx, stage, sizeof stage, path, e->d_name);
    if (status != ELBO_OK || !directory_exists(stage)) continue;
    name[at - 1] = string_copy(e->d_name);
    if (!name[at - 1]) status = fail_memory(ctx, strlen(e->d_name), "a stage's name");
  }
  closedir(d);
  return status;
}

elbo_status run_resolve(elbo_ctx *ctx, const char *path, char *out, size_t size) {
  if (!run_has_stages(path)) {
    if (strlen(path) >= size) return fail(ctx, ELBO_ERROR_ARGUMENT, "the path is longer than %zu bytes", size);
    strcpy(out, path);
    return ELBO_OK;
  }
  char *name[MOST_STAGES], part[512], stage[PATH_SIZE];
  elbo_status status = list_stages(ctx, path, name);
  bool found = false, finished = true;
  for (int i = 0; status == ELBO_OK && finished && i < MOST_STAGES && name[i]; i++) {
    int64_t step, steps;
    snprintf(part, sizeof part, "stages/%s", name[i]);
    status = path_join(ctx, stage, sizeof stage, path, part);
    if (status == ELBO_OK) status = run_stage_progress(ctx, stage, &step, &steps);
    finished = status == ELBO_OK && step >= steps && step >= 0;
    if (status != ELBO_OK || (!finished && found)) continue; // a later one that is under way is not asked
    if (strlen(stage) >= size) status = fail(ctx, ELBO_ERROR_ARGUMENT, "%s: the path is longer than %zu bytes", path, size);
    if (status == ELBO_OK) strcpy(out, stage);
    found = true;
  }
  for (int i = 0; i < MOST_STAGES; i++) free(name[i]);
  TRY(status);
  return found ? ELBO_OK : fail(ctx, ELBO_ERROR_STATE, "%s: a run of several stages, whose first has not begun or is gone", path);
}
