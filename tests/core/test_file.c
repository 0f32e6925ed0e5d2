// Files and directories: whole or not at all, full disks, read-only places, locks.
#include "support/test.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/file.h"
#include "core/lock.h"

static elbo_ctx *ctx;

static void expect_file(const char *path, const char *text) {
  char *data;
  size_t size;
  assert_ok(ctx, file_read(ctx, path, 1 << 20, &data, &size));
  assert_int_equal(size, strlen(text));
  assert_string_equal(data, text);
  free(data);
}

// How many names a directory has: nothing temporary may stay behind.
static int count_names(const char *directory) {
  char command[4200], *output;
  snprintf(command, sizeof command, "ls -A '%s' | wc -l", directory);
  assert_int_equal(test_run(command, &output), 0);
  int n = atoi(output);
  free(output);
  return n;
}

static void test_read_write(void **state) {
  (void)state;
  char *data;
  size_t size;
  const void *map;
  char here[256];
  snprintf(here, sizeof here, "%s", test_path("files"));
  assert_ok(ctx, directory_make(ctx, here));
  const char *path = test_path("files/a.txt"), *empty = test_path("files/empty");
  assert_ok(ctx, file_write(ctx, path, "hello", 5));
  expect_file(path, "hello");
  assert_ok(ctx, file_write(ctx, path, "replaced", 8));
  expect_file(path, "replaced");
  file_part parts[] = {{"ab", 2}, {"", 0}, {"cde", 3}};
  assert_ok(ctx, file_write_parts(ctx, path, 3, parts));
  expect_file(path, "abcde");
  assert_status(ctx, file_read(ctx, path, 4, &data, &size), ELBO_ERROR_FORMAT, "too large; expected at most 4 bytes");
  assert_null(data);
  assert_ok(ctx, file_read(ctx, path, 5, &data, &size));
  free(data);
  assert_ok(ctx, file_map(ctx, path, &map, &size));
  assert_int_equal(size, 5);
  assert_memory_equal(map, "abcde", 5);
  file_unmap(map, size);
  assert_ok(ctx, file_write(ctx, empty, NULL, 0));
  expect_file(empty, "");
  assert_ok(ctx, file_map(ctx, empty, &map, &size));
  assert_null(map);
  assert_int_equal(size, 0);
  file_unmap(map, size);
  assert_true(file_exists(path) && !file_exists(here) && directory_exists(here) && !directory_exists(path));
  assert_int_equal(count_names(here), 2);

  // A link's target is replaced and the link stays.
  assert_int_equal(symlink("a.txt", test_path("files/link")), 0);
  assert_ok(ctx, file_write(ctx, test_path("files/link"), "via link", 8));
  expect_file(path, "via link");
  struct stat st;
  assert_int_equal(lstat(test_path("files/link"), &st), 0);
  assert_true(S_ISLNK(st.st_mode));
}

static void test_refusals(void **state) {
  (void)state;
  char *data;
  size_t size;
  const void *map;
  const char *missing = test_path("missing/file"), *directory = test_path("files");
  assert_status(ctx, file_read(ctx, missing, 10, &data, &size), ELBO_ERROR_IO, "missing/file: cannot open: No such file");
  assert_status(ctx, file_map(ctx, missing, &map, &size), ELBO_ERROR_IO, "No such file");
  assert_status(ctx, file_write(ctx, missing, "x", 1), ELBO_ERROR_IO, "No such file");
  assert_status(ctx, file_read(ctx, directory, 10, &data, &size), ELBO_ERROR_IO, "Is a directory");
  assert_status(ctx, file_map(ctx, directory, &map, &size), ELBO_ERROR_IO, "is a directory; expected a file");
  assert_status(ctx, file_write(ctx, directory, "x", 1), ELBO_ERROR_IO, "is a directory");
  assert_status(ctx, file_map(ctx, "/dev/null", &map, &size), ELBO_ERROR_IO, "device");
  assert_status(ctx, file_read(ctx, "/dev/zero", 100000, &data, &size), ELBO_ERROR_FORMAT, "too large");
  const char *pipe = test_path("pipe");
  assert_int_equal(mkfifo(pipe, 0600), 0);
  assert_status(ctx, file_map(ctx, pipe, &map, &size), ELBO_ERROR_IO, "pipe");
  unlink(pipe);
}

// The device that is always full; it must be written to and never replaced.
static void test_full_device(void **state) {
  (void)state;
  struct stat st;
  if (stat("/dev/full", &st) != 0) skip();
  static const char block[100000];
  assert_status(ctx, file_write(ctx, "/dev/full", block, sizeof block), ELBO_ERROR_IO, "/dev/full: cannot write: No space left on device");
  assert_int_equal(stat("/dev/full", &st), 0);
  assert_true(S_ISCHR(st.st_mode));
  assert_ok(ctx, file_write(ctx, "/dev/null", block, sizeof block));
}

// A file system of its own that is too small. The old file must stay as it was.
static void test_full_disk(void **state) {
  (void)state;
  char here[256], path[300];
  static char block[300000];
  snprintf(here, sizeof here, "%s", test_path("small"));
  assert_ok(ctx, directory_make(ctx, here));
  if (mount("tmpfs", here, "tmpfs", 0, "size=128k") != 0) {
    print_message("skipped: full disk (no right to mount one)\n");
    skip();
  }
  snprintf(path, sizeof path, "%s/file", here);
  elbo_status first = file_write(ctx, path, "old", 3), second = file_write(ctx, path, block, sizeof block);
  bool told = strstr(elbo_ctx_message(ctx), "small/file: cannot write: No space left on device") != NULL;
  char *data = NULL;
  size_t size;
  elbo_status third = file_read(ctx, path, 1000, &data, &size);
  bool kept = third == ELBO_OK && strcmp(data, "old") == 0;
  int names = count_names(here);
  free(data);
  assert_int_equal(umount(here), 0);
  assert_int_equal(first, ELBO_OK);
  assert_int_equal(second, ELBO_ERROR_IO);
  assert_true(told && kept);
  assert_int_equal(names, 1);
}

static void test_read_only(void **state) {
  (void)state;
  char here[256], path[300];
  snprintf(here, sizeof here, "%s", test_path("sealed"));
  assert_ok(ctx, directory_make(ctx, here));
  snprintf(path, sizeof path, "%s/file", here);
  assert_ok(ctx, file_write(ctx, path, "old", 3));
  bool mounted = false;
  if (geteuid() == 0) { // whom modes do not bind: a read-only mount does
    if (mount(here, here, NULL, MS_BIND, NULL) == 0) {
      mounted = mount(NULL, here, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL) == 0;
      if (!mounted) umount(here);
    }
    if (!mounted) {
      print_message("skipped: read-only directory (root without the right to mount)\n");
      skip();
    }
  } else {
    chmod(here, 0500);
  }
  elbo_status first = file_write(ctx, path, "new", 3);
  bool told = strstr(elbo_ctx_message(ctx), mounted ? "Read-only file system" : "Permission denied") != NULL;
  char below[320];
  snprintf(below, sizeof below, "%s/a/b", here);
  elbo_status second = directory_make(ctx, below);
  directory_lock *lock;
  elbo_status third = lock_take(ctx, here, &lock);
  if (mounted) umount(here);
  chmod(here, 0700);
  assert_int_equal(first, ELBO_ERROR_IO);
  assert_true(told);
  assert_int_equal(second, ELBO_ERROR_IO);
  assert_int_equal(third, ELBO_ERROR_IO);
  assert_null(lock);
  expect_file(path, "old");
}

static void test_directories(void **state) {
  (void)state;
  char root[256], path[300];
  snprintf(root, sizeof root, "%s", test_path("tree"));
  assert_ok(ctx, directory_make(ctx, test_path("tree/a/b//c/")));
  assert_true(directory_exists(test_path("tree/a/b/c")));
  assert_ok(ctx, directory_make(ctx, root));
  assert_ok(ctx, file_write(ctx, test_path("tree/a/file"), "x", 1));
  assert_ok(ctx, file_write(ctx, test_path("outside"), "keep", 4));
  assert_int_equal(symlink("../outside", test_path("tree/link")), 0);
  assert_ok(ctx, directory_make(ctx, test_path("other")));
  assert_ok(ctx, file_write(ctx, test_path("other/kept"), "keep", 4));
  assert_int_equal(symlink("../other", test_path("tree/a/dirlink")), 0);
  assert_ok(ctx, directory_sync(ctx, root));
  assert_status(ctx, directory_make(ctx, test_path("tree/a/file")), ELBO_ERROR_IO, "expected a directory");
  assert_status(ctx, directory_make(ctx, test_path("tree/a/file/below")), ELBO_ERROR_IO, "tree/a/file/below");
  assert_status(ctx, directory_make(ctx, ""), ELBO_ERROR_ARGUMENT, NULL);
  assert_status(ctx, directory_remove(ctx, test_path("tree/a/file")), ELBO_ERROR_IO, "expected a directory");
  assert_status(ctx, directory_remove(ctx, test_path("tree/a/dirlink")), ELBO_ERROR_IO, "expected a directory");
  assert_ok(ctx, directory_remove(ctx, root));
  assert_false(directory_exists(root));
  assert_ok(ctx, directory_remove(ctx, root));
  expect_file(test_path("outside"), "keep");
  expect_file(test_path("other/kept"), "keep");
  assert_status(ctx, directory_sync(ctx, root), ELBO_ERROR_IO, "No such file");
  assert_ok(ctx, path_join(ctx, path, sizeof path, "a", "b"));
  assert_string_equal(path, "a/b");
  assert_ok(ctx, path_join(ctx, path, sizeof path, "/a/", "b"));
  assert_string_equal(path, "/a/b");
  assert_ok(ctx, path_join(ctx, path, sizeof path, "", "b"));
  assert_string_equal(path, "b");
  assert_status(ctx, path_join(ctx, path, 4, "ab", "cd"), ELBO_ERROR_ARGUMENT, "too long");
}

static void test_lock(void **state) {
  (void)state;
  char run[256], expected[300];
  directory_lock *lock, *again;
  int ready[2], done[2];
  snprintf(run, sizeof run, "%s", test_path("run"));
  assert_ok(ctx, directory_make(ctx, run));
  assert_ok(ctx, lock_take(ctx, run, &lock));
  snprintf(expected, sizeof expected, "run: in use by process %ld", (long)getpid());
  assert_status(ctx, lock_take(ctx, run, &again), ELBO_ERROR_STATE, expected);
  assert_null(again);
  lock_release(&lock);
  assert_null(lock);
  lock_release(&lock);
  assert_int_equal(count_names(run), 0);
  assert_ok(ctx, lock_take(ctx, run, &lock));
  lock_release(&lock);
  assert_status(ctx, lock_take(ctx, test_path("nowhere"), &lock), ELBO_ERROR_IO, "No such file");

  // Another process's lock holds, and ends with it when it is killed.
  assert_int_equal(pipe(ready), 0);
  assert_int_equal(pipe(done), 0);
  pid_t child = fork();
  if (child == 0) {
    char c = lock_take(ctx, run, &lock) == ELBO_OK;
    if (write(ready[1], &c, 1) != 1 || read(done[0], &c, 1) < 0) _exit(1);
    _exit(0);
  }
  char c = 0;
  assert_int_equal(read(ready[0], &c, 1), 1);
  assert_int_equal(c, 1);
  snprintf(expected, sizeof expected, "in use by process %ld", (long)child);
  assert_status(ctx, lock_take(ctx, run, &lock), ELBO_ERROR_STATE, expected);
  kill(child, SIGKILL);
  waitpid(child, NULL, 0);
  assert_ok(ctx, lock_take(ctx, run, &lock));
  lock_release(&lock);
  for (int i = 0; i < 2; i++) close(ready[i]), close(done[i]);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_read_write), cmocka_unit_test(test_refusals),  cmocka_unit_test(test_full_device),
      cmocka_unit_test(test_full_disk),  cmocka_unit_test(test_read_only), cmocka_unit_test(test_directories),
      cmocka_unit_test(test_lock),
  };
  ctx = test_ctx(1);
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  elbo_ctx_destroy(&ctx);
  return failed;
}
