// WebP through libwebp; written lossless, so that what is read back is what was written.
#include <stdlib.h>
#include <string.h>
#include <webp/decode.h>
#include <webp/encode.h>

#include "data/picture.h"

elbo_status webp_decode(elbo_ctx *ctx, const char *name, const void *bytes, size_t size, picture *out) {
  WebPBitstreamFeatures features;
  VP8StatusCode code = WebPGetFeatures(bytes, size, &features);
  if (code == VP8_STATUS_NOT_ENOUGH_DATA) return fail(ctx, ELBO_ERROR_FORMAT, "%s: WebP: the file is cut off", name);
  if (code != VP8_STATUS_OK) return fail(ctx, ELBO_ERROR_FORMAT, "%s: WebP: damaged header (code %d)", name, (int)code);
  if (features.has_animation) return fail(ctx, ELBO_ERROR_UNSUPPORTED, "%s: WebP: an animation; expected one picture", name);
  TRY(picture_reserve(ctx, name, features.height, features.width, features.has_alpha ? 4 : 3, 8, out));
  int stride = out->width * out->channels;
  size_t room = (size_t)stride * (size_t)out->height;
  uint8_t *done = features.has_alpha ? WebPDecodeRGBAInto(bytes, size, out->data, room, stride)
                                     : WebPDecodeRGBInto(bytes, size, out->data, room, stride);
  if (!done) return fail(ctx, ELBO_ERROR_FORMAT, "%s: WebP: damaged or cut off", name);
  return ELBO_OK;
}

elbo_status webp_encode(elbo_ctx *ctx, const char *name, const picture *p, void **bytes, size_t *size) {
  *bytes = NULL, *size = 0;
  if (p->bits != 8) return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: WebP holds 8 bits; got %d (use .png)", name, p->bits);
  if (p->width > WEBP_MAX_DIMENSION || p->height > WEBP_MAX_DIMENSION)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: WebP holds at most %d pixels a side; got %d x %d", name, WEBP_MAX_DIMENSION, p->width,
                p->height);
  picture wide = {0};
  const picture *from = p;
  if (p->channels < 3) { // WebP has no grey
    TRY(picture_reserve(ctx, name, p->height, p->width, p->channels, 8, &wide));
    memcpy(wide.data, p->data, (size_t)p->height * (size_t)p->width * (size_t)p->channels);
    elbo_status status = picture_set_channels(ctx, name, p->channels + 2, &wide);
    if (status != ELBO_OK) {
      picture_free(&wide);
      return status;
    }
    from = &wide;
  }
  uint8_t *memory = NULL;
  int stride = from->width * from->channels;
  size_t length = from->channels == 4 ? WebPEncodeLosslessRGBA(from->data, from->width, from->height, stride, &memory)
                                      : WebPEncodeLosslessRGB(from->data, from->width, from->height, stride, &memory);
  picture_free(&wide);
  if (!length) return fail(ctx, ELBO_ERROR_MEMORY, "%s: WebP: encoding failed", name);
  void *copy = malloc(length); // libwebp's memory must go back through WebPFree
  if (copy) memcpy(copy, memory, length);
  WebPFree(memory);
  if (!copy) return fail_memory(ctx, length, name);
  *bytes = copy, *size = length;
  return ELBO_OK;
}
