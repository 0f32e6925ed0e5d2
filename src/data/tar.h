#ifndef DATA_TAR_H
#define DATA_TAR_H

#include "data/dataset.h"

// One shard in memory, which stays the caller's and must live as long as the data set.
elbo_status tar_open_memory(elbo_dataset *ds, const void *bytes, size_t size);

#endif
