// From filled parts to a data set that can be used: sizes, labels, checks, and what each split means.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/philox.h"
#include "data/dataset.h"

// --- size and channels of pixels in memory ---------------------------------------------------------------------------------------------

typedef struct refit {
  elbo_dataset *ds;
  const uint8_t *from;
  uint8_t *to;
  size_t from_bytes, to_bytes;
  atomic_int failed;
} refit;

static elbo_status refit_picture(elbo_dataset *ds, const void *from, size_t bytes, picture *p, picture *q) {
  TRY(picture_reserve(ds->ctx, ds->path, ds->height, ds->width, ds->channels, ds->dtype == ELBO_U8 ? 8 : 16, p));
  memcpy(p->data, from, bytes);
  if (ds->config.channels) TRY(picture_set_channels(ds->ctx, ds->path, (int)ds->config.channels, p));
  if (ds->config.size) TRY(picture_fit(ds->ctx, ds->path, (int)ds->config.size, p, q));
  return ELBO_OK;
}

static void refit_range(void *arg, int64_t begin, int64_t end) {
  refit *r = arg;
  picture p = {0}, q = {0};
  for (int64_t i = begin; i < end; i++) {
    if (refit_picture(r->ds, r->from + (size_t)i * r->from_bytes, r->from_bytes, &p, &q) != ELBO_OK)
      atomic_store(&r->failed, 1);
    else
      memcpy(r->to + (size_t)i * r->to_bytes, p.data, r->to_bytes);
  }
  picture_free(&p), picture_free(&q);
}

static elbo_status fit_memory(elbo_dataset *ds) {
  int64_t size = ds->config.size, channels = ds->config.channels ? ds->config.channels : ds->channels;
  int64_t h = size ? size : ds->height, w = size ? size : ds->width;
  if (h == ds->height && w == ds->width && channels == ds->channels) return ELBO_OK;
  for (int s = 0; s < 3; s++)
    if (ds->part[s].walk_ops) return ELBO_OK; // decoded to shape as they come
  if (ds->dtype == ELBO_F32 || !ds->image || ds->part[0].make || ds->part[1].make || ds->part[2].make)
    return fail(ds->ctx, ELBO_ERROR_ARGUMENT, "%s: data.size and data.channels change pictures of 8 or 16 bits; these are (%d,%d,%d) %s",
                ds->path, ds->height, ds->width, ds->channels, elbo_dtype_name(ds->dtype));
  size_t to_bytes = (size_t)(h * w * channels) * elbo_dtype_size(ds->dtype);
  for (int s = 0; s < 3; s++) {
    example_part *part = &ds->part[s];
    if (!part->count) continue;
    int64_t total;
    if (!checked_mul(part->count, (int64_t)to_bytes, &total))
      return fail(ds->ctx, ELBO_ERROR_ARGUMENT, "%s: data.size is too large", ds->path);
    refit r = {.ds = ds, .from = part->pixels, .from_bytes = dataset_example_bytes(ds), .to_bytes = to_bytes, .to = malloc((size_t)total)};
    if (!r.to) return fail_memory(ds->ctx, (size_t)total, "resized pictures");
    parallel_for(&ds->ctx->pool, part->count, 8, refit_range, &r);
    part_free_pixels(part);
    part->pixels = r.to;
    if (atomic_load(&r.failed)) return fail_memory(ds->ctx, (size_t)total, "resized pictures");
  }
  ds->height = (int)h, ds->width = (int)w, ds->channels = (int)channels;
  return ELBO_OK;
}

// --- checks ------------------------------------------------------------------------------------------------------------------------

static elbo_status check_labels(elbo_dataset *ds) {
  int64_t classes = 0;
  ds->labels = true;
  for (int s = 0; s < 3; s++)
    if (ds->part[s].count && !ds->part[s].label && !ds->part[s].make) ds->labels = false;
  if (!ds->labels) {
    if (ds->config.classes)
      return fail(ds->ctx, ELBO_ERROR_ARGUMENT, "%s: data.classes = %lld, but the data have no labels", ds->path,
                  (long long)ds->config.classes);
    return ELBO_OK;
  }
  for (int s = 0; s < 3; s++)
    for (int64_t i = 0; ds->part[s].label && i < ds->part[s].count; i++) {
      int32_t v = ds->part[s].label[i];
      if (v < 0 || v >= 1 << 20)
        return fail(ds->ctx, ELBO_ERROR_FORMAT, "%s: label %d of example %lld; expected 0 to %d", ds->path, (int)v, (long long)i,
                    (1 << 20) - 1);
      if (ds->config.classes && v >= ds->config.classes)
        return fail(ds->ctx, ELBO_ERROR_ARGUMENT, "%s: label %d of example %lld, but data.classes = %lld", ds->path, (int)v, (long long)i,
                    (long long)ds->config.classes);
      if (v + 1 > classes) classes = v + 1;
    }
  if (ds->config.classes) classes = ds->config.classes;
  if (ds->class_names && classes > ds->classes)
    return fail(ds->ctx, ELBO_ERROR_ARGUMENT, "data.classes = %lld, but %s names %d classes", (long long)classes, ds->path, ds->classes);
  if (classes > ds->classes) ds->classes = (int)classes;
  if (ds->classes == 0) ds->labels = false;
  return ELBO_OK;
}

static elbo_status check_floats(elbo_dataset *ds) {
  if (ds->dtype != ELBO_F32) return ELBO_OK;
  size_t n = dataset_example_bytes(ds) / sizeof(float);
  for (int s = 0; s < 3; s++) {
    const float *x = ds->part[s].pixels;
    for (int64_t i = 0; x && i < ds->part[s].count; i++, x += n)
      for (size_t j = 0; j < n; j++) {
        if (!isfinite(x[j]))
          return fail(ds->ctx, ELBO_ERROR_NUMERIC, "%s: example %lld holds %s at element %zu", ds->path, (long long)i,
                      isnan(x[j]) ? "NaN" : "an infinite value", j);
        if (ds->config.binarize != BINARIZE_NONE && (x[j] < 0 || x[j] > 1))
          return fail(ds->ctx, ELBO_ERROR_ARGUMENT, "%s: data.binarize needs values in 0..1; example %lld holds %g at element %zu",
                      ds->path, (long long)i, (double)x[j], j);
      }
  }
  return ELBO_OK;
}

static elbo_status check_options(elbo_dataset *ds) {
  const data_config *o = &ds->config;
  if (o->pad && !o->crop) return fail(ds->ctx, ELBO_ERROR_ARGUMENT, "data.pad needs data.crop");
  if (o->crop && (o->crop > ds->height + 2 * o->pad || o->crop > ds->width + 2 * o->pad))
    return fail(ds->ctx, ELBO_ERROR_ARGUMENT, "data.crop = %lld, but the pictures of %s have %d x %d pixels and data.pad = %lld",
                (long long)o->crop, ds->path, ds->width, ds->height, (long long)o->pad);
  if (o->dequantize != DEQUANTIZE_NONE && ds->dtype == ELBO_F32)
    return fail(ds->ctx, ELBO_ERROR_ARGUMENT, "data.dequantize needs 8- or 16-bit data; %s holds float32", ds->path);
  if (o->dequantize != DEQUANTIZE_NONE && o->binarize != BINARIZE_NONE)
    return fail(ds->ctx, ELBO_ERROR_ARGUMENT, "data.dequantize and data.binarize exclude each other");
  if (!ds->image && (o->crop || o->flip))
    return fail(ds->ctx, ELBO_ERROR_ARGUMENT, "data.crop and data.flip need pictures; %s holds vectors", ds->path);
  return ELBO_OK;
}

// --- views -------------------------------------------------------------------------------------------------------------------------

static int compare_index(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

static elbo_status make_view(elbo_dataset *ds, split_view *view, int part, const int64_t *from, int64_t count) {
  *view = (split_view){.part = part, .count = count};
  if (!from || count == 0) return ELBO_OK;
  TRY(array_new(ds->ctx, (size_t)count, sizeof(int64_t), "split", (void **)&view->index));
  memcpy(view->index, from, (size_t)count * sizeof(int64_t));
  qsort(view->index, (size_t)count, sizeof(int64_t), compare_index);
  return ELBO_OK;
}

static elbo_status make_views(elbo_dataset *ds) {
  int64_t n = ds->part[ELBO_SPLIT_TRAIN].count, holdout = ds->config.holdout, limit = ds->config.limit;
  bool have_test = ds->part[ELBO_SPLIT_TEST].count > 0, have_valid = ds->part[ELBO_SPLIT_VALID].count > 0;
  if (have_valid && holdout > 0)
    return fail(ds->ctx, ELBO_ERROR_ARGUMENT, "%s has a validation part of its own (%lld examples): data.holdout must not be set", ds->path,
                (long long)ds->part[ELBO_SPLIT_VALID].count);
  if (holdout < 0) holdout = have_test || have_valid ? 0 : n / 10 < 5000 ? n / 10 : 5000;
  if (holdout >= n && holdout > 0)
    return fail(ds->ctx, ELBO_ERROR_ARGUMENT, "data.holdout = %lld, but %s has %lld training examples", (long long)holdout, ds->path,
                (long long)n);
  if (!limit || limit > n - holdout) limit = n - holdout;
  int64_t *order = NULL;
  elbo_status status = ELBO_OK;
  if (holdout || limit < n) {
    TRY(array_new(ds->ctx, (size_t)n, sizeof(int64_t), "split", (void **)&order));
    philox_permutation((uint64_t)ds->config.seed, philox_stream("holdout"), n, order);
  }
  TRY_GOTO(make_view(ds, &ds->view[ELBO_SPLIT_TRAIN], ELBO_SPLIT_TRAIN, order ? order + holdout : NULL, limit));
  if (have_valid)
    ds->view[ELBO_SPLIT_VALID] = (split_view){.part = ELBO_SPLIT_VALID, .count = ds->part[ELBO_SPLIT_VALID].count};
  else
    TRY_GOTO(make_view(ds, &ds->view[ELBO_SPLIT_VALID], ELBO_SPLIT_TRAIN, order, holdout));
  if (have_test) {
    ds->view[ELBO_SPLIT_TEST] = (split_view){.part = ELBO_SPLIT_TEST, .count = ds->part[ELBO_SPLIT_TEST].count};
  } else {
    ds->view[ELBO_SPLIT_TEST] = ds->view[ELBO_SPLIT_VALID];
    ds->view[ELBO_SPLIT_TEST].borrowed = true;
  }
fail:
  free(order);
  return status;
}

elbo_status dataset_finish(elbo_dataset *ds) {
  int64_t total = 0;
  for (int s = 0; s < 3; s++) {
    total += ds->part[s].count;
    ds->captions = ds->captions || ds->part[s].caption.count || ds->part[s].describe;
  }
  if (total == 0) return fail(ds->ctx, ELBO_ERROR_FORMAT, "%s: holds no examples", ds->path);
  TRY(fit_memory(ds));
  TRY(check_options(ds));
  TRY(check_labels(ds));
  TRY(check_floats(ds));
  return make_views(ds);
}
