// The training step: it learns, accumulates, averages, switches phases, and says where a NaN came from.
#include "tiny_task.h"

#include "train/trainer.h"

// Counts allocations by standing in for malloc. Not under sanitizers, which do the same.
#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define COUNTS_ALLOCATIONS 1
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer) || __has_feature(thread_sanitizer)
#undef COUNTS_ALLOCATIONS
#endif
#endif
#endif
#ifdef COUNTS_ALLOCATIONS
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
static volatile int allocations;
void *malloc(size_t size) { return allocations++, __libc_malloc(size); }
void *calloc(size_t n, size_t size) { return allocations++, __libc_calloc(n, size); }
void *realloc(void *p, size_t size) { return allocations++, __libc_realloc(p, size); }
void *aligned_alloc(size_t alignment, size_t size) { return allocations++, __libc_memalign(alignment, size); }
int posix_memalign(void **out, size_t alignment, size_t size) {
  allocations++;
  *out = __libc_memalign(alignment, size);
  return *out ? 0 : 12;
}
#endif

static const store_entry *find(const elbo_store *s, const char *name, float **data) {
  int i = store_index(s, name);
  assert_true(i >= 0);
  *data = store_data(s, i);
  return &s->entries[i];
}

static void learns(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(2);
  train_config c = tiny_config();
  c.steps = 300, c.weight_decay = 0;
  tiny task;
  tiny_create(&task, ctx, &c);
  trainer *t;
  assert_ok(ctx, trainer_create(ctx, &c, &task.task, &task.source, NULL, &t));
  assert_ok(ctx, trainer_step(t));
  double first = trainer_last_loss(t);
  while (trainer_steps_done(t) < 300) assert_ok(ctx, trainer_step(t));
  assert_true(first > 0.5);
  // squared error of noise with deviation 0.1, and the penalty that the schedule has grown to: 0.3 mean(w^2), about 0.1
  assert_true(trainer_last_loss(t) < 0.2);
  float *b, *unused;
  find(trainer_weights(t), "net.b", &b);
  assert_near(b[2], 2, 0.15);
  find(trainer_weights(t), "net.unused", &unused);
  assert_near(unused[0], 1, 0); // nothing depends on it: not even decayed
  elbo_train_cost cost;
  trainer_get_cost(t, &cost);
  assert_int_equal(cost.params, 12 + 3 + 5);
  assert_true(cost.flops_per_step > 2 * 16 * 12 && cost.arena_bytes > 0);
  assert_int_equal(cost.planned_bytes,
                   cost.arena_bytes + cost.weight_bytes + cost.optimizer_bytes + cost.library_bytes + cost.loader_bytes);
  trainer_destroy(&t);
  tiny_destroy(&task);
  elbo_ctx_destroy(&ctx);
}

// Weights of every kind after `steps` steps, as text of bytes to compare: w, b, mean.
static void run_for(const train_config *c, int64_t steps, bool second, float out[30], int threads) {
  elbo_ctx *ctx = test_ctx(threads);
  tiny task;
  tiny_create(&task, ctx, c);
  if (second) tiny_second_phase(&task, task.data.batch, false);
  trainer *t;
  assert_ok(ctx, trainer_create(ctx, c, &task.task, &task.source, NULL, &t));
  for (int64_t i = 0; i < steps; i++) assert_ok(ctx, trainer_step(t));
  float *w, *b, *critic;
  find(trainer_weights(t), "net.w", &w);
  find(trainer_weights(t), "net.b", &b);
  memcpy(out, w, 12 * sizeof(float));
  memcpy(out + 12, b, 3 * sizeof(float));
  if (second) {
    find(trainer_weights(t), "critic.w", &critic);
    memcpy(out + 15, critic, 12 * sizeof(float));
  }
  trainer_destroy(&t);
  tiny_destroy(&task);
  elbo_ctx_destroy(&ctx);
}

static void accumulation_is_the_big_batch(void **state) {
  (void)state;
  for (int second = 0; second < 2; second++) {
    train_config c = tiny_config();
    float whole[30] = {0}, parts[30] = {0}, other_seed[30] = {0};
    int n = second ? 27 : 15;
    run_for(&c, 6, second, whole, 2);
    c.accumulate = 4;
    run_for(&c, 6, second, parts, 2);
    assert_close(parts, whole, n, 5e-6); // the same noise, or this would be far off:
    c.accumulate = 1, c.seed = 4;
    run_for(&c, 6, second, other_seed, 2);
    int64_t worst;
    assert_false(test_close(other_seed, whole, n, 1e-3, &worst));
  }
}

static void the_same_bytes_every_time(void **state) {
  (void)state;
  train_config c = tiny_config();
  float a[30] = {0}, b[30] = {0};
  run_for(&c, 9, true, a, 2);
  run_for(&c, 9, true, b, 2);
  assert_memory_equal(a, b, sizeof a);
}

// Of two averages each goes its own way, and the first is what it is alone.
static void averages_follow_their_formula(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  train_config c = tiny_config();
  static const double decays[] = {0.9, 0.97};
  c.ema = (config_floats){2, decays};
  tiny task;
  tiny_create(&task, ctx, &c);
  trainer *t;
  assert_ok(ctx, trainer_create(ctx, &c, &task.task, &task.source, NULL, &t));
  float *w, *ema[2], *mean, *ema_mean[2];
  double expected[2], expected_mean[2];
  find(trainer_weights(t), "net.w", &w);
  find(trainer_weights(t), "net.mean", &mean);
  assert_int_equal(t->n_averages, 2);
  assert_ptr_equal(trainer_averages(t), t->averages[0]);
  for (int i = 0; i < 2; i++) {
    find(t->averages[i], "net.w", &ema[i]);
    find(t->averages[i], "net.mean", &ema_mean[i]);
    expected[i] = (double)w[5], expected_mean[i] = (double)mean[1];
  }
  for (int n = 0; n < 100; n++) {
    assert_ok(ctx, trainer_step(t));
    for (int i = 0; i < 2; i++) {
      double decay = (1.0 + n) / (10.0 + n) < decays[i] ? (1.0 + n) / (10.0 + n) : decays[i];
      expected[i] = decay * expected[i] + (1 - decay) * (double)w[5];
      expected_mean[i] = decay * expected_mean[i] + (1 - decay) * (double)mean[1];
    }
  }
  for (int i = 0; i < 2; i++) {
    assert_near(ema[i][5], expected[i], 1e-5);
    assert_near(ema_mean[i][1], expected_mean[i], 1e-5);
    assert_true(w[5] != ema[i][5]);
  }
  assert_true(fabs(expected[0] - expected[1]) > 1e-4 && fabs(expected_mean[0] - expected_mean[1]) > 1e-3);
  assert_true(fabs((double)mean[1]) > 0.1); // the statistic did run
  elbo_train_cost two, none;
  trainer_get_cost(t, &two);
  trainer_destroy(&t);
  c.ema.count = 0;
  tiny_destroy(&task);
  tiny_create(&task, ctx, &c);
  assert_ok(ctx, trainer_create(ctx, &c, &task.task, &task.source, NULL, &t));
  assert_ptr_equal(trainer_averages(t), trainer_weights(t));
  trainer_get_cost(t, &none);
  assert_int_equal(two.weight_bytes, 3 * none.weight_bytes);
  trainer_destroy(&t);
  tiny_destroy(&task);
  elbo_ctx_destroy(&ctx);
}

// Groups: parameters move as their own optimiser says, the others as without groups; a rate of 0 freezes.
static void groups_have_optimisers_of_their_own(void **state) {
  (void)state;
  train_config c = tiny_config();
  c.clip_norm = 0, c.weight_decay = 0;
  static const char *const names[] = {"net.b", "net"}; // the longest beginning counts, not the first
  group_config groups[2] = {{0, 0, -1, -1, -1, -1}, {OPTIMIZER_SGD + 1, 0.25, 0, -1, -1, -1}};
  float plain[30], start[30], moved[30], half[30];
  run_for(&c, 1, false, plain, 1);
  c.learning_rate = 0;
  run_for(&c, 1, false, start, 1);
  c.learning_rate = 0.05;
  c.groups = (config_map){2, names, groups};
  run_for(&c, 1, false, moved, 1);
  assert_memory_equal(moved + 12, start + 12, 3 * sizeof(float));
  // what SGD moves by grows with its rate; Adam's first step is the rate itself in every element
  groups[1].learning_rate = 0.125;
  run_for(&c, 1, false, half, 1);
  for (int i = 0; i < 12; i++) {
    assert_near(fabsf(plain[i] - start[i]), 0.05, 1e-4);
    assert_near(moved[i] - start[i], 2 * (half[i] - start[i]), 1e-6);
    assert_true(moved[i] != start[i] && fabsf(moved[i] - plain[i]) > 1e-4f);
  }
  // one group that is as the section is changes nothing, to the bit; nor does one for half of the parameters, without clipping
  groups[0] = groups[1] = (group_config){0, -1, -1, -1, -1, -1};
  run_for(&c, 20, false, moved, 1);
  c.groups.count = 1;
  run_for(&c, 20, false, half, 1);
  c.groups.count = 0;
  run_for(&c, 20, false, plain, 1);
  assert_memory_equal(moved, plain, 15 * sizeof(float));
  assert_memory_equal(half, plain, 15 * sizeof(float));
  // clipping is by the norm over all groups
  c.clip_norm = 0.3;
  run_for(&c, 20, false, plain, 1);
  c.groups.count = 1;
  run_for(&c, 20, false, half, 1);
  assert_close(half, plain, 15, 1e-5);
}

static void a_group_of_nothing_is_refused(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  train_config c = tiny_config();
  static const char *const names[] = {"net.bb"};
  group_config group = {0, 0, -1, -1, -1, -1};
  c.groups = (config_map){1, names, &group};
  tiny task;
  trainer *t;
  tiny_create(&task, ctx, &c);
  assert_status(ctx, trainer_create(ctx, &c, &task.task, &task.source, NULL, &t), ELBO_ERROR_ARGUMENT, "train.groups.net.bb");
  assert_null(t);
  tiny_destroy(&task);
  elbo_ctx_destroy(&ctx);
}

static void a_switched_phase_rests(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  train_config c = tiny_config();
  tiny task;
  tiny_create(&task, ctx, &c);
  tiny_second_phase(&task, task.data.batch, true);
  trainer *t;
  assert_ok(ctx, trainer_create(ctx, &c, &task.task, &task.source, NULL, &t));
  float *w, before[12];
  find(trainer_weights(t), "critic.w", &w);
  int on = 0, off = 0;
  for (int i = 0; i < 20; i++) {
    memcpy(before, w, sizeof before);
    assert_ok(ctx, trainer_step(t));
    double sum = 0;
    for (int k = 0; k < TINY_IN; k++) sum += (double)task.data.x[k];
    bool moved = memcmp(before, w, sizeof before) != 0;
    assert_int_equal(moved, sum > 0);
    on += moved, off += !moved;
  }
  assert_true(on > 2 && off > 2);
  assert_int_equal(groups_updates(&t->phases[1].groups), on);
  assert_string_equal(t->values[t->phases[1].first_value].name, "critic.loss");
  trainer_destroy(&t);
  tiny_destroy(&task);
  elbo_ctx_destroy(&ctx);
}

static void a_step_allocates_nothing(void **state) {
  (void)state;
#ifndef COUNTS_ALLOCATIONS
  skip();
#else
  elbo_ctx *ctx = test_ctx(2);
  train_config c = tiny_config();
  c.accumulate = 2;
  tiny task;
  tiny_create(&task, ctx, &c);
  tiny_second_phase(&task, task.data.batch, false);
  trainer *t;
  assert_ok(ctx, trainer_create(ctx, &c, &task.task, &task.source, NULL, &t));
  for (int i = 0; i < 3; i++) assert_ok(ctx, trainer_step(t)); // the first may stage batches and pack weights
  int before = allocations;
  for (int i = 0; i < 20; i++) assert_ok(ctx, trainer_step(t));
  assert_int_equal(allocations, before);
  void *volatile block = malloc(1);
  free(block);
  assert_true(allocations > before); // it does count
  trainer_destroy(&t);
  tiny_destroy(&task);
  elbo_ctx_destroy(&ctx);
#endif
}

typedef enum fault { FAULT_DATA, FAULT_WEIGHT, FAULT_OPERATION, FAULT_OVERFLOW } fault;

// Trains until the planted fault stops it; the message goes to `text`.
static void provoke(fault what, const train_config *c, char *text, size_t size) {
  elbo_ctx *ctx = test_ctx(1);
  tiny task;
  tiny_create(&task, ctx, c);
  if (what == FAULT_DATA) task.data.nan_at = 16 * 4 + 3;
  if (what == FAULT_OPERATION) task.infinite_at = 4;
  trainer *t;
  assert_ok(ctx, trainer_create(ctx, c, &task.task, &task.source, NULL, &t));
  for (int i = 0; i < 4; i++) assert_ok(ctx, trainer_step(t));
  float *w, before[12];
  find(trainer_weights(t), "net.w", &w);
  if (what == FAULT_WEIGHT) {
    w[7] = NAN;
    elbo_store_touch(trainer_weights(t));
  }
  if (what == FAULT_OVERFLOW) {
    for (int i = 0; i < 4; i++) w[i] = 3e38f;
    elbo_store_touch(trainer_weights(t));
  }
  memcpy(before, w, sizeof before);
  assert_int_equal(trainer_step(t), ELBO_ERROR_NUMERIC);
  assert_memory_equal(before, w, sizeof before);
  assert_int_equal(trainer_steps_done(t), 4);
  snprintf(text, size, "%s", elbo_ctx_message(ctx));
  trainer_destroy(&t);
  tiny_destroy(&task);
  elbo_ctx_destroy(&ctx);
}

static void assert_contains(const char *text, const char *part) {
  if (!strstr(text, part)) fail_msg("'%s' does not name '%s'", text, part);
}

static void what_is_not_finite_is_named(void **state) {
  (void)state;
  char text[1024];
  train_config c = tiny_config();
  provoke(FAULT_DATA, &c, text, sizeof text);
  assert_contains(text, "step 5");
  assert_contains(text, "'x' of example 67 holds nan at element 2");
  provoke(FAULT_WEIGHT, &c, text, sizeof text);
  assert_contains(text, "parameter net.w: element 7 is nan");
  provoke(FAULT_OPERATION, &c, text, sizeof text);
  assert_contains(text, "step 5");
  assert_contains(text, "inf");
  provoke(FAULT_OVERFLOW, &c, text, sizeof text);
  assert_contains(text, "of net.w"); // the operation next to this parameter
  c.accumulate = 2;
  provoke(FAULT_DATA, &c, text, sizeof text);
  assert_contains(text, "example 67");
}

static void a_bad_step_can_be_skipped(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  train_config c = tiny_config();
  c.stop_on_nan = false;
  tiny task;
  tiny_create(&task, ctx, &c);
  task.data.nan_at = 16 * 4 + 3;
  trainer *t;
  assert_ok(ctx, trainer_create(ctx, &c, &task.task, &task.source, NULL, &t));
  float *mean;
  find(trainer_weights(t), "net.mean", &mean);
  for (int i = 0; i < 10; i++) {
    assert_ok(ctx, trainer_step(t));
    assert_int_equal(t->last_was_finite, i != 4);
  }
  assert_int_equal(t->skipped, 1);
  assert_int_equal(groups_updates(&t->phases[0].groups), 9);
  assert_true(isfinite(mean[0]) && isfinite(trainer_last_loss(t)));
  trainer_destroy(&t);
  tiny_destroy(&task);
  elbo_ctx_destroy(&ctx);
}

static void what_does_not_fit_is_refused(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  train_config c = tiny_config();
  tiny task;
  trainer *t;

  tiny_create(&task, ctx, &c);
  task.task.schedule = NULL;
  assert_ok(ctx, trainer_create(ctx, &c, &task.task, &task.source, NULL, &t));
  assert_status(ctx, trainer_step(t), ELBO_ERROR_ARGUMENT, "'beta'");
  trainer_destroy(&t);
  tiny_destroy(&task);

  tiny_create(&task, ctx, &c);
  task.data.batch = 8;
  assert_ok(ctx, trainer_create(ctx, &c, &task.task, &task.source, NULL, &t));
  assert_status(ctx, trainer_step(t), ELBO_ERROR_ARGUMENT, "(8,4)");
  trainer_destroy(&t);
  tiny_destroy(&task);

  tiny_create(&task, ctx, &c);
  task.phases[0].prefix = "nett.";
  assert_status(ctx, trainer_create(ctx, &c, &task.task, &task.source, NULL, &t), ELBO_ERROR_ARGUMENT, "nett.");
  assert_null(t);
  tiny_destroy(&task);

  tiny_create(&task, ctx, &c);
  task.phases[0].loss = task.metrics[1].value;
  assert_status(ctx, trainer_create(ctx, &c, &task.task, &task.source, NULL, &t), ELBO_ERROR_ARGUMENT, "loss");
  tiny_destroy(&task);
  elbo_ctx_destroy(&ctx);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(learns),
      cmocka_unit_test(accumulation_is_the_big_batch),
      cmocka_unit_test(the_same_bytes_every_time),
      cmocka_unit_test(averages_follow_their_formula),
      cmocka_unit_test(groups_have_optimisers_of_their_own),
      cmocka_unit_test(a_group_of_nothing_is_refused),
      cmocka_unit_test(a_switched_phase_rests),
      cmocka_unit_test(a_step_allocates_nothing),
      cmocka_unit_test(what_is_not_finite_is_named),
      cmocka_unit_test(a_bad_step_can_be_skipped),
      cmocka_unit_test(what_does_not_fit_is_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
