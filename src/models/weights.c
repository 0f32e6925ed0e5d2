// Opening weights: one file, or shards behind an index.
#include "models/weights.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/json.h"
#include "core/memory.h"
#include "core/pickle.h"

enum { SHARDS_MAX = 4096, HEAD_BYTES = 16 };
#define INDEX_LIMIT ((size_t)64 << 20)

// One open file.
typedef struct weights_file {
  safetensors *tensors; // either
  pickle *objects;      // or
  const char *name;     // of a shard, in the index
} weights_file;

struct weights {
  char path[PATH_MAX];
  json_t *index; // NULL: one file. Owns the shards' names
  weights_file *files;
  int64_t n_files, files_capacity;
  tensor_view *views; // in name order
  int64_t count;
};

// --- one file ---

static bool has_ending(const char *path, const char *ending) {
  size_t n = strlen(path), m = strlen(ending);
  return n >= m && !strcmp(path + n - m, ending);
}

static bool is_pickle(const char *path) {
  static const char *const endings[] = {".pth", ".pt", ".ckpt", ".bin", ".pkl"};
  char head[HEAD_BYTES];
  for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++)
    if (has_ending(path, endings[i])) return true;
  FILE *file = has_ending(path, ".safetensors") ? NULL : fopen(path, "rb");
  size_t got = file ? fread(head, 1, sizeof head, file) : 0;
  if (file) fclose(file);
  return pickle_looks_like(head, got);
}

static elbo_status open_file(elbo_ctx *ctx, const char *path, weights_file *out) {
  return is_pickle(path) ? pickle_open(ctx, path, &out->objects) : safetensors_open(ctx, path, &out->tensors);
}

static int64_t file_count(const weights_file *f) { return f->objects ? pickle_count(f->objects) : safetensors_count(f->tensors); }

static const tensor_view *file_at(const weights_file *f, int64_t i) {
  return f->objects ? pickle_at(f->objects, i) : safetensors_at(f->tensors, i);
}

static const tensor_view *file_find(const weights_file *f, const char *name) {
  return f->objects ? pickle_find(f->objects, name) : safetensors_find(f->tensors, name);
}

// --- shards ---

// A shard lies beside its index: no way out of the folder.
static bool shard_name_is_safe(const char *name) {
  return name[0] && name[0] != '.' && !strchr(name, '/') && (has_ending(name, ".safetensors") || has_ending(name, ".bin"));
}

static elbo_status open_shard(elbo_ctx *ctx, weights *w, const char *name, const char *tensor) {
  char path[PATH_MAX], folder[PATH_MAX];
  const char *slash = strrchr(w->path, '/');
  if (!shard_name_is_safe(name))
    return fail(ctx, ELBO_ERROR_FORMAT, "%s: tensor '%.200s': shard '%.200s'; expected the name of a .safetensors or .bin file beside it",
                w->path, tensor, name);
  if (w->n_files == SHARDS_MAX) return fail(ctx, ELBO_ERROR_FORMAT, "%s: more than %d shards", w->path, SHARDS_MAX);
  snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - w->path) + 1 : 0, w->path);
  TRY(path_join(ctx, path, sizeof path, folder, name));
  if (!file_exists(path))
    return fail(ctx, ELBO_ERROR_IO, "%s: shard '%s' is missing; it should hold '%.200s' and more", w->path, name, tensor);
  TRY(array_grow(ctx, &w->files, &w->files_capacity, w->n_files + 1, sizeof *w->files));
  weights_file *f = &w->files[w->n_files];
  TRY(open_file(ctx, path, f));
  f->name = name;
  w->n_files++;
  return ELBO_OK;
}

static const weights_file *find_shard(const weights *w, const char *name) {
  for (int64_t i = w->n_files; i-- > 0;)
    if (!strcmp(w->files[i].name, name)) return &w->files[i];
  return NULL;
}

// What the index says and what the shards hold must be the same.
static elbo_status check_shards(elbo_ctx *ctx, const weights *w, const json_t *map) {
  for (int64_t i = 0; i < w->n_files; i++)
    for (int64_t k = 0; k < file_count(&w->files[i]); k++) {
      const char *name = file_at(&w->files[i], k)->name, *shard = json_string_value(json_object_get(map, name));
      if (!shard) return fail(ctx, ELBO_ERROR_FORMAT, "%s: tensor '%s' of shard '%s' is not in the index", w->path, name, w->files[i].name);
      if (strcmp(shard, w->files[i].name) != 0)
        return fail(ctx, ELBO_ERROR_FORMAT, "%s: tensor '%s' is in shard '%s', and by the index in '%s'", w->path, name, w->files[i].name,
                    shard);
    }
  return ELBO_OK;
}

static elbo_status open_index(elbo_ctx *ctx, weights *w) {
  const char *name;
  json_t *value;
  TRY(json_read(ctx, w->path, INDEX_LIMIT, &w->index));
  json_t *map = json_object_get(w->index, "weight_map"); // NULL of anything but an object
  if (!json_is_object(map) || !json_object_size(map))
    return fail(ctx, ELBO_ERROR_FORMAT, "%s: weight_map; expected an object that names a shard for each tensor", w->path);
  json_object_foreach(map, name, value) {
    const char *shard = json_string_value(value);
    if (!shard) return fail(ctx, ELBO_ERROR_FORMAT, "%s: tensor '%.200s': expected the name of a shard", w->path, name);
    const weights_file *f = find_shard(w, shard);
    if (!f) {
      TRY(open_shard(ctx, w, shard, name));
      f = &w->files[w->n_files - 1];
    }
    if (!file_find(f, name)) return fail(ctx, ELBO_ERROR_FORMAT, "%s: tensor '%.200s' is not in shard '%s'", w->path, name, shard);
  }
  return check_shards(ctx, w, map);
}

// --- folders ---

elbo_status weights_locate(elbo_ctx *ctx, const char *folder, char *path, size_t size, bool *found) {
  static const char *const names[] = {
      "diffusion_pytorch_model.safetensors.index.json",
      "diffusion_pytorch_model.safetensors",
      "model.safetensors.index.json",
      "model.safetensors",
      "diffusion_pytorch_model.bin.index.json",
      "diffusion_pytorch_model.bin",
      "pytorch_model.bin.index.json",
      "pytorch_model.bin",
      "diffusion_pytorch_model.safetensors.index.fp16.json",
      "diffusion_pytorch_model.fp16.safetensors",
      "model.safetensors.index.fp16.json",
      "model.fp16.safetensors",
      "diffusion_pytorch_model.bin.index.fp16.json",
      "diffusion_pytorch_model.fp16.bin",
      "pytorch_model.fp16.bin",
  };
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
    TRY(path_join(ctx, path, size, folder, names[i]));
    *found = file_exists(path);
    if (*found) return ELBO_OK;
  }
  DIR *directory = opendir(folder);
  if (!directory) return fail_errno(ctx, folder, "cannot list");
  elbo_status status = ELBO_OK;
  for (struct dirent *entry; status == ELBO_OK && (entry = readdir(directory));)
    if (strstr(entry->d_name, "-of-") && shard_name_is_safe(entry->d_name))
      status = fail(ctx, ELBO_ERROR_FORMAT, "%s: shard '%s' without the index (%s) that says what it belongs to", folder, entry->d_name,
                    names[has_ending(entry->d_name, ".bin") ? 4 : 0]);
  closedir(directory);
  return status;
}

// --- all ---

static int compare_views(const void *a, const void *b) { return strcmp(((const tensor_view *)a)->name, ((const tensor_view *)b)->name); }

static elbo_status list_views(elbo_ctx *ctx, weights *w) {
  int64_t total = 0;
  for (int64_t i = 0; i < w->n_files; i++) total += file_count(&w->files[i]);
  TRY(array_new(ctx, (size_t)total, sizeof *w->views, "a table of tensors", (void **)&w->views));
  for (int64_t i = 0; i < w->n_files; i++)
    for (int64_t k = 0; k < file_count(&w->files[i]); k++) w->views[w->count++] = *file_at(&w->files[i], k);
  if (w->count) qsort(w->views, (size_t)w->count, sizeof *w->views, compare_views);
  return ELBO_OK;
}

elbo_status weights_open_whole(elbo_ctx *ctx, const char *path, weights **out) {
  elbo_status status = ELBO_OK;
  bool found = true;
  *out = NULL;
  weights *w = calloc(1, sizeof *w);
  if (!w) return fail_memory(ctx, sizeof *w, path);
  if (directory_exists(path))
    TRY_GOTO(weights_locate(ctx, path, w->path, sizeof w->path, &found));
  else if ((size_t)snprintf(w->path, sizeof w->path, "%s", path) >= sizeof w->path)
    TRY_GOTO(fail(ctx, ELBO_ERROR_ARGUMENT, "%.200s: path too long", path));
  if (!found) {
    status = fail(ctx, ELBO_ERROR_IO, "%s: no weights in it; expected %s, its shards with their index, or a .bin", path, WEIGHTS_NAME);
    goto fail;
  }
  if (has_ending(w->path, ".json")) {
    TRY_GOTO(open_index(ctx, w));
  } else {
    TRY_GOTO(array_grow(ctx, &w->files, &w->files_capacity, 1, sizeof *w->files));
    TRY_GOTO(open_file(ctx, w->path, &w->files[0]));
    w->n_files = 1;
  }
  TRY_GOTO(list_views(ctx, w));
  *out = w;
  return ELBO_OK;

fail:
  weights_close(&w);
  return status;
}

elbo_status weights_open(elbo_ctx *ctx, const char *path, weights **out) {
  TRY(weights_open_whole(ctx, path, out));
  if ((*out)->files[0].objects) weights_select(*out, "state_dict");
  return ELBO_OK;
}

elbo_status weights_of_views(elbo_ctx *ctx, const char *path, int64_t n, const tensor_view *views, weights **out) {
  *out = NULL;
  weights *w = calloc(1, sizeof *w);
  if (!w) return fail_memory(ctx, sizeof *w, path);
  snprintf(w->path, sizeof w->path, "%s", path);
  elbo_status status = array_new(ctx, (size_t)n, sizeof *w->views, "a table of tensors", (void **)&w->views);
  if (status != ELBO_OK) {
    weights_close(&w);
    return status;
  }
  if (n) memcpy(w->views, views, (size_t)n * sizeof *views), qsort(w->views, (size_t)n, sizeof *w->views, compare_views);
  w->count = n;
  *out = w;
  return ELBO_OK;
}

void weights_close(weights **w) {
  if (!w || !*w) return;
  for (int64_t i = 0; i < (*w)->n_files; i++) {
    safetensors_close(&(*w)->files[i].tensors);
    pickle_close(&(*w)->files[i].objects);
  }
  json_decref((*w)->index);
  free((*w)->files);
  free((*w)->views);
  free(*w);
  *w = NULL;
}

int64_t weights_count(const weights *w) { return w->count; }

const tensor_view *weights_at(const weights *w, int64_t i) { return i >= 0 && i < w->count ? &w->views[i] : NULL; }

const tensor_view *weights_find(const weights *w, const char *name) {
  tensor_view key = {.name = name};
  return w->count ? bsearch(&key, w->views, (size_t)w->count, sizeof key, compare_views) : NULL;
}

const char *weights_path(const weights *w) { return w->path; }

const char *weights_format(const weights *w) {
  bool objects = w->n_files && w->files[0].objects;
  return w->index ? objects ? "sharded pickle" : "sharded safetensors" : objects ? "pickle" : "safetensors";
}

bool weights_are_mapped(const weights *w) {
  for (int64_t i = 0; i < w->n_files; i++)
    if (!w->files[i].tensors) return false;
  return true;
}

bool weights_select(weights *w, const char *key) {
  size_t length = strlen(key);
  int64_t kept = 0;
  for (int64_t i = 0; i < w->count; i++) kept += !strncmp(w->views[i].name, key, length) && w->views[i].name[length] == '.';
  if (!kept) return false;
  int64_t n = 0;
  for (int64_t i = 0; i < w->count; i++) {
    if (strncmp(w->views[i].name, key, length) != 0 || w->views[i].name[length] != '.') continue;
    w->views[n] = w->views[i]; // in name order still: they had the beginning in common
    w->views[n++].name += length + 1;
  }
  w->count = n;
  return true;
}
