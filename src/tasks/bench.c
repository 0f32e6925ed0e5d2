// Benchmarks: the training steps of a recipe run by the trainer that trains, or its network's calls.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/ctx.h"
#include "core/memory.h"
#include "models/forward_call.h"
#include "models/recipe.h"
#include "models/workload.h"
#include "tasks/bench.h"
#include "train/loop.h"

// --- profiles ---

void elbo_bench_defaults(elbo_bench_config *config) {
  *config = (elbo_bench_config){.size = sizeof *config, .seconds = 3, .min_steps = 20};
}

void elbo_bench_free(elbo_bench_result *result) {
  if (!result) return;
  free(result->rows);
  result->rows = NULL;
  result->n_rows = 0;
}

static int slowest_first(const void *a, const void *b) {
  const elbo_bench_row *x = a, *y = b;
  return (x->ms < y->ms) - (x->ms > y->ms);
}

void bench_sort_rows(elbo_bench_result *r) {
  if (r->n_rows > 1) qsort(r->rows, (size_t)r->n_rows, sizeof *r->rows, slowest_first);
}

elbo_status bench_add_plan(elbo_ctx *ctx, const elbo_plan *plan, const char *name, elbo_bench_result *r) {
  elbo_plan_info info;
  elbo_plan_get_info(plan, &info);
  void *grown = realloc(r->rows, (size_t)(r->n_rows + info.steps + 1) * sizeof *r->rows);
  if (!grown) return fail_memory(ctx, (size_t)(r->n_rows + info.steps + 1) * sizeof *r->rows, "a profile");
  r->rows = grown;
  for (int i = 0; i < info.steps; i++) {
    elbo_step_info step;
    TRY(elbo_plan_get_step(plan, i, &step));
    if (!step.runs) continue;
    elbo_bench_row *row = &r->rows[r->n_rows++];
    int64_t runs = name ? 1 : step.runs; // alone: one run; of a step: all of its runs
    double seconds = step.seconds / (double)step.runs;
    *row = (elbo_bench_row){.ms = 1e3 * seconds * (double)runs, .flops = runs * step.flops, .bytes = runs * step.bytes};
    snprintf(row->op, sizeof row->op, "%s", step.op);
    snprintf(row->name, sizeof row->name, "%s", name ? name : step.name);
    snprintf(row->kernel, sizeof row->kernel, "%s", step.kernel ? step.kernel : "");
    if (seconds > 0) row->gflops = (double)step.flops / seconds * 1e-9, row->gbytes = (double)step.bytes / seconds * 1e-9;
  }
  return ELBO_OK;
}

// --- recipes ---

// Seconds since this process began; the kernel keeps that to a hundredth of a second.
static double process_age(void) {
  char line[1024];
  unsigned long long start = 0;
  FILE *file = fopen("/proc/self/stat", "r");
  if (!file) return NAN;
  size_t n = fread(line, 1, sizeof line - 1, file);
  fclose(file);
  line[n] = 0;
  const char *at = strrchr(line, ')'); // the name before may hold anything; the start is the 20th field behind it
  for (int field = 0; at && field < 20; field++) at = strchr(at + 1, ' ');
  if (!at || sscanf(at, " %llu", &start) != 1) return NAN;
  return seconds_of(CLOCK_BOOTTIME) - (double)start / (double)sysconf(_SC_CLK_TCK);
}

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

void bench_summary(double *times, int64_t n, double *min_ms, double *median_ms) {
  qsort(times, (size_t)n, sizeof *times, by_value);
  *min_ms = 1e3 * times[0];
  *median_ms = 1e3 * (n % 2 ? times[n / 2] : 0.5 * (times[n / 2 - 1] + times[n / 2]));
}

enum { MOST_STEPS = 100000 };

// What is timed: the steps of a trainer, or the calls of a network.
typedef struct bench_subject {
  workload *workload;
  trainer *trainer;
  forward_call *call; // NULL: a trainer
} bench_subject;

static elbo_status run_step(bench_subject *s) { return s->call ? forward_call_run(s->call) : trainer_step(s->trainer); }
static int subject_plans(const bench_subject *s) { return s->call ? 1 : workload_task(s->workload)->n_phases; }
static elbo_plan *subject_plan(bench_subject *s, int i) { return s->call ? forward_call_plan(s->call) : trainer_plan(s->trainer, i); }

static elbo_status open_subject(elbo_ctx *ctx, const elbo_recipe *recipe, elbo_dataset *data, bench_subject *s, elbo_train_cost *cost) {
  TRY(recipe_check_single(recipe, "a benchmark"));
  if (recipe->stage->bench.forward) {
    TRY(forward_call_create(ctx, recipe, data, &s->call));
    forward_call_get_cost(s->call, cost);
    return ELBO_OK;
  }
  TRY(workload_create(ctx, recipe, data, NULL, &s->workload));
  const train_task *task = workload_task(s->workload);
  if (task->prepare) TRY(task->prepare(task->user, NULL, NULL, NULL));
  const train_source *source = workload_source(s->workload);
  if (source->begin) TRY(source->begin(source->user));
  TRY(trainer_create(ctx, workload_train_config(s->workload), workload_task(s->workload), source, NULL, &s->trainer));
  trainer_get_cost(s->trainer, cost);
  return ELBO_OK;
}

static void close_subject(bench_subject *s) {
  forward_call_destroy(&s->call);
  trainer_destroy(&s->trainer);
  workload_destroy(&s->workload);
}

static elbo_status time_steps(elbo_ctx *ctx, bench_subject *s, const elbo_bench_config *config, elbo_bench_result *out) {
  void *memory;
  TRY(array_new(ctx, MOST_STEPS, sizeof(double), "the times of steps", &memory));
  double *times = memory, began = 0;
  elbo_status status = run_step(s);
  out->first_step_s = process_age();
  began = seconds_now();
  for (int i = 0; i < 3 && status == ELBO_OK && seconds_now() - began < 1; i++) status = run_step(s); // caches, pages, clocks
  int64_t n = 0;
  began = seconds_now();
  for (double now = began; status == ELBO_OK && n < MOST_STEPS && (n < config->min_steps || now - began < config->seconds); n++) {
    status = run_step(s);
    double then = now;
    now = seconds_now();
    times[n] = now - then;
    if (status == ELBO_OK && config->progress && !config->progress(config->progress_user, "bench", n + 1, 0, "steps"))
      status = fail(ctx, ELBO_ERROR_STOPPED, "stopped while timing steps");
  }
  if (status == ELBO_OK) {
    out->steps = n;
    bench_summary(times, n, &out->step_min_ms, &out->step_median_ms);
  }
  free(memory);
  return status;
}

double bench_least_ms(const elbo_bench_result *r, int64_t flops, int64_t bytes) {
  double by_peak = r->peak_gflops > 0 ? 1e-6 * (double)flops / r->peak_gflops : 0;
  double by_memory = r->bandwidth_gbytes > 0 ? 1e-6 * (double)bytes / r->bandwidth_gbytes : 0;
  return by_peak > by_memory ? by_peak : by_memory;
}

// Of a step, which runs the plans once for every part of its batch.
static void count_bytes(bench_subject *s, int64_t parts, elbo_bench_result *out) {
  for (int p = 0; p < subject_plans(s); p++) {
    elbo_plan_info info;
    elbo_plan_get_info(subject_plan(s, p), &info);
    out->moved_bytes += parts * info.moved_bytes, out->least_bytes += parts * info.least_bytes;
  }
}

// The step that has just run, as rows and, where there is a trace, as its events.
static elbo_status record_step(elbo_ctx *ctx, bench_subject *s, double began, double ended, bench_trace *trace, elbo_bench_result *out) {
  double planned = 0, taken = 1e3 * (ended - began);
  out->n_rows = 0;
  if (trace) TRY(bench_trace_step(trace, began, ended));
  for (int p = 0; p < subject_plans(s); p++) {
    TRY(bench_add_plan(ctx, subject_plan(s, p), NULL, out));
    if (trace) TRY(bench_trace_plan(trace, subject_plan(s, p)));
  }
  for (int i = 0; i < out->n_rows; i++) planned += out->rows[i].ms;
  elbo_bench_row *rest = &out->rows[out->n_rows++]; // bench_add_plan leaves room for one more
  *rest = (elbo_bench_row){.ms = taken > planned ? taken - planned : 0};
  snprintf(rest->op, sizeof rest->op, "%s", s->call ? "between operations" : "update and loading");
  snprintf(rest->name, sizeof rest->name, "%s", s->call ? "" : "optimiser, average, next batch");
  double total = planned + rest->ms;
  for (int i = 0; i < out->n_rows; i++) {
    elbo_bench_row *row = &out->rows[i];
    row->share = total > 0 ? row->ms / total : 0;
    row->roofline = row->ms > 0 ? bench_least_ms(out, row->flops, row->bytes) / row->ms : 0;
  }
  return ELBO_OK;
}

enum { PROFILED_STEPS = 20, PROFILED_AT_LEAST = 2 };

// The shortest of some steps: what else the machine did lengthened the others.
static elbo_status profile_steps(elbo_ctx *ctx, bench_subject *s, const elbo_bench_config *config, elbo_bench_result *out) {
  bench_trace *trace = NULL;
  elbo_status status = config->trace ? bench_trace_create(ctx, out, &trace) : ELBO_OK;
  double first = seconds_now(), now = first, shortest = INFINITY;
  for (int i = 0; status == ELBO_OK && (i < PROFILED_AT_LEAST || (i < PROFILED_STEPS && now - first < config->seconds)); i++) {
    for (int p = 0; p < subject_plans(s); p++) elbo_plan_profile(subject_plan(s, p), 1);
    double began = seconds_now();
    status = run_step(s);
    now = seconds_now();
    if (status != ELBO_OK || now - began >= shortest) continue;
    shortest = now - began;
    status = record_step(ctx, s, began, now, trace, out);
  }
  for (int p = 0; p < subject_plans(s); p++) elbo_plan_profile(subject_plan(s, p), 0);
  if (status == ELBO_OK && trace) status = bench_trace_write(trace, config->trace);
  bench_trace_destroy(&trace);
  bench_sort_rows(out);
  if (!config->profile) elbo_bench_free(out); // asked for the trace alone
  return status;
}

elbo_status elbo_bench_recipe(elbo_ctx *ctx, const elbo_recipe *recipe, const elbo_bench_config *config, elbo_bench_result *out) {
  bench_subject subject = {0};
  elbo_train_cost cost = {0};
  struct rusage usage;
  elbo_bench_config defaults;
  elbo_status status;
  *out = (elbo_bench_result){0};
  if (!config) elbo_bench_defaults(&defaults), config = &defaults;
  TRY_GOTO(open_subject(ctx, recipe, config->data, &subject, &cost));
  out->forward = subject.call != NULL;
  out->params = cost.params, out->flops_per_step = cost.flops_per_step, out->planned_bytes = cost.planned_bytes;
  out->batch_size = recipe->stage->train.batch_size;
  TRY_GOTO(time_steps(ctx, &subject, config, out));
  getrusage(RUSAGE_SELF, &usage);
  out->peak_rss_bytes = (int64_t)usage.ru_maxrss * 1024;
  TRY_GOTO(elbo_bench_peak(ctx, &out->peak_gflops));
  out->gflops = (double)out->flops_per_step / out->step_median_ms * 1e-6;
  out->share_of_peak = out->peak_gflops > 0 ? out->gflops / out->peak_gflops : 0;
  count_bytes(&subject, subject.call ? 1 : recipe->stage->train.accumulate, out);
  if (config->profile || config->trace) {
    TRY_GOTO(elbo_bench_bandwidth(ctx, &out->bandwidth_gbytes));
    TRY_GOTO(profile_steps(ctx, &subject, config, out));
  }
fail:
  if (status != ELBO_OK) elbo_bench_free(out);
  close_subject(&subject);
  return status;
}
