// Folders of pictures: the subfolder is the class, a .txt file beside a picture its caption. Folders named train, valid (val) and test on
// top are the splits.
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/file.h"
#include "core/memory.h"
#include "core/philox.h"
#include "data/dataset.h"
#include "data/recognise.h"

typedef struct folder_source {
  file_list files;
  int32_t *label; // (files), -1: none
  int64_t label_capacity;
} folder_source;

typedef struct folder_walk {
  const folder_source *source;
  int64_t at, *order; // NULL: as listed
} folder_walk;

static void folder_end(void *walk) {
  folder_walk *w = walk;
  if (!w) return;
  free(w->order), free(w);
}

static elbo_status folder_begin(void *source, elbo_ctx *ctx, bool shuffle, uint64_t seed, int64_t epoch, void **walk) {
  folder_source *s = source;
  folder_walk *w = calloc(1, sizeof *w);
  if (!w) return fail_memory(ctx, sizeof *w, "picture folder");
  w->source = s;
  if (shuffle) {
    elbo_status status = array_new(ctx, (size_t)s->files.count, sizeof *w->order, "order", (void **)&w->order);
    if (status != ELBO_OK) {
      folder_end(w);
      return status;
    }
    philox_permutation(seed, philox_stream("files") + (uint32_t)epoch, s->files.count, w->order);
  }
  *walk = w;
  return ELBO_OK;
}

static elbo_status read_caption(elbo_ctx *ctx, const char *picture_path, char **out) {
  char path[4096];
  const char *dot = strrchr(picture_path, '.');
  int n = snprintf(path, sizeof path, "%.*s.txt", (int)(dot - picture_path), picture_path);
  *out = NULL;
  if (n < 0 || (size_t)n >= sizeof path || !file_exists(path)) return ELBO_OK;
  size_t size;
  TRY(file_read(ctx, path, 1 << 20, out, &size));
  while (size && isspace((unsigned char)(*out)[size - 1])) (*out)[--size] = 0;
  return ELBO_OK;
}

static elbo_status folder_next(void *walk, elbo_ctx *ctx, encoded_sample *out, bool *end) {
  folder_walk *w = walk;
  const folder_source *s = w->source;
  if (w->at == s->files.count) {
    *end = true;
    return ELBO_OK;
  }
  int64_t i = w->order ? w->order[w->at] : w->at;
  w->at++;
  char *data;
  TRY(file_read(ctx, s->files.path[i], (size_t)1 << 28, &data, &out->size));
  out->bytes = data, out->index = i, out->label = s->label[i];
  out->name = string_copy(s->files.path[i]);
  elbo_status status = out->name ? ELBO_OK : fail_memory(ctx, 0, s->files.path[i]);
  if (status == ELBO_OK && !w->order) status = read_caption(ctx, s->files.path[i], &out->caption);
  if (status != ELBO_OK) encoded_sample_free(out);
  return status;
}

static void folder_release(void *source) {
  folder_source *s = source;
  file_list_free(&s->files);
  free(s->label), free(s);
}

static int64_t folder_bytes(const void *source) {
  const folder_source *s = source;
  int64_t total = (int64_t)sizeof *s + s->files.capacity * (int64_t)sizeof *s->files.path + s->label_capacity * (int64_t)sizeof *s->label;
  return s->files.count ? total + s->files.count * (int64_t)strlen(s->files.path[0]) : total;
}

static void folder_identify(const void *source, sha256 *hash) {
  const folder_source *s = source;
  for (int64_t i = 0; i < s->files.count; i++) identify_file(s->files.path[i], hash);
}

static const sample_source_ops FOLDER_OPS = {folder_begin, folder_next, folder_end, folder_release, folder_bytes, folder_identify};

static bool names_picture(const char *path) {
  static const char *const ENDS[] = {".png", ".jpg", ".jpeg", ".webp"};
  const char *dot = strrchr(path, '.');
  for (size_t i = 0; dot && i < 4; i++)
    if (!strcasecmp(dot, ENDS[i])) return true;
  return false;
}

static elbo_status add_pictures(elbo_ctx *ctx, const char *path, int32_t label, folder_source *s) {
  file_list files = {0};
  elbo_status status = file_list_directory(ctx, path, false, &files);
  for (int64_t i = 0; i < files.count && status == ELBO_OK; i++) {
    if (!names_picture(files.path[i])) continue;
    status = array_grow(ctx, &s->label, &s->label_capacity, s->files.count + 1, sizeof *s->label);
    if (status == ELBO_OK) {
      s->label[s->files.count] = label;
      status = file_list_add(ctx, &s->files, files.path[i]);
    }
  }
  file_list_free(&files);
  return status;
}

static const char *last_name(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash ? slash + 1 : path;
}

// The class of a folder; a new one unless the classes are settled.
static elbo_status class_of(elbo_dataset *ds, const char *path, bool settled, int32_t *label) {
  const char *name = last_name(path);
  for (int c = 0; c < ds->classes; c++)
    if (!strcmp(ds->class_names[c], name)) {
      *label = c;
      return ELBO_OK;
    }
  if (settled) return fail(ds->ctx, ELBO_ERROR_FORMAT, "%s: class '%s' does not occur in the training part", path, name);
  char **more = realloc(ds->class_names, (size_t)(ds->classes + 1) * sizeof *more);
  if (!more) return fail_memory(ds->ctx, 0, "class names");
  ds->class_names = more;
  ds->class_names[ds->classes] = string_copy(name);
  if (!ds->class_names[ds->classes]) return fail_memory(ds->ctx, strlen(name), "class names");
  *label = ds->classes++;
  return ELBO_OK;
}

static elbo_status gather_part(elbo_dataset *ds, const char *path, bool settled, folder_source *s) {
  file_list folders = {0};
  TRY(add_pictures(ds->ctx, path, -1, s));
  int64_t loose = s->files.count;
  elbo_status status = file_list_directory(ds->ctx, path, true, &folders);
  for (int64_t i = 0; i < folders.count && status == ELBO_OK; i++) {
    int64_t before = s->files.count;
    int32_t label = -1;
    status = add_pictures(ds->ctx, folders.path[i], -1, s);
    if (status != ELBO_OK || s->files.count == before) continue; // a folder without pictures is no class
    if (loose) {
      status = fail(ds->ctx, ELBO_ERROR_FORMAT, "%s: pictures both beside and in class folders ('%s')", path, last_name(folders.path[i]));
      break;
    }
    status = class_of(ds, folders.path[i], settled, &label);
    for (int64_t j = before; j < s->files.count && status == ELBO_OK; j++) s->label[j] = label;
  }
  file_list_free(&folders);
  if (status == ELBO_OK && s->files.count == 0)
    return fail(ds->ctx, ELBO_ERROR_FORMAT, "%s: no data in this folder; expected IDX, CIFAR-10 binary, tar shards, .npy, .npz or pictures",
                path);
  return status;
}

static elbo_status open_part(elbo_dataset *ds, elbo_split split, const char *path) {
  folder_source *s = calloc(1, sizeof *s);
  if (!s) return fail_memory(ds->ctx, sizeof *s, "picture folder");
  elbo_status status = gather_part(ds, path, ds->part[ELBO_SPLIT_TRAIN].count > 0, s);
  if (status == ELBO_OK) return part_from_source(ds, split, &FOLDER_OPS, s);
  folder_release(s);
  return status;
}

elbo_status folder_open(elbo_dataset *ds, const char *path) {
  static const char *const NAMES[][2] = {{"train", "training"}, {"valid", "val"}, {"test", "testing"}};
  ds->format = "folder";
  bool split = false;
  for (int s = 0; s < 3; s++)
    for (int k = 0; k < 2; k++) {
      char sub[4096];
      TRY(path_join(ds->ctx, sub, sizeof sub, path, NAMES[s][k]));
      if (!directory_exists(sub) || ds->part[s].count) continue;
      if (s != 0 && !split) break; // without a training folder "test" is a class like any other
      split = true;
      TRY(open_part(ds, (elbo_split)s, sub));
    }
  return split ? ELBO_OK : open_part(ds, ELBO_SPLIT_TRAIN, path);
}
