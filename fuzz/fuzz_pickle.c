// torch.save's files: whatever opens, every byte of every tensor must be there, and can be found by its name.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/pickle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static elbo_ctx *ctx;
  static uint64_t kept;
  pickle *file;
  char path[64];
  if (!ctx && elbo_ctx_create(NULL, NULL, 0, &ctx) != ELBO_OK) abort();
  int fd = memfd_create("fuzz", MFD_CLOEXEC);
  if (fd < 0 || write(fd, data, size) != (ssize_t)size) abort();
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  if (pickle_open(ctx, path, &file) == ELBO_OK) {
    for (int64_t i = 0; i < pickle_count(file); i++) {
      const tensor_view *v = pickle_at(file, i);
      for (size_t b = 0; b < v->bytes; b++) kept += ((const uint8_t *)v->data)[b];
      __asm__ volatile("" : : "r"(kept)); // so that the reads stay
      if (pickle_find(file, v->name) != v) abort();
    }
    pickle_close(&file);
  } else if (file) {
    abort();
  }
  close(fd);
  return 0;
}
