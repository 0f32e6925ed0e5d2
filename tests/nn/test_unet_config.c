// Configs of UNets: counts of published networks, what is refused and how it is said, what the data fill in, inputs.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "nn/unet.h"
#include "support/test.h"

static elbo_ctx *ctx;
static arena *memory;

static elbo_status load(const char *text, unet_config *out) {
  test_write_file(test_path("config.json"), text, strlen(text));
  return unet_config_read(ctx, memory, test_path("config.json"), out);
}

static int64_t count_parameters(const unet_config *c, int64_t size) {
  elbo_graph *g;
  denoiser_needs needs = unet_needs(c);
  denoiser_call call = {.batch = 1, .height = size, .width = size, .tokens = 77, .time_ids = 6};
  assert_ok(ctx, elbo_graph_create(ctx, "count", &g));
  denoiser_inputs in = denoiser_declare(g, &needs, &call);
  elbo_tensor *y = unet_network(c, &in);
  assert_ok(ctx, elbo_graph_check(g));
  assert_int_equal(elbo_tensor_dim(y, 1), size);
  assert_int_equal(elbo_tensor_dim(y, 3), c->out_channels);
  int64_t count = graph_parameter_count(g);
  elbo_graph_destroy(&g);
  return count;
}

#define FOUR_LEVELS                                                                                  \
  "\"down_block_types\": [\"DownBlock2D\", \"AttnDownBlock2D\", \"DownBlock2D\", \"DownBlock2D\"], " \
  "\"up_block_types\": [\"UpBlock2D\", \"UpBlock2D\", \"AttnUpBlock2D\", \"UpBlock2D\"]"

// Figures of diffusers 0.42 (tests/golden/make_unet.py count)
static void test_counts(void **state) {
  (void)state;
  static const struct {
    const char *config;
    int64_t size, parameters;
  } networks[] = {
      {"{\"_class_name\": \"UNet2DConditionModel\", \"cross_attention_dim\": 768}", 64, 859520964}, // Stable Diffusion 1.5
      {"{\"_class_name\": \"UNet2DConditionModel\", \"cross_attention_dim\": 1024, \"attention_head_dim\": [5, 10, 20, 20], "
       "\"use_linear_projection\": true}",
       96, 865910724}, // 2.1
      {"{\"_class_name\": \"UNet2DConditionModel\", \"block_out_channels\": [320, 640, 1280], \"cross_attention_dim\": 2048, "
       "\"down_block_types\": [\"DownBlock2D\", \"CrossAttnDownBlock2D\", \"CrossAttnDownBlock2D\"], "
       "\"up_block_types\": [\"CrossAttnUpBlock2D\", \"CrossAttnUpBlock2D\", \"UpBlock2D\"], "
       "\"transformer_layers_per_block\": [1, 2, 10], \"attention_head_dim\": [5, 10, 20], \"use_linear_projection\": true, "
       "\"addition_embed_type\": \"text_time\", \"addition_time_embed_dim\": 256, \"projection_class_embeddings_input_dim\": 2816}",
       128, 2567463684}, // XL
      {"{\"_class_name\": \"UNet2DModel\", \"block_out_channels\": [256, 256, 512, 512, 1024, 1024], \"out_channels\": 6, "
       "\"down_block_types\": [\"ResnetDownsampleBlock2D\", \"ResnetDownsampleBlock2D\", \"ResnetDownsampleBlock2D\", "
       "\"AttnDownBlock2D\", \"AttnDownBlock2D\", \"AttnDownBlock2D\"], \"up_block_types\": [\"AttnUpBlock2D\", \"AttnUpBlock2D\", "
       "\"AttnUpBlock2D\", \"ResnetUpsampleBlock2D\", \"ResnetUpsampleBlock2D\", \"ResnetUpsampleBlock2D\"], "
       "\"attention_head_dim\": 64, \"downsample_type\": \"resnet\", \"upsample_type\": \"resnet\", "
       "\"resnet_time_scale_shift\": \"scale_shift\", \"num_class_embeds\": 1000}",
       256, 553836038}, // ADM at 256 x 256
      {"{\"_class_name\": \"UNet2DModel\", \"_diffusers_version\": \"0.0.4\", \"act_fn\": \"silu\", \"attention_head_dim\": null, "
       "\"block_out_channels\": [128, 256, 256, 256], \"center_input_sample\": false, " FOUR_LEVELS ", \"downsample_padding\": 0, "
       "\"flip_sin_to_cos\": false, \"freq_shift\": 1, \"in_channels\": 3, \"layers_per_block\": 2, \"mid_block_scale_factor\": 1, "
       "\"norm_eps\": 1e-06, \"norm_num_groups\": 32, \"out_channels\": 3, \"sample_size\": 32, \"time_embedding_type\": \"positional\"}",
       32, 35746307}, // DDPM on CIFAR-10
      {"{\"_class_name\": \"UNet2DModel\", \"block_out_channels\": [32, 64, 128], \"layers_per_block\": 1, \"norm_num_groups\": 8, "
       "\"down_block_types\": [\"DownBlock2D\", \"DownBlock2D\", \"AttnDownBlock2D\"], \"up_block_types\": [\"AttnUpBlock2D\", "
       "\"UpBlock2D\", \"UpBlock2D\"], \"in_channels\": 1, \"out_channels\": 1, \"attention_head_dim\": 8}",
       32, 2734945}, // the benchmark's ddpm-small
      {"{\"_class_name\": \"UNet2DModel\"}", 32, 274056163},
      {"{\"_class_name\": \"UNet2DConditionModel\"}", 32, 872300484},
  };
  for (size_t i = 0; i < sizeof networks / sizeof *networks; i++) {
    unet_config c;
    assert_ok(ctx, load(networks[i].config, &c));
    assert_ok(ctx, unet_check(ctx, &c, networks[i].size, networks[i].size, "unet"));
    assert_int_equal(count_parameters(&c, networks[i].size), networks[i].parameters);
  }
}

// A plain config of two levels with some keys of its own
static const char *with(const char *class, const char *keys) {
  static char text[1024];
  bool condition = strcmp(class, "UNet2DConditionModel") == 0;
  snprintf(text, sizeof text, "{\"_class_name\": \"%s\", %s%s%s%s%s}", class, keys, keys[0] ? ", " : "",
           strstr(keys, "block_out_channels") ? "" : "\"block_out_channels\": [32, 64], ",
           strstr(keys, "down_block_types") ? ""
           : condition                      ? "\"down_block_types\": [\"CrossAttnDownBlock2D\", \"DownBlock2D\"], "
                                            : "\"down_block_types\": [\"DownBlock2D\", \"AttnDownBlock2D\"], ",
           strstr(keys, "up_block_types") ? "\"norm_num_groups\": 32"
           : condition                    ? "\"up_block_types\": [\"UpBlock2D\", \"CrossAttnUpBlock2D\"]"
                                          : "\"up_block_types\": [\"AttnUpBlock2D\", \"UpBlock2D\"]");
  return text;
}

static const struct {
  const char *keys, *message;
} plain_refusals[] = {
    {"\"act_fm\": \"silu\"", "act_fm: unknown key; did you mean 'act_fn'?"},
    {"\"act_fn\": \"elu\"", "act_fn: 'elu'; did you mean 'gelu'? expected one of silu, swish, mish, gelu, relu"},
    {"\"act_fn\": null", "act_fn: has no value; expected one of silu"},
    {"\"class\": \"UNet2DModel\"", "class: unknown key; did you mean '_class_name'?"},
    {"\"down_block_types\": [\"DownBlock\", \"DownBlock2D\"], \"up_block_types\": [\"UpBlock2D\", \"UpBlock2D\"]",
     "down_block_types[0]: unknown block 'DownBlock'; did you mean 'DownBlock2D'?"},
    {"\"down_block_types\": [\"DownBlock2D\", \"KDownBlock2D\"], \"up_block_types\": [\"UpBlock2D\", \"UpBlock2D\"]",
     "down_block_types[1]: KDownBlock2D is not implemented; expected one of"},
    {"\"down_block_types\": [\"DownBlock2D\", \"Mystery\"], \"up_block_types\": [\"UpBlock2D\", \"UpBlock2D\"]",
     "down_block_types[1]: 'Mystery' is no block that we have; expected one of DownBlock2D, AttnDownBlock2D, "},
    {"\"down_block_types\": [\"DownBlock2D\", \"CrossAttnDownBlock2D\"], \"up_block_types\": [\"UpBlock2D\", \"UpBlock2D\"]",
     "down_block_types[1]: CrossAttnDownBlock2D does not go into a UNet2DModel"},
    {"\"down_block_types\": [\"DownBlock2D\"]", "up_block_types: a list of 2; there are 1 down_block_types"},
    {"\"block_out_channels\": [32, 64, 64]", "block_out_channels: a list of 3; there are 2 down_block_types"},
    {"\"block_out_channels\": [48, 64]", "resnets.0: 32 groups (norm_num_groups) do not divide its 48 channels"},
    {"\"layers_per_block\": [1, 2]", "layers_per_block: a list; a UNet2DModel takes a single number"},
    {"\"layers_per_block\": 100000", "layers_per_block: '100000'; expected a whole number from 1 to 64"},
    {"\"attention_head_dim\": [8, 8]", "attention_head_dim: a list; a UNet2DModel takes a single number"},
    {"\"attention_head_dim\": 128", "heads of 128 channels in 64"},
    {"\"cross_attention_dim\": 8", "cross_attention_dim: a key of UNet2DConditionModel; the class is UNet2DModel"},
    {"\"dual_cross_attention\": true", "dual_cross_attention: a key of UNet2DConditionModel"},
    {"\"mid_block_type\": \"UNetMidBlock2DCrossAttn\"", "mid_block_type: a UNet2DModel takes UNetMidBlock2D or null"},
    {"\"mid_block_type\": \"MidBlock\"", "mid_block_type: \"MidBlock\"; expected one of"},
    {"\"resnet_time_scale_shift\": \"spatial\"", "resnet_time_scale_shift: \"spatial\"; expected one of default, scale_shift"},
    {"\"time_embedding_type\": \"learned\"", "num_train_timesteps: null; a learned time_embedding_type needs"},
    {"\"freq_shift\": 16", "freq_shift: 16; an embedding of 32 channels has no such frequencies"},
    {"\"class_embed_type\": \"projection\"", "class_embed_type: a UNet2DModel takes null, timestep or identity"},
    {"\"downsample_padding\": 2", "downsample_padding: '2'; expected a whole number from 0 to 1"},
    {"\"dropout\": 1.5", "dropout: '1.5'; expected a number from 0 to 0.99"},
    {"\"norm_num_groups\": null", "resnets.0: norm_num_groups: null; this block needs a number"},
    {"\"sample_size\": [1, 2, 3]", "sample_size: a list of 3; expected height and width"},
    {"\"down_block_types\": [\"DownBlock2D\", \"SkipDownBlock2D\"], \"up_block_types\": [\"UpBlock2D\", \"UpBlock2D\"]",
     "down_block_types[1]: a Skip block behind another kind"},
    {"\"down_block_types\": [\"DownBlock2D\", \"DownBlock2D\"], \"up_block_types\": [\"SkipUpBlock2D\", \"UpBlock2D\"]",
     "up_block_types[1]: not a Skip block, behind one"},
    {"\"in_channels\": 1, \"down_block_types\": [\"SkipDownBlock2D\", \"DownBlock2D\"], \"up_block_types\": [\"UpBlock2D\", \"UpBlock2D\"]",
     "in_channels: 1; the Skip blocks take pictures of 3"},
};

static const struct {
  const char *keys, *message;
} condition_refusals[] = {
    {"\"num_attention_heads\": 8", "num_attention_heads: 8; diffusers takes it from attention_head_dim"},
    {"\"dual_cross_attention\": true", "dual_cross_attention: true; it is not implemented"},
    {"\"attention_type\": \"gated\"", "attention_type: \"gated\"; expected one of default"},
    {"\"addition_embed_type\": \"image\"", "addition_embed_type: \"image\"; expected one of null, text, text_time"},
    {"\"encoder_hid_dim_type\": \"image_proj\"", "encoder_hid_dim_type: \"image_proj\"; expected one of null, text_proj"},
    {"\"encoder_hid_dim_type\": \"text_proj\"", "encoder_hid_dim: null; encoder_hid_dim_type needs it"},
    {"\"downsample_type\": \"resnet\"", "downsample_type: a key of UNet2DModel; the class is UNet2DConditionModel"},
    {"\"time_embedding_type\": \"learned\"", "time_embedding_type: learned; a UNet2DConditionModel takes"},
    {"\"time_embedding_type\": \"fourier\", \"time_embedding_dim\": 7",
     "time_embedding_dim: 7; a fourier time_embedding_type needs an even"},
    {"\"class_embed_type\": \"projection\"", "projection_class_embeddings_input_dim: null; this class_embed_type needs it"},
    {"\"class_embeddings_concat\": true", "class_embeddings_concat: true; there is no class embedding"},
    {"\"addition_embed_type\": \"text_time\"", "projection_class_embeddings_input_dim: null; addition_embed_type text_time needs it"},
    {"\"addition_embed_type\": \"text_time\", \"projection_class_embeddings_input_dim\": 9", "addition_time_embed_dim: null"},
    {"\"addition_embed_type\": \"text\", \"cross_attention_dim\": 100", "addition_embed_type_num_heads: 64 do not divide"},
    {"\"cross_attention_dim\": null", "cross_attention_dim: null; blocks with cross-attention need it"},
    {"\"cross_attention_dim\": [8, 16]", "cross_attention_dim: differs between blocks"},
    {"\"cross_attention_dim\": [8, 8, 8]", "cross_attention_dim: a list of 3; there are 2 down_block_types"},
    {"\"attention_head_dim\": null", "attention_head_dim: null; a UNet2DConditionModel needs a number"},
    {"\"attention_head_dim\": [1, 2, 3]", "attention_head_dim: a list of 3"},
    {"\"attention_head_dim\": 33", "33 heads (attention_head_dim) of 32 channels"},
    {"\"only_cross_attention\": [true, 1]", "only_cross_attention[1]: '1'; expected true or false"},
    {"\"transformer_layers_per_block\": [[1, 1], 1]", "reverse_transformer_layers_per_block: null; lists within"},
    {"\"transformer_layers_per_block\": [1, 1, 1]", "transformer_layers_per_block: a list of 3"},
    {"\"reverse_transformer_layers_per_block\": [1, [1, 1]]", "reverse_transformer_layers_per_block: a list of 2 for a level of 3 layers"},
    {"\"transformer_layers_per_block\": 1000", "transformer_layers_per_block: '1000'; expected a whole number from 0 to 256"},
    {"\"conv_in_kernel\": 2", "conv_in_kernel: even"},
    {"\"cross_attention_norm\": \"group_norm\", \"cross_attention_dim\": 33", "cross_attention_norm: group_norm has 32 groups"},
    {"\"down_block_types\": [\"SkipDownBlock2D\", \"DownBlock2D\"], \"up_block_types\": [\"UpBlock2D\", \"UpBlock2D\"]",
     "down_block_types[0]: SkipDownBlock2D does not go into a UNet2DConditionModel"},
};

static void test_refusals(void **state) {
  (void)state;
  unet_config c;
  assert_ok(ctx, load(with("UNet2DModel", ""), &c));
  assert_ok(ctx, load(with("UNet2DConditionModel", ""), &c));
  for (size_t i = 0; i < sizeof plain_refusals / sizeof *plain_refusals; i++)
    assert_status(ctx, load(with("UNet2DModel", plain_refusals[i].keys), &c),
                  strstr(plain_refusals[i].message, "not implemented") ? ELBO_ERROR_UNSUPPORTED : ELBO_ERROR_ARGUMENT,
                  plain_refusals[i].message);
  for (size_t i = 0; i < sizeof condition_refusals / sizeof *condition_refusals; i++)
    assert_status(ctx, load(with("UNet2DConditionModel", condition_refusals[i].keys), &c), ELBO_ERROR_ARGUMENT,
                  condition_refusals[i].message);
  assert_status(ctx, load("{}", &c), ELBO_ERROR_ARGUMENT, "_class_name: missing");
  assert_status(ctx, load("[]", &c), ELBO_ERROR_ARGUMENT, "expected the map");
  assert_status(ctx, load("{\"_class_name\": \"UNet3DModel\"}", &c), ELBO_ERROR_ARGUMENT,
                "class: 'UNet3DModel'; did you mean 'UNet2DModel'?");
  // null where diffusers takes it for false
  assert_ok(ctx, load(with("UNet2DConditionModel", "\"upcast_attention\": null, \"class_embeddings_concat\": null"), &c));
  assert_false(c.upcast_attention || c.class_embeddings_concat);
  // keys that say nothing about the network
  assert_ok(ctx, load("{\"_class_name\": \"UNet2DModel\", \"_diffusers_version\": \"0.4\", \"_name_or_path\": \"x\"}", &c));
}

static void test_sizes(void **state) {
  (void)state;
  unet_config c;
  assert_ok(ctx, load(with("UNet2DModel", ""), &c));
  assert_ok(ctx, unet_check(ctx, &c, 6, 4, "model.unet"));
  assert_status(ctx, unet_check(ctx, &c, 6, 5, "model.unet"), ELBO_ERROR_ARGUMENT,
                "model.unet: sample_size: a 6x5 picture cannot be halved 1 times: after 0 the width is 5, which is odd");
  assert_ok(ctx, load(with("UNet2DConditionModel", ""), &c));
  assert_ok(ctx, unet_check(ctx, &c, 7, 5, "model.unet")); // as diffusers: the way up is cut
  assert_ok(ctx, load(with("UNet2DConditionModel", "\"downsample_padding\": 0"), &c));
  assert_status(ctx, unet_check(ctx, &c, 7, 4, "model.unet"), ELBO_ERROR_ARGUMENT, "after 0 the height is 7, which is odd");
}

static elbo_status load_block(const char *text, unet_config *out) {
  yaml_node *root;
  TRY(yaml_parse(ctx, memory, "r.yaml", text, strlen(text), &root));
  return config_load(ctx, memory, &unet_table, root, "model.unet", out);
}

// A recipe's block, and what the data say
static void test_fit(void **state) {
  (void)state;
  unet_config c;
  denoiser_shape shape = {.height = 32, .width = 32, .in_channels = 1, .out_channels = 2, .classes = 11};
  assert_ok(
      ctx, load_block(
               "{block_out_channels: [32, 64], down_block_types: [DownBlock2D, DownBlock2D], up_block_types: [UpBlock2D, UpBlock2D]}", &c));
  assert_ok(ctx, unet_fit(ctx, memory, &c, &shape, "model.unet"));
  assert_true(c.sample_size.count == 1 && c.sample_size.at[0] == 32 && c.in_channels == 1 && c.out_channels == 2 &&
              c.num_class_embeds == 11);
  assert_int_equal(c.mid_block_type, UNET_MID_PLAIN);
  assert_ok(ctx, unet_check(ctx, &c, 32, 32, "model.unet"));
  denoiser_needs needs = unet_needs(&c);
  assert_true(needs.class_labels == CLASS_INPUT_INDEX && needs.classes == 11 && needs.context_dim == 0 && needs.in_channels == 1);
  assert_ok(ctx, unet_fit(ctx, memory, &c, &shape, "model.unet")); // twice is once
  static const char *const bad[][2] = {
      {"in_channels: 3", "model.unet: in_channels: 3; what the network is given is 1"},
      {"out_channels: 1", "model.unet: out_channels: 1; what it must give is 2"},
      {"sample_size: 28", "model.unet: sample_size: 28x28; the data are 32x32"},
      {"num_class_embeds: 10", "model.unet: num_class_embeds: 10; the number of labels"},
  };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    assert_ok(ctx, load_block(bad[i][0], &c));
    assert_status(ctx, unet_fit(ctx, memory, &c, &shape, "model.unet"), ELBO_ERROR_ARGUMENT, bad[i][1]);
  }
  shape.width = 16, shape.classes = 0;
  assert_ok(ctx, load_block("class: UNet2DConditionModel", &c));
  assert_ok(ctx, unet_fit(ctx, memory, &c, &shape, "model.unet"));
  assert_true(c.sample_size.count == 2 && c.block_out_channels.at[0] == 320 && c.mid_block_type == UNET_MID_CROSS &&
              c.num_class_embeds == 0);
  assert_int_equal(unet_needs(&c).context_dim, 1280);
  assert_status(ctx, load_block("class: UNet2DModell", &c), ELBO_ERROR_ARGUMENT,
                "r.yaml:1: model.unet.class: 'UNet2DModell'; did you mean");
}

// A call with inputs that are missing, of the wrong kind, or of no use
static void test_inputs(void **state) {
  (void)state;
  static const char *const wrong[] = {"sample: is float32 (2,8,8,5)",
                                      "timestep: is float32 (3)",
                                      "class_labels: missing; expected int32 (B)",
                                      "class_labels: is float32 (2); expected int32 (2)",
                                      "encoder_hidden_states: missing; expected float32 (B,N,6)",
                                      "encoder_hidden_states: is float32 (2,3,7); expected float32 (2,N,6)",
                                      "timestep_cond: given, but this network has no use for it",
                                      "text_embeds: given, but this network has no use for it"};
  unet_config c;
  assert_ok(ctx, load(with("UNet2DConditionModel", "\"cross_attention_dim\": 6, \"num_class_embeds\": 3"), &c));
  denoiser_needs needs = unet_needs(&c);
  for (int i = 0; i < (int)(sizeof wrong / sizeof *wrong); i++) {
    elbo_graph *g;
    denoiser_call call = {.batch = 2, .height = 8, .width = 8, .tokens = 3};
    assert_ok(ctx, elbo_graph_create(ctx, "call", &g));
    denoiser_inputs in = denoiser_declare(g, &needs, &call);
    elbo_tensor *two = elbo_input(g, "two", ELBO_F32, 1, (int64_t[]){2}), *flat = elbo_input(g, "flat", ELBO_F32, 2, (int64_t[]){2, 4});
    switch (i) {
    case 0: in.sample = elbo_input(g, "x", ELBO_F32, 4, (int64_t[]){2, 8, 8, 5}); break;
    case 1: in.timestep = elbo_input(g, "t", ELBO_F32, 1, (int64_t[]){3}); break;
    case 2: in.class_labels = NULL; break;
    case 3: in.class_labels = two; break;
    case 4: in.context = NULL; break;
    case 5: in.context = elbo_input(g, "c", ELBO_F32, 3, (int64_t[]){2, 3, 7}); break;
    case 6: in.timestep_cond = flat; break;
    default: in.text_embeds = flat; break;
    }
    assert_null(unet_network(&c, &in));
    assert_status(ctx, elbo_graph_check(g), ELBO_ERROR_ARGUMENT, wrong[i]);
    elbo_graph_destroy(&g);
  }
}

// Dropout acts in training alone, and then differs between examples with equal content.
static void test_dropout(void **state) {
  (void)state;
  unet_config c;
  assert_ok(ctx, load(with("UNet2DModel", "\"dropout\": 0.5"), &c));
  denoiser_needs needs = unet_needs(&c);
  for (int training = 0; training < 2; training++) {
    elbo_graph *g;
    elbo_store *store;
    elbo_plan *plan;
    denoiser_call call = {.batch = 2, .height = 4, .width = 4, .training = training};
    assert_ok(ctx, elbo_graph_create(ctx, "dropout", &g));
    denoiser_inputs in = denoiser_declare(g, &needs, &call);
    elbo_tensor *y = unet_network(&c, &in);
    assert_ok(ctx, elbo_store_create(ctx, 1, &g, test_seed(), &store));
    assert_ok(ctx, elbo_plan_create(ctx, g, 1, &y, NULL, &plan));
    assert_int_equal(elbo_plan_input(plan, "seed") != NULL, training);
    if (training) {
      *(int64_t *)elbo_plan_input(plan, "seed") = 3;
      for (int i = 0; i < 2; i++) ((int64_t *)elbo_plan_input(plan, "sample_index"))[i] = i;
    }
    float *x = elbo_plan_input(plan, "sample"), *t = elbo_plan_input(plan, "timestep");
    for (int i = 0; i < 2 * 4 * 4 * 3; i++) x[i] = (float)(i % 48) / 48;
    t[0] = t[1] = 7;
    assert_ok(ctx, elbo_plan_run(plan, store));
    const float *out = elbo_plan_output(plan, 0);
    int differ = 0;
    for (int i = 0; i < 48; i++) differ += out[i] != out[48 + i];
    assert_true(training ? differ > 40 : differ == 0);
    elbo_plan_destroy(&plan);
    elbo_store_destroy(&store);
    elbo_graph_destroy(&g);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_counts), cmocka_unit_test(test_refusals), cmocka_unit_test(test_sizes),
                                     cmocka_unit_test(test_fit),    cmocka_unit_test(test_inputs),   cmocka_unit_test(test_dropout)};
  ctx = test_ctx(1);
  memory = arena_create(1 << 16);
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  arena_destroy(&memory);
  elbo_ctx_destroy(&ctx);
  return failed;
}
