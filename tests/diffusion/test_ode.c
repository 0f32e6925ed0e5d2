// The Runge-Kutta pair: its order, what a tolerance means, either direction, rows that do not touch each other, and failure.
#include "diffusion/ode.h"

#include <math.h>

#include "support/test.h"

static elbo_ctx *ctx;

typedef struct rotation {
  int64_t rows;
  double wall; // slope is infinite beyond; 0: none
} rotation;

// dy/dt = (1 + row) t (-y1, y0) + a quintic in t: y(t) is known
static elbo_status turn(void *user, double t, const double *y, double *dy) {
  const rotation *r = user;
  for (int64_t k = 0; k < r->rows; k++) {
    double w = (double)(1 + k) * t;
    dy[2 * k] = -w * y[2 * k + 1], dy[2 * k + 1] = w * y[2 * k];
    if (r->wall > 0 && t > r->wall) dy[2 * k] = NAN;
  }
  return ELBO_OK;
}

static double error_at(double tolerance, double from, double to, int64_t rows, int64_t *calls) {
  rotation r = {.rows = rows};
  double y[16], worst = 0;
  *calls = 0;
  for (int64_t k = 0; k < rows; k++) {
    double angle = 0.5 * (double)(1 + k) * from * from;
    y[2 * k] = cos(angle), y[2 * k + 1] = sin(angle);
  }
  ode_request request = {.rows = rows, .size = 2, .from = from, .to = to, .rtol = tolerance, .atol = tolerance, .slope = turn, .user = &r};
  assert_ok(ctx, ode_solve(ctx, &request, y, calls));
  for (int64_t k = 0; k < rows; k++) {
    double angle = 0.5 * (double)(1 + k) * to * to;
    worst = fmax(worst, hypot(y[2 * k] - cos(angle), y[2 * k + 1] - sin(angle)));
  }
  return worst;
}

// With local extrapolation the global error goes with the tolerance, and the work with its fifth root.
static void test_order(void **state) {
  (void)state;
  int64_t calls[2], c;
  for (int backwards = 0; backwards < 2; backwards++) {
    double from = backwards ? 4 : 0, to = backwards ? 0 : 4, before = 1;
    for (double tolerance = 1e-3; tolerance > 1e-11; tolerance *= 0.1) {
      double error = error_at(tolerance, from, to, 3, &c);
      if (!(error <= 100 * tolerance)) fail_msg("tolerance %g: error %g", tolerance, error);
      if (tolerance < 5e-4 && !(error < 0.5 * before)) fail_msg("tolerance %g: error %g after %g", tolerance, error, before);
      before = error;
    }
    error_at(1e-6, from, to, 3, &calls[0]), error_at(1e-11, from, to, 3, &calls[1]);
    double growth = log((double)calls[1] / (double)calls[0]) / log(1e5); // a fifth, were it not for the ends
    if (!(growth > 0.15 && growth < 0.25)) fail_msg("%lld calls, then %lld", (long long)calls[0], (long long)calls[1]);
  }
}

// y' = 5 t^4 is integrated exactly, whatever the step.
static elbo_status quintic(void *user, double t, const double *y, double *dy) {
  (void)user, (void)y;
  dy[0] = 5 * t * t * t * t;
  return ELBO_OK;
}

static void test_exact(void **state) {
  (void)state;
  double y = 1;
  int64_t calls = 10;
  ode_request request = {.rows = 1, .size = 1, .from = 1, .to = 3, .rtol = 1, .atol = 1, .slope = quintic};
  assert_ok(ctx, ode_solve(ctx, &request, &y, &calls));
  assert_near(y, 243, 1e-11);
  assert_true(calls > 10 && calls < 60); // added to what was counted; long steps
  request.to = request.from, y = 4;
  assert_ok(ctx, ode_solve(ctx, &request, &y, NULL));
  assert_near(y, 4, 0);
}

static elbo_status refuse(void *user, double t, const double *y, double *dy) {
  (void)user, (void)y;
  dy[0] = 1;
  return t > 0.5 ? fail(ctx, ELBO_ERROR_STOPPED, "no more") : ELBO_OK;
}

static void test_failure(void **state) {
  (void)state;
  rotation r = {.rows = 1, .wall = 0.7};
  double y[2] = {1, 0};
  int64_t calls = 0;
  ode_request request = {.rows = 1, .size = 2, .from = 0, .to = 1, .rtol = 1e-5, .atol = 1e-6, .slope = turn, .user = &r};
  assert_status(ctx, ode_solve(ctx, &request, y, &calls), ELBO_ERROR_NUMERIC, "no step at t = 0.7");
  assert_status(ctx, ode_solve(ctx, &request, y, &calls), ELBO_ERROR_NUMERIC, "rtol 1e-05, atol 1e-06");
  assert_true(y[0] == 1 && y[1] == 0); // as it was
  request.slope = refuse, request.size = 1;
  assert_status(ctx, ode_solve(ctx, &request, y, &calls), ELBO_ERROR_STOPPED, "no more");
}

static int open(void **state) {
  (void)state;
  ctx = test_ctx(1);
  return 0;
}
static int close_all(void **state) {
  (void)state;
  elbo_ctx_destroy(&ctx);
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_order), cmocka_unit_test(test_exact), cmocka_unit_test(test_failure)};
  return cmocka_run_group_tests(tests, open, close_all);
}
