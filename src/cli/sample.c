// elbo sample
#include <string.h>

#include "cli/cli.h"

static int run(const command *self, int argc, char **argv) {
  common_options common = {0};
  model_options which = {0};
  array_options arrays = {0};
  elbo_sample_config config;
  elbo_sample_defaults(&config);
  int64_t n = 64, label = -1, columns = 0;
  int draw = 0;
  double temperature = 1;
  const char *out = NULL, *condition = NULL;
  text_list positional;
  const option options[] = {
      {"number", 'n', OPTION_INT, &n, 1, 1e9, "N", "how many (default: 64)"},
      {"out", 'o', OPTION_TEXT, &out, 0, 0, "PATH", "grid.png, x.npy, or a directory of pictures"},
      {"class", 0, OPTION_INT, &label, 0, 1e9, "C", "class, for a conditional model (default: all in turn)"},
      {"condition", 0, OPTION_TEXT, &condition, 0, 0, "v.npy", "a vector, or several in turn, for a model conditioned on a vector"},
      {"draw", 0, OPTION_FLAG, &draw, 0, 0, NULL, "draw pixels from the likelihood instead of showing its mean"},
      {"temperature", 0, OPTION_FLOAT, &temperature, 0, 100, "T", "standard deviation of the prior (default: 1)"},
      {"columns", 0, OPTION_INT, &columns, 1, 1000, "N", "columns of a grid (default: as square as can be)"},
      ARRAY_OPTIONS(arrays),
      MODEL_OPTIONS(which),
      COMMON_OPTIONS(common)};
  int status = args_parse(self, argc, argv, options, COUNT(options), &positional);
  if (status != ARGS_GO) return status;
  if (positional.count != 1) return usage_error(self, "expected one RUN or MODEL directory, got %d arguments", positional.count);
  status = check_output(self, out, false);
  if (status != ARGS_GO) return status;
  elbo_ctx *ctx = NULL;
  elbo_model *model = NULL;
  elbo_model_info info;
  status = open_model(self, &common, &which, positional.at[0], &ctx, &model, &info);
  if (status != ARGS_GO) return status;
  config.n = n, config.seed = common.seed, config.label = (int)label, config.draw = draw, config.temperature = temperature;
  config.progress = show_progress;
  elbo_array *x = NULL, *vectors = NULL;
  catch_interruption();
  elbo_status sampled = condition ? read_vectors(ctx, condition, &vectors) : ELBO_OK;
  config.condition = vectors;
  if (sampled == ELBO_OK) sampled = elbo_sample(model, &config, &x);
  if (sampled == ELBO_OK) sampled = write_images(ctx, x, info.low, info.high, (int)columns, &arrays, out);
  if (sampled == ELBO_OK && common.json) {
    printf("{\"n\": %lld, \"seed\": %llu, \"weights\": \"%s\", \"step\": %lld, \"out\": ", (long long)n, (unsigned long long)common.seed,
           info.weights, (long long)info.step);
    print_json_text(stdout, out);
    printf("}\n");
  } else if (sampled == ELBO_OK)
    printf("%lld samples (seed %llu): %s\n", (long long)n, (unsigned long long)common.seed, out);
  elbo_array_destroy(&x), elbo_array_destroy(&vectors);
  return close_model(&ctx, &model, sampled);
}

const command command_sample = {"sample",
                                "RUN -n 64 [--seed S] --out grid.png | DIR | x.npy",
                                "invent new examples",
                                "Draws codes from the prior and decodes them. Sample i depends on the model, the seed and i alone.",
                                "elbo sample run -n 100 --seed 1 --out grid.png",
                                run};
