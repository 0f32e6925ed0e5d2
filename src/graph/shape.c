// Shapes: counts, equality, broadcasting, text.
#include <stdio.h>
#include <string.h>

#include "backend/node.h"

int64_t shape_count(const shape *s) {
  int64_t n = 1;
  for (int i = 0; i < s->rank; i++) n *= s->dim[i];
  return n;
}

bool shape_equal(const shape *a, const shape *b) {
  if (a->rank != b->rank) return false;
  for (int i = 0; i < a->rank; i++)
    if (a->dim[i] != b->dim[i]) return false;
  return true;
}

shape shape_of(int rank, const int64_t *dim) {
  shape s;
  memset(&s, 0, sizeof s); // padding too: attributes are compared and hashed as bytes
  s.rank = rank;
  for (int i = 0; i < rank && i < ELBO_MAX_RANK; i++) s.dim[i] = dim[i];
  return s;
}

const char *shape_text(const shape *s, char *buffer) {
  size_t at = 0;
  at += (size_t)snprintf(buffer, SHAPE_TEXT, "(");
  for (int i = 0; i < s->rank && at < SHAPE_TEXT - 24; i++)
    at += (size_t)snprintf(buffer + at, SHAPE_TEXT - at, "%s%lld", i ? "," : "", (long long)s->dim[i]);
  snprintf(buffer + at, SHAPE_TEXT - at, ")");
  return buffer;
}

bool shape_broadcast(const shape *a, const shape *b, shape *out) {
  shape r = {.rank = a->rank > b->rank ? a->rank : b->rank};
  for (int i = 1; i <= r.rank; i++) { // from the last axis
    int64_t da = i <= a->rank ? a->dim[a->rank - i] : 1, db = i <= b->rank ? b->dim[b->rank - i] : 1;
    if (da != db && da != 1 && db != 1) return false;
    r.dim[r.rank - i] = da == 1 ? db : da;
  }
  *out = r;
  return true;
}
