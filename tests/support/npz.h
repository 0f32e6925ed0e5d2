// Writes .npz files, which the library only reads.
#ifndef TESTS_SUPPORT_NPZ_H
#define TESTS_SUPPORT_NPZ_H

#include <archive.h>
#include <archive_entry.h>
#include <stdio.h>

#include <elbo/array.h>

#include "support/test.h"

// Arrays of at most 64 KiB each, under their names.
static inline void write_npz(elbo_ctx *ctx, const char *path, int n, const char *const *names, elbo_array *const *arrays) {
  struct archive *zip = archive_write_new();
  archive_write_set_format_zip(zip);
  assert_int_equal(archive_write_open_filename(zip, path), ARCHIVE_OK);
  for (int i = 0; i < n; i++) {
    static char bytes[1 << 16];
    char name[64];
    assert_ok(ctx, elbo_npy_write(ctx, test_path("member.npy"), arrays[i]));
    FILE *f = fopen(test_path("member.npy"), "rb");
    size_t size = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    snprintf(name, sizeof name, "%s.npy", names[i]);
    struct archive_entry *entry = archive_entry_new();
    archive_entry_set_pathname(entry, name);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, 0644);
    archive_entry_set_size(entry, (la_int64_t)size);
    archive_write_header(zip, entry);
    archive_write_data(zip, bytes, size);
    archive_entry_free(entry);
  }
  archive_write_close(zip);
  archive_write_free(zip);
}

#endif
