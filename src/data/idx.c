// IDX, MNIST's format: 0, 0, element type, rank, big-endian dimensions, big-endian elements; often gzipped.
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "core/file.h"
#include "core/memory.h"
#include "data/dataset.h"
#include "data/recognise.h"

// Bytes of a file in memory, gunzipped on the way when they are gzip.
typedef struct byte_reader {
  const uint8_t *at;
  size_t left;
  bool gzip, ended; // ended: gzip data came to their end, and their checksum agreed
  z_stream z;
} byte_reader;

static elbo_status reader_begin(elbo_ctx *ctx, const char *name, const void *bytes, size_t size, byte_reader *r) {
  *r = (byte_reader){.at = bytes, .left = size, .gzip = size >= 2 && !memcmp(bytes, "\x1f\x8b", 2)};
  if (r->gzip && inflateInit2(&r->z, 15 + 16) != Z_OK) return fail_memory(ctx, 0, name);
  return ELBO_OK;
}

static void reader_end(byte_reader *r) {
  if (r->gzip) inflateEnd(&r->z);
}

// Reads up to n bytes; *got is less at the end of the data. A damaged gzip stream is an error, one that is cut off an end.
static elbo_status reader_take(elbo_ctx *ctx, const char *name, byte_reader *r, void *to, size_t n, size_t *got) {
  *got = 0;
  if (!r->gzip) {
    *got = n < r->left ? n : r->left;
    if (*got == 0) return ELBO_OK; // nothing there may mean no address
    memcpy(to, r->at, *got);
    r->at += *got, r->left -= *got;
    return ELBO_OK;
  }
  while (*got < n) {
    uInt in = r->left > 1 << 30 ? 1 << 30 : (uInt)r->left, room = n - *got > 1 << 30 ? 1 << 30 : (uInt)(n - *got);
    r->z.next_in = (Bytef *)(uintptr_t)r->at, r->z.avail_in = in;
    r->z.next_out = (Bytef *)to + *got, r->z.avail_out = room;
    int code = inflate(&r->z, Z_NO_FLUSH);
    r->at += in - r->z.avail_in, r->left -= in - r->z.avail_in;
    *got += room - r->z.avail_out;
    r->ended = code == Z_STREAM_END;
    if (code == Z_STREAM_END && r->left && *got < n && inflateReset(&r->z) == Z_OK) continue; // another gzip member follows
    if (code == Z_STREAM_END || (code == Z_BUF_ERROR && r->left == 0)) return ELBO_OK;
    if (code != Z_OK) return fail(ctx, ELBO_ERROR_FORMAT, "%s: damaged gzip data: %s", name, r->z.msg ? r->z.msg : "inflate failed");
    if (r->left == 0 && r->z.avail_out == room) return ELBO_OK;
  }
  return ELBO_OK;
}

static bool idx_dtype(int code, elbo_dtype *out) {
  static const struct {
    int code;
    elbo_dtype dtype;
  } TYPES[] = {{0x08, ELBO_U8}, {0x09, ELBO_I8}, {0x0B, ELBO_I16}, {0x0C, ELBO_I32}, {0x0D, ELBO_F32}, {0x0E, ELBO_F64}};
  for (size_t i = 0; i < sizeof TYPES / sizeof TYPES[0]; i++)
    if (TYPES[i].code == code) {
      *out = TYPES[i].dtype;
      return true;
    }
  return false;
}

static elbo_status parse_body(elbo_ctx *ctx, const char *name, byte_reader *r, size_t file_size, elbo_array **out) {
  uint8_t head[4], dims[4 * ELBO_MAX_RANK];
  size_t got;
  elbo_dtype dtype;
  TRY(reader_take(ctx, name, r, head, 4, &got));
  if (got < 4) return fail(ctx, ELBO_ERROR_FORMAT, "%s: not an IDX file: %zu bytes", name, got);
  if (head[0] || head[1] || !idx_dtype(head[2], &dtype))
    return fail(ctx, ELBO_ERROR_FORMAT, "%s: wrong IDX magic %02x%02x%02x%02x; expected 0000TTRR, TT 08 to 0e (08030000 holds images)",
                name, head[0], head[1], head[2], head[3]);
  int rank = head[3];
  if (rank < 1 || rank > ELBO_MAX_RANK)
    return fail(ctx, ELBO_ERROR_UNSUPPORTED, "%s: IDX of %d dimensions; expected 1 to %d", name, rank, ELBO_MAX_RANK);
  TRY(reader_take(ctx, name, r, dims, 4 * (size_t)rank, &got));
  if (got < 4 * (size_t)rank) return fail(ctx, ELBO_ERROR_FORMAT, "%s: the IDX header is cut off", name);
  int64_t dim[ELBO_MAX_RANK], bytes = (int64_t)elbo_dtype_size(dtype), most = INT64_MAX;
  for (int i = 0; i < rank; i++) {
    const uint8_t *d = dims + 4 * i;
    dim[i] = (int64_t)((uint32_t)d[0] << 24 | (uint32_t)d[1] << 16 | (uint32_t)d[2] << 8 | d[3]);
    if (!checked_mul(bytes, dim[i], &bytes)) return fail(ctx, ELBO_ERROR_FORMAT, "%s: the IDX dimensions overflow", name);
  }
  // deflate shrinks at most 1,032 times: a claim beyond that is refused before memory is asked for
  checked_mul((int64_t)file_size, r->gzip ? 1032 : 1, &most);
  if (bytes > most)
    return fail(ctx, ELBO_ERROR_FORMAT, "%s: IDX data are cut off: the header promises %lld bytes, the file has %zu", name,
                (long long)bytes, file_size);
  TRY(elbo_array_create(ctx, dtype, rank, dim, out));
  TRY(reader_take(ctx, name, r, (*out)->data, (size_t)bytes, &got));
  if (got < (size_t)bytes)
    return fail(ctx, ELBO_ERROR_FORMAT, "%s: IDX data are cut off: %lld bytes expected, %zu there", name, (long long)bytes, got);
  uint8_t more;
  if (r->gzip && !r->ended) TRY(reader_take(ctx, name, r, &more, 1, &got));
  if (r->gzip && !r->ended && got == 0) return fail(ctx, ELBO_ERROR_FORMAT, "%s: the gzip data are cut off", name);
  size_t size = elbo_dtype_size(dtype);
  if (size > 1 && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__)
    for (uint8_t *e = (*out)->data, *end = e + bytes; e < end; e += size)
      for (size_t a = 0, b = size - 1; a < b; a++, b--) {
        uint8_t t = e[a];
        e[a] = e[b], e[b] = t;
      }
  return ELBO_OK;
}

elbo_status idx_parse(elbo_ctx *ctx, const char *name, const void *bytes, size_t size, elbo_array **out) {
  *out = NULL;
  byte_reader r;
  TRY(reader_begin(ctx, name, bytes, size, &r));
  elbo_status status = parse_body(ctx, name, &r, size, out);
  reader_end(&r);
  if (status != ELBO_OK) elbo_array_destroy(out);
  return status;
}

elbo_status idx_read(elbo_ctx *ctx, const char *path, elbo_array **out) {
  *out = NULL;
  const void *bytes;
  size_t size;
  TRY(file_map(ctx, path, &bytes, &size));
  elbo_status status = idx_parse(ctx, path, bytes, size, out);
  file_unmap(bytes, size);
  return status;
}

// Pairs up the IDX files that begin with `prefix`: rank 1 are labels, the others examples, each of the split that its name tells.
static elbo_status gather(elbo_dataset *ds, const file_list *files, elbo_array *x[3], elbo_array *label[3], const char *x_name[3]) {
  for (int64_t i = 0; i < files->count; i++) {
    const char *path = files->path[i];
    elbo_array *array;
    TRY(idx_read(ds->ctx, path, &array));
    elbo_split split = split_of_name(path);
    elbo_array **place = array->rank == 1 ? &label[split] : &x[split];
    if (*place) {
      elbo_array_destroy(&array);
      return fail(ds->ctx, ELBO_ERROR_ARGUMENT, "%s: a second IDX file of %s for one split; name one of them", path,
                  (*place)->rank == 1 ? "labels" : "examples");
    }
    *place = array;
    if (array->rank > 1) x_name[split] = path;
  }
  return ELBO_OK;
}

// The label file beside an image file: "images" for "labels", "idx3" for "idx1".
static void label_path(const char *images, char *out, size_t size) {
  snprintf(out, size, "%s", images);
  char *slash = strrchr(out, '/'), *word = strstr(slash ? slash : out, "images");
  if (word) memcpy(word, "labels", 6);
  word = strstr(slash ? slash : out, "idx3");
  if (word) word[3] = '1';
}

elbo_status idx_open(elbo_dataset *ds, const char *path) {
  file_list files = {0};
  elbo_array *x[3] = {0}, *label[3] = {0};
  const char *x_name[3] = {0};
  ds->format = "idx";
  elbo_status status;
  if (file_exists(path) && !directory_exists(path)) {
    char labels[4096];
    label_path(path, labels, sizeof labels);
    status = file_list_add(ds->ctx, &files, path);
    if (status == ELBO_OK && strcmp(labels, path) && recognise_file(labels) == DATA_FILE_IDX)
      status = file_list_add(ds->ctx, &files, labels);
  } else {
    status = file_list_kind(ds->ctx, path, DATA_FILE_IDX, &files);
  }
  if (status == ELBO_OK) status = gather(ds, &files, x, label, x_name);
  for (int s = 0; s < 3 && status == ELBO_OK; s++) {
    if (x[s]) status = part_take_array(ds, (elbo_split)s, x_name[s], &x[s], label[s]);
  }
  if (status == ELBO_OK && !x_name[0] && !x_name[1] && !x_name[2])
    status = fail(ds->ctx, ELBO_ERROR_FORMAT, "%s: IDX labels, but no IDX file of examples", path);
  for (int s = 0; s < 3; s++) elbo_array_destroy(&x[s]), elbo_array_destroy(&label[s]);
  file_list_free(&files);
  return status;
}
