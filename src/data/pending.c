// Formats that are on their way.
#include "data/dataset.h"

elbo_status folder_open(elbo_dataset *ds, const char *path) {
  return fail(ds->ctx, ELBO_ERROR_UNSUPPORTED, "%s: picture folders are not read yet", path);
}
elbo_status tar_open(elbo_dataset *ds, int n, char *const *paths) {
  return fail(ds->ctx, ELBO_ERROR_UNSUPPORTED, "%s: tar shards are not read yet", n ? paths[0] : "");
}
elbo_status shapes_open(elbo_dataset *ds, int n, const char *const *options) {
  (void)n, (void)options;
  return fail(ds->ctx, ELBO_ERROR_UNSUPPORTED, "shapes: not built yet");
}
elbo_status densities_open(elbo_dataset *ds, const char *name, int n, const char *const *options) {
  (void)n, (void)options;
  return fail(ds->ctx, ELBO_ERROR_UNSUPPORTED, "%s: not built yet", name);
}
bool density_known(const char *name) {
  (void)name;
  return false;
}
