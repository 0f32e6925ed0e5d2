// How long something took.
#ifndef CORE_CLOCK_H
#define CORE_CLOCK_H

#include <time.h>

static inline double seconds_of(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// Of a clock that only goes forward.
static inline double seconds_now(void) { return seconds_of(CLOCK_MONOTONIC); }

#endif
