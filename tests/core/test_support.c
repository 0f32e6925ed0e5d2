// The tests' own helpers: a comparison that accepted NaN, or a run that lost an exit status, would pass anything.
#include "support/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void test_comparison(void **state) {
  (void)state;
  float a[4] = {1, 2, 3, 100}, b[4] = {1, 2, 3, 100};
  int64_t worst = -1;
  assert_true(test_close(a, b, 4, 0, &worst));
  a[2] = 3.05f, a[1] = 2.02f;
  assert_true(test_close(a, b, 4, 1e-3, &worst)); // 0.101 are allowed
  assert_false(test_close(a, b, 4, 1e-4, &worst));
  assert_int_equal(worst, 2);
  a[1] = NAN;
  assert_false(test_close(a, b, 4, 1e9, &worst));
  assert_int_equal(worst, 1);
  a[1] = 2, b[3] = NAN;
  assert_false(test_close(a, b, 4, 1e9, &worst));
  a[3] = NAN; // not even NaN beside NaN
  assert_false(test_close(a, b, 4, 1e9, &worst));
  assert_true(test_close(a, b, 0, 0, &worst));
}

static void test_runs(void **state) {
  (void)state;
  char *output;
  assert_int_equal(test_run("echo one; echo two >&2; exit 3", &output), 3);
  assert_string_equal(output, "one\ntwo\n");
  free(output);
  assert_int_equal(test_run("true", NULL), 0);
  assert_int_equal(test_run("kill -9 $$", NULL), -1);
}

static void test_draws(void **state) {
  (void)state;
  test_random r = {5, 0}, s = {5, 0};
  float x[100], y[100];
  test_fill_normal(&r, x, 100, 1);
  test_fill_normal(&s, y, 100, 1);
  assert_memory_equal(x, y, sizeof x);
  test_fill_normal(&s, y, 100, 1);
  assert_memory_not_equal(x, y, sizeof x);
  bool seen[3] = {false};
  for (int i = 0; i < 100; i++) {
    int64_t n = test_below(&r, 2, 4);
    assert_in_range(n, 2, 4);
    seen[n - 2] = true;
  }
  assert_true(seen[0] && seen[1] && seen[2]);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_comparison), cmocka_unit_test(test_runs), cmocka_unit_test(test_draws)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
