// elbo report
#include "cli/cli.h"

static int run(const command *self, int argc, char **argv) {
  common_options common = {0};
  const char *data_path = NULL, *out = NULL;
  int layout = 0;
  text_list positional;
  const option options[] = {{"data", 0, OPTION_TEXT, &data_path, 0, 0, "PATH", "where examples come from (default: the run's own data)"},
                            {"out", 'o', OPTION_TEXT, &out, 0, 0, "FILE", "the page, report.html"},
                            LAYOUT_OPTION(layout),
                            COMMON_OPTIONS(common)};
  int status = args_parse(self, argc, argv, options, COUNT(options), &positional);
  if (status == ARGS_GO) status = take_engine_keys(self, &positional, &common);
  if (status != ARGS_GO) return status;
  if (positional.count != 1) return usage_error(self, "expected one RUN directory, got %d arguments", positional.count);
  if (!out) return usage_error(self, "--out is missing: where should the page go?");
  status = check_folder(out);
  if (status != ARGS_GO) return status;
  elbo_ctx *ctx = NULL;
  elbo_dataset *data = NULL;
  status = open_context(&common, &ctx);
  if (status != ARGS_GO) return status;
  elbo_status made = data_path ? open_data(ctx, positional.at[0], data_path, NULL, layout, &data) : ELBO_OK;
  if (made == ELBO_OK) made = elbo_report(ctx, positional.at[0], data, common.seed, out);
  if (made == ELBO_OK && common.json) {
    printf("{\"out\": ");
    print_json_text(stdout, out);
    printf("}\n");
  } else if (made == ELBO_OK)
    printf("%s\n", out);
  status = made == ELBO_OK ? STATUS_DONE : report_failure(ctx, made);
  elbo_dataset_destroy(&data);
  elbo_ctx_destroy(&ctx);
  return status;
}

const command command_report = {
    "report",
    "RUN --out report.html [--data PATH]",
    "write one self-contained page about a run",
    "Curves, samples, reconstructions, a walk between two examples, what every latent dimension carries, the recipe, the machine.",
    "elbo report run --out report.html",
    run};
