// Benchmarks: this machine's peak, single operations, and the training steps of recipes, or the calls of their networks.
#ifndef ELBO_BENCH_H
#define ELBO_BENCH_H

#include <elbo/dataset.h>
#include <elbo/recipe.h>

#ifdef __cplusplus
extern "C" {
#endif

// The most float32 multiply-adds a second that this context's threads and instruction set do in registers, in GFLOP/s (2 per multiply-add).
// Takes about a third of a second.
ELBO_API ELBO_MUST_CHECK elbo_status elbo_bench_peak(elbo_ctx *ctx, double *gflops);

// The most bytes a second that its threads read and write in memory, in GB/s: an update of one array by another, both larger than the last
// cache by far. Takes about half a second and up to 1 GiB, which is given back.
ELBO_API ELBO_MUST_CHECK elbo_status elbo_bench_bandwidth(elbo_ctx *ctx, double *gbytes);

typedef struct elbo_bench_config {
  size_t size;        // sizeof, set by elbo_bench_defaults
  double seconds;     // of timed steps, 3
  int64_t min_steps;  // timed at the least, 20
  int profile;        // 1: time every operation (elbo_bench_result.rows)
  const char *trace;  // file for one step in the format of chrome://tracing; NULL: none
  const char *kernel; // elbo_bench_op alone: the one kernel that convolutions must take; NULL: the cheapest
  elbo_dataset *data; // borrowed; NULL: from the recipe
  elbo_progress_fn progress;
  void *progress_user;
} elbo_bench_config;
ELBO_API void elbo_bench_defaults(elbo_bench_config *config);

// One operation: of a profile, or measured alone.
typedef struct elbo_bench_row {
  char op[48], name[96], kernel[64];
  double ms;       // of one run, average; of a profile: of all its runs in the shortest step
  double share;    // of the step's time, 0..1; 0 for operations measured alone
  double gflops;   // 0: does no arithmetic worth counting
  double gbytes;   // read and written a second, in GB/s, each tensor once
  double roofline; // the least time by peak and bandwidth over its own: 1 is as fast as direct algorithms from memory can be, above it is a
                   // better algorithm, or data from a cache; 0 for operations measured alone
  int64_t flops, bytes; // in that time
} elbo_bench_row;

typedef struct elbo_bench_result {
  int64_t params, flops_per_step, batch_size, steps;
  double step_min_ms, step_median_ms;
  double gflops, peak_gflops, share_of_peak; // at the median step
  int64_t planned_bytes, peak_rss_bytes;     // what the planner computed; what the process had at its most
  double first_step_s;                       // from the process's start to the end of its first step
  int n_rows;
  elbo_bench_row *rows;             // the slowest first; elbo_bench_free
  int64_t moved_bytes, least_bytes; // of a step's plans: every operation's operands and results; every tensor written once and read once
  double bandwidth_gbytes;          // of this machine's memory; 0 unless profiled or traced
  int forward;                      // 1: a step is one call of the network (bench.forward), nothing is trained
} elbo_bench_result;

// Trains the recipe in memory, writing nothing, and times its steps, loading included. With `bench: {forward: true}` a step is one call of
// the network on train.batch_size examples, with constant weights.
ELBO_API ELBO_MUST_CHECK elbo_status elbo_bench_recipe(elbo_ctx *ctx, const elbo_recipe *recipe, const elbo_bench_config *config,
                                                       elbo_bench_result *out);
// Every operation alone at a usual size; only n_rows, rows and peak_gflops are set.
ELBO_API ELBO_MUST_CHECK elbo_status elbo_bench_ops(elbo_ctx *ctx, const elbo_bench_config *config, elbo_bench_result *out);

// One operation at one shape.
typedef struct elbo_bench_op_result {
  double min_ms, median_ms; // of one run
  double gflops;            // at the shortest run, FLOPs of the direct algorithm, 2 per multiply-add
  double gbytes;            // at the shortest run, each tensor read or written once, in GB/s
  int64_t flops, bytes, runs;
  char kernel[160];         // its kernels, ", " between them
  double max_error;         // largest |result - reference| over largest |reference|, in double precision
  int64_t checked, outputs; // elements compared, of how many: all, or some drawn at random where all would take long
} elbo_bench_op_result;

// Times what `spec` says, "conv2d:n=1,h=64,w=64,c=320,k=320,r=3,dir=forward": an operation, its sizes and a direction (forward, backward,
// backward_data, backward_weights). What is not said has a default. A result that is wrong altogether is ELBO_ERROR_NUMERIC, an unknown
// operation or key ELBO_ERROR_ARGUMENT with those that there are. `config` may be NULL; seconds, min_steps, kernel and progress are used.
ELBO_API ELBO_MUST_CHECK elbo_status elbo_bench_op(elbo_ctx *ctx, const char *spec, const elbo_bench_config *config,
                                                   elbo_bench_op_result *out);
// What specs can say: name and defaults of the i-th operation, "conv2d:n=1,h=32,..."; NULL past the last. Static.
ELBO_API const char *elbo_bench_op_at(int i);
ELBO_API void elbo_bench_free(elbo_bench_result *result);

#ifdef __cplusplus
}
#endif
#endif
