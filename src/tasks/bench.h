// What the two kinds of benchmark share.
#ifndef TASKS_BENCH_H
#define TASKS_BENCH_H

#include <elbo/bench.h>
#include <elbo/graph.h>
#include <time.h>

double seconds_of(clockid_t clock);
// Adds a row for every operation of a profiled plan; leaves room for one more. name: shown for all of them; NULL: each one's own.
elbo_status bench_add_plan(elbo_ctx *ctx, const elbo_plan *plan, const char *name, elbo_bench_result *r);
// Sorts n >= 1 times in seconds; the least and the median, in ms.
void bench_summary(double *times, int64_t n, double *min_ms, double *median_ms);
void bench_sort_rows(elbo_bench_result *r); // the slowest first

#endif
