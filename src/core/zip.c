// Zip files by their central directory, as PKWARE's APPNOTE 6.3.10 lays them out.
#include "core/zip.h"

#include <stdlib.h>
#include <string.h>

#include "core/memory.h"

enum { END_BYTES = 22, END64_BYTES = 56, LOCATOR_BYTES = 20, ENTRY_BYTES = 46, LOCAL_BYTES = 30, COMMENT_MAX = 65535 };
#define END_SIGNATURE 0x06054b50u
#define END64_SIGNATURE 0x06064b50u
#define LOCATOR_SIGNATURE 0x07064b50u
#define ENTRY_SIGNATURE 0x02014b50u
#define LOCAL_SIGNATURE 0x04034b50u

struct zip {
  arena *names;
  zip_member *members; // in name order
  int64_t count;
};

// What is read while a file is opened.
typedef struct zip_opening {
  elbo_ctx *ctx;
  const char *path;
  const uint8_t *bytes;
  uint64_t size;
  uint64_t directory, directory_size, entries; // the central directory
} zip_opening;

static uint32_t get16(const uint8_t *p) { return (uint32_t)p[0] | (uint32_t)p[1] << 8; }
static uint32_t get32(const uint8_t *p) { return get16(p) | get16(p + 2) << 16; }
static uint64_t get64(const uint8_t *p) { return get32(p) | (uint64_t)get32(p + 4) << 32; }

static elbo_status damaged(const zip_opening *o, const char *what) {
  return fail(o->ctx, ELBO_ERROR_FORMAT, "%s: damaged or cut-off zip: %s", o->path, what);
}

// The record at the end of the file, behind which there is nothing but its own comment.
static const uint8_t *find_end(const zip_opening *o) {
  if (o->size < END_BYTES) return NULL;
  for (uint64_t comment = 0; comment <= COMMENT_MAX && comment + END_BYTES <= o->size; comment++) {
    const uint8_t *p = o->bytes + (o->size - END_BYTES - comment);
    if (get32(p) == END_SIGNATURE && get16(p + 20) == comment) return p;
  }
  return NULL;
}

static elbo_status find_directory(zip_opening *o) {
  const uint8_t *end = find_end(o);
  if (!end) return damaged(o, "its directory, which stands at the end, is missing");
  uint64_t limit = (uint64_t)(end - o->bytes);
  o->entries = get16(end + 10), o->directory_size = get32(end + 12), o->directory = get32(end + 16);
  uint32_t disk = get16(end + 4);
  if (o->entries == 0xffff || o->directory_size == 0xffffffff || o->directory == 0xffffffff) { // zip64
    const uint8_t *locator = limit >= LOCATOR_BYTES ? end - LOCATOR_BYTES : NULL;
    if (!locator || get32(locator) != LOCATOR_SIGNATURE) return damaged(o, "its zip64 locator is missing");
    uint64_t at = get64(locator + 8), room = limit - LOCATOR_BYTES;
    if (room < END64_BYTES || at > room - END64_BYTES || get32(o->bytes + at) != END64_SIGNATURE)
      return damaged(o, "its zip64 directory is missing");
    disk = get32(o->bytes + at + 16);
    o->entries = get64(o->bytes + at + 32), o->directory_size = get64(o->bytes + at + 40), o->directory = get64(o->bytes + at + 48);
    limit = at;
  }
  if (disk != 0) return fail(o->ctx, ELBO_ERROR_UNSUPPORTED, "%s: a zip in several parts; expected one file", o->path);
  if (o->directory > limit || o->directory_size > limit - o->directory || o->entries > o->directory_size / ENTRY_BYTES)
    return damaged(o, "its directory lies outside the file");
  return ELBO_OK;
}

// Members are never unpacked to disk, but a name that would lead elsewhere is nothing that PyTorch writes.
static bool name_is_safe(const char *name) {
  if (!*name || name[0] == '/' || strchr(name, '\\')) return false;
  for (const char *p = name; p; p = strchr(p, '/')) {
    p += *p == '/';
    if (!strncmp(p, "..", 2) && (p[2] == '/' || !p[2])) return false;
  }
  return true;
}

// The 64-bit sizes and offset of the extra field stand in for those that are all ones, in this order.
static bool read_zip64_extra(const uint8_t *extra, size_t length, uint64_t *size, uint64_t *packed, uint64_t *offset) {
  uint64_t *const wide[3] = {size, packed, offset};
  while (length >= 4) {
    size_t id = get16(extra), n = get16(extra + 2);
    if (n > length - 4) return false;
    if (id == 1) {
      const uint8_t *p = extra + 4;
      for (int i = 0; i < 3; i++) {
        if (*wide[i] != 0xffffffff) continue;
        if (n < 8) return false;
        *wide[i] = get64(p), p += 8, n -= 8;
      }
      return true;
    }
    extra += 4 + n, length -= 4 + n;
  }
  return *size != 0xffffffff && *packed != 0xffffffff && *offset != 0xffffffff;
}

// One entry of the directory of *length bytes; *length becomes the entry's own.
static elbo_status read_entry(const zip_opening *o, const uint8_t *p, uint64_t *length, arena *names, zip_member *m) {
  if (*length < ENTRY_BYTES || get32(p) != ENTRY_SIGNATURE) return damaged(o, "an entry of its directory");
  uint32_t flags = get16(p + 8), method = get16(p + 10), n_name = get16(p + 28), n_extra = get16(p + 30), n_comment = get16(p + 32);
  uint64_t packed = get32(p + 20), size = get32(p + 24), offset = get32(p + 42);
  uint64_t whole = (uint64_t)ENTRY_BYTES + n_name + n_extra + n_comment;
  if (whole > *length) return damaged(o, "an entry of its directory");
  *length = whole;
  char *name = arena_alloc(names, (size_t)n_name + 1);
  if (!name) return fail_memory(o->ctx, n_name, o->path);
  memcpy(name, p + ENTRY_BYTES, n_name);
  m->name = name;
  if (strlen(name) != n_name || !name_is_safe(name))
    return fail(o->ctx, ELBO_ERROR_FORMAT, "%s: member '%.200s': expected a relative path within the archive", o->path, name);
  if (!read_zip64_extra(p + ENTRY_BYTES + n_name, n_extra, &size, &packed, &offset)) return damaged(o, "a zip64 field");
  if (flags & 1) return fail(o->ctx, ELBO_ERROR_UNSUPPORTED, "%s: member '%.200s' is encrypted", o->path, name);
  const uint8_t *local = o->bytes + offset;
  if (offset > o->directory || o->directory - offset < LOCAL_BYTES || get32(local) != LOCAL_SIGNATURE)
    return fail(o->ctx, ELBO_ERROR_FORMAT, "%s: member '%.200s' has no header where it should be", o->path, name);
  uint64_t head = (uint64_t)LOCAL_BYTES + get16(local + 26) + get16(local + 28), room = o->directory - offset;
  if (head > room || packed > room - head)
    return fail(o->ctx, ELBO_ERROR_FORMAT, "%s: member '%.200s': %llu bytes; the file ends before", o->path, name,
                (unsigned long long)packed);
  if (get16(local + 26) != n_name || memcmp(local + LOCAL_BYTES, name, n_name) != 0)
    return fail(o->ctx, ELBO_ERROR_FORMAT, "%s: member '%.200s' has another name in its header", o->path, name);
  if (method == 0 && packed != size)
    return fail(o->ctx, ELBO_ERROR_FORMAT, "%s: member '%.200s': %llu bytes stored as %llu", o->path, name, (unsigned long long)size,
                (unsigned long long)packed);
  m->data = method == 0 ? local + head : NULL;
  m->size = (size_t)size;
  return ELBO_OK;
}

static int compare_members(const void *a, const void *b) { return strcmp(((const zip_member *)a)->name, ((const zip_member *)b)->name); }

elbo_status zip_open(elbo_ctx *ctx, const char *path, const void *bytes, size_t size, zip **out) {
  zip_opening o = {.ctx = ctx, .path = path, .bytes = bytes, .size = size};
  elbo_status status;
  *out = NULL;
  TRY(find_directory(&o));
  zip *z = calloc(1, sizeof *z);
  if (!z) return fail_memory(ctx, sizeof *z, path);
  z->names = arena_create(1 << 14);
  TRY_GOTO(array_new(ctx, (size_t)o.entries, sizeof *z->members, "a table of zip members", (void **)&z->members));
  const uint8_t *p = o.bytes + o.directory;
  uint64_t left = o.directory_size;
  for (; z->count < (int64_t)o.entries; z->count++) {
    uint64_t length = left;
    TRY_GOTO(read_entry(&o, p, &length, z->names, &z->members[z->count]));
    p += length, left -= length;
  }
  if (z->count) qsort(z->members, (size_t)z->count, sizeof *z->members, compare_members);
  for (int64_t i = 1; i < z->count; i++) {
    if (strcmp(z->members[i].name, z->members[i - 1].name) != 0) continue;
    status = fail(ctx, ELBO_ERROR_FORMAT, "%s: two members called '%.200s'", path, z->members[i].name);
    goto fail;
  }
  *out = z;
  return ELBO_OK;

fail:
  zip_close(&z);
  return status;
}

void zip_close(zip **z) {
  if (!z || !*z) return;
  arena_destroy(&(*z)->names);
  free((*z)->members);
  free(*z);
  *z = NULL;
}

int64_t zip_count(const zip *z) { return z->count; }

const zip_member *zip_at(const zip *z, int64_t i) { return i >= 0 && i < z->count ? &z->members[i] : NULL; }

const zip_member *zip_find(const zip *z, const char *name) {
  zip_member key = {.name = name};
  return z->count ? bsearch(&key, z->members, (size_t)z->count, sizeof key, compare_members) : NULL;
}

elbo_status zip_check_stored(elbo_ctx *ctx, const char *path, const zip_member *m) {
  if (m->data) return ELBO_OK;
  return fail(ctx, ELBO_ERROR_UNSUPPORTED, "%s: member '%.200s' is compressed; PyTorch stores its members as they are", path, m->name);
}
