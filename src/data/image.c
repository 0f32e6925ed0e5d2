// The public calls on pictures: read, write, grid.
#include <elbo/image.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/ctx.h"
#include "core/file.h"
#include "core/memory.h"
#include "data/picture.h"

elbo_status elbo_image_read(elbo_ctx *ctx, const char *path, elbo_array **out) {
  *out = NULL;
  const void *bytes;
  size_t size;
  picture p = {0};
  TRY(file_map(ctx, path, &bytes, &size));
  elbo_status status = picture_decode(ctx, path, bytes, size, &p);
  file_unmap(bytes, size);
  if (status == ELBO_OK)
    status = elbo_array_create(ctx, p.bits == 8 ? ELBO_U8 : ELBO_U16, 3, (int64_t[]){p.height, p.width, p.channels}, out);
  if (status == ELBO_OK) memcpy((*out)->data, p.data, elbo_array_bytes(*out));
  picture_free(&p);
  return status;
}

static uint8_t byte_of(float v) { return v >= 1 ? 255 : v > 0 ? (uint8_t)(v * 255.0f + 0.5f) : 0; } // NaN: 0

typedef elbo_status (*encode_fn)(elbo_ctx *ctx, const char *name, const picture *p, void **bytes, size_t *size);

static encode_fn encoder_by_name(const char *path) {
  const char *dot = strrchr(path, '.');
  if (!dot) return NULL;
  if (!strcasecmp(dot, ".png")) return png_encode;
  if (!strcasecmp(dot, ".jpg") || !strcasecmp(dot, ".jpeg")) return jpeg_encode;
  if (!strcasecmp(dot, ".webp")) return webp_encode;
  return NULL;
}

elbo_status elbo_image_write(elbo_ctx *ctx, const char *path, const elbo_array *image) {
  encode_fn encode = encoder_by_name(path);
  if (!encode) return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: expected a name that ends in .png, .jpg, .jpeg or .webp", path);
  const int64_t *d = image->dim;
  if (image->rank != 3 || d[2] < 1 || d[2] > 4 || d[0] < 1 || d[1] < 1 || d[0] > 1 << 24 || d[1] > 1 << 24)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: a picture is written from (H,W,C) with C 1 to 4; got rank %d", path, image->rank);
  if (image->dtype != ELBO_U8 && image->dtype != ELBO_U16 && image->dtype != ELBO_F32)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: a picture is written from uint8, uint16 or float32; got %s", path,
                elbo_dtype_name(image->dtype));
  picture p = {
      .height = (int)d[0], .width = (int)d[1], .channels = (int)d[2], .bits = image->dtype == ELBO_U16 ? 16 : 8, .data = image->data};
  uint8_t *bytes8 = NULL;
  if (image->dtype == ELBO_F32) {
    int64_t n = elbo_array_count(image);
    TRY(array_new(ctx, (size_t)n, 1, path, (void **)&bytes8));
    for (int64_t i = 0; i < n; i++) bytes8[i] = byte_of(((const float *)image->data)[i]);
    p.data = bytes8;
  }
  void *file = NULL;
  size_t size = 0;
  elbo_status status = encode(ctx, path, &p, &file, &size);
  if (status == ELBO_OK) status = file_write(ctx, path, file, size);
  free(file);
  free(bytes8);
  return status;
}

elbo_status elbo_image_grid(elbo_ctx *ctx, const elbo_array *images, int columns, int min_side, elbo_array **out) {
  *out = NULL;
  if (images->rank != 4 || images->dtype != ELBO_F32) return fail(ctx, ELBO_ERROR_ARGUMENT, "image grid: expected float32 (N,H,W,C)");
  int64_t n = images->dim[0], h = images->dim[1], w = images->dim[2], channels = images->dim[3];
  if (n < 1 || h < 1 || w < 1 || channels < 1 || channels > 4 || columns < 0)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "image grid: (%lld,%lld,%lld,%lld) in %d columns", (long long)n, (long long)h, (long long)w,
                (long long)channels, columns);
  int64_t across = columns ? columns : (int64_t)ceil(sqrt((double)n)), down = (n + across - 1) / across, factor = 1;
  int64_t need = min_side - 1 - across; // across * (w * factor + 1) + 1 >= min_side
  if (min_side > 0 && need > across * w) factor = (need + across * w - 1) / (across * w);
  int64_t cell_h = h * factor + 1, cell_w = w * factor + 1, height = down * cell_h + 1, width = across * cell_w + 1;
  TRY(elbo_array_create(ctx, ELBO_U8, 3, (int64_t[]){height, width, channels}, out));
  uint8_t *to = (*out)->data;
  const float *from = images->data;
  memset(to, 128, elbo_array_bytes(*out));
  for (int64_t i = 0; i < n; i++)
    for (int64_t y = 0; y < h * factor; y++)
      for (int64_t x = 0; x < w * factor; x++) {
        uint8_t *pixel = to + ((i / across * cell_h + 1 + y) * width + i % across * cell_w + 1 + x) * channels;
        const float *source = from + ((i * h + y / factor) * w + x / factor) * channels;
        for (int64_t c = 0; c < channels; c++) pixel[c] = byte_of(source[c]);
      }
  return ELBO_OK;
}
