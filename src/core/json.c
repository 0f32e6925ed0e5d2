#include "core/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/memory.h"

enum { JSON_DEPTH_MAX = 64 };

// jansson's own limit of depth is set when it is built; ours is counted before it recurses. Strings end and escape as JSON has them; in
// text that is no JSON the count may be wrong, but never too low for what jansson would enter.
static bool too_deep(const char *text, size_t size) {
  int depth = 0;
  bool quoted = false;
  for (size_t i = 0; i < size; i++) {
    char c = text[i];
    if (quoted) {
      if (c == '\\') i++;
      if (c == '"') quoted = false;
    } else if (c == '"') {
      quoted = true;
    } else if (c == '[' || c == '{') {
      if (++depth > JSON_DEPTH_MAX) return true;
    } else if ((c == ']' || c == '}') && depth > 0) {
      depth--;
    }
  }
  return false;
}

elbo_status json_parse(elbo_ctx *ctx, const char *name, const char *text, size_t size, json_t **out) {
  json_error_t error;
  *out = NULL;
  if (too_deep(text, size)) return fail(ctx, ELBO_ERROR_FORMAT, "%s: JSON nested deeper than %d", name, JSON_DEPTH_MAX);
  *out = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
  if (*out) return ELBO_OK;
  if (json_error_code(&error) == json_error_out_of_memory) return fail_memory(ctx, size, name);
  return fail(ctx, ELBO_ERROR_FORMAT, "%s:%d: not valid JSON: %s", name, error.line > 0 ? error.line : 1, error.text);
}

elbo_status json_read(elbo_ctx *ctx, const char *path, size_t limit, json_t **out) {
  char *text;
  size_t size;
  *out = NULL;
  TRY(file_read(ctx, path, limit, &text, &size));
  elbo_status status = json_parse(ctx, path, text, size, out);
  free(text);
  return status;
}

elbo_status json_write(elbo_ctx *ctx, const char *path, const json_t *json) {
  char *text = json_dumps(json, JSON_INDENT(2) | JSON_SORT_KEYS | JSON_ENCODE_ANY);
  if (!text) return fail_memory(ctx, 0, path);
  size_t size = strlen(text);
  text[size] = '\n'; // in the terminator's place: the size is given
  elbo_status status = file_write(ctx, path, text, size + 1);
  free(text);
  return status;
}

json_t *json_number(double value) { return isfinite(value) ? json_real(value) : json_null(); }
