// elbo bench
#include <stdlib.h>
#include <string.h>

#include <elbo/bench.h>

#include "cli/cli.h"

// Operations measured alone have no share of a step, and no bandwidth was measured for their roofline.
static void print_table(const elbo_bench_result *r) {
  bool of_a_step = r->steps > 0;
  if (!r->n_rows) return;
  printf("%9s ", "ms");
  if (of_a_step) printf("%6s ", "share");
  printf("%9s %8s %9s", "GFLOP/s", "GB/s", "MiB");
  if (of_a_step) printf(" %8s", "roofline");
  printf("  %-18s %-30s %s\n", "operation", "kernel", "makes");
  for (int i = 0; i < r->n_rows; i++) {
    const elbo_bench_row *row = &r->rows[i];
    printf("%9.4f ", row->ms);
    if (of_a_step) printf("%5.1f%% ", 100 * row->share);
    printf("%9.1f %8.1f %9.3f", row->gflops, row->gbytes, (double)row->bytes / 1048576);
    if (of_a_step) printf(" %7.1f%%", 100 * row->roofline);
    printf("  %-18s %-30s %s\n", row->op, row->kernel, row->name);
  }
}

static void print_rows(const elbo_bench_result *r) {
  for (int i = 0; i < r->n_rows; i++) {
    const elbo_bench_row *row = &r->rows[i];
    printf("%s{\"op\": ", i ? ", " : "");
    print_json_text(stdout, row->op);
    printf(", \"name\": ");
    print_json_text(stdout, row->name);
    printf(", \"kernel\": ");
    print_json_text(stdout, row->kernel);
    printf(", \"ms\": %.6g, \"share\": %.4g, \"gflops\": %.6g, \"gbytes\": %.6g, \"flops\": %lld, \"bytes\": %lld, \"roofline\": %.4g}",
           row->ms, row->share, row->gflops, row->gbytes, (long long)row->flops, (long long)row->bytes, row->roofline);
  }
}

static void print_workload(const elbo_bench_result *r, bool json) {
  if (!json) {
    if (r->forward) printf("a step           one call of the network, nothing is trained\n");
    printf("parameters       %lld\nFLOPs of a step  %lld (batch %lld)\n", (long long)r->params, (long long)r->flops_per_step,
           (long long)r->batch_size);
    printf("step             %.3f ms at best, %.3f ms median of %lld\n", r->step_min_ms, r->step_median_ms, (long long)r->steps);
    printf("speed            %.1f GFLOP/s, %.1f %% of this machine's %.1f\n", r->gflops, 100 * r->share_of_peak, r->peak_gflops);
    printf("memory           %.1f MiB planned, %.1f MiB resident at most\n", (double)r->planned_bytes / 1048576,
           (double)r->peak_rss_bytes / 1048576);
    printf("bytes moved      %.1f MiB by the operations of a step, %.2f times the least (every tensor written once and read once)\n",
           (double)r->moved_bytes / 1048576, r->least_bytes ? (double)r->moved_bytes / (double)r->least_bytes : 0);
    if (r->bandwidth_gbytes > 0) printf("bandwidth        %.1f GB/s of this machine's memory\n", r->bandwidth_gbytes);
    printf("first step done  %.3f s after the start of the process\n", r->first_step_s);
    return;
  }
  printf("{\"params\": %lld, \"flops_per_step\": %lld, \"step_ms\": {\"min\": %.6g, \"median\": %.6g}, \"gflops\": %.6g, \"peak_gflops\": "
         "%.6g, "
         "\"share_of_peak\": %.4g, \"planned_bytes\": %lld, \"peak_rss_bytes\": %lld, \"first_step_s\": %.4g, \"batch_size\": %lld, "
         "\"steps\": %lld, \"forward\": %s, \"moved_bytes\": %lld, \"least_bytes\": %lld",
         (long long)r->params, (long long)r->flops_per_step, r->step_min_ms, r->step_median_ms, r->gflops, r->peak_gflops, r->share_of_peak,
         (long long)r->planned_bytes, (long long)r->peak_rss_bytes, r->first_step_s, (long long)r->batch_size, (long long)r->steps,
         r->forward ? "true" : "false", (long long)r->moved_bytes, (long long)r->least_bytes);
  if (r->bandwidth_gbytes > 0) printf(", \"bandwidth_gbytes\": %.6g", r->bandwidth_gbytes);
}

static elbo_status bench_workload(elbo_ctx *ctx, const char *name, int n, const char *const *keys, const elbo_bench_config *config,
                                  bool json) {
  elbo_recipe *recipe = NULL;
  elbo_bench_result result = {0};
  elbo_status status = elbo_recipe_load_benchmark(ctx, name, n, keys, &recipe);
  if (status == ELBO_OK) status = elbo_bench_recipe(ctx, recipe, config, &result);
  clear_progress();
  if (status == ELBO_OK) {
    print_workload(&result, json);
    if (config->profile) printf(json ? ", \"profile\": [" : "\n");
    (json ? print_rows : print_table)(&result);
    if (json) printf("%s}\n", config->profile ? "]" : "");
  }
  elbo_bench_free(&result);
  elbo_recipe_destroy(&recipe);
  return status;
}

static elbo_status bench_machine(elbo_ctx *ctx, const elbo_bench_config *config, bool json) {
  elbo_bench_result result = {0};
  elbo_status status = elbo_bench_ops(ctx, config, &result);
  clear_progress();
  if (status == ELBO_OK) {
    if (json)
      printf("{\"peak_gflops\": %.6g, \"threads\": %d, \"isa\": \"%s\", \"ops\": [", result.peak_gflops, elbo_ctx_threads(ctx),
             elbo_ctx_isa(ctx));
    else
      printf("peak: %.1f GFLOP/s of float32 multiply-adds (%d threads, %s kernels)\n\n", result.peak_gflops, elbo_ctx_threads(ctx),
             elbo_ctx_isa(ctx));
    (json ? print_rows : print_table)(&result);
    if (json) printf("]}\n");
  }
  elbo_bench_free(&result);
  return status;
}

static void print_op(elbo_ctx *ctx, const char *spec, const elbo_bench_op_result *r, bool json) {
  if (!json) {
    printf("%10.4f %10.4f %9.1f %8.1f %9.2g %10lld/%-10lld  %-26s %s\n", r->min_ms, r->median_ms, r->gflops, r->gbytes, r->max_error,
           (long long)r->checked, (long long)r->outputs, r->kernel, spec);
    return;
  }
  printf("{\"op\": ");
  print_json_text(stdout, spec);
  printf(", \"ms\": {\"min\": %.6g, \"median\": %.6g}, \"gflops\": %.6g, \"gbytes\": %.6g, \"kernel\": ", r->min_ms, r->median_ms,
         r->gflops, r->gbytes);
  print_json_text(stdout, r->kernel);
  printf(", \"max_error\": ");
  print_json_number(stdout, r->max_error);
  printf(", \"checked\": %lld, \"outputs\": %lld, \"flops\": %lld, \"bytes\": %lld, \"runs\": %lld, \"threads\": %d, \"isa\": \"%s\"}",
         (long long)r->checked, (long long)r->outputs, (long long)r->flops, (long long)r->bytes, (long long)r->runs, elbo_ctx_threads(ctx),
         elbo_ctx_isa(ctx));
}

// One object for one operation, {"ops": [...]} for several.
static elbo_status bench_single_ops(elbo_ctx *ctx, const text_list *specs, const elbo_bench_config *config, bool json) {
  bool many = specs->count > 1;
  elbo_status status = ELBO_OK;
  for (int i = 0; i < specs->count && status == ELBO_OK; i++) {
    elbo_bench_op_result result;
    status = elbo_bench_op(ctx, specs->at[i], config, &result);
    clear_progress();
    if (status != ELBO_OK) break;
    if (json)
      printf("%s", i ? ",\n" : many ? "{\"ops\": [\n" : "");
    else if (!i)
      printf("%10s %10s %9s %8s %9s %10s/%-10s  %-26s %s\n", "ms, least", "median", "GFLOP/s", "GB/s", "max error", "checked", "of",
             "kernel", "operation");
    print_op(ctx, specs->at[i], &result, json);
  }
  if (json && status == ELBO_OK) printf("%s\n", many ? "]}" : "");
  return status;
}

static int run(const command *self, int argc, char **argv) {
  common_options common = {0};
  elbo_bench_config config;
  elbo_bench_defaults(&config);
  const char *data_path = NULL, *recipe = NULL;
  text_list positional, specs = {0};
  const option options[] = {
      {"op", 0, OPTION_LIST, &specs, 0, 0, "OP:key=value,...", "one operation at one shape, checked; may be repeated"},
      {"kernel", 0, OPTION_TEXT, &config.kernel, 0, 0, "NAME", "with --op: the kernel that convolutions must take"},
      {"isa", 0, OPTION_TEXT, &common.isa, 0, 0, "v2|v3|v4", "instruction set of the kernels (default: the best)"},
      {"profile", 0, OPTION_FLAG, &config.profile, 0, 0, NULL, "time every operation of the step, the slowest first"},
      {"trace", 0, OPTION_TEXT, &config.trace, 0, 0, "FILE.json", "one step as a timeline for chrome://tracing"},
      {"steps", 0, OPTION_INT, &config.min_steps, 1, 1e9, "N", "timed steps at the least (default: 20)"},
      {"seconds", 0, OPTION_FLOAT, &config.seconds, 0, 3600, "T", "timed seconds at the least (default: 3)"},
      {"data", 0, OPTION_TEXT, &data_path, 0, 0, "PATH", "instead of the recipe's data.path"},
      COMMON_OPTIONS(common)};
  int status = args_parse(self, argc, argv, options, COUNT(options), &positional);
  if (status != ARGS_GO) return status;
  bool has_recipe = false;
  for (int i = 0; i < positional.count; i++) has_recipe |= !is_override(positional.at[i]);
  if (!has_recipe) status = take_engine_keys(self, &positional, &common);  // a recipe's own keys otherwise
  if (status == ARGS_GO) status = take_engine_keys(self, &specs, &common); // behind the operations
  if (status != ARGS_GO) return status;
  int n = 0;
  for (int i = 0; i < positional.count; i++) {
    if (is_override(positional.at[i]))
      positional.at[n++] = positional.at[i];
    else if (recipe)
      return usage_error(self, "'%s': one recipe is already given, '%s'", positional.at[i], recipe);
    else
      recipe = positional.at[i];
  }
  if (specs.count && (recipe || n || data_path || config.profile || config.trace))
    return usage_error(self, "--op goes with neither a recipe, key=value, --data, --profile nor --trace");
  if (config.kernel && !specs.count) return usage_error(self, "--kernel: expected --op beside it");
  if (!recipe && (n || data_path || config.profile || config.trace))
    return usage_error(self, "a recipe is needed with key=value, --data, --profile and --trace");
  if (config.trace && check_folder(config.trace) != ARGS_GO) return STATUS_FAILED; // before anything is measured
  char seed[64];
  const char **keys = calloc((size_t)n + 2, sizeof *keys);
  if (!keys) return say("out of memory"), STATUS_FAILED;
  snprintf(seed, sizeof seed, "train.seed=%llu", (unsigned long long)common.seed);
  keys[0] = seed;
  memcpy(keys + 1, positional.at, (size_t)n * sizeof *keys);
  elbo_ctx *ctx = NULL;
  status = open_context(&common, &ctx);
  if (status != ARGS_GO) return free(keys), status;
  config.progress = show_progress;
  catch_interruption();
  elbo_status done = data_path ? open_data(ctx, NULL, data_path, NULL, 0, &config.data) : ELBO_OK;
  if (done == ELBO_OK && specs.count)
    done = bench_single_ops(ctx, &specs, &config, common.json);
  else if (done == ELBO_OK && recipe)
    done = bench_workload(ctx, recipe, n + 1, keys, &config, common.json);
  else if (done == ELBO_OK)
    done = bench_machine(ctx, &config, common.json);
  status = done == ELBO_OK ? STATUS_DONE : report_failure(ctx, done);
  elbo_dataset_destroy(&config.data);
  elbo_ctx_destroy(&ctx);
  free(keys);
  return status;
}

const command command_bench = {
    "bench",
    "[RECIPE [key=value ...] [--profile] [--trace FILE.json] | --op OP:key=value,... [--kernel NAME]] [--json]",
    "measure this machine, or the steps of a recipe",
    "Without a recipe: the peak of float32 multiply-adds, and every operation alone. With one: its training steps (with\n"
    "bench.forward=true calls of its network), beside that peak; FLOPs are those of the direct algorithms, 2 per multiply-add,\n"
    "whatever kernel runs. A bare name means the workload of recipes/bench where there is one. Nothing but the trace is written.\n"
    "--profile: by operation; its share of the roofline is the least time by the peak and the memory's bandwidth over its own,\n"
    "above 100 % where an algorithm saves work or data come from a cache.\n"
    "--op: single operations, conv2d:n=1,h=64,c=320,r=3,dir=backward_data; dir is forward, backward, backward_data or\n"
    "backward_weights; constant=1 keeps the weights from run to run, as inference does. GFLOP/s are of the shortest run; the largest\n"
    "error is against double precision, over the largest value. A wrong name lists the operations, a wrong key those of its own.",
    "elbo bench conv-vae-mnist --profile",
    run};
