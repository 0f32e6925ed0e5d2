// Recipes: loaded, overridden, listed, written and read back; every one that comes with the project is sound.
#include "models/vae_cases.h"

#include "models/recipe.h"
#include "models/workload.h"

static const char *write_recipe(const char *name, const char *text) {
  const char *path = test_path(name);
  test_write_file(path, text, strlen(text));
  return path;
}

static char *value(elbo_ctx *ctx, const elbo_recipe *r, const char *key) {
  char *out;
  assert_ok(ctx, elbo_recipe_get(r, key, &out));
  return out;
}

static void expect(elbo_ctx *ctx, const elbo_recipe *r, const char *key, const char *want) {
  char *got = value(ctx, r, key);
  assert_string_equal(got, want);
  free(got);
}

static void test_load(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  const char *path = write_recipe("r.yaml", "# a line\nmodel: {latent: {dim: 7}, encoder: {channels: [8, 16]}}\ntrain: {steps: 10}\n");
  static const char *const overrides[] = {"train.steps=20", "model.decoder.channels=[4]", "train.steps=30"};
  elbo_recipe *r, *again;
  assert_ok(ctx, elbo_recipe_load(ctx, path, 3, overrides, &r));
  expect(ctx, r, "model.latent.dim", "7");
  expect(ctx, r, "train.steps", "30");
  expect(ctx, r, "model.encoder.channels", "[8, 16]");
  expect(ctx, r, "model.decoder.channels", "[4]");
  char *none, *text[2];
  assert_status(ctx, elbo_recipe_get(r, "model.latent.dimm", &none), ELBO_ERROR_ARGUMENT, "dimm");
  // what is written reads back as the same
  assert_ok(ctx, elbo_recipe_text(r, &text[0]));
  assert_ok(ctx, elbo_recipe_load(ctx, write_recipe("again.yaml", text[0]), 0, NULL, &again));
  assert_ok(ctx, elbo_recipe_text(again, &text[1]));
  assert_string_equal(text[0], text[1]);
  free(text[0]), free(text[1]);
  elbo_recipe_destroy(&again);
  elbo_recipe_destroy(&r);
  // the list form of one stage
  assert_ok(ctx, elbo_recipe_load(ctx, write_recipe("s.yaml", "stages:\n  - model: {latent: {dim: 9}}\n"), 1, overrides, &r));
  expect(ctx, r, "model.latent.dim", "9");
  expect(ctx, r, "train.steps", "20");
  elbo_recipe_destroy(&r);
  elbo_ctx_destroy(&ctx);
}

static void test_refused(void **state) {
  (void)state;
  static const struct {
    const char *text, *part;
  } bad[] = {
      {"model: {latent: {dimm: 7}}\n", "did you mean 'dim'"},
      {"\n\ntrain: {steps: many}\n", "bad.yaml:3"},
      {"model: {latent: {dim: 0}}\n", "model.latent.dim"},
      {"modle: {}\n", "did you mean 'model'"},
      {"model: {decoder: {likelihood: bernouli}}\n", "bernoulli"},
      {"- a\n", "map"},
      {"stages: []\n", "stages"},
      {"stages: [{}, {}]\n", "two are called"},
      {"stages: [{}]\ntrain: {}\n", "stages"},
  };
  elbo_ctx *ctx = test_ctx(1);
  elbo_recipe *r;
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    elbo_status status = elbo_recipe_load(ctx, write_recipe("bad.yaml", bad[i].text), 0, NULL, &r);
    if (status == ELBO_OK || !strstr(elbo_ctx_message(ctx), bad[i].part))
      fail_msg("%s: %s, message '%s'", bad[i].text, elbo_status_name(status), elbo_ctx_message(ctx));
    assert_null(r);
  }
  assert_status(ctx, elbo_recipe_load(ctx, "no-such-recipe", 0, NULL, &r), ELBO_ERROR_ARGUMENT, "vae-mnist-mlp");
  assert_status(ctx, elbo_recipe_load(ctx, test_path("absent.yaml"), 0, NULL, &r), ELBO_ERROR_IO, "absent.yaml");
  elbo_ctx_destroy(&ctx);
}

// One name, two recipes: a training at full length, and the workload that is compared with other programs.
static void test_benchmark_names(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  elbo_recipe *r;
  static const char *const forward[] = {"bench.forward=true"};
  assert_ok(ctx, elbo_recipe_load(ctx, "ddpm-cifar10", 0, NULL, &r));
  expect(ctx, r, "train.batch_size", "128");
  expect(ctx, r, "bench.forward", "false");
  elbo_recipe_destroy(&r);
  assert_ok(ctx, elbo_recipe_load_benchmark(ctx, "ddpm-cifar10", 0, NULL, &r));
  expect(ctx, r, "train.batch_size", "16");
  expect(ctx, r, "model.unet.dropout", "0");
  elbo_recipe_destroy(&r);
  assert_ok(ctx, elbo_recipe_load_benchmark(ctx, "ddpm-cifar10-forward-b1", 0, NULL, &r));
  expect(ctx, r, "bench.forward", "true");
  elbo_recipe_destroy(&r);
  assert_ok(ctx, elbo_recipe_load_benchmark(ctx, "vae-mnist-mlp", 1, forward, &r)); // there is no workload of that name
  expect(ctx, r, "bench.forward", "true");
  elbo_recipe_destroy(&r);
  assert_status(ctx, elbo_recipe_load_benchmark(ctx, "no-such-recipe", 0, NULL, &r), ELBO_ERROR_ARGUMENT, "no-such-recipe");
  elbo_ctx_destroy(&ctx);
}

typedef struct listing {
  elbo_ctx *ctx;
  int count;
  char last[128];
} listing;

static elbo_dataset *data_of(elbo_ctx *ctx, int64_t h, int64_t w, int64_t c) {
  elbo_array *x, *label;
  elbo_dataset *data;
  int64_t n = 800; // as many as the largest batch, and what is held out
  assert_ok(ctx, elbo_array_create(ctx, ELBO_U8, 4, (int64_t[]){n, h, w, c}, &x));
  assert_ok(ctx, elbo_array_create(ctx, ELBO_I32, 1, &n, &label));
  for (int64_t i = 0; i < n; i++) ((int32_t *)label->data)[i] = (int32_t)(i % 10);
  assert_ok(ctx, elbo_dataset_from_arrays(ctx, x, label, 0, NULL, &data));
  elbo_array_destroy(&x), elbo_array_destroy(&label);
  return data;
}

// Fits the data that it is for, builds the training graph of every stage, and begins with a comment that says what it is.
static int check_recipe(void *user, const char *name, const char *path, const char *summary) {
  listing *l = user;
  elbo_recipe *r;
  workload *w;
  (void)path;
  l->count++;
  assert_true(strcmp(l->last, name) < 0);
  snprintf(l->last, sizeof l->last, "%s", name);
  if (strlen(summary) < 10) fail_msg("recipe %s has no first line that says what it is", name);
  assert_ok(l->ctx, elbo_recipe_load(l->ctx, name, 0, NULL, &r));
  bool points = strstr(name, "2d") != NULL, colour = strstr(name, "cifar") || strstr(name, "shapes");
  int64_t side = points ? 1 : strstr(name, "cifar") ? 32 : strstr(name, "shapes") ? 64 : 28;
  elbo_dataset *data = data_of(l->ctx, side, side, points ? 2 : colour ? 3 : 1);
  for (int i = 0; i < elbo_recipe_stage_count(r); i++) {
    assert_ok(l->ctx, workload_create(l->ctx, elbo_recipe_stage(r, i), data, NULL, &w));
    workload_destroy(&w);
  }
  elbo_dataset_destroy(&data);
  elbo_recipe_destroy(&r);
  return 1;
}

static void test_all(void **state) {
  (void)state;
  listing l = {.ctx = test_ctx(1)};
  assert_ok(l.ctx, elbo_recipe_list(l.ctx, check_recipe, &l));
  assert_true(l.count >= 2);
  elbo_ctx_destroy(&l.ctx);
}

static void test_counts(void **state) {
  (void)state;
  static const struct {
    const char *name;
    int64_t side, channels, params;
  } known[] = {{"vae-mnist-mlp", 28, 1, 652824},
               {"mlp-vae", 28, 1, 652824},
               {"conv-vae-mnist", 28, 1, 274537},
               {"conv-vae-cifar", 32, 3, 2960387},
               {"akl-64", 64, 3, 3789095}};
  elbo_ctx *ctx = test_ctx(1);
  for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
    elbo_recipe *r;
    elbo_train_cost cost;
    elbo_dataset *data = data_of(ctx, known[i].side, known[i].side, known[i].channels);
    assert_ok(ctx, elbo_recipe_load(ctx, known[i].name, 0, NULL, &r));
    assert_ok(ctx, elbo_train_dry_run(ctx, r, data, &cost));
    assert_int_equal(cost.params, known[i].params);
    elbo_dataset_destroy(&data);
    elbo_recipe_destroy(&r);
  }
  elbo_ctx_destroy(&ctx);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_load), cmocka_unit_test(test_refused), cmocka_unit_test(test_benchmark_names),
      cmocka_unit_test(test_all),  cmocka_unit_test(test_counts),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
