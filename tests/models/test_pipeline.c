// Pipelines that diffusers saved (tests/golden/make_pipeline.py): the same noise leads to the same picture.
#include "support/test.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include <elbo/model.h>

#include "core/safetensors.h"

// (n,C,H,W) of the file as (n,H,W,C)
static elbo_array *read_tensor(elbo_ctx *ctx, const safetensors *file, const char *name) {
  const tensor_view *v = safetensors_find(file, name);
  elbo_array *x;
  assert_non_null(v);
  assert_int_equal(v->rank, 4);
  int64_t n = v->dim[0], c = v->dim[1], hw = v->dim[2] * v->dim[3];
  assert_ok(ctx, elbo_array_create(ctx, ELBO_F32, 4, (int64_t[]){n, v->dim[2], v->dim[3], c}, &x));
  for (int64_t i = 0; i < n; i++)
    for (int64_t k = 0; k < c; k++)
      for (int64_t p = 0; p < hw; p++)
        memcpy((float *)x->data + (i * hw + p) * c + k, (const char *)v->data + ((i * c + k) * hw + p) * 4, 4);
  return x;
}

static void check(const char *name, const char *likelihood, int classes, int n_options, const char *const *options, int64_t calls_wanted) {
  elbo_ctx *ctx = test_ctx(1);
  safetensors *file;
  elbo_model *m;
  elbo_model_info info;
  elbo_sample_config config;
  elbo_array *x;
  char path[512], key[64];
  int64_t calls;
  snprintf(path, sizeof path, "tests/golden/pipelines/%s", name);
  assert_ok(ctx, elbo_model_load(ctx, test_repository_file(path), NULL, &m));
  elbo_model_get_info(m, &info);
  assert_string_equal(info.likelihood, likelihood);
  assert_int_equal(info.classes, classes);
  assert_ok(ctx, safetensors_open(ctx, test_repository_file("tests/golden/pipelines.safetensors"), &file));
  snprintf(key, sizeof key, "%s.noise", name);
  elbo_array *noise = read_tensor(ctx, file, key);
  snprintf(key, sizeof key, "%s.x", name);
  elbo_array *want = read_tensor(ctx, file, key);
  elbo_sample_defaults(&config);
  config.n = 3, config.noise = noise, config.n_options = n_options, config.options = options, config.network_calls = &calls;
  assert_ok(ctx, elbo_sample(m, &config, &x));
  assert_close(x->data, want->data, elbo_array_count(want), 1e-4);
  assert_int_equal(calls, calls_wanted);
  elbo_array_destroy(&noise), elbo_array_destroy(&want), elbo_array_destroy(&x);
  safetensors_close(&file);
  elbo_model_destroy(&m);
  elbo_ctx_destroy(&ctx);
}

static void test_unconditional(void **state) {
  (void)state;
  check("ddim", "discretized_gaussian", 0, 1, (const char *const[]){"steps=10"}, 10);
}

static void test_classes(void **state) {
  (void)state;
  check("classes", "discretized_gaussian", 3, 1, (const char *const[]){"steps=8"}, 8);
}

static void test_guided_transformer(void **state) {
  (void)state;
  check("dit", "none", 5, 2, (const char *const[]){"steps=6", "guidance.scale=2.5"}, 12);
}

// States decoded to pictures by the pipeline's own autoencoder.
static void test_latent(void **state) {
  (void)state;
  check("latent", "none", 3, 1, (const char *const[]){"steps=6"}, 6);
  check("ldm", "none", 0, 1, (const char *const[]){"steps=6"}, 6);
}

// What a directory of diffusers' may not be.
static void test_refused(void **state) {
  (void)state;
  static const struct {
    const char *command, *part;
  } cases[] = {
      {"sed -i 's/DDIMScheduler/TeaScheduler/' scheduler/scheduler_config.json", "TeaScheduler"},
      {"sed -i 's/DDIMScheduler/TeaScheduler/' scheduler/scheduler_config.json", "DPMSolverMultistepScheduler"}, // those that are known
      {"sed -i '/_class_name/d' scheduler/scheduler_config.json", "_class_name"},
      {"sed -i 's/squaredcos_cap_v2/linear/; s/\"beta_end\": [0-9.]*/\"beta_end\": 2.5/' scheduler/scheduler_config.json", "beta_end"},
      {"sed -i 's/\"clip_sample\"/\"clip_simple\"/' scheduler/scheduler_config.json", "clip_simple"},
      {"rm unet/diffusion_pytorch_model.safetensors", "unet"},
      {"truncate -s 1000 unet/diffusion_pytorch_model.safetensors", "unet"},
      {"sed -i 's/\"sample_size\": 8/\"sample_size\": null/' unet/config.json", "sample_size"},
      {"sed -i 's/UNet2DModel/UNet9DModel/' unet/config.json", "UNet9DModel"},
  };
  elbo_ctx *ctx = test_ctx(1);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char path[256], command[1024];
    elbo_model *m = NULL;
    snprintf(path, sizeof path, "%s/odd%zu", test_directory(), i);
    snprintf(command, sizeof command, "cp -r '%s' '%s' && cd '%s' && %s", test_repository_file("tests/golden/pipelines/ddim"), path, path,
             cases[i].command);
    assert_int_equal(test_run(command, NULL), 0);
    elbo_status status = elbo_model_load(ctx, path, NULL, &m);
    if (status == ELBO_OK || m || !strstr(elbo_ctx_message(ctx), cases[i].part))
      fail_msg("%s: \"%s\"; expected \"...%s...\"", cases[i].command, status == ELBO_OK ? "loaded" : elbo_ctx_message(ctx), cases[i].part);
  }
  elbo_ctx_destroy(&ctx);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_unconditional), cmocka_unit_test(test_classes),
                                     cmocka_unit_test(test_guided_transformer), cmocka_unit_test(test_latent),
                                     cmocka_unit_test(test_refused)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
