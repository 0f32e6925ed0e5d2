// .npz files: any member, and one by name.
#include <stdint.h>
#include <stdlib.h>

#include "core/ctx.h"
#include "data/npy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static elbo_ctx *ctx;
  elbo_array *a;
  if (!ctx && elbo_ctx_create(NULL, NULL, 0, &ctx) != ELBO_OK) abort();
  if (size == 0) return 0; // no memory, no archive
  for (int named = 0; named < 2; named++) {
    elbo_status status = npz_find_memory(ctx, "fuzz", data, size, named ? 2 : 0, (const char *const[]){"x", "y"}, &a);
    if (status != ELBO_OK && a) abort();
    elbo_array_destroy(&a);
  }
  return 0;
}
