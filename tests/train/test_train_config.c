// The train section: defaults, bounds, schedules against their closed forms, EMA decay.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "support/test.h"

#include "train/train_config.h"

static void load(elbo_ctx *ctx, arena *a, int n, const char *const *options, train_config *out) {
  assert_ok(ctx, config_load_options(ctx, a, &train_table, n, options, out));
}

static void defaults_are_the_documented_ones(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  arena *a = arena_create(4096);
  train_config c;
  load(ctx, a, 0, NULL, &c);
  assert_int_equal(c.steps, 3000);
  assert_int_equal(c.batch_size, 128);
  assert_int_equal(c.optimizer, OPTIMIZER_ADAMW);
  assert_near(c.learning_rate, 1e-3, 0);
  assert_int_equal(c.ema.count, 1);
  assert_near(c.ema.at[0], 0.999, 0);
  assert_int_equal(train_averages(&c), 1);
  assert_true(c.ema_warmup && c.stop_on_nan);
  assert_int_equal(c.checkpoint_every, 500);
  assert_int_equal(c.keep, 3);
  assert_int_equal(c.seed, 0);
  assert_int_equal(train_micro_batch(&c), 128);
  assert_ok(ctx, train_config_check(ctx, &c));
  arena_destroy(&a);
  elbo_ctx_destroy(&ctx);
}

static void bad_sections_are_refused(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  arena *a = arena_create(4096);
  train_config c;
  static const char *const unknown[] = {"stepz=3"}, *const zero[] = {"batch_size=0"}, *const rate[] = {"learning_rate=fast"};
  assert_status(ctx, config_load_options(ctx, a, &train_table, 1, unknown, &c), ELBO_ERROR_ARGUMENT, "steps");
  assert_status(ctx, config_load_options(ctx, a, &train_table, 1, zero, &c), ELBO_ERROR_ARGUMENT, "batch_size");
  assert_status(ctx, config_load_options(ctx, a, &train_table, 1, rate, &c), ELBO_ERROR_ARGUMENT, "learning_rate");
  static const char *const parts[] = {"batch_size=10", "accumulate=4"};
  load(ctx, a, 2, parts, &c);
  assert_status(ctx, train_config_check(ctx, &c), ELBO_ERROR_ARGUMENT, "accumulate");
  static const char *const low[] = {"schedule=cosine", "min_learning_rate=1"};
  load(ctx, a, 2, low, &c);
  assert_status(ctx, train_config_check(ctx, &c), ELBO_ERROR_ARGUMENT, "min_learning_rate");
  static const char *const twice[] = {"ema=[0.9, 0.99, 0.9]"}, *const off[] = {"ema=[0.9, 0]"}, *const none[] = {"ema=0"};
  static const char *const many[] = {"ema=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]"}, *const one[] = {"ema=1"};
  load(ctx, a, 1, twice, &c);
  assert_status(ctx, train_config_check(ctx, &c), ELBO_ERROR_ARGUMENT, "train.ema[2]: 0.9 stands there twice");
  load(ctx, a, 1, off, &c);
  assert_status(ctx, train_config_check(ctx, &c), ELBO_ERROR_ARGUMENT, "train.ema[1]: 0 beside others");
  load(ctx, a, 1, many, &c);
  assert_status(ctx, train_config_check(ctx, &c), ELBO_ERROR_ARGUMENT, "train.ema: a list of 9; expected at most 8");
  assert_status(ctx, config_load_options(ctx, a, &train_table, 1, one, &c), ELBO_ERROR_ARGUMENT, "ema");
  load(ctx, a, 1, none, &c);
  assert_ok(ctx, train_config_check(ctx, &c));
  assert_int_equal(train_averages(&c), 0);
  arena_destroy(&a);
  elbo_ctx_destroy(&ctx);
}

static void schedules_follow_their_formulas(void **state) {
  (void)state;
  train_config c = {.steps = 1000, .learning_rate = 0.02, .warmup_steps = 100, .step_size = 200, .gamma = 0.1, .min_learning_rate = 1e-3};
  for (int64_t s = 0; s < 100; s++) assert_near(learning_rate_at(&c, 0.02, s), 0.02 * (double)(s + 1) / 100, 1e-15);
  for (int64_t s = 100; s < 1000; s += 7) {
    double t = (double)(s - 100) / 900;
    c.schedule = SCHEDULE_CONSTANT;
    assert_near(learning_rate_at(&c, 0.02, s), 0.02, 0);
    c.schedule = SCHEDULE_LINEAR;
    assert_near(learning_rate_at(&c, 0.02, s), 0.001 + 0.019 * (1 - t), 1e-15);
    c.schedule = SCHEDULE_COSINE;
    assert_near(learning_rate_at(&c, 0.02, s), 0.001 + 0.019 * (1 + cos(acos(-1) * t)) / 2, 1e-15);
    c.schedule = SCHEDULE_STEP;
    double expected = s < 300 ? 0.02 : s < 500 ? 0.002 : 0.001;
    assert_near(learning_rate_at(&c, 0.02, s), expected, 1e-15);
  }
  c.schedule = SCHEDULE_LINEAR;
  assert_near(learning_rate_at(&c, 0.02, 5000), 0.001, 1e-15);   // past the end it stays
  assert_near(learning_rate_at(&c, 0.0005, 500), 0.0005, 1e-15); // a group below the floor is not raised
  c.warmup_steps = 2000;
  assert_near(learning_rate_at(&c, 0.02, 999), 0.01, 1e-15); // warm-up longer than the run
}

static void ema_decay_rises(void **state) {
  (void)state;
  train_config c = {.ema = {2, (const double[]){0.99, 0.9}}, .ema_warmup = true};
  assert_int_equal(train_averages(&c), 2);
  assert_near(ema_decay_at(&c, 0, 0), 0.1, 1e-15);
  assert_near(ema_decay_at(&c, 0, 90), 0.91, 1e-15);
  assert_near(ema_decay_at(&c, 1, 90), 0.9, 1e-15);
  assert_near(ema_decay_at(&c, 0, 1000), 0.99, 1e-15);
  c.ema_warmup = false;
  assert_near(ema_decay_at(&c, 0, 0), 0.99, 1e-15);
  assert_near(ema_decay_at(&c, 1, 0), 0.9, 1e-15);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(defaults_are_the_documented_ones),
      cmocka_unit_test(bad_sections_are_refused),
      cmocka_unit_test(schedules_follow_their_formulas),
      cmocka_unit_test(ema_decay_rises),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
