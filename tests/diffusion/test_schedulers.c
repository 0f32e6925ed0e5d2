// Every scheduler class against diffusers: the states after each step of a run with a model that is a formula, from the same noise.
// tests/golden/make_schedulers.py wrote the numbers.
#include "support/test.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/safetensors.h"
#include "diffusion/sampler.h"

enum { SIZE = 12, STEPS_MAX = 64 };

static elbo_ctx *ctx;
static safetensors *golden;

static float at(const char *name, int64_t i) {
  const tensor_view *t = safetensors_find(golden, name);
  float value;
  if (!t || (size_t)i >= t->bytes / sizeof value) fail_msg("%s has no element %lld", name, (long long)i);
  memcpy(&value, (const char *)t->data + (size_t)i * sizeof value, sizeof value);
  return value;
}

typedef struct replay {
  const char *title;
  int64_t rows;
  bool learned;
  int calls, steps;
  double times[4 * STEPS_MAX];
  double states[STEPS_MAX][2 * SIZE];
} replay;

static elbo_status formula(void *user, const double *x, double time, double *out) {
  replay *r = user;
  if (r->calls < 4 * STEPS_MAX) r->times[r->calls] = time;
  r->calls++;
  for (int64_t row = 0; row < r->rows; row++)
    for (int i = 0; i < SIZE; i++) {
      double xi = x[row * SIZE + i], *to = out + row * SIZE * (r->learned ? 2 : 1);
      to[i] = 0.3 * xi * cos(time / 100) + 0.2 * sin(0.7 * xi + time / 77);
      if (r->learned) to[SIZE + i] = tanh(xi + time / 500);
    }
  return ELBO_OK;
}

static void recorded_noise(void *user, int64_t draw, double *out) {
  const replay *r = user;
  for (int64_t i = 0; i < r->rows * SIZE; i++) out[i] = at("noise", draw * 2 * SIZE + i);
}

static bool keep_state(void *user, int step, double alpha, double sigma, double *x) {
  replay *r = user;
  (void)alpha;
  (void)sigma;
  if (step < STEPS_MAX) memcpy(r->states[step], x, (size_t)r->rows * SIZE * sizeof(double));
  r->steps = step + 1;
  return false;
}

// The largest |a - b| / (1 + max |b|) of any step; infinite when something has another shape.
static double compare(const replay *r, const char *name, int *worst_step) {
  char states[32], times[32];
  double worst = 0;
  snprintf(states, sizeof states, "%s.states", name);
  snprintf(times, sizeof times, "%s.times", name);
  const tensor_view *s = safetensors_find(golden, states), *t = safetensors_find(golden, times);
  *worst_step = -1;
  if (!s || !t || s->dim[0] != r->steps || t->dim[0] != r->calls) {
    print_error("%s: %d steps and %d calls, not %lld and %lld\n", r->title, r->steps, r->calls, (long long)s->dim[0], (long long)t->dim[0]);
    return INFINITY;
  }
  for (int c = 0; c < r->calls; c++)
    if (!(fabs(r->times[c] - at(times, c)) <= 1e-4 + 1e-5 * fabs(at(times, c)))) {
      print_error("%s: call %d at time %g, not %g\n", r->title, c, r->times[c], at(times, c));
      return INFINITY;
    }
  for (int k = 0; k < r->steps; k++) {
    double largest = 0, error = 0;
    for (int64_t i = 0; i < r->rows * SIZE; i++) {
      double b = at(states, k * r->rows * SIZE + i);
      largest = fmax(largest, fabs(b));
      error = fmax(error, fabs(r->states[k][i] - b));
      if (isnan(r->states[k][i])) error = INFINITY;
    }
    if (error / (1 + largest) > worst) worst = error / (1 + largest), *worst_step = k;
  }
  return worst;
}

static bool run_case(const json_t *c, double tolerance, double *worst) {
  const char *name = json_string_value(json_object_get(c, "name")), *text = json_string_value(json_object_get(c, "config"));
  replay *r = calloc(1, sizeof *r);
  arena *memory = arena_create(1 << 16);
  scheduler_config config;
  struct process_config betas;
  process *p;
  double x[2 * SIZE];
  int64_t index[2] = {0, 1}, calls, dry;
  int worst_step;
  *r = (replay){.title = json_string_value(json_object_get(c, "title")), .rows = json_integer_value(json_object_get(c, "rows"))};
  assert_ok(ctx, scheduler_parse(ctx, memory, r->title, text, strlen(text), &config));
  scheduler_process(&config, &betas);
  assert_ok(ctx, process_create(ctx, &betas, r->title, &p));
  r->learned = scheduler_learned_variance(&config);
  sampler_request request = {.scheduler = &config,
                             .process = p,
                             .rows = r->rows,
                             .size = SIZE,
                             .steps = (int)json_integer_value(json_object_get(c, "steps")),
                             .sample_index = index,
                             .network = formula,
                             .user = r,
                             .noise = recorded_noise,
                             .state = keep_state,
                             .hook_user = r};
  for (int64_t i = 0; i < r->rows * SIZE; i++) x[i] = at("x", i);
  elbo_status status = sampler_run(ctx, &request, x, &calls);
  if (status != ELBO_OK) print_error("%s: ", r->title);
  assert_ok(ctx, status);
  assert_ok(ctx, sampler_calls(ctx, &config, p, request.steps, &dry));
  double error = compare(r, name, &worst_step);
  bool good = error <= tolerance && dry == calls && calls == r->calls;
  if (dry != calls) print_error("%s: %lld calls foretold, %lld made\n", r->title, (long long)dry, (long long)calls);
  if (!(error <= tolerance)) print_error("case %s %s: error %.3g after step %d\n", name, r->title, error, worst_step);
  if (getenv("ELBO_TEST_LOG")) print_message("%s %.3g %s\n", name, error, r->title);
  *worst = fmax(*worst, error);
  process_destroy(&p);
  arena_destroy(&memory);
  free(r);
  return good;
}

static void test_golden(void **state) {
  (void)state;
  json_t *cases = json_load_file(test_repository_file("tests/golden/schedulers.json"), 0, NULL), *c;
  size_t i;
  int bad = 0;
  double worst = 0;
  assert_true(json_array_size(cases) > 250);
  json_array_foreach(cases, i, c) bad += !run_case(c, 2e-5, &worst);
  print_message("%zu cases, the largest error %.3g\n", json_array_size(cases), worst);
  json_decref(cases);
  if (bad) fail_msg("%d cases differ", bad);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden)};
  ctx = test_ctx(1);
  if (safetensors_open(ctx, test_repository_file("tests/golden/schedulers.safetensors"), &golden) != ELBO_OK) return 1;
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  safetensors_close(&golden);
  elbo_ctx_destroy(&ctx);
  return failed;
}
