#include "data/recognise.h"

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <zlib.h>

#include "core/file.h"
#include "core/memory.h"
#include "data/picture.h"

// A tar header carries the sum of its own bytes, the sum's field counted as blanks.
static bool is_tar_header(const uint8_t *b, size_t n) {
  if (n < 512) return false;
  unsigned sum = 0, told = 0;
  for (int i = 0; i < 512; i++) sum += i >= 148 && i < 156 ? ' ' : b[i];
  int i = 148;
  while (i < 156 && b[i] == ' ') i++;
  for (; i < 156 && b[i] >= '0' && b[i] <= '7'; i++) told = told * 8 + (unsigned)(b[i] - '0');
  return told == sum && sum > 8 * ' ';
}

static bool ends_with(const char *text, const char *end) {
  size_t n = strlen(text), m = strlen(end);
  return n >= m && !strcasecmp(text + n - m, end);
}

// What a file claims to be when its bytes do not tell: its reader then says what is wrong with it.
static data_file_kind kind_of_name(const char *path) {
  static const struct {
    const char *end;
    data_file_kind kind;
  } ENDS[] = {{"-ubyte", DATA_FILE_IDX},   {"-ubyte.gz", DATA_FILE_IDX}, {".tar", DATA_FILE_TAR},      {".tar.gz", DATA_FILE_TAR},
              {".tgz", DATA_FILE_TAR},     {".npy", DATA_FILE_NPY},      {".npz", DATA_FILE_NPZ},      {".png", DATA_FILE_PICTURE},
              {".jpg", DATA_FILE_PICTURE}, {".jpeg", DATA_FILE_PICTURE}, {".webp", DATA_FILE_PICTURE}, {"_batch.bin", DATA_FILE_CIFAR}};
  for (size_t i = 0; i < sizeof ENDS / sizeof ENDS[0]; i++)
    if (ends_with(path, ENDS[i].end)) return ENDS[i].kind;
  const char *slash = strrchr(path, '/');
  return !strncmp(slash ? slash + 1 : path, "data_batch_", 11) && ends_with(path, ".bin") ? DATA_FILE_CIFAR : DATA_FILE_UNKNOWN;
}

data_file_kind recognise_file(const char *path) {
  struct stat st;
  if (stat(path, &st) != 0 || !S_ISREG(st.st_mode)) return DATA_FILE_UNKNOWN;
  gzFile f = gzopen(path, "rb"); // reads plain files as they are
  if (!f) return DATA_FILE_UNKNOWN;
  uint8_t b[512];
  int got = gzread(f, b, sizeof b);
  bool zipped = !gzdirect(f);
  gzclose(f);
  size_t n = got > 0 ? (size_t)got : 0;
  if (is_tar_header(b, n)) return DATA_FILE_TAR;
  if (n >= 8 && !b[0] && !b[1] && b[2] >= 0x08 && b[2] <= 0x0e && b[3] >= 1 && b[3] <= 8) return DATA_FILE_IDX;
  if (!zipped) {
    if (n >= 6 && !memcmp(b, "\x93NUMPY", 6)) return DATA_FILE_NPY;
    if (n >= 4 && (!memcmp(b, "PK\3\4", 4) || !memcmp(b, "PK\5\6", 4))) return DATA_FILE_NPZ;
    if (picture_recognise(b, n) != PICTURE_UNKNOWN) return DATA_FILE_PICTURE;
    if (ends_with(path, ".bin") && st.st_size > 0 && st.st_size % 3073 == 0 && b[0] < 10) return DATA_FILE_CIFAR;
  }
  return kind_of_name(path);
}

elbo_status file_list_add(elbo_ctx *ctx, file_list *list, const char *path) {
  TRY(array_grow(ctx, &list->path, &list->capacity, list->count + 1, sizeof *list->path));
  char *copy = string_copy(path);
  if (!copy) return fail_memory(ctx, strlen(path) + 1, "file name");
  list->path[list->count++] = copy;
  return ELBO_OK;
}

void file_list_free(file_list *list) {
  for (int64_t i = 0; i < list->count; i++) free(list->path[i]);
  free(list->path);
  *list = (file_list){0};
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

elbo_status file_list_directory(elbo_ctx *ctx, const char *path, bool folders, file_list *out) {
  char folder[4096], full[4096 + 256];
  snprintf(folder, sizeof folder, "%s", path);
  const char *prefix = "";
  if (!directory_exists(path)) { // "DIR/prefix"
    char *slash = strrchr(folder, '/');
    prefix = slash ? path + (slash - folder) + 1 : path;
    if (slash)
      slash[slash == folder] = 0; // "/" stays
    else
      snprintf(folder, sizeof folder, ".");
  }
  DIR *dir = opendir(folder);
  if (!dir) return fail_errno(ctx, folder, "opening the folder");
  elbo_status status = ELBO_OK;
  size_t length = strlen(folder);
  for (struct dirent *e; status == ELBO_OK && (e = readdir(dir));) {
    if (e->d_name[0] == '.' || strncmp(e->d_name, prefix, strlen(prefix))) continue;
    snprintf(full, sizeof full, "%s%s%s", folder, length && folder[length - 1] == '/' ? "" : "/", e->d_name);
    struct stat st;
    if (stat(full, &st) == 0 && (folders ? S_ISDIR(st.st_mode) : S_ISREG(st.st_mode))) status = file_list_add(ctx, out, full);
  }
  closedir(dir);
  if (status != ELBO_OK) return status;
  if (out->count > 1) qsort(out->path, (size_t)out->count, sizeof *out->path, by_name);
  return ELBO_OK;
}

elbo_status file_list_kind(elbo_ctx *ctx, const char *path, data_file_kind kind, file_list *out) {
  file_list all = {0};
  elbo_status status = file_list_directory(ctx, path, false, &all);
  for (int64_t i = 0; i < all.count && status == ELBO_OK; i++)
    if (recognise_file(all.path[i]) == kind) status = file_list_add(ctx, out, all.path[i]);
  file_list_free(&all);
  return status;
}

elbo_status file_list_braces(elbo_ctx *ctx, const char *pattern, file_list *out) {
  const char *open = strchr(pattern, '{'), *dots = open ? strstr(open, "..") : NULL, *close = dots ? strchr(dots, '}') : NULL;
  if (!close) return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: expected a range in the braces, as in name-{000..002}.tar", pattern);
  int64_t first = 0, last = 0;
  bool good = dots > open + 1 && close > dots + 2 && dots - open <= 10 && close - dots <= 11;
  for (const char *p = open + 1; p < dots && good; p++) good = isdigit((unsigned char)*p), first = first * 10 + (*p - '0');
  for (const char *p = dots + 2; p < close && good; p++) good = isdigit((unsigned char)*p), last = last * 10 + (*p - '0');
  if (!good || first > last || last - first >= 1000000 || strchr(close, '{'))
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: expected one range FIRST..LAST in the braces, at most a million files", pattern);
  for (int64_t i = first; i <= last; i++) {
    char path[4096];
    int n = snprintf(path, sizeof path, "%.*s%0*lld%s", (int)(open - pattern), pattern, (int)(dots - open - 1), (long long)i, close + 1);
    if (n < 0 || (size_t)n >= sizeof path) return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: the path is too long", pattern);
    if (!file_exists(path)) return fail(ctx, ELBO_ERROR_IO, "%s: no such file (of the range %s)", path, pattern);
    TRY(file_list_add(ctx, out, path));
  }
  return ELBO_OK;
}
