// The parts of a data set: filled from arrays, or by decoding what a source walks through.
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "data/dataset.h"

size_t dataset_example_bytes(const elbo_dataset *ds) {
  return (size_t)ds->height * (size_t)ds->width * (size_t)ds->channels * elbo_dtype_size(ds->dtype);
}

elbo_status text_list_add(elbo_ctx *ctx, text_list *list, const char *text, size_t length) {
  TRY(array_grow(ctx, &list->offset, &list->offset_capacity, list->count + 1, sizeof *list->offset));
  if (list->length + length + 1 > list->capacity) {
    size_t capacity = (list->length + length + 1) * 2;
    char *more = realloc(list->at, capacity);
    if (!more) return fail_memory(ctx, capacity, "captions");
    list->at = more, list->capacity = capacity;
  }
  if (length) memcpy(list->at + list->length, text, length);
  list->at[list->length + length] = 0;
  list->offset[list->count++] = (int64_t)list->length;
  list->length += length + 1;
  return ELBO_OK;
}

const char *text_list_get(const text_list *list, int64_t i) { return list->offset && i < list->count ? list->at + list->offset[i] : ""; }

void encoded_sample_free(encoded_sample *s) {
  free(s->name), free(s->bytes), free(s->caption);
  *s = (encoded_sample){.label = -1};
}

elbo_split split_of_name(const char *path) {
  const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
  if (strstr(name, "train")) return ELBO_SPLIT_TRAIN;
  if (strstr(name, "t10k") || strstr(name, "test")) return ELBO_SPLIT_TEST;
  if (strstr(name, "valid") || strstr(name, "_val") || strstr(name, "-val") || !strncmp(name, "val", 3)) return ELBO_SPLIT_VALID;
  return ELBO_SPLIT_TRAIN;
}

// --- arrays -----------------------------------------------------------------------------------------------------------------------

static elbo_status set_shape(elbo_dataset *ds, const char *name, int64_t h, int64_t w, int64_t c, elbo_dtype dtype) {
  if (h < 1 || w < 1 || c < 1 || h > INT_MAX || w > INT_MAX || c > INT_MAX)
    return fail(ds->ctx, ELBO_ERROR_FORMAT, "%s: examples of shape (%lld,%lld,%lld)", name, (long long)h, (long long)w, (long long)c);
  if (ds->height == 0) {
    ds->height = (int)h, ds->width = (int)w, ds->channels = (int)c, ds->dtype = dtype;
    int64_t bytes = (int64_t)elbo_dtype_size(dtype);
    if (!checked_mul(bytes, h, &bytes) || !checked_mul(bytes, w, &bytes) || !checked_mul(bytes, c, &bytes) || bytes > (int64_t)1 << 32)
      return fail(ds->ctx, ELBO_ERROR_UNSUPPORTED, "%s: examples of more than 4 GiB each", name);
  } else if (ds->height != h || ds->width != w || ds->channels != c || ds->dtype != dtype) {
    return fail(ds->ctx, ELBO_ERROR_FORMAT, "%s: (%lld,%lld,%lld) %s where the other part of the data has (%d,%d,%d) %s", name,
                (long long)h, (long long)w, (long long)c, elbo_dtype_name(dtype), ds->height, ds->width, ds->channels,
                elbo_dtype_name(ds->dtype));
  }
  return ELBO_OK;
}

// (N,A,B) to (N,B,A) into memory of the part's own.
static void copy_channels_last(const uint8_t *from, uint8_t *to, int64_t n, int64_t channels, int64_t pixels, size_t size) {
  for (int64_t i = 0; i < n; i++)
    for (int64_t c = 0; c < channels; c++)
      for (int64_t p = 0; p < pixels; p++)
        memcpy(to + (size_t)((i * pixels + p) * channels + c) * size, from + (size_t)((i * channels + c) * pixels + p) * size, size);
}

static bool is_float(elbo_dtype dtype) { return dtype == ELBO_F32 || dtype == ELBO_F64 || dtype == ELBO_F16 || dtype == ELBO_BF16; }

static elbo_status copy_labels(elbo_dataset *ds, example_part *part, const char *name, const elbo_array *label) {
  if ((label->rank == 2 || label->rank == 3) && is_float(label->dtype)) return part_set_condition(ds, part, name, label);
  if (label->rank < 1 || label->rank > 2 || (label->rank == 2 && label->dim[1] != 1) || label->dim[0] != part->count)
    return fail(ds->ctx, ELBO_ERROR_FORMAT, "%s: %lld examples, but labels of %lld%s; expected one each", name, (long long)part->count,
                label->rank ? (long long)label->dim[0] : 1LL, label->rank == 2 ? " rows of several" : "");
  if (is_float(label->dtype))
    return fail(ds->ctx, ELBO_ERROR_FORMAT,
                "%s: labels are %s; expected whole numbers (or, as conditions, (examples,numbers) or (examples,embeddings,numbers))", name,
                elbo_dtype_name(label->dtype));
  elbo_array *narrow;
  TRY(elbo_array_convert(ds->ctx, label, ELBO_I32, &narrow));
  elbo_status status = array_new(ds->ctx, (size_t)part->count, sizeof(int32_t), "labels", (void **)&part->label);
  if (status == ELBO_OK && part->count) memcpy(part->label, narrow->data, (size_t)part->count * sizeof(int32_t));
  elbo_array_destroy(&narrow);
  return status;
}

void part_free_pixels(example_part *part) {
  if (part->owner)
    elbo_array_destroy(&part->owner);
  else
    free(part->pixels);
  part->pixels = NULL;
}

static elbo_status keep_pixels(elbo_dataset *ds, example_part *part, const char *name, elbo_array **x, bool take) {
  size_t bytes = elbo_array_bytes(*x);
  bool nchw = ds->config.layout == DATA_LAYOUT_NCHW && (*x)->rank == 4;
  if (take && !nchw) {
    part->owner = *x, part->pixels = (*x)->data;
    *x = NULL;
    return ELBO_OK;
  }
  part->pixels = malloc(bytes ? bytes : 1);
  if (!part->pixels) return fail_memory(ds->ctx, bytes, name);
  const int64_t *d = (*x)->dim;
  if (nchw)
    copy_channels_last((*x)->data, part->pixels, d[0], d[1], d[2] * d[3], elbo_dtype_size((*x)->dtype));
  else
    memcpy(part->pixels, (*x)->data, bytes);
  return ELBO_OK;
}

static elbo_status fill_part(elbo_dataset *ds, elbo_split split, const char *name, elbo_array **address, bool take,
                             const elbo_array *label) {
  const elbo_array *x = *address;
  const int64_t *d = x->dim;
  int64_t h = 1, w = 1, c = 1;
  bool nchw = ds->config.layout == DATA_LAYOUT_NCHW && x->rank == 4;
  if (x->rank == 4)
    h = d[nchw ? 2 : 1], w = d[nchw ? 3 : 2], c = d[nchw ? 1 : 3];
  else if (x->rank == 3)
    h = d[1], w = d[2];
  else if (x->rank == 2)
    c = d[1];
  else
    return fail(ds->ctx, ELBO_ERROR_FORMAT, "%s: examples of %d dimensions; expected (N,H,W,C), (N,H,W) or (N,D)", name, x->rank);
  if (d[0] == 0) return fail(ds->ctx, ELBO_ERROR_FORMAT, "%s: holds no examples", name);
  if (x->rank == 4 && !nchw && c > 4 && d[1] <= 4)
    log_warning(ds->ctx, "%s: (%lld,%lld,%lld,%lld) looks like N,C,H,W; if it is, set data.layout=nchw", name, (long long)d[0],
                (long long)d[1], (long long)d[2], (long long)d[3]);
  example_part *part = &ds->part[split];
  int64_t count = d[0];
  int rank = x->rank;
  TRY(set_shape(ds, name, h, w, c, x->dtype));
  TRY(keep_pixels(ds, part, name, address, take));
  part->count = count;
  ds->image = ds->image || (rank >= 3 && c <= 4);
  return label ? copy_labels(ds, part, name, label) : ELBO_OK;
}

static bool is_stored_dtype(elbo_dtype dtype) { return dtype == ELBO_U8 || dtype == ELBO_U16 || dtype == ELBO_F32; }

elbo_status part_take_array(elbo_dataset *ds, elbo_split split, const char *name, elbo_array **x, const elbo_array *label) {
  if (!is_stored_dtype((*x)->dtype)) return part_from_arrays(ds, split, name, *x, label);
  return fill_part(ds, split, name, x, true, label);
}

elbo_status part_from_arrays(elbo_dataset *ds, elbo_split split, const char *name, const elbo_array *x, const elbo_array *label) {
  if (is_stored_dtype(x->dtype)) return fill_part(ds, split, name, &(elbo_array *){(elbo_array *)(uintptr_t)x}, false, label);
  elbo_array *converted; // values as they are
  TRY(elbo_array_convert(ds->ctx, x, ELBO_F32, &converted));
  elbo_status status = fill_part(ds, split, name, &converted, true, label);
  elbo_array_destroy(&converted);
  return status;
}

// --- sources ----------------------------------------------------------------------------------------------------------------------

static void set_depth(picture *p, elbo_dtype dtype) { // the buffer has room for either: see dataset_decode
  size_t n = (size_t)p->height * (size_t)p->width * (size_t)p->channels;
  if (dtype == ELBO_U8 && p->bits == 16) {
    for (size_t i = 0; i < n; i++) {
      uint16_t v = ((uint16_t *)p->data)[i];
      ((uint8_t *)p->data)[i] = (uint8_t)((v + 128) / 257);
    }
    p->bits = 8;
  }
}

static elbo_status decode_shaped(const elbo_dataset *ds, const encoded_sample *s, picture *p, picture *q) {
  TRY(picture_decode(ds->ctx, s->name, s->bytes, s->size, p));
  if (ds->config.channels) TRY(picture_set_channels(ds->ctx, s->name, (int)ds->config.channels, p));
  if (ds->config.size) TRY(picture_fit(ds->ctx, s->name, (int)ds->config.size, p, q));
  return ELBO_OK;
}

elbo_status dataset_decode(const elbo_dataset *ds, const encoded_sample *s, picture *p, picture *q, void *out) {
  TRY(decode_shaped(ds, s, p, q));
  if (p->height != ds->height || p->width != ds->width)
    return fail(ds->ctx, ELBO_ERROR_ARGUMENT, "%s: %d x %d pixels where others have %d x %d; set data.size to cut and resize all pictures",
                s->name, p->width, p->height, ds->width, ds->height);
  if (p->channels != ds->channels)
    return fail(ds->ctx, ELBO_ERROR_ARGUMENT, "%s: %d channels where others have %d; set data.channels=3 to bring all to one", s->name,
                p->channels, ds->channels);
  size_t n = (size_t)p->height * (size_t)p->width * (size_t)p->channels;
  if (ds->dtype == ELBO_U16 && p->bits == 8) {
    for (size_t i = 0; i < n; i++) ((uint16_t *)out)[i] = (uint16_t)(((uint8_t *)p->data)[i] * 257);
    return ELBO_OK;
  }
  set_depth(p, ds->dtype);
  memcpy(out, p->data, dataset_example_bytes(ds));
  return ELBO_OK;
}

void dataset_skip(elbo_dataset *ds, elbo_split part, int64_t index, const char *message) {
  if (index >= 0 && atomic_exchange(&ds->part[part].unreadable[index], 1)) return;
  atomic_fetch_add(&ds->part[part].skipped, 1);
  if (atomic_fetch_add(&ds->skip_reports, 1) < 5) log_warning(ds->ctx, "skipped: %s", message);
}

elbo_status dataset_check_skipped(elbo_dataset *ds, elbo_split part, int64_t total) {
  long long n = atomic_load(&ds->part[part].skipped);
  if ((double)n <= ds->config.max_skipped * (double)total) return ELBO_OK;
  return fail(ds->ctx, ELBO_ERROR_FORMAT, "%s: %lld of %lld pictures cannot be read, more than data.max_skipped = %g allows", ds->path, n,
              (long long)total, ds->config.max_skipped);
}

#define CHUNK_SAMPLES 1024
#define CHUNK_BYTES ((size_t)32 << 20)

// A part being filled: chunks of encoded samples, decoded in parallel, appended.
typedef struct part_builder {
  elbo_dataset *ds;
  elbo_split split;
  encoded_sample *chunk; // (CHUNK_SAMPLES)
  int64_t n;             // in the chunk
  size_t encoded;        // bytes in the chunk
  elbo_status *result;   // (CHUNK_SAMPLES)
  char **message;        // (CHUNK_SAMPLES)
  uint8_t *pixels;       // grown
  int64_t count, capacity, seen;
  int64_t label_capacity, labelled;
  int64_t budget; // bytes that the pixels may take
  bool overflow;
} part_builder;

static void decode_range(void *arg, int64_t begin, int64_t end) {
  part_builder *b = arg;
  picture p = {0}, q = {0};
  size_t bytes = dataset_example_bytes(b->ds);
  for (int64_t i = begin; i < end; i++) {
    b->result[i] = dataset_decode(b->ds, &b->chunk[i], &p, &q, b->pixels + (size_t)(b->count + i) * bytes);
    if (b->result[i] != ELBO_OK) b->message[i] = string_copy(elbo_ctx_message(b->ds->ctx));
  }
  picture_free(&p), picture_free(&q);
}

// An unreadable picture is left out; anything else stops.
static bool is_unreadable(elbo_status status) { return status == ELBO_ERROR_FORMAT || status == ELBO_ERROR_UNSUPPORTED; }

// The first readable picture gives the shape.
static elbo_status learn_shape(part_builder *b) {
  elbo_dataset *ds = b->ds;
  picture p = {0}, q = {0};
  elbo_status status = ELBO_OK;
  for (int64_t i = 0; i < b->n && !ds->height; i++) {
    status = decode_shaped(ds, &b->chunk[i], &p, &q);
    if (status == ELBO_OK) status = set_shape(ds, b->chunk[i].name, p.height, p.width, p.channels, p.bits == 8 ? ELBO_U8 : ELBO_U16);
    if (status == ELBO_OK || !is_unreadable(status)) break;
    status = ELBO_OK;
  }
  picture_free(&p), picture_free(&q);
  return status;
}

static elbo_status keep_label(part_builder *b, const encoded_sample *s, int64_t at) {
  example_part *part = &b->ds->part[b->split];
  TRY(array_grow(b->ds->ctx, &part->label, &b->label_capacity, at + 1, sizeof *part->label));
  part->label[at] = s->label;
  b->labelled += s->label >= 0;
  if (s->caption || part->caption.count) { // captions may begin late: those before are empty
    while (part->caption.count < at) TRY(text_list_add(b->ds->ctx, &part->caption, "", 0));
    TRY(text_list_add(b->ds->ctx, &part->caption, s->caption ? s->caption : "", s->caption ? strlen(s->caption) : 0));
  }
  return ELBO_OK;
}

static elbo_status append_chunk(part_builder *b) {
  elbo_dataset *ds = b->ds;
  for (int64_t i = 0; i < b->n; i++)
    if (picture_recognise(b->chunk[i].bytes, b->chunk[i].size) == PICTURE_JPEG) ds->decoder = jpeg_decoder_name();
  if (!ds->height) TRY(learn_shape(b));
  size_t bytes = dataset_example_bytes(ds);
  if (ds->height && !b->overflow) {
    if ((b->count + b->n) > b->budget / (int64_t)bytes) {
      b->overflow = true;
      return ELBO_OK;
    }
    if (b->count + b->n > b->capacity) {
      int64_t capacity = b->capacity * 2 > b->count + b->n ? b->capacity * 2 : b->count + b->n;
      void *more = realloc(b->pixels, (size_t)capacity * bytes);
      if (!more) return fail_memory(ds->ctx, (size_t)capacity * bytes, "decoded pictures");
      b->pixels = more, b->capacity = capacity;
    }
    parallel_for(&ds->ctx->pool, b->n, 8, decode_range, b);
  } else {
    for (int64_t i = 0; i < b->n; i++) b->result[i] = ELBO_ERROR_FORMAT;
  }
  elbo_status status = ELBO_OK;
  int64_t good = 0;
  for (int64_t i = 0; i < b->n; i++) {
    if (b->result[i] == ELBO_OK && status == ELBO_OK) {
      if (good != i) memmove(b->pixels + (size_t)(b->count + good) * bytes, b->pixels + (size_t)(b->count + i) * bytes, bytes);
      status = keep_label(b, &b->chunk[i], b->count + good);
      good++;
    } else if (status == ELBO_OK && is_unreadable(b->result[i])) {
      dataset_skip(ds, b->split, -1, b->message[i] ? b->message[i] : b->chunk[i].name);
    } else if (status == ELBO_OK) {
      status = fail(ds->ctx, b->result[i], "%s", b->message[i] ? b->message[i] : b->chunk[i].name);
    }
    free(b->message[i]), b->message[i] = NULL;
    encoded_sample_free(&b->chunk[i]);
  }
  b->count += good;
  b->n = 0, b->encoded = 0;
  return status;
}

static elbo_status walk_all(part_builder *b, const sample_source_ops *ops, void *source, bool count_only) {
  void *walk = NULL;
  TRY(ops->begin(source, b->ds->ctx, false, 0, 0, &walk));
  elbo_status status = ELBO_OK;
  for (bool end = false; status == ELBO_OK && !b->overflow;) {
    encoded_sample *s = &b->chunk[b->n];
    *s = (encoded_sample){.label = -1};
    status = ops->next(walk, b->ds->ctx, s, &end);
    if (status != ELBO_OK || end) break;
    b->seen++;
    if (count_only) {
      status = keep_label(b, s, b->count++);
      encoded_sample_free(s);
      continue;
    }
    b->encoded += s->size;
    b->n++;
    if (b->n == CHUNK_SAMPLES || b->encoded >= CHUNK_BYTES) status = append_chunk(b);
  }
  if (status == ELBO_OK && !count_only && b->n && !b->overflow) status = append_chunk(b);
  for (int64_t i = 0; i < b->n; i++) encoded_sample_free(&b->chunk[i]);
  b->n = 0;
  ops->end(walk);
  return status;
}

static elbo_status build_part(part_builder *b, const sample_source_ops *ops, void *source, bool *keep_source) {
  elbo_dataset *ds = b->ds;
  example_part *part = &ds->part[b->split];
  TRY(array_new(ds->ctx, CHUNK_SAMPLES, sizeof *b->chunk, "samples", (void **)&b->chunk));
  TRY(array_new(ds->ctx, CHUNK_SAMPLES, sizeof *b->result, "samples", (void **)&b->result));
  TRY(array_new(ds->ctx, CHUNK_SAMPLES, sizeof *b->message, "samples", (void **)&b->message));
  b->budget = ds->config.cache;
  for (int s = 0; s < 3; s++)
    if (ds->part[s].pixels) b->budget -= ds->part[s].count * (int64_t)dataset_example_bytes(ds);
  TRY(walk_all(b, ops, source, false));
  if (b->overflow) { // once more for labels and captions alone; pictures are decoded as they are wanted
    free(b->pixels);
    b->pixels = NULL;
    free(part->caption.at), free(part->caption.offset);
    part->caption = (text_list){0};
    b->count = b->seen = b->labelled = 0;
    b->overflow = false;
    atomic_store(&part->skipped, 0);
    atomic_store(&ds->skip_reports, 0);
    TRY(walk_all(b, ops, source, true));
    TRY(array_new(ds->ctx, (size_t)b->count, sizeof *part->unreadable, ds->path, (void **)&part->unreadable));
    *keep_source = true;
    log_info(ds->ctx, "%s: larger than data.cache; streamed through a buffer of %lld examples", ds->path,
             (long long)ds->config.shuffle_buffer);
  } else {
    TRY(dataset_check_skipped(ds, b->split, b->seen));
    long long skipped = atomic_load(&part->skipped);
    if (skipped)
      log_warning(ds->ctx, "%s: %lld of %lld pictures could not be read and are left out", ds->path, skipped, (long long)b->seen);
    void *less = b->count ? realloc(b->pixels, (size_t)b->count * dataset_example_bytes(ds)) : NULL;
    part->pixels = less ? less : b->pixels;
    b->pixels = NULL;
  }
  if (b->count == 0) return fail(ds->ctx, ELBO_ERROR_FORMAT, "%s: holds no readable examples", ds->path);
  part->count = b->count;
  ds->image = true;
  if (b->labelled == 0) {
    free(part->label);
    part->label = NULL;
  } else if (b->labelled < b->count) {
    for (int64_t i = 0; i < b->count; i++)
      if (part->label[i] < 0)
        return fail(ds->ctx, ELBO_ERROR_FORMAT, "%s: example %lld has no label, others have%s", ds->path, (long long)i,
                    strcmp(ds->format, "webdataset") == 0 ? " (the members of one example must stand side by side in a tar)" : "");
  }
  while (part->caption.count && part->caption.count < part->count) TRY(text_list_add(ds->ctx, &part->caption, "", 0));
  return ELBO_OK;
}

elbo_status part_from_source(elbo_dataset *ds, elbo_split split, const sample_source_ops *ops, void *source) {
  part_builder b = {.ds = ds, .split = split};
  bool keep_source = false;
  elbo_status status = build_part(&b, ops, source, &keep_source);
  free(b.chunk), free(b.result), free(b.message), free(b.pixels);
  if (status == ELBO_OK && keep_source)
    ds->part[split].walk_ops = ops, ds->part[split].source = source;
  else
    ops->release(source);
  return status;
}
