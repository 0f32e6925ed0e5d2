// Parallel loops: every index once, the same split whatever the machine gives, from any thread, and inside one another.
#include "support/test.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/threads.h"

typedef struct touched {
  atomic_int count[1000];
  int64_t begin[64], end[64]; // in the order of begin
  atomic_int ranges;
  const thread_pool *pool; // of the inner loop
} touched;

static void touch(void *arg, int64_t begin, int64_t end) {
  touched *t = arg;
  int r = atomic_fetch_add(&t->ranges, 1);
  t->begin[r % 64] = begin, t->end[r % 64] = end;
  for (int64_t i = begin; i < end; i++) atomic_fetch_add(&t->count[i], 1);
}

static void check_loop(const thread_pool *pool, int threads, int64_t n, int64_t grain) {
  touched *t = calloc(1, sizeof *t);
  assert_non_null(t);
  parallel_for(pool, n, grain, touch, t);
  for (int64_t i = 0; i < 1000; i++) assert_int_equal(t->count[i], i < n);
  int64_t parts = n / (grain > 0 ? grain : 1);
  if (parts > threads) parts = threads;
  if (parts < 1) parts = n > 0;
  assert_int_equal(t->ranges, parts);
  for (int r = 0; r < parts; r++) {
    int64_t size = t->end[r] - t->begin[r];
    assert_true(size >= n / parts && size <= n / parts + 1);
  }
  free(t);
}

static void test_loops(void **state) {
  (void)state;
  static const int threads[] = {1, 2, 7};
  for (int i = 0; i < 3; i++) {
    elbo_ctx *ctx = test_ctx(threads[i]);
    assert_int_equal(pool_threads(&ctx->pool), threads[i]);
    for (int64_t n = 0; n < 40; n++)
      for (int64_t grain = 0; grain < 9; grain++) check_loop(&ctx->pool, threads[i], n, grain);
    check_loop(&ctx->pool, threads[i], 1000, 1);
    elbo_ctx_destroy(&ctx);
  }
}

typedef struct parts {
  atomic_int seen[16];
  atomic_int wrong;
  int expected;
  const thread_pool *pool;
} parts;

static void mark_part(void *arg, int id, int count) {
  parts *p = arg;
  if (count != p->expected || id < 0 || id >= count) {
    atomic_fetch_add(&p->wrong, 1);
  } else {
    atomic_fetch_add(&p->seen[id], 1);
  }
}

static void nest(void *arg, int id, int count) {
  parts *p = arg;
  (void)id, (void)count;
  parallel_run(p->pool, mark_part, arg);
}

static void test_runs_and_nesting(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(7);
  parts p = {.expected = 7, .pool = &ctx->pool};
  parallel_run(&ctx->pool, mark_part, &p);
  for (int i = 0; i < 16; i++) assert_int_equal(p.seen[i], i < 7);
  parallel_run(&ctx->pool, nest, &p);
  for (int i = 0; i < 16; i++) assert_int_equal(p.seen[i], i < 7 ? 8 : 0);
  assert_int_equal(p.wrong, 0);
  elbo_ctx_destroy(&ctx);
}

typedef struct client {
  const thread_pool *pool;
  int64_t total;
} client;

static void sum_range(void *arg, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; i++) atomic_fetch_add((atomic_llong *)arg, i);
}

static void *client_main(void *arg) {
  client *c = arg;
  for (int i = 0; i < 50; i++) {
    atomic_llong sum = 0;
    pool_enter(c->pool);
    parallel_for(c->pool, 1000, 1, sum_range, &sum);
    pool_leave(c->pool);
    parallel_for(c->pool, 1000, 1, sum_range, &sum);
    c->total += sum;
  }
  return NULL;
}

// Several threads of the caller's, some on one context and some on another.
static void test_callers(void **state) {
  (void)state;
  elbo_ctx *one = test_ctx(2), *other = test_ctx(3);
  pthread_t thread[5];
  client clients[5];
  for (int i = 0; i < 5; i++) {
    clients[i] = (client){.pool = i % 2 ? &one->pool : &other->pool};
    assert_int_equal(pthread_create(&thread[i], NULL, client_main, &clients[i]), 0);
  }
  for (int i = 0; i < 5; i++) {
    assert_int_equal(pthread_join(thread[i], NULL), 0);
    assert_int_equal(clients[i].total, 50 * 2 * 499500);
  }
  elbo_ctx_destroy(&one);
  elbo_ctx_destroy(&other);
}

// The sums of a thread's own range, added in order: floating-point results must not depend on who ran what.
static double partial[7];
static void sum_part(void *arg, int id, int count) {
  int64_t begin, end;
  split_range(1000, id, count, &begin, &end);
  double s = 0;
  for (int64_t i = begin; i < end; i++) s += 1.0 / (double)(i + 1);
  ((double *)arg)[id] = s;
}

static void test_repeatable(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(7);
  double again[7];
  parallel_run(&ctx->pool, sum_part, partial);
  for (int i = 0; i < 100; i++) {
    memset(again, 0, sizeof again);
    parallel_run(&ctx->pool, sum_part, again);
    assert_memory_equal(partial, again, sizeof again);
  }
  elbo_ctx_destroy(&ctx);
}

// The environment may allow fewer threads than the pool has: libgomp reads it when it is loaded, so another process runs the rest of this
// file.
static void test_limited(void **state) {
  (void)state;
  char path[1024] = "", command[1100], *output;
  if (getenv("OMP_THREAD_LIMIT")) return;
  assert_true(readlink("/proc/self/exe", path, sizeof path - 1) > 0);
  snprintf(command, sizeof command, "OMP_THREAD_LIMIT=2 '%s'", path);
  int status = test_run(command, &output);
  if (status != 0) print_error("%s\n", output);
  free(output);
  assert_int_equal(status, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_loops),      cmocka_unit_test(test_runs_and_nesting), cmocka_unit_test(test_callers),
      cmocka_unit_test(test_repeatable), cmocka_unit_test(test_limited),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
