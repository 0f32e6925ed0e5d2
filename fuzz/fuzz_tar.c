// WebDataset shards: opened as a data set, every example of it read.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/ctx.h"
#include "data/tar.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static elbo_ctx *ctx;
  elbo_dataset *ds;
  elbo_array *x, *label;
  data_config config = {.max_skipped = 1, .cache = size % 2 ? 1 << 24 : 0, .shuffle_buffer = 4, .size = 8, .channels = 3};
  if (!ctx && elbo_ctx_create(&(elbo_ctx_config){.size = sizeof(elbo_ctx_config), .threads = 1}, NULL, 0, &ctx) != ELBO_OK) abort();
  if (size == 0) return 0; // no memory, no archive
  if (dataset_create(ctx, "fuzz", &config, &ds) != ELBO_OK) abort();
  if (tar_open_memory(ds, data, size) == ELBO_OK && dataset_finish(ds) == ELBO_OK &&
      elbo_dataset_read(ds, ELBO_SPLIT_TRAIN, 0, 100, 0, 0, &x, &label) == ELBO_OK) {
    elbo_array_destroy(&x), elbo_array_destroy(&label);
  }
  elbo_dataset_destroy(&ds);
  return 0;
}
