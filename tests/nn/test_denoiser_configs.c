// The networks' configs: files there and back, what is refused and how, sizes that do not fit, what a recipe leaves to the data, published
// parameter counts, dropout.
#include "nn/denoiser_cases.h"

#include "backend/node.h"
#include "graph/store.h"

static void load(elbo_ctx *ctx, arena *a, const network_kind *kind, const char *text, any_config *out) {
  yaml_node *root;
  assert_ok(ctx, yaml_parse(ctx, a, "recipe", text, strlen(text), &root));
  assert_ok(ctx, config_load(ctx, a, kind->table, root, kind->name, out));
}

// --- files ---

static void test_round_trip(void **state) {
  (void)state;
  static const struct {
    const char *network, *text;
  } all[] = {
      {"dit",
       "{num_attention_heads: 3, attention_head_dim: 8, num_layers: 2, in_channels: 4, out_channels: 8, sample_size: 16, patch_size: "
       "4, dropout: 0.25, attention_bias: false, activation_fn: swiglu, num_embeds_ada_norm: 7, norm_elementwise_affine: true, "
       "norm_eps: 1e-4, norm_num_groups: 16, upcast_attention: true}"},
      {"edm",
       "{model_type: SongUNet, img_resolution: 16, in_channels: 1, out_channels: 2, label_dim: 3, augment_dim: 9, model_channels: 16, "
       "channel_mult: [1, 2, 4], channel_mult_emb: 2, num_blocks: 2, attn_resolutions: [8], dropout: 0.2, label_dropout: 0.1, "
       "embedding_type: fourier, channel_mult_noise: 2, encoder_type: residual, decoder_type: skip, resample_filter: [1, 3, 3, 1]}"},
      {"edm", "{model_type: DhariwalUNet, img_resolution: 8, in_channels: 1, out_channels: 1, model_channels: 16, channel_mult: [1], "
              "num_blocks: 1, attn_resolutions: []}"},
      {"vdm", "{in_channels: 2, out_channels: 2, channels: 16, layers: 3, dropout: 0, attention: true, attention_head_dim: 8, fourier: [], "
              "norm_num_groups: 4, norm_eps: 1e-5, num_class_embeds: 4, logsnr_min: -7, logsnr_max: 6.5, add_input: false}"},
      {"mlp", "{in_channels: 2, out_channels: 4, width: 32, layers: 3, dropout: 0.5, norm_num_groups: 8, time_embedding: fourier, "
              "time_width: 12, time_scale: 0.25, fourier_scale: 2, num_class_embeds: 5}"}};
  elbo_ctx *ctx = test_ctx(1);
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
    const network_kind *kind = kind_of(all[i].network);
    arena *a = arena_create(1 << 14);
    any_config there, back;
    text_buffer one = {0}, two = {0};
    const char *path = test_path("written.json");
    load(ctx, a, kind, all[i].text, &there);
    assert_ok(ctx, kind->write(ctx, path, &there));
    assert_ok(ctx, kind->read(ctx, a, path, &back));
    config_write(kind->table, &there, 0, false, &one);
    config_write(kind->table, &back, 0, false, &two);
    char *before = text_take(&one), *after = text_take(&two);
    assert_string_equal(before, after);
    free(before);
    free(after);
    arena_destroy(&a);
  }
  elbo_ctx_destroy(&ctx);
}

// What diffusers takes for granted where a file says nothing
static void test_dit_defaults(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  arena *a = arena_create(1 << 14);
  dit_config c;
  assert_ok(ctx, dit_config_read(ctx, a, config_path("{}"), &c));
  assert_int_equal(c.in_channels, 4);
  assert_int_equal(c.out_channels, 4);
  assert_int_equal(c.sample_size, 32);
  assert_int_equal(c.num_embeds_ada_norm, 1000);
  assert_int_equal(c.num_attention_heads * c.attention_head_dim, 1152);
  assert_int_equal(c.num_layers, 28);
  assert_ok(ctx, dit_config_read(ctx, a,
                                 config_path("{\"_class_name\": \"DiTTransformer2DModel\", \"_diffusers_version\": \"0.42.1\", "
                                             "\"_name_or_path\": \"x\", \"out_channels\": null, \"in_channels\": 3}"),
                                 &c));
  assert_int_equal(c.out_channels, 3);
  arena_destroy(&a);
  elbo_ctx_destroy(&ctx);
}

static void test_hostile_files(void **state) {
  (void)state;
  static const struct {
    const char *network, *text, *part;
  } all[] = {{"dit", "{\n\"num_layer\": 2}", "config.json:2: num_layer: unknown key; did you mean 'num_layers'?"},
             {"dit", "{\"_class_name\": \"UNet2DModel\"}", "_class_name: DiTTransformer2DModel was expected, not UNet2DModel"},
             {"dit", "{\"norm_type\": \"layer_norm\"}", "norm_type"},
             {"dit", "{\"num_embeds_ada_norm\": null}", "num_embeds_ada_norm: has no value"},
             {"dit", "{\"cross_attention_dim\": 768}", "cross_attention_dim: 768 is not implemented; expected null"},
             {"dit", "{\"use_linear_projection\": true}", "use_linear_projection: true is not implemented; expected false"},
             {"dit", "{\"num_layers\": 0}", "num_layers: '0'; expected a whole number from 1"},
             {"dit", "{\"num_layers\": 1e99}", "num_layers"},
             {"dit", "{\"num_layers\": \"2\"}", "num_layers"},
             {"dit", "{\"num_layers\": [2]}", "num_layers: is a list"},
             {"dit", "{\"in_channels\": 0}", "in_channels: 0"},
             {"dit", "{\"sample_size\": 1}", "sample_size: 1 is less than a patch of 2"},
             {"dit", "{\"activation_fn\": \"gegelu\"}", "activation_fn: 'gegelu'; did you mean 'geglu'?"},
             {"dit", "{\"dropout\": NaN}", "dropout"},
             {"dit", "[1]", "expected a JSON object"},
             {"dit", "", "expected a JSON object"},
             {"dit", "{\"num_layers\": 1, \"num_layers\": 2}", "num_layers"},
             {"edm", "{\"in_channels\": 1, \"out_channels\": 1}", "img_resolution: missing"},
             {"edm", "{\"img_resolution\": 8, \"out_channels\": 1}", "in_channels: missing"},
             {"edm", "{\"img_resolution\": 8, \"in_channels\": 1}", "out_channels: missing"},
             {"edm", "{\"sigma_data\": 0.5}", "sigma_data: unknown key"},
             {"edm", "{\"channel_mult\": [0]}", "channel_mult[0]: '0'"},
             {"vdm", "{\"in_channels\": 1}", "out_channels: missing"},
             {"vdm", "{\"fourier\": [17]}", "fourier[0]: '17'"},
             {"mlp", "{\"out_channels\": 1}", "in_channels: missing"},
             {"mlp", "{\"time_embeding\": \"fourier\"}", "did you mean 'time_embedding'?"}};
  elbo_ctx *ctx = test_ctx(1);
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
    arena *a = arena_create(1 << 14);
    any_config c;
    elbo_status status = kind_of(all[i].network)->read(ctx, a, config_path(all[i].text), &c);
    if (status == ELBO_OK || !strstr(elbo_ctx_message(ctx), all[i].part))
      fail_msg("%s %s: status %d, %s; expected %s", all[i].network, all[i].text, (int)status,
               status == ELBO_OK ? "accepted" : elbo_ctx_message(ctx), all[i].part);
    arena_destroy(&a);
  }
  elbo_ctx_destroy(&ctx);
}

// --- sizes ---

static void test_check(void **state) {
  (void)state;
  static const struct {
    const char *network, *text;
    int64_t h, w, channels;
    const char *part; // NULL: good
  } all[] = {
      {"dit", "{num_attention_heads: 2, attention_head_dim: 4, num_layers: 1}", 8, 8, 1, NULL},
      {"dit", "{num_attention_heads: 2, attention_head_dim: 4, num_layers: 1}", 8, 6, 1, "r.yaml: a 8x6 picture; dit takes squares alone"},
      {"dit", "{num_attention_heads: 2, attention_head_dim: 4, num_layers: 1}", 7, 7, 1, "r.yaml.patch_size: a 7x7 picture"},
      {"dit", "{num_attention_heads: 1, attention_head_dim: 6, num_layers: 1}", 8, 8, 1, "r.yaml.attention_head_dim"},
      {"dit", "{in_channels: 3, num_layers: 1}", 8, 8, 1, "r.yaml.in_channels: 3, but what the network is given has 1"},
      {"edm", "{model_channels: 8, channel_mult: [1, 2], num_blocks: 1}", 8, 6, 1, NULL},
      {"edm", "{model_channels: 8, channel_mult: [1, 2, 2], num_blocks: 1}", 8, 6, 1,
       "r.yaml.channel_mult: a 8x6 picture cannot be halved 2"},
      {"edm", "{model_channels: 18, channel_mult: [1, 2], num_blocks: 1}", 8, 8, 1, "model_channels: a norm of 18 channels"},
      {"edm", "{model_channels: 2, channel_mult: [1]}", 8, 8, 1, "r.yaml.model_channels: 2"},
      {"edm", "{model_channels: 8, channel_mult: [1], resample_filter: [1, 2]}", 8, 8, 1, "r.yaml.resample_filter: expected [1, 1]"},
      {"edm", "{model_type: DhariwalUNet, encoder_type: skip}", 8, 8, 1, "r.yaml.encoder_type: only SongUNet"},
      {"edm", "{model_type: DhariwalUNet, resample_filter: [1, 3, 3, 1]}", 8, 8, 1, "r.yaml.resample_filter: only SongUNet"},
      {"vdm", "{channels: 8, layers: 1, norm_num_groups: 4}", 7, 5, 1, NULL},
      {"vdm", "{channels: 8, layers: 1}", 7, 5, 1, "r.yaml.norm_num_groups: 8 channels"},
      {"vdm", "{channels: 64, layers: 1, attention_head_dim: 24}", 7, 5, 1, "r.yaml.attention_head_dim"},
      {"vdm", "{channels: 32, layers: 1, logsnr_min: 20}", 7, 5, 1, "r.yaml.logsnr_min: 20"},
      {"vdm", "{channels: 32, layers: 1, out_channels: 2}", 7, 5, 1, "r.yaml.add_input"},
      {"mlp", "{}", 1, 1, 2, NULL},
      {"mlp", "{}", 2, 1, 2, "r.yaml: a 2x1 picture; mlp takes vectors"},
      {"mlp", "{time_width: 5}", 1, 1, 2, "r.yaml.time_width: 5"},
      {"mlp", "{condition_dim: 3, num_class_embeds: 2}", 1, 1, 2, "r.yaml.condition_dim"},
      {"mlp", "{norm_num_groups: 3}", 1, 1, 2, "r.yaml.norm_num_groups"},
      {"mlp", "{}", 0, 1, 2, "a 0x1 picture"},
  };
  elbo_ctx *ctx = test_ctx(1);
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
    const network_kind *kind = kind_of(all[i].network);
    arena *a = arena_create(1 << 14);
    any_config c;
    load(ctx, a, kind, all[i].text, &c);
    kind->fit(&c, all[i].h, all[i].w, all[i].channels, all[i].channels, 0);
    elbo_status status = kind->check(ctx, &c, all[i].h, all[i].w, all[i].channels, "r.yaml");
    bool good = all[i].part ? status == ELBO_ERROR_ARGUMENT && strstr(elbo_ctx_message(ctx), all[i].part) : status == ELBO_OK;
    if (!good)
      fail_msg("%s %s: status %d, %s; expected %s", all[i].network, all[i].text, (int)status, status ? elbo_ctx_message(ctx) : "accepted",
               all[i].part ? all[i].part : "no error");
    arena_destroy(&a);
  }
  elbo_ctx_destroy(&ctx);
}

// Inputs that a network has no use for, or lacks
static void test_inputs(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  for (int k = 0; k < N_NETWORK_KINDS; k++) {
    for (int classes = 0; classes < 2; classes++) {
      const network_kind *kind = &network_kinds[k];
      static const char *const texts[] = {"{num_attention_heads: 1, attention_head_dim: 4, num_layers: 1}",
                                          "{model_channels: 8, channel_mult: [1], num_blocks: 1}",
                                          "{channels: 8, layers: 1, norm_num_groups: 4}", "{}"};
      arena *a = arena_create(1 << 14);
      any_config c;
      elbo_graph *g;
      load(ctx, a, kind, texts[k], &c);
      kind->fit(&c, 1, 1, 2, 2, classes ? 3 : 0);
      denoiser_needs needs = kind->needs(&c);
      assert_int_equal(needs.classes, classes ? 4 : 0);
      assert_int_equal(needs.null_class, classes);
      assert_ok(ctx, elbo_graph_create(ctx, "inputs", &g));
      denoiser_inputs in = {.graph = g,
                            .sample = elbo_input(g, "sample", ELBO_F32, 4, (int64_t[]){2, 2, 2, 2}),
                            .timestep = elbo_input(g, "timestep", ELBO_F32, 1, (int64_t[]){2})};
      if (!classes) in.class_labels = elbo_input(g, "class_labels", ELBO_I32, 1, (int64_t[]){2});
      assert_null(kind->build(&c, &in));
      assert_status(ctx, elbo_graph_check(g), ELBO_ERROR_ARGUMENT, classes ? "class_labels: missing" : "class_labels: given");
      elbo_graph_destroy(&g);
      arena_destroy(&a);
    }
  }
  elbo_ctx_destroy(&ctx);
}

// --- published sizes ---

static int64_t count_parameters(elbo_ctx *ctx, const char *network, const char *text, int64_t side, int64_t channels, int64_t out,
                                int64_t classes) {
  const network_kind *kind = kind_of(network);
  arena *a = arena_create(1 << 14);
  any_config c;
  int64_t count = 0;
  load(ctx, a, kind, text, &c);
  kind->fit(&c, side, side, channels, out, classes);
  const denoiser_needs needs = kind->needs(&c);
  assert_ok(ctx, denoiser_trial(ctx, network, &needs, side, side, kind->build, &c, &count));
  arena_destroy(&a);
  return count;
}

static void test_counts(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  // DiT-XL/2, 256x256: 675,129,632 with its table of positions, and one embedding of time and class where diffusers has one a block
  int64_t embedding = 256 * 1152 + 1152 + 1152 * 1152 + 1152 + 1001 * 1152, positions = 256 * 1152;
  assert_int_equal(count_parameters(ctx, "dit", "{}", 32, 4, 8, 1000), 675129632 - positions + 27 * embedding);
  // [Karras22 table 7]: 56, 56 and 296 million
  assert_int_equal(count_parameters(ctx, "edm", "{channel_mult: [2, 2, 2], augment_dim: 9}", 32, 3, 3, 0), 55733891);
  assert_int_equal(count_parameters(ctx, "edm",
                                    "{channel_mult: [2, 2, 2], augment_dim: 9, embedding_type: fourier, channel_mult_noise: 2, "
                                    "encoder_type: residual, resample_filter: [1, 3, 3, 1]}",
                                    32, 3, 3, 0),
                   56397827 + 128); // and the random frequencies, which are not trained
  assert_int_equal(count_parameters(ctx, "edm", "{model_type: DhariwalUNet}", 64, 3, 3, 1000), 295899267);
  elbo_ctx_destroy(&ctx);
}

// --- training ---

// Sum of |differences| of a network's result in training between two seeds
static double difference(elbo_ctx *ctx, const char *network, const char *text, int classes) {
  const network_kind *kind = kind_of(network);
  arena *a = arena_create(1 << 14);
  any_config c;
  elbo_graph *g;
  elbo_store *store;
  elbo_plan *plan;
  int64_t side = strcmp(network, "mlp") == 0 ? 1 : 4;
  load(ctx, a, kind, text, &c);
  kind->fit(&c, side, side, 2, 2, classes);
  assert_ok(ctx, elbo_graph_create(ctx, "training", &g));
  denoiser_inputs in = {.graph = g,
                        .sample = elbo_input(g, "sample", ELBO_F32, 4, (int64_t[]){2, side, side, 2}),
                        .timestep = elbo_input(g, "timestep", ELBO_F32, 1, (int64_t[]){2}),
                        .class_labels = classes ? elbo_input(g, "class_labels", ELBO_I32, 1, (int64_t[]){2}) : NULL,
                        .training = true};
  elbo_tensor *y = kind->build(&c, &in);
  assert_ok(ctx, elbo_graph_check(g));
  assert_ok(ctx, elbo_store_create(ctx, 1, &g, 1, &store));
  for (int i = 0; i < elbo_store_count(store); i++) { // off the zeros that layers start from
    elbo_param_info p;
    test_random r = {test_seed(), (uint64_t)i << 32};
    assert_ok(ctx, elbo_store_get(store, i, &p));
    test_fill_normal(&r, p.data, p.count, 0.3);
  }
  assert_ok(ctx, elbo_plan_create(ctx, g, 1, &y, NULL, &plan));
  float sample[2 * 4 * 4 * 2];
  test_random r = {test_seed(), 0};
  int64_t n = 2 * side * side * 2;
  test_fill_normal(&r, sample, n, 1);
  assert_ok(ctx, elbo_plan_set(plan, "sample", sample, n));
  assert_ok(ctx, elbo_plan_set(plan, "timestep", (const float[]){0.5f, 1}, 2));
  if (classes) memcpy(elbo_plan_input(plan, "class_labels"), (const int32_t[]){0, 1}, 8);
  if (elbo_plan_input(plan, "sample_index")) memcpy(elbo_plan_input(plan, "sample_index"), (const int64_t[]){5, 9}, 16);
  double sum = 0;
  float first[2 * 4 * 4 * 2];
  for (int64_t seed = 0; seed < 8; seed++) {
    if (elbo_plan_input(plan, "seed")) memcpy(elbo_plan_input(plan, "seed"), &seed, sizeof seed);
    assert_ok(ctx, elbo_plan_run(plan, store));
    const float *got = elbo_plan_output(plan, 0);
    if (seed == 0) memcpy(first, got, (size_t)n * sizeof *first);
    for (int64_t i = 0; i < n; i++) sum += fabs((double)got[i] - (double)first[i]);
  }
  elbo_plan_destroy(&plan);
  elbo_store_destroy(&store);
  elbo_graph_destroy(&g);
  arena_destroy(&a);
  return sum;
}

static void test_dropout(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  assert_true(difference(ctx, "dit", "{num_attention_heads: 1, attention_head_dim: 8, num_layers: 1, dropout: 0.5}", 0) > 1e-3);
  assert_true(difference(ctx, "dit", "{num_attention_heads: 1, attention_head_dim: 8, num_layers: 1}", 2) == 0);
  assert_true(difference(ctx, "edm", "{model_channels: 8, channel_mult: [1], num_blocks: 1, dropout: 0.5}", 0) > 1e-3);
  assert_true(difference(ctx, "edm", "{model_channels: 8, channel_mult: [1], num_blocks: 1, dropout: 0, label_dropout: 0.5}", 2) > 1e-3);
  assert_true(difference(ctx, "edm", "{model_channels: 8, channel_mult: [1], num_blocks: 1, dropout: 0}", 2) == 0);
  assert_true(difference(ctx, "vdm", "{channels: 8, layers: 1, norm_num_groups: 4, dropout: 0.5}", 0) > 1e-3);
  assert_true(difference(ctx, "vdm", "{channels: 8, layers: 1, norm_num_groups: 4, dropout: 0}", 2) == 0);
  assert_true(difference(ctx, "mlp", "{width: 8, dropout: 0.5}", 0) > 1e-3);
  assert_true(difference(ctx, "mlp", "{width: 8}", 2) == 0);
  elbo_ctx_destroy(&ctx);
}

// Rows of an mlp at times (1) or (B), the same for all: result (B,2).
static void rows_at(elbo_ctx *ctx, const char *text, int64_t classes, int64_t times, float *result) {
  enum { ROWS = 5 };
  const network_kind *kind = kind_of("mlp");
  arena *a = arena_create(1 << 14);
  any_config c;
  elbo_graph *g;
  elbo_store *store;
  elbo_plan *plan;
  load(ctx, a, kind, text, &c);
  kind->fit(&c, 1, 1, 2, 2, classes);
  assert_ok(ctx, elbo_graph_create(ctx, "rows", &g));
  denoiser_inputs in = {.graph = g,
                        .sample = elbo_input(g, "sample", ELBO_F32, 4, (int64_t[]){ROWS, 1, 1, 2}),
                        .timestep = elbo_input(g, "timestep", ELBO_F32, 1, &times)};
  if (classes) in.class_labels = elbo_input(g, "label", ELBO_I32, 1, (int64_t[]){ROWS});
  elbo_tensor *y = kind->build(&c, &in);
  assert_ok(ctx, elbo_store_create(ctx, 1, &g, 1, &store));
  float *proj_out = NULL; // begins at 0
  for (int i = 0; i < store->n; i++)
    if (!strcmp(store->entries[i].name, "proj_out.weight")) proj_out = store_data(store, i);
  assert_non_null(proj_out);
  for (int i = 0; i < 16; i++) proj_out[i] = 0.1f * (float)(i % 5 - 2);
  elbo_store_touch(store);
  assert_ok(ctx, elbo_plan_create(ctx, g, 1, &y, NULL, &plan));
  float sample[2 * ROWS], time[ROWS];
  test_random r = {7, 0};
  test_fill_normal(&r, sample, 2 * ROWS, 1);
  for (int i = 0; i < ROWS; i++) time[i] = 0.3f;
  assert_ok(ctx, elbo_plan_set(plan, "sample", sample, 2 * ROWS));
  assert_ok(ctx, elbo_plan_set(plan, "timestep", time, times));
  for (int i = 0; classes && i < ROWS; i++) ((int32_t *)elbo_plan_input(plan, "label"))[i] = i % (int)classes;
  assert_ok(ctx, elbo_plan_run(plan, store));
  memcpy(result, elbo_plan_output(plan, 0), sizeof sample);
  elbo_plan_destroy(&plan);
  elbo_store_destroy(&store);
  elbo_graph_destroy(&g);
  arena_destroy(&a);
}

// A time that all rows share is worked out once, and says the same to each.
static void a_shared_time_changes_nothing(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  static const char *const configs[] = {"{width: 8, layers: 2}", "{width: 8, layers: 2, norm_num_groups: 2, time_embedding: fourier}"};
  for (int i = 0; i < 2; i++)
    for (int64_t classes = 0; classes <= 3; classes += 3) {
      float shared[10], each[10];
      rows_at(ctx, configs[i], classes, 1, shared);
      rows_at(ctx, configs[i], classes, 5, each);
      for (int k = 0; k < 10; k++) assert_near((double)shared[k], (double)each[k], 1e-6);
      assert_true(fabs((double)each[0] - (double)each[2]) > 1e-4);
    }
  elbo_ctx_destroy(&ctx);
}

// What an untrained network gives: nothing, or the sample where it is added
static void initial_result(elbo_ctx *ctx, const char *network, const char *text, double of_sample, double tolerance) {
  const network_kind *kind = kind_of(network);
  arena *a = arena_create(1 << 14);
  any_config c;
  elbo_graph *g;
  elbo_store *store;
  elbo_plan *plan;
  int64_t side = strcmp(network, "mlp") == 0 ? 1 : 8, n = 2 * side * side * 2;
  load(ctx, a, kind, text, &c);
  kind->fit(&c, side, side, 2, 2, 0);
  assert_ok(ctx, elbo_graph_create(ctx, "initial", &g));
  denoiser_inputs in = {.graph = g,
                        .sample = elbo_input(g, "sample", ELBO_F32, 4, (int64_t[]){2, side, side, 2}),
                        .timestep = elbo_input(g, "timestep", ELBO_F32, 1, (int64_t[]){2})};
  // the sample is an output as well, so that it stays an input where the result does not depend on it
  elbo_tensor *y[2] = {kind->build(&c, &in), in.sample};
  assert_ok(ctx, elbo_store_create(ctx, 1, &g, 1, &store));
  assert_ok(ctx, elbo_plan_create(ctx, g, 2, y, NULL, &plan));
  float sample[2 * 8 * 8 * 2];
  test_random r = {test_seed(), 0};
  test_fill_normal(&r, sample, n, 1);
  assert_ok(ctx, elbo_plan_set(plan, "sample", sample, n));
  if (elbo_plan_input(plan, "timestep")) assert_ok(ctx, elbo_plan_set(plan, "timestep", (const float[]){0.5f, 1}, 2));
  assert_ok(ctx, elbo_plan_run(plan, store));
  for (int64_t i = 0; i < n; i++)
    assert_near((double)((const float *)elbo_plan_output(plan, 0))[i], of_sample * (double)sample[i], tolerance);
  elbo_plan_destroy(&plan);
  elbo_store_destroy(&store);
  elbo_graph_destroy(&g);
  arena_destroy(&a);
}

// The largest value of a parameter as training starts
static double initial_largest(elbo_ctx *ctx, const char *network, const char *text, const char *name) {
  const network_kind *kind = kind_of(network);
  arena *a = arena_create(1 << 14);
  any_config c;
  elbo_graph *g;
  elbo_store *store;
  elbo_param_info p;
  load(ctx, a, kind, text, &c);
  kind->fit(&c, 8, 8, 2, 2, 0);
  assert_ok(ctx, elbo_graph_create(ctx, "initial", &g));
  denoiser_inputs in = {.graph = g,
                        .sample = elbo_input(g, "sample", ELBO_F32, 4, (int64_t[]){2, 8, 8, 2}),
                        .timestep = elbo_input(g, "timestep", ELBO_F32, 1, (int64_t[]){2})};
  kind->build(&c, &in);
  assert_ok(ctx, elbo_store_create(ctx, 1, &g, 1, &store));
  assert_ok(ctx, elbo_store_find(store, name, &p));
  double largest = 0;
  for (int64_t i = 0; i < p.count; i++) largest = fmax(largest, fabs((double)p.data[i]));
  elbo_store_destroy(&store);
  elbo_graph_destroy(&g);
  arena_destroy(&a);
  return largest;
}

static void test_initial(void **state) {
  (void)state;
  static const char dit[] = "{num_attention_heads: 2, attention_head_dim: 8, num_layers: 2}";
  static const char song[] = "{model_channels: 16, channel_mult: [1, 2], num_blocks: 1, attn_resolutions: [8]}";
  static const char adm[] = "{model_type: DhariwalUNet, model_channels: 16, channel_mult: [1, 2], num_blocks: 1}";
  elbo_ctx *ctx = test_ctx(1);
  initial_result(ctx, "dit", dit, 0, 0);
  initial_result(ctx, "edm", song, 0, 1e-3); // gains of 1e-5
  initial_result(ctx, "edm", adm, 0, 0);
  initial_result(ctx, "vdm", "{channels: 8, layers: 2, norm_num_groups: 4}", 1, 0);
  initial_result(ctx, "vdm", "{channels: 8, layers: 2, norm_num_groups: 4, add_input: false}", 0, 0);
  initial_result(ctx, "mlp", "{}", 0, 0);
  // Uniform ranges, nearly reached: sqrt(6 / (fan in + fan out)) of Xavier, queries, keys and values taken as one layer
  assert_near(initial_largest(ctx, "dit", dit, "pos_embed.proj.weight"), sqrt(6.0 / (8 + 16)), 0.01);
  assert_near(initial_largest(ctx, "dit", dit, "transformer_blocks.1.attn1.to_k.weight"), sqrt(6.0 / (16 + 48)), 0.01);
  assert_near(initial_largest(ctx, "dit", dit, "transformer_blocks.0.attn1.to_out.0.weight"), sqrt(6.0 / (16 + 16)), 0.01);
  assert_near(initial_largest(ctx, "dit", dit, "transformer_blocks.0.ff.net.0.proj.bias"), 0, 0);
  assert_near(initial_largest(ctx, "dit", dit, "transformer_blocks.0.norm1.linear.weight"), 0, 0);
  assert_near(initial_largest(ctx, "edm", song, "enc.8x8_block0.conv0.weight"), sqrt(6.0 / (16 * 9 * 2)), 0.01);
  assert_near(initial_largest(ctx, "edm", song, "enc.8x8_block0.conv1.weight"), 1e-5 * sqrt(6.0 / (16 * 9 * 2)), 1e-7);
  assert_near(initial_largest(ctx, "edm", song, "enc.8x8_block0.qkv.weight"), sqrt(0.2) * sqrt(6.0 / (16 * 4)), 0.01);
  assert_near(initial_largest(ctx, "edm", adm, "enc.8x8_block0.conv0.weight"), 1 / sqrt(16 * 9), 0.01);
  assert_near(initial_largest(ctx, "edm", adm, "enc.8x8_block0.conv1.weight"), 0, 0);
  elbo_ctx_destroy(&ctx);
}

static void test_no_augmentation(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  arena *a = arena_create(1 << 14);
  any_config c;
  elbo_graph *g;
  load(ctx, a, kind_of("edm"), "{model_channels: 8, channel_mult: [1], num_blocks: 1, augment_dim: 9}", &c);
  edm_fit(&c.edm, 4, 4, 1, 1, 0);
  assert_ok(ctx, elbo_graph_create(ctx, "augment", &g));
  denoiser_inputs in = {.graph = g,
                        .sample = elbo_input(g, "sample", ELBO_F32, 4, (int64_t[]){2, 4, 4, 1}),
                        .timestep = elbo_input(g, "timestep", ELBO_F32, 1, (int64_t[]){2}),
                        .training = true};
  edm_network(&c.edm, &in);
  assert_status(ctx, elbo_graph_check(g), ELBO_ERROR_UNSUPPORTED, "augment_dim: 9");
  elbo_graph_destroy(&g);
  assert_true(edm_is_derived("enc.16x16_down.conv0.resample_filter"));
  assert_false(edm_is_derived("enc.16x16_down.conv0.weight"));
  arena_destroy(&a);
  elbo_ctx_destroy(&ctx);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_round_trip),      cmocka_unit_test(test_dit_defaults),
                                     cmocka_unit_test(test_hostile_files),   cmocka_unit_test(test_check),
                                     cmocka_unit_test(test_inputs),          cmocka_unit_test(test_counts),
                                     cmocka_unit_test(test_dropout),         cmocka_unit_test(test_initial),
                                     cmocka_unit_test(test_no_augmentation), cmocka_unit_test(a_shared_time_changes_nothing)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
