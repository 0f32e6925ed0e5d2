// NumPy's .npy (format versions 1 to 3, NEP 1) and .npz (a zip of them).
#include "data/npy.h"

#include <archive.h>
#include <archive_entry.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/ctx.h"
#include "core/file.h"
#include "core/memory.h"

static const struct {
  const char *code; // kind and size, as in '<f4'
  elbo_dtype dtype;
} DESCRS[] = {{"f4", ELBO_F32}, {"f8", ELBO_F64}, {"f2", ELBO_F16}, {"i8", ELBO_I64}, {"i4", ELBO_I32}, {"i2", ELBO_I16},
              {"i1", ELBO_I8},  {"u8", ELBO_U64}, {"u4", ELBO_U32}, {"u2", ELBO_U16}, {"u1", ELBO_U8},  {"b1", ELBO_BOOL}};

typedef struct npy_header {
  elbo_dtype dtype;
  bool swap;    // the other byte order
  bool fortran; // first dimension innermost
  int rank;
  int64_t dim[ELBO_MAX_RANK];
} npy_header;

static const char *skip_space(const char *p, const char *end) {
  while (p < end && isspace((unsigned char)*p)) p++;
  return p;
}

// The quoted text at p; returns what follows it, NULL when there is none that fits.
static const char *quoted_text(const char *p, const char *end, char *buffer, size_t size) {
  if (p >= end || (*p != '\'' && *p != '"')) return NULL;
  char quote = *p++;
  size_t n = 0;
  while (p < end && *p != quote) {
    if (n + 1 >= size) return NULL;
    buffer[n++] = *p++;
  }
  if (p >= end) return NULL;
  buffer[n] = 0;
  return p + 1;
}

static bool parse_descr(const char *text, npy_header *h) {
  char order = text[0];
  if (!strchr("<>|=", order) || !order) return false;
  for (size_t i = 0; i < sizeof DESCRS / sizeof DESCRS[0]; i++)
    if (!strcmp(text + 1, DESCRS[i].code)) {
      h->dtype = DESCRS[i].dtype;
      bool big = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__;
      h->swap = (order == '>' && !big) || (order == '<' && big);
      return true;
    }
  return false;
}

static elbo_status parse_shape(elbo_ctx *ctx, const char *name, const char **at, const char *end, npy_header *h) {
  const char *p = *at;
  if (p >= end || *p != '(') return fail(ctx, ELBO_ERROR_FORMAT, "%s: npy header: 'shape' is not a tuple", name);
  for (p = skip_space(p + 1, end); p < end && *p != ')'; p = skip_space(p, end)) {
    if (!isdigit((unsigned char)*p)) return fail(ctx, ELBO_ERROR_FORMAT, "%s: npy header: a dimension is not a whole number", name);
    int64_t value = 0;
    for (; p < end && isdigit((unsigned char)*p); p++)
      if (!checked_mul(value, 10, &value) || !checked_add(value, *p - '0', &value))
        return fail(ctx, ELBO_ERROR_FORMAT, "%s: npy header: a dimension is too large", name);
    if (h->rank == ELBO_MAX_RANK) return fail(ctx, ELBO_ERROR_UNSUPPORTED, "%s: npy array of more than %d dimensions", name, ELBO_MAX_RANK);
    h->dim[h->rank++] = value;
    p = skip_space(p, end);
    if (p < end && *p == 'L') p++; // Python 2 wrote 10L
    if (p < end && *p == ',') p++;
  }
  if (p >= end) return fail(ctx, ELBO_ERROR_FORMAT, "%s: npy header: 'shape' does not end", name);
  *at = p + 1;
  return ELBO_OK;
}

static elbo_status parse_header(elbo_ctx *ctx, const char *name, const char *p, const char *end, npy_header *h) {
  bool have_descr = false, have_order = false, have_shape = false;
  p = skip_space(p, end);
  if (p >= end || *p != '{') return fail(ctx, ELBO_ERROR_FORMAT, "%s: npy header is not a dictionary", name);
  p++;
  for (;;) {
    p = skip_space(p, end);
    if (p < end && *p == ',') p = skip_space(p + 1, end);
    if (p < end && *p == '}') break;
    char key[32], text[32];
    p = quoted_text(p, end, key, sizeof key);
    if (p) p = skip_space(p, end);
    if (!p || p >= end || *p != ':') return fail(ctx, ELBO_ERROR_FORMAT, "%s: npy header is malformed", name);
    p = skip_space(p + 1, end);
    if (!strcmp(key, "descr")) {
      if (p < end && *p == '[') return fail(ctx, ELBO_ERROR_UNSUPPORTED, "%s: npy array of records; expected plain numbers", name);
      p = quoted_text(p, end, text, sizeof text);
      if (!p) return fail(ctx, ELBO_ERROR_FORMAT, "%s: npy header: 'descr' is malformed", name);
      if (!parse_descr(text, h))
        return fail(ctx, ELBO_ERROR_UNSUPPORTED, "%s: npy element type '%s'; expected a real numeric type", name, text);
      have_descr = true;
    } else if (!strcmp(key, "fortran_order")) {
      if (end - p >= 4 && !strncmp(p, "True", 4))
        h->fortran = true, p += 4;
      else if (end - p >= 5 && !strncmp(p, "False", 5))
        p += 5;
      else
        return fail(ctx, ELBO_ERROR_FORMAT, "%s: npy header: 'fortran_order' is neither True nor False", name);
      have_order = true;
    } else if (!strcmp(key, "shape") && !have_shape) {
      TRY(parse_shape(ctx, name, &p, end, h));
      have_shape = true;
    } else {
      return fail(ctx, ELBO_ERROR_FORMAT, "%s: npy header: unexpected key '%s'", name, key);
    }
  }
  if (!have_descr || !have_order || !have_shape)
    return fail(ctx, ELBO_ERROR_FORMAT, "%s: npy header lacks '%s'", name, !have_descr ? "descr" : !have_order ? "fortran_order" : "shape");
  return ELBO_OK;
}

static void copy_swapped(uint8_t *to, const uint8_t *from, int64_t n, size_t size) {
  for (int64_t i = 0; i < n; i++)
    for (size_t b = 0; b < size; b++) to[(size_t)i * size + b] = from[(size_t)i * size + size - 1 - b];
}

// Element i of C order stands at the place that its coordinates have with the first dimension innermost.
static elbo_status reorder_fortran(elbo_ctx *ctx, elbo_array *array) {
  size_t size = elbo_dtype_size(array->dtype), bytes = elbo_array_bytes(array);
  if (array->rank < 2 || bytes == 0) return ELBO_OK;
  uint8_t *copy = malloc(bytes), *to = array->data;
  if (!copy) return fail_memory(ctx, bytes, "npy array in Fortran order");
  memcpy(copy, to, bytes);
  int64_t at[ELBO_MAX_RANK] = {0}, stride[ELBO_MAX_RANK], n = elbo_array_count(array);
  stride[0] = 1;
  for (int r = 1; r < array->rank; r++) stride[r] = stride[r - 1] * array->dim[r - 1];
  for (int64_t i = 0, from = 0; i < n; i++) {
    memcpy(to + (size_t)i * size, copy + (size_t)from * size, size);
    for (int r = array->rank - 1; r >= 0; r--) {
      from += stride[r];
      if (++at[r] < array->dim[r]) break;
      from -= stride[r] * array->dim[r];
      at[r] = 0;
    }
  }
  free(copy);
  return ELBO_OK;
}

elbo_status npy_parse(elbo_ctx *ctx, const char *name, const void *bytes, size_t size, elbo_array **out) {
  *out = NULL;
  const uint8_t *b = bytes;
  if (size < 10 || memcmp(b, "\x93NUMPY", 6)) return fail(ctx, ELBO_ERROR_FORMAT, "%s: not a .npy file (wrong magic)", name);
  if (b[6] < 1 || b[6] > 3) return fail(ctx, ELBO_ERROR_UNSUPPORTED, "%s: npy version %d.%d; expected 1 to 3", name, b[6], b[7]);
  size_t start = b[6] == 1 ? 10 : 12;
  if (size < start) return fail(ctx, ELBO_ERROR_FORMAT, "%s: npy header is cut off", name);
  size_t length = b[6] == 1 ? b[8] | (size_t)b[9] << 8 : b[8] | (size_t)b[9] << 8 | (size_t)b[10] << 16 | (size_t)b[11] << 24;
  if (length > size - start)
    return fail(ctx, ELBO_ERROR_FORMAT, "%s: npy header of %zu bytes; only %zu follow", name, length, size - start);
  npy_header h = {0};
  TRY(parse_header(ctx, name, (const char *)b + start, (const char *)b + start + length, &h));
  int64_t need = (int64_t)elbo_dtype_size(h.dtype);
  for (int r = 0; r < h.rank; r++)
    if (!checked_mul(need, h.dim[r], &need)) return fail(ctx, ELBO_ERROR_FORMAT, "%s: npy shape overflows", name);
  size_t have = size - start - length;
  if ((uint64_t)need > have)
    return fail(ctx, ELBO_ERROR_FORMAT, "%s: npy data are cut off: %lld bytes expected, %zu there", name, (long long)need, have);
  TRY(elbo_array_create(ctx, h.dtype, h.rank, h.dim, out));
  const uint8_t *data = b + start + length;
  if (h.swap)
    copy_swapped((*out)->data, data, elbo_array_count(*out), elbo_dtype_size(h.dtype));
  else
    memcpy((*out)->data, data, (size_t)need);
  if (h.fortran) {
    elbo_status status = reorder_fortran(ctx, *out);
    if (status != ELBO_OK) elbo_array_destroy(out);
    return status;
  }
  return ELBO_OK;
}

elbo_status elbo_npy_read(elbo_ctx *ctx, const char *path, elbo_array **out) {
  *out = NULL;
  const void *bytes;
  size_t size;
  TRY(file_map(ctx, path, &bytes, &size));
  elbo_status status = npy_parse(ctx, path, bytes, size, out);
  file_unmap(bytes, size);
  return status;
}

elbo_status elbo_npy_write(elbo_ctx *ctx, const char *path, const elbo_array *array) {
  if (array->dtype == ELBO_BF16) { // NumPy has no name for it
    elbo_array *wide;
    TRY(elbo_array_convert(ctx, array, ELBO_F32, &wide));
    elbo_status status = elbo_npy_write(ctx, path, wide);
    elbo_array_destroy(&wide);
    return status;
  }
  const char *code = NULL;
  for (size_t i = 0; i < sizeof DESCRS / sizeof DESCRS[0]; i++)
    if (DESCRS[i].dtype == array->dtype) code = DESCRS[i].code;
  if (!code) return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: dtype %d cannot be written", path, (int)array->dtype);
  char shape[160] = "", header[320];
  size_t n = 0;
  for (int r = 0; r < array->rank; r++) n += (size_t)snprintf(shape + n, sizeof shape - n, r ? ", %lld" : "%lld", (long long)array->dim[r]);
  char order = elbo_dtype_size(array->dtype) == 1 ? '|' : __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? '>' : '<';
  int length = snprintf(header, sizeof header, "{'descr': '%c%s', 'fortran_order': False, 'shape': (%s%s), }", order, code, shape,
                        array->rank == 1 ? "," : "");
  int total = (10 + length + 1 + 63) / 64 * 64, padded = total - 10; // data begin at a multiple of 64
  size_t bytes = elbo_array_bytes(array);
  char *file = malloc((size_t)total + bytes);
  if (!file) return fail_memory(ctx, (size_t)total + bytes, path);
  memcpy(file, "\x93NUMPY\x01\x00", 8);
  file[8] = (char)(padded & 255), file[9] = (char)(padded >> 8);
  memset(file + 10, ' ', (size_t)padded);
  memcpy(file + 10, header, (size_t)length);
  file[total - 1] = '\n';
  memcpy(file + total, array->data, bytes);
  elbo_status status = file_write(ctx, path, file, (size_t)total + bytes);
  free(file);
  return status;
}

// --- .npz -------------------------------------------------------------------------------------------------------------------------

// The whole of the present member. It grows with what is really there: a claimed size is not believed.
static elbo_status read_member(elbo_ctx *ctx, struct archive *a, const char *path, const char *member, char **out, size_t *size) {
  size_t capacity = 1 << 16, length = 0;
  char *data = malloc(capacity);
  if (!data) return fail_memory(ctx, capacity, path);
  for (;;) {
    la_ssize_t got = archive_read_data(a, data + length, capacity - length);
    if (got < 0) {
      free(data);
      const char *why = archive_error_string(a);
      return fail(ctx, ELBO_ERROR_FORMAT, "%s: member '%s': %s", path, member, why ? why : "unreadable");
    }
    if (got == 0) break;
    length += (size_t)got;
    if (length == capacity) {
      char *more = capacity > SIZE_MAX / 2 ? NULL : realloc(data, capacity * 2);
      if (!more) {
        free(data);
        return fail_memory(ctx, capacity, path);
      }
      data = more, capacity *= 2;
    }
  }
  *out = data, *size = length;
  return ELBO_OK;
}

static elbo_status walk_npz(elbo_ctx *ctx, struct archive *a, const char *path, int n, const char *const *names, elbo_array **out) {
  struct archive_entry *entry;
  int best = n, members = 0, code;
  while ((code = archive_read_next_header(a, &entry)) == ARCHIVE_OK) {
    const char *full = archive_entry_pathname(entry);
    size_t length = full ? strlen(full) : 0;
    if (length < 5 || strcmp(full + length - 4, ".npy")) continue;
    char member[256];
    snprintf(member, sizeof member, "%.*s", (int)(length - 4 < 255 ? length - 4 : 255), full);
    int which = 0;
    while (which < n && strcmp(member, names[which])) which++;
    members++;
    if (n > 0 && which >= best) continue;
    if (n == 0 && members > 1) {
      elbo_array_destroy(out);
      return fail(ctx, ELBO_ERROR_ARGUMENT, "%s holds several arrays ('%s' is the second): name one", path, member);
    }
    char *bytes = NULL, label[600];
    size_t size = 0;
    snprintf(label, sizeof label, "%s: '%s'", path, member);
    elbo_array_destroy(out);
    TRY(read_member(ctx, a, path, member, &bytes, &size));
    elbo_status status = npy_parse(ctx, label, bytes, size, out);
    free(bytes);
    TRY(status);
    best = which;
  }
  if (code != ARCHIVE_EOF) {
    elbo_array_destroy(out);
    const char *why = archive_error_string(a);
    return fail(ctx, ELBO_ERROR_FORMAT, "%s: not a readable .npz: %s", path, why ? why : "unreadable");
  }
  return ELBO_OK;
}

static elbo_status npz_open(elbo_ctx *ctx, const char *path, const void *bytes, size_t size, int n, const char *const *names,
                            elbo_array **out) {
  *out = NULL;
  struct archive *a = archive_read_new();
  if (!a) return fail_memory(ctx, 0, path);
  archive_read_support_format_zip(a);
  int code = bytes ? archive_read_open_memory(a, bytes, size) : archive_read_open_filename(a, path, 1 << 16);
  elbo_status status = ELBO_OK;
  if (code != ARCHIVE_OK)
    status = fail(ctx, ELBO_ERROR_IO, "%s: %s", path, archive_error_string(a));
  else
    status = walk_npz(ctx, a, path, n, names, out);
  archive_read_free(a);
  return status;
}

elbo_status npz_find(elbo_ctx *ctx, const char *path, int n, const char *const *names, elbo_array **out) {
  return npz_open(ctx, path, NULL, 0, n, names, out);
}

elbo_status npz_find_memory(elbo_ctx *ctx, const char *path, const void *bytes, size_t size, int n, const char *const *names,
                            elbo_array **out) {
  return npz_open(ctx, path, bytes, size, n, names, out);
}

elbo_status elbo_npz_read(elbo_ctx *ctx, const char *path, const char *name, elbo_array **out) {
  TRY(npz_find(ctx, path, name ? 1 : 0, &name, out));
  if (!*out && name) return fail(ctx, ELBO_ERROR_FORMAT, "%s: no array '%s' in it", path, name);
  if (!*out) return fail(ctx, ELBO_ERROR_FORMAT, "%s: no .npy array in it", path);
  return ELBO_OK;
}
