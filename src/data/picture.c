// What all picture formats share: recognition, shape, channels, size.
#include "data/picture.h"

#include <stdlib.h>
#include <string.h>

#include "core/memory.h"

void picture_free(picture *p) {
  free(p->data);
  *p = (picture){0};
}

elbo_status picture_reserve(elbo_ctx *ctx, const char *name, int64_t height, int64_t width, int channels, int bits, picture *p) {
  if (height < 1 || width < 1)
    return fail(ctx, ELBO_ERROR_FORMAT, "%s: a picture of %lld x %lld pixels", name, (long long)width, (long long)height);
  int64_t pixels;
  if (!checked_mul(height, width, &pixels) || pixels > PICTURE_MAX_PIXELS)
    return fail(ctx, ELBO_ERROR_UNSUPPORTED, "%s: %lld x %lld pixels; at most 2^28 are read", name, (long long)width, (long long)height);
  if (channels < 1 || channels > 4 || (bits != 8 && bits != 16))
    return fail(ctx, ELBO_ERROR_UNSUPPORTED, "%s: %d channels of %d bits", name, channels, bits);
  size_t need = (size_t)pixels * (size_t)channels * (size_t)(bits / 8);
  if (need > p->capacity) {
    void *more = realloc(p->data, need);
    if (!more) return fail_memory(ctx, need, name);
    p->data = more, p->capacity = need;
  }
  p->height = (int)height, p->width = (int)width, p->channels = channels, p->bits = bits;
  return ELBO_OK;
}

picture_format picture_recognise(const void *bytes, size_t size) {
  const uint8_t *b = bytes;
  if (size >= 8 && !memcmp(b, "\x89PNG\r\n\x1a\n", 8)) return PICTURE_PNG;
  if (size >= 3 && b[0] == 0xff && b[1] == 0xd8 && b[2] == 0xff) return PICTURE_JPEG;
  if (size >= 12 && !memcmp(b, "RIFF", 4) && !memcmp(b + 8, "WEBP", 4)) return PICTURE_WEBP;
  return PICTURE_UNKNOWN;
}

const char *picture_format_name(picture_format format) {
  static const char *const NAMES[] = {"unknown", "PNG", "JPEG", "WebP"};
  return NAMES[format];
}

elbo_status picture_decode(elbo_ctx *ctx, const char *name, const void *bytes, size_t size, picture *out) {
  switch (picture_recognise(bytes, size)) {
  case PICTURE_PNG: return png_decode(ctx, name, bytes, size, out);
  case PICTURE_JPEG: return jpeg_decode(ctx, name, bytes, size, out);
  case PICTURE_WEBP: return webp_decode(ctx, name, bytes, size, out);
  default: return fail(ctx, ELBO_ERROR_FORMAT, "%s: neither PNG nor JPEG nor WebP", name);
  }
}

static int sample_at(const picture *p, size_t i) { return p->bits == 8 ? ((const uint8_t *)p->data)[i] : ((const uint16_t *)p->data)[i]; }

static void set_sample(picture *p, size_t i, int v) {
  if (p->bits == 8)
    ((uint8_t *)p->data)[i] = (uint8_t)v;
  else
    ((uint16_t *)p->data)[i] = (uint16_t)v;
}

elbo_status picture_set_channels(elbo_ctx *ctx, const char *name, int channels, picture *p) {
  int from = p->channels;
  if (from == channels) return ELBO_OK;
  size_t pixels = (size_t)p->height * (size_t)p->width;
  int64_t top = p->bits == 8 ? 255 : 65535;
  if (channels > from) TRY(picture_reserve(ctx, name, p->height, p->width, channels, p->bits, p));
  p->channels = channels;
  bool color = from >= 3, alpha = from == 2 || from == 4, want_color = channels >= 3, want_alpha = channels == 2 || channels == 4;
  for (size_t k = 0; k < pixels; k++) { // growing in place goes from the end
    size_t i = channels > from ? pixels - 1 - k : k;
    int64_t c[3], a = top;
    for (int j = 0; j < 3; j++) c[j] = sample_at(p, i * (size_t)from + (color ? (size_t)j : 0));
    if (alpha) a = sample_at(p, i * (size_t)from + (size_t)from - 1);
    if (!want_alpha && a != top)
      for (int j = 0; j < 3; j++) c[j] = (c[j] * a + top * (top - a) + top / 2) / top; // over white
    size_t to = i * (size_t)channels;
    if (want_color)
      for (int j = 0; j < 3; j++) set_sample(p, to + (size_t)j, (int)c[j]);
    else
      set_sample(p, to, color ? (int)((299 * c[0] + 587 * c[1] + 114 * c[2] + 500) / 1000) : (int)c[0]);
    if (want_alpha) set_sample(p, to + (size_t)channels - 1, (int)a);
  }
  return ELBO_OK;
}

// Weights of source samples for one target sample: the overlap of its footprint (shrinking), or the two neighbours (enlarging).
static int filter_span(int side, int size, int i, int *first, double *weight) {
  double scale = (double)side / size, sum = 0;
  int n = 0;
  if (side >= size) {
    double low = i * scale, high = low + scale;
    *first = (int)low;
    for (int j = *first; j < side && j < high; j++) {
      double from = j > low ? j : low, to = j + 1 < high ? j + 1 : high;
      if (to > from) sum += weight[n] = to - from, n++;
    }
  } else {
    double at = (i + 0.5) * scale - 0.5, low = at < 0 ? 0 : at > side - 1 ? side - 1 : at;
    *first = (int)low;
    double t = low - *first;
    weight[n++] = 1 - t;
    if (*first + 1 < side && t > 0) weight[n++] = t;
    sum = 1;
  }
  for (int j = 0; j < n; j++) weight[j] /= sum;
  return n;
}

elbo_status picture_fit(elbo_ctx *ctx, const char *name, int size, picture *p, picture *scratch) {
  if (p->height == size && p->width == size) return ELBO_OK;
  int side = p->height < p->width ? p->height : p->width, top = (p->height - side) / 2, left = (p->width - side) / 2,
      channels = p->channels;
  TRY(picture_reserve(ctx, name, size, size, channels, p->bits, scratch));
  size_t longest = (size_t)(side / size + 3), row = (size_t)size * (size_t)channels;
  // one filter for both axes, as the region is square; then rows of the source, filtered along x, kept for all of them: (side, size,
  // channels)
  double *weight = calloc(longest * (size_t)size, sizeof *weight), *wide = malloc((size_t)side * row * sizeof *wide);
  int *span = calloc((size_t)size * 2, sizeof *span);
  elbo_status status = ELBO_OK;
  if (!weight || !span || !wide) status = fail_memory(ctx, (size_t)side * row * sizeof *wide, name);
  for (int i = 0; i < size && status == ELBO_OK; i++)
    span[2 * i + 1] = filter_span(side, size, i, &span[2 * i], weight + longest * (size_t)i);
  for (int y = 0; y < side && status == ELBO_OK; y++)
    for (int x = 0; x < size; x++)
      for (int c = 0; c < channels; c++) {
        double sum = 0;
        size_t from = ((size_t)(y + top) * (size_t)p->width + (size_t)(left + span[2 * x])) * (size_t)channels + (size_t)c;
        for (int j = 0; j < span[2 * x + 1]; j++)
          sum += weight[longest * (size_t)x + (size_t)j] * sample_at(p, from + (size_t)(j * channels));
        wide[(size_t)y * row + (size_t)(x * channels + c)] = sum;
      }
  for (int y = 0; y < size && status == ELBO_OK; y++)
    for (size_t x = 0; x < row; x++) {
      double sum = 0;
      for (int j = 0; j < span[2 * y + 1]; j++) sum += weight[longest * (size_t)y + (size_t)j] * wide[(size_t)(span[2 * y] + j) * row + x];
      set_sample(scratch, (size_t)y * row + x, (int)(sum + 0.5));
    }
  free(weight), free(wide), free(span);
  if (status == ELBO_OK) {
    picture swap = *p;
    *p = *scratch, *scratch = swap;
  }
  return status;
}
