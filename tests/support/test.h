// What all tests share: contexts, temporary directories, comparisons that say what went wrong. Includes cmocka.
#ifndef TESTS_SUPPORT_TEST_H
#define TESTS_SUPPORT_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
// cmocka has a macro by the name of the house's fail(); fail_msg, which was made of it, does the same without it.
#undef fail
#undef fail_msg
#define fail_msg(...)          \
  do {                         \
    print_error(__VA_ARGS__);  \
    print_error("\n");         \
    _fail(__FILE__, __LINE__); \
  } while (0)

#include "core/ctx.h"

// A context with `threads` threads (0: ELBO_TEST_THREADS from the environment, else one per core), on the variant that ELBO_TEST_ISA names.
// Log lines go to standard error when ELBO_TEST_LOG is set. Never NULL; elbo_ctx_destroy it.
elbo_ctx *test_ctx(int threads);
// The same forced to a variant; NULL when this machine lacks it.
elbo_ctx *test_ctx_isa(int threads, isa_level isa);

// The seed of this run: ELBO_TEST_SEED from the environment, else 1. Print it with failures.
uint64_t test_seed(void);
// A small generator for test data, a function of its state.
typedef struct test_random {
  uint64_t seed, next;
} test_random;
double test_uniform(test_random *r);                           // [0,1)
double test_normal(test_random *r);                            // N(0,1)
int64_t test_below(test_random *r, int64_t low, int64_t high); // low..high, both included
void test_fill_normal(test_random *r, float *out, int64_t n, double scale);

// This process's own directory, empty at first, removed at exit.
const char *test_directory(void);
// "DIRECTORY/name" in one of eight rotating buffers.
const char *test_path(const char *name);
void test_write_file(const char *path, const void *data, size_t size);
// A file of ../shared/data below the repository, or NULL when it is not there (skip then, by name). Rotating buffers as well.
const char *test_shared_data(const char *name);
// A file of the repository itself.
const char *test_repository_file(const char *name);
// Runs a shell command and returns its exit status (-1: it did not exit); standard output and error end up in *output (free), when not
// NULL.
int test_run(const char *command, char **output);

// --- checks ---
// The call returns ELBO_OK; else its status and message are shown.
#define assert_ok(ctx, call) test_assert_ok((ctx), (call), #call, __FILE__, __LINE__)
// The call returns `status`, and its message contains `part` (NULL: anything but nothing).
#define assert_status(ctx, call, status, part) test_assert_status((ctx), (call), (status), (part), #call, __FILE__, __LINE__)
// |a - b| <= tol; a NaN fails.
#define assert_near(a, b, tol) test_assert_near((a), (b), (tol), #a, __FILE__, __LINE__)
// max |a[i] - b[i]| <= tol (1 + max |b|); the first worst element is shown.
#define assert_close(a, b, n, tol) test_assert_close((a), (b), (n), (tol), #a, __FILE__, __LINE__)

void test_assert_ok(elbo_ctx *ctx, elbo_status status, const char *what, const char *file, int line);
void test_assert_status(elbo_ctx *ctx, elbo_status status, elbo_status expected, const char *part, const char *what, const char *file,
                        int line);
void test_assert_near(double a, double b, double tol, const char *what, const char *file, int line);
void test_assert_close(const float *a, const float *b, int64_t n, double tol, const char *what, const char *file, int line);
// What assert_close compares with: false and *worst (the index) when an element is too far, or not a number.
bool test_close(const float *a, const float *b, int64_t n, double tol, int64_t *worst);

#endif
