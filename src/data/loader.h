// The loader: threads that decode ahead; batches in an order that depends on the seed alone.
#ifndef DATA_LOADER_H
#define DATA_LOADER_H

#include <elbo/dataset.h>
#include <stdbool.h>

#include "core/ctx.h"

typedef struct loader loader;

typedef struct loader_config {
  elbo_split split;
  int64_t batch_size;
  bool shuffle; // a new permutation each epoch, of (seed, epoch); false: file order, one epoch, then ELBO_OK with *out NULL
  uint64_t seed;
  int threads;      // decoding threads; 0: one for every two of the context's, at least one
  int64_t prefetch; // batches ready ahead; 0: 2
  bool augment;     // crop, flip, binarize: dynamic, dequantise as the data set's options say; off: the deterministic forms
  int64_t limit;    // a random subset of so many examples of the split (by seed); 0: all
} loader_config;

// One named tensor of a batch. x: float32 (B,H,W,C), images in 0..1 (or as binarised, dequantised); label: int32 (B); condition: float32
// (B,D), or (B,N,D) for sequences, where the data carry them; weight: float32 (B), 1 or 0 for padding; sample_index: int64 (B), the
// example's position in the training stream (0, 1, 2, ... over all epochs; with shuffle off its index in the split); example: int64 (B),
// its index in the split.
typedef struct batch_field {
  const char *name;
  elbo_dtype dtype;
  int rank;
  int64_t dim[ELBO_MAX_RANK];
  void *data;
} batch_field;

typedef struct data_batch {
  int n_fields;
  batch_field field[8];
  int64_t count; // examples that are not padding
} data_batch;

elbo_status loader_create(elbo_ctx *ctx, elbo_dataset *ds, const loader_config *config, loader **out);
void loader_destroy(loader **l);
// Lets the threads decode the first batches while the caller does something else; without it the first loader_next does. What walks through
// its files is left to begin there.
elbo_status loader_begin(loader *l);
// The next batch, borrowed until the next call. With shuffle, batches run over the epoch's end (an example is seen once an epoch) and never
// end.
elbo_status loader_next(loader *l, const data_batch **out);
// Goes to where `samples` examples have been consumed: the next batch is what it would have been.
elbo_status loader_seek(loader *l, int64_t samples);
int64_t loader_bytes(const loader *l); // all memory that it and the data set's cache hold

#endif
