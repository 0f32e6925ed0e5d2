#include "backend/openblas.h"

#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"

// The C interface of BLAS, and LAPACK's own: distributions leave LAPACKE, a thin layer over the same function, out of this library.
// Texts of Fortran functions are followed by their lengths behind all other arguments.
typedef void (*dgemm_fn)(int order, int transpose_a, int transpose_b, int m, int n, int k, double alpha, const double *a, int lda,
                         const double *b, int ldb, double beta, double *c, int ldc);
typedef void (*dsyevd_fn)(const char *job, const char *triangle, const int *n, double *a, const int *lda, double *values, double *work,
                          const int *lwork, int *iwork, const int *liwork, int *info, size_t job_length, size_t triangle_length);
enum { ROW_MAJOR = 101, PLAIN = 111, TRANSPOSED = 112, PARALLEL_OPENMP = 2 };

// Addresses of code, the same for every context; written once.
static struct {
  dgemm_fn dgemm;
  dsyevd_fn dsyevd;
  char *(*config)(void);
  int (*parallel)(void);
  void (*set_threads)(int);
  char version_text[64];
  bool open;
} blas;

static bool look_up(void *library, const char *name, void *address) {
  void *found = dlsym(library, name);
  memcpy(address, &found, sizeof found); // ISO C has no cast from data to code
  return found != NULL;
}

static void open_library(void) {
  // Where Debian and Fedora keep the OpenMP build beside others; then whichever the system's default is.
  static const char *const places[] = {
#ifdef ELBO_LIBRARY_ARCHITECTURE
      "/usr/lib/" ELBO_LIBRARY_ARCHITECTURE "/openblas-openmp/libopenblas.so.0",
#endif
      "libopenblaso.so.0",
      "libopenblas.so.0",
      "libopenblas.so",
  };
  for (size_t i = 0; i < sizeof places / sizeof *places && !blas.open; i++) {
    void *library = dlopen(places[i], RTLD_NOW | RTLD_LOCAL);
    if (!library) continue;
    blas.open = look_up(library, "cblas_dgemm", &blas.dgemm) && look_up(library, "dsyevd_", &blas.dsyevd) &&
                look_up(library, "openblas_get_config", &blas.config) && look_up(library, "openblas_get_parallel", &blas.parallel) &&
                look_up(library, "openblas_set_num_threads", &blas.set_threads);
    if (!blas.open) dlclose(library); // otherwise never: libgomp's threads may be inside
  }
  if (!blas.open) return;
  bool openmp = blas.parallel() == PARALLEL_OPENMP;
  if (!openmp) blas.set_threads(1); // threads of its own would be a second runtime on the same cores
  char number[16] = "?";
  sscanf(blas.config(), "OpenBLAS %15s", number);
  snprintf(blas.version_text, sizeof blas.version_text, "%s (%s)", number, openmp ? "OpenMP" : "not the OpenMP build: one thread");
}

const char *openblas_version(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, open_library);
  return blas.open ? blas.version_text : NULL;
}

static elbo_status check(elbo_ctx *ctx, int64_t a, int64_t b, int64_t c) {
  if (!openblas_version())
    return fail(ctx, ELBO_ERROR_UNSUPPORTED,
                "OpenBLAS cannot be opened, which FID, KID and precision/recall compute with; install libopenblas0-openmp (script/setup "
                "does)");
  if (a < 1 || b < 1 || c < 1 || a > INT_MAX || b > INT_MAX || c > INT_MAX)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "a matrix of %lld x %lld x %lld is out of range", (long long)a, (long long)b, (long long)c);
  return ELBO_OK;
}

elbo_status openblas_product(elbo_ctx *ctx, bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, const double *a,
                             const double *b, double *c) {
  TRY(check(ctx, m, n, k));
  pool_enter(&ctx->pool);
  blas.dgemm(ROW_MAJOR, transpose_a ? TRANSPOSED : PLAIN, transpose_b ? TRANSPOSED : PLAIN, (int)m, (int)n, (int)k, 1, a,
             (int)(transpose_a ? m : k), b, (int)(transpose_b ? k : n), 0, c, (int)n);
  pool_leave(&ctx->pool);
  return ELBO_OK;
}

elbo_status openblas_symmetric_eigen(elbo_ctx *ctx, int64_t n, bool vectors, double *a, double *values) {
  TRY(check(ctx, n, n, n));
  const char *job = vectors ? "V" : "N";
  int size = (int)n, ask = -1, work_size, iwork_size = 0, info = 0;
  double best = 0, *work = NULL;
  int *iwork = NULL;
  elbo_status status = ELBO_OK;
  pool_enter(&ctx->pool);
  blas.dsyevd(job, "U", &size, a, &size, values, &best, &ask, &iwork_size, &ask, &info, 1, 1);
  work_size = (int)best;
  if (info == 0) status = array_new(ctx, (size_t)work_size, sizeof *work, "eigenvalues", (void **)&work);
  if (info == 0 && status == ELBO_OK) status = array_new(ctx, (size_t)iwork_size, sizeof *iwork, "eigenvalues", (void **)&iwork);
  // columns of LAPACK's matrix are rows of ours
  if (info == 0 && status == ELBO_OK) blas.dsyevd(job, "U", &size, a, &size, values, work, &work_size, iwork, &iwork_size, &info, 1, 1);
  pool_leave(&ctx->pool);
  free(work);
  free(iwork);
  if (status == ELBO_OK && info != 0)
    status = fail(ctx, ELBO_ERROR_NUMERIC, "the eigenvalues of a %lld x %lld matrix were not found (dsyevd: %d)", (long long)n,
                  (long long)n, info);
  return status;
}
