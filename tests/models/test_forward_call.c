// Calls of networks for the benchmarks: shapes without data, one side of an autoencoder, the networks of published sizes.
#include "support/test.h"

#include <elbo/recipe.h>
#include <stdio.h>
#include <string.h>

#include "models/forward_call.h"
#include "models/recipe.h"
#include "models/workload.h"
#include "nn/denoiser.h"

static elbo_ctx *ctx;

static elbo_recipe *recipe_of(const char *text) {
  elbo_recipe *r;
  const char *path = test_path("recipe.yaml");
  test_write_file(path, text, strlen(text));
  assert_ok(ctx, elbo_recipe_load(ctx, path, 0, NULL, &r));
  return r;
}

#define AUTOENCODER(KIND, BENCH)                                                                                         \
  "model:\n  preset: autoencoder\n  network: " KIND                                                                      \
  "\n  kl: {block_out_channels: [4, 8], norm_num_groups: 2, latent_channels: 3, down_block_types: [DownEncoderBlock2D, " \
  "DownEncoderBlock2D], up_block_types: [UpDecoderBlock2D, UpDecoderBlock2D]}\n  tiny: {num_encoder_blocks: [0, 1], "    \
  "num_decoder_blocks: [1, 0], encoder_block_out_channels: [4, 4], decoder_block_out_channels: [4, 4]}\ndata: {path: "   \
  "\"shapes:size=16\"}\ntrain: {steps: 1, batch_size: 2}\nbench: " BENCH "\n"

typedef struct called {
  int64_t params, outputs;
} called;

static called call_of(const char *text) {
  elbo_recipe *r = recipe_of(text);
  forward_call *call;
  elbo_train_cost cost;
  assert_ok(ctx, forward_call_create(ctx, r, NULL, &call));
  assert_ok(ctx, forward_call_run(call));
  forward_call_get_cost(call, &cost);
  called out = {cost.params, (int64_t)elbo_plan_input_bytes(forward_call_plan(call), "x") / 4};
  forward_call_destroy(&call);
  elbo_recipe_destroy(&r);
  return out;
}

static void refused(const char *text, elbo_status status, const char *message) {
  elbo_recipe *r = recipe_of(text);
  forward_call *call;
  assert_status(ctx, forward_call_create(ctx, r, NULL, &call), status, message);
  assert_null(call);
  elbo_recipe_destroy(&r);
}

static void test_parts(void **state) {
  (void)state;
  called whole = call_of(AUTOENCODER("kl", "{forward: true}")), encoder = call_of(AUTOENCODER("kl", "{forward: true, part: encoder}")),
         decoder = call_of(AUTOENCODER("kl", "{forward: true, part: decoder}")),
         shaped = call_of(AUTOENCODER("kl", "{forward: true, part: decoder, shape: [4, 6, 3]}"));
  assert_int_equal(whole.params, encoder.params + decoder.params);
  assert_int_equal(whole.outputs, 2 * 16 * 16 * 3);
  assert_int_equal(encoder.outputs, 2 * 16 * 16 * 3);
  assert_int_equal(decoder.outputs, 2 * 8 * 8 * 3); // codes of pictures of the data's size
  assert_int_equal(shaped.outputs, 2 * 4 * 6 * 3);
  assert_int_equal(call_of(AUTOENCODER("tiny", "{forward: true, part: decoder}")).outputs, 2 * 8 * 8 * 4);
}

static void test_refusals(void **state) {
  (void)state;
  refused(AUTOENCODER("kl", "{forward: true, shape: [4, 4]}"), ELBO_ERROR_ARGUMENT,
          "bench.shape: 2 numbers; expected height, width and channels");
  refused(AUTOENCODER("kl", "{forward: true, part: decoder, shape: [4, 4, 4]}"), ELBO_ERROR_ARGUMENT,
          "bench.shape: 4 channels; what is called takes 3");
  refused(
      "model: {preset: autoencoder, kl: {in_channels: 1}}\ndata: {path: \"shapes:size=16\"}\ntrain: {steps: 1}\nbench: {forward: true}\n",
      ELBO_ERROR_ARGUMENT, "model.kl.in_channels: 1; the data have 3");
  refused("model: {preset: autoencoder, kl: {norm_num_groups: 7}}\ndata: {path: \"shapes:size=16\"}\ntrain: {steps: 1}\nbench: {forward: "
          "true}\n",
          ELBO_ERROR_ARGUMENT, "model.kl: norm_num_groups: 7 does not divide block_out_channels[0], 64");
  elbo_recipe *r;
  workload *w;
  // a network that is called with embeddings alone cannot be trained on data without them
  r = recipe_of(
      "model: {preset: ddpm, network: unet, unet: {class: UNet2DConditionModel, block_out_channels: [32], down_block_types: "
      "[CrossAttnDownBlock2D], up_block_types: [CrossAttnUpBlock2D], cross_attention_dim: 6}, condition: {type: context, tokens: 5, dim: "
      "6}}\ndata: {path: \"shapes:size=16\"}\ntrain: {steps: 1}\n");
  assert_status(ctx, workload_create(ctx, r, NULL, NULL, &w), ELBO_ERROR_ARGUMENT,
                "model.condition.type: context, but the data carry none");
  elbo_recipe_destroy(&r);
}

// What the workloads of recipes/bench build, without weights
static void test_published(void **state) {
  static const struct {
    const char *name;
    int64_t parameters, out[4];
  } workloads[] = {
      {"sd15-unet", 859520964, {1, 64, 64, 4}},
      {"sd15-vae-decode", 49490199, {1, 512, 512, 3}},
  };
  (void)state;
  for (size_t i = 0; i < sizeof workloads / sizeof *workloads; i++) {
    elbo_recipe *r;
    elbo_graph *g;
    elbo_tensor *y;
    assert_ok(ctx, elbo_recipe_load_benchmark(ctx, workloads[i].name, 0, NULL, &r));
    const config_ints *shape = &r->stage->bench.shape;
    assert_int_equal(shape->count, 3);
    preset_request request = {.file = r->name,
                              .stage = r->stage,
                              .config = r->config,
                              .info = {.height = (int)shape->at[0], .width = (int)shape->at[1], .channels = (int)shape->at[2], .bits = 8},
                              .micro_batch = r->stage->train.batch_size};
    assert_ok(ctx, r->preset->forward(ctx, &request, &g, &y));
    assert_ok(ctx, elbo_graph_check(g));
    assert_int_equal(graph_parameter_count(g), workloads[i].parameters);
    for (int d = 0; d < 4; d++) assert_int_equal(elbo_tensor_dim(y, d), workloads[i].out[d]);
    elbo_graph_destroy(&g);
    elbo_recipe_destroy(&r);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_parts), cmocka_unit_test(test_refusals), cmocka_unit_test(test_published)};
  ctx = test_ctx(0);
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  elbo_ctx_destroy(&ctx);
  return failed;
}
