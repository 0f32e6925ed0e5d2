// PNG, JPEG and WebP: what is decoded must survive the changes that data sets make to it.
#include <stdint.h>
#include <stdlib.h>

#include "core/ctx.h"
#include "data/picture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static elbo_ctx *ctx;
  static uint64_t kept;
  picture p = {0}, q = {0};
  if (!ctx && elbo_ctx_create(NULL, NULL, 0, &ctx) != ELBO_OK) abort();
  if (picture_decode(ctx, "fuzz", data, size, &p) == ELBO_OK && (int64_t)p.height * p.width < 1 << 20) {
    size_t bytes = (size_t)p.height * (size_t)p.width * (size_t)p.channels * (size_t)(p.bits / 8);
    for (size_t i = 0; i < bytes; i++) kept += ((const uint8_t *)p.data)[i];
    __asm__ volatile("" : : "r"(kept)); // so that the reads stay
    if (picture_set_channels(ctx, "fuzz", 1 + (int)(size % 4), &p) != ELBO_OK) abort();
    if (picture_fit(ctx, "fuzz", 8, &p, &q) != ELBO_OK || p.height != 8 || p.width != 8) abort();
  }
  picture_free(&p), picture_free(&q);
  return 0;
}
