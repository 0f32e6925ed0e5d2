// Conditions: what goes with each example and is told to a conditional model, a vector of numbers [Sohn15] or a sequence of embeddings,
// such as a text encoder makes of a caption. They come with the examples (.npz), from a file of their own, or from what a built-in set
// knows about its examples.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/memory.h"
#include "core/philox.h"
#include "data/dataset.h"
#include "data/npy.h"
#include "data/recognise.h"

static const char *const PART_NAMES[3] = {"training", "validation", "test"};

int64_t dataset_condition_size(const elbo_dataset *ds) {
  return (int64_t)ds->condition_dim * (ds->condition_tokens ? ds->condition_tokens : 1);
}

// "vectors of 5 numbers", "sequences of 77 embeddings of 768 numbers"
static const char *kind_text(int64_t tokens, int64_t dim, char text[96]) {
  if (tokens)
    snprintf(text, 96, "sequences of %lld embeddings of %lld numbers", (long long)tokens, (long long)dim);
  else
    snprintf(text, 96, "vectors of %lld numbers", (long long)dim);
  return text;
}

// Rows [first, first + part->count) of an array (rows), (rows,D) or (rows,N,D), which check_rows has let through.
static elbo_status keep_rows(elbo_dataset *ds, example_part *part, const char *name, const elbo_array *rows, int64_t first) {
  int64_t tokens = rows->rank == 3 ? rows->dim[1] : 0, dim = rows->rank > 1 ? rows->dim[rows->rank - 1] : 1;
  if (ds->condition_dim && (ds->condition_dim != dim || ds->condition_tokens != tokens)) {
    char have[96], other[96];
    return fail(ds->ctx, ELBO_ERROR_FORMAT, "%s: conditions are %s where the other part of the data has %s", name,
                kind_text(tokens, dim, have), kind_text(ds->condition_tokens, ds->condition_dim, other));
  }
  int64_t size = dim * (tokens ? tokens : 1);
  elbo_array *values;
  TRY(elbo_array_convert(ds->ctx, rows, ELBO_F32, &values));
  const float *from = (const float *)values->data + first * size;
  elbo_status status = ELBO_OK;
  for (int64_t i = 0; status == ELBO_OK && i < part->count * size; i++)
    if (!isfinite(from[i]))
      status = fail(ds->ctx, ELBO_ERROR_NUMERIC, "%s: the condition of example %lld holds %s at element %lld", name, (long long)(i / size),
                    isnan(from[i]) ? "NaN" : "an infinite value", (long long)(i % size));
  free(part->condition);
  part->condition = NULL;
  if (status == ELBO_OK) status = array_new(ds->ctx, (size_t)(part->count * size), sizeof(float), "conditions", (void **)&part->condition);
  if (status == ELBO_OK) {
    memcpy(part->condition, from, (size_t)(part->count * size) * sizeof(float));
    ds->condition_tokens = (int)tokens, ds->condition_dim = (int)dim;
  }
  elbo_array_destroy(&values);
  return status;
}

static elbo_status check_rows(elbo_dataset *ds, const char *name, const elbo_array *rows, int64_t wanted, const char *of) {
  bool good = rows->rank >= 1 && rows->rank <= 3 && rows->dim[0] == wanted;
  for (int i = 1; i < rows->rank && good; i++) good = rows->dim[i] >= 1 && rows->dim[i] <= 65536;
  if (good) return ELBO_OK;
  char shape[96] = "";
  for (int i = 0; i < rows->rank && i < 4; i++)
    snprintf(shape + strlen(shape), sizeof shape - strlen(shape), "%s%lld", i ? "," : "", (long long)rows->dim[i]);
  return fail(ds->ctx, ELBO_ERROR_FORMAT,
              "%s: conditions: an array (%lld,numbers) of vectors or (%lld,embeddings,numbers) of sequences was expected, one row for each "
              "of the %s; it is (%s)",
              name, (long long)wanted, (long long)wanted, of, shape);
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
    if (ds->part[s].count) ds->condition_dim = ds->part[s].attribute_count, ds->condition_tokens = 0;
  return ELBO_OK;
}

// All parts' conditions in one array, train, valid and test one behind the other.
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
  ds->condition_dim = ds->condition_tokens = 0;
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
      return fail(ds->ctx, ELBO_ERROR_FORMAT, "%s: the %s examples have no conditions, others have", ds->path, PART_NAMES[s]);
  return ELBO_OK;
}

void dataset_condition(const elbo_dataset *ds, int which, int64_t index, float *out) {
  const example_part *part = &ds->part[which];
  if (part->condition)
    memcpy(out, part->condition + index * dataset_condition_size(ds), (size_t)dataset_condition_size(ds) * sizeof *out);
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
  const int64_t vectors[2] = {count, ds->condition_dim}, sequences[3] = {count, ds->condition_tokens, ds->condition_dim};
  const bool sequence = ds->condition_tokens > 0;
  elbo_status status = elbo_array_create(ds->ctx, ELBO_F32, sequence ? 3 : 2, sequence ? sequences : vectors, condition);
  for (int64_t i = 0; status == ELBO_OK && i < count; i++) {
    int64_t at = order[first + i];
    dataset_condition(ds, view->part, view->index ? view->index[at] : at, (float *)(*condition)->data + i * dataset_condition_size(ds));
  }
  free(order);
  return status;
}
