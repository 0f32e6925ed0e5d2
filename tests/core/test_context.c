// Contexts: settings, messages of several threads, the log.
#include "support/test.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void test_settings(void **state) {
  (void)state;
  elbo_ctx_config config;
  elbo_ctx *ctx;
  char message[256] = "x";
  elbo_ctx_defaults(&config);
  assert_int_equal(config.size, sizeof config);
  assert_int_equal(elbo_ctx_create(&config, message, sizeof message, &ctx), ELBO_OK);
  assert_string_equal(message, "");
  assert_true(elbo_ctx_threads(ctx) >= 1);
  assert_string_equal(elbo_ctx_isa(ctx), isa_name(isa_best()));
  assert_string_equal(elbo_ctx_message(ctx), "");
  elbo_ctx_destroy(&ctx);
  assert_null(ctx);
  elbo_ctx_destroy(&ctx);
  elbo_ctx_destroy(NULL);

  assert_int_equal(elbo_ctx_create(NULL, NULL, 0, &ctx), ELBO_OK);
  elbo_ctx_destroy(&ctx);

  config.threads = -1;
  assert_int_equal(elbo_ctx_create(&config, message, sizeof message, &ctx), ELBO_ERROR_ARGUMENT);
  assert_null(ctx);
  assert_non_null(strstr(message, "threads: -1; expected 0"));
  assert_int_equal(elbo_ctx_create(&config, message, 8, &ctx), ELBO_ERROR_ARGUMENT);
  assert_string_equal(message, "threads");
  assert_int_equal(elbo_ctx_create(&config, NULL, 0, &ctx), ELBO_ERROR_ARGUMENT);

  elbo_ctx_defaults(&config);
  config.size = 3;
  assert_int_equal(elbo_ctx_create(&config, message, sizeof message, &ctx), ELBO_ERROR_ARGUMENT);
  assert_non_null(strstr(message, "elbo_ctx_defaults"));
  assert_int_equal(elbo_ctx_create(NULL, message, sizeof message, NULL), ELBO_ERROR_ARGUMENT);
}

static void test_variants(void **state) {
  (void)state;
  elbo_ctx_config config;
  elbo_ctx *ctx;
  char message[256];
  for (int isa = ISA_BASE; isa < ISA_COUNT; isa++) {
    elbo_ctx_defaults(&config);
    config.isa = isa_name((isa_level)isa);
    elbo_status status = elbo_ctx_create(&config, message, sizeof message, &ctx);
    if (isa <= (int)isa_best()) {
      assert_int_equal(status, ELBO_OK);
      assert_string_equal(elbo_ctx_isa(ctx), isa_name((isa_level)isa));
    } else {
      assert_int_equal(status, ELBO_ERROR_UNSUPPORTED);
      assert_non_null(strstr(message, "not on this machine"));
    }
    elbo_ctx_destroy(&ctx);
  }
  elbo_ctx_defaults(&config);
  config.winograd = "on";
  assert_int_equal(elbo_ctx_create(&config, message, sizeof message, &ctx), ELBO_ERROR_ARGUMENT);
  assert_non_null(strstr(message, "winograd: 'on'; one of auto, off was expected"));
  config.winograd = "off";
  config.isa = "v5";
  assert_int_equal(elbo_ctx_create(&config, message, sizeof message, &ctx), ELBO_ERROR_ARGUMENT);
  assert_non_null(strstr(message, "'v5'"));
}

static void test_messages(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  assert_int_equal(fail(ctx, ELBO_ERROR_FORMAT, "%s:%d: bad", "file", 3), ELBO_ERROR_FORMAT);
  assert_string_equal(elbo_ctx_message(ctx), "file:3: bad");
  // A message may be made of the present one.
  assert_int_equal(fail(ctx, ELBO_ERROR_IO, "again: %s", elbo_ctx_message(ctx)), ELBO_ERROR_IO);
  assert_string_equal(elbo_ctx_message(ctx), "again: file:3: bad");
  assert_int_equal(fail_within(ctx, ELBO_ERROR_IO, "stage %d", 2), ELBO_ERROR_IO);
  assert_string_equal(elbo_ctx_message(ctx), "stage 2: again: file:3: bad");
  assert_int_equal(fail_memory(ctx, 12, "a test"), ELBO_ERROR_MEMORY);
  assert_string_equal(elbo_ctx_message(ctx), "out of memory: 12 bytes for a test");
  assert_int_equal(fail(NULL, ELBO_ERROR_STATE, "lost"), ELBO_ERROR_STATE);
  assert_string_equal(elbo_ctx_message(NULL), "");
  // Longer than there is room for: cut, not overrun.
  char *text = malloc(100000);
  memset(text, 'a', 99999), text[99999] = 0;
  assert_int_equal(fail(ctx, ELBO_ERROR_STATE, "%s", text), ELBO_ERROR_STATE);
  assert_int_equal(fail_within(ctx, ELBO_ERROR_STATE, "%s", text), ELBO_ERROR_STATE);
  assert_in_range(strlen(elbo_ctx_message(ctx)), 1000, 4000);
  free(text);
  for (int s = ELBO_OK; s <= ELBO_ERROR_INTERNAL; s++) assert_string_not_equal(elbo_status_name((elbo_status)s), "unknown");
  assert_string_equal(elbo_status_name((elbo_status)99), "unknown");
  assert_true(strlen(elbo_version()) > 0);
  elbo_ctx_destroy(&ctx);
}

typedef struct talker {
  elbo_ctx *ctx;
  int id, wrong;
} talker;

static void *talk(void *arg) {
  talker *t = arg;
  char mine[32];
  if (elbo_ctx_message(t->ctx)[0]) t->wrong++; // a new thread has not failed yet
  for (int i = 0; i < 200; i++) {
    snprintf(mine, sizeof mine, "thread %d call %d", t->id, i);
    (void)fail(t->ctx, ELBO_ERROR_STATE, "%s", mine);
    if (strcmp(elbo_ctx_message(t->ctx), mine) != 0) t->wrong++;
  }
  return NULL;
}

// Each thread sees its own message only; more threads than there are slots, one after another, neither fail nor grow without end.
static void test_threads_messages(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  pthread_t thread[8];
  talker talkers[8];
  (void)fail(ctx, ELBO_ERROR_STATE, "main");
  for (int round = 0; round < 150; round++) {
    for (int i = 0; i < 8; i++) {
      talkers[i] = (talker){.ctx = ctx, .id = round * 8 + i};
      assert_int_equal(pthread_create(&thread[i], NULL, talk, &talkers[i]), 0);
    }
    for (int i = 0; i < 8; i++) {
      pthread_join(thread[i], NULL);
      assert_int_equal(talkers[i].wrong, 0);
    }
    if (round < 100) assert_string_equal(elbo_ctx_message(ctx), "main");
  }
  elbo_ctx_destroy(&ctx);
}

typedef struct log_record {
  int count;
  elbo_log_level level;
  char text[256];
} log_record;

static void record(void *user, elbo_log_level level, const char *text) {
  log_record *r = user;
  r->count++;
  r->level = level;
  snprintf(r->text, sizeof r->text, "%s", text);
}

static void test_log(void **state) {
  (void)state;
  log_record r = {0};
  elbo_ctx_config config;
  elbo_ctx *ctx;
  elbo_ctx_defaults(&config);
  config.log = record;
  config.log_user = &r;
  config.threads = 1000; // more than there are cores: allowed, with a warning
  assert_int_equal(elbo_ctx_create(&config, NULL, 0, &ctx), ELBO_OK);
  assert_int_equal(elbo_ctx_threads(ctx), 1000);
  assert_int_equal(r.count, 1);
  assert_int_equal(r.level, ELBO_LOG_WARNING);
  assert_non_null(strstr(r.text, "1000 threads"));
  log_info(ctx, "step %d", 5);
  assert_int_equal(r.level, ELBO_LOG_INFO);
  assert_string_equal(r.text, "step 5");
  log_debug(ctx, "%s", "x");
  assert_int_equal(r.count, 3);
  log_warning(NULL, "lost");
  elbo_ctx_destroy(&ctx);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_settings),         cmocka_unit_test(test_variants), cmocka_unit_test(test_messages),
      cmocka_unit_test(test_threads_messages), cmocka_unit_test(test_log),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
