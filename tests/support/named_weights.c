#include "support/named_weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint32_t hash_of(const char *name) {
  uint32_t h = 2166136261u;
  for (; *name; name++) h = (h ^ (uint8_t)*name) * 16777619u;
  return h;
}

static double uniform_of(uint32_t hash, uint32_t index) {
  uint32_t x = hash + 0x9E3779B9u * (index + 1);
  x ^= x >> 16, x *= 0x85EBCA6Bu, x ^= x >> 13, x *= 0xC2B2AE35u, x ^= x >> 16;
  return (double)(x >> 8) / 8388608.0 - 1;
}

double named_uniform(const char *name, uint32_t index) { return uniform_of(hash_of(name), index); }

void named_add(named_weights *w, const char *stem, const char *rest, int rank, const int64_t *dim, double scale, double offset) {
  assert_true(w->n < NAMED_MOST);
  char *name = w->name[w->n];
  snprintf(name, sizeof w->name[0], "%s%s", stem, rest);
  int64_t count = 1;
  tensor_view *v = &w->view[w->n++];
  *v = (tensor_view){.name = name, .dtype = ELBO_F32, .rank = rank};
  for (int i = 0; i < rank; i++) v->dim[i] = dim[i], count *= dim[i];
  float *data = malloc((size_t)count * sizeof *data);
  assert_non_null(data);
  uint32_t hash = hash_of(name);
  for (int64_t i = 0; i < count; i++) data[i] = (float)(offset + scale * uniform_of(hash, (uint32_t)i));
  v->data = data, v->bytes = (size_t)count * sizeof *data;
}

void named_write(elbo_ctx *ctx, const named_weights *w, const char *path) {
  assert_ok(ctx, safetensors_write(ctx, path, w->n, w->view, 0, NULL));
}

void named_drop(named_weights *w, int n) {
  for (; n > 0; n--) {
    union {
      const void *in;
      void *out;
    } data = {w->view[--w->n].data};
    free(data.out);
  }
}

void named_free(named_weights *w) {
  named_drop(w, w->n);
  memset(w, 0, sizeof *w);
}
