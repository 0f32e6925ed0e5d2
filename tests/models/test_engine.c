// The engine section: from the recipe to the kernels of training and of what uses the run, and past it from the context.
#include <math.h>
#include <stdio.h>
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

// Trains one of the recipes with a key more; gives the last loss.
static double train_text(elbo_ctx *ctx, const char *text, const char *run, const char *key, bool resume) {
  elbo_recipe *recipe;
  elbo_train_config config;
  elbo_train_result result;
  const char *path = test_path("recipe.yaml");
  test_write_file(path, text, strlen(text));
  assert_ok(ctx, elbo_recipe_load(ctx, path, 1, &key, &recipe));
  elbo_train_defaults(&config);
  config.out = run, config.resume = resume;
  assert_ok(ctx, elbo_train(ctx, recipe, &config, &result));
  elbo_recipe_destroy(&recipe);
  return result.loss;
}

static void train(elbo_ctx *ctx, const char *run, const char *key) { train_text(ctx, recipe_text, run, key, false); }

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

static elbo_array *sample_of(elbo_ctx *ctx, const char *run) {
  elbo_model *model;
  elbo_sample_config config;
  elbo_array *x;
  elbo_sample_defaults(&config);
  config.n = 4;
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

// train.memory_limit is of all of a step: kept at the cost of computing again, to the same result, or refused with the least that is kept.
static void memory_limit(void **state) {
  (void)state;
  static const char *const texts[] = {
      "model: {preset: ddpm, unet: {block_out_channels: [16, 16], norm_num_groups: 8, layers_per_block: 2,\n"
      "  down_block_types: [DownBlock2D, DownBlock2D], up_block_types: [UpBlock2D, UpBlock2D]}}\n"
      "data: {path: digits, limit: 64, size: 16}\n"
      "train: {steps: 2, batch_size: 16, learning_rate: 1e-3, ema: 0, seed: 3}\n",
      "model: {preset: vae-gan, latent: {dim: 4}, encoder: {type: conv, channels: [8, 8]}, decoder: {type: conv, channels: [8, 8]},\n"
      "  discriminator: {type: conv, channels: [8, 8]}}\n"
      "data: {path: digits, limit: 64}\n"
      "train: {steps: 2, batch_size: 32, learning_rate: 1e-3, ema: 0, seed: 3}\n"};
  elbo_ctx *ctx = test_ctx(1);
  for (int i = 0; i < 2; i++) {
    elbo_recipe *recipe;
    elbo_train_cost whole, cost;
    char key[64];
    const char *path = test_path("limited.yaml"), *keys = key;
    test_write_file(path, texts[i], strlen(texts[i]));
    assert_ok(ctx, elbo_recipe_load(ctx, path, 0, NULL, &recipe));
    assert_ok(ctx, elbo_train_dry_run(ctx, recipe, NULL, &whole));
    assert_true(whole.recomputed == 0 && whole.recomputed_bytes == 0 && whole.moved_bytes > 0);
    elbo_recipe_destroy(&recipe);
    int64_t limit = 100000, least = 0;
    for (int pass = 0; pass < 4; pass++) { // far too little; the least; a little less than that; between the least and all
      snprintf(key, sizeof key, "train.memory_limit=%lld", (long long)limit);
      assert_ok(ctx, elbo_recipe_load(ctx, path, 1, &keys, &recipe));
      if (pass == 0 || pass == 2) {
        assert_status(ctx, elbo_train_dry_run(ctx, recipe, NULL, &cost), ELBO_ERROR_MEMORY, "at the least");
        const char *figure = strstr(elbo_ctx_message(ctx), ", and ");
        assert_non_null(figure);
        if (pass == 0) least = strtoll(figure + 6, NULL, 10);
        assert_true(least < whole.planned_bytes);
      } else {
        assert_ok(ctx, elbo_train_dry_run(ctx, recipe, NULL, &cost));
        if (cost.planned_bytes > limit) fail_msg("%lld bytes planned, the limit is %lld", (long long)cost.planned_bytes, (long long)limit);
        assert_true(cost.recomputed > 0);
      }
      elbo_recipe_destroy(&recipe);
      limit = pass == 0 ? least : pass == 1 ? least - 4096 : (least + whole.planned_bytes) / 2;
    }
    snprintf(key, sizeof key, "train.memory_limit=%lld", (long long)least);
    char plain[64], limited[64];
    snprintf(plain, sizeof plain, "plain-%d", i), snprintf(limited, sizeof limited, "limited-%d", i);
    const double loss = train_text(ctx, texts[i], test_path(plain), "train.memory_limit=0", false);
    assert_near(train_text(ctx, texts[i], test_path(limited), key, false), loss, 1e-5 * fabs(loss));
  }
  elbo_ctx_destroy(&ctx);
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

// A convolutional and a fully connected VAE on the digits, their last logged losses in nats.
static const char *const bf16_recipes[] = {"model: {preset: vae, latent: {dim: 8}, encoder: {type: mlp, hidden: [128], activation: relu},\n"
                                           "  decoder: {type: mlp, hidden: [128], activation: relu, likelihood: bernoulli}}\n"
                                           "data: {path: digits}\n"
                                           "train: {steps: 300, batch_size: 64, learning_rate: 2e-3, ema: 0, seed: 5, log_every: 100}\n",
                                           "model: {preset: vae, latent: {dim: 8}, encoder: {type: conv, channels: [16, 32]},\n"
                                           "  decoder: {type: conv, channels: [32, 16], likelihood: bernoulli}}\n"
                                           "data: {path: digits}\n"
                                           "train: {steps: 120, batch_size: 64, learning_rate: 2e-3, ema: 0, seed: 5, log_every: 40}\n"};

// What rounding the operands does to the loss is less than what another seed does (about 1 %).
static void bf16_trains_as_float32(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  const char *kernels = "training/kernels.json";
  char run[64], path[64];
  for (int i = 0; i < 2; i++) {
    snprintf(run, sizeof run, "float32-%d", i);
    double float32 = train_text(ctx, bf16_recipes[i], test_path(run), "engine.precision=float32", false);
    for (int own = 0; own <= (ctx->isa == ISA_V4 && cpu_bf16() != BF16_NONE); own++) {
      snprintf(run, sizeof run, "bf16-%d-%d", i, own);
      snprintf(path, sizeof path, "checkpoints/step-%d/%s", i ? 120 : 300, kernels);
      double bf16 =
          train_text(ctx, bf16_recipes[i], test_path(run), own ? "engine.precision=bfloat16" : "engine.precision=bfloat16-emulated", false);
      print_message("%s: float32 %.4f nats, bfloat16%s %.4f\n", i ? "convolutions" : "fully connected", float32, own ? "" : " emulated",
                    bf16);
      assert_true(fabs(bf16 - float32) <= 0.01 * float32);
      assert_true(bf16 != float32);
      assert_true(file_says(ctx, test_path(run), "recipe.yaml", own ? "precision: bfloat16\n" : "precision: bfloat16-emulated"));
      assert_true(file_says(ctx, test_path(run), path, "_bf16"));
    }
  }
  elbo_ctx_destroy(&ctx);
}

// Stopped and taken up again, bit for bit; refused on kernels that lack it, for training and for using the run.
static void bf16_resumes_and_is_refused(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(2), *old = test_ctx_isa(1, ISA_BASE), *over = NULL;
  bool own = ctx->isa == ISA_V4 && cpu_bf16() != BF16_NONE;
  const char *key = own ? "engine.precision=bfloat16" : "engine.precision=bfloat16-emulated";
  const char *whole = test_path("whole"), *parts = test_path("parts");
  char first[1024], rest[1024];
  snprintf(first, sizeof first, "%s", bf16_recipes[0]);
  memcpy(strstr(first, "steps: 300"), "steps: 020", 10);
  snprintf(rest, sizeof rest, "%s", bf16_recipes[0]);
  memcpy(strstr(rest, "steps: 300"), "steps: 040", 10);
  train_text(ctx, rest, whole, key, false);
  train_text(ctx, first, parts, key, false);
  train_text(ctx, rest, parts, key, true);
  assert_true(distance(sample_of(ctx, whole), sample_of(ctx, parts)) == 0);
  if (own) {
    elbo_model *model;
    elbo_array *x;
    elbo_ctx_config config;
    elbo_ctx_defaults(&config);
    config.isa = isa_name(ISA_BASE), config.precision = "float32";
    assert_int_equal(elbo_ctx_create(&config, NULL, 0, &over), ELBO_OK);
    assert_ok(old, elbo_model_load(old, whole, NULL, &model));
    assert_status(old, elbo_sample(model, NULL, &x), ELBO_ERROR_UNSUPPORTED,
                  "engine.precision: bfloat16 needs a processor with AVX512_BF16");
    elbo_model_destroy(&model);
    elbo_array_destroy(&(elbo_array *){sample_of(over, whole)});
  } else {
    print_message("skipped: this machine lacks AVX512_BF16\n");
  }
  elbo_ctx_destroy(&ctx);
  elbo_ctx_destroy(&old);
  elbo_ctx_destroy(&over);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(recipe_run_and_context), cmocka_unit_test(memory_limit),
                                     cmocka_unit_test(bf16_trains_as_float32), cmocka_unit_test(bf16_resumes_and_is_refused)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
