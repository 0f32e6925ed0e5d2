// What a file holds, by its first bytes; lists of files.
#ifndef DATA_RECOGNISE_H
#define DATA_RECOGNISE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"

typedef enum data_file_kind {
  DATA_FILE_UNKNOWN,
  DATA_FILE_IDX,
  DATA_FILE_TAR, // .tar.gz too
  DATA_FILE_NPY,
  DATA_FILE_NPZ,
  DATA_FILE_PICTURE,
  DATA_FILE_CIFAR // CIFAR-10 binary
} data_file_kind;

data_file_kind recognise_file(const char *path); // UNKNOWN when it cannot be read

typedef struct file_list {
  char **path;
  int64_t count, capacity;
} file_list;
elbo_status file_list_add(elbo_ctx *ctx, file_list *list, const char *path);
void file_list_free(file_list *list);
// The regular files of a directory in the order of their names (bytes), hidden ones left out; or, when `path` is no directory, the files
// whose path begins with it. folders: the directories instead.
elbo_status file_list_directory(elbo_ctx *ctx, const char *path, bool folders, file_list *out);
// Those of them that are of one kind.
elbo_status file_list_kind(elbo_ctx *ctx, const char *path, data_file_kind kind, file_list *out);
// "name-{000..002}.tar" to its files, which must all exist.
elbo_status file_list_braces(elbo_ctx *ctx, const char *pattern, file_list *out);

#endif
