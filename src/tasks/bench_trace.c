// A step as a timeline: what ran when, by which kernel, with its FLOPs and bytes.
#include <stdlib.h>

#include "core/json.h"
#include "tasks/bench.h"

struct bench_trace {
  elbo_ctx *ctx;
  const elbo_bench_result *limits;
  json_t *events;
  double origin; // of the step, in seconds
};

elbo_status bench_trace_create(elbo_ctx *ctx, const elbo_bench_result *limits, bench_trace **out) {
  bench_trace *t = *out = calloc(1, sizeof *t);
  if (t) t->ctx = ctx, t->limits = limits, t->events = json_array();
  if (t && t->events) return ELBO_OK;
  bench_trace_destroy(out);
  return fail(ctx, ELBO_ERROR_MEMORY, "out of memory for a trace");
}

void bench_trace_destroy(bench_trace **trace) {
  if (!*trace) return;
  json_decref((*trace)->events);
  free(*trace);
  *trace = NULL;
}

// A "complete" event; takes `args` over. Times are in microseconds.
static elbo_status add_event(bench_trace *t, const char *name, const char *category, double began, double seconds, json_t *args) {
  json_t *event = json_pack("{s:s, s:s, s:s, s:i, s:i, s:o, s:o, s:o}", "name", name, "cat", category, "ph", "X", "pid", 1, "tid", 1, "ts",
                            json_number(1e6 * (began - t->origin)), "dur", json_number(1e6 * seconds), "args", args);
  if (!event || json_array_append_new(t->events, event)) return fail(t->ctx, ELBO_ERROR_MEMORY, "out of memory for a trace");
  return ELBO_OK;
}

elbo_status bench_trace_step(bench_trace *t, double began, double ended) {
  const elbo_bench_result *r = t->limits;
  t->origin = began;
  json_array_clear(t->events);
  return add_event(t, r->forward ? "call" : "step", "step", began, ended - began,
                   json_pack("{s:I, s:I, s:I, s:o, s:o}", "flops", (json_int_t)r->flops_per_step, "bytes", (json_int_t)r->moved_bytes,
                             "least bytes", (json_int_t)r->least_bytes, "peak GFLOP/s", json_number(r->peak_gflops), "memory GB/s",
                             json_number(r->bandwidth_gbytes)));
}

elbo_status bench_trace_plan(bench_trace *t, const elbo_plan *plan) {
  elbo_plan_info info;
  elbo_step_info step;
  elbo_plan_get_info(plan, &info);
  for (int i = 0; i < info.steps; i++) {
    TRY(elbo_plan_get_step(plan, i, &step));
    if (!step.runs) continue;
    double seconds = step.seconds / (double)step.runs;
    json_t *args = json_pack("{s:s, s:s, s:I, s:I, s:o, s:o, s:o}", "kernel", step.kernel, "makes", step.name, "flops",
                             (json_int_t)step.flops, "bytes", (json_int_t)step.bytes, "GFLOP/s",
                             json_number(1e-9 * (double)step.flops / seconds), "GB/s", json_number(1e-9 * (double)step.bytes / seconds),
                             "share of roofline", json_number(bench_least_ms(t->limits, step.flops, step.bytes) / (1e3 * seconds)));
    TRY(add_event(t, step.op, "operation", step.began, seconds, args));
  }
  return ELBO_OK;
}

elbo_status bench_trace_write(const bench_trace *t, const char *path) {
  json_t *document = json_pack("{s:O, s:s}", "traceEvents", t->events, "displayTimeUnit", "ms");
  if (!document) return fail(t->ctx, ELBO_ERROR_MEMORY, "out of memory for a trace");
  elbo_status status = json_write(t->ctx, path, document);
  json_decref(document);
  return status;
}
