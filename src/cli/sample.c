// elbo sample
#include <string.h>

#include "cli/cli.h"

// The keys of a recipe's `sample` section that the options stand for, "sample." in front taken away from the others.
typedef struct sample_keys {
  const char *at[64];
  char text[8][320];
  int count, texts;
} sample_keys;

static void add_key(sample_keys *k, const char *key, const char *value) {
  if (!value || k->texts == COUNT(k->text) || k->count == COUNT(k->at)) return;
  snprintf(k->text[k->texts], sizeof k->text[0], "%s=%s", key, value);
  k->at[k->count++] = k->text[k->texts++];
}

static int collect_keys(const command *self, const text_list *positional, sample_keys *k) {
  for (int i = 1; i < positional->count; i++) {
    const char *text = positional->at[i];
    if (!is_override(text)) return usage_error(self, "expected one RUN or MODEL directory, got '%s' too", text);
    if (k->count == COUNT(k->at)) return usage_error(self, "more than %d keys", COUNT(k->at));
    k->at[k->count++] = strncmp(text, "sample.", 7) ? text : text + 7;
  }
  return ARGS_GO;
}

// A .npy as float32; pictures with channels first are turned. A rank-2 array of points stands for (n,1,1,D).
static elbo_status read_floats(elbo_ctx *ctx, const char *path, int layout, bool pictures, elbo_array **out) {
  elbo_array *raw = NULL, *turned = NULL;
  *out = NULL;
  if (!path) return ELBO_OK;
  elbo_status status = elbo_npy_read(ctx, path, &raw);
  if (status == ELBO_OK && layout && raw->rank == 4) {
    status = elbo_array_to_nhwc(ctx, raw, &turned);
    elbo_array_destroy(&raw);
    raw = turned;
  }
  if (status == ELBO_OK) status = elbo_array_convert(ctx, raw, ELBO_F32, out);
  elbo_array_destroy(&raw);
  if (status == ELBO_OK && pictures && (*out)->rank == 2)
    (*out)->rank = 4, (*out)->dim[3] = (*out)->dim[1], (*out)->dim[1] = (*out)->dim[2] = 1;
  return status;
}

static int run(const command *self, int argc, char **argv) {
  common_options common = {0};
  model_options which = {0};
  array_options arrays = {0};
  elbo_sample_config config;
  elbo_sample_defaults(&config);
  int64_t n = 0, steps = 0, label = -1, columns = 0, calls = 0, memory = 0;
  double loop = 0, network = 0;
  int draw = 0;
  double temperature = 1;
  const char *out = NULL, *sampler = NULL, *guidance = NULL, *eta = NULL, *noise_path = NULL, *condition_path = NULL;
  elbo_array *noise = NULL, *condition = NULL;
  sample_keys keys = {0};
  text_list positional;
  const option options[] = {{"number", 'n', OPTION_INT, &n, 1, 1e9, "N", "how many (default: 64)"},
                            {"out", 'o', OPTION_TEXT, &out, 0, 0, "PATH", "grid.png, x.npy, or a directory of pictures"},
                            {"class", 0, OPTION_INT, &label, 0, 1e9, "C", "class, for a conditional model (default: all in turn)"},
                            {"draw", 0, OPTION_FLAG, &draw, 0, 0, NULL, "draw pixels from the likelihood instead of showing its mean"},
                            {"temperature", 0, OPTION_FLOAT, &temperature, 0, 100, "T", "standard deviation of the prior (default: 1)"},
                            {"steps", 0, OPTION_INT, &steps, 1, 1e6, "K", "diffusion: steps of the sampler"},
                            {"sampler", 0, OPTION_TEXT, &sampler, 0, 0, "NAME", "diffusion: ddpm, ddim, euler, heun, dpmpp_2m, unipc, ..."},
                            {"guidance", 0, OPTION_TEXT, &guidance, 0, 0, "W", "diffusion: classifier-free guidance (1: none)"},
                            {"eta", 0, OPTION_TEXT, &eta, 0, 0, "E", "diffusion: share of fresh noise in each step of ddim"},
                            {"noise", 0, OPTION_TEXT, &noise_path, 0, 0, "x.npy", "diffusion: start from this noise of unit variance"},
                            {"condition", 0, OPTION_TEXT, &condition_path, 0, 0, "c.npy",
                             "what a conditional model is told, a row a sample (a VAE: a vector for all, or rows in turn)"},
                            {"memory", 0, OPTION_INT, &memory, 1, 1e9, "MIB",
                             "latent diffusion: decode the codes in this many MiB beside the weights, in bands where it must be"},
                            {"columns", 0, OPTION_INT, &columns, 1, 1000, "N", "columns of a grid (default: as square as can be)"},
                            ARRAY_OPTIONS(arrays),
                            MODEL_OPTIONS(which),
                            COMMON_OPTIONS(common)};
  int status = args_parse(self, argc, argv, options, COUNT(options), &positional);
  if (status == ARGS_GO) status = take_engine_keys(self, &positional, &common);
  if (status != ARGS_GO) return status;
  if (positional.count < 1) return usage_error(self, "expected a RUN or MODEL directory");
  char count[24];
  snprintf(count, sizeof count, "%lld", (long long)steps);
  add_key(&keys, "steps", steps ? count : NULL), add_key(&keys, "sampler", sampler);
  add_key(&keys, "guidance.scale", guidance), add_key(&keys, "eta", eta);
  status = collect_keys(self, &positional, &keys);
  if (status != ARGS_GO) return status;
  status = check_output(self, out, false);
  if (status != ARGS_GO) return status;
  elbo_ctx *ctx = NULL;
  elbo_model *model = NULL;
  elbo_model_info info;
  status = open_model(self, &common, &which, positional.at[0], &ctx, &model, &info);
  if (status != ARGS_GO) return status;
  config.n = n ? n : config.n, config.seed = common.seed, config.label = (int)label, config.draw = draw, config.temperature = temperature;
  config.progress = show_progress;
  config.n_options = keys.count, config.options = keys.at, config.network_calls = &calls;
  config.loop_seconds = &loop, config.network_seconds = &network, config.decode_memory = memory << 20;
  elbo_array *x = NULL;
  catch_interruption();
  elbo_status sampled = read_floats(ctx, noise_path, arrays.layout, true, &noise);
  if (sampled == ELBO_OK) sampled = read_floats(ctx, condition_path, arrays.layout, false, &condition);
  if (!n) config.n = noise ? noise->dim[0] : condition && condition->rank > 1 ? condition->dim[0] : 64;
  config.noise = noise, config.condition = condition;
  double began = seconds_now();
  if (sampled == ELBO_OK) sampled = elbo_sample(model, &config, &x);
  double seconds = seconds_now() - began;
  clear_progress();
  if (sampled == ELBO_OK) sampled = write_images(ctx, x, info.low, info.high, (int)columns, &arrays, out);
  if (sampled == ELBO_OK && common.json) {
    printf("{\"n\": %lld, \"seed\": %llu, \"weights\": \"%s\", \"step\": %lld, ", (long long)config.n, (unsigned long long)common.seed,
           info.weights, (long long)info.step);
    printf("\"seconds\": %.6g, \"samples_per_s\": %.6g, ", seconds, (double)config.n / (seconds > 0 ? seconds : 1e-9));
    if (calls) printf("\"network_calls\": %lld, \"loop_seconds\": %.6g, \"network_seconds\": %.6g, ", (long long)calls, loop, network);
    printf("\"out\": ");
    print_json_text(stdout, out);
    printf("}\n");
  } else if (sampled == ELBO_OK)
    printf("%lld samples (seed %llu): %s\n", (long long)config.n, (unsigned long long)common.seed, out);
  elbo_array_destroy(&x);
  elbo_array_destroy(&noise);
  elbo_array_destroy(&condition);
  return close_model(&ctx, &model, sampled);
}

const command command_sample = {
    "sample",
    "RUN -n 64 [--seed S] [--steps K] [--sampler NAME] [--guidance W] --out grid.png | DIR | x.npy [sample.key=value ...]",
    "invent new examples",
    "Draws codes from the prior and decodes them, or leads noise to data. Sample i depends on the model, the seed and i alone.",
    "elbo sample run -n 100 --seed 1 --out grid.png",
    run};
