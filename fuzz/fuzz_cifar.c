// CIFAR-10 binary records: whatever is accepted has labels 0 to 9.
#include <stdint.h>
#include <stdlib.h>

#include "core/ctx.h"
#include "data/dataset.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static elbo_ctx *ctx;
  if (!ctx && elbo_ctx_create(NULL, NULL, 0, &ctx) != ELBO_OK) abort();
  size_t n = size / 3073;
  uint8_t *pixels = malloc(n * 3072 + 1);
  int32_t *label = malloc((n + 1) * sizeof *label);
  if (!pixels || !label) abort();
  if (cifar_parse(ctx, "fuzz", data, size, pixels, label) == ELBO_OK)
    for (size_t i = 0; i < n; i++)
      if (label[i] < 0 || label[i] > 9) abort();
  free(pixels), free(label);
  return 0;
}
