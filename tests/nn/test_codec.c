// Autoencoders against diffusers: names, results, gradients; the quantiser; their configs read, written and read again, and refused.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "nn/codec.h"
#include "nn/denoiser.h"
#include "nn/vector_quantizer.h"
#include "ops/op.h"
#include "support/golden_network.h"

static elbo_ctx *shared;
static arena *memory;

enum { MAX_OUTPUTS = 256 };

// One case on one instruction set.
typedef struct golden_run {
  golden_network network;
  const codec_config *config;
  int isa;
  elbo_ctx *ctx;
  elbo_graph *graph;
  int n_out;
  elbo_tensor *out[MAX_OUTPUTS];
  const tensor_view *want[MAX_OUTPUTS];
  elbo_tensor *loss; // what is differentiated; NULL: nothing yet
} golden_run;

static const tensor_view *find(const golden_run *r, const char *prefix, const char *key) {
  char full[320];
  snprintf(full, sizeof full, "%s.%s%s", r->network.name, prefix, key);
  return safetensors_find(r->network.file, full);
}

static const tensor_view *need(const golden_run *r, const char *key) {
  const tensor_view *v = find(r, "", key);
  if (!v) fail_msg("%s: the file has no %s", r->network.name, key);
  return v;
}

static elbo_tensor *input(const golden_run *r, const char *key) {
  const tensor_view *v = need(r, key);
  return elbo_input(r->graph, key, ELBO_F32, v->rank, v->dim);
}

static void add_loss(golden_run *r, elbo_tensor *term) { r->loss = r->loss ? elbo_add(r->loss, term) : term; }

// An output to compare with the file, and its share of the loss where the file weighs it
static void expect(golden_run *r, const char *key, elbo_tensor *t) {
  const tensor_view *weight = find(r, "d", key);
  r->want[r->n_out] = need(r, key);
  r->out[r->n_out++] = elbo_scale(t, 1, 0);
  if (!weight) return;
  char name[64];
  snprintf(name, sizeof name, "d%s", key);
  add_loss(r, elbo_sum(elbo_mul(t, elbo_input(r->graph, name, ELBO_F32, weight->rank, weight->dim)), ELBO_ALL_AXES, 0));
}

static void expect_gradients(golden_run *r) {
  elbo_tensor *wrt[MAX_OUTPUTS];
  int n = 0;
  for (int64_t i = 0; r->loss && i < r->graph->n_nodes; i++) {
    const node *k = r->graph->nodes[i];
    const tensor_view *v = k->name[0] ? find(r, "d.", k->name) : NULL;
    bool parameter = strcmp(k->op->name, "parameter") == 0;
    if (parameter && !v) fail_msg("%s: the peer has no gradient to %s", r->network.name, k->name);
    if (!v || (!parameter && strcmp(k->op->name, "input") != 0)) continue;
    if (r->n_out + n >= MAX_OUTPUTS) fail_msg("%s: more than %d results", r->network.name, MAX_OUTPUTS);
    wrt[n] = k->out[0], r->want[r->n_out + n++] = v;
  }
  if (r->loss) assert_ok(r->ctx, elbo_gradient(r->loss, n, wrt, r->out + r->n_out));
  r->n_out += n;
}

static void build_calls(golden_run *r) {
  codec_code code = codec_encode(r->config, input(r, "x"));
  elbo_tensor *sample = codec_decode(r->config, input(r, "z"));
  assert_ok(r->ctx, elbo_graph_check(r->graph));
  assert_true((code.logvar != NULL) == (r->config->network == CODEC_KL));
  expect(r, code.logvar ? "mean" : "latents", code.mean);
  if (code.logvar) expect(r, "logvar", code.logvar);
  expect(r, "sample", sample);
}

// As it is trained: through the table with straight gradients, and the loss that pulls both sides together
static void build_quantised(golden_run *r) {
  const akl_config *c = &r->config->vq;
  elbo_tensor *latents = vq_encoder(c, input(r, "x"));
  quantized q = quantize_vectors(latents, vq_codebook(c, r->graph));
  elbo_tensor *loss = quantization_loss(latents, &q, 0.25, true, NULL), *sample = vq_decoder(c, q.codes);
  assert_ok(r->ctx, elbo_graph_check(r->graph));
  expect(r, "latents", latents);
  expect(r, "index", elbo_cast(elbo_reshape(q.index, 1, (int64_t[]){-1}), ELBO_F32));
  expect(r, "loss", loss);
  add_loss(r, loss);
  add_loss(r, elbo_sum(elbo_mul(sample, input(r, "dsample")), ELBO_ALL_AXES, 0));
}

static void set_inputs(const golden_run *r, elbo_plan *plan) {
  static const char *const names[] = {"x", "z", "dmean", "dlogvar", "dlatents", "dsample"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    const tensor_view *v = find(r, "", names[i]);
    if (!v || !elbo_plan_input(plan, names[i])) continue;
    float *copy = malloc(v->bytes);
    memcpy(copy, v->data, v->bytes); // the file's data may be unaligned
    assert_ok(r->ctx, elbo_plan_set(plan, names[i], copy, (int64_t)(v->bytes / 4)));
    free(copy);
  }
}

static void check_run(const safetensors *file, const char *name, const codec_config *c, int isa, void (*build)(golden_run *)) {
  golden_run r = {.network = {.file = file, .name = name}, .config = c, .isa = isa};
  r.ctx = isa < 0 ? test_ctx(0) : test_ctx_isa(0, (isa_level)isa);
  if (!r.ctx) return; // not of this machine
  elbo_store *store;
  elbo_plan *plan;
  elbo_plan_config config;
  assert_ok(r.ctx, elbo_graph_create(r.ctx, name, &r.graph));
  build(&r);
  int values = r.n_out;
  expect_gradients(&r);
  assert_ok(r.ctx, elbo_store_create(r.ctx, 1, &r.graph, 1, &store));
  golden_fill_store(r.ctx, &r.network, store);
  elbo_plan_defaults(&config);
  config.backend = isa < 0 ? ELBO_BACKEND_REFERENCE : ELBO_BACKEND_CPU;
  config.poison = 1;
  assert_ok(r.ctx, elbo_plan_create(r.ctx, r.graph, r.n_out, r.out, &config, &plan));
  set_inputs(&r, plan);
  assert_ok(r.ctx, elbo_plan_run(plan, store));
  for (int i = 0; i < r.n_out; i++)
    golden_compare(&r.network, isa, r.want[i]->name + strlen(name) + 1, r.want[i], elbo_plan_output(plan, i),
                   isa < 0      ? 2e-6
                   : i < values ? 2e-5
                                : 1e-4);
  elbo_plan_destroy(&plan);
  elbo_store_destroy(&store);
  elbo_graph_destroy(&r.graph);
  elbo_ctx_destroy(&r.ctx);
}

static const char *write_text(const char *text) {
  const char *path = test_path("config.json");
  test_write_file(path, text, strlen(text));
  return path;
}

// What is written says what was read.
static void check_written(const char *name, const char *text, const codec_config *c) {
  json_t *theirs, *ours, *value;
  const char *key;
  assert_ok(shared, json_parse(shared, name, text, strlen(text), &theirs));
  assert_ok(shared, codec_write(shared, test_path("written.json"), c));
  assert_ok(shared, json_read(shared, test_path("written.json"), 1 << 20, &ours));
  json_object_foreach(theirs, key, value) {
    json_t *mine = json_object_get(ours, key);
    if (strcmp(key, "_diffusers_version") == 0) continue;
    if (!mine) fail_msg("%s: %s is not written", name, key);
    bool same =
        json_is_number(mine) && json_is_number(value) ? json_number_value(mine) == json_number_value(value) : json_equal(mine, value);
    if (!same) fail_msg("%s: %s is written as %s", name, key, json_dumps(mine, JSON_ENCODE_ANY));
  }
  assert_int_equal(json_object_size(ours), json_object_size(theirs));
  json_decref(theirs);
  json_decref(ours);
}

static void check_case(const safetensors *file, const char *name, void (*build)(golden_run *)) {
  codec_config c;
  const char *text = golden_text(file, name, "config");
  assert_ok(shared, codec_read(shared, memory, write_text(text), &c));
  check_written(name, text, &c);
  for (int isa = -1; isa < ISA_COUNT; isa++) check_run(file, name, &c, isa, build);
}

static void test_goldens(void **state) {
  static const char *const names[] = {"kl", "kl_three", "kl_attention", "kl_bare", "kl_one_level", "vq_plain", "tiny", "tiny_odd"};
  safetensors *file;
  (void)state;
  assert_ok(shared, safetensors_open(shared, test_repository_file("tests/golden/autoencoders.safetensors"), &file));
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) check_case(file, names[i], build_calls);
  check_case(file, "vq", build_quantised);
  safetensors_close(&file);
}

// --- the quantiser ---

static void test_quantiser(void **state) {
  (void)state;
  elbo_graph *g;
  elbo_plan *plan;
  assert_ok(shared, elbo_graph_create(shared, "quantiser", &g));
  elbo_tensor *z = elbo_input(g, "z", ELBO_F32, 2, (int64_t[]){4, 2});
  const float rows[] = {1, 0, 0, 1, 1, 0, -1, -1}; // the third is the first again
  elbo_tensor *table = elbo_constant_array(g, 2, (int64_t[]){4, 2}, rows), *gradient[2], *wrt[2] = {z, table};
  quantized q = quantize_vectors(z, table);
  elbo_tensor *legacy = quantization_loss(z, &q, 0.25, true, NULL), *paper = quantization_loss(z, &q, 0.25, false, NULL);
  assert_ok(shared, elbo_gradient(elbo_sum(elbo_scale(q.codes, 3, 0), ELBO_ALL_AXES, 0), 2, wrt, gradient));
  assert_null(gradient[1]); // the reconstruction does not move the table
  elbo_tensor *outputs[] = {q.index, q.codes, gradient[0], legacy, paper}, *pull[2], *pull_paper[2];
  assert_ok(shared, elbo_gradient(legacy, 2, wrt, pull));
  assert_ok(shared, elbo_gradient(paper, 2, wrt, pull_paper));
  elbo_tensor *all[] = {outputs[0], outputs[1], outputs[2], outputs[3], outputs[4], pull[0], pull_paper[0], pull[1], pull_paper[1]};
  assert_ok(shared, elbo_plan_create(shared, g, 9, all, NULL, &plan));
  const float values[] = {0.9f, 0.2f, -3, -2, 0.1f, 0.7f, 5, 0};
  assert_ok(shared, elbo_plan_set(plan, "z", values, 8));
  assert_ok(shared, elbo_plan_run(plan, NULL));
  const int32_t *index = elbo_plan_output(plan, 0), nearest[] = {0, 3, 1, 0}; // the first of equals
  const float *codes = elbo_plan_output(plan, 1), *straight = elbo_plan_output(plan, 2);
  for (int i = 0; i < 4; i++) assert_int_equal(index[i], nearest[i]);
  for (int i = 0; i < 8; i++) {
    assert_true(fabsf(codes[i] - rows[2 * nearest[i / 2] + i % 2]) < 1e-6f);
    assert_true(straight[i] == 3);
  }
  // the commitment weighs what pulls z, or, as diffusers has it, what pulls the table
  const float *z_legacy = elbo_plan_output(plan, 5), *z_paper = elbo_plan_output(plan, 6), *table_legacy = elbo_plan_output(plan, 7),
              *table_paper = elbo_plan_output(plan, 8);
  assert_true(fabsf(z_legacy[0] - 2 * (0.9f - 1) / 8) < 1e-6f && fabsf(z_paper[0] - 0.25f * z_legacy[0]) < 1e-6f);
  assert_true(fabsf(table_paper[6] - 2 * (-1 + 3.0f) / 8) < 1e-6f && fabsf(table_legacy[6] - 0.25f * table_paper[6]) < 1e-6f);
  assert_true(*(const float *)elbo_plan_output(plan, 3) ==
              *(const float *)elbo_plan_output(plan, 4)); // equal in value: 1.25 mean (z - e)^2
  elbo_plan_destroy(&plan);
  elbo_graph_destroy(&g);
}

// --- configs ---

static elbo_status load(const char *class_name, const char *keys, codec_config *out) {
  char text[2048];
  snprintf(text, sizeof text, "{\"_class_name\": \"%s\"%s%s}", class_name, *keys ? ", " : "", keys);
  return codec_read(shared, memory, write_text(text), out);
}

#define FOUR_LEVELS                                                                                                          \
  "\"down_block_types\": [\"DownEncoderBlock2D\", \"DownEncoderBlock2D\", \"DownEncoderBlock2D\", \"DownEncoderBlock2D\"], " \
  "\"up_block_types\": [\"UpDecoderBlock2D\", \"UpDecoderBlock2D\", \"UpDecoderBlock2D\", \"UpDecoderBlock2D\"], "
#define THREE_LEVELS                                                                                 \
  "\"down_block_types\": [\"DownEncoderBlock2D\", \"DownEncoderBlock2D\", \"DownEncoderBlock2D\"], " \
  "\"up_block_types\": [\"UpDecoderBlock2D\", \"UpDecoderBlock2D\", \"UpDecoderBlock2D\"], "

static void test_counts(void **state) {
  static const struct {
    const char *class_name, *keys;
    int64_t parameters;
  } published[] = {
      {"AutoencoderKL", FOUR_LEVELS "\"block_out_channels\": [128, 256, 512, 512], \"layers_per_block\": 2, \"sample_size\": 512",
       83653863},
      {"AutoencoderKL", THREE_LEVELS "\"block_out_channels\": [64, 128, 128], \"sample_size\": 64", 3789095},
      {"AutoencoderTiny", "", 2445063},
      {"AutoencoderTiny", "\"latent_channels\": 16", 2458899},
  };
  (void)state;
  for (size_t i = 0; i < sizeof published / sizeof *published; i++) {
    codec_config c;
    elbo_graph *g;
    assert_ok(shared, load(published[i].class_name, published[i].keys, &c));
    assert_ok(shared, elbo_graph_create(shared, "count", &g));
    codec_shape s = codec_config_shape(&c);
    codec_encode(&c, elbo_input(g, "x", ELBO_F32, 4, (int64_t[]){1, 16, 16, s.in_channels}));
    codec_decode(&c, elbo_input(g, "z", ELBO_F32, 4, (int64_t[]){1, 2, 2, s.code_channels}));
    assert_ok(shared, elbo_graph_check(g));
    assert_int_equal(graph_parameter_count(g), published[i].parameters);
    elbo_graph_destroy(&g);
  }
}

static void test_refusals(void **state) {
  static const struct {
    const char *class_name, *keys, *message;
  } refused[] = {
      {"AutoencoderKL", "\"latent_chanels\": 4", "latent_chanels: unknown key; did you mean 'latent_channels'?"},
      {"AutoencoderKL", "\"down_block_types\": [\"DownEncoderBlock\"]",
       "down_block_types[0]: unknown block 'DownEncoderBlock'; did you mean 'DownEncoderBlock2D'?"},
      {"AutoencoderKL", "\"up_block_types\": [\"CrossAttnUpBlock2D\"]",
       "up_block_types[0]: 'CrossAttnUpBlock2D' is no block that we have; expected UpDecoderBlock2D or AttnUpDecoderBlock2D"},
      {"AutoencoderKL", "\"block_out_channels\": [64, 128]", "down_block_types: 1 blocks; block_out_channels has 2 widths"},
      {"AutoencoderKL", "\"block_out_channels\": [48]", "norm_num_groups: 32 does not divide block_out_channels[0], 48"},
      {"AutoencoderKL", "\"latents_std\": [1, 2]", "latents_std: 2 numbers; latent_channels is 4"},
      {"AutoencoderKL", "\"sample_size\": [1, 2, 3]", "sample_size: a list of 3; expected height and width"},
      {"AutoencoderKL", "\"num_vq_embeddings\": 256", "num_vq_embeddings: unknown key"},
      {"VQModel", "\"norm_type\": \"spatial\"", "norm_type: \"spatial\"; expected one of group"},
      {"VQModel", "\"use_quant_conv\": true", "use_quant_conv: unknown key"},
      {"AutoencoderTiny", "\"upsample_fn\": \"bilinear\"", "upsample_fn: \"bilinear\"; expected one of nearest"},
      {"AutoencoderTiny", "\"num_encoder_blocks\": [1]", "num_encoder_blocks: 1 stages; encoder_block_out_channels has 4 widths"},
      {"AutoencoderTiny", "\"decoder_block_out_channels\": [64, 32, 64, 64]", "decoder_block_out_channels[1]: 32; expected 64"},
      {"AutoencoderTiny", "\"use_midblock_gn\": true", "use_midblock_gn: unknown key"},
      {"AutoencoderDC", "", "_class_name: 'AutoencoderDC'; AutoencoderKL, VQModel or AutoencoderTiny was expected"},
  };
  (void)state;
  for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
    codec_config c;
    assert_int_not_equal(load(refused[i].class_name, refused[i].keys, &c), ELBO_OK);
    if (!strstr(elbo_ctx_message(shared), refused[i].message))
      fail_msg("%s: the message is '%s'", refused[i].message, elbo_ctx_message(shared));
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_goldens), cmocka_unit_test(test_quantiser), cmocka_unit_test(test_counts),
                                     cmocka_unit_test(test_refusals)};
  shared = test_ctx(1);
  memory = arena_create(1 << 16);
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  arena_destroy(&memory);
  elbo_ctx_destroy(&shared);
  return failed;
}
