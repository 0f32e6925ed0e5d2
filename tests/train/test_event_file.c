// TensorBoard files: checksums against published vectors, frames read back by a reader written here from the format's description.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/test.h"

#include "core/file.h"
#include "train/event_file.h"

static void crc32c_vectors(void **state) {
  (void)state;
  unsigned char zeros[32] = {0}, ones[32], rising[32];
  memset(ones, 0xFF, sizeof ones);
  for (int i = 0; i < 32; i++) rising[i] = (unsigned char)i;
  assert_int_equal(crc32c(0, "123456789", 9), 0xE3069283u);
  assert_int_equal(crc32c(0, zeros, 32), 0x8A9136AAu); // RFC 3720, B.4
  assert_int_equal(crc32c(0, ones, 32), 0x62A8AB43u);
  assert_int_equal(crc32c(0, rising, 32), 0x46DD794Eu);
  assert_int_equal(crc32c(crc32c(0, "1234", 4), "56789", 5), 0xE3069283u);
}

static uint64_t little(const unsigned char *p, int bytes) {
  uint64_t v = 0;
  for (int i = 0; i < bytes; i++) v |= (uint64_t)p[i] << 8 * i;
  return v;
}

static bool crc_fits(const unsigned char *data, size_t size, const unsigned char *stored) {
  uint32_t c = crc32c(0, data, size), m = (uint32_t)little(stored, 4) - 0xA282EAD8u;
  return c == (m >> 17 | m << 15);
}

// Payload number `k` of the file, or NULL; every frame on the way must be sound.
static const unsigned char *frame(const unsigned char *file, size_t size, int k, size_t *length) {
  for (size_t at = 0; at + 16 <= size;) {
    uint64_t n = little(file + at, 8);
    if (!crc_fits(file + at, 8, file + at + 8) || n > size - at - 16 || !crc_fits(file + at + 12, n, file + at + 12 + n)) return NULL;
    if (k-- == 0) {
      *length = n;
      return file + at + 12;
    }
    at += 16 + n;
  }
  return NULL;
}

static bool holds(const unsigned char *data, size_t size, const void *part, size_t part_size) {
  for (size_t i = 0; i + part_size <= size; i++)
    if (memcmp(data + i, part, part_size) == 0) return true;
  return false;
}

static void scalars_and_pictures_come_back(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  const char *path = test_path("events.out.tfevents.0000000001.test");
  event_file *f;
  assert_ok(ctx, event_file_open(ctx, path, 0, &f));
  event_file_begin(f, 300);
  event_file_add_scalar(f, "train/loss", 2.5);
  event_file_add_scalar(f, "train/kl", -1);
  assert_ok(ctx, event_file_end(ctx, f));
  int64_t length = event_file_length(f);
  static const unsigned char png[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n', 0, 0, 0, 13, 'I', 'H', 'D', 'R', 0,
                                      0,    0,   5,   0,   0,    1,    2,    8,    2, 0, 0, 0,  1,   2,   3,   4};
  event_file_begin(f, 301);
  event_file_add_png(f, "samples", png, sizeof png);
  assert_ok(ctx, event_file_end(ctx, f));
  event_file_close(&f);

  char *data;
  size_t size, n;
  assert_ok(ctx, file_read(ctx, path, 1 << 20, &data, &size));
  const unsigned char *bytes = (const unsigned char *)data, *p = frame(bytes, size, 0, &n);
  assert_true(p && holds(p, n, "brain.Event:2", 13));
  p = frame(bytes, size, 1, &n);
  // step 300 is field 2, varint 0xAC 0x02; 2.5f is 00 00 20 40
  assert_true(p && holds(p, n, "\x10\xAC\x02", 3));
  assert_true(holds(p, n, "\x0A\x0Atrain/loss\x15\x00\x00\x20\x40", 17));
  assert_true(holds(p, n, "\x0A\x08train/kl\x15\x00\x00\x80\xBF", 15));
  p = frame(bytes, size, 2, &n);
  // height 258, width 5, three channels
  assert_true(p && holds(p, n, "\x08\x82\x02\x10\x05\x18\x03\x22\x21", 9) && holds(p, n, png, sizeof png));
  assert_null(frame(bytes, size, 3, &n));
  // A flipped bit is seen.
  data[length + 20] = (char)(data[length + 20] ^ 4);
  assert_null(frame(bytes, size, 2, &n));
  free(data);

  // Opened again at the first event's end, the picture is gone and the next event follows.
  assert_ok(ctx, event_file_open(ctx, path, length, &f));
  event_file_begin(f, 302);
  event_file_add_scalar(f, "again", 1);
  assert_ok(ctx, event_file_end(ctx, f));
  event_file_close(&f);
  assert_ok(ctx, file_read(ctx, path, 1 << 20, &data, &size));
  p = frame((const unsigned char *)data, size, 2, &n);
  assert_true(p && holds(p, n, "again", 5));
  free(data);
  elbo_ctx_destroy(&ctx);
}

static void what_cannot_be_opened_is_named(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  event_file *f;
  assert_status(ctx, event_file_open(ctx, test_path("no/such/place"), 0, &f), ELBO_ERROR_IO, "no/such/place");
  assert_null(f);
  elbo_ctx_destroy(&ctx);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(crc32c_vectors),
      cmocka_unit_test(scalars_and_pictures_come_back),
      cmocka_unit_test(what_cannot_be_opened_is_named),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
