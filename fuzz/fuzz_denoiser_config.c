// The config.json of any diffusion network: what is accepted must be written to a file that is accepted again and says the same, and build
// or be refused with a message.
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/file.h"
#include "nn/denoiser_config.h"

// A file in memory with these bytes; its path in `path`.
static int memory_file(const void *data, size_t size, char path[64]) {
  int fd = memfd_create("fuzz", MFD_CLOEXEC);
  if (fd < 0 || write(fd, data, size) != (ssize_t)size) abort();
  snprintf(path, 64, "/proc/self/fd/%d", fd);
  return fd;
}

static char *written(elbo_ctx *ctx, const denoiser_config *c, const char *path, size_t *size) {
  char *text;
  if (denoiser_write(ctx, path, c) != ELBO_OK || file_read(ctx, path, 1 << 20, &text, size) != ELBO_OK) abort();
  return text;
}

static void check_written(elbo_ctx *ctx, arena *a, const denoiser_config *c) {
  static char path[64];
  denoiser_config back;
  size_t n, m;
  if (!path[0]) snprintf(path, sizeof path, "/dev/shm/fuzz_denoiser_config.%ld", (long)getpid());
  char *text = written(ctx, c, path, &n);
  if (denoiser_read(ctx, a, path, &back) != ELBO_OK) abort();
  char *again = written(ctx, &back, path, &m);
  if (n != m || memcmp(text, again, n) != 0) abort();
  free(text);
  free(again);
  unlink(path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static elbo_ctx *ctx;
  denoiser_config c;
  char path[64];
  if (!ctx && elbo_ctx_create(NULL, NULL, 0, &ctx) != ELBO_OK) abort();
  arena *a = arena_create(1 << 14);
  if (!a) abort();
  int fd = memory_file(data, size, path);
  if (denoiser_read(ctx, a, path, &c) == ELBO_OK) {
    check_written(ctx, a, &c);
    int64_t side = c.network == DENOISER_MLP ? 1 : 8;
    if (denoiser_check(ctx, &c, side, side, "fuzz") != ELBO_OK && !elbo_ctx_message(ctx)[0]) abort();
  }
  close(fd);
  arena_destroy(&a);
  return 0;
}
