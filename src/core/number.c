#include "core/number.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Copies without the underscores, checking the form: sign, digits, point, digits, exponent. False when it is not a decimal number.
static bool strip(const char *text, char *out, size_t size) {
  const char *at = text;
  size_t n = 0;
  int digits = 0;
  bool exponent = false, point = false;
  for (; *at; at++) {
    if (n + 1 >= size) return false;
    if (*at == '_') {
      if (at == text || !is_digit(at[-1]) || !is_digit(at[1])) return false;
      continue;
    }
    if (is_digit(*at)) {
      digits++;
    } else if (*at == '+' || *at == '-') {
      if (at != text && at[-1] != 'e' && at[-1] != 'E') return false;
    } else if (*at == '.') {
      if (point || exponent) return false;
      point = true;
    } else if (*at == 'e' || *at == 'E') {
      if (exponent || digits == 0) return false;
      exponent = true;
      digits = 0;
    } else {
      return false;
    }
    out[n++] = *at;
  }
  out[n] = 0;
  return digits > 0;
}

// strtod and printf write the decimal point of the process's locale; this switches the calling thread to C's.
static locale_t enter_c_locale(locale_t *c) {
  *c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
  return *c ? uselocale(*c) : (locale_t)0;
}

static void leave_c_locale(locale_t c, locale_t before) {
  if (!c) return;
  uselocale(before);
  freelocale(c);
}

bool number_parse(const char *text, double *out) {
  char plain[128], *end;
  const char *name = text + (text[0] == '-' || text[0] == '+');
  if (strcmp(name, ".inf") == 0 || strcmp(name, ".Inf") == 0) {
    *out = text[0] == '-' ? -INFINITY : INFINITY;
    return true;
  }
  if (strcmp(text, ".nan") == 0 || strcmp(text, ".NaN") == 0) {
    *out = NAN;
    return true;
  }
  if (!strip(text, plain, sizeof plain)) return false;
  locale_t c, before = enter_c_locale(&c);
  double value = strtod(plain, &end);
  leave_c_locale(c, before);
  if (*end || !isfinite(value)) return false;
  *out = value;
  return true;
}

bool integer_parse(const char *text, int64_t *out) {
  char plain[128], *end;
  double value;
  if (!strip(text, plain, sizeof plain)) return false;
  errno = 0;
  long long whole = strtoll(plain, &end, 10);
  if (!*end) {
    if (errno) return false;
    *out = whole;
    return true;
  }
  // With a point or an exponent: exact as long as doubles are.
  if (!number_parse(text, &value) || value != floor(value) || fabs(value) > 0x1p53) return false;
  *out = (int64_t)value;
  return true;
}

bool bytes_parse(const char *text, int64_t *out) {
  static const struct {
    const char *name;
    double factor;
  } units[] = {{"", 1},      {"B", 1},        {"kB", 1e3},     {"KB", 1e3},     {"MB", 1e6},    {"GB", 1e9},
               {"TB", 1e12}, {"KiB", 0x1p10}, {"MiB", 0x1p20}, {"GiB", 0x1p30}, {"TiB", 0x1p40}};
  char number[64];
  double value;
  int64_t whole;
  if (integer_parse(text, &whole)) {
    if (whole >= 0) *out = whole;
    return whole >= 0;
  }
  size_t n = strspn(text, "0123456789._+-");
  if (n >= sizeof number) return false;
  memcpy(number, text, n);
  number[n] = 0;
  const char *unit = text + n;
  while (*unit == ' ') unit++;
  for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
    if (strcmp(unit, units[u].name) != 0) continue;
    if (!number_parse(number, &value)) return false;
    value = floor(value * units[u].factor);
    if (!(value >= 0 && value < 9e18)) return false;
    *out = (int64_t)value;
    return true;
  }
  return false;
}

// "1e+06" to "1e6", "1e-05" to "1e-5".
static void shorten_exponent(char *text) {
  char *from = strchr(text, 'e');
  if (!from) return;
  char *to = ++from;
  if (*from == '-') to++;
  from++;
  while (*from == '0' && from[1]) from++;
  memmove(to, from, strlen(from) + 1);
}

const char *number_text(double value, char buffer[NUMBER_TEXT]) {
  if (isnan(value)) return strcpy(buffer, ".nan");
  if (isinf(value)) return strcpy(buffer, value < 0 ? "-.inf" : ".inf");
  locale_t c, before = enter_c_locale(&c);
  bool small = value == floor(value) && fabs(value) < 1e7; // 10 rather than 1e1
  for (int digits = small ? 7 : 1; digits <= 17; digits++) {
    snprintf(buffer, NUMBER_TEXT, "%.*g", digits, value);
    if (strtod(buffer, NULL) == value) break;
  }
  leave_c_locale(c, before);
  shorten_exponent(buffer);
  return buffer;
}
