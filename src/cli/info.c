// elbo info
#include <stdlib.h>

#include "cli/cli.h"

static int run(const command *self, int argc, char **argv) {
  common_options common = {0};
  int build = 0;
  text_list positional;
  const option options[] = {{"build", 0, OPTION_FLAG, &build, 0, 0, NULL, "how elbo was built, and what it found on this machine"},
                            COMMON_OPTIONS(common)};
  int status = args_parse(self, argc, argv, options, COUNT(options), &positional);
  if (status != ARGS_GO) return status;
  if (build ? positional.count != 0 : positional.count != 1)
    return usage_error(self, "expected %s, got %d arguments", build ? "nothing beside --build" : "one file or directory", positional.count);
  elbo_ctx *ctx = NULL;
  status = open_context(&common, &ctx);
  if (status != ARGS_GO) return status;
  char *text = NULL;
  elbo_status found = build ? elbo_describe_build(ctx, common.json, &text) : elbo_describe(ctx, positional.at[0], common.json, &text);
  if (found == ELBO_OK) fputs(text, stdout), fputs(common.json ? "\n" : "", stdout);
  status = found == ELBO_OK ? STATUS_DONE : report_failure(ctx, found);
  free(text);
  elbo_ctx_destroy(&ctx);
  return status;
}

const command command_info = {
    "info",
    "FILE|DIR [--json]   or   elbo info --build",
    "say what a file or a directory is",
    "Knows safetensors, PyTorch's .pth, .ckpt and .bin (read without executing anything), indices of shards, model and run\n"
    "directories, .npy, pictures, data sets and recipes.",
    "elbo info run --json",
    run};
