// Host arrays: creation, conversion between element types, the two image layouts.
#include <elbo/array.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/ctx.h"
#include "core/half.h"
#include "core/memory.h"

static const struct {
  size_t size;
  const char *name;
} DTYPES[ELBO_DTYPE_COUNT] = {
    [ELBO_F32] = {4, "float32"}, [ELBO_F64] = {8, "float64"}, [ELBO_F16] = {2, "float16"}, [ELBO_BF16] = {2, "bfloat16"},
    [ELBO_I64] = {8, "int64"},   [ELBO_I32] = {4, "int32"},   [ELBO_I16] = {2, "int16"},   [ELBO_I8] = {1, "int8"},
    [ELBO_U64] = {8, "uint64"},  [ELBO_U32] = {4, "uint32"},  [ELBO_U16] = {2, "uint16"},  [ELBO_U8] = {1, "uint8"},
    [ELBO_BOOL] = {1, "bool"},
};

size_t elbo_dtype_size(elbo_dtype dtype) { return (unsigned)dtype < ELBO_DTYPE_COUNT ? DTYPES[dtype].size : 0; }

const char *elbo_dtype_name(elbo_dtype dtype) { return (unsigned)dtype < ELBO_DTYPE_COUNT ? DTYPES[dtype].name : "unknown"; }

elbo_status elbo_array_create(elbo_ctx *ctx, elbo_dtype dtype, int rank, const int64_t *dim, elbo_array **out) {
  *out = NULL;
  if ((unsigned)dtype >= ELBO_DTYPE_COUNT) return fail(ctx, ELBO_ERROR_ARGUMENT, "array: unknown dtype %d", (int)dtype);
  if (rank < 0 || rank > ELBO_MAX_RANK) return fail(ctx, ELBO_ERROR_ARGUMENT, "array: rank %d; expected 0 to %d", rank, ELBO_MAX_RANK);
  int64_t bytes = (int64_t)elbo_dtype_size(dtype);
  for (int i = 0; i < rank; i++) {
    if (dim[i] < 0) return fail(ctx, ELBO_ERROR_ARGUMENT, "array: dimension %d is %lld", i, (long long)dim[i]);
    if (!checked_mul(bytes, dim[i], &bytes)) return fail(ctx, ELBO_ERROR_ARGUMENT, "array: its size overflows at dimension %d", i);
  }
  elbo_array *array = calloc(1, sizeof *array);
  if (!array) return fail_memory(ctx, sizeof *array, "array");
  array->dtype = dtype;
  array->rank = rank;
  for (int i = 0; i < rank; i++) array->dim[i] = dim[i];
  elbo_status status = aligned_new(ctx, bytes > 0 ? (size_t)bytes : 1, "array", &array->data);
  if (status != ELBO_OK) {
    free(array);
    return status;
  }
  *out = array;
  return ELBO_OK;
}

void elbo_array_destroy(elbo_array **array) {
  if (!array || !*array) return;
  aligned_free((*array)->data);
  free(*array);
  *array = NULL;
}

int64_t elbo_array_count(const elbo_array *array) {
  int64_t count = 1;
  for (int i = 0; i < array->rank; i++) count *= array->dim[i];
  return count;
}

size_t elbo_array_bytes(const elbo_array *array) { return (size_t)elbo_array_count(array) * elbo_dtype_size(array->dtype); }

// One element as what loses nothing: a double, a signed or an unsigned 64-bit number.
typedef struct number {
  enum { REAL, SIGNED, UNSIGNED } kind;
  double real;
  int64_t i;
  uint64_t u;
} number;

static number load_number(const void *data, elbo_dtype dtype, int64_t at) {
  switch (dtype) {
  case ELBO_F32: return (number){.kind = REAL, .real = ((const float *)data)[at]};
  case ELBO_F64: return (number){.kind = REAL, .real = ((const double *)data)[at]};
  case ELBO_F16: return (number){.kind = REAL, .real = f16_to_f32(((const uint16_t *)data)[at])};
  case ELBO_BF16: return (number){.kind = REAL, .real = bf16_to_f32(((const uint16_t *)data)[at])};
  case ELBO_I64: return (number){.kind = SIGNED, .i = ((const int64_t *)data)[at]};
  case ELBO_I32: return (number){.kind = SIGNED, .i = ((const int32_t *)data)[at]};
  case ELBO_I16: return (number){.kind = SIGNED, .i = ((const int16_t *)data)[at]};
  case ELBO_I8: return (number){.kind = SIGNED, .i = ((const int8_t *)data)[at]};
  case ELBO_U64: return (number){.kind = UNSIGNED, .u = ((const uint64_t *)data)[at]};
  case ELBO_U32: return (number){.kind = UNSIGNED, .u = ((const uint32_t *)data)[at]};
  case ELBO_U16: return (number){.kind = UNSIGNED, .u = ((const uint16_t *)data)[at]};
  case ELBO_U8: return (number){.kind = UNSIGNED, .u = ((const uint8_t *)data)[at]};
  default: return (number){.kind = UNSIGNED, .u = ((const uint8_t *)data)[at] != 0};
  }
}

static double as_real(number v) { return v.kind == REAL ? v.real : v.kind == SIGNED ? (double)v.i : (double)v.u; }

// NaN becomes 0: an integer has nothing closer.
static int64_t as_signed(number v, int64_t low, int64_t high) {
  if (v.kind == UNSIGNED) return v.u > (uint64_t)high ? high : (int64_t)v.u;
  if (v.kind == SIGNED) return v.i < low ? low : v.i > high ? high : v.i;
  if (isnan(v.real)) return 0;
  double r = nearbyint(v.real);
  return r <= (double)low ? low : r >= (double)high ? high : (int64_t)r;
}

static uint64_t as_unsigned(number v, uint64_t high) {
  if (v.kind == UNSIGNED) return v.u > high ? high : v.u;
  if (v.kind == SIGNED) return v.i < 0 ? 0 : (uint64_t)v.i > high ? high : (uint64_t)v.i;
  if (isnan(v.real)) return 0;
  double r = nearbyint(v.real);
  return r <= 0 ? 0 : r >= (double)high ? high : (uint64_t)r;
}

static void store_number(void *data, elbo_dtype dtype, int64_t at, number v) {
  switch (dtype) {
  case ELBO_F32: ((float *)data)[at] = (float)as_real(v); break;
  case ELBO_F64: ((double *)data)[at] = as_real(v); break;
  case ELBO_F16: ((uint16_t *)data)[at] = f32_to_f16((float)as_real(v)); break;
  case ELBO_BF16: ((uint16_t *)data)[at] = f32_to_bf16((float)as_real(v)); break;
  case ELBO_I64: ((int64_t *)data)[at] = as_signed(v, INT64_MIN, INT64_MAX); break;
  case ELBO_I32: ((int32_t *)data)[at] = (int32_t)as_signed(v, INT32_MIN, INT32_MAX); break;
  case ELBO_I16: ((int16_t *)data)[at] = (int16_t)as_signed(v, INT16_MIN, INT16_MAX); break;
  case ELBO_I8: ((int8_t *)data)[at] = (int8_t)as_signed(v, INT8_MIN, INT8_MAX); break;
  case ELBO_U64: ((uint64_t *)data)[at] = as_unsigned(v, UINT64_MAX); break;
  case ELBO_U32: ((uint32_t *)data)[at] = (uint32_t)as_unsigned(v, UINT32_MAX); break;
  case ELBO_U16: ((uint16_t *)data)[at] = (uint16_t)as_unsigned(v, UINT16_MAX); break;
  case ELBO_U8: ((uint8_t *)data)[at] = (uint8_t)as_unsigned(v, UINT8_MAX); break;
  default: ((uint8_t *)data)[at] = as_real(v) != 0; break;
  }
}

elbo_status elbo_array_convert(elbo_ctx *ctx, const elbo_array *array, elbo_dtype dtype, elbo_array **out) {
  TRY(elbo_array_create(ctx, dtype, array->rank, array->dim, out));
  int64_t n = elbo_array_count(array);
  if (dtype == array->dtype) {
    memcpy((*out)->data, array->data, elbo_array_bytes(array));
  } else if (dtype == ELBO_F32 && array->dtype == ELBO_U8) { // the one case that is large in practice
    for (int64_t i = 0; i < n; i++) ((float *)(*out)->data)[i] = ((const uint8_t *)array->data)[i];
  } else {
    for (int64_t i = 0; i < n; i++) store_number((*out)->data, dtype, i, load_number(array->data, array->dtype, i));
  }
  return ELBO_OK;
}

// (N,A,B) to (N,B,A), elements of any size.
static void swap_inner(const uint8_t *from, uint8_t *to, int64_t n, int64_t a, int64_t b, size_t size) {
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j < a; j++)
      for (int64_t k = 0; k < b; k++) memcpy(to + (size_t)((i * b + k) * a + j) * size, from + (size_t)((i * a + j) * b + k) * size, size);
}

elbo_status elbo_array_to_nchw(elbo_ctx *ctx, const elbo_array *array, elbo_array **out) {
  if (array->rank != 4) return elbo_array_convert(ctx, array, array->dtype, out);
  const int64_t *d = array->dim;
  TRY(elbo_array_create(ctx, array->dtype, 4, (int64_t[]){d[0], d[3], d[1], d[2]}, out));
  swap_inner(array->data, (*out)->data, d[0], d[1] * d[2], d[3], elbo_dtype_size(array->dtype));
  return ELBO_OK;
}

elbo_status elbo_array_to_nhwc(elbo_ctx *ctx, const elbo_array *array, elbo_array **out) {
  if (array->rank != 4) return elbo_array_convert(ctx, array, array->dtype, out);
  const int64_t *d = array->dim;
  TRY(elbo_array_create(ctx, array->dtype, 4, (int64_t[]){d[0], d[2], d[3], d[1]}, out));
  swap_inner(array->data, (*out)->data, d[0], d[1], d[2] * d[3], elbo_dtype_size(array->dtype));
  return ELBO_OK;
}
