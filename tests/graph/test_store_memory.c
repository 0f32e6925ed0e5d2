// Stores whose values lie elsewhere: in a file without a name, in lent memory; what plans make of them.
#include "support/test.h"

#include <elbo/ops.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "graph/store_memory.h"

static elbo_ctx *ctx;

static elbo_graph *make_graph(elbo_tensor **y) {
  elbo_graph *g;
  assert_ok(ctx, elbo_graph_create(ctx, "net", &g));
  elbo_tensor *x = elbo_input(g, "x", ELBO_F32, 2, (int64_t[]){3, 700});
  elbo_tensor *w = elbo_parameter(g, "weight", 2, (int64_t[]){800, 700}, ELBO_PARAM_TRAINED, ELBO_INIT_FAN_IN);
  elbo_tensor *b = elbo_parameter(g, "bias", 1, (int64_t[]){800}, ELBO_PARAM_FROZEN, (elbo_init){ELBO_INIT_KIND_NORMAL, 2, 0});
  *y = elbo_linear(x, w, b);
  assert_ok(ctx, elbo_graph_check(g));
  return g;
}

static float *run(elbo_graph *g, elbo_tensor *y, elbo_store *store, int times) {
  elbo_plan *plan;
  elbo_plan_config config;
  elbo_plan_defaults(&config);
  config.weights_constant = 1;
  assert_ok(ctx, elbo_plan_create(ctx, g, 1, &y, &config, &plan));
  test_random r = {1, 0};
  test_fill_normal(&r, elbo_plan_input(plan, "x"), 2100, 1);
  for (int i = 0; i < times; i++) assert_ok(ctx, elbo_plan_run(plan, store));
  float *out = malloc(2400 * sizeof *out);
  memcpy(out, elbo_plan_output(plan, 0), 2400 * sizeof *out);
  elbo_plan_destroy(&plan);
  return out;
}

// The same values as in memory, before and after their pages were let go of.
static void test_file(void **state) {
  (void)state;
  elbo_tensor *y;
  elbo_graph *g = make_graph(&y);
  elbo_store *in_memory, *in_file;
  assert_ok(ctx, elbo_store_create(ctx, 1, &g, 7, &in_memory));
  assert_ok(ctx, store_create_in_file(ctx, 1, &g, 7, &in_file));
  float *a = run(g, y, in_memory, 1), *b = run(g, y, in_file, 3); // a second plan packs from pages that the first let go of
  float *c = run(g, y, in_file, 1);
  assert_memory_equal(a, b, 2400 * sizeof *a);
  assert_memory_equal(a, c, 2400 * sizeof *a);
  for (int i = 0; i < in_memory->n; i++) {
    assert_true(in_file->entries[i].mapped && !in_memory->entries[i].mapped);
    assert_memory_equal(store_data(in_memory, i), store_data(in_file, i), sizeof(float) * (size_t)in_memory->entries[i].count);
  }
  free(a), free(b), free(c);
  elbo_store_destroy(&in_memory);
  elbo_store_destroy(&in_file);
  elbo_graph_destroy(&g);
}

static void test_no_room(void **state) {
  (void)state;
  elbo_tensor *y;
  elbo_graph *g = make_graph(&y);
  elbo_store *store;
  const char *before = getenv("TMPDIR");
  char *kept = before ? strdup(before) : NULL;
  setenv("TMPDIR", test_path("not-there"), 1);
  assert_status(ctx, store_create_in_file(ctx, 1, &g, 7, &store), ELBO_ERROR_IO, "not-there/elbo-");
  assert_null(store);
  if (kept)
    setenv("TMPDIR", kept, 1);
  else
    unsetenv("TMPDIR");
  free(kept);
  elbo_graph_destroy(&g);
}

static int given_back;
static void give_back(void *lender) { given_back += *(int *)lender; }

static void test_lent(void **state) {
  (void)state;
  elbo_tensor *y;
  elbo_graph *g = make_graph(&y);
  elbo_store *store, *plain;
  int one = 1, ten = 10;
  assert_ok(ctx, store_create_unfilled(ctx, 1, &g, &store));
  assert_status(ctx, store_check_filled(store), ELBO_ERROR_INTERNAL, "parameter weight was given no values");
  float *values = calloc(800 * 700, sizeof *values);
  values[400000] = 2; // on a page of its own
  store_lend(store, store_index(store, "weight"), values, false);
  assert_ok(ctx, store_add_lender(store, &one, give_back));
  assert_ok(ctx, store_add_lender(store, &ten, give_back));
  assert_status(ctx, store_check_filled(store), ELBO_ERROR_INTERNAL, "parameter bias was given no values");
  assert_ok(ctx, store_own(store, store_index(store, "bias")));
  assert_ok(ctx, store_check_filled(store));
  store_data(store, store_index(store, "bias"))[1] = 3;
  float *a = run(g, y, store, 2); // memory that is no file is never let go of
  assert_true(values[400000] == 2);
  assert_ok(ctx, elbo_store_copy(ctx, store, &plain));
  elbo_store_destroy(&store);
  assert_int_equal(given_back, 11);
  float *b = run(g, y, plain, 1);
  assert_memory_equal(a, b, 2400 * sizeof *a);
  assert_true(a[1] == 3 && a[571] != 0); // row 571 has the number
  free(a), free(b), free(values);
  elbo_store_destroy(&plain);
  elbo_graph_destroy(&g);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_file), cmocka_unit_test(test_no_room), cmocka_unit_test(test_lent)};
  ctx = test_ctx(0);
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  elbo_ctx_destroy(&ctx);
  return failed;
}
