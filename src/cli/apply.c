// elbo apply
#include <string.h>

#include "cli/cli.h"

enum { MOST_ARRAYS = 64 };

// "name=path" cut at the first '='; the name lands in `name`.
static const char *cut_name(const char *text, char *name, size_t size) {
  const char *equals = strchr(text, '=');
  if (!equals || equals == text || !equals[1] || (size_t)(equals - text) >= size) return NULL;
  snprintf(name, size, "%.*s", (int)(equals - text), text);
  return equals + 1;
}

static elbo_status read_one(elbo_ctx *ctx, const char *path, int nchw, elbo_array **out) {
  elbo_array *raw = NULL;
  elbo_status status = elbo_npy_read(ctx, path, &raw);
  if (status == ELBO_OK && nchw && raw->rank == 4) {
    status = elbo_array_to_nhwc(ctx, raw, out);
    elbo_array_destroy(&raw);
  } else if (status == ELBO_OK)
    *out = raw;
  return status;
}

static int run(const command *self, int argc, char **argv) {
  common_options common = {0};
  array_options arrays = {0};
  text_list in = {0}, out = {0}, positional;
  const option options[] = {{"in", 'i', OPTION_LIST, &in, 0, 0, "name=x.npy ...", "inputs of the network"},
                            {"out", 'o', OPTION_LIST, &out, 0, 0, "name=y.npy ...", "outputs of the network"},
                            LAYOUT_OPTION(arrays.layout),
                            COMMON_OPTIONS(common)};
  int status = args_parse(self, argc, argv, options, COUNT(options), &positional);
  text_list *lists[] = {&positional, &in, &out}; // a list takes what stands behind it
  for (int i = 0; i < 3 && status == ARGS_GO; i++) status = take_engine_keys(self, lists[i], &common);
  if (status != ARGS_GO) return status;
  if (positional.count != 1) return usage_error(self, "expected one MODEL directory or network in it, got %d arguments", positional.count);
  if (!in.count || !out.count) return usage_error(self, "--in name=x.npy and --out name=y.npy are needed, once or more");
  if (in.count > MOST_ARRAYS || out.count > MOST_ARRAYS) return usage_error(self, "more than %d arrays", MOST_ARRAYS);
  char names[2 * MOST_ARRAYS][128];
  const char *in_path[MOST_ARRAYS], *out_path[MOST_ARRAYS];
  for (int i = 0; i < in.count; i++)
    if (!(in_path[i] = cut_name(in.at[i], names[i], sizeof names[i]))) return usage_error(self, "--in '%s': expected name=x.npy", in.at[i]);
  for (int i = 0; i < out.count; i++) {
    if (!(out_path[i] = cut_name(out.at[i], names[MOST_ARRAYS + i], sizeof names[i])))
      return usage_error(self, "--out '%s': expected name=y.npy", out.at[i]);
    status = check_output(self, out_path[i], true);
    if (status != ARGS_GO) return status;
  }
  elbo_ctx *ctx = NULL;
  status = open_context(&common, &ctx);
  if (status != ARGS_GO) return status;
  elbo_named_array inputs[MOST_ARRAYS] = {{0}}, outputs[MOST_ARRAYS] = {{0}};
  elbo_status made = ELBO_OK;
  for (int i = 0; i < in.count && made == ELBO_OK; i++) {
    inputs[i].name = names[i];
    made = read_one(ctx, in_path[i], arrays.layout, &inputs[i].array);
  }
  for (int i = 0; i < out.count; i++) outputs[i].name = names[MOST_ARRAYS + i];
  if (made == ELBO_OK) made = elbo_apply(ctx, positional.at[0], in.count, inputs, out.count, outputs);
  if (common.json && made == ELBO_OK) printf("{\"outputs\": {");
  for (int i = 0; i < out.count && made == ELBO_OK; i++) {
    made = write_array(ctx, outputs[i].array, &arrays, out_path[i]);
    if (made != ELBO_OK) break;
    if (common.json) {
      printf("%s", i ? ", " : "");
      print_json_text(stdout, outputs[i].name);
      printf(": ");
      print_json_text(stdout, out_path[i]);
    } else
      printf("%s: %s\n", outputs[i].name, out_path[i]);
  }
  if (common.json && made == ELBO_OK) printf("}}\n");
  for (int i = 0; i < MOST_ARRAYS; i++) elbo_array_destroy(&inputs[i].array), elbo_array_destroy(&outputs[i].array);
  status = made == ELBO_OK ? STATUS_DONE : report_failure(ctx, made);
  elbo_ctx_destroy(&ctx);
  return status;
}

const command command_apply = {
    "apply",
    "MODEL --in name=x.npy ... --out name=y.npy ...",
    "run any network of a model directory on arrays",
    "A VAE's MODEL/encoder: x in; mean, std out. MODEL/decoder: codes in; x (the likelihood's mean), output (its parameters) out.\n"
    "MODEL: x in; any of these out. A conditional one takes label or condition too.\n"
    "A diffusion model's MODEL/unet (transformer): sample, timestep, and what its config asks for: class_labels,\n"
    "encoder_hidden_states, text_embeds, time_ids, timestep_cond in; sample out. timestep: one number, or one for each row.\n"
    "An autoencoder of diffusers (PIPELINE/vae): x in; mean, logvar (AutoencoderKL) or latents (the others) out; z in; sample out.\n"
    "Arrays: any numeric type. MODEL: a model directory, a run, or a checkpoint of one.",
    "elbo apply pipeline/unet --in sample=x.npy timestep=t.npy --out sample=y.npy --layout nchw",
    run};
