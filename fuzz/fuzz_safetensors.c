// safetensors files: whatever opens, every byte of every tensor must be there, and the file written from it must open again.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/memory.h"
#include "core/safetensors.h"

// Reads all data, so that the sanitizers see what lies outside.
static uint64_t add_bytes(const tensor_view *v) {
  uint64_t sum = 0;
  for (size_t i = 0; i < v->bytes; i++) sum += ((const uint8_t *)v->data)[i];
  return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static elbo_ctx *ctx;
  static uint64_t kept;
  safetensors *file;
  char path[64];
  if (!ctx && elbo_ctx_create(NULL, NULL, 0, &ctx) != ELBO_OK) abort();
  int fd = memfd_create("fuzz", MFD_CLOEXEC);
  if (fd < 0 || write(fd, data, size) != (ssize_t)size) abort();
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  if (safetensors_open(ctx, path, &file) == ELBO_OK) {
    for (int64_t i = 0; i < safetensors_count(file); i++) {
      const tensor_view *v = safetensors_at(file, i);
      kept += add_bytes(v);
      __asm__ volatile("" : : "r"(kept)); // so that the reads stay
      if (safetensors_find(file, v->name) != v) abort();
    }
    (void)safetensors_metadata(file, "format");
    if (safetensors_count(file) > 0 &&
        safetensors_write(ctx, "/dev/null", safetensors_count(file), safetensors_at(file, 0), 0, NULL) != ELBO_OK)
      abort();
    safetensors_close(&file);
  }
  close(fd);
  return 0;
}
