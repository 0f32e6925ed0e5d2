// WebDataset shards: tar or tar.gz files whose adjacent members of one key ("000012.jpg", "000012.cls", "000012.txt") are one example.
#include <archive.h>
#include <archive_entry.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/json.h"
#include "core/memory.h"
#include "core/philox.h"
#include "data/dataset.h"
#include "data/tar.h"

#define MEMBER_LIMIT ((int64_t)1 << 28) // bytes of one picture file
#define TEXT_LIMIT ((int64_t)1 << 20)   // of one label or caption

typedef struct tar_source {
  char **path;
  int shards;
  int64_t *start;     // (shards + 1) index of each shard's first example; filled by the first walk in order
  const void *memory; // instead of files (one shard)
  size_t memory_size;
} tar_source;

typedef struct tar_walk {
  tar_source *source;
  int64_t *order; // (shards)
  int at;         // place in order
  int64_t within; // examples given of this shard
  bool in_order;
  struct archive *archive;
  encoded_sample next; // whose members are being gathered
  char *key;           // of next
  bool pending;
} tar_walk;

static const char *shard_name(const tar_walk *w) { return w->source->path[w->order[w->at]]; }

static void tar_end(void *walk) {
  tar_walk *w = walk;
  if (!w) return;
  if (w->archive) archive_read_free(w->archive);
  encoded_sample_free(&w->next);
  free(w->key), free(w->order), free(w);
}

static elbo_status tar_begin(void *source, elbo_ctx *ctx, bool shuffle, uint64_t seed, int64_t epoch, void **walk) {
  tar_source *s = source;
  tar_walk *w = calloc(1, sizeof *w);
  if (!w) return fail_memory(ctx, sizeof *w, "tar shards");
  w->source = s, w->in_order = !shuffle, w->next.label = -1;
  elbo_status status = array_new(ctx, (size_t)s->shards, sizeof *w->order, "tar shards", (void **)&w->order);
  if (status != ELBO_OK) {
    tar_end(w);
    return status;
  }
  if (shuffle) philox_permutation(seed, philox_stream("shards") + (uint32_t)epoch, s->shards, w->order);
  for (int i = 0; !shuffle && i < s->shards; i++) w->order[i] = i;
  *walk = w;
  return ELBO_OK;
}

static elbo_status open_shard(elbo_ctx *ctx, tar_walk *w) {
  struct archive *a = w->archive = archive_read_new();
  if (!a) return fail_memory(ctx, 0, shard_name(w));
  archive_read_support_filter_gzip(a);
  archive_read_support_format_tar(a);
  int code = w->source->memory ? archive_read_open_memory(a, w->source->memory, w->source->memory_size)
                               : archive_read_open_filename(a, shard_name(w), 1 << 18);
  if (code != ARCHIVE_OK) return fail(ctx, ELBO_ERROR_FORMAT, "%s: not a readable tar: %s", shard_name(w), archive_error_string(a));
  w->within = 0;
  return ELBO_OK;
}

// Members stay inside: no absolute path, no step upwards.
static elbo_status check_path(elbo_ctx *ctx, const char *shard, const char *path) {
  if (!path || !*path) return fail(ctx, ELBO_ERROR_FORMAT, "%s: a member without a name", shard);
  if (path[0] == '/') return fail(ctx, ELBO_ERROR_FORMAT, "%s: member '%s' has an absolute path", shard, path);
  for (const char *p = path; p; p = strchr(p, '/')) {
    p += *p == '/';
    if (!strncmp(p, "..", 2) && (p[2] == '/' || !p[2])) return fail(ctx, ELBO_ERROR_FORMAT, "%s: member '%s' points outside", shard, path);
  }
  return ELBO_OK;
}

static elbo_status read_data(elbo_ctx *ctx, tar_walk *w, struct archive_entry *entry, int64_t limit, char **out, size_t *size) {
  const char *name = archive_entry_pathname(entry);
  int64_t bytes = archive_entry_size(entry);
  *out = NULL;
  if (bytes < 0 || bytes > limit)
    return fail(ctx, ELBO_ERROR_FORMAT, "%s: member '%s' of %lld bytes; at most %lld are read", shard_name(w), name, (long long)bytes,
                (long long)limit);
  // a header may promise what the file does not hold: memory grows with what comes
  size_t capacity = bytes < 1 << 20 ? (size_t)bytes + 1 : 1 << 20, length = 0;
  char *data = malloc(capacity);
  if (!data) return fail_memory(ctx, capacity, name);
  for (;;) {
    la_ssize_t got = archive_read_data(w->archive, data + length, capacity - 1 - length);
    if (got < 0) {
      free(data);
      const char *why = archive_error_string(w->archive);
      return fail(ctx, ELBO_ERROR_FORMAT, "%s: member '%s' is damaged or cut off: %s", shard_name(w), name, why ? why : "unreadable");
    }
    length += (size_t)got;
    if (got == 0 && length < capacity - 1) break;
    if (length == (size_t)bytes) break;
    if (length == capacity - 1) {
      size_t more = capacity * 2 < (size_t)bytes + 1 ? capacity * 2 : (size_t)bytes + 1;
      char *grown = realloc(data, more);
      if (!grown) {
        free(data);
        return fail_memory(ctx, more, name);
      }
      data = grown, capacity = more;
    }
  }
  if (length != (size_t)bytes) {
    free(data);
    return fail(ctx, ELBO_ERROR_FORMAT, "%s: member '%s' is cut off: %zu of %lld bytes", shard_name(w), name, length, (long long)bytes);
  }
  data[length] = 0;
  *out = data, *size = length;
  return ELBO_OK;
}

static elbo_status parse_class(elbo_ctx *ctx, const char *shard, const char *name, const char *text, int32_t *out) {
  char *end;
  long v = strtol(text, &end, 10);
  while (isspace((unsigned char)*end)) end++;
  if (end == text || *end || v < 0 || v >= 1 << 20)
    return fail(ctx, ELBO_ERROR_FORMAT, "%s: member '%s': class '%.40s'; expected a whole number from 0", shard, name, text);
  *out = (int32_t)v;
  return ELBO_OK;
}

static elbo_status parse_json(elbo_ctx *ctx, const char *shard, const char *name, const char *text, size_t size, encoded_sample *s) {
  json_error_t error;
  json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
  if (!json_is_object(root)) {
    json_decref(root);
    return fail(ctx, ELBO_ERROR_FORMAT, "%s: member '%s' is not a JSON object: %s", shard, name, error.text);
  }
  const char *const labels[] = {"label", "class", "cls"}, *const captions[] = {"caption", "text"};
  for (size_t i = 0; i < 3; i++) {
    json_t *v = json_object_get(root, labels[i]);
    if (json_is_integer(v) && json_integer_value(v) >= 0 && json_integer_value(v) < 1 << 20) s->label = (int32_t)json_integer_value(v);
  }
  for (size_t i = 0; i < 2 && !s->caption; i++) s->caption = string_copy(json_string_value(json_object_get(root, captions[i])));
  json_decref(root);
  return ELBO_OK;
}

static bool picture_ending(const char *end) {
  static const char *const ENDS[] = {"jpg", "jpeg", "png", "webp"};
  for (size_t i = 0; i < 4; i++)
    if (!strcasecmp(end, ENDS[i])) return true;
  return false;
}

static elbo_status add_member(elbo_ctx *ctx, tar_walk *w, struct archive_entry *entry, const char *end) {
  const char *name = archive_entry_pathname(entry), *shard = shard_name(w);
  encoded_sample *s = &w->next;
  char *data;
  size_t size = 0;
  bool is_class = !strcasecmp(end, "cls"), is_text = !strcasecmp(end, "txt"), is_json = !strcasecmp(end, "json");
  if (picture_ending(end)) {
    if (s->bytes) return ELBO_OK; // the first picture of a key counts
    TRY(read_data(ctx, w, entry, MEMBER_LIMIT, &data, &size));
    s->bytes = data, s->size = size;
    size_t n = strlen(shard) + strlen(name) + 3;
    s->name = malloc(n);
    if (!s->name) return fail_memory(ctx, n, name);
    snprintf(s->name, n, "%s: %s", shard, name);
    return ELBO_OK;
  }
  if (!is_class && !is_text && !is_json) return ELBO_OK;
  TRY(read_data(ctx, w, entry, TEXT_LIMIT, &data, &size));
  elbo_status status = ELBO_OK;
  if (is_class) status = parse_class(ctx, shard, name, data, &s->label);
  if (is_json) status = parse_json(ctx, shard, name, data, size, s);
  if (is_text) {
    while (size && isspace((unsigned char)data[size - 1])) data[--size] = 0;
    free(s->caption);
    s->caption = data;
    return ELBO_OK;
  }
  free(data);
  return status;
}

// What has been gathered is an example when it has a picture.
static bool give_pending(tar_walk *w, encoded_sample *out) {
  bool give = w->pending && w->next.bytes;
  if (give) {
    int64_t first = w->source->start[w->order[w->at]];
    *out = w->next;
    out->index = first + w->within++;
    w->next = (encoded_sample){.label = -1};
  } else {
    encoded_sample_free(&w->next);
  }
  w->pending = false;
  return give;
}

static elbo_status next_member(elbo_ctx *ctx, tar_walk *w, struct archive_entry **entry) {
  for (;;) {
    int code = archive_read_next_header(w->archive, entry);
    if (code == ARCHIVE_EOF) {
      *entry = NULL;
      return ELBO_OK;
    }
    if (code < ARCHIVE_WARN) {
      const char *why = archive_error_string(w->archive);
      return fail(ctx, ELBO_ERROR_FORMAT, "%s: damaged or cut-off tar: %s", shard_name(w), why ? why : "unreadable");
    }
    TRY(check_path(ctx, shard_name(w), archive_entry_pathname(*entry)));
    if (archive_entry_filetype(*entry) == AE_IFREG && !archive_entry_hardlink(*entry)) return ELBO_OK;
  }
}

static elbo_status tar_next(void *walk, elbo_ctx *ctx, encoded_sample *out, bool *end) {
  tar_walk *w = walk;
  tar_source *s = w->source;
  while (w->at < s->shards) {
    if (!w->archive) TRY(open_shard(ctx, w));
    struct archive_entry *entry;
    TRY(next_member(ctx, w, &entry));
    if (!entry) {
      bool given = give_pending(w, out);
      if (w->in_order) s->start[w->at + 1] = s->start[w->at] + w->within;
      archive_read_free(w->archive);
      w->archive = NULL;
      w->at++;
      if (given) return ELBO_OK;
      continue;
    }
    const char *name = archive_entry_pathname(entry), *slash = strrchr(name, '/'), *base = slash ? slash + 1 : name,
               *dot = strchr(base, '.');
    if (!dot || dot == base) continue; // no ending, or a hidden file
    size_t length = (size_t)(dot - name);
    bool same = w->pending && strlen(w->key) == length && !strncmp(w->key, name, length);
    bool given = !same && give_pending(w, out);
    if (!same) {
      free(w->key);
      w->key = strndup(name, length);
      if (!w->key) return fail_memory(ctx, length, name);
      w->pending = true;
    }
    const char *last = strrchr(dot, '.');
    elbo_status status = add_member(ctx, w, entry, last + 1);
    if (status != ELBO_OK) {
      if (given) encoded_sample_free(out);
      return status;
    }
    if (given) return ELBO_OK;
  }
  *end = true;
  return ELBO_OK;
}

static void tar_release(void *source) {
  tar_source *s = source;
  for (int i = 0; s->path && i < s->shards; i++) free(s->path[i]);
  free(s->path), free(s->start), free(s);
}

static int64_t tar_bytes(const void *source) {
  const tar_source *s = source;
  return (int64_t)sizeof *s + s->shards * (int64_t)(sizeof *s->path + sizeof *s->start);
}

static void tar_identify(const void *source, sha256 *hash) {
  const tar_source *s = source;
  if (s->memory) sha256_add(hash, s->memory, s->memory_size);
  for (int i = 0; !s->memory && i < s->shards; i++) identify_file(s->path[i], hash);
}

static const sample_source_ops TAR_OPS = {tar_begin, tar_next, tar_end, tar_release, tar_bytes, tar_identify};

static elbo_status make_source(elbo_ctx *ctx, int n, char *const *paths, tar_source **out) {
  tar_source *s = *out = calloc(1, sizeof *s);
  if (!s) return fail_memory(ctx, sizeof *s, "tar shards");
  s->shards = n;
  elbo_status status = array_new(ctx, (size_t)n, sizeof *s->path, "tar shards", (void **)&s->path);
  if (status == ELBO_OK) status = array_new(ctx, (size_t)n + 1, sizeof *s->start, "tar shards", (void **)&s->start);
  for (int i = 0; i < n && status == ELBO_OK; i++) {
    s->path[i] = string_copy(paths[i]);
    if (!s->path[i]) status = fail_memory(ctx, strlen(paths[i]), "tar shards");
  }
  if (status != ELBO_OK) tar_release(s);
  return status;
}

elbo_status tar_open(elbo_dataset *ds, int n, char *const *paths) {
  ds->format = "webdataset";
  char **some;
  TRY(array_new(ds->ctx, (size_t)n, sizeof *some, "tar shards", (void **)&some));
  elbo_status status = ELBO_OK;
  for (int split = 0; split < 3 && status == ELBO_OK; split++) {
    int count = 0;
    for (int i = 0; i < n; i++)
      if ((int)split_of_name(paths[i]) == split) some[count++] = paths[i];
    if (!count) continue;
    tar_source *source;
    status = make_source(ds->ctx, count, some, &source);
    if (status == ELBO_OK) status = part_from_source(ds, (elbo_split)split, &TAR_OPS, source);
  }
  free(some);
  return status;
}

elbo_status tar_open_memory(elbo_dataset *ds, const void *bytes, size_t size) {
  tar_source *source;
  ds->format = "webdataset";
  TRY(make_source(ds->ctx, 1, (char *const[]){"memory.tar"}, &source));
  source->memory = bytes, source->memory_size = size;
  return part_from_source(ds, ELBO_SPLIT_TRAIN, &TAR_OPS, source);
}
