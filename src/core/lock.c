#include "core/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/file.h"

struct directory_lock {
  int fd;
  char path[PATH_MAX];
};

// Whether the open file is still the one that the name leads to: its holder may have removed it between our open and our lock.
static bool still_named(int fd, const char *path) {
  struct stat mine, named;
  return fstat(fd, &mine) == 0 && stat(path, &named) == 0 && mine.st_dev == named.st_dev && mine.st_ino == named.st_ino;
}

static elbo_status in_use(elbo_ctx *ctx, int fd, const char *directory) {
  char text[32] = "";
  ssize_t n = pread(fd, text, sizeof text - 1, 0);
  long pid = n > 0 ? strtol(text, NULL, 10) : 0;
  if (pid > 0) return fail(ctx, ELBO_ERROR_STATE, "%s: in use by process %ld", directory, pid);
  return fail(ctx, ELBO_ERROR_STATE, "%s: in use by another process", directory);
}

elbo_status lock_take(elbo_ctx *ctx, const char *directory, directory_lock **out) {
  elbo_status status;
  char text[32];
  int fd = -1;
  *out = NULL;
  directory_lock *lock = calloc(1, sizeof *lock);
  if (!lock) return fail_memory(ctx, sizeof *lock, "a directory lock");
  TRY_GOTO(path_join(ctx, lock->path, sizeof lock->path, directory, ".lock"));
  for (;;) {
    fd = open(lock->path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (fd < 0) {
      status = fail_errno(ctx, lock->path, "cannot open");
      goto fail;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
      if (errno == EINTR) {
        close(fd);
        continue;
      }
      status = errno == EWOULDBLOCK ? in_use(ctx, fd, directory) : fail_errno(ctx, lock->path, "cannot lock");
      goto fail;
    }
    if (still_named(fd, lock->path)) break;
    close(fd);
  }
  int n = snprintf(text, sizeof text, "%ld\n", (long)getpid());
  if (ftruncate(fd, 0) != 0 || pwrite(fd, text, (size_t)n, 0) != n) {
    status = fail_errno(ctx, lock->path, "cannot write");
    unlink(lock->path);
    goto fail;
  }
  lock->fd = fd;
  *out = lock;
  return ELBO_OK;

fail:
  if (fd >= 0) close(fd);
  free(lock);
  return status;
}

void lock_release(directory_lock **lock) {
  if (!lock || !*lock) return;
  if (still_named((*lock)->fd, (*lock)->path)) unlink((*lock)->path); // while it is held: nobody else's can be removed
  close((*lock)->fd);
  free(*lock);
  *lock = NULL;
}
