// elbo reconstruct
#include <string.h>

#include "cli/cli.h"

// Originals and reconstructions in alternating rows of `columns`; the last rows are filled up with `blank`.
static elbo_status paired(elbo_ctx *ctx, const elbo_array *x, const elbo_array *y, int64_t columns, float blank, elbo_array **out) {
  int64_t n = x->dim[0], rows = (n + columns - 1) / columns, size = x->dim[1] * x->dim[2] * x->dim[3];
  int64_t dim[4] = {2 * rows * columns, x->dim[1], x->dim[2], x->dim[3]};
  elbo_status status = elbo_array_create(ctx, ELBO_F32, 4, dim, out);
  if (status != ELBO_OK) return status;
  float *to = (*out)->data;
  for (int64_t i = 0; i < dim[0] * size; i++) to[i] = blank;
  for (int64_t i = 0; i < n; i++) {
    int64_t place = i / columns * 2 * columns + i % columns;
    memcpy(to + place * size, (const float *)x->data + i * size, (size_t)size * sizeof *to);
    memcpy(to + (place + columns) * size, (const float *)y->data + i * size, (size_t)size * sizeof *to);
  }
  return ELBO_OK;
}

static int run(const command *self, int argc, char **argv) {
  common_options common = {0};
  model_options which = {0};
  array_options arrays = {0};
  input_options in = {.split = -1, .told = {.label = -1}, .n = 32};
  int split = -1, sample = 0, all = 0;
  const char *out = NULL;
  text_list positional;
  const option options[] = {
      {"data", 0, OPTION_TEXT, &in.data, 0, 0, "PATH", "examples: a data set or x.npy (default: the run's own data)"},
      {"split", 0, OPTION_CHOICE, &split, 0, 0, SPLIT_NAMES, "which part of the data (default: test where there is one)"},
      {"number", 'n', OPTION_INT, &in.n, 1, 1e9, "N", "how many, chosen at random by the seed (default: 32)"},
      {"all", 0, OPTION_FLAG, &all, 0, 0, NULL, "all of them, in their order"},
      {"sample", 0, OPTION_FLAG, &sample, 0, 0, NULL, "decode a draw from the posterior instead of its mean"},
      {"out", 'o', OPTION_TEXT, &out, 0, 0, "PATH", "pairs.png; x.npy or a directory for the reconstructions alone"},
      ARRAY_OPTIONS(arrays),
      TOLD_OPTIONS(in.told),
      MODEL_OPTIONS(which),
      COMMON_OPTIONS(common)};
  int status = args_parse(self, argc, argv, options, COUNT(options), &positional);
  if (status == ARGS_GO) status = take_engine_keys(self, &positional, &common);
  if (status != ARGS_GO) return status;
  status = one_and_keys(self, &positional, "a RUN or MODEL directory", &in.options);
  if (status != ARGS_GO) return status;
  take_sampler_keys(&in.options, &which);
  status = check_output(self, out, false);
  if (status != ARGS_GO) return status;
  elbo_ctx *ctx = NULL;
  elbo_model *model = NULL;
  elbo_model_info info;
  status = open_model(self, &common, &which, positional.at[0], &ctx, &model, &info);
  if (status != ARGS_GO) return status;
  elbo_array *x = NULL, *label = NULL, *y = NULL, *pairs = NULL;
  in.split = split, in.seed = common.seed, in.shuffle = !all, in.layout = arrays.layout;
  if (all) in.n = 0;
  bool picture = is_picture_name(out);
  elbo_status made = read_images(ctx, positional.at[0], &info, &in, &x, &label);
  if (made == ELBO_OK) made = elbo_reconstruct(model, x, label, sample, common.seed, &y);
  if (made == ELBO_OK && picture) {
    int64_t columns = x->dim[0] < 16 ? x->dim[0] : 16;
    made = paired(ctx, x, y, columns, (float)info.low, &pairs);
    if (made == ELBO_OK) made = write_images(ctx, pairs, info.low, info.high, (int)columns, &arrays, out);
  } else if (made == ELBO_OK)
    made = write_images(ctx, y, info.low, info.high, 0, &arrays, out);
  if (made == ELBO_OK && common.json) {
    printf("{\"n\": %lld, \"out\": ", (long long)x->dim[0]);
    print_json_text(stdout, out);
    printf("}\n");
  } else if (made == ELBO_OK)
    printf("%lld %s: %s\n", (long long)x->dim[0], picture ? "originals above their reconstructions" : "reconstructions", out);
  elbo_array_destroy(&x), elbo_array_destroy(&y), elbo_array_destroy(&label), elbo_array_destroy(&pairs);
  return close_model(&ctx, &model, made);
}

const command command_reconstruct = {"reconstruct",
                                     "RUN --data PATH -n 32 --out pairs.png [key=value ...]",
                                     "pass examples through the code and back",
                                     "In a picture, every row of originals has its reconstructions in the row below. A diffusion decoder "
                                     "takes the noise that leads to each picture; with --sample it draws it.",
                                     "elbo reconstruct run --data digits -n 32 --out pairs.png",
                                     run};
