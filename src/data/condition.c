// Condition vectors: numbers that go with each example and that a conditional model is told [Sohn15]. They come with the examples (.npz),
// from a file of their own, or from what a built-in set knows about its examples.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/memory.h"
#include "core/philox.h"
#include "data/dataset.h"
#include "data/npy.h"
#include "data/recognise.h"

static const char *const PART_NAMES[3] = {"training", "validation", "test"};

// Rows [first, first + part->count) of an array (rows) or (rows,D), which the caller has found to be long enough.
static elbo_status keep_rows(elbo_dataset *ds, example_part *part, const char *name, const elbo_array *rows, int64_t first) {
  int64_t dim = rows->rank == 2 ? rows->dim[1] : 1;
  if (ds->condition_dim && ds->condition_dim != dim)
    return fail(ds->ctx, ELBO_ERROR_FORMAT, "%s: condition vectors of %lld numbers where the other part of the data has %d", name,
                (long long)dim, ds->condition_dim);
  elbo_array *values;
  TRY(elbo_array_convert(ds->ctx, rows, ELBO_F32, &values));
  const float *from = (const float *)values->data + first * dim;
  elbo_status status = ELBO_OK;
  for (int64_t i = 0; status == ELBO_OK && i < part->count * dim; i++)
    if (!isfinite(from[i]))
      status = fail(ds->ctx, ELBO_ERROR_NUMERIC, "%s: the condition of example %lld holds %s at element %lld", name, (long long)(i / dim),
                    isnan(from[i]) ? "NaN" : "an infinite value", (long long)(i % dim));
  free(part->condition);
  part->condition = NULL;
  if (status == ELBO_OK) status = array_new(ds->ctx, (size_t)(part->count * dim), sizeof(float), "conditions", (void **)&part->condition);
  if (status == ELBO_OK) {
    memcpy(part->condition, from, (size_t)(part->count * dim) * sizeof(float));
    ds->condition_dim = (int)dim;
  }
  elbo_array_destroy(&values);
  return status;
}

static elbo_status check_rows(elbo_dataset *ds, const char *name, const elbo_array *rows, int64_t wanted, const char *of) {
  if (rows->rank >= 1 && rows->rank <= 2 && rows->dim[0] == wanted && (rows->rank == 1 || (rows->dim[1] >= 1 && rows->dim[1] <= 65536)))
    return ELBO_OK;
  return fail(ds->ctx, ELBO_ERROR_FORMAT,
              "%s: conditions: an array (%lld,numbers) was expected, one row for each of the %s; it has %d axes%s%lld", name,
              (long long)wanted, of, rows->rank,
              rows->rank ? ", the first of " : " and no rows: ", rows->rank ? (long long)rows->dim[0] : 0LL);
}

elbo_status part_set_condition(elbo_dataset *ds, example_part *part, const char *name, const elbo_array *condition) {
  TRY(check_rows(ds, name, condition, part->count, "examples"));
  return keep_rows(ds, part, name, condition, 0);
}

static elbo_status take_attributes(elbo_dataset *ds) {
  for (int s = 0; s < 3; s++)
    if (ds->part[s].count && !ds->part[s].attributes)
      return fail(ds->ctx, ELBO_ERROR_ARGUMENT, "%s: data.condition: attributes are known of the built-in shapes alone", ds->path);
  for (int s = 0; s < 3; s++)
    if (ds->part[s].count) ds->condition_dim = ds->part[s].attribute_count;
  return ELBO_OK;
}

// All parts' vectors in one array, train, valid and test one behind the other.
static elbo_status take_npy(elbo_dataset *ds, const char *path) {
  elbo_array *all = NULL;
  int64_t total = 0, first = 0;
  for (int s = 0; s < 3; s++) total += ds->part[s].count;
  TRY(elbo_npy_read(ds->ctx, path, &all));
  elbo_status status = check_rows(ds, path, all, total, "training, validation and test examples in this order");
  for (int s = 0; s < 3 && status == ELBO_OK; s++)
    if (ds->part[s].count) status = keep_rows(ds, &ds->part[s], path, all, first), first += ds->part[s].count;
  elbo_array_destroy(&all);
  return status;
}

static elbo_status take_npz(elbo_dataset *ds, const char *path) {
  static const char *const NAMES[3] = {"condition_train", "condition_valid", "condition_test"};
  bool alone = ds->part[ELBO_SPLIT_TRAIN].count && !ds->part[ELBO_SPLIT_VALID].count && !ds->part[ELBO_SPLIT_TEST].count;
  for (int s = 0; s < 3; s++) {
    if (!ds->part[s].count) continue;
    const char *names[2] = {NAMES[s], "condition"};
    elbo_array *rows = NULL;
    TRY(npz_find(ds->ctx, path, alone ? 2 : 1, names, &rows));
    if (!rows) return fail(ds->ctx, ELBO_ERROR_FORMAT, "%s: no array '%s' in it, for the %s examples", path, NAMES[s], PART_NAMES[s]);
    elbo_status status = part_set_condition(ds, &ds->part[s], path, rows);
    elbo_array_destroy(&rows);
    TRY(status);
  }
  return ELBO_OK;
}

static elbo_status take_file(elbo_dataset *ds, const char *path) {
  if (!file_exists(path)) return fail(ds->ctx, ELBO_ERROR_IO, "data.condition: '%s': no such file", path);
  for (int s = 0; s < 3; s++) { // it counts instead of what came with the examples
    free(ds->part[s].condition);
    ds->part[s].condition = NULL;
  }
  ds->condition_dim = 0;
  switch (recognise_file(path)) {
  case DATA_FILE_NPY: return take_npy(ds, path);
  case DATA_FILE_NPZ: return take_npz(ds, path);
  default:
    return fail(ds->ctx, ELBO_ERROR_ARGUMENT,
                "data.condition: '%s': a .npy or .npz file, or attributes (of the built-in shapes) was expected", path);
  }
}

elbo_status dataset_open_condition(elbo_dataset *ds, const char *source) {
  if (source && !strcmp(source, "attributes")) return take_attributes(ds);
  if (source && *source) TRY(take_file(ds, source));
  for (int s = 0; s < 3; s++)
    if (ds->condition_dim && ds->part[s].count && !ds->part[s].condition)
      return fail(ds->ctx, ELBO_ERROR_FORMAT, "%s: the %s examples have no condition vectors, others have", ds->path, PART_NAMES[s]);
  return ELBO_OK;
}

void dataset_condition(const elbo_dataset *ds, int which, int64_t index, float *out) {
  const example_part *part = &ds->part[which];
  if (part->condition)
    memcpy(out, part->condition + index * ds->condition_dim, (size_t)ds->condition_dim * sizeof *out);
  else
    part->attributes(part->user, index, out);
}

elbo_status elbo_dataset_read_condition(elbo_dataset *ds, elbo_split split, int64_t first, int64_t count, int shuffle, uint64_t seed,
                                        elbo_array **condition) {
  *condition = NULL;
  if ((unsigned)split > ELBO_SPLIT_TEST || first < 0 || count < 0)
    return fail(ds->ctx, ELBO_ERROR_ARGUMENT, "reading the conditions of %lld examples from %lld of split %d", (long long)count,
                (long long)first, (int)split);
  if (!ds->condition_dim) return ELBO_OK;
  const split_view *view = &ds->view[split];
  if (first > view->count) first = view->count;
  if (count > view->count - first) count = view->count - first;
  int64_t *order = NULL;
  TRY(dataset_read_order(ds, split, shuffle, seed, &order));
  elbo_status status = elbo_array_create(ds->ctx, ELBO_F32, 2, (int64_t[]){count, ds->condition_dim}, condition);
  for (int64_t i = 0; status == ELBO_OK && i < count; i++) {
    int64_t at = order[first + i];
    dataset_condition(ds, view->part, view->index ? view->index[at] : at, (float *)(*condition)->data + i * ds->condition_dim);
  }
  free(order);
  return status;
}
