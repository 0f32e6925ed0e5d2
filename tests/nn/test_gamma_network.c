// VDM's learned schedule: monotone, at its ends where it should be, the same on the host, differentiable to time and parameters, twice.
#include "nn/gamma_network.h"

#include <math.h>
#include <string.h>

#include "backend/node.h"
#include "support/test.h"

enum { TIMES = 41, HIDDEN = 32 };
static const gamma_config small = {HIDDEN, -5, 13.5, true};

typedef struct fixture {
  elbo_ctx *ctx;
  elbo_graph *graph;
  elbo_store *store;
  elbo_tensor *t, *gamma, *slope; // (TIMES)
} fixture;

static fixture make(const gamma_config *c, double noise) {
  fixture f = {.ctx = test_ctx(1)};
  int64_t n = TIMES;
  assert_ok(f.ctx, elbo_graph_create(f.ctx, "gamma", &f.graph));
  f.t = elbo_input(f.graph, "t", ELBO_F32, 1, &n);
  elbo_scope_push(f.graph, "gamma");
  f.gamma = gamma_network(f.graph, c, f.t);
  elbo_scope_pop(f.graph);
  assert_ok(f.ctx, elbo_gradient(f.gamma, 1, &f.t, &f.slope));
  assert_ok(f.ctx, elbo_store_create(f.ctx, 1, &f.graph, test_seed(), &f.store));
  test_random r = {test_seed(), 0};
  for (int i = 0; i < elbo_store_count(f.store); i++) {
    elbo_param_info p;
    assert_ok(f.ctx, elbo_store_get(f.store, i, &p));
    if (strncmp(p.name, "gamma.l", 7) == 0)
      for (int64_t k = 0; k < p.count; k++) p.data[k] += (float)(noise * test_normal(&r));
  }
  elbo_store_touch(f.store);
  return f;
}

static void free_fixture(fixture *f) {
  elbo_store_destroy(&f->store);
  elbo_graph_destroy(&f->graph);
  elbo_ctx_destroy(&f->ctx);
}

static float *times(void) {
  static float t[TIMES];
  for (int i = 0; i < TIMES; i++) t[i] = (float)i / (TIMES - 1);
  return t;
}

// Values on either backend
static void evaluate(const fixture *f, int n, elbo_tensor *const *outputs, elbo_backend_kind where, double *const *out,
                     const int64_t *count) {
  elbo_plan_config config;
  elbo_plan *plan;
  elbo_plan_defaults(&config);
  config.backend = where;
  assert_ok(f->ctx, elbo_plan_create(f->ctx, f->graph, n, outputs, &config, &plan));
  assert_ok(f->ctx, elbo_plan_set(plan, "t", times(), TIMES));
  assert_ok(f->ctx, elbo_plan_run(plan, f->store));
  for (int k = 0; k < n; k++)
    for (int64_t i = 0; i < count[k]; i++)
      out[k][i] = where == ELBO_BACKEND_REFERENCE ? ((const double *)elbo_plan_output(plan, k))[i]
                                                  : (double)((const float *)elbo_plan_output(plan, k))[i];
  elbo_plan_destroy(&plan);
}

static void check_against_host(const gamma_config *c, double noise) {
  fixture f = make(c, noise);
  double gamma[2][TIMES], slope[2][TIMES];
  for (int k = 0; k < 2; k++)
    evaluate(&f, 2, (elbo_tensor *[]){f.gamma, f.slope}, k ? ELBO_BACKEND_CPU : ELBO_BACKEND_REFERENCE, (double *[]){gamma[k], slope[k]},
             (const int64_t[]){TIMES, TIMES});
  double before = -INFINITY;
  for (int i = 0; i < TIMES; i++) {
    double value, derivative, low, high, unused;
    double t = (double)times()[i], h = 1e-6;
    assert_ok(f.ctx, gamma_network_host(f.store, "gamma.", t, &value, &derivative));
    assert_ok(f.ctx, gamma_network_host(f.store, "gamma.", t - h, &low, &unused));
    assert_ok(f.ctx, gamma_network_host(f.store, "gamma.", t + h, &high, &unused));
    assert_near(gamma[0][i], value, 1e-6);
    assert_near(slope[0][i], derivative, 1e-5);
    assert_near(gamma[1][i], value, 1e-4);
    assert_near(slope[1][i], derivative, 1e-3);
    assert_near(derivative, (high - low) / (2 * h), 1e-5 * (1 + derivative));
    if (!(derivative > 0 && value > before)) fail_msg("noise %g, t %g: gamma %g after %g, slope %g", noise, t, value, before, derivative);
    before = value;
  }
  assert_near(gamma[0][0], -c->logsnr_max, 1e-5);
  assert_near(gamma[0][TIMES - 1], -c->logsnr_min, 1e-5);
  free_fixture(&f);
}

static void test_monotone(void **state) {
  (void)state;
  const gamma_config full = {1024, -5, 13.3, true};
  check_against_host(&full, 0);
  check_against_host(&small, 0);
  check_against_host(&small, 3); // whatever the parameters: positive weights
}

// It begins near a straight line.
static void test_begins_linear(void **state) {
  (void)state;
  const gamma_config full = {1024, -5, 13.3, true};
  fixture f = make(&full, 0);
  for (int i = 0; i < TIMES; i++) {
    double gamma, slope, t = (double)times()[i];
    assert_ok(f.ctx, gamma_network_host(f.store, "gamma.", t, &gamma, &slope));
    assert_near((gamma + 13.3) / 18.3, t, 0.05);
  }
  free_fixture(&f);
}

// What trains it is a function of gamma and of dgamma/dt: its gradient to every parameter against central differences in double precision.
static void test_gradient(void **state) {
  (void)state;
  static const char *const names[] = {"gamma.l1.weight", "gamma.l1.bias", "gamma.l2.weight", "gamma.l2.bias",
                                      "gamma.l3.weight", "gamma.gamma_0", "gamma.gamma_1"};
  enum { N = 7 };
  fixture f = make(&small, 0.5);
  elbo_tensor *wrt[N], *gradient[N], *objective;
  const int64_t count[N] = {1, 1, HIDDEN, HIDDEN, HIDDEN, 1, 1};
  for (int64_t k = 0; k < f.graph->n_nodes; k++)
    for (int i = 0; i < N; i++)
      if (strcmp(f.graph->nodes[k]->name, names[i]) == 0) wrt[i] = f.graph->nodes[k]->out[0];
  // uneven in t, so that no gradient vanishes by symmetry
  objective = elbo_add(elbo_sin(f.gamma), elbo_mul(elbo_log(f.slope), elbo_square(elbo_scale(f.t, 1, 0.3))));
  objective = elbo_sum(objective, ELBO_ALL_AXES, 0);
  assert_ok(f.ctx, elbo_gradient(objective, N, wrt, gradient));
  double g[N][HIDDEN];
  double *into[N];
  for (int i = 0; i < N; i++) into[i] = g[i];
  evaluate(&f, N, gradient, ELBO_BACKEND_REFERENCE, into, count);
  for (int i = 0; i < N; i++) {
    elbo_param_info p;
    assert_ok(f.ctx, elbo_store_find(f.store, names[i], &p));
    assert_int_equal(p.count, count[i]);
    for (int64_t k = 0; k < p.count; k += 5) {
      double side[2], at = (double)p.data[k], step[2];
      for (int s = 0; s < 2; s++) {
        p.data[k] = (float)(at + (s ? 1e-3 : -1e-3));
        step[s] = (double)p.data[k];
        elbo_store_touch(f.store);
        evaluate(&f, 1, &objective, ELBO_BACKEND_REFERENCE, (double *[]){&side[s]}, (const int64_t[]){1});
      }
      p.data[k] = (float)at;
      double difference = (side[1] - side[0]) / (step[1] - step[0]);
      if (!(fabs(g[i][k] - difference) <= 1e-4 * (1 + fabs(difference))))
        fail_msg("%s[%lld]: gradient %.9g, difference %.9g", names[i], (long long)k, g[i][k], difference);
    }
    double norm = 0;
    for (int64_t k = 0; k < p.count; k++) norm += fabs(g[i][k]);
    if (strcmp(names[i], "gamma.l1.bias") != 0 && !(norm > 1e-6)) fail_msg("%s: no gradient", names[i]);
  }
  free_fixture(&f);
}

static void test_ends(void **state) {
  (void)state;
  gamma_config fixed = small;
  fixed.learn_ends = false;
  fixture f = make(&fixed, 0);
  elbo_param_info p;
  double gamma, slope;
  assert_ok(f.ctx, elbo_store_find(f.store, "gamma.gamma_1", &p));
  assert_int_equal(p.kind, ELBO_PARAM_FROZEN);
  p.data[0] = -20;
  assert_status(f.ctx, gamma_network_host(f.store, "gamma.", 0.5, &gamma, &slope), ELBO_ERROR_ARGUMENT,
                "gamma.gamma_0: the schedule's ends");
  assert_status(f.ctx, gamma_network_host(f.store, "", 0.5, &gamma, &slope), ELBO_ERROR_ARGUMENT, "l2.weight");
  const gamma_config crossed = {8, 3, 2, true};
  assert_status(f.ctx, gamma_config_check(f.ctx, &crossed, "r.yaml: model.gamma"), ELBO_ERROR_ARGUMENT, "model.gamma.logsnr_min: 3");
  assert_ok(f.ctx, gamma_config_check(f.ctx, &small, "r.yaml"));
  free_fixture(&f);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_monotone), cmocka_unit_test(test_begins_linear), cmocka_unit_test(test_gradient),
                                     cmocka_unit_test(test_ends)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
