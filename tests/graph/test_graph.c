// Building: names, scopes, shared leaves, the sticky error; differentiation's routing; stores.
#include <stdlib.h>
#include <string.h>

#include <elbo/ops.h>

#include "backend/node.h"
#include "graph/plan.h"
#include "graph/store.h"
#include "ops/op.h"
#include "support/graph_test.h"

static void the_first_error_stays(void **state) {
  (void)state;
  elbo_graph *g = new_graph();
  elbo_tensor *a = elbo_input(g, "a", ELBO_F32, 2, (int64_t[]){3, 4}), *b = elbo_input(g, "b", ELBO_F32, 2, (int64_t[]){5, 4});
  assert_non_null(a);
  elbo_tensor *bad = elbo_add(a, b);
  assert_null(bad);
  assert_null(elbo_exp(bad));                       // NULL in, NULL out
  assert_null(elbo_reshape(a, 1, (int64_t[]){13})); // would be another error
  assert_status(ctx, elbo_graph_check(g), ELBO_ERROR_ARGUMENT, "(3,4)");
  assert_status(ctx, elbo_graph_check(g), ELBO_ERROR_ARGUMENT, "(5,4)");
  assert_status(ctx, elbo_graph_check(g), ELBO_ERROR_ARGUMENT, "add");
  elbo_plan *p;
  assert_status(ctx, elbo_plan_create(ctx, g, 1, &a, NULL, &p), ELBO_ERROR_ARGUMENT, "add");
  assert_null(p);
  elbo_tensor *grad;
  assert_status(ctx, elbo_gradient(NULL, 1, &a, &grad), ELBO_ERROR_ARGUMENT, "add");
  elbo_graph_destroy(&g);
  assert_null(g);
}

static void leaves_are_shared_by_name(void **state) {
  (void)state;
  elbo_graph *g = new_graph();
  int64_t d[2] = {3, 4};
  elbo_scope_push(g, "encoder");
  elbo_scope_push(g, "block.0");
  elbo_tensor *w = elbo_parameter(g, "fc.weight", 2, d, ELBO_PARAM_TRAINED, ELBO_INIT_FAN_IN);
  assert_ptr_equal(w, elbo_parameter(g, "fc.weight", 2, d, ELBO_PARAM_TRAINED, ELBO_INIT_FAN_IN));
  assert_string_equal(w->producer->name, "encoder.block.0.fc.weight");
  elbo_scope_pop(g);
  elbo_tensor *v = elbo_parameter(g, "v", 1, d, ELBO_PARAM_TRAINED, ELBO_INIT_ZEROS);
  assert_string_equal(v->producer->name, "encoder.v");
  elbo_scope_pop(g);
  assert_ok(ctx, elbo_graph_check(g));
  assert_null(elbo_parameter(g, "encoder.v", 2, d, ELBO_PARAM_TRAINED, ELBO_INIT_ZEROS));
  assert_status(ctx, elbo_graph_check(g), ELBO_ERROR_ARGUMENT, "encoder.v");
  elbo_graph_destroy(&g);
  g = new_graph();
  elbo_scope_pop(g);
  assert_status(ctx, elbo_graph_check(g), ELBO_ERROR_STATE, "scope");
  elbo_graph_destroy(&g);
  g = new_graph();
  assert_null(elbo_input(g, "x", ELBO_F32, 6, (int64_t[]){1, 1, 1, 1, 1, 1}));
  assert_status(ctx, elbo_graph_check(g), ELBO_ERROR_ARGUMENT, "rank");
  elbo_graph_destroy(&g);
  g = new_graph();
  assert_null(elbo_input(g, "x", ELBO_F32, 2, (int64_t[]){1 << 30, (int64_t)1 << 40}));
  assert_status(ctx, elbo_graph_check(g), ELBO_ERROR_ARGUMENT, "input");
  elbo_graph_destroy(&g);
}

static void a_store_does_not_depend_on_company(void **state) {
  (void)state;
  elbo_graph *g = new_graph(), *h = new_graph();
  int64_t d[2] = {7, 5};
  elbo_parameter(g, "b.weight", 2, d, ELBO_PARAM_TRAINED, ELBO_INIT_FAN_IN);
  elbo_parameter(h, "a.weight", 2, d, ELBO_PARAM_TRAINED, ELBO_INIT_FAN_IN);
  elbo_parameter(h, "b.weight", 2, d, ELBO_PARAM_TRAINED, ELBO_INIT_FAN_IN);
  elbo_parameter(h, "mean", 1, d, ELBO_PARAM_STATE, ELBO_INIT_ONES);
  elbo_store *s, *t;
  assert_ok(ctx, elbo_store_create(ctx, 1, &g, 9, &s));
  assert_ok(ctx, elbo_store_create(ctx, 2, (elbo_graph *[]){g, h}, 9, &t));
  assert_int_equal(elbo_store_count(s), 1);
  assert_int_equal(elbo_store_count(t), 3);
  elbo_param_info x, y;
  assert_ok(ctx, elbo_store_find(s, "b.weight", &x));
  assert_ok(ctx, elbo_store_find(t, "b.weight", &y));
  assert_memory_equal(x.data, y.data, 35 * sizeof(float));
  double largest = 0;
  for (int i = 0; i < 35; i++) largest = (double)x.data[i] > largest ? (double)x.data[i] : largest;
  assert_true(largest > 0.2 && largest <= 1 / 2.2360679); // U(-1/sqrt(5), 1/sqrt(5))
  assert_ok(ctx, elbo_store_find(t, "mean", &y));
  assert_int_equal(y.kind, ELBO_PARAM_STATE);
  assert_true(y.data[6] == 1);
  int64_t begin, end;
  store_trained_range(t, "b.", &begin, &end);
  assert_int_equal(begin, 48); // 35 floats rounded up to whole cache lines
  assert_int_equal(end, 96);
  assert_status(ctx, elbo_store_find(t, "c", &y), ELBO_ERROR_ARGUMENT, "c");
  elbo_store *copy;
  assert_ok(ctx, elbo_store_copy(ctx, t, &copy));
  assert_true(store_same_layout(t, copy));
  assert_false(store_same_layout(s, copy));
  elbo_store_destroy(&copy);
  elbo_store_destroy(&t);
  elbo_store_destroy(&s);
  elbo_graph *k = new_graph(); // one name, two shapes
  elbo_parameter(k, "b.weight", 1, d, ELBO_PARAM_TRAINED, ELBO_INIT_FAN_IN);
  assert_status(ctx, elbo_store_create(ctx, 2, (elbo_graph *[]){g, k}, 9, &s), ELBO_ERROR_ARGUMENT, "b.weight");
  assert_null(s);
  elbo_graph_destroy(&k);
  elbo_graph_destroy(&g);
  elbo_graph_destroy(&h);
}

// y for the scalar input x = value
static double evaluate(elbo_graph *g, elbo_tensor *y, double value) {
  elbo_plan_config config;
  elbo_plan_defaults(&config);
  config.backend = ELBO_BACKEND_REFERENCE;
  elbo_plan *p;
  assert_ok(ctx, elbo_plan_create(ctx, g, 1, &y, &config, &p));
  double *x = elbo_plan_input(p, "x");
  if (x) *x = value;
  assert_ok(ctx, elbo_plan_run(p, NULL));
  double result = *(const double *)elbo_plan_output(p, 0);
  elbo_plan_destroy(&p);
  return result;
}

static void gradients_of_gradients(void **state) {
  (void)state;
  elbo_graph *g = new_graph();
  elbo_tensor *x = elbo_input(g, "x", ELBO_F32, 0, NULL), *d = elbo_mul(elbo_mul(x, x), elbo_exp(x));
  for (int n = 0; n < 4; n++) { // (x^2 e^x)^(n) = (x^2 + 2 n x + n (n-1)) e^x
    assert_near(evaluate(g, d, 3.0), (9 + 6 * n + n * (n - 1)) * 20.085536923187668, 1e-9);
    assert_ok(ctx, elbo_gradient(d, 1, &x, &d));
  }
  elbo_graph_destroy(&g);
}

static void routing(void **state) {
  (void)state;
  elbo_graph *g = new_graph();
  elbo_tensor *x = elbo_input(g, "x", ELBO_F32, 0, NULL), *d;
  elbo_tensor *y = elbo_mul(x, elbo_stop_gradient(elbo_square(x))); // x * const(x^2)
  assert_ok(ctx, elbo_gradient(y, 1, &x, &d));
  assert_near(evaluate(g, y, 3.0), 27, 1e-12);
  assert_near(evaluate(g, d, 3.0), 9, 1e-12);
  y = elbo_square(elbo_scale_gradient(x, elbo_constant(g, -0.5)));
  assert_ok(ctx, elbo_gradient(y, 1, &x, &d));
  assert_near(evaluate(g, y, 3.0), 9, 1e-12);
  assert_near(evaluate(g, d, 3.0), -3, 1e-12);
  elbo_tensor *other = elbo_input(g, "other", ELBO_F32, 0, NULL);
  assert_ok(ctx, elbo_gradient(y, 1, &other, &d));
  assert_null(d); // does not depend on it
  elbo_graph_destroy(&g);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_first_error_stays),
      cmocka_unit_test(leaves_are_shared_by_name),
      cmocka_unit_test(a_store_does_not_depend_on_company),
      cmocka_unit_test(gradients_of_gradients),
      cmocka_unit_test(routing),
  };
  return cmocka_run_group_tests(tests, graph_set_up, graph_tear_down);
}
