// TensorBoard event files: TFRecord frames (length, masked CRC-32C, payload, masked CRC-32C) around Event messages in protobuf's wire
// format, written by hand: scalars and PNG pictures.
#ifndef TRAIN_EVENT_FILE_H
#define TRAIN_EVENT_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

typedef struct event_file event_file;

// CRC-32C (Castagnoli) of `size` bytes that follow bytes of crc `crc` (0: the first).
uint32_t crc32c(uint32_t crc, const void *data, size_t size);

// Opens PATH at `length` bytes, what lies behind is cut off; a file that is empty then gets its version record.
elbo_status event_file_open(elbo_ctx *ctx, const char *path, int64_t length, event_file **out);
void event_file_close(event_file **file);

// Starts an event at `step`; scalars and pictures are added; event_file_end writes it.
void event_file_begin(event_file *file, int64_t step);
void event_file_add_scalar(event_file *file, const char *tag, double value);
// `png`: a whole PNG file; one that is not is left out.
void event_file_add_png(event_file *file, const char *tag, const void *png, size_t size);
elbo_status event_file_end(elbo_ctx *ctx, event_file *file);

elbo_status event_file_sync(elbo_ctx *ctx, event_file *file);
int64_t event_file_length(const event_file *file);

#endif
