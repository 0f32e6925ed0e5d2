// Loads a trained model and writes samples as a picture and as an array: sample RUN grid.png x.npy
#include <elbo/image.h>
#include <elbo/model.h>
#include <stdio.h>

int main(int argc, char **argv) {
  char message[256] = "";
  elbo_ctx *ctx = NULL;
  elbo_model *model = NULL;
  elbo_array *x = NULL, *grid = NULL;
  elbo_model_info info;
  elbo_sample_config config;
  if (argc != 4) return fprintf(stderr, "usage: sample RUN grid.png x.npy\n"), 2;
  if (elbo_ctx_create(NULL, message, sizeof message, &ctx) != ELBO_OK) return fprintf(stderr, "%s\n", message), 1;
  elbo_sample_defaults(&config);
  config.n = 25;
  config.seed = 7;
  int ok = elbo_model_load(ctx, argv[1], NULL, &model) == ELBO_OK && elbo_sample(model, &config, &x) == ELBO_OK &&
           elbo_image_grid(ctx, x, 5, 256, &grid) == ELBO_OK && elbo_image_write(ctx, argv[2], grid) == ELBO_OK &&
           elbo_npy_write(ctx, argv[3], x) == ELBO_OK;
  if (ok) {
    elbo_model_get_info(model, &info);
    printf("%lld samples of %d x %d x %d from a code of %d numbers\n", (long long)x->dim[0], info.height, info.width, info.channels,
           info.latent_dim);
  } else
    fprintf(stderr, "%s\n", elbo_ctx_message(ctx));
  elbo_array_destroy(&grid);
  elbo_array_destroy(&x);
  elbo_model_destroy(&model);
  elbo_ctx_destroy(&ctx);
  return !ok;
}
