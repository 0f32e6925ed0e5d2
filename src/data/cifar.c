// CIFAR-10's binary files: records of a label byte and 3,072 bytes, three planes of 32x32.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/memory.h"
#include "data/dataset.h"
#include "data/recognise.h"

#define CIFAR_PIXELS 1024
#define CIFAR_RECORD (1 + 3 * CIFAR_PIXELS)

// pixels (N,32,32,3) and label (N) for size / 3073 records
elbo_status cifar_parse(elbo_ctx *ctx, const char *name, const void *bytes, size_t size, uint8_t *pixels, int32_t *label) {
  const uint8_t *b = bytes;
  if (size == 0 || size % CIFAR_RECORD)
    return fail(ctx, ELBO_ERROR_FORMAT, "%s: %zu bytes; a CIFAR-10 file holds records of %d bytes", name, size, CIFAR_RECORD);
  for (size_t i = 0; i < size / CIFAR_RECORD; i++, b += CIFAR_RECORD) {
    if (b[0] > 9) return fail(ctx, ELBO_ERROR_FORMAT, "%s: label %d of record %zu; expected 0 to 9", name, b[0], i);
    label[i] = b[0];
    for (size_t p = 0; p < CIFAR_PIXELS; p++, pixels += 3)
      pixels[0] = b[1 + p], pixels[1] = b[1 + CIFAR_PIXELS + p], pixels[2] = b[1 + 2 * CIFAR_PIXELS + p];
  }
  return ELBO_OK;
}

static elbo_status add_file(elbo_dataset *ds, const char *path) {
  example_part *part = &ds->part[split_of_name(path)];
  const void *bytes;
  size_t size;
  TRY(file_map(ds->ctx, path, &bytes, &size));
  size_t n = size / CIFAR_RECORD, old = (size_t)part->count;
  elbo_status status = ELBO_OK;
  void *pixels = realloc(part->pixels, (old + n + 1) * 3 * CIFAR_PIXELS);
  if (pixels) part->pixels = pixels;
  void *label = realloc(part->label, (old + n + 1) * sizeof *part->label);
  if (label) part->label = label;
  if (!pixels || !label) status = fail_memory(ds->ctx, (old + n) * 3 * CIFAR_PIXELS, path);
  if (status == ELBO_OK)
    status = cifar_parse(ds->ctx, path, bytes, size, (uint8_t *)part->pixels + old * 3 * CIFAR_PIXELS, part->label + old);
  if (status == ELBO_OK) part->count += (int64_t)n;
  file_unmap(bytes, size);
  return status;
}

elbo_status cifar_open(elbo_dataset *ds, const char *path) {
  static const char *const NAMES[] = {"airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"};
  file_list files = {0};
  ds->format = "cifar10", ds->dtype = ELBO_U8, ds->image = true;
  ds->height = ds->width = 32, ds->channels = 3, ds->classes = 10;
  elbo_status status = file_exists(path) && !directory_exists(path) ? file_list_add(ds->ctx, &files, path)
                                                                    : file_list_kind(ds->ctx, path, DATA_FILE_CIFAR, &files);
  for (int64_t i = 0; i < files.count && status == ELBO_OK; i++) status = add_file(ds, files.path[i]);
  file_list_free(&files);
  TRY(status);
  TRY(array_new(ds->ctx, 10, sizeof *ds->class_names, "class names", (void **)&ds->class_names));
  for (int c = 0; c < 10; c++) {
    ds->class_names[c] = string_copy(NAMES[c]);
    if (!ds->class_names[c]) return fail_memory(ds->ctx, 16, "class names");
  }
  return ELBO_OK;
}
