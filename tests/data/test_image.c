// Pictures: round trips, palettes and depths, channels, sizes, grids, damaged files.
#include <elbo/image.h>
#include <math.h>
#include <png.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "data/picture.h"
#include "support/test.h"

static elbo_array *make_picture(elbo_ctx *ctx, elbo_dtype dtype, int64_t h, int64_t w, int64_t c) {
  elbo_array *a;
  assert_ok(ctx, elbo_array_create(ctx, dtype, 3, (int64_t[]){h, w, c}, &a));
  for (int64_t i = 0; i < h * w * c; i++) {
    double v = 0.5 + 0.4 * sin((double)(i / c) * 0.05 + (double)(i % c)); // smooth, so that JPEG can do it
    if (dtype == ELBO_U8)
      ((uint8_t *)a->data)[i] = (uint8_t)(255 * v);
    else if (dtype == ELBO_U16)
      ((uint16_t *)a->data)[i] = (uint16_t)(65535 * v);
    else
      ((float *)a->data)[i] = (float)v;
  }
  return a;
}

static void lossless_round_trips(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  for (int c = 1; c <= 4; c++)
    for (int deep = 0; deep < 2; deep++) {
      elbo_array *a = make_picture(ctx, deep ? ELBO_U16 : ELBO_U8, 13, 17, c), *b;
      assert_ok(ctx, elbo_image_write(ctx, test_path("a.png"), a));
      assert_ok(ctx, elbo_image_read(ctx, test_path("a.png"), &b));
      assert_int_equal(b->dtype, a->dtype);
      assert_memory_equal(b->dim, a->dim, 24);
      assert_memory_equal(b->data, a->data, elbo_array_bytes(a));
      elbo_array_destroy(&b);
      if (!deep) {
        assert_ok(ctx, elbo_image_write(ctx, test_path("a.WebP"), a));
        assert_ok(ctx, elbo_image_read(ctx, test_path("a.WebP"), &b));
        assert_int_equal(b->dim[2], c < 3 ? c + 2 : c); // WebP has no grey
        for (int64_t i = 0; i < 13 * 17; i++)
          for (int j = 0; j < 3; j++)
            assert_int_equal(((uint8_t *)b->data)[i * b->dim[2] + j], ((uint8_t *)a->data)[i * c + (c < 3 ? 0 : j)]);
        elbo_array_destroy(&b);
      } else {
        assert_status(ctx, elbo_image_write(ctx, test_path("a.webp"), a), ELBO_ERROR_ARGUMENT, "8 bits");
        assert_status(ctx, elbo_image_write(ctx, test_path("a.jpg"), a), ELBO_ERROR_ARGUMENT, "8 bits");
      }
      elbo_array_destroy(&a);
    }
  elbo_ctx_destroy(&ctx);
}

static void jpeg_is_close(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  for (int c = 1; c <= 3; c += 2) {
    elbo_array *a = make_picture(ctx, ELBO_F32, 40, 33, c), *b;
    assert_ok(ctx, elbo_image_write(ctx, test_path("a.jpeg"), a));
    assert_ok(ctx, elbo_image_read(ctx, test_path("a.jpeg"), &b));
    assert_int_equal(b->dim[2], c);
    double error = 0;
    for (int64_t i = 0; i < 40 * 33 * c; i++) error = fmax(error, fabs(((uint8_t *)b->data)[i] / 255.0 - (double)((float *)a->data)[i]));
    assert_near(error, 0, 0.06);
    elbo_array_destroy(&a), elbo_array_destroy(&b);
  }
  assert_true(strstr(jpeg_decoder_name(), "islow, fancy upsampling") != NULL);
  elbo_ctx_destroy(&ctx);
}

// A PNG of any kind, written with libpng directly.
static size_t write_png(uint8_t *out, size_t size, int width, int height, int depth, int color, const uint8_t *rows, size_t stride,
                        bool transparent) {
  FILE *f = fmemopen(out, size, "wb");
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
  png_infop info = png_create_info_struct(png);
  png_init_io(png, f);
  png_set_IHDR(png, info, (png_uint_32)width, (png_uint_32)height, depth, color, PNG_INTERLACE_ADAM7, PNG_COMPRESSION_TYPE_DEFAULT,
               PNG_FILTER_TYPE_DEFAULT);
  png_color palette[4] = {{10, 20, 30}, {200, 100, 50}, {0, 0, 0}, {255, 255, 255}};
  png_byte alpha[2] = {0, 128};
  if (color == PNG_COLOR_TYPE_PALETTE) png_set_PLTE(png, info, palette, 4);
  if (transparent) png_set_tRNS(png, info, alpha, 2, NULL);
  png_write_info(png, info);
  png_bytep pointers[64];
  for (int y = 0; y < height; y++) pointers[y] = (png_bytep)(uintptr_t)(rows + (size_t)y * stride);
  png_write_image(png, pointers);
  png_write_end(png, NULL);
  png_destroy_write_struct(&png, &info);
  fflush(f);
  size_t length = (size_t)ftell(f);
  fclose(f);
  return length;
}

static void png_kinds(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  uint8_t file[4096];
  picture p = {0};
  const uint8_t rows[2] = {0x1b, 0xe4}; // indices 0 1 2 3, 3 2 1 0 of two bits each
  size_t n = write_png(file, sizeof file, 4, 2, 2, PNG_COLOR_TYPE_PALETTE, rows, 1, false);
  assert_ok(ctx, picture_decode(ctx, "palette", file, n, &p));
  assert_int_equal(p.channels, 3);
  assert_memory_equal(p.data, ((uint8_t[]){10, 20, 30, 200, 100, 50, 0, 0, 0, 255, 255, 255}), 12);
  n = write_png(file, sizeof file, 4, 2, 2, PNG_COLOR_TYPE_PALETTE, rows, 1, true);
  assert_ok(ctx, picture_decode(ctx, "palette with transparency", file, n, &p));
  assert_int_equal(p.channels, 4);
  assert_memory_equal(p.data, ((uint8_t[]){10, 20, 30, 0, 200, 100, 50, 128, 0, 0, 0, 255}), 12);
  assert_ok(ctx, picture_set_channels(ctx, "palette", 3, &p)); // over white
  assert_memory_equal(p.data, ((uint8_t[]){255, 255, 255, 227, 177, 152, 0, 0, 0}), 9);
  n = write_png(file, sizeof file, 4, 2, 2, PNG_COLOR_TYPE_GRAY, rows, 1, false);
  assert_ok(ctx, picture_decode(ctx, "two-bit grey", file, n, &p));
  assert_int_equal(p.channels, 1);
  assert_memory_equal(p.data, ((uint8_t[]){0, 85, 170, 255, 255, 170, 85, 0}), 8);
  assert_ok(ctx, picture_set_channels(ctx, "grey", 4, &p));
  assert_memory_equal(p.data, ((uint8_t[]){0, 0, 0, 255, 85, 85, 85, 255}), 8);
  assert_ok(ctx, picture_set_channels(ctx, "grey", 1, &p));
  assert_memory_equal(p.data, ((uint8_t[]){0, 85, 170, 255, 255, 170, 85, 0}), 8);
  picture_free(&p);
  elbo_ctx_destroy(&ctx);
}

static void damaged_files_are_refused(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  static const char *const NAMES[] = {"a.png", "a.jpg", "a.webp"};
  elbo_array *a = make_picture(ctx, ELBO_U8, 24, 24, 3);
  picture p = {0};
  for (int k = 0; k < 3; k++) {
    char *bytes;
    size_t size;
    assert_ok(ctx, elbo_image_write(ctx, test_path(NAMES[k]), a));
    assert_ok(ctx, file_read(ctx, test_path(NAMES[k]), 1 << 20, &bytes, &size));
    assert_ok(ctx, picture_decode(ctx, NAMES[k], bytes, size, &p));
    for (size_t cut = 0; cut + 20 < size; cut += 1 + cut / 8) { // the last bytes are an end mark and a checksum
      char *copy = malloc(cut + 1);
      memcpy(copy, bytes, cut);
      if (picture_decode(ctx, NAMES[k], copy, cut, &p) == ELBO_OK)
        fail_msg("%s: %zu of %zu bytes were taken for whole", NAMES[k], cut, size);
      assert_non_null(strstr(elbo_ctx_message(ctx), NAMES[k]));
      free(copy);
    }
    for (size_t at = 16; at < size; at += 7) { // no crash, whatever comes out
      uint8_t keep = (uint8_t)bytes[at];
      bytes[at] = (char)(keep ^ 0x55);
      (void)!picture_decode(ctx, NAMES[k], bytes, size, &p);
      bytes[at] = (char)keep;
    }
    free(bytes);
  }
  elbo_array *b;
  test_write_file(test_path("no.png"), "no picture", 10);
  assert_status(ctx, elbo_image_read(ctx, test_path("no.png"), &b), ELBO_ERROR_FORMAT, "neither PNG nor JPEG nor WebP");
  assert_status(ctx, elbo_image_read(ctx, test_path("missing.png"), &b), ELBO_ERROR_IO, "missing.png");
  assert_status(ctx, elbo_image_write(ctx, test_path("a.bmp"), a), ELBO_ERROR_ARGUMENT, ".png");
  // a header that promises 2^31 x 2^31 pixels
  uint8_t huge[] = {0x89, 'P', 'N', 'G',  13,  10,  26,  10, 0, 0, 0, 13, 'I', 'H', 'D', 'R', 0x7f,
                    255,  255, 255, 0x7f, 255, 255, 255, 8,  2, 0, 0, 0,  0,   0,   0,   0};
  assert_status(ctx, picture_decode(ctx, "huge.png", huge, sizeof huge, &p), ELBO_ERROR_FORMAT, "huge.png");
  picture_free(&p);
  elbo_array_destroy(&a);
  elbo_ctx_destroy(&ctx);
}

static void fitting_keeps_means(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  picture p = {0}, q = {0};
  // a wide picture whose middle square is 100, its sides 0
  assert_ok(ctx, picture_reserve(ctx, "wide", 12, 30, 1, 8, &p));
  for (int i = 0; i < 12 * 30; i++) ((uint8_t *)p.data)[i] = i % 30 >= 9 && i % 30 < 21 ? 100 : 0;
  assert_ok(ctx, picture_fit(ctx, "wide", 5, &p, &q));
  assert_int_equal(p.height, 5);
  for (int i = 0; i < 25; i++) assert_int_equal(((uint8_t *)p.data)[i], 100);
  // shrinking by a whole factor averages; enlarging keeps constants and ends
  assert_ok(ctx, picture_reserve(ctx, "ramp", 4, 4, 1, 16, &p));
  for (int i = 0; i < 16; i++) ((uint16_t *)p.data)[i] = (uint16_t)(1000 * i);
  assert_ok(ctx, picture_fit(ctx, "ramp", 2, &p, &q));
  assert_memory_equal(p.data, ((uint16_t[]){2500, 4500, 10500, 12500}), 8);
  assert_ok(ctx, picture_fit(ctx, "ramp", 4, &p, &q));
  assert_int_equal(((uint16_t *)p.data)[0], 2500);
  assert_int_equal(((uint16_t *)p.data)[15], 12500);
  assert_int_equal(((uint16_t *)p.data)[1], 3000);
  // three to two: the middle one is shared
  assert_ok(ctx, picture_reserve(ctx, "thirds", 3, 3, 1, 8, &p));
  for (int i = 0; i < 9; i++) ((uint8_t *)p.data)[i] = (uint8_t)(i % 3 * 90);
  assert_ok(ctx, picture_fit(ctx, "thirds", 2, &p, &q));
  assert_memory_equal(p.data, ((uint8_t[]){30, 150, 30, 150}), 4);
  picture_free(&p), picture_free(&q);
  elbo_ctx_destroy(&ctx);
}

static void grids(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  elbo_array *x, *g;
  assert_ok(ctx, elbo_array_create(ctx, ELBO_F32, 4, (int64_t[]){5, 2, 3, 1}, &x));
  for (int i = 0; i < 30; i++) ((float *)x->data)[i] = i == 7 ? NAN : i == 8 ? 9.0f : i == 9 ? -1.0f : (float)(i / 6) / 4.0f;
  assert_ok(ctx, elbo_image_grid(ctx, x, 0, 0, &g));
  assert_int_equal(g->dim[0], 2 * 3 + 1);
  assert_int_equal(g->dim[1], 3 * 4 + 1);
  const uint8_t *v = g->data;
  assert_int_equal(v[0], 128);
  assert_int_equal(v[13 + 1], 0);
  assert_int_equal(v[4 * 13 + 1], 191); // picture 3
  assert_int_equal(v[13 + 6], 0);       // NaN
  assert_int_equal(v[13 + 7], 255);     // clamped
  assert_int_equal(v[2 * 13 + 5], 0);
  elbo_array_destroy(&g);
  assert_ok(ctx, elbo_image_grid(ctx, x, 5, 100, &g));
  assert_true(g->dim[1] >= 100 && g->dim[1] < 100 + 15);
  assert_int_equal((g->dim[1] - 1) % 5, 0);
  elbo_array_destroy(&g), elbo_array_destroy(&x);
  elbo_ctx_destroy(&ctx);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(lossless_round_trips),      cmocka_unit_test(jpeg_is_close),       cmocka_unit_test(png_kinds),
      cmocka_unit_test(damaged_files_are_refused), cmocka_unit_test(fitting_keeps_means), cmocka_unit_test(grids),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
