// JSON documents: whatever is accepted must survive being written and read again.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static elbo_ctx *ctx;
  json_t *json, *again;
  if (!ctx && elbo_ctx_create(NULL, NULL, 0, &ctx) != ELBO_OK) abort();
  if (json_parse(ctx, "input", (const char *)data, size, &json) != ELBO_OK) return 0;
  char *text = json_dumps(json, JSON_SORT_KEYS);
  if (!text || json_parse(ctx, "again", text, strlen(text), &again) != ELBO_OK || !json_equal(json, again)) abort();
  free(text);
  json_decref(again);
  json_decref(json);
  return 0;
}
