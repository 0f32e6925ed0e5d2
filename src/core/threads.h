// The one door to parallel loops. It drives libgomp, the runtime that oneDNN uses, under every compiler.
#ifndef CORE_THREADS_H
#define CORE_THREADS_H

#include <stdint.h>

typedef struct thread_pool thread_pool; // how many threads, and a lock: libgomp keeps the threads

// Body: part `id` of `count` (the pool's threads). All run, in no order; a parallel_run or parallel_for from within one runs inline.
typedef void (*parallel_fn)(void *arg, int id, int count);
void parallel_run(const thread_pool *pool, parallel_fn fn, void *arg);

// Splits [0, n) into contiguous ranges of at least `grain`, one a thread, in order; runs in the caller when one range is enough.
typedef void (*range_fn)(void *arg, int64_t begin, int64_t end);
void parallel_for(const thread_pool *pool, int64_t n, int64_t grain, range_fn fn, void *arg);

// The range of part `id` of `count`: as even as can be, a function of its arguments alone.
static inline void split_range(int64_t n, int id, int count, int64_t *begin, int64_t *end) {
  int64_t q = n / count, r = n % count;
  *begin = id * q + (id < r ? id : r);
  *end = *begin + q + (id < r);
}

int pool_threads(const thread_pool *pool);

// Around every call into a library that starts libgomp regions of its own (oneDNN: making a primitive, which asks for the number of
// threads, as well as running one): makes the calling thread's regions as wide as the pool, and keeps other threads of the same context
// from starting theirs meanwhile. Pairs may be nested. Not around a whole plan: others would wait for the lock, and nobody is served in
// turn.
void pool_enter(const thread_pool *pool);
void pool_leave(const thread_pool *pool);

#endif
