// Weights from every kind of file, into stores: strict, with what does not fit listed by name; half a sharded checkpoint is refused.
#include "support/test.h"

#include <elbo/convert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "core/json.h"
#include "models/pipeline_index.h"
#include "models/weights.h"
#include "models/weights_layout.h"

static elbo_ctx *ctx;

static const char *golden(const char *name) {
  static char path[4][4096];
  static int next;
  char *out = path[next++ % 4];
  snprintf(out, sizeof path[0], "%s/%s", test_repository_file("tests/golden"), name);
  return out;
}

// A store with a parameter "PREFIX.NAME" for each tensor of w.
static elbo_store *store_like(const weights *w, const char *prefix) {
  elbo_graph *graph;
  elbo_store *store;
  assert_ok(ctx, elbo_graph_create(ctx, "test", &graph));
  for (int64_t i = 0; i < weights_count(w); i++) {
    char name[600];
    const tensor_view *v = weights_at(w, i);
    snprintf(name, sizeof name, "%s%s%s", prefix, *prefix ? "." : "", v->name);
    assert_non_null(elbo_parameter(graph, name, v->rank, v->dim, ELBO_PARAM_TRAINED, ELBO_INIT_ZEROS));
  }
  assert_ok(ctx, elbo_store_create(ctx, 1, &graph, 1, &store));
  elbo_graph_destroy(&graph);
  return store;
}

static void same_stores(const elbo_store *a, const elbo_store *b) {
  assert_int_equal(elbo_store_count(a), elbo_store_count(b));
  for (int i = 0; i < elbo_store_count(a); i++) {
    elbo_param_info p, q;
    assert_ok(ctx, elbo_store_get(a, i, &p));
    assert_ok(ctx, elbo_store_get(b, i, &q));
    assert_string_equal(p.name, q.name);
    assert_memory_equal(p.data, q.data, (size_t)p.count * 4);
  }
}

// One file's numbers by another's names: what both hold must be the same.
static void same_numbers(const char *reference, const char *other, const char *prefix) {
  weights *a, *b;
  assert_ok(ctx, weights_open(ctx, reference, &a));
  assert_ok(ctx, weights_open(ctx, other, &b));
  elbo_store *x = store_like(a, prefix), *y = store_like(a, prefix);
  assert_ok(ctx, weights_load_into_store(ctx, a, prefix, x));
  assert_ok(ctx, weights_load_into_store(ctx, b, prefix, y));
  same_stores(x, y);
  elbo_param_info p;
  assert_ok(ctx, elbo_store_get(x, 0, &p));
  assert_true(p.data[0] != 0);
  elbo_store_destroy(&x), elbo_store_destroy(&y);
  weights_close(&a), weights_close(&b);
  assert_null(a);
}

static void test_every_kind(void **state) {
  (void)state;
  same_numbers(golden("layouts/stable.safetensors"), golden("layouts/shards"), "unet");
  same_numbers(golden("layouts/stable.safetensors"), golden("layouts/shards/diffusion_pytorch_model.safetensors.index.json"), "");
  same_numbers(golden("layouts/ddpm.safetensors"), golden("layouts/deprecated.bin"), "unet"); // query, key, value, proj_attn
  weights *w;
  assert_ok(ctx, weights_open(ctx, golden("pickles/lightning.ckpt"), &w));
  assert_int_equal(weights_count(w), 2);
  assert_string_equal(weights_at(w, 0)->name, "bias");
  assert_string_equal(weights_format(w), "pickle");
  weights_close(&w);
  assert_ok(ctx, weights_open_whole(ctx, golden("pickles/lightning.ckpt"), &w));
  assert_non_null(weights_find(w, "state_dict.weight"));
  assert_non_null(weights_find(w, "optimizer_states.0.state.0"));
  assert_false(weights_select(w, "state"));
  assert_true(weights_select(w, "state_dict"));
  assert_null(weights_find(w, "state_dict.weight"));
  assert_non_null(weights_find(w, "weight"));
  weights_close(&w);
  assert_status(ctx, weights_open(ctx, golden("pickles/system.pth"), &w), ELBO_ERROR_UNSUPPORTED, "posix.system");
  assert_null(w);
}

// A file of one tensor of 3 numbers, of any type.
static const char *write_typed(elbo_dtype dtype, const void *data) {
  const char *path = test_path("typed.safetensors");
  tensor_view v = {.name = "x", .dtype = dtype, .rank = 1, .dim = {3}, .data = data, .bytes = 3 * elbo_dtype_size(dtype)};
  assert_ok(ctx, safetensors_write(ctx, path, 1, &v, 0, NULL));
  return path;
}

static void test_types(void **state) {
  (void)state;
  static const uint16_t half[3] = {0x3c00, 0xc100, 0x7c00}, brain[3] = {0x3f80, 0xc020, 0x7f80};
  static const double wide[3] = {1, -2.5, 1e300};
  static const float narrow[3] = {1, -2.5, INFINITY};
  static const int32_t whole[3] = {1, 2, 3};
  const void *const data[] = {narrow, wide, half, brain};
  const elbo_dtype dtypes[] = {ELBO_F32, ELBO_F64, ELBO_F16, ELBO_BF16};
  weights *w;
  for (int i = 0; i < 4; i++) {
    assert_ok(ctx, weights_open(ctx, write_typed(dtypes[i], data[i]), &w));
    elbo_store *store = store_like(w, "");
    elbo_param_info p;
    assert_ok(ctx, weights_load_into_store(ctx, w, "", store));
    assert_ok(ctx, elbo_store_get(store, 0, &p));
    assert_memory_equal(p.data, narrow, sizeof narrow);
    elbo_store_destroy(&store);
    weights_close(&w);
  }
  assert_ok(ctx, weights_open(ctx, write_typed(ELBO_I32, whole), &w));
  elbo_store *store = store_like(w, "");
  assert_status(ctx, weights_load_into_store(ctx, w, "", store), ELBO_ERROR_FORMAT, "of no float type: x int32");
  elbo_store_destroy(&store);
  weights_close(&w);
}

// Written as diffusers has it, and read again; parameters outside the prefix are neither.
static void test_round_trip(void **state) {
  (void)state;
  weights *w;
  assert_ok(ctx, weights_open(ctx, golden("layouts/ddpm.safetensors"), &w));
  elbo_store *store = store_like(w, "unet"), *again = store_like(w, "unet");
  assert_ok(ctx, weights_load_into_store(ctx, w, "unet", store));
  weights_close(&w);
  const char *folder = test_path("written");
  assert_ok(ctx, directory_make(ctx, folder));
  assert_ok(ctx, weights_write(ctx, folder, "vae", store)); // nothing below it
  assert_status(ctx, weights_open(ctx, folder, &w), ELBO_ERROR_IO, "no weights in it");
  assert_ok(ctx, weights_write(ctx, folder, "unet", store));
  assert_ok(ctx, weights_open(ctx, folder, &w));
  assert_non_null(weights_find(w, "conv_in.weight"));
  assert_ok(ctx, weights_load_into_store(ctx, w, "unet", again));
  same_stores(store, again);
  assert_status(ctx, weights_load_into_store(ctx, w, "vae", again), ELBO_ERROR_FORMAT, "unused: conv_in.bias");
  elbo_store_destroy(&store), elbo_store_destroy(&again);
  weights_close(&w);
}

// All that does not fit is listed, a dozen of each kind, and then nothing has been changed.
static void test_strict(void **state) {
  (void)state;
  static const float ones[64] = {1, 1, 1};
  tensor_view have[40], want[40];
  char names[60][16];
  for (int i = 0; i < 60; i++) snprintf(names[i], sizeof names[i], "t%02d", i);
  for (int i = 0; i < 40; i++) {
    have[i] = (tensor_view){.name = names[i], .rank = 2, .dim = {2, 1}, .data = ones, .bytes = 8};
    want[i] = have[i];
    if (i >= 20) want[i].name = names[i + 20]; // t20..t39 are unused, t40..t59 missing
  }
  want[0].dim[0] = 1, want[0].bytes = 4;
  want[1].rank = 1, want[1].dim[0] = 2;
  const char *path = test_path("have.safetensors"), *other = test_path("want.safetensors");
  assert_ok(ctx, safetensors_write(ctx, path, 40, have, 0, NULL));
  assert_ok(ctx, safetensors_write(ctx, other, 40, want, 0, NULL));
  weights *w, *v;
  assert_ok(ctx, weights_open(ctx, path, &w));
  assert_ok(ctx, weights_open(ctx, other, &v));
  elbo_store *store = store_like(v, "");
  elbo_param_info p;
  static const char *const parts[] = {"missing: t40, t41, t42, t43, t44, t45, t46, t47, t48, t49, t50, t51 and 8 more",
                                      "of another shape: t00 (2,1) where (1,1) was expected, t01 (2,1) where (2) was expected;",
                                      "unused: t20, t21, t22, t23, t24, t25, t26, t27, t28, t29, t30, t31 and 8 more"};
  for (size_t i = 0; i < 3; i++) assert_status(ctx, weights_load_into_store(ctx, w, "", store), ELBO_ERROR_FORMAT, parts[i]);
  assert_ok(ctx, elbo_store_find(store, "t05", &p));
  assert_true(p.data[0] == 0);
  assert_ok(ctx, weights_load_into_store(ctx, v, "", store));
  assert_true(p.data[0] == 1);
  elbo_store_destroy(&store);
  weights_close(&w), weights_close(&v);
}

// --- shards ---

// A folder with two shards (a.1, a.2; b) and the index `text`.
static const char *write_shards(const char *name, const char *text) {
  static const float numbers[2] = {1, 2};
  const tensor_view views[] = {{.name = "a.1", .rank = 1, .dim = {2}, .data = numbers, .bytes = 8},
                               {.name = "a.2", .rank = 1, .dim = {2}, .data = numbers, .bytes = 8},
                               {.name = "b", .rank = 1, .dim = {2}, .data = numbers, .bytes = 8}};
  const char *folder = test_path(name);
  char path[4096];
  assert_ok(ctx, directory_make(ctx, folder));
  for (int i = 0; i < 2; i++) {
    snprintf(path, sizeof path, "%s/model-0000%d-of-00002.safetensors", folder, i + 1);
    assert_ok(ctx, safetensors_write(ctx, path, i ? 1 : 2, i ? &views[2] : views, 0, NULL));
  }
  snprintf(path, sizeof path, "%s/model.safetensors.index.json", folder);
  if (text) test_write_file(path, text, strlen(text));
  return folder;
}

static void refused(const char *folder, elbo_status status, const char *part) {
  weights *w = (weights *)&w;
  assert_status(ctx, weights_open(ctx, folder, &w), status, part);
  assert_null(w);
}

#define ONE "\"model-00001-of-00002.safetensors\""
#define TWO "\"model-00002-of-00002.safetensors\""

static void test_shards(void **state) {
  (void)state;
  weights *w;
  const char *folder =
      write_shards("whole", "{\"metadata\": {\"total_size\": 24}, \"weight_map\": {\"a.1\": " ONE ", \"a.2\": " ONE ", \"b\": " TWO "}}");
  assert_ok(ctx, weights_open(ctx, folder, &w));
  assert_int_equal(weights_count(w), 3);
  assert_string_equal(weights_format(w), "sharded safetensors");
  weights_close(&w);
  char path[4096];
  snprintf(path, sizeof path, "%s/model-00002-of-00002.safetensors", folder);
  assert_int_equal(unlink(path), 0);
  refused(folder, ELBO_ERROR_IO, "shard 'model-00002-of-00002.safetensors' is missing; it should hold 'b'");
  refused(write_shards("none", NULL), ELBO_ERROR_FORMAT, "without the index");
  refused(write_shards("absent", "{\"weight_map\": {\"a.1\": " ONE ", \"a.2\": " ONE ", \"a.3\": " ONE ", \"b\": " TWO "}}"),
          ELBO_ERROR_FORMAT, "tensor 'a.3' is not in shard 'model-00001-of-00002.safetensors'");
  refused(write_shards("unlisted", "{\"weight_map\": {\"a.1\": " ONE ", \"b\": " TWO "}}"), ELBO_ERROR_FORMAT,
          "tensor 'a.2' of shard 'model-00001-of-00002.safetensors' is not in the index");
  refused(write_shards("elsewhere", "{\"weight_map\": {\"a.1\": " ONE ", \"a.2\": " TWO ", \"b\": " TWO "}}"), ELBO_ERROR_FORMAT,
          "tensor 'a.2' is not in shard 'model-00002-of-00002.safetensors'");
  // b in both shards
  folder = write_shards("twice", "{\"weight_map\": {\"a.1\": " ONE ", \"b\": " TWO "}}");
  tensor_view both[2] = {{.name = "a.1", .rank = 0, .data = "1234", .bytes = 4}, {.name = "b", .rank = 0, .data = "1234", .bytes = 4}};
  snprintf(path, sizeof path, "%s/model-00001-of-00002.safetensors", folder);
  assert_ok(ctx, safetensors_write(ctx, path, 2, both, 0, NULL));
  refused(folder, ELBO_ERROR_FORMAT, "tensor 'b' is in shard 'model-00001-of-00002.safetensors', and by the index in");
  refused(write_shards("above", "{\"weight_map\": {\"a.1\": \"../x.safetensors\"}}"), ELBO_ERROR_FORMAT, "beside it");
  refused(write_shards("root", "{\"weight_map\": {\"a.1\": \"/x.safetensors\"}}"), ELBO_ERROR_FORMAT, "beside it");
  refused(write_shards("other", "{\"weight_map\": {\"a.1\": \"passwd\"}}"), ELBO_ERROR_FORMAT, "beside it");
  refused(write_shards("number", "{\"weight_map\": {\"a.1\": 3}}"), ELBO_ERROR_FORMAT, "expected the name of a shard");
  refused(write_shards("empty", "{\"weight_map\": {}}"), ELBO_ERROR_FORMAT, "weight_map");
  refused(write_shards("list", "[1]"), ELBO_ERROR_FORMAT, "weight_map");
  refused(write_shards("doubled", "{\"weight_map\": {\"a.1\": " ONE ", \"a.1\": " TWO "}}"), ELBO_ERROR_FORMAT, "duplicate");
  refused(test_path("nowhere"), ELBO_ERROR_IO, "nowhere");
}

// --- other code's names ---

static void same_tensors(const weights *a, const weights *b) {
  assert_int_equal(weights_count(a), weights_count(b));
  for (int64_t k = 0; k < weights_count(a); k++) {
    const tensor_view *x = weights_at(a, k), *y = weights_at(b, k);
    assert_string_equal(x->name, y->name);
    if (x->rank != y->rank || memcmp(x->dim, y->dim, sizeof *x->dim * (size_t)x->rank) != 0 || x->bytes != y->bytes ||
        memcmp(x->data, y->data, x->bytes) != 0)
      fail_msg("%s: %s is another", weights_path(a), x->name);
  }
}

static void test_layouts(void **state) {
  (void)state;
  static const struct {
    const char *file, *expected;
    int heads, by_kind;
  } cases[] = {
      {"layouts/stable.ckpt", "layouts/stable.safetensors", 0, 0},     {"layouts/guided.pth", "layouts/guided.safetensors", 2, 0},
      {"layouts/guided_kind.pth", "layouts/guided.safetensors", 0, 1}, {"layouts/ddpm.pth", "layouts/ddpm.safetensors", 0, 0},
      {"layouts/deprecated.bin", "layouts/ddpm.safetensors", 0, 0},    {"layouts/ddpm.safetensors", "layouts/ddpm.safetensors", 0, 0}};
  elbo_convert_config config;
  char out[4096]; // the paths of tests go round
  snprintf(out, sizeof out, "%s", test_path("converted.safetensors"));
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    elbo_convert_defaults(&config);
    config.names = ELBO_NAMES_DIFFUSERS, config.heads = cases[i].heads, config.qkv = cases[i].by_kind ? ELBO_QKV_BY_KIND : ELBO_QKV_BY_HEAD;
    assert_ok(ctx, elbo_convert(ctx, golden(cases[i].file), out, &config, NULL));
    weights *a, *b;
    assert_ok(ctx, weights_open(ctx, out, &a));
    assert_ok(ctx, weights_open(ctx, golden(cases[i].expected), &b));
    same_tensors(a, b);
    weights_close(&a), weights_close(&b);
  }
  elbo_convert_defaults(&config);
  config.names = ELBO_NAMES_DIFFUSERS;
  assert_status(ctx, elbo_convert(ctx, golden("layouts/guided.pth"), out, &config, NULL), ELBO_ERROR_ARGUMENT, "how many heads");
  config.heads = 3;
  assert_status(ctx, elbo_convert(ctx, golden("layouts/guided.pth"), out, &config, NULL), ELBO_ERROR_ARGUMENT, "expected a multiple of 3");
  config.heads = 0, config.head_dim = 4;
  assert_ok(ctx, elbo_convert(ctx, golden("layouts/guided.pth"), out, &config, NULL));
  assert_status(ctx, elbo_convert(ctx, golden("pickles/lightning.ckpt"), out, &config, NULL), ELBO_ERROR_UNSUPPORTED, "no known layout");
}

// To the names of other code and back again.
static void test_way_back(void **state) {
  (void)state;
  static const char *const files[] = {"layouts/stable.safetensors", "layouts/guided.safetensors"};
  static const char *const originals[] = {"layouts/stable.ckpt", "layouts/guided.pth"};
  char out[4096];
  snprintf(out, sizeof out, "%s", test_path("original.safetensors"));
  for (int i = 0; i < 2; i++) {
    elbo_convert_config config;
    weights *a, *b;
    elbo_convert_defaults(&config);
    config.names = ELBO_NAMES_ORIGINAL, config.head_dim = i ? 4 : 0;
    assert_ok(ctx, elbo_convert(ctx, golden(files[i]), out, &config, NULL));
    assert_ok(ctx, weights_open(ctx, out, &a));
    assert_ok(ctx, weights_open(ctx, golden(originals[i]), &b));
    if (!i) assert_true(weights_select(b, "model.diffusion_model"));
    same_tensors(a, b);
    weights_close(&a), weights_close(&b);
    assert_status(ctx, elbo_convert(ctx, golden(originals[i]), test_path("x.safetensors"), &config, NULL), ELBO_ERROR_ARGUMENT,
                  "the way back");
  }
}

// A tensor too many has no place.
static void test_stray(void **state) {
  (void)state;
  weights *w;
  tensor_view all[400];
  assert_ok(ctx, weights_open(ctx, golden("layouts/guided.pth"), &w));
  int n = (int)weights_count(w);
  for (int i = 0; i < n; i++) all[i] = *weights_at(w, i);
  static const char *const strays[] = {"input_blocks.1.3.norm.weight", "middle_block.5.norm.weight", "encoder_kv.weight",
                                       "input_blocks.9.0.in_layers.0.weight"};
  static const char *const parts[] = {"no place in the layout 'input_blocks'", "no place", "encoder_kv.weight", "as many of both"};
  char path[4096];
  snprintf(path, sizeof path, "%s", test_path("stray.safetensors"));
  elbo_convert_config config;
  elbo_convert_defaults(&config);
  config.names = ELBO_NAMES_DIFFUSERS, config.heads = 2;
  for (size_t i = 0; i < 4; i++) {
    all[n] = all[0], all[n].name = strays[i];
    assert_ok(ctx, safetensors_write(ctx, path, n + 1, all, 0, NULL));
    assert_status(ctx, elbo_convert(ctx, path, test_path("x.safetensors"), &config, NULL), ELBO_ERROR_UNSUPPORTED, parts[i]);
  }
  weights_close(&w);
}

// --- pipelines ---

static const char *write_pipeline(const char *name, const char *text) {
  char path[4096];
  const char *folder = test_path(name);
  snprintf(path, sizeof path, "%s/unet", folder);
  assert_ok(ctx, directory_make(ctx, path));
  snprintf(path, sizeof path, "%s/model_index.json", folder);
  test_write_file(path, text, strlen(text));
  return folder;
}

static void test_pipelines(void **state) {
  (void)state;
  pipeline_index *index;
  const char *folder =
      write_pipeline("pipeline", "{\"_class_name\": \"DDPMPipeline\", \"_diffusers_version\": \"0.42.1\", \"unet\": "
                                 "[\"diffusers\", \"UNet2DModel\"], \"safety_checker\": [null, null], "
                                 "\"requires_safety_checker\": false, \"id2label\": {\"0\": \"tench\"}, \"size\": [64, 64]}");
  assert_true(pipeline_index_is_there(folder));
  assert_false(pipeline_index_is_there(test_directory()));
  assert_ok(ctx, pipeline_index_open(ctx, folder, &index));
  assert_string_equal(index->class_name, "DDPMPipeline");
  assert_string_equal(index->version, "0.42.1");
  assert_int_equal(index->n, 2);
  const pipeline_component *unet = pipeline_index_find(index, "unet");
  assert_string_equal(unet->library, "diffusers");
  assert_string_equal(unet->class_name, "UNet2DModel");
  assert_true(directory_exists(unet->folder));
  assert_null(pipeline_index_find(index, "safety_checker"));
  assert_null(pipeline_index_find(index, "vae"));
  assert_true(json_is_false(pipeline_index_value(index, "requires_safety_checker")));
  assert_true(json_is_object(pipeline_index_value(index, "id2label")));
  assert_true(json_is_array(pipeline_index_value(index, "size")));
  assert_null(pipeline_index_value(index, "unet"));
  pipeline_index_close(&index);
  assert_null(index);
  static const struct {
    const char *text, *part;
    elbo_status status;
  } bad[] = {
      {"{\"_class_name\": \"P\", \"vae\": [\"diffusers\", \"AutoencoderKL\"]}", "component vae (AutoencoderKL) is missing",
       ELBO_ERROR_FORMAT},
      {"{\"_class_name\": \"P\", \"../unet\": [\"diffusers\", \"U\"]}", "expected the name of a folder", ELBO_ERROR_FORMAT},
      {"{\"unet\": [\"diffusers\", \"UNet2DModel\"]}", "_class_name", ELBO_ERROR_FORMAT},
      {"{\"_class_name\": [\"a\", \"b\"]}", "_class_name", ELBO_ERROR_FORMAT},
      {"[]", "_class_name", ELBO_ERROR_FORMAT},
      {"{", "not valid JSON", ELBO_ERROR_FORMAT},
  };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    assert_status(ctx, pipeline_index_open(ctx, write_pipeline("bad", bad[i].text), &index), bad[i].status, bad[i].part);
    assert_null(index);
  }
  assert_status(ctx, pipeline_index_open(ctx, test_path("nowhere"), &index), ELBO_ERROR_IO, "no such directory");
}

static int setup(void **state) {
  (void)state;
  ctx = test_ctx(1);
  return 0;
}

static int teardown(void **state) {
  (void)state;
  elbo_ctx_destroy(&ctx);
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_every_kind), cmocka_unit_test(test_types),  cmocka_unit_test(test_round_trip),
      cmocka_unit_test(test_strict),     cmocka_unit_test(test_shards), cmocka_unit_test(test_layouts),
      cmocka_unit_test(test_way_back),   cmocka_unit_test(test_stray),  cmocka_unit_test(test_pipelines),
  };
  return cmocka_run_group_tests(tests, setup, teardown);
}
