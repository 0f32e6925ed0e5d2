// Autoencoders in diffusers' layout: applied, written, read again, mapped; pairs of files of tiny ones; what does not fit is refused.
#include "support/test.h"

#include <elbo/convert.h>
#include <elbo/model.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/safetensors.h"
#include "graph/store.h"
#include "models/autoencoder.h"
#include "models/weights.h"

static elbo_ctx *ctx;
static safetensors *expected;

static const char *golden(const char *name) {
  char path[256];
  snprintf(path, sizeof path, "tests/golden/autoencoders/%s", name);
  return test_repository_file(path);
}

static elbo_array *array_of(const char *name, const char *key) {
  char full[128];
  elbo_array *out;
  snprintf(full, sizeof full, "%s.%s", name, key);
  const tensor_view *v = safetensors_find(expected, full);
  assert_non_null(v);
  assert_ok(ctx, elbo_array_create(ctx, ELBO_F32, v->rank, v->dim, &out));
  memcpy(out->data, v->data, v->bytes);
  return out;
}

// One call with one input and up to two outputs, against the file.
static void check_call(const char *folder, const char *name, const char *input, int n_out, const char *const *outputs, double tolerance) {
  elbo_named_array in = {input, array_of(name, input)},
                   out[2] = {{n_out > 0 ? outputs[0] : NULL, NULL}, {n_out > 1 ? outputs[1] : NULL, NULL}};
  assert_ok(ctx, elbo_apply(ctx, folder, 1, &in, n_out, out));
  for (int i = 0; i < n_out; i++) {
    elbo_array *want = array_of(name, outputs[i]);
    assert_int_equal(out[i].array->rank, 4);
    for (int k = 0; k < 4; k++) assert_int_equal(out[i].array->dim[k], want->dim[k]);
    assert_close(out[i].array->data, want->data, elbo_array_count(want), tolerance);
    elbo_array_destroy(&want);
    elbo_array_destroy(&out[i].array);
  }
  elbo_array_destroy(&in.array);
}

static void check_network(const char *folder, const char *name, double tolerance) {
  if (strcmp(name, "kl") == 0) {
    check_call(folder, name, "x", 2, (const char *const[]){"logvar", "mean"}, tolerance);
    check_call(folder, name, "x", 1, (const char *const[]){"mean"}, tolerance);
  } else {
    check_call(folder, name, "x", 1, (const char *const[]){"latents"}, tolerance);
  }
  check_call(folder, name, "z", 1, (const char *const[]){"sample"}, tolerance);
}

static void same_tensors(const char *a, const char *b) {
  weights *x, *y;
  assert_ok(ctx, weights_open(ctx, a, &x));
  assert_ok(ctx, weights_open(ctx, b, &y));
  assert_int_equal(weights_count(x), weights_count(y));
  for (int64_t i = 0; i < weights_count(x); i++) {
    const tensor_view *v = weights_at(x, i), *w = weights_find(y, v->name);
    assert_non_null(w);
    assert_int_equal(v->bytes, w->bytes);
    assert_memory_equal(v->data, w->data, v->bytes);
  }
  weights_close(&x), weights_close(&y);
}

static const char *const names[] = {"kl", "vq", "tiny"};

static void test_calls(void **state) {
  (void)state;
  for (int i = 0; i < 3; i++) check_network(golden(names[i]), names[i], 1e-5);
}

// Loaded, saved and loaded: the same tensors, and the same answers.
static void test_round_trip(void **state) {
  (void)state;
  for (int i = 0; i < 3; i++) {
    elbo_model *m;
    const char *folder = test_path(names[i]);
    assert_ok(ctx, elbo_model_load(ctx, golden(names[i]), NULL, &m));
    assert_ok(ctx, autoencoder_write(ctx, folder, m->autoencoder, "", m->store));
    elbo_model_destroy(&m);
    same_tensors(golden(names[i]), folder);
    check_network(folder, names[i], 1e-5);
  }
}

static void copy_file(const char *from, const char *to) {
  char *data;
  size_t size;
  assert_ok(ctx, file_read(ctx, from, (size_t)1 << 24, &data, &size));
  assert_ok(ctx, file_write(ctx, to, data, size));
  free(data);
}

static void copy_folder(const char *name, const char *to) {
  char from[4096], path[4200];
  assert_ok(ctx, directory_make(ctx, to));
  const char *const files[] = {"config.json", "diffusion_pytorch_model.safetensors"};
  for (int i = 0; i < 2; i++) {
    snprintf(from, sizeof from, "%s/%s", golden(name), files[i]);
    snprintf(path, sizeof path, "%s/%s", to, files[i]);
    copy_file(from, path);
  }
}

// The component of a pipeline whose own network is another thing.
static void test_component(void **state) {
  (void)state;
  char folder[4096], index[4200];
  static const char text[] = "{\"_class_name\": \"StableDiffusionPipeline\", \"vae\": [\"diffusers\", \"AutoencoderKL\"]}";
  snprintf(folder, sizeof folder, "%s/vae", test_path("pipeline"));
  copy_folder("kl", folder);
  snprintf(index, sizeof index, "%s/model_index.json", test_path("pipeline"));
  test_write_file(index, text, strlen(text));
  check_network(folder, "kl", 1e-5);
  strcat(folder, "/");
  check_network(folder, "kl", 1e-5);
}

// The weights of a float32 file stay in it; others are converted.
static void test_mapped(void **state) {
  (void)state;
  elbo_model *m;
  assert_ok(ctx, elbo_model_load(ctx, golden("kl"), NULL, &m));
  for (int i = 0; i < m->store->n; i++) assert_true(m->store->entries[i].mapped);
  for (int kind = 0; kind < 3; kind++) assert_null(m->store->data[kind]);
  elbo_store *copy; // a copy is a store like any other
  assert_ok(ctx, elbo_store_copy(ctx, m->store, &copy));
  elbo_model_destroy(&m);
  for (int i = 0; i < copy->n; i++) assert_ptr_equal(copy->entries[i].at, copy->data[copy->entries[i].kind] + copy->entries[i].offset);
  elbo_store_destroy(&copy);
  elbo_convert_config half;
  elbo_convert_defaults(&half);
  half.dtype = ELBO_BF16;
  assert_ok(ctx, elbo_convert(ctx, golden("kl"), test_path("half"), &half, NULL));
  assert_ok(ctx, elbo_model_load(ctx, test_path("half"), NULL, &m));
  for (int i = 0; i < m->store->n; i++) assert_false(m->store->entries[i].mapped);
  elbo_model_destroy(&m);
  check_network(test_path("half"), "kl", 0.1);
}

// --- pairs ---

static const char *pair_file(const char *pair, const char *side) {
  char name[128];
  snprintf(name, sizeof name, "%s/%s.pth", pair, side);
  return golden(name);
}

static void test_pairs(void **state) {
  static const char *const pairs[] = {"pair", "pair_pooled"}, *const classes[] = {"AutoencoderTiny", "ElboAutoencoderTiny"};
  (void)state;
  for (int i = 0; i < 2; i++) {
    elbo_convert_result r;
    elbo_model *m;
    const char *out = test_path(pairs[i]);
    assert_ok(ctx, elbo_convert_tiny_pair(ctx, pair_file(pairs[i], "encoder"), pair_file(pairs[i], "decoder"), out, NULL, &r));
    assert_int_equal(r.files, 1);
    check_network(out, pairs[i], 1e-5);
    assert_ok(ctx, elbo_model_load(ctx, out, NULL, &m));
    assert_string_equal(codec_class_name(m->autoencoder), classes[i]);
    assert_int_equal(m->params, r.parameters);
    elbo_model_destroy(&m);
    assert_status(ctx, elbo_convert_tiny_pair(ctx, pair_file(pairs[i], "encoder"), pair_file(pairs[i], "decoder"), out, NULL, &r),
                  ELBO_ERROR_IO, "is not empty");
  }
}

static void test_pair_refusals(void **state) {
  (void)state;
  const char *out = test_path("refused");
  assert_status(ctx, elbo_convert_tiny_pair(ctx, pair_file("pair", "decoder"), pair_file("pair", "encoder"), out, NULL, NULL),
                ELBO_ERROR_ARGUMENT, "is a decoder; the encoder comes first");
  assert_status(ctx, elbo_convert_tiny_pair(ctx, pair_file("pair", "encoder"), pair_file("pair", "encoder"), out, NULL, NULL),
                ELBO_ERROR_UNSUPPORTED, "layer 0: a convolution, where none with parameters was expected");
  assert_status(ctx, elbo_convert_tiny_pair(ctx, pair_file("pair", "encoder"), pair_file("pair_pooled", "decoder"), out, NULL, NULL),
                ELBO_ERROR_UNSUPPORTED, "pooled blocks that are not those of the coarsest stage on both sides");
  assert_status(
      ctx, elbo_convert_tiny_pair(ctx, golden("kl/diffusion_pytorch_model.safetensors"), pair_file("pair", "decoder"), out, NULL, NULL),
      ELBO_ERROR_FORMAT, "tensor 'decoder.conv_in.bias': one side of a tiny autoencoder was expected");
  elbo_convert_config config;
  elbo_convert_defaults(&config);
  config.key = "model";
  assert_status(ctx, elbo_convert_tiny_pair(ctx, pair_file("pair", "encoder"), pair_file("pair", "decoder"), out, &config, NULL),
                ELBO_ERROR_ARGUMENT, "a key and a change of names are for one file");
  assert_false(directory_exists(out));
}

// --- what does not fit ---

// kl with its tensors changed by `change`, in a folder of its own
static const char *changed_weights(void (*change)(tensor_view *views, int64_t *n)) {
  weights *w;
  const char *folder = test_path("changed");
  char path[4200];
  tensor_view views[256];
  int64_t n = 0;
  copy_folder("kl", folder);
  assert_ok(ctx, weights_open(ctx, golden("kl"), &w));
  for (; n < weights_count(w); n++) views[n] = *weights_at(w, n);
  change(views, &n);
  snprintf(path, sizeof path, "%s/diffusion_pytorch_model.safetensors", folder);
  assert_ok(ctx, safetensors_write(ctx, path, n, views, 0, NULL));
  weights_close(&w);
  return folder;
}

static void drop_one(tensor_view *views, int64_t *n) { (void)views, (*n)--; }
static void rename_one(tensor_view *views, int64_t *n) { (void)n, views[0].name = "decoder.stranger"; }
static void reshape_one(tensor_view *views, int64_t *n) {
  (void)n;
  assert_int_equal(views[1].rank, 4);
  views[1].dim[2] *= views[1].dim[3], views[1].dim[3] = 1;
}

static void test_strict(void **state) {
  (void)state;
  elbo_model *m;
  assert_status(ctx, elbo_model_load(ctx, changed_weights(drop_one), NULL, &m), ELBO_ERROR_FORMAT, "missing: quant_conv.weight");
  assert_status(ctx, elbo_model_load(ctx, changed_weights(rename_one), NULL, &m), ELBO_ERROR_FORMAT,
                "missing: decoder.conv_in.bias; unused: decoder.stranger");
  assert_status(ctx, elbo_model_load(ctx, changed_weights(reshape_one), NULL, &m), ELBO_ERROR_FORMAT,
                "of another shape: decoder.conv_in.weight (8,2,9,1) where (8,2,3,3) was expected");
  assert_null(m);
}

static void test_bad_calls(void **state) {
  (void)state;
  elbo_named_array x = {"x", array_of("kl", "x")}, z = {"z", array_of("kl", "z")}, both[2] = {x, z}, out = {"mean", NULL},
                   crossed = {"x", z.array};
  assert_status(ctx, elbo_apply(ctx, golden("kl"), 2, both, 1, &out), ELBO_ERROR_ARGUMENT,
                "input 'z': one of x (pictures, to encode) and z (codes, to decode) was expected");
  assert_status(ctx, elbo_apply(ctx, golden("kl"), 1, &crossed, 1, &out), ELBO_ERROR_ARGUMENT,
                "apply: x: (n,height,width,3) with sides of at least 2 was expected, not float32 (3,4,4,2)");
  assert_status(ctx, elbo_apply(ctx, golden("kl"), 1, &z, 1, &out), ELBO_ERROR_ARGUMENT, "output 'mean': sample was expected");
  assert_status(ctx, elbo_apply(ctx, golden("vq"), 1, &x, 1, &out), ELBO_ERROR_ARGUMENT, "output 'mean': latents was expected");
  out.name = "sample";
  assert_status(ctx, elbo_apply(ctx, golden("kl"), 1, &x, 1, &out), ELBO_ERROR_ARGUMENT, "output 'sample': mean or logvar was expected");
  elbo_model *m;
  elbo_array *drawn;
  assert_ok(ctx, elbo_model_load(ctx, golden("kl"), NULL, &m));
  assert_status(ctx, elbo_sample(m, NULL, &drawn), ELBO_ERROR_UNSUPPORTED, "has no prior");
  elbo_model_destroy(&m);
  elbo_array_destroy(&x.array);
  elbo_array_destroy(&z.array);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_calls),  cmocka_unit_test(test_round_trip), cmocka_unit_test(test_component),
                                     cmocka_unit_test(test_mapped), cmocka_unit_test(test_pairs),      cmocka_unit_test(test_pair_refusals),
                                     cmocka_unit_test(test_strict), cmocka_unit_test(test_bad_calls)};
  ctx = test_ctx(0);
  assert_ok(ctx, safetensors_open(ctx, golden("expected.safetensors"), &expected));
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  safetensors_close(&expected);
  elbo_ctx_destroy(&ctx);
  return failed;
}
