#include "core/pickle.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/memory.h"
#include "core/pickle_machine.h"
#include "core/zip.h"

enum { DEPTH_MAX = 64, NAME_MAX_BYTES = 512, ROOT_MAX = 256, TENSORS_MAX = 1 << 18, VISITS_MAX = 1 << 22, LEGACY_PROTOCOL = 1001 };
#define COPY_SLACK ((int64_t)64 << 20) // bytes that copies of views may take beyond the file's own size

struct pickle {
  const void *map;
  size_t map_size;
  zip *members;
  arena *arena; // values, names, copies of views that are not contiguous
  tensor_view *views;
  int64_t count, capacity;
};

// A storage of a file before PyTorch 1.6.
typedef struct legacy_storage {
  pickle_text key;
  const uint8_t *data;
  int64_t bytes;
} legacy_storage;

typedef struct pickle_reading {
  elbo_ctx *ctx;
  const char *path;
  pickle *file;
  char root[ROOT_MAX];     // of the zip, "archive/"
  legacy_storage *storage; // by key; NULL for a zip
  int64_t n_storages;
  int64_t copied, visits;
  char name[NAME_MAX_BYTES]; // of what is being visited
} pickle_reading;

// --- storages ---

static int compare_texts(pickle_text a, pickle_text b) {
  size_t n = a.length < b.length ? a.length : b.length;
  int order = n ? memcmp(a.at, b.at, n) : 0;
  return order ? order : (a.length > b.length) - (a.length < b.length);
}

static int compare_storages(const void *a, const void *b) {
  return compare_texts(((const legacy_storage *)a)->key, ((const legacy_storage *)b)->key);
}

static elbo_status find_storage(const pickle_reading *r, const pickle_storage *s, const uint8_t **data) {
  int64_t need = s->count * (int64_t)elbo_dtype_size(s->dtype), have; // checked when it was made
  char key[PICKLE_SHOWN];
  *data = NULL;
  pickle_show(s->key, key);
  if (r->storage) {
    legacy_storage wanted = {.key = s->key};
    const legacy_storage *found = bsearch(&wanted, r->storage, (size_t)r->n_storages, sizeof wanted, compare_storages);
    if (!found) return fail(r->ctx, ELBO_ERROR_FORMAT, "%s: tensor '%s': storage '%s' is missing", r->path, r->name, key);
    *data = found->data, have = found->bytes;
  } else {
    char member[ROOT_MAX + PICKLE_SHOWN + 8];
    snprintf(member, sizeof member, "%sdata/%s", r->root, key);
    const zip_member *found = zip_find(r->file->members, member);
    if (!found) return fail(r->ctx, ELBO_ERROR_FORMAT, "%s: tensor '%s': storage '%s' is missing", r->path, r->name, member);
    TRY(zip_check_stored(r->ctx, r->path, found));
    *data = found->data, have = (int64_t)found->size;
  }
  if (have < need)
    return fail(r->ctx, ELBO_ERROR_FORMAT, "%s: tensor '%s': storage '%s' holds %lld bytes; expected %lld", r->path, r->name, key,
                (long long)have, (long long)need);
  return ELBO_OK;
}

// --- tensors ---

static bool is_contiguous(const pickle_tensor *t) {
  int64_t expected = 1;
  for (int i = t->rank; i-- > 0;) {
    if (t->dim[i] != 1 && t->stride[i] != expected) return false;
    expected *= t->dim[i]; // of a view within its storage, or refused before
  }
  return true;
}

// The elements in row-major order. `count` > 0.
static void copy_view(const pickle_tensor *t, const uint8_t *from, size_t size, int64_t count, uint8_t *to) {
  int64_t at[PICKLE_RANK_MAX] = {0}, place = t->offset;
  for (int64_t i = 0; i < count; i++) {
    memcpy(to + (size_t)i * size, from + (size_t)place * size, size);
    for (int d = t->rank; d-- > 0;) {
      place += t->stride[d];
      if (++at[d] < t->dim[d]) break;
      place -= t->dim[d] * t->stride[d];
      at[d] = 0;
    }
  }
}

static elbo_status add_tensor(pickle_reading *r, const pickle_tensor *t) {
  pickle *f = r->file;
  const uint8_t *storage;
  size_t size = elbo_dtype_size(t->dtype);
  tensor_view v = {.dtype = t->dtype, .rank = t->rank};
  int64_t bytes = (int64_t)size;
  bool fits = true, empty = false;
  if (f->count == TENSORS_MAX) return fail(r->ctx, ELBO_ERROR_FORMAT, "%s: more than %d tensors", r->path, TENSORS_MAX);
  if (!r->name[0]) snprintf(r->name, sizeof r->name, "tensor");
  TRY(find_storage(r, t->storage, &storage));
  for (int i = 0; i < t->rank; i++) {
    v.dim[i] = t->dim[i], empty = empty || t->dim[i] == 0;
    fits = fits && (t->dim[i] == 0 || checked_mul(bytes, t->dim[i], &bytes));
  }
  v.bytes = empty ? 0 : (size_t)bytes;
  if (!empty && fits && is_contiguous(t)) {
    v.data = storage + (size_t)t->offset * size;
  } else if (!empty) {
    fits = fits && checked_add(r->copied, bytes, &r->copied) && r->copied <= COPY_SLACK + (int64_t)f->map_size;
    if (!fits)
      return fail(r->ctx, ELBO_ERROR_FORMAT, "%s: tensor '%s': its strides make more than %lld bytes of a file of %zu", r->path, r->name,
                  (long long)COPY_SLACK, f->map_size);
    uint8_t *copy = arena_alloc(f->arena, v.bytes);
    if (!copy) return fail_memory(r->ctx, v.bytes, r->name);
    copy_view(t, storage, size, bytes / (int64_t)size, copy);
    v.data = copy;
  }
  v.name = arena_string(f->arena, r->name);
  if (!v.name) return fail_memory(r->ctx, strlen(r->name), r->path);
  TRY(array_grow(r->ctx, &f->views, &f->capacity, f->count + 1, sizeof v));
  f->views[f->count++] = v;
  return ELBO_OK;
}

// --- names ---

static elbo_status append_key(pickle_reading *r, size_t length, const pickle_value *key, int64_t index, bool *usable) {
  char number[24];
  pickle_text text = {number, 0};
  *usable = true;
  if (key && key->kind == PICKLE_TEXT) {
    text = key->as.text;
    json_t *valid = memchr(text.at, 0, text.length) ? NULL : json_stringn(text.at, text.length); // NULL when it is no UTF-8
    *usable = valid != NULL;
    json_decref(valid);
  } else if (!key || key->kind == PICKLE_INT) {
    text.length = (size_t)snprintf(number, sizeof number, "%lld", (long long)(key ? key->as.integer : index));
  } else {
    *usable = false;
  }
  if (!*usable) text = (pickle_text){"?", 1};
  if (length + text.length + 2 > sizeof r->name) {
    char shown[PICKLE_SHOWN];
    return fail(r->ctx, ELBO_ERROR_FORMAT, "%s: key '%s' under '%.100s': names of more than %d bytes", r->path, pickle_show(text, shown),
                r->name, NAME_MAX_BYTES);
  }
  snprintf(r->name + length, sizeof r->name - length, "%s%.*s", length ? "." : "", (int)text.length, text.at);
  return ELBO_OK;
}

static elbo_status visit(pickle_reading *r, const pickle_value *v, int depth, bool named) {
  if (++r->visits > VISITS_MAX) return fail(r->ctx, ELBO_ERROR_FORMAT, "%s: containers that hold more than %d things", r->path, VISITS_MAX);
  if (v->kind == PICKLE_TENSOR && !named)
    return fail(r->ctx, ELBO_ERROR_UNSUPPORTED, "%s: a tensor under '%s', whose key is neither text nor a whole number", r->path, r->name);
  if (v->kind == PICKLE_TENSOR) return add_tensor(r, v->as.tensor);
  bool dict = v->kind == PICKLE_DICT;
  if (!dict && v->kind != PICKLE_LIST && v->kind != PICKLE_TUPLE && v->kind != PICKLE_SET) return ELBO_OK;
  if (depth == DEPTH_MAX) return fail(r->ctx, ELBO_ERROR_FORMAT, "%s: containers nested deeper than %d", r->path, DEPTH_MAX);
  size_t length = strlen(r->name);
  for (int64_t i = 0; i < v->as.list.count; i += dict ? 2 : 1) {
    const pickle_value *item = v->as.list.at[dict ? i + 1 : i];
    bool usable;
    TRY(append_key(r, length, dict ? v->as.list.at[i] : NULL, i, &usable));
    TRY(visit(r, item, depth + 1, named && usable));
    r->name[length] = 0;
  }
  return ELBO_OK;
}

static int compare_names(const void *a, const void *b) { return strcmp(((const tensor_view *)a)->name, ((const tensor_view *)b)->name); }

static elbo_status collect(pickle_reading *r, const pickle_value *v) {
  pickle *f = r->file;
  TRY(visit(r, v, 0, true));
  if (f->count) qsort(f->views, (size_t)f->count, sizeof *f->views, compare_names);
  for (int64_t i = 1; i < f->count; i++)
    if (!strcmp(f->views[i].name, f->views[i - 1].name))
      return fail(r->ctx, ELBO_ERROR_FORMAT, "%s: two tensors called '%s'", r->path, f->views[i].name);
  return ELBO_OK;
}

// --- the two kinds of file ---

static elbo_status find_root(pickle_reading *r) {
  const zip_member *found = NULL;
  for (int64_t i = 0; i < zip_count(r->file->members); i++) {
    const zip_member *m = zip_at(r->file->members, i);
    const char *slash = strchr(m->name, '/');
    if (slash && !strcmp(slash, "/constants.pkl"))
      return fail(r->ctx, ELBO_ERROR_UNSUPPORTED, "%s: a TorchScript program; expected a state_dict() saved by torch.save", r->path);
    if (!slash || strcmp(slash, "/data.pkl")) continue;
    if (found) return fail(r->ctx, ELBO_ERROR_FORMAT, "%s: members '%s' and '%s'; expected one", r->path, found->name, m->name);
    found = m;
  }
  if (!found) return fail(r->ctx, ELBO_ERROR_FORMAT, "%s: a zip without data.pkl; expected a file written by torch.save", r->path);
  size_t length = strlen(found->name) - strlen("data.pkl");
  if (length >= sizeof r->root) return fail(r->ctx, ELBO_ERROR_FORMAT, "%s: member '%.200s': name too long", r->path, found->name);
  memcpy(r->root, found->name, length);
  return ELBO_OK;
}

static elbo_status read_zip(pickle_reading *r) {
  char name[ROOT_MAX + 16];
  pickle_value *value;
  size_t used;
  TRY(zip_open(r->ctx, r->path, r->file->map, r->file->map_size, &r->file->members));
  TRY(find_root(r));
  snprintf(name, sizeof name, "%sbyteorder", r->root);
  const zip_member *order = zip_find(r->file->members, name);
  if (order) TRY(zip_check_stored(r->ctx, r->path, order));
  if (order && (order->size != 6 || memcmp(order->data, "little", 6) != 0))
    return fail(r->ctx, ELBO_ERROR_UNSUPPORTED, "%s: byte order '%.*s'; expected 'little'", r->path,
                (int)(order->size < 8 ? order->size : 8), (const char *)order->data);
  snprintf(name, sizeof name, "%sdata.pkl", r->root);
  const zip_member *data = zip_find(r->file->members, name);
  TRY(zip_check_stored(r->ctx, r->path, data));
  TRY(pickle_run(r->ctx, r->path, r->file->arena, data->data, data->size, &value, &used));
  return collect(r, value);
}

// 0x1950a86a20f9469cfc6c
static bool is_magic(const pickle_value *v) {
  static const uint8_t magic[10] = {0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19};
  return v->kind == PICKLE_LONG && v->as.text.length == sizeof magic && !memcmp(v->as.text.at, magic, sizeof magic);
}

// Element sizes by key, from the storages that the object's tensors name.
typedef struct storage_list {
  legacy_storage *at;
  int64_t count, capacity;
} storage_list;

static elbo_status gather_storages(pickle_reading *r, const pickle_value *v, int depth, storage_list *list) {
  if (++r->visits > VISITS_MAX || depth > DEPTH_MAX)
    return fail(r->ctx, ELBO_ERROR_FORMAT, "%s: containers nested deeper than %d, or of more than %d things", r->path, DEPTH_MAX,
                VISITS_MAX);
  if (v->kind == PICKLE_TENSOR) {
    TRY(array_grow(r->ctx, &list->at, &list->capacity, list->count + 1, sizeof *list->at));
    list->at[list->count++] =
        (legacy_storage){.key = v->as.tensor->storage->key, .bytes = (int64_t)elbo_dtype_size(v->as.tensor->storage->dtype)};
  }
  if (v->kind != PICKLE_DICT && v->kind != PICKLE_LIST && v->kind != PICKLE_TUPLE && v->kind != PICKLE_SET) return ELBO_OK;
  for (int64_t i = 0; i < v->as.list.count; i++) TRY(gather_storages(r, v->as.list.at[i], depth + 1, list));
  return ELBO_OK;
}

// Behind the pickles: for each key, in the order of the last pickle's list, the number of elements (8 bytes) and the elements.
static elbo_status read_storages(pickle_reading *r, const pickle_value *keys, const storage_list *known, size_t at) {
  const uint8_t *bytes = r->file->map;
  size_t size = r->file->map_size;
  if (keys->kind != PICKLE_LIST) return fail(r->ctx, ELBO_ERROR_FORMAT, "%s: the list of storages is missing", r->path);
  TRY(array_new(r->ctx, (size_t)keys->as.list.count, sizeof *r->storage, "a table of storages", (void **)&r->storage));
  for (int64_t i = 0; i < keys->as.list.count; i++) {
    const pickle_value *key = keys->as.list.at[i];
    if (key->kind != PICKLE_TEXT) return fail(r->ctx, ELBO_ERROR_FORMAT, "%s: a storage's key that is no text", r->path);
    char shown[PICKLE_SHOWN];
    pickle_show(key->as.text, shown);
    legacy_storage wanted = {.key = key->as.text};
    const legacy_storage *found = known->count ? bsearch(&wanted, known->at, (size_t)known->count, sizeof wanted, compare_storages) : NULL;
    if (!found) // its element size is unknown, so nothing behind it can be found
      return fail(r->ctx, ELBO_ERROR_UNSUPPORTED, "%s: storage '%s' belongs to no tensor; expected a state_dict()", r->path, shown);
    uint64_t elements = 0;
    int64_t length;
    if (size - at < 8) return fail(r->ctx, ELBO_ERROR_FORMAT, "%s: cut off before storage '%s'", r->path, shown);
    for (int k = 0; k < 8; k++) elements |= (uint64_t)bytes[at + (size_t)k] << 8 * k;
    at += 8;
    if (elements > INT64_MAX || !checked_mul((int64_t)elements, found->bytes, &length) || (uint64_t)length > size - at)
      return fail(r->ctx, ELBO_ERROR_FORMAT, "%s: cut off in storage '%s' of %llu elements", r->path, shown, (unsigned long long)elements);
    r->storage[r->n_storages++] = (legacy_storage){key->as.text, bytes + at, length};
    at += (size_t)length;
  }
  if (r->n_storages) qsort(r->storage, (size_t)r->n_storages, sizeof *r->storage, compare_storages);
  return ELBO_OK;
}

// Magic number, protocol, system, object, storage keys; then the storages.
static elbo_status read_legacy(pickle_reading *r) {
  const uint8_t *bytes = r->file->map;
  size_t size = r->file->map_size, at = 0, used;
  pickle_value *part[5];
  storage_list known = {0};
  if (size > 262 && !memcmp(bytes + 257, "ustar", 5))
    return fail(r->ctx, ELBO_ERROR_UNSUPPORTED, "%s: a tar; PyTorch before 0.1.10 wrote such files, which are not read", r->path);
  for (int i = 0; i < 5; i++) {
    TRY(pickle_run(r->ctx, r->path, r->file->arena, bytes + at, size - at, &part[i], &used));
    at += used;
    if (i == 0 && !is_magic(part[0]))
      return fail(r->ctx, ELBO_ERROR_FORMAT, "%s: a pickle, but not of torch.save: it has no tensors", r->path);
    if (i == 1 && (part[1]->kind != PICKLE_INT || part[1]->as.integer != LEGACY_PROTOCOL))
      return fail(r->ctx, ELBO_ERROR_UNSUPPORTED, "%s: another version of torch.save's format; expected %d", r->path, LEGACY_PROTOCOL);
  }
  elbo_status status = gather_storages(r, part[3], 0, &known);
  r->visits = 0;
  if (status == ELBO_OK && known.count) qsort(known.at, (size_t)known.count, sizeof *known.at, compare_storages);
  if (status == ELBO_OK) status = read_storages(r, part[4], &known, at);
  free(known.at);
  return status == ELBO_OK ? collect(r, part[3]) : status;
}

bool pickle_looks_like(const void *head, size_t size) {
  const uint8_t *p = head;
  return size >= 4 && (!memcmp(p, "PK\3\4", 4) || (p[0] == 0x80 && p[1] >= 2 && p[1] <= 5));
}

elbo_status pickle_open(elbo_ctx *ctx, const char *path, pickle **out) {
  pickle_reading r = {.ctx = ctx, .path = path};
  elbo_status status;
  *out = NULL;
  pickle *f = r.file = calloc(1, sizeof *f);
  if (!f) return fail_memory(ctx, sizeof *f, path);
  f->arena = arena_create(1 << 16);
  TRY_GOTO(file_map(ctx, path, &f->map, &f->map_size));
  if (f->map_size >= 4 && !memcmp(f->map, "PK\3\4", 4))
    TRY_GOTO(read_zip(&r));
  else if (f->map_size)
    TRY_GOTO(read_legacy(&r));
  else
    TRY_GOTO(fail(ctx, ELBO_ERROR_FORMAT, "%s: an empty file; expected one written by torch.save", path));
  free(r.storage);
  *out = f;
  return ELBO_OK;

fail:
  free(r.storage);
  pickle_close(&f);
  return status;
}

void pickle_close(pickle **file) {
  if (!file || !*file) return;
  zip_close(&(*file)->members);
  arena_destroy(&(*file)->arena);
  free((*file)->views);
  file_unmap((*file)->map, (*file)->map_size);
  free(*file);
  *file = NULL;
}

int64_t pickle_count(const pickle *file) { return file->count; }

const tensor_view *pickle_at(const pickle *file, int64_t i) { return i >= 0 && i < file->count ? &file->views[i] : NULL; }

const tensor_view *pickle_find(const pickle *file, const char *name) {
  tensor_view key = {.name = name};
  return file->count ? bsearch(&key, file->views, (size_t)file->count, sizeof key, compare_names) : NULL;
}
