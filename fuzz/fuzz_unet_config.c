// A UNet's config.json: whatever is accepted must build, and be written to a document that is accepted again and says the same.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "nn/unet.h"

static void check_written(elbo_ctx *ctx, arena *a, const unet_config *c) {
  unet_config back;
  json_t *json, *again;
  if (unet_config_write(ctx, c, &json) != ELBO_OK) abort();
  char *text = json_dumps(json, JSON_SORT_KEYS);
  if (!text || unet_config_parse(ctx, a, "written", text, strlen(text), &back) != ELBO_OK) abort();
  if (unet_config_write(ctx, &back, &again) != ELBO_OK || !json_equal(json, again)) abort();
  free(text);
  json_decref(json);
  json_decref(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static elbo_ctx *ctx;
  unet_config c;
  if (!ctx && elbo_ctx_create(NULL, NULL, 0, &ctx) != ELBO_OK) abort();
  arena *a = arena_create(1 << 14);
  if (!a) abort();
  if (unet_config_parse(ctx, a, "input", (const char *)data, size, &c) == ELBO_OK) {
    check_written(ctx, a, &c);
    if (unet_check(ctx, &c, 12, 7, "odd") != ELBO_OK && !elbo_ctx_message(ctx)[0]) abort();
  }
  arena_destroy(&a);
  return 0;
}
