// Host arrays: what goes in and out of the library as numbers, and the .npy and .npz files they come from and go to.
#ifndef ELBO_ARRAY_H
#define ELBO_ARRAY_H

#include <elbo/context.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ELBO_MAX_RANK 5

typedef enum elbo_dtype {
  ELBO_F32 = 0,
  ELBO_F64,
  ELBO_F16,
  ELBO_BF16,
  ELBO_I64,
  ELBO_I32,
  ELBO_I16,
  ELBO_I8,
  ELBO_U64,
  ELBO_U32,
  ELBO_U16,
  ELBO_U8,
  ELBO_BOOL,
  ELBO_DTYPE_COUNT
} elbo_dtype;

ELBO_API size_t elbo_dtype_size(elbo_dtype dtype);      // bytes of one element
ELBO_API const char *elbo_dtype_name(elbo_dtype dtype); // "float32", "bfloat16", ...

// A dense row-major array. The fields are public; `data` is 64-byte aligned and belongs to the array.
typedef struct elbo_array {
  elbo_dtype dtype;
  int rank;                   // 0 (one number) to ELBO_MAX_RANK
  int64_t dim[ELBO_MAX_RANK]; // dim[0] outermost
  void *data;
} elbo_array;

// Allocates zeros. On failure *out is NULL.
ELBO_API ELBO_MUST_CHECK elbo_status elbo_array_create(elbo_ctx *ctx, elbo_dtype dtype, int rank, const int64_t *dim, elbo_array **out);
ELBO_API void elbo_array_destroy(elbo_array **array);
ELBO_API int64_t elbo_array_count(const elbo_array *array); // elements
ELBO_API size_t elbo_array_bytes(const elbo_array *array);

// A new array with every element converted (rounded to nearest for integers, saturating). bool counts as 0 and 1.
ELBO_API ELBO_MUST_CHECK elbo_status elbo_array_convert(elbo_ctx *ctx, const elbo_array *array, elbo_dtype dtype, elbo_array **out);

// Rank-4 arrays only, others are copied as they are: N,H,W,C to N,C,H,W and back.
ELBO_API ELBO_MUST_CHECK elbo_status elbo_array_to_nchw(elbo_ctx *ctx, const elbo_array *array, elbo_array **out);
ELBO_API ELBO_MUST_CHECK elbo_status elbo_array_to_nhwc(elbo_ctx *ctx, const elbo_array *array, elbo_array **out);

// Reads a .npy file, versions 1 to 3, either byte order, C or Fortran order, any numeric dtype; rank above ELBO_MAX_RANK is refused.
ELBO_API ELBO_MUST_CHECK elbo_status elbo_npy_read(elbo_ctx *ctx, const char *path, elbo_array **out);
// Writes a version 1.0 .npy through a temporary name: an existing file is replaced whole or not at all.
ELBO_API ELBO_MUST_CHECK elbo_status elbo_npy_write(elbo_ctx *ctx, const char *path, const elbo_array *array);
// Reads member `name` (without ".npy"; NULL: the only member) of a .npz file.
ELBO_API ELBO_MUST_CHECK elbo_status elbo_npz_read(elbo_ctx *ctx, const char *path, const char *name, elbo_array **out);

#ifdef __cplusplus
}
#endif
#endif
