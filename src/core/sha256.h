// SHA-256 [FIPS 180-4], for naming data, not for secrets.
#ifndef CORE_SHA256_H
#define CORE_SHA256_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct sha256 {
  uint32_t h[8];
  uint64_t bytes;
  uint8_t block[64];
} sha256;

void sha256_begin(sha256 *s);
void sha256_add(sha256 *s, const void *data, size_t size);
void sha256_end(sha256 *s, uint8_t digest[32]);
void sha256_end_hex(sha256 *s, char out[65]); // 64 lower-case digits and a NUL

// 2 n lower-case digits and a NUL.
void hex_encode(const void *data, size_t n, char *out);
// Exactly 2 n digits of either case and nothing behind them; false otherwise.
bool hex_decode(const char *text, size_t n, void *out);

#endif
