// The memory plan on random lifetimes: sound, near the lower bound; and its checker is seen catching an overlap.
#include <stdlib.h>

#include "graph/memory_plan.h"
#include "support/test.h"

static void random_lifetimes(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  test_random r = {.seed = test_seed()};
  double worst = 0;
  for (int round = 0; round < 60; round++) {
    int64_t n = test_below(&r, 1, 120), steps = test_below(&r, 1, 80), total = 0, a, b;
    buffer *buffers = calloc((size_t)n, sizeof *buffers);
    for (int64_t i = 0; i < n; i++) {
      int64_t first = test_below(&r, -1, steps - 1), length = test_below(&r, 0, round % 2 ? 5 : steps);
      int64_t last = first + length < steps ? first + length : steps;
      buffers[i] =
          (buffer){.bytes = 64 * test_below(&r, 0, 1000), .first = (int)first, .last = (int)last, .in_arena = test_below(&r, 0, 9) > 0};
    }
    assert_ok(ctx, plan_memory(ctx, n, buffers, &total));
    assert_true(memory_plan_sound(n, buffers, &a, &b));
    int64_t bound = memory_lower_bound(n, buffers, (int)steps + 1, NULL);
    assert_true(total >= bound);
    if (bound > 0 && (double)total / (double)bound > worst) worst = (double)total / (double)bound;
    for (int64_t i = 0; i < n; i++) {
      assert_true(!buffers[i].in_arena || buffers[i].bytes == 0 || buffers[i].offset >= 0);
      assert_true(buffers[i].offset % 64 == 0 || buffers[i].offset == -1);
    }
    free(buffers);
  }
  assert_true(worst < 1.35); // greedy by size on random lifetimes, which are harder than those of networks
  elbo_ctx_destroy(&ctx);
}

static void the_checker_catches_an_overlap(void **state) {
  (void)state;
  buffer buffers[3] = {{.bytes = 128, .first = 0, .last = 4, .offset = 0, .in_arena = true},
                       {.bytes = 64, .first = 5, .last = 6, .offset = 64, .in_arena = true},
                       {.bytes = 64, .first = 2, .last = 3, .offset = 128, .in_arena = true}};
  int64_t a, b;
  assert_true(memory_plan_sound(3, buffers, &a, &b));
  buffers[1].first = 4;
  assert_false(memory_plan_sound(3, buffers, &a, &b));
  assert_int_equal(a, 0);
  assert_int_equal(b, 1);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(random_lifetimes), cmocka_unit_test(the_checker_catches_an_overlap)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
