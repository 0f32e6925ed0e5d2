// elbo interpolate
#include "cli/cli.h"

static elbo_status classes_of_ends(elbo_ctx *ctx, int64_t from, int64_t to, elbo_array **out) {
  elbo_status status = elbo_array_create(ctx, ELBO_I32, 1, (int64_t[]){2}, out);
  if (status != ELBO_OK) return status;
  ((int32_t *)(*out)->data)[0] = (int32_t)from, ((int32_t *)(*out)->data)[1] = (int32_t)to;
  return ELBO_OK;
}

static int run(const command *self, int argc, char **argv) {
  common_options common = {0};
  model_options which = {0};
  array_options arrays = {0};
  int64_t steps = 12, label = -1, to_label = -1;
  const char *out = NULL, *condition = NULL;
  text_list positional;
  const option options[] = {{"steps", 0, OPTION_INT, &steps, 2, 10000, "N", "pictures, both ends included (default: 12)"},
                            {"class", 0, OPTION_INT, &label, 0, 1e9, "C", "class of the walk, for a conditional model"},
                            {"to-class", 0, OPTION_INT, &to_label, 0, 1e9, "C", "class of its far end (default: the same)"},
                            {"condition", 0, OPTION_TEXT, &condition, 0, 0, "v.npy", "a vector for the walk, or one for each end"},
                            {"out", 'o', OPTION_TEXT, &out, 0, 0, "PATH", "walk.png, x.npy, or a directory of pictures"},
                            ARRAY_OPTIONS(arrays),
                            MODEL_OPTIONS(which),
                            COMMON_OPTIONS(common)};
  int status = args_parse(self, argc, argv, options, COUNT(options), &positional);
  if (status == ARGS_GO) status = take_engine_keys(self, &positional, &common);
  if (status != ARGS_GO) return status;
  if (to_label >= 0 && label < 0) return usage_error(self, "--to-class needs --class, the class of the near end");
  take_sampler_keys(&positional, &which);
  if (positional.count != 3) return usage_error(self, "expected a RUN and two pictures, got %d arguments", positional.count);
  status = check_output(self, out, false);
  if (status != ARGS_GO) return status;
  elbo_ctx *ctx = NULL;
  elbo_model *model = NULL;
  elbo_model_info info;
  status = open_model(self, &common, &which, positional.at[0], &ctx, &model, &info);
  if (status != ARGS_GO) return status;
  elbo_array *a = NULL, *b = NULL, *x = NULL, *told = NULL;
  elbo_status made = read_picture(ctx, positional.at[1], &info, &a);
  if (made == ELBO_OK) made = read_picture(ctx, positional.at[2], &info, &b);
  if (made == ELBO_OK && condition)
    made = read_vectors(ctx, condition, &told);
  else if (made == ELBO_OK && label >= 0)
    made = classes_of_ends(ctx, label, to_label < 0 ? label : to_label, &told);
  if (made == ELBO_OK && !told) made = elbo_interpolate(model, a, b, -1, (int)steps, &x);
  if (made == ELBO_OK && told) made = elbo_interpolate_conditioned(model, a, b, told, (int)steps, &x);
  if (made == ELBO_OK) made = write_images(ctx, x, info.low, info.high, steps <= 16 ? (int)steps : 0, &arrays, out);
  if (made == ELBO_OK && common.json) {
    printf("{\"steps\": %lld, \"out\": ", (long long)steps);
    print_json_text(stdout, out);
    printf("}\n");
  } else if (made == ELBO_OK)
    printf("a walk of %lld pictures: %s\n", (long long)steps, out);
  elbo_array_destroy(&a), elbo_array_destroy(&b), elbo_array_destroy(&x), elbo_array_destroy(&told);
  return close_model(&ctx, &model, made);
}

const command command_interpolate = {
    "interpolate",
    "RUN A.png B.png --steps 12 --out walk.png [sample.key=value ...]",
    "walk from one picture to another through the codes",
    "Both pictures are encoded; what lies on the straight line between their codes is decoded. The noise of a diffusion "
    "decoder goes from the one's to the other's on a great circle; sample.steps=K are its steps.",
    "elbo interpolate run three.png eight.png --steps 12 --out walk.png",
    run};
