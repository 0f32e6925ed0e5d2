// Data sets of .npy and .npz files. One .npz may hold everything (x_train, y_train, x_test, y_test, as Keras packs them, or x and y); .npy
// files in a folder are told apart by name.
#include <string.h>

#include "core/file.h"
#include "data/dataset.h"
#include "data/npy.h"
#include "data/recognise.h"

static const char *const X_NAMES[3][5] = {{"x_train", "train_x", "train_images", "images_train", "X_train"},
                                          {"x_valid", "x_val", "valid_x", "val_x", "val_images"},
                                          {"x_test", "test_x", "test_images", "images_test", "X_test"}};
static const char *const Y_NAMES[3][5] = {{"y_train", "train_y", "train_labels", "labels_train", "Y_train"},
                                          {"y_valid", "y_val", "valid_y", "val_y", "val_labels"},
                                          {"y_test", "test_y", "test_labels", "labels_test", "Y_test"}};
static const char *const CONDITION_NAMES[3][3] = {{"condition_train", "train_condition", "c_train"},
                                                  {"condition_valid", "valid_condition", "c_valid"},
                                                  {"condition_test", "test_condition", "c_test"}};
static const char *const PLAIN_CONDITION[] = {"condition", "conditions", "c"};
static const char *const PLAIN_X[] = {"x", "X", "images", "data", "arr_0"};
static const char *const PLAIN_Y[] = {"y", "Y", "label", "labels", "arr_1"};

static elbo_status open_npz(elbo_dataset *ds, const char *path) {
  elbo_ctx *ctx = ds->ctx;
  bool any = false;
  for (int s = 0; s < 4; s++) { // the three named parts, then plain names
    elbo_array *x = NULL, *y = NULL, *condition = NULL;
    if (s == 3 && any) break;
    elbo_status status = npz_find(ctx, path, 5, s < 3 ? X_NAMES[s] : PLAIN_X, &x);
    if (status == ELBO_OK && x) status = npz_find(ctx, path, 5, s < 3 ? Y_NAMES[s] : PLAIN_Y, &y);
    if (status == ELBO_OK && x) status = npz_find(ctx, path, 3, s < 3 ? CONDITION_NAMES[s] : PLAIN_CONDITION, &condition);
    if (status == ELBO_OK && x) {
      elbo_split split = s < 3 ? (elbo_split)s : split_of_name(path);
      status = part_take_array(ds, split, path, &x, y);
      if (status == ELBO_OK && condition) status = part_set_condition(ds, &ds->part[split], path, condition);
      any = true;
    }
    elbo_array_destroy(&x), elbo_array_destroy(&y), elbo_array_destroy(&condition);
    TRY(status);
  }
  if (any) return ELBO_OK;
  elbo_array *only = NULL;
  elbo_status status = npz_find(ctx, path, 0, NULL, &only);
  if (status == ELBO_OK && only)
    status = part_take_array(ds, split_of_name(path), path, &only, NULL);
  else if (status == ELBO_OK)
    status = fail(ctx, ELBO_ERROR_FORMAT, "%s: no .npy array in it", path);
  else
    status = fail(ctx, ELBO_ERROR_FORMAT, "%s: expected arrays x and y (or x_train, y_train, x_test, y_test) in it", path);
  elbo_array_destroy(&only);
  return status;
}

// Labels: an array of one dimension, or a name that says so.
static bool names_labels(const char *path) {
  const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
  return strstr(name, "label") || !strncmp(name, "y_", 2) || !strncmp(name, "y.", 2) || strstr(name, "_y.");
}

static elbo_status open_npy(elbo_dataset *ds, const file_list *files) {
  elbo_array *x[3] = {0}, *y[3] = {0};
  const char *name[3] = {0};
  elbo_status status = ELBO_OK;
  for (int64_t i = 0; i < files->count && status == ELBO_OK; i++) {
    elbo_array *a;
    status = elbo_npy_read(ds->ctx, files->path[i], &a);
    if (status != ELBO_OK) break;
    elbo_split split = split_of_name(files->path[i]);
    bool label = a->rank <= 1 || names_labels(files->path[i]);
    elbo_array **place = label ? &y[split] : &x[split];
    if (*place) {
      status = fail(ds->ctx, ELBO_ERROR_ARGUMENT, "%s: a second .npy file of %s for one split; name one of them", files->path[i],
                    label ? "labels" : "examples");
      elbo_array_destroy(&a);
      break;
    }
    *place = a;
    if (!label) name[split] = files->path[i];
  }
  for (int s = 0; s < 3; s++) {
    if (status == ELBO_OK && x[s])
      status = part_take_array(ds, (elbo_split)s, name[s], &x[s], y[s]);
    else if (status == ELBO_OK && y[s] && !x[s])
      status = fail(ds->ctx, ELBO_ERROR_FORMAT, "%s: labels (an array of one dimension), but no examples beside them", ds->path);
    elbo_array_destroy(&x[s]), elbo_array_destroy(&y[s]);
  }
  return status;
}

elbo_status npy_open(elbo_dataset *ds, const char *path) {
  file_list files = {0};
  ds->format = "npy";
  elbo_status status;
  if (file_exists(path) && !directory_exists(path)) {
    if (recognise_file(path) == DATA_FILE_NPZ) return open_npz(ds, path);
    status = file_list_add(ds->ctx, &files, path);
  } else {
    status = file_list_kind(ds->ctx, path, DATA_FILE_NPZ, &files);
    if (status == ELBO_OK && files.count > 1)
      status = fail(ds->ctx, ELBO_ERROR_ARGUMENT, "%s: %lld .npz files; name one of them", path, (long long)files.count);
    if (status == ELBO_OK && files.count == 1) {
      status = open_npz(ds, files.path[0]);
      file_list_free(&files);
      return status;
    }
    if (status == ELBO_OK) status = file_list_kind(ds->ctx, path, DATA_FILE_NPY, &files);
  }
  if (status == ELBO_OK) status = open_npy(ds, &files);
  file_list_free(&files);
  return status;
}
