// Numbers as text, the same under every locale.
#ifndef CORE_NUMBER_H
#define CORE_NUMBER_H

#include <stdbool.h>
#include <stdint.h>

// Decimal numbers, "_" allowed between digits ("60_000"), and .inf, -.inf, .nan; the whole text.
bool number_parse(const char *text, double *out);
// The same when it is whole and fits ("1e6", "6e4", "60_000").
bool integer_parse(const char *text, int64_t *out);

// A number of bytes, not negative, and its unit: of 1000 (kB, MB, ...) or 1024 (KiB, MiB, ...), B or none; rounded down.
// What is not that leaves *out as it was.
bool bytes_parse(const char *text, int64_t *out);

#define NUMBER_TEXT 32
// The shortest text that number_parse reads back to the same double. Returns the buffer.
const char *number_text(double value, char buffer[NUMBER_TEXT]);

#endif
