#include "core/safetensors.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/json.h"
#include "core/memory.h"

enum { HEADER_MAX = 100 << 20, VIEW_RANK_MAX = 8 };

static const struct {
  const char *name;
  size_t size;
} element[ELBO_DTYPE_COUNT] = {
    [ELBO_F32] = {"F32", 4}, [ELBO_F64] = {"F64", 8}, [ELBO_F16] = {"F16", 2},   [ELBO_BF16] = {"BF16", 2}, [ELBO_I64] = {"I64", 8},
    [ELBO_I32] = {"I32", 4}, [ELBO_I16] = {"I16", 2}, [ELBO_I8] = {"I8", 1},     [ELBO_U64] = {"U64", 8},   [ELBO_U32] = {"U32", 4},
    [ELBO_U16] = {"U16", 2}, [ELBO_U8] = {"U8", 1},   [ELBO_BOOL] = {"BOOL", 1},
};

struct safetensors {
  const char *path;
  const void *map;
  size_t map_size;
  json_t *header;
  const tensor_view *views; // in name order
  int64_t count;
};

// Everything that is read while a file is opened.
typedef struct opening {
  elbo_ctx *ctx;
  const char *path;
  const char *data; // behind the header
  int64_t data_size;
} opening;

static elbo_status read_shape(const opening *o, const json_t *entry, tensor_view *v, int64_t *bytes) {
  const json_t *shape = json_object_get(entry, "shape");
  if (!json_is_array(shape)) return fail(o->ctx, ELBO_ERROR_FORMAT, "%s: tensor '%s': shape; expected a list", o->path, v->name);
  size_t rank = json_array_size(shape);
  if (rank > VIEW_RANK_MAX)
    return fail(o->ctx, ELBO_ERROR_UNSUPPORTED, "%s: tensor '%s': %zu dimensions; expected at most %d", o->path, v->name, rank,
                VIEW_RANK_MAX);
  v->rank = (int)rank;
  *bytes = (int64_t)element[v->dtype].size;
  bool fits = true, empty = false;
  for (int i = 0; i < v->rank; i++) {
    const json_t *dim = json_array_get(shape, (size_t)i);
    if (!json_is_integer(dim) || json_integer_value(dim) < 0)
      return fail(o->ctx, ELBO_ERROR_FORMAT, "%s: tensor '%s': shape[%d]; expected a whole number, 0 or more", o->path, v->name, i);
    v->dim[i] = json_integer_value(dim);
    if (v->dim[i] == 0) empty = true;
    fits = fits && (v->dim[i] == 0 || checked_mul(*bytes, v->dim[i], bytes));
  }
  if (empty) *bytes = 0;
  if (!fits) return fail(o->ctx, ELBO_ERROR_FORMAT, "%s: tensor '%s': shape too large", o->path, v->name);
  return ELBO_OK;
}

static elbo_status read_entry(const opening *o, const char *name, const json_t *entry, tensor_view *v) {
  int64_t bytes, offset[2];
  v->name = name;
  if (!json_is_object(entry)) return fail(o->ctx, ELBO_ERROR_FORMAT, "%s: tensor '%s': expected an object", o->path, name);
  const char *dtype = json_string_value(json_object_get(entry, "dtype"));
  if (!dtype) return fail(o->ctx, ELBO_ERROR_FORMAT, "%s: tensor '%s': dtype; expected a string", o->path, name);
  int d = 0;
  while (d < ELBO_DTYPE_COUNT && strcmp(dtype, element[d].name) != 0) d++;
  if (d == ELBO_DTYPE_COUNT) return fail(o->ctx, ELBO_ERROR_UNSUPPORTED, "%s: tensor '%s': dtype '%s' is not known", o->path, name, dtype);
  v->dtype = (elbo_dtype)d;
  TRY(read_shape(o, entry, v, &bytes));
  const json_t *offsets = json_object_get(entry, "data_offsets");
  for (size_t i = 0; i < 2; i++) {
    const json_t *value = json_array_get(offsets, i); // NULL of anything but an array
    if (!json_is_integer(value) || json_array_size(offsets) != 2)
      return fail(o->ctx, ELBO_ERROR_FORMAT, "%s: tensor '%s': data_offsets; expected [begin, end]", o->path, name);
    offset[i] = json_integer_value(value);
  }
  if (offset[0] < 0 || offset[1] < offset[0] || offset[1] > o->data_size)
    return fail(o->ctx, ELBO_ERROR_FORMAT,
                "%s: tensor '%s': data_offsets [%lld, %lld]; expected a range within the file's %lld bytes of data", o->path, name,
                (long long)offset[0], (long long)offset[1], (long long)o->data_size);
  if (offset[1] - offset[0] != bytes)
    return fail(o->ctx, ELBO_ERROR_FORMAT, "%s: tensor '%s': %lld bytes of data; its shape and dtype need %lld", o->path, name,
                (long long)(offset[1] - offset[0]), (long long)bytes);
  v->data = o->data + offset[0];
  v->bytes = (size_t)bytes;
  return ELBO_OK;
}

static int compare_names(const void *a, const void *b) { return strcmp(((const tensor_view *)a)->name, ((const tensor_view *)b)->name); }

static int compare_places(const void *a, const void *b) {
  const tensor_view *x = *(const tensor_view *const *)a, *y = *(const tensor_view *const *)b;
  const char *px = x->data, *py = y->data;
  if (px != py) return px < py ? -1 : 1;
  return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

// The tensors must fill the data without gap or overlap: what no tensor owns could hide anything, what two own is a mistake.
static elbo_status check_cover(const opening *o, const tensor_view *views, int64_t count) {
  const tensor_view **order;
  elbo_status status = array_new(o->ctx, (size_t)count, sizeof *order, "a table of tensors", (void **)&order);
  if (status != ELBO_OK) return status;
  for (int64_t i = 0; i < count; i++) order[i] = &views[i];
  qsort(order, (size_t)count, sizeof *order, compare_places);
  int64_t covered = 0;
  for (int64_t i = 0; i < count; i++) {
    int64_t begin = (const char *)order[i]->data - o->data;
    if (begin < covered)
      status = fail(o->ctx, ELBO_ERROR_FORMAT, "%s: tensor '%s' overlaps '%s'", o->path, order[i]->name, order[i - 1]->name);
    if (begin > covered)
      status = fail(o->ctx, ELBO_ERROR_FORMAT, "%s: a gap of %lld bytes before tensor '%s'", o->path, (long long)(begin - covered),
                    order[i]->name);
    if (status != ELBO_OK) goto done;
    covered += (int64_t)order[i]->bytes;
  }
  if (covered != o->data_size)
    status = fail(o->ctx, ELBO_ERROR_FORMAT, "%s: %lld bytes behind the last tensor", o->path, (long long)(o->data_size - covered));

done:
  free(order);
  return status;
}

static elbo_status read_metadata(const opening *o, const json_t *metadata) {
  const char *key;
  json_t *value;
  if (!json_is_object(metadata)) return fail(o->ctx, ELBO_ERROR_FORMAT, "%s: __metadata__; expected an object of strings", o->path);
  json_object_foreach((json_t *)(uintptr_t)metadata, key, value) {
    if (!json_is_string(value)) return fail(o->ctx, ELBO_ERROR_FORMAT, "%s: __metadata__: '%s'; expected a string", o->path, key);
  }
  return ELBO_OK;
}

// Header length (8 bytes, little-endian) and the header itself.
static elbo_status read_header(opening *o, const void *map, size_t size, json_t **header) {
  const uint8_t *bytes = map;
  uint64_t length = 0;
  if (size < 8) return fail(o->ctx, ELBO_ERROR_FORMAT, "%s: %zu bytes; expected a safetensors file, at least 10", o->path, size);
  for (int i = 0; i < 8; i++) length |= (uint64_t)bytes[i] << 8 * i;
  if (length > HEADER_MAX)
    return fail(o->ctx, ELBO_ERROR_FORMAT, "%s: a header of %llu bytes; expected a safetensors file, whose header is at most %d", o->path,
                (unsigned long long)length, HEADER_MAX);
  if (length > size - 8)
    return fail(o->ctx, ELBO_ERROR_FORMAT, "%s: cut off: a header of %llu bytes in a file of %zu", o->path, (unsigned long long)length,
                size);
  if (length < 2 || bytes[8] != '{') return fail(o->ctx, ELBO_ERROR_FORMAT, "%s: header; expected a JSON object", o->path);
  o->data = (const char *)map + 8 + length;
  o->data_size = (int64_t)(size - 8 - (size_t)length);
  return json_parse(o->ctx, o->path, (const char *)map + 8, (size_t)length, header);
}

static elbo_status read_views(const opening *o, json_t *header, tensor_view *views, int64_t *count) {
  const char *key;
  json_t *value;
  int64_t n = 0;
  json_object_foreach(header, key, value) {
    if (strcmp(key, "__metadata__") == 0) {
      TRY(read_metadata(o, value));
    } else {
      TRY(read_entry(o, key, value, &views[n++]));
    }
  }
  *count = n;
  if (n > 0) qsort(views, (size_t)n, sizeof *views, compare_names);
  return check_cover(o, views, n);
}

elbo_status safetensors_open(elbo_ctx *ctx, const char *path, safetensors **out) {
  elbo_status status;
  opening o = {.ctx = ctx, .path = path};
  tensor_view *views = NULL;
  *out = NULL;
  safetensors *file = calloc(1, sizeof *file);
  if (!file) return fail_memory(ctx, sizeof *file, path);
  TRY_GOTO(file_map(ctx, path, &file->map, &file->map_size));
  TRY_GOTO(read_header(&o, file->map, file->map_size, &file->header));
  TRY_GOTO(array_new(ctx, json_object_size(file->header), sizeof *views, "a table of tensors", (void **)&views));
  file->views = views;
  TRY_GOTO(read_views(&o, file->header, views, &file->count));
  *out = file;
  return ELBO_OK;

fail:
  safetensors_close(&file);
  return status;
}

void safetensors_close(safetensors **file) {
  if (!file || !*file) return;
  json_decref((*file)->header);
  free((void *)(uintptr_t)(*file)->views);
  file_unmap((*file)->map, (*file)->map_size);
  free(*file);
  *file = NULL;
}

int64_t safetensors_count(const safetensors *file) { return file->count; }

const tensor_view *safetensors_at(const safetensors *file, int64_t i) { return i >= 0 && i < file->count ? &file->views[i] : NULL; }

const tensor_view *safetensors_find(const safetensors *file, const char *name) {
  tensor_view key = {.name = name};
  return bsearch(&key, file->views, (size_t)file->count, sizeof key, compare_names);
}

const char *safetensors_metadata(const safetensors *file, const char *key) {
  return json_string_value(json_object_get(json_object_get(file->header, "__metadata__"), key));
}

// --- writing ---

static elbo_status check_written(elbo_ctx *ctx, const char *path, const tensor_view *v) {
  int64_t bytes;
  if (!v->name || strcmp(v->name, "__metadata__") == 0)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: a tensor called %s cannot be written", path, v->name ? v->name : "NULL");
  if ((unsigned)v->dtype >= ELBO_DTYPE_COUNT || v->rank < 0 || v->rank > VIEW_RANK_MAX)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: tensor '%s': dtype %d, rank %d; expected a known dtype, at most %d dimensions", path,
                v->name, (int)v->dtype, v->rank, VIEW_RANK_MAX);
  bytes = (int64_t)element[v->dtype].size;
  for (int i = 0; i < v->rank; i++)
    if (!checked_mul(bytes, v->dim[i], &bytes)) return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: tensor '%s': impossible shape", path, v->name);
  if ((size_t)bytes != v->bytes || (bytes && !v->data))
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: tensor '%s': %zu bytes of data; its shape and dtype need %lld", path, v->name, v->bytes,
                (long long)bytes);
  return ELBO_OK;
}

static int compare_written_names(const void *a, const void *b) {
  return strcmp((*(const tensor_view *const *)a)->name, (*(const tensor_view *const *)b)->name);
}

// Larger element types first, so that every tensor is aligned for its type; by name among equals.
static int compare_written_places(const void *a, const void *b) {
  const tensor_view *x = *(const tensor_view *const *)a, *y = *(const tensor_view *const *)b;
  size_t sx = element[x->dtype].size, sy = element[y->dtype].size;
  return sx != sy ? (sx < sy ? 1 : -1) : strcmp(x->name, y->name);
}

// A tensor's header entry; NULL when memory ran out.
static json_t *make_entry(const tensor_view *v, int64_t offset) {
  json_t *shape = json_array();
  for (int i = 0; shape && i < v->rank; i++) {
    if (json_array_append_new(shape, json_integer(v->dim[i])) != 0) {
      json_decref(shape);
      return NULL;
    }
  }
  return json_pack("{s:s, s:o, s:[I, I]}", "dtype", element[v->dtype].name, "shape", shape, "data_offsets", (json_int_t)offset,
                   (json_int_t)offset + (json_int_t)v->bytes);
}

// The header as text, `order` sorted by place; NULL when memory ran out.
static char *make_header(int64_t n, const tensor_view **order, int n_meta, const char *const *meta_pairs) {
  char *text = NULL;
  int64_t offset = 0;
  json_t *header = json_object(), *metadata = NULL;
  if (!header) return NULL;
  if (n_meta > 0) {
    metadata = json_object();
    if (json_object_set_new(header, "__metadata__", metadata) != 0) goto done;
    for (int i = 0; i < n_meta; i++)
      if (json_object_set_new(metadata, meta_pairs[2 * i], json_string(meta_pairs[2 * i + 1])) != 0) goto done;
  }
  for (int64_t i = 0; i < n; i++) {
    if (json_object_set_new(header, order[i]->name, make_entry(order[i], offset)) != 0) goto done;
    offset += (int64_t)order[i]->bytes;
  }
  text = json_dumps(header, JSON_COMPACT | JSON_SORT_KEYS);

done:
  json_decref(header);
  return text;
}

elbo_status safetensors_write(elbo_ctx *ctx, const char *path, int64_t n, const tensor_view *tensors, int n_meta,
                              const char *const *meta_pairs) {
  static const char spaces[64] = "                                                                ";
  const tensor_view **order = NULL;
  file_part *parts = NULL;
  char *header = NULL;
  uint8_t length[8];
  elbo_status status;
  TRY_GOTO(array_new(ctx, (size_t)n, sizeof *order, "a table of tensors", (void **)&order));
  TRY_GOTO(array_new(ctx, (size_t)n + 3, sizeof *parts, "a table of tensors", (void **)&parts));
  for (int64_t i = 0; i < n; i++) {
    TRY_GOTO(check_written(ctx, path, &tensors[i]));
    order[i] = &tensors[i];
  }
  if (n > 0) qsort(order, (size_t)n, sizeof *order, compare_written_names);
  for (int64_t i = 1; i < n; i++) {
    if (strcmp(order[i]->name, order[i - 1]->name) != 0) continue;
    status = fail(ctx, ELBO_ERROR_ARGUMENT, "%s: two tensors called '%s'", path, order[i]->name);
    goto fail;
  }
  if (n > 0) qsort(order, (size_t)n, sizeof *order, compare_written_places);
  header = make_header(n, order, n_meta, meta_pairs);
  if (!header) {
    status = fail(ctx, ELBO_ERROR_ARGUMENT, "%s: no header can be made: a name or a metadata text is not UTF-8, or memory ran out", path);
    goto fail;
  }
  // Spaces behind the header bring the data to a multiple of 64 bytes.
  size_t size = strlen(header), padding = (64 - (8 + size) % 64) % 64;
  if (size + padding > HEADER_MAX) {
    status = fail(ctx, ELBO_ERROR_ARGUMENT, "%s: a header of %zu bytes; the format allows %d", path, size, HEADER_MAX);
    goto fail;
  }
  for (int i = 0; i < 8; i++) length[i] = (uint8_t)((uint64_t)(size + padding) >> 8 * i);
  parts[0] = (file_part){length, sizeof length};
  parts[1] = (file_part){header, size};
  parts[2] = (file_part){spaces, padding};
  for (int64_t i = 0; i < n; i++) parts[3 + i] = (file_part){order[i]->data, order[i]->bytes};
  status = file_write_parts(ctx, path, n + 3, parts);

fail:
  free(header);
  free(parts);
  free(order);
  return status;
}
