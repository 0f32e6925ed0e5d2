// One process at a time in a run directory.
#ifndef CORE_LOCK_H
#define CORE_LOCK_H

#include "core/error.h"

typedef struct directory_lock directory_lock;

// Takes DIRECTORY/.lock (a kernel lock: it ends with the process, however that ends). ELBO_ERROR_STATE when another holds it; the
// message names its process id.
elbo_status lock_take(elbo_ctx *ctx, const char *directory, directory_lock **out);
// Removes the file and sets *lock to NULL; NULL is fine.
void lock_release(directory_lock **lock);

#endif
