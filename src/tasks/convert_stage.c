// Directories that appear whole or not at all.
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "tasks/convert.h"

elbo_status directory_check_free(elbo_ctx *ctx, const char *out) {
  if (!directory_exists(out)) return file_exists(out) ? fail(ctx, ELBO_ERROR_IO, "%s: is a file; expected a new directory", out) : ELBO_OK;
  DIR *directory = opendir(out);
  if (!directory) return fail_errno(ctx, out, "cannot list");
  bool empty = true;
  for (struct dirent *entry; (entry = readdir(directory));) empty = empty && (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."));
  closedir(directory);
  return empty ? ELBO_OK : fail(ctx, ELBO_ERROR_IO, "%s: is not empty; expected a new or an empty directory", out);
}

elbo_status staged_directory_open(elbo_ctx *ctx, const char *out, staged_directory *s) {
  size_t length = strlen(out);
  s->out = out;
  while (length > 1 && out[length - 1] == '/') length--;
  if ((size_t)snprintf(s->path, sizeof s->path, "%.*s.tmp-%ld", (int)length, out, (long)getpid()) >= sizeof s->path)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%.200s: path too long", out);
  TRY(directory_check_free(ctx, out));
  TRY(directory_remove(ctx, s->path));
  return directory_make(ctx, s->path);
}

elbo_status staged_directory_close(elbo_ctx *ctx, const staged_directory *s, elbo_status status) {
  if (status == ELBO_OK) status = directory_sync(ctx, s->path);
  if (status == ELBO_OK && rmdir(s->out) != 0 && errno != ENOENT) status = fail_errno(ctx, s->out, "cannot replace");
  if (status == ELBO_OK && rename(s->path, s->out) != 0) status = fail_errno(ctx, s->out, "cannot rename into place");
  if (status == ELBO_OK) return ELBO_OK;
  char *message = strdup(elbo_ctx_message(ctx)); // that of the failure, not of the clearing away
  if (directory_remove(ctx, s->path) == ELBO_OK && message) status = fail(ctx, status, "%s", message);
  free(message);
  return status;
}
