// .npy and .npz inside the library: parsed from memory, so that files, archive members and fuzzers share one parser.
#ifndef DATA_NPY_H
#define DATA_NPY_H

#include <elbo/array.h>
#include <stdbool.h>

// `name` is what messages call it.
elbo_status npy_parse(elbo_ctx *ctx, const char *name, const void *bytes, size_t size, elbo_array **out);

// Reads the first member of a .npz whose name (without ".npy") is one of names[0..n), the earliest of the list winning; *out stays NULL
// when there is none. n = 0: the only member.
elbo_status npz_find(elbo_ctx *ctx, const char *path, int n, const char *const *names, elbo_array **out);
elbo_status npz_find_memory(elbo_ctx *ctx, const char *path, const void *bytes, size_t size, int n, const char *const *names,
                            elbo_array **out);

#endif
