// Trains a VAE on the digits that come with elbo and writes sixteen samples: train RUN [STEPS]
#include <elbo/image.h>
#include <elbo/model.h>
#include <elbo/train.h>
#include <stdio.h>

static int report(void *user, const char *what, int64_t done, int64_t total, const char *text) {
  (void)user;
  if (done % 100 == 0 || done == total) fprintf(stderr, "%s %lld/%lld  %s\n", what, (long long)done, (long long)total, text);
  return 1; // 0 would write a checkpoint and stop
}

int main(int argc, char **argv) {
  char message[256] = "", steps[64];
  elbo_ctx *ctx = NULL;
  elbo_recipe *recipe = NULL;
  elbo_model *model = NULL;
  elbo_array *x = NULL, *grid = NULL;
  elbo_train_config training;
  elbo_train_result result;
  elbo_sample_config sampling;
  if (argc < 2) return fprintf(stderr, "usage: train RUN [STEPS]\n"), 2;
  snprintf(steps, sizeof steps, "train.steps=%s", argc > 2 ? argv[2] : "1000");
  const char *overrides[] = {"data.path=digits", "data.binarize=dynamic", steps};
  if (elbo_ctx_create(NULL, message, sizeof message, &ctx) != ELBO_OK) return fprintf(stderr, "%s\n", message), 1;

  elbo_train_defaults(&training);
  training.out = argv[1];
  training.progress = report;
  elbo_sample_defaults(&sampling);
  sampling.n = 16;
  int ok = elbo_recipe_load(ctx, "vae", 3, overrides, &recipe) == ELBO_OK && elbo_train(ctx, recipe, &training, &result) == ELBO_OK &&
           elbo_model_load(ctx, argv[1], NULL, &model) == ELBO_OK && elbo_sample(model, &sampling, &x) == ELBO_OK &&
           elbo_image_grid(ctx, x, 0, 256, &grid) == ELBO_OK && elbo_image_write(ctx, "samples.png", grid) == ELBO_OK;
  if (ok)
    printf("%lld steps, loss %.2f: samples.png\n", (long long)result.steps, result.loss);
  else
    fprintf(stderr, "%s\n", elbo_ctx_message(ctx));

  elbo_array_destroy(&grid);
  elbo_array_destroy(&x);
  elbo_model_destroy(&model);
  elbo_recipe_destroy(&recipe);
  elbo_ctx_destroy(&ctx);
  return !ok;
}
