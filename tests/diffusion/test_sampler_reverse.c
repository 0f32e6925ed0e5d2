// The way back of DDIM: on a mixture of Gaussians, whose noise is known exactly, back and forth again gives the point, the closer the more
// steps; for one Gaussian the noise is that of a closed form; other samplers are refused.
#include "support/test.h"

#include <math.h>
#include <string.h>

#include "diffusion/sampler.h"

enum { D = 2, ROWS = 6, COMPONENTS = 3 };
static elbo_ctx *ctx;

typedef struct problem {
  int components;
  double centre[COMPONENTS][D], deviation;
  const process *process;
  int prediction;
} problem;

// E[x0 | x] under a mixture of N(c, d^2): sum of weights times c + alpha d^2 (x - alpha c) / (alpha^2 d^2 + sigma^2)
static void exact_x0(const problem *m, double alpha, double sigma, const double *x, double *out) {
  double d2 = m->deviation * m->deviation, variance = alpha * alpha * d2 + sigma * sigma, weight[COMPONENTS], sum = 0;
  for (int c = 0; c < m->components; c++) {
    double square = 0;
    for (int i = 0; i < D; i++) square += pow(x[i] - alpha * m->centre[c][i], 2);
    sum += weight[c] = exp(-square / (2 * variance)) + 1e-300;
  }
  for (int i = 0; i < D; i++) {
    out[i] = 0;
    for (int c = 0; c < m->components; c++)
      out[i] += weight[c] / sum * (m->centre[c][i] + alpha * d2 * (x[i] - alpha * m->centre[c][i]) / variance);
  }
}

static elbo_status network(void *user, const double *x, double time, double *out) {
  const problem *q = user;
  process_type kind = process_kind(q->process);
  process_point at = process_at(q->process, kind == PROCESS_DISCRETE ? (time + 1) / (double)process_steps(q->process)
                                            : kind == PROCESS_FLOW   ? time / 1000
                                                                     : time);
  for (int row = 0; row < ROWS; row++) {
    double x0[D];
    exact_x0(q, at.alpha, at.sigma, x + row * D, x0);
    for (int i = 0; i < D; i++) {
      double epsilon = (x[row * D + i] - at.alpha * x0[i]) / at.sigma;
      prediction_from_x0_epsilon(q->prediction, at.alpha, at.sigma, 0.5, 1, &x0[i], &epsilon, out + row * D + i);
    }
  }
  return ELBO_OK;
}

static sampler_request request_of(problem *q, const scheduler_config *scheduler, int steps) {
  static const int64_t index[ROWS] = {0, 1, 2, 3, 4, 5};
  return (sampler_request){.scheduler = scheduler,
                           .process = q->process,
                           .rows = ROWS,
                           .size = D,
                           .steps = steps,
                           .sample_index = index,
                           .network = network,
                           .user = q};
}

static void points(double x[ROWS * D]) {
  test_random r = {test_seed(), 5};
  for (int i = 0; i < ROWS * D; i++) x[i] = 0.8 * test_normal(&r);
}

static const struct {
  const char *name;
  process_config config;
  int prediction;
} cases[] = {
    {"discrete, epsilon", {.type = PROCESS_DISCRETE, .steps = 1000, .betas = BETAS_COSINE}, PREDICT_EPSILON},
    {"discrete, v", {.type = PROCESS_DISCRETE, .steps = 1000, .betas = BETAS_LINEAR, .beta_start = 1e-4, .beta_end = 0.02}, PREDICT_V},
    {"flow", {.type = PROCESS_FLOW, .shift = 1}, PREDICT_FLOW},
    {"linear log-SNR, x0", {.type = PROCESS_LINEAR, .logsnr_min = -8, .logsnr_max = 8}, PREDICT_X0}};

static void scheduler_of(arena *a, const process_config *of, int prediction, const char *const *options, int n, scheduler_config *out) {
  sampler_config sampler;
  assert_ok(ctx, config_load_options(ctx, a, &sampler_table, n, options, &sampler));
  assert_ok(ctx, scheduler_from_sampler(ctx, a, of, prediction, 0.5, &sampler, NULL, "test", out));
}

// The largest distance between a point and what back and forth makes of it.
static double error_of(problem *q, const scheduler_config *scheduler, int steps) {
  double x[ROWS * D], y[ROWS * D], worst = 0;
  sampler_request request = request_of(q, scheduler, steps);
  int64_t calls;
  points(x);
  memcpy(y, x, sizeof x);
  assert_ok(ctx, sampler_reverse(ctx, &request, y, &calls));
  assert_int_equal(calls, 2 * steps - 1);
  assert_ok(ctx, sampler_run(ctx, &request, y, &calls));
  for (int i = 0; i < ROWS * D; i++) worst = fmax(worst, fabs(y[i] - x[i]));
  return worst;
}

static void test_there_and_back(void **state) {
  (void)state;
  static const char *const options[] = {"sampler=ddim", "clip=none"};
  arena *a = arena_create(1 << 14);
  for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
    problem q = {3, {{1, 0.3}, {-0.8, 0.6}, {0.1, -1}}, 0.3, NULL, cases[k].prediction};
    process *p;
    scheduler_config scheduler;
    assert_ok(ctx, process_create(ctx, &cases[k].config, "test", &p));
    q.process = p;
    scheduler_of(a, &cases[k].config, cases[k].prediction, options, 2, &scheduler);
    double error[4];
    static const int steps[4] = {12, 25, 50, 100};
    for (int i = 0; i < 4; i++) error[i] = error_of(&q, &scheduler, steps[i]);
    print_message("%s: %.3g %.3g %.3g %.3g\n", cases[k].name, error[0], error[1], error[2], error[3]);
    for (int i = 1; i < 4; i++)
      if (!(error[i] < 0.45 * error[i - 1]))
        fail_msg("%s: %g after %d steps, %g after %d", cases[k].name, error[i], steps[i], error[i - 1], steps[i - 1]);
    if (!(error[3] < 0.01)) fail_msg("%s: %g after 100 steps", cases[k].name, error[3]);
    process_destroy(&p);
  }
  arena_destroy(&a);
}

// Of N(c, d^2) the flow keeps (x_t - alpha c) / sqrt(alpha^2 d^2 + sigma^2): the noise is (x - c) / d, to the error of the steps and of an
// end that is not quite all noise.
static void test_closed_form(void **state) {
  (void)state;
  static const char *const options[] = {"sampler=ddim", "clip=none"};
  problem q = {1, {{0.7, -0.2}}, 0.6, NULL, PREDICT_EPSILON};
  process *p;
  arena *a = arena_create(1 << 14);
  scheduler_config scheduler;
  double x[ROWS * D], y[ROWS * D];
  assert_ok(ctx, process_create(ctx, &cases[0].config, "test", &p));
  q.process = p;
  scheduler_of(a, &cases[0].config, PREDICT_EPSILON, options, 2, &scheduler);
  sampler_request request = request_of(&q, &scheduler, 500);
  points(x);
  memcpy(y, x, sizeof x);
  assert_ok(ctx, sampler_reverse(ctx, &request, y, NULL));
  for (int i = 0; i < ROWS * D; i++) assert_near(y[i], (x[i] - q.centre[0][i % D]) / q.deviation, 0.02);
  process_destroy(&p);
  arena_destroy(&a);
}

static void test_refused(void **state) {
  (void)state;
  static const char *const other[] = {"sampler=dpmpp_2m", "clip=none"}, *const fresh[] = {"sampler=ddim", "eta=0.5"};
  problem q = {1, {{0, 0}}, 0.6, NULL, PREDICT_EPSILON};
  process *p;
  arena *a = arena_create(1 << 14);
  scheduler_config scheduler;
  double x[ROWS * D] = {0};
  assert_ok(ctx, process_create(ctx, &cases[0].config, "test", &p));
  q.process = p;
  for (int i = 0; i < 2; i++) {
    scheduler_of(a, &cases[0].config, PREDICT_EPSILON, i ? fresh : other, 2, &scheduler);
    sampler_request request = request_of(&q, &scheduler, 10);
    assert_status(ctx, sampler_reverse(ctx, &request, x, NULL), ELBO_ERROR_ARGUMENT, "ddim with eta 0");
  }
  process_destroy(&p);
  arena_destroy(&a);
}

int main(void) {
  ctx = test_ctx(1);
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_there_and_back), cmocka_unit_test(test_closed_form),
                                     cmocka_unit_test(test_refused)};
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  elbo_ctx_destroy(&ctx);
  return failed;
}
