// PNG through libpng: palettes become RGB, transparency becomes alpha, fewer than 8 bits become 8, 16 stay 16.
#include <png.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include "data/picture.h"

typedef struct png_job {
  const uint8_t *at;
  size_t left;
  char why[128];
  uint8_t *out;
  size_t length, capacity;
} png_job;

static void on_error(png_structp png, png_const_charp text) {
  png_job *job = png_get_error_ptr(png);
  if (job) {
    strncpy(job->why, text, sizeof job->why - 1);
    job->why[sizeof job->why - 1] = 0;
  }
  longjmp(png_jmpbuf(png), 1);
}

static void on_warning(png_structp png, png_const_charp text) { (void)png, (void)text; }

static void on_read(png_structp png, png_bytep to, size_t n) {
  png_job *job = png_get_io_ptr(png);
  if (n > job->left) png_error(png, "the file is cut off");
  memcpy(to, job->at, n);
  job->at += n, job->left -= n;
}

static void on_write(png_structp png, png_bytep from, size_t n) {
  png_job *job = png_get_io_ptr(png);
  if (n > job->capacity - job->length) {
    size_t capacity = job->capacity;
    while (n > capacity - job->length) {
      if (capacity > SIZE_MAX / 2) png_error(png, "out of memory");
      capacity = capacity ? capacity * 2 : 1 << 14;
    }
    uint8_t *more = realloc(job->out, capacity);
    if (!more) png_error(png, "out of memory");
    job->out = more, job->capacity = capacity;
  }
  memcpy(job->out + job->length, from, n);
  job->length += n;
}

static void on_flush(png_structp png) { (void)png; }

// What lives across longjmp is in memory behind pointers that do not change after setjmp.
static elbo_status decode_guarded(elbo_ctx *ctx, const char *name, png_structp png, png_infop info, png_job *job, picture *out,
                                  png_bytep **rows) {
  if (setjmp(png_jmpbuf(png))) return fail(ctx, ELBO_ERROR_FORMAT, "%s: PNG: %s", name, job->why);
  png_set_read_fn(png, job, on_read);
  png_set_user_limits(png, 1 << 20, 1 << 20);
  png_set_chunk_malloc_max(png, 64 << 20);
  png_read_info(png, info);
  int depth = png_get_bit_depth(png, info), color = png_get_color_type(png, info);
  if (color == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(png);
  if (color == PNG_COLOR_TYPE_GRAY && depth < 8) png_set_expand_gray_1_2_4_to_8(png);
  if (png_get_valid(png, info, PNG_INFO_tRNS)) png_set_tRNS_to_alpha(png);
  if (depth == 16 && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__) png_set_swap(png);
  png_set_interlace_handling(png);
  png_read_update_info(png, info);
  int64_t height = png_get_image_height(png, info), width = png_get_image_width(png, info);
  TRY(picture_reserve(ctx, name, height, width, png_get_channels(png, info), png_get_bit_depth(png, info), out));
  size_t stride = png_get_rowbytes(png, info);
  if (stride != (size_t)width * (size_t)out->channels * (size_t)(out->bits / 8))
    return fail(ctx, ELBO_ERROR_INTERNAL, "%s: PNG: rows of %zu bytes", name, stride);
  *rows = malloc((size_t)height * sizeof(png_bytep));
  if (!*rows) return fail_memory(ctx, (size_t)height * sizeof(png_bytep), name);
  for (int64_t y = 0; y < height; y++) (*rows)[y] = (uint8_t *)out->data + (size_t)y * stride;
  png_read_image(png, *rows);
  png_read_end(png, NULL);
  return ELBO_OK;
}

elbo_status png_decode(elbo_ctx *ctx, const char *name, const void *bytes, size_t size, picture *out) {
  png_job job = {.at = bytes, .left = size};
  png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &job, on_error, on_warning);
  if (!png) return fail_memory(ctx, 0, name);
  png_infop info = png_create_info_struct(png);
  png_bytep *rows = NULL;
  elbo_status status = info ? decode_guarded(ctx, name, png, info, &job, out, &rows) : fail_memory(ctx, 0, name);
  free(rows);
  png_destroy_read_struct(&png, &info, NULL);
  return status;
}

static elbo_status encode_guarded(elbo_ctx *ctx, const char *name, png_structp png, png_infop info, png_job *job, const picture *p) {
  if (setjmp(png_jmpbuf(png))) return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: PNG: %s", name, job->why);
  static const int COLORS[5] = {0, PNG_COLOR_TYPE_GRAY, PNG_COLOR_TYPE_GRAY_ALPHA, PNG_COLOR_TYPE_RGB, PNG_COLOR_TYPE_RGB_ALPHA};
  png_set_write_fn(png, job, on_write, on_flush);
  png_set_user_limits(png, 1 << 24, 1 << 24);
  png_set_IHDR(png, info, (png_uint_32)p->width, (png_uint_32)p->height, p->bits, COLORS[p->channels], PNG_INTERLACE_NONE,
               PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  png_write_info(png, info);
  if (p->bits == 16 && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__) png_set_swap(png);
  size_t stride = (size_t)p->width * (size_t)p->channels * (size_t)(p->bits / 8);
  for (int y = 0; y < p->height; y++) png_write_row(png, (const uint8_t *)p->data + (size_t)y * stride);
  png_write_end(png, info);
  return ELBO_OK;
}

elbo_status png_encode(elbo_ctx *ctx, const char *name, const picture *p, void **bytes, size_t *size) {
  png_job job = {0};
  *bytes = NULL, *size = 0;
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &job, on_error, on_warning);
  if (!png) return fail_memory(ctx, 0, name);
  png_infop info = png_create_info_struct(png);
  elbo_status status = info ? encode_guarded(ctx, name, png, info, &job, p) : fail_memory(ctx, 0, name);
  png_destroy_write_struct(&png, &info);
  if (status != ELBO_OK) {
    free(job.out);
    return status;
  }
  *bytes = job.out, *size = job.length;
  return ELBO_OK;
}
