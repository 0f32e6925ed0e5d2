// elbo decode
#include <string.h>

#include "cli/cli.h"

static elbo_status read_noise(elbo_ctx *ctx, const char *path, elbo_array **out) {
  elbo_array *raw = NULL;
  elbo_status status = elbo_npy_read(ctx, path, &raw);
  if (status == ELBO_OK) status = elbo_array_convert(ctx, raw, ELBO_F32, out);
  elbo_array_destroy(&raw);
  return status;
}

static int run(const command *self, int argc, char **argv) {
  common_options common = {0};
  model_options which = {0};
  array_options arrays = {0};
  const char *codes_path = NULL, *noise_path = NULL, *out = NULL;
  told_options told = {.label = -1};
  elbo_decode_config parts;
  int64_t memory = 0, planned = 0;
  elbo_decode_defaults(&parts);
  text_list positional, keys;
  const option options[] = {{"codes", 0, OPTION_TEXT, &codes_path, 0, 0, "codes.npy",
                             "codes (n, numbers in a code), or maps (n, h, w, channels) of models that have them; any numeric type"},
                            {"noise", 0, OPTION_TEXT, &noise_path, 0, 0, "noise.npy",
                             "of a diffusion decoder: what `elbo encode --noise` wrote (default: drawn)"},
                            TOLD_OPTIONS(told),
                            {"out", 'o', OPTION_TEXT, &out, 0, 0, "PATH", "x.npy, grid.png, or a directory of pictures"},
                            {"tile", 0, OPTION_INT, &parts.tile, 2, 65536, "ROWS",
                             "of an AutoencoderKL: decode in bands of so many rows of the code, for less memory; there are no seams"},
                            {"memory", 0, OPTION_INT, &memory, 1, 1e9, "MIB",
                             "the same in bands of 64 rows or fewer, as many as this many MiB beside the weights allow"},
                            ARRAY_OPTIONS(arrays),
                            MODEL_OPTIONS(which),
                            COMMON_OPTIONS(common)};
  int status = args_parse(self, argc, argv, options, COUNT(options), &positional);
  if (status == ARGS_GO) status = take_engine_keys(self, &positional, &common);
  if (status != ARGS_GO) return status;
  status = one_and_keys(self, &positional, "a RUN or MODEL directory", &keys);
  if (status != ARGS_GO) return status;
  take_sampler_keys(&keys, &which);
  if (keys.count)
    return usage_error(self, "'%s': only keys of a diffusion decoder's sampler (sample.KEY=VALUE) are known here", keys.at[0]);
  if (!codes_path) return usage_error(self, "--codes is missing: what should be decoded?");
  status = check_output(self, out, false);
  if (status != ARGS_GO) return status;
  elbo_ctx *ctx = NULL;
  elbo_model *model = NULL;
  elbo_model_info info;
  status = open_model(self, &common, &which, positional.at[0], &ctx, &model, &info);
  if (status != ARGS_GO) return status;
  elbo_array *raw = NULL, *codes = NULL, *label = NULL, *x = NULL, *noise = NULL;
  elbo_status made = elbo_npy_read(ctx, codes_path, &raw);
  const bool map = made == ELBO_OK && raw->rank == 4 && strncmp(info.preset, "vae", 3) != 0; // whose size the model checks
  if (made == ELBO_OK && !map && (raw->rank != 2 || raw->dim[1] != info.latent_dim || raw->dim[0] < 1)) {
    say("%s: expected an array (codes, %d) for this model", codes_path, info.latent_dim);
    made = ELBO_ERROR_STOPPED;
  }
  if (made == ELBO_OK) made = elbo_array_convert(ctx, raw, ELBO_F32, &codes);
  if (made == ELBO_OK) made = read_told(ctx, &told, &info, codes->dim[0], &label);
  const bool cut = parts.tile || memory;
  parts.memory_limit = memory << 20, parts.planned_bytes = &planned, parts.progress = show_progress;
  if (made == ELBO_OK && cut && (label || noise_path)) {
    say("--tile and --memory are of autoencoders, which are not told anything");
    made = ELBO_ERROR_STOPPED;
  }
  if (made == ELBO_OK && noise_path) made = read_noise(ctx, noise_path, &noise);
  if (made == ELBO_OK)
    made = cut     ? elbo_decode_tiled(model, codes, &parts, &x)
           : noise ? elbo_decode_noise(model, codes, noise, &x)
                   : elbo_decode(model, codes, label, &x);
  clear_progress();
  if (made == ELBO_OK) made = write_images(ctx, x, info.low, info.high, 0, &arrays, out);
  if (made == ELBO_OK && common.json) {
    printf("{\"n\": %lld, \"out\": ", (long long)x->dim[0]);
    print_json_text(stdout, out);
    if (cut) printf(", \"planned_bytes\": %lld", (long long)planned);
    printf("}\n");
  } else if (made == ELBO_OK && cut)
    printf("%lld decoded in %.1f MiB beside the weights: %s\n", (long long)x->dim[0], (double)planned / 1048576, out);
  else if (made == ELBO_OK)
    printf("%lld decoded: %s\n", (long long)x->dim[0], out);
  elbo_array_destroy(&raw), elbo_array_destroy(&codes), elbo_array_destroy(&label), elbo_array_destroy(&x);
  elbo_array_destroy(&noise);
  return close_model(&ctx, &model, made);
}

const command command_decode = {"decode",
                                "RUN --codes codes.npy [--noise noise.npy] --out DIR | x.npy | grid.png",
                                "turn codes into examples",
                                NULL,
                                "elbo decode run --codes codes.npy --out pictures",
                                run};
