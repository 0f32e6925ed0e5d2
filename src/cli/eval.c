// elbo eval
#include <math.h>
#include <string.h>

#include "cli/cli.h"

static void print_metrics(const elbo_eval_result *result) {
  for (int i = 0; i < elbo_eval_count(result); i++) {
    const elbo_metric *m = elbo_eval_metric(result, i);
    printf("%-24s %12.6g", m->name, m->value);
    if (isfinite(m->stderr_))
      printf(" +- %-10.3g", m->stderr_);
    else
      printf("    %-10s", "");
    printf(" %s", m->unit);
    if (m->k) printf(", k = %d", m->k);
    if (isfinite(m->mc_stderr)) printf(", +- %.3g over draws", m->mc_stderr);
    printf(", n = %lld%s%s\n", (long long)m->n, m->note[0] ? "; " : "", m->note);
  }
}

// The values of every image under the first metric that has them, float64 (n): the same data, limit and seed give the same images in the
// same order, so that two models can be compared image by image.
static elbo_status write_per_image(elbo_ctx *ctx, const elbo_eval_result *result, const char *out) {
  for (int i = 0; i < elbo_eval_count(result); i++) {
    int64_t n = 0;
    const double *values = elbo_eval_per_image(result, elbo_eval_metric(result, i)->name, &n);
    if (!values || n < 1) continue;
    elbo_array *array = NULL;
    elbo_status status = elbo_array_create(ctx, ELBO_F64, 1, &n, &array);
    if (status == ELBO_OK) memcpy(array->data, values, (size_t)n * sizeof *values);
    if (status == ELBO_OK) status = elbo_npy_write(ctx, out, array);
    elbo_array_destroy(&array);
    return status;
  }
  say("--per-image %s: none of these metrics has a value for every image", out);
  return ELBO_ERROR_STOPPED;
}

static int run(const command *self, int argc, char **argv) {
  common_options common = {0};
  model_options which = {0};
  elbo_eval_config config;
  elbo_eval_defaults(&config);
  const char *path = NULL, *metrics = NULL, *per_image = NULL;
  int split = -1, layout = 0;
  int64_t samples = 0, limit = 0;
  text_list positional;
  const option options[] = {
      {"data", 0, OPTION_TEXT, &path, 0, 0, "PATH", "what to judge on (default: the run's own data)"},
      {"split", 0, OPTION_CHOICE, &split, 0, 0, SPLIT_NAMES, "which part (default: test where there is one, else held out)"},
      {"metrics", 0, OPTION_TEXT, &metrics, 0, 0, "A,B,...", "elbo,iwae,recon,kl,... (default: the model's usual ones)"},
      {"samples", 0, OPTION_INT, &samples, 1, 1e6, "K", "importance samples of iwae"},
      {"limit", 0, OPTION_INT, &limit, 1, 1e12, "N", "a random subset of N examples, chosen by the seed"},
      {"per-image", 0, OPTION_TEXT, &per_image, 0, 0, "FILE.npy", "also the value of each image under the first metric, to compare models"},
      LAYOUT_OPTION(layout),
      MODEL_OPTIONS(which),
      COMMON_OPTIONS(common)};
  int status = args_parse(self, argc, argv, options, COUNT(options), &positional);
  if (status != ARGS_GO) return status;
  text_list keys;
  status = one_and_keys(self, &positional, "a RUN or MODEL directory", &keys);
  if (status != ARGS_GO) return status;
  status = per_image ? check_output(self, per_image, true) : ARGS_GO;
  if (status != ARGS_GO) return status;
  elbo_ctx *ctx = NULL;
  elbo_model *model = NULL;
  elbo_model_info info;
  status = open_model(self, &common, &which, positional.at[0], &ctx, &model, &info);
  if (status != ARGS_GO) return status;
  elbo_dataset *data = NULL;
  elbo_eval_result *result = NULL;
  elbo_status made = open_data(ctx, positional.at[0], path, &keys, layout, &data);
  if (made == ELBO_OK) {
    elbo_dataset_info about;
    elbo_dataset_get_info(data, &about);
    if (split < 0) split = about.count[ELBO_SPLIT_TEST] ? ELBO_SPLIT_TEST : ELBO_SPLIT_VALID;
    config.metrics = metrics, config.split = (elbo_split)split, config.limit = limit, config.seed = common.seed;
    if (samples) config.samples = (int)samples;
    config.progress = show_progress;
    catch_interruption();
    made = elbo_evaluate(model, data, &config, &result);
    clear_progress();
  }
  if (made == ELBO_OK && per_image) made = write_per_image(ctx, result, per_image);
  if (made == ELBO_OK && common.json)
    printf("%s\n", elbo_eval_json(result));
  else if (made == ELBO_OK)
    print_metrics(result);
  elbo_eval_destroy(&result);
  elbo_dataset_destroy(&data);
  return close_model(&ctx, &model, made);
}

const command command_eval = {"eval",
                              "RUN --data PATH [--metrics elbo,iwae,...] [--json] [key=value ...]",
                              "judge a model on data",
                              "elbo and iwae are lower bounds on log p(x) in nats per example; +- is one standard error over the examples.",
                              "elbo eval run --data digits --metrics elbo,iwae --samples 100 --json",
                              run};
