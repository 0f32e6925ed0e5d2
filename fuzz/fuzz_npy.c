// .npy files: an array that comes out must be whole.
#include <stdint.h>
#include <stdlib.h>

#include "core/ctx.h"
#include "data/npy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static elbo_ctx *ctx;
  static uint64_t kept;
  elbo_array *a;
  if (!ctx && elbo_ctx_create(NULL, NULL, 0, &ctx) != ELBO_OK) abort();
  if (npy_parse(ctx, "fuzz", data, size, &a) != ELBO_OK) {
    if (a) abort();
    return 0;
  }
  for (size_t i = 0; i < elbo_array_bytes(a); i++) kept += ((const uint8_t *)a->data)[i];
  __asm__ volatile("" : : "r"(kept)); // so that the reads stay
  if (elbo_npy_write(ctx, "/dev/null", a) != ELBO_OK) abort();
  elbo_array_destroy(&a);
  return 0;
}
