#include "train/event_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/memory.h"

// A message under construction; failed: memory ran out, event_file_end says so.
typedef struct message {
  uint8_t *at;
  size_t length, capacity;
  bool failed;
} message;

struct event_file {
  char *path;
  int fd;
  int64_t length;
  message event, summary, value; // kept between events: no allocation once they have grown
  uint32_t table[256];           // of crc32c
};

static void crc_table(uint32_t table[256]) {
  for (uint32_t i = 0; i < 256; i++) {
    uint32_t c = i;
    for (int bit = 0; bit < 8; bit++) c = c & 1 ? c >> 1 ^ 0x82F63B78u : c >> 1;
    table[i] = c;
  }
}

static uint32_t crc_with(const uint32_t table[256], uint32_t crc, const void *data, size_t size) {
  const uint8_t *p = data;
  crc = ~crc;
  for (size_t i = 0; i < size; i++) crc = table[(crc ^ p[i]) & 255] ^ crc >> 8;
  return ~crc;
}

uint32_t crc32c(uint32_t crc, const void *data, size_t size) {
  uint32_t table[256];
  crc_table(table);
  return crc_with(table, crc, data, size);
}

// TFRecord rotates and shifts its checksums, as data often hold checksums of their own.
static uint32_t masked(uint32_t crc) { return (crc >> 15 | crc << 17) + 0xA282EAD8u; }

static void put(message *m, const void *data, size_t size) {
  if (m->failed) return;
  if (m->length + size > m->capacity) {
    size_t capacity = 2 * (m->length + size) + 64;
    uint8_t *grown = realloc(m->at, capacity);
    if (!grown) {
      m->failed = true;
      return;
    }
    m->at = grown, m->capacity = capacity;
  }
  memcpy(m->at + m->length, data, size);
  m->length += size;
}

static void put_little(message *m, uint64_t value, int bytes) {
  uint8_t b[8];
  for (int i = 0; i < bytes; i++) b[i] = (uint8_t)(value >> 8 * i);
  put(m, b, (size_t)bytes);
}

static void put_varint(message *m, uint64_t value) {
  uint8_t b[10];
  size_t n = 0;
  do {
    b[n] = (uint8_t)((value & 127) | (value > 127 ? 128 : 0));
    n++;
    value >>= 7;
  } while (value);
  put(m, b, n);
}

enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

static void put_key(message *m, unsigned field, unsigned wire) { put_varint(m, field << 3 | wire); }

static void put_number(message *m, unsigned field, uint64_t value) {
  put_key(m, field, WIRE_VARINT);
  put_varint(m, value);
}

static void put_bytes(message *m, unsigned field, const void *data, size_t size) {
  put_key(m, field, WIRE_BYTES);
  put_varint(m, size);
  put(m, data, size);
}

// Event: wall_time 1 (double), step 2 (int64), file_version 3 (string), summary 5 (Summary)
static void event_head(event_file *f, int64_t step) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  double wall = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
  uint64_t bits;
  memcpy(&bits, &wall, sizeof bits);
  f->event.length = 0;
  put_key(&f->event, 1, WIRE_64);
  put_little(&f->event, bits, 8);
  if (step) put_number(&f->event, 2, (uint64_t)step);
}

static elbo_status write_all(elbo_ctx *ctx, event_file *f, const void *data, size_t size) {
  const char *p = data;
  while (size) {
    ssize_t n = write(f->fd, p, size);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno(ctx, f->path, "cannot write");
    p += n, size -= (size_t)n, f->length += n;
  }
  return ELBO_OK;
}

// One frame: length (8), its crc (4), payload, its crc (4)
static elbo_status write_frame(elbo_ctx *ctx, event_file *f) {
  if (f->event.failed || f->summary.failed || f->value.failed)
    return fail(ctx, ELBO_ERROR_MEMORY, "%s: out of memory for an event", f->path);
  uint8_t head[12], tail[4];
  for (int i = 0; i < 8; i++) head[i] = (uint8_t)((uint64_t)f->event.length >> 8 * i);
  uint32_t head_crc = masked(crc_with(f->table, 0, head, 8)), crc = masked(crc_with(f->table, 0, f->event.at, f->event.length));
  for (int i = 0; i < 4; i++) head[8 + i] = (uint8_t)(head_crc >> 8 * i), tail[i] = (uint8_t)(crc >> 8 * i);
  TRY(write_all(ctx, f, head, sizeof head));
  TRY(write_all(ctx, f, f->event.at, f->event.length));
  return write_all(ctx, f, tail, sizeof tail);
}

elbo_status event_file_open(elbo_ctx *ctx, const char *path, int64_t length, event_file **out) {
  *out = NULL;
  void *memory;
  TRY(array_new(ctx, 1, sizeof(event_file), "an event file", &memory));
  event_file *f = memory;
  elbo_status status;
  f->fd = -1;
  crc_table(f->table);
  f->path = string_copy(path);
  if (!f->path) {
    status = fail_memory(ctx, strlen(path), "an event file");
    goto fail;
  }
  f->fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
  if (f->fd < 0) {
    status = fail_errno(ctx, path, "cannot open");
    goto fail;
  }
  off_t end = lseek(f->fd, 0, SEEK_END);
  if (end > length) end = length;
  if (ftruncate(f->fd, end) != 0 || lseek(f->fd, end, SEEK_SET) != end) {
    status = fail_errno(ctx, path, "cannot cut to length");
    goto fail;
  }
  f->length = end;
  if (end == 0) {
    event_head(f, 0);
    put_bytes(&f->event, 3, "brain.Event:2", strlen("brain.Event:2"));
    TRY_GOTO(write_frame(ctx, f));
  }
  *out = f;
  return ELBO_OK;
fail:
  event_file_close(&f);
  return status;
}

void event_file_close(event_file **address) {
  event_file *f = *address;
  *address = NULL;
  if (!f) return;
  if (f->fd >= 0) close(f->fd);
  free(f->event.at);
  free(f->summary.at);
  free(f->value.at);
  free(f->path);
  free(f);
}

void event_file_begin(event_file *f, int64_t step) {
  event_head(f, step);
  f->summary.length = 0;
}

// Summary: value 1 (Value); Value: tag 1 (string), simple_value 2 (float), image 4 (Image)
void event_file_add_scalar(event_file *f, const char *tag, double value) {
  float single = (float)value;
  uint32_t bits;
  memcpy(&bits, &single, sizeof bits);
  f->value.length = 0;
  put_bytes(&f->value, 1, tag, strlen(tag));
  put_key(&f->value, 2, WIRE_32);
  put_little(&f->value, bits, 4);
  put_bytes(&f->summary, 1, f->value.at, f->value.failed ? 0 : f->value.length);
}

// Image: height 1, width 2, colorspace 3 (channels), encoded_image_string 4
void event_file_add_png(event_file *f, const char *tag, const void *png, size_t size) {
  static const uint8_t signature[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};
  const uint8_t *p = png;
  if (size < 33 || memcmp(p, signature, 8) != 0) return;
  uint32_t width = (uint32_t)p[16] << 24 | (uint32_t)p[17] << 16 | (uint32_t)p[18] << 8 | p[19];
  uint32_t height = (uint32_t)p[20] << 24 | (uint32_t)p[21] << 16 | (uint32_t)p[22] << 8 | p[23];
  static const uint8_t channels[8] = {1, 0, 3, 3, 2, 0, 4, 0}; // by PNG colour type
  message image = {0};
  put_number(&image, 1, height);
  put_number(&image, 2, width);
  put_number(&image, 3, p[25] < 8 ? channels[p[25]] : 0);
  put_bytes(&image, 4, png, size);
  f->value.length = 0;
  put_bytes(&f->value, 1, tag, strlen(tag));
  put_bytes(&f->value, 4, image.at, image.failed ? 0 : image.length);
  put_bytes(&f->summary, 1, f->value.at, f->value.failed ? 0 : f->value.length);
  f->value.failed |= image.failed;
  free(image.at);
}

elbo_status event_file_end(elbo_ctx *ctx, event_file *f) {
  put_bytes(&f->event, 5, f->summary.at, f->summary.failed ? 0 : f->summary.length);
  return write_frame(ctx, f);
}

elbo_status event_file_sync(elbo_ctx *ctx, event_file *f) {
  if (fsync(f->fd) != 0) return fail_errno(ctx, f->path, "cannot sync");
  return ELBO_OK;
}

int64_t event_file_length(const event_file *f) { return f->length; }
