// engine.winograd: from the recipe to the kernels of training and of what uses the run, and past it from the context.
#include <stdlib.h>
#include <string.h>

#include <elbo/model.h>
#include <elbo/train.h>

#include "core/file.h"
#include "support/test.h"

static const char recipe_text[] = "model: {preset: ddpm, unet: {block_out_channels: [32, 32], norm_num_groups: 8, layers_per_block: 1,\n"
                                  "  down_block_types: [DownBlock2D, DownBlock2D], up_block_types: [UpBlock2D, UpBlock2D]}}\n"
                                  "data: {path: digits, limit: 32, size: 16}\n"
                                  "train: {steps: 1, batch_size: 4, learning_rate: 1e-3, ema: 0, seed: 3}\n";

static void train(elbo_ctx *ctx, const char *run, const char *key) {
  elbo_recipe *recipe;
  elbo_train_config config;
  elbo_train_result result;
  const char *path = test_path("recipe.yaml");
  test_write_file(path, recipe_text, strlen(recipe_text));
  assert_ok(ctx, elbo_recipe_load(ctx, path, 1, &key, &recipe));
  elbo_train_defaults(&config);
  config.out = run;
  assert_ok(ctx, elbo_train(ctx, recipe, &config, &result));
  elbo_recipe_destroy(&recipe);
}

static bool file_says(elbo_ctx *ctx, const char *run, const char *name, const char *what) {
  char path[4096], *text;
  size_t size;
  assert_ok(ctx, path_join(ctx, path, sizeof path, run, name));
  assert_ok(ctx, file_read(ctx, path, 1 << 22, &text, &size));
  bool says = strstr(text, what) != NULL;
  free(text);
  return says;
}

static elbo_array *sample(elbo_ctx *ctx, const char *run) {
  elbo_model *model;
  elbo_sample_config config;
  elbo_array *x;
  elbo_sample_defaults(&config);
  config.n = 2, config.n_options = 1, config.options = (const char *const[]){"steps=2"};
  assert_ok(ctx, elbo_model_load(ctx, run, NULL, &model));
  assert_ok(ctx, elbo_sample(model, &config, &x));
  elbo_model_destroy(&model);
  return x;
}

// How far apart; both are destroyed.
static double distance(elbo_array *a, elbo_array *b) {
  double most = 0;
  const float *x = a->data, *y = b->data;
  assert_int_equal(elbo_array_count(a), elbo_array_count(b));
  for (int64_t i = 0; i < elbo_array_count(a); i++) {
    double d = (double)x[i] - (double)y[i];
    if (!(d * d <= most * most)) most = d < 0 ? -d : d;
  }
  elbo_array_destroy(&a);
  elbo_array_destroy(&b);
  return most;
}

// The oldest variant: there the kernels are the library's own, and Winograd's are the fastest of them.
static void recipe_run_and_context(void **state) {
  (void)state;
  elbo_ctx *as_asked = test_ctx_isa(1, ISA_BASE), *always = NULL, *never = NULL;
  elbo_ctx_config config;
  elbo_ctx_defaults(&config);
  config.threads = 1, config.isa = isa_name(ISA_BASE), config.winograd = "auto";
  assert_int_equal(elbo_ctx_create(&config, NULL, 0, &always), ELBO_OK);
  config.winograd = "off";
  assert_int_equal(elbo_ctx_create(&config, NULL, 0, &never), ELBO_OK);
  const char *with = test_path("with"), *without = test_path("without"), *kernels = "checkpoints/step-1/training/kernels.json";
  train(as_asked, with, "engine.winograd=auto");
  train(as_asked, without, "engine.winograd=off");
  assert_true(file_says(as_asked, with, "recipe.yaml", "winograd: auto"));
  assert_true(file_says(as_asked, without, "recipe.yaml", "winograd: off"));
  assert_true(file_says(as_asked, with, kernels, "own:winograd"));
  assert_false(file_says(as_asked, without, kernels, "own:winograd"));
  // A model is sampled as its run says, or as the context does; the two differ by rounding.
  assert_true(distance(sample(as_asked, without), sample(never, without)) == 0);
  assert_true(distance(sample(as_asked, with), sample(always, with)) == 0);
  double apart = distance(sample(as_asked, without), sample(always, without));
  assert_true(apart > 0 && apart < 1e-3);
  assert_true(distance(sample(as_asked, with), sample(never, with)) > 0);
  elbo_ctx_destroy(&as_asked);
  elbo_ctx_destroy(&always);
  elbo_ctx_destroy(&never);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(recipe_run_and_context)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
