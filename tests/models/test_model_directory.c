// Model directories: written, read and written again they are the same bytes; damaged ones are refused with the name of what is wrong.
#include "models/vae_cases.h"

#include "core/file.h"
#include "core/safetensors.h"

#define MODEL                                                                                                                            \
  "{latent: {dim: 4}, encoder: {channels: [4, 8], norm_groups: 2}, decoder: {channels: [8, 4], norm_groups: 2}, prior: {type: mixture, " \
  "components: 3}}"

static const char *write_model(elbo_ctx *ctx, const char *name, const char *text) {
  arena *a = arena_create(1 << 14);
  vae_spec spec = spec_of(ctx, a, text, 8, 8, 1, 3);
  spec.binarize = 2;
  elbo_store *store;
  assert_ok(ctx, model_store_create(ctx, &spec, test_seed(), &store));
  const char *path = test_path(name);
  assert_ok(ctx, directory_make(ctx, path));
  assert_ok(ctx, model_directory_write(ctx, path, &spec, store, 17));
  elbo_store_destroy(&store);
  arena_destroy(&a);
  return path;
}

static void same_file(elbo_ctx *ctx, const char *a, const char *b, const char *name) {
  char path[2][4096], *data[2];
  size_t size[2];
  snprintf(path[0], sizeof path[0], "%s/%s", a, name);
  snprintf(path[1], sizeof path[1], "%s/%s", b, name);
  for (int i = 0; i < 2; i++) assert_ok(ctx, file_read(ctx, path[i], 1 << 24, &data[i], &size[i]));
  assert_int_equal(size[0], size[1]);
  assert_memory_equal(data[0], data[1], size[0]);
  free(data[0]), free(data[1]);
}

static void test_round_trip(void **state) {
  (void)state;
  static const char *const files[] = {"model_index.json",
                                      "encoder/config.json",
                                      "encoder/diffusion_pytorch_model.safetensors",
                                      "decoder/config.json",
                                      "decoder/diffusion_pytorch_model.safetensors",
                                      "prior/config.json",
                                      "prior/diffusion_pytorch_model.safetensors"};
  elbo_ctx *ctx = test_ctx(1);
  const char *first = write_model(ctx, "first", MODEL), *second = test_path("second");
  elbo_model *m;
  assert_ok(ctx, elbo_model_load(ctx, first, NULL, &m));
  elbo_model_info info;
  elbo_model_get_info(m, &info);
  assert_int_equal(info.height, 8);
  assert_int_equal(info.latent_dim, 4);
  assert_int_equal(info.step, 17);
  assert_string_equal(info.likelihood, "bernoulli");
  assert_ok(ctx, directory_make(ctx, second));
  assert_ok(ctx, model_directory_write(ctx, second, &m->spec, m->store, m->step));
  for (size_t i = 0; i < sizeof files / sizeof *files; i++) same_file(ctx, first, second, files[i]);
  elbo_model_destroy(&m);
  elbo_ctx_destroy(&ctx);
}

// Overwrites the tensors of one component: drop leaves the first out, rename renames it, reshape gives it another shape.
static void damage(elbo_ctx *ctx, const char *model, const char *component, const char *how) {
  char path[4096];
  snprintf(path, sizeof path, "%s/%s/diffusion_pytorch_model.safetensors", model, component);
  safetensors *file;
  assert_ok(ctx, safetensors_open(ctx, path, &file));
  int64_t n = safetensors_count(file);
  tensor_view view[64];
  for (int64_t i = 0; i < n; i++) view[i] = *safetensors_at(file, i);
  int64_t from = strcmp(how, "drop") == 0;
  if (strcmp(how, "extra") == 0) view[n] = view[0], view[n++].name = "zzz";
  if (strcmp(how, "reshape") == 0)
    view[0].dim[0] *= view[0].rank > 1 ? view[0].dim[1] : 1, view[0].rank = 1, view[0].dim[0] = (int64_t)(view[0].bytes / 4 / 2),
                                                             view[0].bytes /= 2;
  if (strcmp(how, "type") == 0) view[0].dtype = ELBO_I32;
  char changed[4200];
  snprintf(changed, sizeof changed, "%s.new", path);
  assert_ok(ctx, safetensors_write(ctx, changed, n - from, view + from, 0, NULL));
  safetensors_close(&file);
  assert_int_equal(rename(changed, path), 0);
}

static void replace_text(elbo_ctx *ctx, const char *model, const char *name, const char *old, const char *new) {
  char path[4096], *data, out[8192];
  size_t size;
  snprintf(path, sizeof path, "%s/%s", model, name);
  assert_ok(ctx, file_read(ctx, path, 1 << 16, &data, &size));
  char *at = strstr(data, old);
  assert_non_null(at);
  snprintf(out, sizeof out, "%.*s%s%s", (int)(at - data), data, new, at + strlen(old));
  test_write_file(path, out, strlen(out));
  free(data);
}

static void refused(elbo_ctx *ctx, const char *path, elbo_status status, const char *part) {
  elbo_model *m = (elbo_model *)&m;
  assert_status(ctx, elbo_model_load(ctx, path, NULL, &m), status, part);
  assert_null(m);
}

static void test_damaged(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  refused(ctx, test_path("nowhere"), ELBO_ERROR_IO, "nowhere");
  const char *m = write_model(ctx, "dropped", MODEL);
  damage(ctx, m, "encoder", "drop");
  refused(ctx, m, ELBO_ERROR_FORMAT, "missing: conv.0.bias");
  m = write_model(ctx, "extra", MODEL);
  damage(ctx, m, "decoder", "extra");
  refused(ctx, m, ELBO_ERROR_FORMAT, "unused: zzz");
  m = write_model(ctx, "reshaped", MODEL);
  damage(ctx, m, "prior", "reshape");
  refused(ctx, m, ELBO_ERROR_FORMAT, "of another shape: ");
  m = write_model(ctx, "typed", MODEL);
  damage(ctx, m, "encoder", "type");
  refused(ctx, m, ELBO_ERROR_FORMAT, "conv.0.bias int32");
  m = write_model(ctx, "other class", MODEL);
  replace_text(ctx, m, "model_index.json", "ElboVAE", "UNet2DModel");
  refused(ctx, m, ELBO_ERROR_UNSUPPORTED, "UNet2DModel");
  m = write_model(ctx, "unknown key", MODEL);
  replace_text(ctx, m, "encoder/config.json", "\"stem\"", "\"stam\"");
  refused(ctx, m, ELBO_ERROR_ARGUMENT, "did you mean 'stem'");
  m = write_model(ctx, "too large", MODEL);
  replace_text(ctx, m, "model_index.json", "\"height\": 8", "\"height\": 99999999");
  refused(ctx, m, ELBO_ERROR_ARGUMENT, "height");
  m = write_model(ctx, "odd", MODEL);
  replace_text(ctx, m, "model_index.json", "\"height\": 8", "\"height\": 9");
  refused(ctx, m, ELBO_ERROR_ARGUMENT, "cannot be halved");
  m = write_model(ctx, "no config", MODEL);
  char path[4096];
  snprintf(path, sizeof path, "%s/prior/config.json", m);
  assert_int_equal(remove(path), 0);
  refused(ctx, m, ELBO_ERROR_IO, "prior/config.json");
  elbo_ctx_destroy(&ctx);
}

// Sample i is a function of (model, seed, i).
static void test_samples(void **state) {
  (void)state;
  static const char *const models[] = {
      MODEL,
      "{latent: {dim: 4}, condition: {type: class}, encoder: {channels: [4]}, decoder: {channels: [4]}, prior: {type: learned}}",
      ("{latent: {dim: 3, groups: [1, 1], channels: 2, width: 8}, encoder: {type: resnet, channels: [4, 8]}, decoder: {type: resnet, "
       "channels: [8, 4]}}"),
  };
  elbo_ctx *ctx = test_ctx(0);
  for (int i = 0; i < 3; i++) {
    char name[32];
    snprintf(name, sizeof name, "samples%d", i);
    const char *path = write_model(ctx, name, models[i]);
    elbo_array *x[3];
    static const int64_t n[3] = {13, 13, 5};
    static const int size[3] = {64, 4, 3};
    for (int k = 0; k < 3; k++) {
      elbo_model_config config;
      elbo_model *m;
      elbo_sample_config sample;
      elbo_model_defaults(&config);
      config.batch_size = size[k];
      assert_ok(ctx, elbo_model_load(ctx, path, &config, &m));
      elbo_sample_defaults(&sample);
      sample.n = n[k], sample.seed = 5, sample.draw = 1;
      assert_ok(ctx, elbo_sample(m, &sample, &x[k]));
      elbo_model_destroy(&m);
    }
    // draws are 0 or 1: rounding may turn at most a rare pixel
    for (int k = 1; k < 3; k++) {
      int64_t differ = 0, ones = 0, count = elbo_array_count(x[k]);
      for (int64_t j = 0; j < count; j++)
        differ += ((float *)x[0]->data)[j] != ((float *)x[k]->data)[j], ones += ((float *)x[0]->data)[j] == 1;
      assert_true(differ * 1000 <= count);
      assert_true(ones > count / 10 && ones < count);
    }
    assert_memory_not_equal(x[0]->data, (float *)x[0]->data + 64, 64 * sizeof(float));
    for (int k = 0; k < 3; k++) elbo_array_destroy(&x[k]);
  }
  elbo_ctx_destroy(&ctx);
}

static void test_arguments(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  elbo_model *m;
  elbo_array *out, *x, *label;
  assert_ok(ctx,
            elbo_model_load(ctx,
                            write_model(ctx, "class",
                                        "{latent: {dim: 4}, condition: {type: class}, encoder: {channels: [4]}, decoder: {channels: [4]}}"),
                            NULL, &m));
  int64_t n = 2;
  x = pictures(ctx, 2, &(picture_shape){8, 8, 1}, 1, true);
  assert_ok(ctx, elbo_array_create(ctx, ELBO_I32, 1, &n, &label));
  assert_status(ctx, elbo_encode(m, x, NULL, &out, NULL), ELBO_ERROR_ARGUMENT, "labels are needed");
  ((int32_t *)label->data)[1] = 3;
  assert_status(ctx, elbo_reconstruct(m, x, label, 0, 0, &out), ELBO_ERROR_ARGUMENT, "label 3 of example 1");
  ((int32_t *)label->data)[1] = 2;
  assert_ok(ctx, elbo_reconstruct(m, x, label, 0, 0, &out));
  elbo_array_destroy(&out);
  ((float *)x->data)[64] = NAN;
  assert_status(ctx, elbo_reconstruct(m, x, label, 0, 0, &out), ELBO_ERROR_NUMERIC, "example 1");
  elbo_array_destroy(&x);
  x = pictures(ctx, 2, &(picture_shape){8, 7, 1}, 1, true);
  assert_status(ctx, elbo_reconstruct(m, x, label, 0, 0, &out), ELBO_ERROR_ARGUMENT, "(n,8,8,1)");
  assert_status(ctx, elbo_decode(m, x, label, &out), ELBO_ERROR_ARGUMENT, "(n,4)");
  elbo_sample_config config;
  elbo_sample_defaults(&config);
  config.label = 3;
  assert_status(ctx, elbo_sample(m, &config, &out), ELBO_ERROR_ARGUMENT, "class 3");
  assert_null(out);
  elbo_array_destroy(&x), elbo_array_destroy(&label);
  elbo_model_destroy(&m);
  elbo_ctx_destroy(&ctx);
}

// The networks of a directory on arrays: what encode and decode give.
static void test_apply(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  char encoder[4096];
  const char *path = write_model(ctx, "apply", MODEL);
  snprintf(encoder, sizeof encoder, "%s/encoder", path);
  elbo_model *m;
  elbo_array *x = pictures(ctx, 70, &(picture_shape){8, 8, 1}, 9, true), *mean, *std, *decoded;
  assert_ok(ctx, elbo_model_load(ctx, path, NULL, &m));
  assert_ok(ctx, elbo_encode(m, x, NULL, &mean, &std));
  assert_ok(ctx, elbo_decode(m, mean, NULL, &decoded));
  elbo_named_array in = {"x", x}, out[3] = {{.name = "mean"}, {.name = "std"}, {.name = "x"}};
  assert_ok(ctx, elbo_apply(ctx, encoder, 1, &in, 3, out));
  assert_close(out[0].array->data, mean->data, elbo_array_count(mean), 1e-6);
  assert_close(out[1].array->data, std->data, elbo_array_count(std), 1e-6);
  assert_close(out[2].array->data, decoded->data, elbo_array_count(decoded), 1e-5);
  elbo_named_array codes = {"codes", mean}, y = {.name = "x"}, wrong = {.name = "y"}, neither = {"z", mean};
  assert_ok(ctx, elbo_apply(ctx, path, 1, &codes, 1, &y));
  assert_close(y.array->data, decoded->data, elbo_array_count(decoded), 1e-6);
  assert_status(ctx, elbo_apply(ctx, path, 1, &codes, 1, &wrong), ELBO_ERROR_ARGUMENT, "output 'y'");
  assert_status(ctx, elbo_apply(ctx, path, 1, &neither, 1, &wrong), ELBO_ERROR_ARGUMENT, "input 'z'");
  for (int i = 0; i < 3; i++) elbo_array_destroy(&out[i].array);
  elbo_array_destroy(&y.array), elbo_array_destroy(&x), elbo_array_destroy(&mean), elbo_array_destroy(&std), elbo_array_destroy(&decoded);
  elbo_model_destroy(&m);
  elbo_ctx_destroy(&ctx);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_round_trip), cmocka_unit_test(test_damaged), cmocka_unit_test(test_samples),
      cmocka_unit_test(test_arguments),  cmocka_unit_test(test_apply),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
