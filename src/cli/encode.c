// elbo encode
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

// Per dimension of the codes (of maps: per channel): mean and standard deviation of the posterior means over the examples, average
// posterior deviation.
static void print_statistics(const elbo_array *mean, const elbo_array *deviation, bool json) {
  int64_t dims = mean->dim[mean->rank - 1], n = elbo_array_count(mean) / dims;
  const float *m = mean->data, *s = deviation->data;
  if (!json) printf("%5s %12s %12s %18s\n", "code", "mean", "deviation", "posterior deviation");
  for (int64_t d = 0; d < dims; d++) {
    double sum = 0, square = 0, width = 0;
    for (int64_t i = 0; i < n; i++) sum += m[i * dims + d], width += s[i * dims + d];
    for (int64_t i = 0; i < n; i++) square += (m[i * dims + d] - sum / (double)n) * (m[i * dims + d] - sum / (double)n);
    double spread = sqrt(square / (double)n);
    if (!json) {
      printf("%5lld %12.5g %12.5g %18.5g\n", (long long)d, sum / (double)n, spread, width / (double)n);
      continue;
    }
    printf("%s{\"mean\": ", d ? ", " : ", \"stats\": [");
    print_json_number(stdout, sum / (double)n);
    printf(", \"deviation\": ");
    print_json_number(stdout, spread);
    printf(", \"posterior_deviation\": ");
    print_json_number(stdout, width / (double)n);
    printf("}");
  }
  if (json) printf("]");
}

static int run(const command *self, int argc, char **argv) {
  common_options common = {0};
  model_options which = {0};
  array_options arrays = {0};
  input_options in = {.split = -1, .told = {.label = -1}};
  int split = -1, statistics = 0;
  const char *out = NULL, *noise_path = NULL;
  text_list positional;
  const option options[] = {
      {"data", 0, OPTION_TEXT, &in.data, 0, 0, "PATH", "examples: a data set or x.npy (default: the run's own data)"},
      {"split", 0, OPTION_CHOICE, &split, 0, 0, SPLIT_NAMES, "which part of the data (default: test where there is one)"},
      {"number", 'n', OPTION_INT, &in.n, 1, 1e9, "N", "only the first N (default: all)"},
      {"noise", 0, OPTION_TEXT, &noise_path, 0, 0, "noise.npy", "of a diffusion decoder: also the noise that leads to each example"},
      {"stats", 0, OPTION_FLAG, &statistics, 0, 0, NULL, "write the standard deviations too (codes.std.npy) and print a table"},
      {"out", 'o', OPTION_TEXT, &out, 0, 0, "codes.npy",
       "posterior means, float32 (n, numbers in a code), of an autoencoder maps (n, h, w, channels)"},
      LAYOUT_OPTION(arrays.layout),
      TOLD_OPTIONS(in.told),
      MODEL_OPTIONS(which),
      COMMON_OPTIONS(common)};
  int status = args_parse(self, argc, argv, options, COUNT(options), &positional);
  if (status == ARGS_GO) status = take_engine_keys(self, &positional, &common);
  if (status != ARGS_GO) return status;
  status = one_and_keys(self, &positional, "a RUN or MODEL directory", &in.options);
  if (status != ARGS_GO) return status;
  take_sampler_keys(&in.options, &which);
  status = check_output(self, out, true);
  if (status == ARGS_GO && noise_path) status = check_output(self, noise_path, true);
  if (status != ARGS_GO) return status;
  elbo_ctx *ctx = NULL;
  elbo_model *model = NULL;
  elbo_model_info info;
  status = open_model(self, &common, &which, positional.at[0], &ctx, &model, &info);
  if (status != ARGS_GO) return status;
  elbo_array *x = NULL, *label = NULL, *mean = NULL, *deviation = NULL, *noise = NULL;
  in.split = split, in.seed = common.seed, in.layout = arrays.layout;
  elbo_status made = read_images(ctx, positional.at[0], &info, &in, &x, &label);
  if (made == ELBO_OK) made = elbo_encode(model, x, label, &mean, statistics ? &deviation : NULL);
  if (made == ELBO_OK) made = elbo_npy_write(ctx, out, mean);
  if (made == ELBO_OK && statistics) {
    char beside[4200];
    snprintf(beside, sizeof beside, "%.*s.std.npy", (int)strlen(out) - 4, out);
    made = elbo_npy_write(ctx, beside, deviation);
  }
  if (made == ELBO_OK && noise_path) made = elbo_encode_noise(model, x, mean, &noise);
  if (made == ELBO_OK && noise_path) made = elbo_npy_write(ctx, noise_path, noise);
  if (made == ELBO_OK && common.json) {
    printf("{\"n\": %lld, \"latent_dim\": %d, \"out\": ", (long long)mean->dim[0], info.latent_dim);
    print_json_text(stdout, out);
    if (statistics) print_statistics(mean, deviation, true);
    printf("}\n");
  } else if (made == ELBO_OK) {
    if (statistics) print_statistics(mean, deviation, false);
    printf("%lld codes of %lld numbers: %s\n", (long long)mean->dim[0], (long long)(elbo_array_count(mean) / mean->dim[0]), out);
  }
  elbo_array_destroy(&x), elbo_array_destroy(&label), elbo_array_destroy(&mean), elbo_array_destroy(&deviation);
  elbo_array_destroy(&noise);
  return close_model(&ctx, &model, made);
}

const command command_encode = {
    "encode",
    "RUN --data PATH --out codes.npy [--stats] [key=value ...]",
    "turn examples into codes",
    "A code is the mean of the posterior; --stats adds its standard deviation, beside the codes and in a table.",
    "elbo encode run --data digits --out codes.npy --stats",
    run};
