#include "core/threads.h"

#include <pthread.h>

#include "core/ctx.h"

// What a compiler calls for "#pragma omp parallel", and the queries: libgomp's binary interface. Declared here, and not brought in by
// -fopenmp, because clang's -fopenmp would bring a second runtime into the process beside the one that oneDNN uses.
void GOMP_parallel(void (*fn)(void *), void *data, unsigned num_threads, unsigned flags);
int omp_get_thread_num(void);
int omp_get_num_threads(void);
int omp_in_parallel(void);
void omp_set_num_threads(int n);

typedef struct region {
  parallel_fn fn;
  void *arg;
  int parts;
} region;

// The environment (OMP_THREAD_LIMIT) may give fewer threads than asked for: they then share the parts, so that the split, and with it every
// rounding, stays the same.
static void run_region(void *data) {
  const region *r = data;
  int threads = omp_get_num_threads();
  for (int part = omp_get_thread_num(); part < r->parts; part += threads) r->fn(r->arg, part, r->parts);
}

// Every region is as wide as the pool, even when there are fewer parts: libgomp ends and starts threads when the width changes.
static void run_parts(const thread_pool *pool, int parts, parallel_fn fn, void *arg) {
  region r = {fn, arg, parts};
  if (parts <= 1 || omp_in_parallel()) {
    for (int part = 0; part < parts; part++) fn(arg, part, parts);
    return;
  }
  if (pool->lock) pthread_mutex_lock(pool->lock);
  GOMP_parallel(run_region, &r, (unsigned)pool_threads(pool), 0);
  if (pool->lock) pthread_mutex_unlock(pool->lock);
}

int pool_threads(const thread_pool *pool) { return pool && pool->threads > 0 ? pool->threads : 1; }

void parallel_run(const thread_pool *pool, parallel_fn fn, void *arg) { run_parts(pool, pool_threads(pool), fn, arg); }

typedef struct split_loop {
  int64_t n;
  range_fn fn;
  void *arg;
} split_loop;

static void run_range(void *arg, int id, int count) {
  const split_loop *loop = arg;
  int64_t begin, end;
  split_range(loop->n, id, count, &begin, &end);
  loop->fn(loop->arg, begin, end);
}

void parallel_for(const thread_pool *pool, int64_t n, int64_t grain, range_fn fn, void *arg) {
  split_loop loop = {n, fn, arg};
  if (n <= 0) return;
  int64_t parts = n / (grain > 0 ? grain : 1);
  if (parts > pool_threads(pool)) parts = pool_threads(pool);
  if (parts <= 1) {
    fn(arg, 0, n);
    return;
  }
  run_parts(pool, (int)parts, run_range, &loop);
}

void pool_enter(const thread_pool *pool) {
  if (pool && pool->lock) pthread_mutex_lock(pool->lock);
  omp_set_num_threads(pool_threads(pool));
}

void pool_leave(const thread_pool *pool) {
  if (pool && pool->lock) pthread_mutex_unlock(pool->lock);
}
