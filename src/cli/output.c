// Arrays out: a grid in one picture, a .npy, or a directory of numbered pictures, as the name given to --out says.
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <elbo/image.h>

#include "cli/cli.h"

typedef enum output_kind { OUTPUT_NPY, OUTPUT_PICTURE, OUTPUT_DIRECTORY } output_kind;

static output_kind kind_of(const char *out) {
  const char *slash = strrchr(out, '/'), *dot = strrchr(slash ? slash : out, '.');
  if (dot && !strcmp(dot, ".npy")) return OUTPUT_NPY;
  if (dot && (!strcmp(dot, ".png") || !strcmp(dot, ".jpg") || !strcmp(dot, ".jpeg") || !strcmp(dot, ".webp"))) return OUTPUT_PICTURE;
  return OUTPUT_DIRECTORY;
}

// Whether a name that is no directory yet looks like a file's: an ending of three or four letters.
static bool looks_like_file(const char *out) {
  const char *slash = strrchr(out, '/'), *name = slash ? slash + 1 : out, *dot = strrchr(name, '.');
  size_t n = dot && dot > name ? strlen(dot + 1) : 0;
  return n >= 3 && n <= 4 && strspn(dot + 1, "abcdefghijklmnopqrstuvwxyz") == n;
}

bool is_picture_name(const char *out) { return kind_of(out) == OUTPUT_PICTURE; }

static bool is_empty_directory(const char *path) {
  DIR *directory = opendir(path);
  bool empty = directory != NULL;
  for (struct dirent *entry; directory && (entry = readdir(directory));)
    if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..")) empty = false;
  if (directory) closedir(directory);
  return empty;
}

int check_folder(const char *out) {
  struct stat entry;
  char parent[4096];
  const char *slash = strrchr(out, '/');
  if (slash && slash > out && (size_t)(slash - out) < sizeof parent) {
    snprintf(parent, sizeof parent, "%.*s", (int)(slash - out), out);
    if (stat(parent, &entry)) return say("%s: %s", parent, strerror(errno)), STATUS_FAILED;
  } else
    snprintf(parent, sizeof parent, "%s", slash ? "/" : ".");
  if (access(parent, W_OK)) return say("%s: cannot write there: %s", parent, strerror(errno)), STATUS_FAILED;
  return ARGS_GO;
}

int check_output(const command *self, const char *out, bool array_only) {
  struct stat entry;
  if (!out) return usage_error(self, "--out is missing: where should the result go?");
  bool there = stat(out, &entry) == 0;
  output_kind kind = kind_of(out);
  if (array_only && kind != OUTPUT_NPY) return usage_error(self, "--out %s: expected a name that ends in .npy", out);
  if (kind != OUTPUT_DIRECTORY && there && S_ISDIR(entry.st_mode)) return say("%s: is a directory", out), STATUS_FAILED;
  if (kind == OUTPUT_DIRECTORY && there && !S_ISDIR(entry.st_mode))
    return say("%s: is there and no directory; expected a new directory or a name that ends in .png, .jpg, .webp or .npy", out),
           STATUS_FAILED;
  if (kind == OUTPUT_DIRECTORY && there && !is_empty_directory(out))
    return say("%s: is not empty; expected a new or an empty directory, so that nothing is overwritten", out), STATUS_FAILED;
  if (kind == OUTPUT_DIRECTORY && !there && looks_like_file(out))
    return usage_error(self, "--out %s: expected .png, .jpg, .webp or .npy, or a directory (%s/)", out, out);
  return kind == OUTPUT_DIRECTORY ? ARGS_GO : check_folder(out);
}

static elbo_status with_layout(elbo_ctx *ctx, const elbo_array *x, int nchw, const char *out) {
  elbo_array *turned = NULL;
  if (!nchw || x->rank != 4) return elbo_npy_write(ctx, out, x);
  elbo_status status = elbo_array_to_nchw(ctx, x, &turned);
  if (status == ELBO_OK) status = elbo_npy_write(ctx, out, turned);
  elbo_array_destroy(&turned);
  return status;
}

elbo_status write_array(elbo_ctx *ctx, const elbo_array *x, const array_options *options, const char *out) {
  return with_layout(ctx, x, options ? options->layout : 0, out);
}

// A copy with low..high brought to 0..top.
static elbo_status scaled(elbo_ctx *ctx, const elbo_array *x, double low, double high, double top, elbo_array **out) {
  elbo_status status = elbo_array_convert(ctx, x, ELBO_F32, out);
  if (status != ELBO_OK) return status;
  float *values = (*out)->data;
  double factor = high > low ? top / (high - low) : top;
  for (int64_t i = 0, n = elbo_array_count(*out); i < n; i++) values[i] = (float)((values[i] - low) * factor);
  return ELBO_OK;
}

static elbo_status write_directory(elbo_ctx *ctx, const elbo_array *x, const char *out) {
  int64_t size = x->dim[1] * x->dim[2] * x->dim[3];
  if (mkdir(out, 0777) && errno != EEXIST) {
    say("%s: cannot make the directory: %s", out, strerror(errno));
    return ELBO_ERROR_STOPPED;
  }
  for (int64_t i = 0; i < x->dim[0]; i++) {
    char path[4200];
    elbo_array one = {x->dtype, 3, {x->dim[1], x->dim[2], x->dim[3]}, (float *)x->data + i * size};
    snprintf(path, sizeof path, "%s/%05lld.png", out, (long long)i);
    elbo_status status = elbo_image_write(ctx, path, &one);
    if (status != ELBO_OK) return status;
  }
  return ELBO_OK;
}

elbo_status write_images(elbo_ctx *ctx, const elbo_array *x, double low, double high, int columns, const array_options *options,
                         const char *out) {
  elbo_array *values = NULL, *bytes = NULL, *grid = NULL;
  elbo_status status;
  output_kind kind = kind_of(out);
  if (kind == OUTPUT_NPY && !options->uint8) return with_layout(ctx, x, options->layout, out);
  status = scaled(ctx, x, low, high, kind == OUTPUT_NPY ? 255 : 1, &values);
  if (status != ELBO_OK) return status;
  if (kind == OUTPUT_NPY) {
    status = elbo_array_convert(ctx, values, ELBO_U8, &bytes);
    if (status == ELBO_OK) status = with_layout(ctx, bytes, options->layout, out);
  } else if (x->rank != 4 || (x->dim[1] == 1 && x->dim[2] == 1)) {
    say("%s: these are vectors, not pictures; expected a name that ends in .npy", out);
    status = ELBO_ERROR_STOPPED;
  } else if (kind == OUTPUT_DIRECTORY) {
    status = write_directory(ctx, values, out);
  } else {
    status = elbo_image_grid(ctx, values, columns, 400, &grid);
    if (status == ELBO_OK) status = elbo_image_write(ctx, out, grid);
  }
  elbo_array_destroy(&values);
  elbo_array_destroy(&bytes);
  elbo_array_destroy(&grid);
  return status;
}
