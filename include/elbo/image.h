// Pictures in and out: PNG, JPEG, WebP by their standard libraries.
#ifndef ELBO_IMAGE_H
#define ELBO_IMAGE_H

#include <elbo/array.h>

#ifdef __cplusplus
extern "C" {
#endif

// Reads a picture by its content as (H,W,C), uint8 or uint16, C 1 to 4. Refuses more than 2^28 pixels.
ELBO_API ELBO_MUST_CHECK elbo_status elbo_image_read(elbo_ctx *ctx, const char *path, elbo_array **out);
// Writes (H,W,C) uint8, or float32 in 0..1 (clamped, rounded to nearest), as .png, .jpg/.jpeg or .webp by the name's ending,
// through a temporary name.
ELBO_API ELBO_MUST_CHECK elbo_status elbo_image_write(elbo_ctx *ctx, const char *path, const elbo_array *image);
// (N,H,W,C) float32 0..1 to one (rows*(H+1)+1, columns*(W+1)+1, C) uint8 picture, row by row, grey lines between; columns 0: as square as
// can be; small pictures are enlarged by a whole factor until the grid is at least `min_side` pixels wide (0: never).
ELBO_API ELBO_MUST_CHECK elbo_status elbo_image_grid(elbo_ctx *ctx, const elbo_array *images, int columns, int min_side, elbo_array **out);

#ifdef __cplusplus
}
#endif
#endif
