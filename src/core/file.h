// Files: read whole, written whole or not at all, mapped; directories.
#ifndef CORE_FILE_H
#define CORE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

elbo_status file_read(elbo_ctx *ctx, const char *path, size_t limit, char **data, size_t *size); // NUL-terminated; free()
// Writes to PATH.tmp-PID, fsyncs, renames, fsyncs the directory.
// A device or pipe is written to as it is; of a link its target is replaced.
elbo_status file_write(elbo_ctx *ctx, const char *path, const void *data, size_t size);
// The same from several pieces, written one after the other.
typedef struct file_part {
  const void *data;
  size_t size;
} file_part;
elbo_status file_write_parts(elbo_ctx *ctx, const char *path, int64_t n, const file_part *parts);
// Read-only mapping; an empty file gives size 0 and a NULL map.
elbo_status file_map(elbo_ctx *ctx, const char *path, const void **data, size_t *size);
void file_unmap(const void *data, size_t size);
// Memory that the disk backs, not swap: `size` (> 0) writable zeros of a file without a name in `folder` (NULL: $TMPDIR, else /tmp). A full
// disk is an error. file_unmap it.
elbo_status file_map_nameless(elbo_ctx *ctx, const char *folder, size_t size, void **data);
// SHA-256 of its bytes: 64 lower-case digits and a NUL.
elbo_status file_sha256(elbo_ctx *ctx, const char *path, char out[65]);
bool file_exists(const char *path);
bool directory_exists(const char *path);
elbo_status directory_make(elbo_ctx *ctx, const char *path);   // with parents; fine when it is there
elbo_status directory_remove(elbo_ctx *ctx, const char *path); // with contents; fine when it is not there; follows no links
elbo_status directory_sync(elbo_ctx *ctx, const char *path);   // fsync of the directory and every file in it, recursively
// "A/B"; the buffer is the caller's
elbo_status path_join(elbo_ctx *ctx, char *buffer, size_t size, const char *a, const char *b);

#endif
