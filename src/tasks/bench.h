// What the two kinds of benchmark share.
#ifndef TASKS_BENCH_H
#define TASKS_BENCH_H

#include <elbo/bench.h>
#include <elbo/graph.h>

#include "core/clock.h"

// Adds a row for every operation of a profiled plan; leaves room for one more. name: shown for all of them, and each row is one run; NULL:
// each one's own, and a row is all runs together.
elbo_status bench_add_plan(elbo_ctx *ctx, const elbo_plan *plan, const char *name, elbo_bench_result *r);
// Sorts n >= 1 times in seconds; the least and the median, in ms.
void bench_summary(double *times, int64_t n, double *min_ms, double *median_ms);
// The least time that this machine needs for so much, by the peak and the bandwidth that were measured.
double bench_least_ms(const elbo_bench_result *r, int64_t flops, int64_t bytes);
void bench_sort_rows(elbo_bench_result *r); // the slowest first

// bench_trace.c: one step as a timeline, in the trace event format that chrome://tracing and ui.perfetto.dev read.
typedef struct bench_trace bench_trace;
elbo_status bench_trace_create(elbo_ctx *ctx, const elbo_bench_result *limits, bench_trace **out); // limits: borrowed for its life
void bench_trace_destroy(bench_trace **trace);
// Begins anew with this step, from and to in seconds of CLOCK_MONOTONIC; its plans come behind.
elbo_status bench_trace_step(bench_trace *trace, double began, double ended);
// The operations of a plan that was profiled for that one step.
elbo_status bench_trace_plan(bench_trace *trace, const elbo_plan *plan);
elbo_status bench_trace_write(const bench_trace *trace, const char *path);

#endif
