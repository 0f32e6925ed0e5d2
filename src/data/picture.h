// Pictures decoded from and encoded to memory; one file per format (picture_png.c, picture_jpeg.c, picture_webp.c).
#ifndef DATA_PICTURE_H
#define DATA_PICTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

// (height, width, channels), uint8 or uint16 by `bits`. The buffer is reused from picture to picture and grows as needed.
typedef struct picture {
  int height, width, channels; // channels: 1 grey, 2 grey + alpha, 3 RGB, 4 RGB + alpha
  int bits;                    // 8 or 16
  void *data;                  // malloc'd
  size_t capacity;             // bytes of data
} picture;

#define PICTURE_MAX_PIXELS ((int64_t)1 << 28)

void picture_free(picture *p);
// Sets the shape and makes room for it; refuses more than PICTURE_MAX_PIXELS. `name` is for messages.
elbo_status picture_reserve(elbo_ctx *ctx, const char *name, int64_t height, int64_t width, int channels, int bits, picture *p);

typedef enum picture_format { PICTURE_UNKNOWN, PICTURE_PNG, PICTURE_JPEG, PICTURE_WEBP } picture_format;
picture_format picture_recognise(const void *bytes, size_t size);
const char *picture_format_name(picture_format format);

// Decodes by content. ELBO_ERROR_FORMAT when the bytes are no picture, damaged or cut off.
elbo_status picture_decode(elbo_ctx *ctx, const char *name, const void *bytes, size_t size, picture *out);
elbo_status png_decode(elbo_ctx *ctx, const char *name, const void *bytes, size_t size, picture *out);
elbo_status jpeg_decode(elbo_ctx *ctx, const char *name, const void *bytes, size_t size, picture *out);
elbo_status webp_decode(elbo_ctx *ctx, const char *name, const void *bytes, size_t size, picture *out);

// Encodes into a new buffer (free()). JPEG and WebP: 8 bits; JPEG: 1 or 3 channels.
elbo_status png_encode(elbo_ctx *ctx, const char *name, const picture *p, void **bytes, size_t *size);
elbo_status jpeg_encode(elbo_ctx *ctx, const char *name, const picture *p, void **bytes, size_t *size);
elbo_status webp_encode(elbo_ctx *ctx, const char *name, const picture *p, void **bytes, size_t *size);

// What decodes JPEG here, with the settings that change its pixels: "libjpeg-turbo 2.1.5, islow, fancy upsampling".
const char *jpeg_decoder_name(void);

// To `channels` (1 to 4): grey is spread, colour weighted (Rec. 601), alpha laid over white or made opaque. In place.
elbo_status picture_set_channels(elbo_ctx *ctx, const char *name, int channels, picture *p);
// Cuts the largest centred square and brings it to size x size (box-filtered when shrinking, bilinear when enlarging); `scratch` holds the
// result afterwards, p and scratch having changed places.
elbo_status picture_fit(elbo_ctx *ctx, const char *name, int size, picture *p, picture *scratch);

#endif
