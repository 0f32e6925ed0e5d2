// Indices of shards, beside two shards: whatever opens has every tensor that it names, and no file from elsewhere is read.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "models/weights.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char folder[64];

static void remove_folder(void) { (void)!directory_remove(NULL, folder); }

static void make_folder(elbo_ctx *ctx) {
  static const char *const shards[] = {"a.safetensors", "b.safetensors"};
  static const float number = 1;
  char path[128];
  snprintf(folder, sizeof folder, "/tmp/elbo-fuzz-XXXXXX");
  if (!mkdtemp(folder)) abort();
  atexit(remove_folder);
  for (int i = 0; i < 2; i++) {
    tensor_view v = {.name = i ? "y" : "x", .data = &number, .bytes = sizeof number};
    snprintf(path, sizeof path, "%s/%s", folder, shards[i]);
    if (safetensors_write(ctx, path, 1, &v, 0, NULL) != ELBO_OK) abort();
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static elbo_ctx *ctx;
  static char path[128];
  weights *w;
  if (!ctx) {
    if (elbo_ctx_create(NULL, NULL, 0, &ctx) != ELBO_OK) abort();
    make_folder(ctx);
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", folder);
  }
  FILE *file = fopen(path, "wb");
  if (!file || fwrite(data, 1, size, file) != size || fclose(file)) abort();
  if (weights_open(ctx, path, &w) == ELBO_OK) {
    for (int64_t i = 0; i < weights_count(w); i++) {
      const char *name = weights_at(w, i)->name;
      if (strcmp(name, "x") != 0 && strcmp(name, "y") != 0) abort();
      if (!weights_find(w, name)) abort();
    }
    weights_close(&w);
  } else if (w) {
    abort();
  }
  return 0;
}
