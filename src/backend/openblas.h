// OpenBLAS, for the few matrix computations of evaluation in double precision (products, symmetric eigenvalues). Its OpenMP build, which
// shares the process's one thread runtime, is looked for first; it is opened when first needed.
#ifndef BACKEND_OPENBLAS_H
#define BACKEND_OPENBLAS_H

#include <stdbool.h>

#include "core/ctx.h"

// What is open, "0.3.21 (OpenMP)"; NULL: none can be opened.
const char *openblas_version(void);

// c = op(a) op(b), all row-major: op(a) (m,k), op(b) (k,n), c (m,n). transpose_a: a is stored (k,m); transpose_b: b is stored (n,k).
// ELBO_ERROR_UNSUPPORTED where the library is absent, with what to install.
elbo_status openblas_product(elbo_ctx *ctx, bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, const double *a,
                             const double *b, double *c);

// Eigenvalues of the symmetric a (n,n), ascending. vectors: row i of a becomes eigenvector i; otherwise a is destroyed.
elbo_status openblas_symmetric_eigen(elbo_ctx *ctx, int64_t n, bool vectors, double *a, double *values);

#endif
