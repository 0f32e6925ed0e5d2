// train.init: training that starts from the weights of a model, all of them or none.
#include "models/vae_cases.h"

#include <elbo/model.h>
#include <elbo/train.h>

#include "core/file.h"
#include "graph/store.h"
#include "models/model.h"

static const char *const tiny = "model: {latent: {dim: 3}, encoder: {type: mlp, hidden: [9]}, decoder: {type: mlp, hidden: [8]}}\n"
                                "data: {path: digits, limit: 64, holdout: 0}\n"
                                "train: {steps: 3, batch_size: 8, ema: 0.9, learning_rate: 0.01}\n";

typedef struct run_keys {
  const char *key[4];
  int n;
} run_keys;

static elbo_status try_training(elbo_ctx *ctx, const char *out, bool resume, run_keys keys) {
  elbo_recipe *r;
  elbo_train_config config;
  elbo_train_result result;
  const char *path = test_path("tiny.yaml");
  test_write_file(path, tiny, strlen(tiny));
  assert_ok(ctx, elbo_recipe_load(ctx, path, keys.n, keys.key, &r));
  elbo_train_defaults(&config);
  config.out = out, config.resume = resume;
  elbo_status status = elbo_train(ctx, r, &config, &result);
  elbo_recipe_destroy(&r);
  return status;
}

static elbo_model *load(elbo_ctx *ctx, const char *path, bool raw) {
  elbo_model *m;
  elbo_model_config config;
  elbo_model_defaults(&config);
  config.ema = raw ? -1 : 0;
  assert_ok(ctx, elbo_model_load(ctx, path, &config, &m));
  return m;
}

static bool same_weights(elbo_ctx *ctx, const char *a, bool raw_a, const char *b, bool raw_b) {
  elbo_model *x = load(ctx, a, raw_a), *y = load(ctx, b, raw_b);
  assert_true(store_same_layout(x->store, y->store));
  bool same = true;
  for (int kind = 0; kind < 3; kind++)
    same = same && (!x->store->count[kind] ||
                    memcmp(x->store->data[kind], y->store->data[kind], (size_t)x->store->count[kind] * sizeof(float)) == 0);
  elbo_model_destroy(&x), elbo_model_destroy(&y);
  return same;
}

// The key of a directory below the test's own.
static const char *init_from(const char *name) {
  static char text[4][512]; // as many as are in use at once
  static int at;
  char *out = text[at++ % 4];
  snprintf(out, sizeof text[0], "train.init=%s", test_path(name));
  return out;
}

static void test_start(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  assert_ok(ctx, try_training(ctx, test_path("first"), false, (run_keys){.n = 0}));
  assert_false(same_weights(ctx, test_path("first"), false, test_path("first"), true));
  // nothing is learned: raw weights and averages are the averages of the first, whatever the seed
  run_keys frozen = {{init_from("first"), "train.learning_rate=0", "train.seed=5"}, 3};
  assert_ok(ctx, try_training(ctx, test_path("second"), false, frozen));
  assert_true(same_weights(ctx, test_path("second"), true, test_path("first"), false));
  assert_true(same_weights(ctx, test_path("second"), false, test_path("first"), false));
  // and without the key they are others
  assert_ok(ctx, try_training(ctx, test_path("third"), false, (run_keys){{"train.learning_rate=0", "train.seed=5"}, 2}));
  assert_false(same_weights(ctx, test_path("third"), true, test_path("first"), false));
  elbo_ctx_destroy(&ctx);
}

static int stop_at_two(void *user, const char *what, int64_t done, int64_t total, const char *text) {
  (void)user, (void)what, (void)total, (void)text;
  return done < 2;
}

// A run that goes on has its weights, and need not find those that it began with.
static void test_resume(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  elbo_recipe *r;
  elbo_train_config config;
  elbo_train_result result;
  run_keys whole = {{init_from("origin"), "train.steps=4"}, 2};
  const char *path = test_path("tiny.yaml");
  assert_ok(ctx, try_training(ctx, test_path("origin"), false, (run_keys){.n = 0}));
  assert_ok(ctx, try_training(ctx, test_path("whole"), false, whole));
  assert_ok(ctx, elbo_recipe_load(ctx, path, whole.n, whole.key, &r));
  elbo_train_defaults(&config);
  config.out = test_path("parts"), config.progress = stop_at_two;
  assert_int_equal(elbo_train(ctx, r, &config, &result), ELBO_ERROR_STOPPED);
  elbo_recipe_destroy(&r);
  assert_int_equal(rename(test_path("origin"), test_path("away")), 0);
  assert_ok(ctx, try_training(ctx, test_path("parts"), true, whole));
  assert_true(same_weights(ctx, test_path("parts"), true, test_path("whole"), true));
  assert_true(same_weights(ctx, test_path("parts"), false, test_path("whole"), false));
  elbo_ctx_destroy(&ctx);
}

static void test_refused(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  assert_ok(ctx, try_training(ctx, test_path("model"), false, (run_keys){.n = 0}));
  run_keys wide = {{init_from("model"), "model.decoder.hidden=[7]"}, 2}, deep = {{init_from("model"), "model.encoder.hidden=[9, 9]"}, 2},
           absent = {{init_from("nowhere")}, 1};
  assert_status(ctx, try_training(ctx, NULL, false, wide), ELBO_ERROR_ARGUMENT, "of another shape: decoder.");
  assert_status(ctx, try_training(ctx, NULL, false, wide), ELBO_ERROR_ARGUMENT, "(8,3) where (7,3) was expected");
  assert_status(ctx, try_training(ctx, NULL, false, deep), ELBO_ERROR_ARGUMENT, "missing: encoder.");
  assert_status(ctx, try_training(ctx, NULL, false, deep), ELBO_ERROR_ARGUMENT, "train.init: ");
  assert_status(ctx, try_training(ctx, NULL, false, absent), ELBO_ERROR_IO, "train.init: ");
  // the dry run says so before anything runs
  elbo_recipe *r;
  elbo_train_cost cost;
  assert_ok(ctx, elbo_recipe_load(ctx, test_path("tiny.yaml"), deep.n, deep.key, &r));
  assert_status(ctx, elbo_train_dry_run(ctx, r, NULL, &cost), ELBO_ERROR_ARGUMENT, "missing: encoder.");
  elbo_recipe_destroy(&r);
  elbo_ctx_destroy(&ctx);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_start), cmocka_unit_test(test_resume), cmocka_unit_test(test_refused)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
