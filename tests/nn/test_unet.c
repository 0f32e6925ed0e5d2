// UNets against diffusers: names, results, gradients; their configs read, written and read again.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "nn/unet.h"
#include "support/golden_network.h"

static elbo_ctx *ctx;
static arena *memory;

static const char *const plain_cases[] = {"ddpm",      "adm",          "adm_inner_attention", "centered",  "bare_middle",
                                          "no_middle", "learned_time", "fourier_label",       "score_sde", "score_sde_inner",
                                          "one_level", "old_names"};
static const char *const condition_cases[] = {"sd1",       "sd2",          "sdxl",         "nested_depths",
                                              "deepfloyd", "context_only", "projection",   "simple_projection",
                                              "odd_sizes", "upscaler",     "unconditional"};

static elbo_tensor *build(const void *config, const denoiser_inputs *in) { return unet_network(config, in); }

static const char *write_text(const char *name, const char *text) {
  const char *path = test_path(name);
  test_write_file(path, text, strlen(text));
  return path;
}

// What is written says what was read, but for where diffusers was and what has several forms.
static void check_written(const char *name, const char *text, const unet_config *c) {
  json_t *theirs, *ours, *again, *theirs_value;
  unet_config back;
  const char *key;
  assert_ok(ctx, json_parse(ctx, name, text, strlen(text), &theirs));
  assert_ok(ctx, unet_config_write(ctx, c, &ours));
  json_object_foreach(theirs, key, theirs_value) {
    json_t *value = json_object_get(ours, key);
    if (strcmp(key, "_diffusers_version") == 0) continue;
    if (!value) fail_msg("%s: %s is not written", name, key);
    if (strcmp(key, "encoder_hid_dim_type") == 0) continue; // null means text_proj beside encoder_hid_dim
    bool same = json_is_number(value) && json_is_number(theirs_value) ? json_number_value(value) == json_number_value(theirs_value)
                                                                      : json_equal(value, theirs_value);
    if (!same && json_array_size(theirs_value) == 1) same = json_equal(value, json_array_get(theirs_value, 0));
    if (!same) fail_msg("%s: %s is written as %s", name, key, json_dumps(value, JSON_ENCODE_ANY));
  }
  assert_ok(ctx, json_write(ctx, test_path("written.json"), ours));
  assert_ok(ctx, unet_config_read(ctx, memory, test_path("written.json"), &back));
  assert_ok(ctx, unet_config_write(ctx, &back, &again));
  assert_true(json_equal(ours, again));
  assert_int_equal(json_object_size(ours), json_object_size(theirs) - 1);
  json_decref(theirs);
  json_decref(ours);
  json_decref(again);
}

static void check_case(const safetensors *file, const char *name) {
  unet_config c;
  const char *text = golden_text(file, name, "config");
  assert_ok(ctx, unet_config_read(ctx, memory, write_text("config.json", text), &c));
  check_written(name, text, &c);
  golden_network n = {.file = file, .name = name, .config = &c, .needs = unet_needs(&c), .build = build};
  n.tolerance = 2e-5, n.gradient_tolerance = 1e-4;
  for (int isa = 0; isa < ISA_COUNT; isa++) golden_network_check(&n, isa);
  n.tolerance = n.gradient_tolerance = 2e-6;                            // the file's single precision, and that of the times' frequencies
  if (strncmp(name, "score_sde", 9) != 0) golden_network_check(&n, -1); // wide ones take the reference long
}

static void check_file(const char *path, const char *const *names, size_t count) {
  safetensors *file;
  assert_ok(ctx, safetensors_open(ctx, test_repository_file(path), &file));
  for (size_t i = 0; i < count; i++) check_case(file, names[i]);
  safetensors_close(&file);
}

static void test_plain(void **state) {
  (void)state;
  check_file("tests/golden/unet_2d.safetensors", plain_cases, sizeof plain_cases / sizeof *plain_cases);
}

static void test_condition(void **state) {
  (void)state;
  check_file("tests/golden/unet_condition.safetensors", condition_cases, sizeof condition_cases / sizeof *condition_cases);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_plain), cmocka_unit_test(test_condition)};
  ctx = test_ctx(1);
  memory = arena_create(1 << 16);
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  arena_destroy(&memory);
  elbo_ctx_destroy(&ctx);
  return failed;
}
