// elbo interpolate
#include "cli/cli.h"

static int run(const command *self, int argc, char **argv) {
  common_options common = {0};
  model_options which = {0};
  array_options arrays = {0};
  int64_t steps = 12, label = -1;
  const char *out = NULL;
  text_list positional;
  const option options[] = {{"steps", 0, OPTION_INT, &steps, 2, 10000, "N", "pictures, both ends included (default: 12)"},
                            {"class", 0, OPTION_INT, &label, 0, 1e9, "C", "class of the walk, for a conditional model"},
                            {"out", 'o', OPTION_TEXT, &out, 0, 0, "PATH", "walk.png, x.npy, or a directory of pictures"},
                            ARRAY_OPTIONS(arrays),
                            MODEL_OPTIONS(which),
                            COMMON_OPTIONS(common)};
  int status = args_parse(self, argc, argv, options, COUNT(options), &positional);
  if (status != ARGS_GO) return status;
  if (positional.count != 3) return usage_error(self, "expected a RUN and two pictures, got %d arguments", positional.count);
  status = check_output(self, out, false);
  if (status != ARGS_GO) return status;
  elbo_ctx *ctx = NULL;
  elbo_model *model = NULL;
  elbo_model_info info;
  status = open_model(self, &common, &which, positional.at[0], &ctx, &model, &info);
  if (status != ARGS_GO) return status;
  elbo_array *a = NULL, *b = NULL, *x = NULL;
  elbo_status made = read_picture(ctx, positional.at[1], &info, &a);
  if (made == ELBO_OK) made = read_picture(ctx, positional.at[2], &info, &b);
  if (made == ELBO_OK) made = elbo_interpolate(model, a, b, (int)label, (int)steps, &x);
  if (made == ELBO_OK) made = write_images(ctx, x, info.low, info.high, steps <= 16 ? (int)steps : 0, &arrays, out);
  if (made == ELBO_OK && common.json) {
    printf("{\"steps\": %lld, \"out\": ", (long long)steps);
    print_json_text(stdout, out);
    printf("}\n");
  } else if (made == ELBO_OK)
    printf("a walk of %lld pictures: %s\n", (long long)steps, out);
  elbo_array_destroy(&a), elbo_array_destroy(&b), elbo_array_destroy(&x);
  return close_model(&ctx, &model, made);
}

const command command_interpolate = {"interpolate",
                                     "RUN A.png B.png --steps 12 --out walk.png",
                                     "walk from one picture to another through the codes",
                                     "Both pictures are encoded; what lies on the straight line between their codes is decoded.",
                                     "elbo interpolate run three.png eight.png --steps 12 --out walk.png",
                                     run};
