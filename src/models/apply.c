// elbo_apply: any network of a model directory on arrays.
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "core/file.h"
#include "models/model.h"

// Whether a component is a model of another kind than the one that it is in: the autoencoder of a diffusion pipeline.
static elbo_status is_model_apart(elbo_ctx *ctx, const char *folder, const char *parent, bool *out) {
  const char *class_name, *parents_class;
  *out = false;
  arena *a = arena_create(1 << 12);
  if (!a) return fail_memory(ctx, 1 << 12, "a component");
  elbo_status status = model_directory_class(ctx, a, folder, &class_name);
  if (status == ELBO_OK) status = model_directory_class(ctx, a, parent, &parents_class);
  if (status == ELBO_OK) {
    const model_kind *kind = model_kind_of_class(class_name);
    *out = kind && kind != model_kind_of_class(parents_class);
  }
  arena_destroy(&a);
  return status;
}

// MODEL/encoder stands for the encoder of MODEL: *component is then "encoder", else NULL. A component that stands alone is itself a model.
static elbo_status split_component(elbo_ctx *ctx, const char *path, char directory[PATH_MAX], char name[PATH_MAX], const char **component) {
  char config[PATH_MAX + 16], parent[PATH_MAX], index[PATH_MAX + 32];
  *component = NULL;
  snprintf(directory, PATH_MAX, "%s", path);
  size_t length = strlen(directory);
  while (length > 1 && directory[length - 1] == '/') directory[--length] = 0;
  snprintf(config, sizeof config, "%s/config.json", directory);
  if (!file_exists(config)) return ELBO_OK;
  char *slash = strrchr(directory, '/');
  if (slash)
    snprintf(parent, sizeof parent, "%.*s", (int)(slash == directory ? 1 : slash - directory), directory);
  else
    snprintf(parent, sizeof parent, ".");
  snprintf(index, sizeof index, "%s/model_index.json", parent);
  if (!file_exists(index)) return ELBO_OK;
  bool apart;
  TRY(is_model_apart(ctx, directory, parent, &apart));
  if (apart) return ELBO_OK;
  snprintf(name, PATH_MAX, "%s", slash ? slash + 1 : directory);
  snprintf(directory, PATH_MAX, "%s", parent);
  *component = name;
  return ELBO_OK;
}

elbo_status elbo_apply(elbo_ctx *ctx, const char *path, int n_in, const elbo_named_array *in, int n_out, elbo_named_array *out) {
  for (int i = 0; i < n_out; i++) out[i].array = NULL;
  if (n_out < 1 || n_out > APPLY_OUTPUTS)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "apply: %d outputs; 1 to %d were expected", n_out, APPLY_OUTPUTS);
  char directory[PATH_MAX], name[PATH_MAX];
  const char *component;
  elbo_model *m = NULL;
  TRY(split_component(ctx, path, directory, name, &component));
  TRY(elbo_model_load(ctx, directory, NULL, &m));
  elbo_status status = m->kind->apply ? m->kind->apply(m, component, n_in, in, n_out, out)
                                      : fail(ctx, ELBO_ERROR_UNSUPPORTED, "apply: not for this kind of model (%s)", m->kind->preset);
  elbo_model_destroy(&m);
  return status;
}
