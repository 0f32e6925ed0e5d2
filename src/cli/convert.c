// elbo convert
#include <stdlib.h>
#include <string.h>

#include <elbo/convert.h>

#include "cli/cli.h"

// "2GB", "500MiB", "1000000"; false for anything else.
static bool read_size(const char *text, int64_t *out) {
  static const struct {
    const char *unit;
    double factor;
  } units[] = {{"", 1},      {"B", 1},        {"KB", 1e3},        {"MB", 1e6},          {"GB", 1e9},
               {"TB", 1e12}, {"KiB", 1024.0}, {"MiB", 1048576.0}, {"GiB", 1073741824.0}};
  char *end;
  double value = strtod(text, &end);
  for (size_t i = 0; end != text && i < sizeof units / sizeof units[0]; i++) {
    if (strcmp(end, units[i].unit) != 0) continue;
    if (!(value * units[i].factor >= 1 && value * units[i].factor < 9e18)) return false;
    *out = (int64_t)(value * units[i].factor);
    return true;
  }
  return false;
}

static void print_result(const char *in, const char *out, const elbo_convert_result *r, bool json) {
  if (!json) {
    printf("%s (%s): %lld tensors, %lld parameters, %lld bytes in %d file%s: %s\n", in, r->from, (long long)r->tensors,
           (long long)r->parameters, (long long)r->bytes, r->files, r->files == 1 ? "" : "s", out);
    if (r->names[0]) printf("names        were those of the layout '%s'\n", r->names);
    if (r->left_out) printf("left out     %lld tensors that are not below the key\n", (long long)r->left_out);
    return;
  }
  printf("{\"in\": ");
  print_json_text(stdout, in);
  printf(", \"from\": ");
  print_json_text(stdout, r->from);
  printf(", \"out\": ");
  print_json_text(stdout, out);
  printf(", \"tensors\": %lld, \"parameters\": %lld, \"bytes\": %lld, \"files\": %d, \"left_out\": %lld", (long long)r->tensors,
         (long long)r->parameters, (long long)r->bytes, r->files, (long long)r->left_out);
  if (r->names[0]) {
    printf(", \"names_from\": ");
    print_json_text(stdout, r->names);
  }
  printf("}\n");
}

static int run(const command *self, int argc, char **argv) {
  static const int dtypes[] = {ELBO_F32, ELBO_F16, ELBO_BF16};
  common_options common = {0};
  elbo_convert_config config;
  elbo_convert_result result;
  const char *out = NULL, *shard = NULL;
  int dtype = -1, to = -1, order = 0;
  text_list positional;
  elbo_convert_defaults(&config);
  const option options[] = {
      {"out", 'o', OPTION_TEXT, &out, 0, 0, "OUT", "NAME.safetensors, or a new directory"},
      {"dtype", 0, OPTION_CHOICE, &dtype, 0, 0, "float32|float16|bfloat16", "what tensors of a float type become (default: as they are)"},
      {"key", 0, OPTION_TEXT, &config.key, 0, 0, "PREFIX", "only the tensors below it, named without it: state_dict.model"},
      {"max-shard-size", 0, OPTION_TEXT, &shard, 0, 0, "SIZE", "split into files of at most so much, with an index: 2GB"},
      {"to", 0, OPTION_CHOICE, &to, 0, 0, "original|diffusers", "give a UNet the tensor names of diffusers, or of input_blocks, ... again"},
      {"heads", 0, OPTION_INT, &config.heads, 1, 65536, "N", "attention heads, where query, key and value are one tensor"},
      {"head-dim", 0, OPTION_INT, &config.head_dim, 1, 65536, "D", "the same, by the channels of one head"},
      {"qkv", 0, OPTION_CHOICE, &order, 0, 0, "by-head|by-kind", "the order of such a tensor's rows (default: by-head)"},
      COMMON_OPTIONS(common)};
  int status = args_parse(self, argc, argv, options, COUNT(options), &positional);
  if (status != ARGS_GO) return status;
  if (positional.count < 1 || positional.count > 2)
    return usage_error(self, "expected one file or directory to read, or an encoder and a decoder, got %d", positional.count);
  if (!out) return usage_error(self, "--out is missing: where should the result go?");
  if (shard && !read_size(shard, &config.max_shard_bytes))
    return usage_error(self, "--max-shard-size '%s': expected a size such as 2GB or 500MiB", shard);
  if (config.heads && config.head_dim) return usage_error(self, "--heads and --head-dim: expected one of them");
  config.dtype = dtype < 0 ? -1 : dtypes[dtype];
  config.names = to < 0 ? ELBO_NAMES_AS_THEY_ARE : to ? ELBO_NAMES_DIFFUSERS : ELBO_NAMES_ORIGINAL;
  config.qkv = order ? ELBO_QKV_BY_KIND : ELBO_QKV_BY_HEAD;
  char bare[4096]; // a directory may be given with its slash
  snprintf(bare, sizeof bare, "%s", out);
  for (size_t n = strlen(bare); n > 1 && bare[n - 1] == '/'; n--) bare[n - 1] = 0;
  status = check_folder(bare);
  if (status != ARGS_GO) return status;
  elbo_ctx *ctx = NULL;
  status = open_context(&common, &ctx);
  if (status != ARGS_GO) return status;
  elbo_status made = positional.count == 1 ? elbo_convert(ctx, positional.at[0], out, &config, &result)
                                           : elbo_convert_tiny_pair(ctx, positional.at[0], positional.at[1], out, &config, &result);
  if (made == ELBO_OK) print_result(positional.at[0], out, &result, common.json);
  status = made == ELBO_OK ? STATUS_DONE : report_failure(ctx, made);
  elbo_ctx_destroy(&ctx);
  return status;
}

const command command_convert = {
    "convert",
    "IN [DECODER] --out OUT [--dtype T] [--key PREFIX] [--to diffusers] [--max-shard-size SIZE]",
    "bring weights from one file layout into another",
    "IN: safetensors, the index of a sharded checkpoint, a .pth, .ckpt or .bin of PyTorch (read without executing anything), or a\n"
    "model directory. OUT: one safetensors file, or a directory. With DECODER, IN is the encoder of a public tiny autoencoder\n"
    "(taesd_encoder.pth taesd_decoder.pth), and OUT a directory in diffusers' layout.",
    "elbo convert model.ckpt --key model.diffusion_model --to diffusers --dtype float16 --out unet.safetensors",
    run};
