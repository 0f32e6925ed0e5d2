#include "support/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/file.h"
#include "core/philox.h"

static void print_log(void *user, elbo_log_level level, const char *text) {
  (void)user;
  fprintf(stderr, "%s%s\n", level == ELBO_LOG_WARNING ? "warning: " : "", text);
}

static elbo_ctx *make_ctx(int threads, const char *isa, bool must) {
  elbo_ctx_config config;
  elbo_ctx *ctx;
  char message[256];
  const char *count = getenv("ELBO_TEST_THREADS");
  elbo_ctx_defaults(&config);
  config.threads = threads ? threads : count ? atoi(count) : 0;
  config.isa = isa;
  if (getenv("ELBO_TEST_LOG")) config.log = print_log;
  if (elbo_ctx_create(&config, message, sizeof message, &ctx) != ELBO_OK && must) fail_msg("no context: %s", message);
  return ctx;
}

elbo_ctx *test_ctx(int threads) { return make_ctx(threads, getenv("ELBO_TEST_ISA"), true); }

elbo_ctx *test_ctx_isa(int threads, isa_level isa) { return isa > isa_best() ? NULL : make_ctx(threads, isa_name(isa), true); }

uint64_t test_seed(void) {
  const char *text = getenv("ELBO_TEST_SEED");
  return text ? strtoull(text, NULL, 0) : 1;
}

static void draw(test_random *r, uint32_t bits[4]) { philox_draw(r->seed, philox_stream("test"), r->next++, 0, bits); }

double test_uniform(test_random *r) {
  uint32_t bits[4];
  draw(r, bits);
  return philox_uniform(bits[0]);
}

double test_normal(test_random *r) {
  uint32_t bits[4];
  double z[2];
  draw(r, bits);
  philox_normal2(bits[0], bits[1], z);
  return z[0];
}

int64_t test_below(test_random *r, int64_t low, int64_t high) {
  return low + (int64_t)philox_below(r->seed, philox_stream("test.below"), r->next++, (uint64_t)(high - low) + 1);
}

void test_fill_normal(test_random *r, float *out, int64_t n, double scale) {
  for (int64_t i = 0; i < n; i++) out[i] = (float)(scale * test_normal(r));
}

static char directory[64];
static pid_t directory_owner;

static void remove_directory(void) {
  if (directory[0] && getpid() == directory_owner && directory_remove(NULL, directory) != ELBO_OK)
    fprintf(stderr, "%s: could not be removed\n", directory);
}

const char *test_directory(void) {
  if (!directory[0] || directory_owner != getpid()) {
    const char *root = getenv("TMPDIR");
    int n = snprintf(directory, sizeof directory, "%s/elbo-test-XXXXXX", root ? root : "/tmp");
    if (n < 0 || (size_t)n >= sizeof directory) strcpy(directory, "/tmp/elbo-test-XXXXXX");
    if (!mkdtemp(directory)) fail_msg("%s: cannot make a temporary directory", directory);
    directory_owner = getpid();
    atexit(remove_directory);
  }
  return directory;
}

static const char *joined(const char *a, const char *b) {
  static char buffers[8][4096];
  static int next;
  char *buffer = buffers[next++ % 8];
  snprintf(buffer, sizeof buffers[0], "%s/%s", a, b);
  return buffer;
}

const char *test_path(const char *name) { return joined(test_directory(), name); }

void test_write_file(const char *path, const void *data, size_t size) {
  FILE *f = fopen(path, "wb");
  if (!f || fwrite(data, 1, size, f) != size || fclose(f) != 0) fail_msg("%s: cannot write", path);
}

const char *test_shared_data(const char *name) {
  const char *path = joined(ELBO_SOURCE_DIR "/../shared/data", name);
  return access(path, R_OK) == 0 ? path : NULL;
}

const char *test_repository_file(const char *name) { return joined(ELBO_SOURCE_DIR, name); }

int test_run(const char *command, char **output) {
  char *shell_line = NULL, *text = NULL;
  size_t size = 0, room = 0;
  if (output) *output = NULL;
  if (asprintf(&shell_line, "{ %s\n} 2>&1", command) < 0) fail_msg("out of memory");
  fflush(NULL);
  FILE *pipe = popen(shell_line, "r");
  if (!pipe) fail_msg("cannot run: %s", command);
  for (;;) {
    if (room - size < 2) {
      room = room ? room * 2 : 4096;
      text = realloc(text, room);
      if (!text) fail_msg("out of memory");
    }
    size_t n = fread(text + size, 1, room - size - 1, pipe);
    if (n == 0) break;
    size += n;
  }
  text[size] = 0;
  int status = pclose(pipe);
  free(shell_line);
  if (output) {
    *output = text;
  } else {
    free(text);
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void test_assert_ok(elbo_ctx *ctx, elbo_status status, const char *what, const char *file, int line) {
  if (status == ELBO_OK) return;
  print_error("%s: %s: %s\n", what, elbo_status_name(status), elbo_ctx_message(ctx));
  _fail(file, line);
}

void test_assert_status(elbo_ctx *ctx, elbo_status status, elbo_status expected, const char *part, const char *what, const char *file,
                        int line) {
  const char *message = elbo_ctx_message(ctx);
  if (status == expected && message[0] && (!part || strstr(message, part))) return;
  print_error("%s: %s \"%s\"; expected %s \"...%s...\"\n", what, elbo_status_name(status), status == ELBO_OK ? "" : message,
              elbo_status_name(expected), part ? part : "");
  _fail(file, line);
}

void test_assert_near(double a, double b, double tol, const char *what, const char *file, int line) {
  if (fabs(a - b) <= tol) return;
  print_error("%s is %.17g; expected %.17g within %g (seed %llu)\n", what, a, b, tol, (unsigned long long)test_seed());
  _fail(file, line);
}

bool test_close(const float *a, const float *b, int64_t n, double tol, int64_t *worst) {
  double largest = 0, error = 0;
  bool good = true;
  *worst = 0;
  for (int64_t i = 0; i < n; i++) largest = fmax(largest, fabs((double)b[i]));
  for (int64_t i = 0; i < n; i++) {
    double e = fabs((double)a[i] - (double)b[i]);
    if (e <= tol * (1 + largest)) continue;
    if (good || e > error || isnan(e)) *worst = i, error = e;
    good = false;
    if (isnan(e)) break;
  }
  return good;
}

void test_assert_close(const float *a, const float *b, int64_t n, double tol, const char *what, const char *file, int line) {
  int64_t worst;
  if (test_close(a, b, n, tol, &worst)) return;
  print_error("%s[%lld] of %lld is %.9g; expected %.9g within %g (1 + max) (seed %llu)\n", what, (long long)worst, (long long)n,
              (double)a[worst], (double)b[worst], tol, (unsigned long long)test_seed());
  _fail(file, line);
}
