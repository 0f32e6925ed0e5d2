#include "core/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/memory.h"
#include "core/sha256.h"

enum { DIRECTORY_DEPTH_MAX = 64 };

elbo_status file_read(elbo_ctx *ctx, const char *path, size_t limit, char **data, size_t *size) {
  char *bytes = NULL;
  size_t used = 0, capacity = 0;
  struct stat st;
  *data = NULL;
  *size = 0;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return fail_errno(ctx, path, "cannot open");
  elbo_status status = ELBO_OK;
  if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
    if ((uintmax_t)st.st_size > limit) goto too_large;
    capacity = (size_t)st.st_size + 2; // room for the terminator, and for read to say that there is no more
  }
  for (;;) {
    if (capacity - used < 2 || !bytes) {
      capacity = bytes ? capacity * 2 : capacity < 4096 ? 4096 : capacity;
      char *grown = realloc(bytes, capacity);
      if (!grown) {
        status = fail_memory(ctx, capacity, path);
        goto done;
      }
      bytes = grown;
    }
    ssize_t n = read(fd, bytes + used, capacity - used - 1);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      status = fail_errno(ctx, path, "cannot read");
      goto done;
    }
    if (n == 0) break;
    used += (size_t)n;
    if (used > limit) goto too_large;
  }
  bytes[used] = 0;
  *data = bytes;
  *size = used;
  bytes = NULL;
  goto done;

too_large:
  status = fail(ctx, ELBO_ERROR_FORMAT, "%s: too large; expected at most %zu bytes", path, limit);
done:
  free(bytes);
  close(fd);
  return status;
}

static elbo_status write_all(elbo_ctx *ctx, int fd, const char *path, int64_t n, const file_part *parts) {
  for (int64_t i = 0; i < n; i++) {
    const char *data = parts[i].data;
    size_t size = parts[i].size;
    while (size > 0) {
      ssize_t written = write(fd, data, size < 1u << 30 ? size : 1u << 30);
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) return fail_errno(ctx, path, "cannot write");
      data += written;
      size -= (size_t)written;
    }
  }
  return ELBO_OK;
}

// Some file systems cannot sync a directory, and devices nothing at all; that is not a failure of ours.
static elbo_status sync_descriptor(elbo_ctx *ctx, int fd, const char *path) {
  if (fsync(fd) == 0 || errno == EINVAL || errno == ENOTSUP || errno == EROFS) return ELBO_OK;
  return fail_errno(ctx, path, "cannot sync to disk");
}

static elbo_status sync_parent(elbo_ctx *ctx, const char *path) {
  char parent[PATH_MAX];
  const char *slash = strrchr(path, '/');
  size_t n = slash ? (size_t)(slash - path) : 0;
  if (n >= sizeof parent) return ELBO_OK; // the file was opened under this name: it cannot be
  memcpy(parent, path, n);
  parent[n] = 0;
  const char *name = n ? parent : slash ? "/" : ".";
  int fd = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return errno == EACCES ? ELBO_OK : fail_errno(ctx, name, "cannot open"); // may be written to but not read
  elbo_status status = sync_descriptor(ctx, fd, name);
  close(fd);
  return status;
}

// A device or a pipe (/dev/stdout, /dev/full) is written to, never renamed over.
static elbo_status write_in_place(elbo_ctx *ctx, const char *path, int64_t n, const file_part *parts) {
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return fail_errno(ctx, path, "cannot open for writing");
  elbo_status status = write_all(ctx, fd, path, n, parts);
  if (close(fd) != 0 && status == ELBO_OK) status = fail_errno(ctx, path, "cannot write");
  return status;
}

elbo_status file_write(elbo_ctx *ctx, const char *path, const void *data, size_t size) {
  file_part part = {data, size};
  return file_write_parts(ctx, path, 1, &part);
}

elbo_status file_write_parts(elbo_ctx *ctx, const char *path, int64_t n, const file_part *parts) {
  struct stat st;
  char *resolved = NULL, *temporary = NULL;
  elbo_status status = ELBO_OK;
  if (stat(path, &st) == 0) {
    if (S_ISDIR(st.st_mode)) return fail(ctx, ELBO_ERROR_IO, "%s: is a directory; expected a file to write", path);
    if (!S_ISREG(st.st_mode)) return write_in_place(ctx, path, n, parts);
    resolved = realpath(path, NULL); // what a link points to is replaced, not the link
  }
  const char *target = resolved ? resolved : path;
  if (asprintf(&temporary, "%s.tmp-%ld", target, (long)getpid()) < 0) {
    temporary = NULL;
    status = fail_memory(ctx, strlen(target) + 32, "a file name");
    goto done;
  }
  int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666);
  if (fd < 0) {
    status = fail_errno(ctx, path, "cannot create");
    goto done;
  }
  status = write_all(ctx, fd, path, n, parts);
  if (status == ELBO_OK) status = sync_descriptor(ctx, fd, path);
  if (close(fd) != 0 && status == ELBO_OK) status = fail_errno(ctx, path, "cannot write");
  if (status == ELBO_OK && rename(temporary, target) != 0) status = fail_errno(ctx, path, "cannot rename into place");
  if (status != ELBO_OK) unlink(temporary);
  if (status == ELBO_OK) status = sync_parent(ctx, target);

done:
  free(temporary);
  free(resolved);
  return status;
}

elbo_status file_map(elbo_ctx *ctx, const char *path, const void **data, size_t *size) {
  struct stat st;
  elbo_status status = ELBO_OK;
  *data = NULL;
  *size = 0;
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); // not blocking: opening a pipe would wait for its writer
  if (fd < 0) return fail_errno(ctx, path, "cannot open");
  if (fstat(fd, &st) != 0) {
    status = fail_errno(ctx, path, "cannot stat");
  } else if (!S_ISREG(st.st_mode)) {
    status = fail(ctx, ELBO_ERROR_IO, "%s: is a %s; expected a file", path, S_ISDIR(st.st_mode) ? "directory" : "device or a pipe");
  } else if ((uintmax_t)st.st_size > PTRDIFF_MAX) {
    status = fail(ctx, ELBO_ERROR_IO, "%s: too large to map", path);
  } else if (st.st_size > 0) {
    void *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED) {
      status = fail_errno(ctx, path, "cannot map");
    } else {
      *data = map;
      *size = (size_t)st.st_size;
    }
  }
  close(fd);
  return status;
}

elbo_status file_sha256(elbo_ctx *ctx, const char *path, char out[65]) {
  const void *bytes;
  size_t size;
  sha256 s;
  TRY(file_map(ctx, path, &bytes, &size));
  sha256_begin(&s);
  if (size) sha256_add(&s, bytes, size);
  sha256_end_hex(&s, out);
  file_unmap(bytes, size);
  return ELBO_OK;
}

elbo_status file_map_nameless(elbo_ctx *ctx, const char *folder, size_t size, void **data) {
  const char *other = getenv("TMPDIR");
  char path[4096];
  *data = NULL;
  if (!folder) folder = other && *other ? other : "/tmp";
  TRY(path_join(ctx, path, sizeof path, folder, "elbo-XXXXXX"));
  int fd = mkostemp(path, O_CLOEXEC);
  if (fd < 0) return fail_errno(ctx, path, "cannot create");
  unlink(path);
  int error = posix_fallocate(fd, 0, (off_t)size); // a full disk is an error here, and not a signal later
  void *map = error ? MAP_FAILED : mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (error) errno = error;
  elbo_status status = map == MAP_FAILED ? fail_errno(ctx, path, "no room for a temporary file") : ELBO_OK;
  close(fd);
  if (status == ELBO_OK) *data = map;
  return status;
}

void file_unmap(const void *data, size_t size) {
  if (data && size) munmap((void *)(uintptr_t)data, size);
}

bool file_exists(const char *path) {
  struct stat st;
  return stat(path, &st) == 0 && !S_ISDIR(st.st_mode);
}

bool directory_exists(const char *path) {
  struct stat st;
  return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

elbo_status directory_make(elbo_ctx *ctx, const char *path) {
  char part[PATH_MAX];
  size_t n = strlen(path);
  if (n == 0 || n >= sizeof part) return fail(ctx, ELBO_ERROR_ARGUMENT, "directory name of %zu bytes; expected 1 to %d", n, PATH_MAX - 1);
  for (size_t i = 1; i <= n; i++) {
    if (i < n && path[i] != '/') continue;
    memcpy(part, path, i);
    part[i] = 0;
    if (mkdir(part, 0777) == 0 || errno == EEXIST) continue;
    int reason = errno; // EROFS or EACCES may come for a parent that is there
    if (directory_exists(part)) continue;
    errno = reason;
    return fail_errno(ctx, part, "cannot make the directory");
  }
  if (!directory_exists(path)) return fail(ctx, ELBO_ERROR_IO, "%s: is a file; expected a directory", path);
  return ELBO_OK;
}

// Opens a directory below `at`, never through a link.
static DIR *open_directory(int at, const char *name) {
  int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return NULL;
  DIR *dir = fdopendir(fd);
  if (!dir) close(fd);
  return dir;
}

static bool is_dot(const char *name) { return name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2])); }

static elbo_status remove_contents(elbo_ctx *ctx, int at, const char *name, const char *path, int depth) {
  if (depth > DIRECTORY_DEPTH_MAX) return fail(ctx, ELBO_ERROR_IO, "%s: directories nested deeper than %d", path, DIRECTORY_DEPTH_MAX);
  elbo_status status = ELBO_OK;
  struct dirent *entry;
  DIR *dir = open_directory(at, name);
  if (!dir) return fail_errno(ctx, path, "cannot open");
  while (status == ELBO_OK && (errno = 0, entry = readdir(dir))) {
    if (is_dot(entry->d_name)) continue;
    if (unlinkat(dirfd(dir), entry->d_name, 0) == 0 || errno == ENOENT) continue;
    if (errno != EISDIR && errno != EPERM) { // a directory gives the one on Linux, the other elsewhere
      status = fail_errno(ctx, path, "cannot remove what is in it");
      break;
    }
    status = remove_contents(ctx, dirfd(dir), entry->d_name, path, depth + 1);
    if (status == ELBO_OK && unlinkat(dirfd(dir), entry->d_name, AT_REMOVEDIR) != 0)
      status = fail_errno(ctx, path, "cannot remove a directory in it");
  }
  if (status == ELBO_OK && errno) status = fail_errno(ctx, path, "cannot list");
  closedir(dir);
  return status;
}

elbo_status directory_remove(elbo_ctx *ctx, const char *path) {
  struct stat st;
  if (lstat(path, &st) != 0) return errno == ENOENT ? ELBO_OK : fail_errno(ctx, path, "cannot stat");
  if (!S_ISDIR(st.st_mode)) return fail(ctx, ELBO_ERROR_IO, "%s: cannot remove; expected a directory", path);
  TRY(remove_contents(ctx, AT_FDCWD, path, path, 0));
  return rmdir(path) == 0 ? ELBO_OK : fail_errno(ctx, path, "cannot remove");
}

static elbo_status sync_tree(elbo_ctx *ctx, int at, const char *name, const char *path, int depth) {
  if (depth > DIRECTORY_DEPTH_MAX) return fail(ctx, ELBO_ERROR_IO, "%s: directories nested deeper than %d", path, DIRECTORY_DEPTH_MAX);
  elbo_status status = ELBO_OK;
  struct dirent *entry;
  struct stat st;
  DIR *dir = open_directory(at, name);
  if (!dir) return fail_errno(ctx, path, "cannot open");
  while (status == ELBO_OK && (errno = 0, entry = readdir(dir))) {
    if (is_dot(entry->d_name)) continue;
    if (fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
      status = fail_errno(ctx, path, "cannot stat what is in it");
    } else if (S_ISDIR(st.st_mode)) {
      status = sync_tree(ctx, dirfd(dir), entry->d_name, path, depth + 1);
    } else if (S_ISREG(st.st_mode)) {
      int fd = openat(dirfd(dir), entry->d_name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
      status = fd < 0 ? fail_errno(ctx, path, "cannot open what is in it") : sync_descriptor(ctx, fd, path);
      if (fd >= 0) close(fd);
    }
  }
  if (status == ELBO_OK && errno) status = fail_errno(ctx, path, "cannot list");
  if (status == ELBO_OK) status = sync_descriptor(ctx, dirfd(dir), path);
  closedir(dir);
  return status;
}

elbo_status directory_sync(elbo_ctx *ctx, const char *path) { return sync_tree(ctx, AT_FDCWD, path, path, 0); }

elbo_status path_join(elbo_ctx *ctx, char *buffer, size_t size, const char *a, const char *b) {
  size_t n = strlen(a);
  int written = snprintf(buffer, size, "%s%s%s", a, n == 0 || a[n - 1] == '/' ? "" : "/", b);
  if (written < 0 || (size_t)written >= size) return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: path too long", b);
  return ELBO_OK;
}
