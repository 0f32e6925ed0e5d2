// One operation at one shape: timed, and its result compared with double precision.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/memory.h"
#include "core/philox.h"
#include "ops/op.h"
#include "tasks/bench.h"
#include "tasks/bench_spec.h"

enum { MOST_WRT = 8, MOST_OUTPUTS = MOST_WRT, MOST_RUNS = 100000 };
static const int64_t WHOLE_FLOPS = 1000000000, POINT_TERMS = 40000000; // what the reference does in a second or two; the same at places
static const double TOLERANCE = 1e-3, TOLERANCE_BF16 = 1e-2;           // of max_error; beyond it the result is wrong, not rounded

typedef struct single {
  bench_spec spec;
  elbo_graph *graph;
  elbo_store *store;
  elbo_plan *plan;
  elbo_tensor *out[MOST_OUTPUTS];
  const char *wrt[MOST_OUTPUTS]; // what out[i] is the gradient by; NULL: the result itself
  int n_out;
} single;

static void close_single(single *s) {
  elbo_plan_destroy(&s->plan);
  elbo_store_destroy(&s->store);
  elbo_graph_destroy(&s->graph);
}

// The result, or the gradients of (result . direction).
static elbo_status build_outputs(elbo_ctx *ctx, single *s) {
  elbo_graph *g = s->graph;
  elbo_tensor *y = s->spec.op->build(g, &s->spec), *wrt[MOST_WRT], *gradient[MOST_WRT];
  TRY(elbo_graph_check(g));
  s->out[0] = y, s->n_out = 1;
  if (s->spec.dir == DIR_FORWARD) return ELBO_OK;
  int n = 0;
  for (int64_t i = 0; i < g->n_nodes && n < MOST_WRT; i++) {
    const node *leaf = g->nodes[i];
    bool weight = leaf->op == &op_parameter && ((const parameter_attr *)leaf->attr)->kind == ELBO_PARAM_TRAINED;
    bool data = leaf->op == &op_input && leaf->out[0]->dtype == ELBO_F32;
    if ((weight && s->spec.dir != DIR_BACKWARD_DATA) || (data && s->spec.dir != DIR_BACKWARD_WEIGHTS)) wrt[n++] = leaf->out[0];
  }
  elbo_tensor *direction = elbo_input(g, "direction", ELBO_F32, y->shape.rank, y->shape.dim);
  TRY(elbo_gradient(elbo_mul(y, direction), n, wrt, gradient));
  s->n_out = 0;
  for (int i = 0; i < n; i++)
    if (gradient[i]) s->out[s->n_out] = gradient[i], s->wrt[s->n_out++] = wrt[i]->producer->name;
  if (!s->n_out) return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: it has no gradient by that", bench_dir_name(s->spec.dir));
  return ELBO_OK;
}

static elbo_status create_plan(elbo_ctx *ctx, single *s, elbo_backend_kind kind, const char *forced, elbo_plan **out) {
  elbo_plan_config config;
  elbo_plan_defaults(&config);
  config.backend = kind;
  config.weights_constant = (int)s->spec.at[KEY_CONSTANT];
  config.kernel = forced;
  return elbo_plan_create(ctx, s->graph, s->n_out, s->out, &config, out);
}

static elbo_status open_single(elbo_ctx *ctx, const char *text, const char *forced, single *s) {
  TRY(bench_spec_parse(ctx, text, &s->spec));
  bool conv = s->spec.op->text[0] == 'c' && !strncmp(s->spec.op->text, "conv", 4) && strchr("2_", s->spec.op->text[4]);
  if (forced && !conv)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "kernel '%s': convolutions alone have a table of kernels to choose from, not '%s'", forced, text);
  elbo_status status = elbo_graph_create(ctx, "bench", &s->graph);
  if (status == ELBO_OK) status = build_outputs(ctx, s);
  if (status == ELBO_OK) status = elbo_store_create(ctx, 1, &s->graph, 1, &s->store);
  if (status == ELBO_OK) status = create_plan(ctx, s, ELBO_BACKEND_CPU, forced, &s->plan);
  return status == ELBO_OK ? status : fail_within(ctx, status, "'%s'", text);
}

// Uniform numbers: from -1 to 1, or 0.1 to 0.9 for what is defined on positive ones.
static void fill_floats(const single *s, const char *name, float *to, int64_t count) {
  double low = s->spec.op->flags & FROM_POSITIVE ? 0.1 : -1, span = s->spec.op->flags & FROM_POSITIVE ? 0.8 : 2;
  uint32_t words[4], stream = philox_stream(name);
  for (int64_t i = 0; i < count; i++) {
    if (i % 4 == 0) philox_draw(1, stream, (uint64_t)i >> 34, (uint32_t)(i / 4), words);
    to[i] = (float)(low + span * philox_uniform(words[i % 4]));
  }
}

static void fill_inputs(const single *s) {
  for (int64_t i = 0; i < s->graph->n_nodes; i++) {
    const node *n = s->graph->nodes[i];
    if (n->op != &op_input) continue;
    void *to = elbo_plan_input(s->plan, n->name);
    int64_t count = shape_count(&n->out[0]->shape), below = s->spec.at[KEY_K] ? s->spec.at[KEY_K] : 1000;
    for (int64_t k = 0; to && n->out[0]->dtype == ELBO_I32 && k < count; k++)
      ((int32_t *)to)[k] = (int32_t)philox_below(1, philox_stream(n->name), (uint64_t)k, (uint64_t)below);
    for (int64_t k = 0; to && n->out[0]->dtype == ELBO_I64 && k < count; k++) ((int64_t *)to)[k] = k;
    if (to && n->out[0]->dtype == ELBO_F32) fill_floats(s, n->name, to, count);
  }
}

// --- the check ---

typedef struct comparison {
  double error, scale; // largest so far; a NaN stays
  int64_t checked;
} comparison;

static void compare(comparison *c, double got, double wanted) {
  double error = fabs(got - wanted);
  if (!(error <= c->error)) c->error = isnan(c->error) ? c->error : error;
  if (fabs(wanted) > c->scale) c->scale = fabs(wanted);
  c->checked++;
}

// Every element, by the reference backend.
static elbo_status compare_whole(elbo_ctx *ctx, single *s, comparison *c) { // (n_out)
  elbo_plan *reference = NULL;
  elbo_status status = create_plan(ctx, s, ELBO_BACKEND_REFERENCE, NULL, &reference);
  for (int64_t i = 0; status == ELBO_OK && i < s->graph->n_nodes; i++) {
    const node *n = s->graph->nodes[i];
    void *from = n->op == &op_input ? elbo_plan_input(s->plan, n->name) : NULL, *to = from ? elbo_plan_input(reference, n->name) : NULL;
    if (to && n->out[0]->dtype == ELBO_F32)
      status = elbo_plan_set(reference, n->name, from, shape_count(&n->out[0]->shape));
    else if (to)
      memcpy(to, from, elbo_plan_input_bytes(reference, n->name));
  }
  if (status == ELBO_OK) status = elbo_plan_run(reference, s->store);
  for (int i = 0; status == ELBO_OK && i < s->n_out; i++) {
    const float *got = elbo_plan_output(s->plan, i);
    const double *wanted = elbo_plan_output(reference, i);
    for (int64_t k = 0, n = shape_count(&s->out[i]->shape); k < n; k++) compare(&c[i], (double)got[k], wanted[k]);
  }
  elbo_plan_destroy(&reference);
  return status;
}

static const float *weight_of(const single *s, const char *name) {
  for (int i = 0; i < elbo_store_count(s->store); i++) {
    elbo_param_info info;
    if (elbo_store_get(s->store, i, &info) == ELBO_OK && !strcmp(info.name, name)) return info.data;
  }
  return NULL;
}

// Some of output i, drawn at random.
static void compare_points(const single *s, int i, int64_t terms, comparison *c) {
  bench_values v = {.x = elbo_plan_input(s->plan, "x"),
                    .w = weight_of(s, "w"),
                    .b = weight_of(s, "b"),
                    .residual = elbo_plan_input(s->plan, "residual"),
                    .direction = elbo_plan_input(s->plan, "direction")};
  const float *got = elbo_plan_output(s->plan, i);
  int64_t count = shape_count(&s->out[i]->shape), points = POINT_TERMS / (terms ? terms : 1);
  if (points < 100) points = 100;
  if (points > 50000) points = 50000;
  if (points > count) points = count;
  for (int64_t k = 0; k < points; k++) {
    int64_t at = k == 0            ? 0
                 : k == 1          ? count - 1
                 : points == count ? k - 1
                                   : (int64_t)philox_below(7, (uint32_t)i, (uint64_t)k, (uint64_t)count);
    compare(c, (double)got[at], bench_point(&s->spec, &v, s->wrt[i], at));
  }
}

static elbo_status check(elbo_ctx *ctx, single *s, const char *text, elbo_bench_op_result *out) {
  comparison c[MOST_OUTPUTS] = {0};
  int64_t terms[MOST_OUTPUTS];
  bool points = out->flops > WHOLE_FLOPS;
  for (int i = 0; i < s->n_out; i++) {
    out->outputs += shape_count(&s->out[i]->shape);
    points = points && bench_can_point(&s->spec, s->wrt[i], &terms[i]);
  }
  if (points)
    for (int i = 0; i < s->n_out; i++) compare_points(s, i, terms[i], &c[i]);
  else
    TRY(compare_whole(ctx, s, c));
  for (int i = 0; i < s->n_out; i++) { // each by its own largest value: gradients of weights are sums over all places
    const double error = c[i].scale > 0 ? c[i].error / c[i].scale : c[i].error;
    out->checked += c[i].checked;
    if (!(error <= out->max_error)) out->max_error = isnan(out->max_error) ? out->max_error : error;
  }
  if (out->max_error <= (ctx->precision > ELBO_PRECISION_FLOAT32 ? TOLERANCE_BF16 : TOLERANCE)) return ELBO_OK;
  return fail(ctx, ELBO_ERROR_NUMERIC, "'%s': kernel %s: the result is off by %.3g of its largest value, which is no rounding", text,
              out->kernel, out->max_error);
}

// --- the time ---

static elbo_status run_once(single *s, double *seconds) {
  if (!s->spec.at[KEY_CONSTANT]) elbo_store_touch(s->store); // as after a training step: packed weights are stale
  double began = seconds_now();
  elbo_status status = elbo_plan_run(s->plan, s->store);
  *seconds = seconds_now() - began;
  return status;
}

static elbo_status time_runs(elbo_ctx *ctx, single *s, const char *text, const elbo_bench_config *config, elbo_bench_op_result *out) {
  void *memory;
  TRY(array_new(ctx, MOST_RUNS, sizeof(double), "the times of runs", &memory));
  double *times = memory, began = seconds_now();
  elbo_status status = run_once(s, times);
  for (int64_t n = 0; status == ELBO_OK && n < MOST_RUNS && (n < config->min_steps || seconds_now() - began < config->seconds);
       out->runs = ++n) {
    status = run_once(s, &times[n]);
    if (status == ELBO_OK && config->progress && n % 16 == 0 && !config->progress(config->progress_user, "bench", n + 1, 0, text))
      status = fail(ctx, ELBO_ERROR_STOPPED, "stopped while timing an operation");
  }
  if (status == ELBO_OK) bench_summary(times, out->runs, &out->min_ms, &out->median_ms);
  free(memory);
  return status;
}

static void describe_plan(const single *s, elbo_bench_op_result *out) {
  elbo_plan_info info;
  elbo_step_info step;
  elbo_plan_get_info(s->plan, &info);
  out->flops = info.flops;
  for (int i = 0; i < info.steps; i++) {
    if (elbo_plan_get_step(s->plan, i, &step) != ELBO_OK) continue;
    out->bytes += step.bytes;
    size_t at = strlen(out->kernel);
    if (!strstr(out->kernel, step.kernel)) snprintf(out->kernel + at, sizeof out->kernel - at, "%s%s", at ? ", " : "", step.kernel);
  }
}

elbo_status elbo_bench_op(elbo_ctx *ctx, const char *text, const elbo_bench_config *config, elbo_bench_op_result *out) {
  single s = {0};
  elbo_bench_config defaults;
  elbo_status status;
  *out = (elbo_bench_op_result){0};
  if (!config) elbo_bench_defaults(&defaults), config = &defaults;
  TRY_GOTO(open_single(ctx, text, config->kernel, &s));
  describe_plan(&s, out);
  fill_inputs(&s);
  TRY_GOTO(elbo_plan_run(s.plan, s.store));
  TRY_GOTO(check(ctx, &s, text, out));
  TRY_GOTO(time_runs(ctx, &s, text, config, out));
  out->gflops = out->min_ms > 0 ? (double)out->flops / out->min_ms * 1e-6 : 0;
  out->gbytes = out->min_ms > 0 ? (double)out->bytes / out->min_ms * 1e-6 : 0;
fail:
  close_single(&s);
  return status;
}
