// Recipes: YAML, then a setting behind each NUL byte, then a config table of every field type. What loads must be written to a text that
// loads to the same text.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/config.h"

typedef struct fuzz_latent {
  int64_t dim;
  const char *label;
} fuzz_latent;
typedef struct fuzz_config {
  int64_t steps, memory;
  double rate;
  bool flip;
  const char *path;
  int optimizer;
  config_ints channels;
  config_floats weights;
  config_ints size;
  config_bools flags;
  config_strings kinds;
  config_int_lists depth;
  fuzz_latent latent;
} fuzz_config;

static const config_field latent_fields[] = {
    CONFIG_INT(fuzz_latent, dim, -9e18, 9e18, "20", "", "numbers in a code"),
    CONFIG_STRING(fuzz_latent, label, "", "a name"),
};
static const config_table latent_table = CONFIG_TABLE("latent", fuzz_latent, latent_fields, "");
static const config_field fields[] = {
    CONFIG_INT(fuzz_config, steps, 1, 1e12, "1", "", ""),
    CONFIG_BYTES(fuzz_config, memory, "1GiB", ""),
    CONFIG_FLOAT(fuzz_config, rate, -1e300, 1e300, "1e-3", "", ""),
    CONFIG_BOOL(fuzz_config, flip, "false", ""),
    CONFIG_STRING(fuzz_config, path, "digits", ""),
    CONFIG_ENUM(fuzz_config, optimizer, "adamw", "sgd|adam|adamw|rmsprop", ""),
    CONFIG_INTS(fuzz_config, channels, 1, 65536, "[32, 64]", "", ""),
    CONFIG_FLOATS(fuzz_config, weights, 0, 1, "[]", "", ""),
    CONFIG_INTS_AS(fuzz_config, size, 1, 4096, "null", "", CONFIG_SINGLE | CONFIG_NULL, ""),
    CONFIG_BOOLS_AS(fuzz_config, flags, "false", CONFIG_SINGLE, ""),
    CONFIG_STRINGS(fuzz_config, kinds, "[a, b]", ""),
    CONFIG_INT_LISTS_AS(fuzz_config, depth, 0, 100, "1", "", CONFIG_SINGLE | CONFIG_NULL, ""),
    CONFIG_SECTION(fuzz_config, latent, &latent_table),
};
static const config_table table = CONFIG_TABLE("train", fuzz_config, fields, "");

static char *write_text(const fuzz_config *config) {
  text_buffer t = {0};
  config_write(&table, config, 0, true, &t);
  char *text = text_take(&t);
  if (!text) abort();
  return text;
}

static void check_reload(elbo_ctx *ctx, arena *a, const fuzz_config *config) {
  fuzz_config back;
  yaml_node *root;
  char *text = write_text(config);
  if (yaml_parse(ctx, a, "written", text, strlen(text), &root) != ELBO_OK) abort();
  if (config_load(ctx, a, &table, root, "", &back) != ELBO_OK) abort();
  char *again = write_text(&back);
  if (strcmp(text, again) != 0) abort();
  free(text);
  free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static elbo_ctx *ctx;
  fuzz_config config;
  yaml_node *root;
  if (!ctx && elbo_ctx_create(NULL, NULL, 0, &ctx) != ELBO_OK) abort();
  arena *a = arena_create(1 << 14);
  char *text = malloc(size + 1); // a copy with an end of its own
  if (!a || !text) abort();
  if (size) memcpy(text, data, size);
  text[size] = 0;
  size_t length = strlen(text);
  elbo_status status = yaml_parse(ctx, a, "input", text, length, &root);
  for (size_t at = length + 1; status == ELBO_OK && at < size; at += strlen(text + at) + 1) status = yaml_override(ctx, a, root, text + at);
  if (status == ELBO_OK && config_load(ctx, a, &table, root, "", &config) == ELBO_OK) check_reload(ctx, a, &config);
  if (status == ELBO_OK) (void)yaml_has(root, text);
  free(text);
  arena_destroy(&a);
  return 0;
}
