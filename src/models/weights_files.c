#include "models/weights_files.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/half.h"
#include "core/json.h"
#include "core/memory.h"

static bool is_float(elbo_dtype dtype) { return dtype == ELBO_F32 || dtype == ELBO_F64 || dtype == ELBO_F16 || dtype == ELBO_BF16; }

static int64_t elements(const tensor_view *v) { return (int64_t)(v->bytes / elbo_dtype_size(v->dtype)); }

// What a tensor becomes: its own type, or the one asked for.
static elbo_dtype target(const tensor_view *v, int dtype) { return dtype >= 0 && is_float(v->dtype) ? (elbo_dtype)dtype : v->dtype; }

static size_t target_bytes(const tensor_view *v, int dtype) { return (size_t)elements(v) * elbo_dtype_size(target(v, dtype)); }

// Into `to`, which holds target_bytes.
static elbo_status change_type(elbo_ctx *ctx, const tensor_view *v, elbo_dtype dtype, char *to) {
  int64_t n = elements(v), infinite = 0;
  float *floats;
  if (dtype == ELBO_F32) return weights_read_floats(v, (float *)(void *)to) ? ELBO_OK : ELBO_ERROR_INTERNAL; // a float type, as was seen
  TRY(array_new(ctx, (size_t)n, sizeof *floats, v->name, (void **)&floats));
  weights_read_floats(v, floats);
  for (int64_t i = 0; i < n; i++) {
    uint16_t half = dtype == ELBO_F16 ? f32_to_f16(floats[i]) : f32_to_bf16(floats[i]);
    infinite += isfinite(floats[i]) && !isfinite(dtype == ELBO_F16 ? f16_to_f32(half) : bf16_to_f32(half));
    memcpy(to + 2 * i, &half, 2);
  }
  free(floats);
  if (infinite)
    log_warning(ctx, "tensor %s: %lld numbers are beyond the range of %s and became infinite", v->name, (long long)infinite,
                elbo_dtype_name(dtype));
  return ELBO_OK;
}

static elbo_status write_one(elbo_ctx *ctx, const char *path, int64_t n, const tensor_view *views, int dtype) {
  static const char *const metadata[] = {"format", "pt"};
  tensor_view *changed;
  char *data = NULL;
  size_t total = 0, at = 0;
  for (int64_t i = 0; i < n; i++)
    if (target(&views[i], dtype) != views[i].dtype) total += (target_bytes(&views[i], dtype) + 7) & ~(size_t)7;
  TRY(array_new(ctx, (size_t)n, sizeof *changed, "a table of tensors", (void **)&changed));
  elbo_status status = aligned_new(ctx, total, "converted tensors", (void **)&data);
  for (int64_t i = 0; i < n && status == ELBO_OK; i++) {
    changed[i] = views[i];
    elbo_dtype to = target(&views[i], dtype);
    if (to == views[i].dtype) continue;
    changed[i].dtype = to, changed[i].bytes = target_bytes(&views[i], dtype), changed[i].data = data + at;
    at += (changed[i].bytes + 7) & ~(size_t)7;
    status = change_type(ctx, &views[i], to, data + (at - ((changed[i].bytes + 7) & ~(size_t)7)));
  }
  if (status == ELBO_OK) status = safetensors_write(ctx, path, n, changed, 1, metadata);
  aligned_free(data);
  free(changed);
  return status;
}

// Where the shard that begins with tensor `from` ends.
static int64_t shard_end(int64_t n, const tensor_view *views, int dtype, int64_t limit, int64_t from) {
  int64_t bytes = 0, i = from;
  for (; i < n; i++) {
    int64_t more = (int64_t)target_bytes(&views[i], dtype);
    if (i > from && bytes > limit - more) break;
    bytes += more;
  }
  return i;
}

// The shards first and the index last: without it they count for nothing.
static elbo_status write_shards(elbo_ctx *ctx, const char *path, int64_t n, const tensor_view *views, int dtype, int64_t limit, int shards,
                                int64_t total) {
  char name[PATH_MAX];
  json_t *map = json_object(), *index = json_object(), *metadata = json_object();
  elbo_status status = map && index && metadata ? ELBO_OK : fail_memory(ctx, 0, path);
  int stem = (int)(strlen(path) - strlen(".safetensors")), shard = 0;
  for (int64_t from = 0, end; from < n && status == ELBO_OK; from = end) {
    end = shard_end(n, views, dtype, limit, from);
    shard++;
    if ((size_t)snprintf(name, sizeof name, "%.*s-%05d-of-%05d.safetensors", stem, path, shard, shards) >= sizeof name)
      status = fail(ctx, ELBO_ERROR_ARGUMENT, "%.200s: path too long", path);
    if (status == ELBO_OK) status = write_one(ctx, name, end - from, views + from, dtype);
    const char *slash = strrchr(name, '/');
    for (int64_t i = from; i < end && status == ELBO_OK; i++)
      if (json_object_set_new(map, views[i].name, json_string(slash ? slash + 1 : name)) != 0)
        status = fail(ctx, ELBO_ERROR_FORMAT, "%s: tensor '%.200s': a name that is not UTF-8, or memory ran out", path, views[i].name);
  }
  json_object_set_new(metadata, "total_size", json_integer(total));
  json_object_set_new(index, "metadata", metadata);
  json_object_set_new(index, "weight_map", map);
  snprintf(name, sizeof name, "%s.index.json", path);
  if (status == ELBO_OK) status = json_write(ctx, name, index);
  json_decref(index);
  return status;
}

elbo_status weights_write_files(elbo_ctx *ctx, const char *path, int64_t n, const tensor_view *views, int dtype, int64_t max_shard_bytes,
                                int *files, int64_t *bytes) {
  int shards = 0;
  int64_t total = 0;
  for (int64_t i = 0; i < n; i++) total += (int64_t)target_bytes(&views[i], dtype);
  for (int64_t from = 0; max_shard_bytes > 0 && from < n; shards++) from = shard_end(n, views, dtype, max_shard_bytes, from);
  if (shards <= 1) shards = 1;
  *files += shards, *bytes += total;
  if (shards == 1) return write_one(ctx, path, n, views, dtype);
  return write_shards(ctx, path, n, views, dtype, max_shard_bytes, shards, total);
}
