// WebDataset shards: read whole into the cache or streamed, the same examples either way; hostile tars.
#include <archive.h>
#include <archive_entry.h>
#include <elbo/image.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "data/loader.h"
#include "data/picture.h"
#include "data/tar.h"
#include "support/test.h"

typedef struct tar_writer {
  struct archive *a;
} tar_writer;

static void tar_create(tar_writer *t, const char *path, bool gzip) {
  t->a = archive_write_new();
  if (gzip) archive_write_add_filter_gzip(t->a);
  archive_write_set_format_ustar(t->a);
  assert_int_equal(archive_write_open_filename(t->a, path), ARCHIVE_OK);
}

static void tar_add(tar_writer *t, const char *name, const void *data, size_t size) {
  struct archive_entry *entry = archive_entry_new();
  archive_entry_set_pathname(entry, name);
  archive_entry_set_filetype(entry, AE_IFREG);
  archive_entry_set_perm(entry, 0644);
  archive_entry_set_size(entry, (la_int64_t)size);
  assert_int_equal(archive_write_header(t->a, entry), ARCHIVE_OK);
  archive_write_data(t->a, data, size);
  archive_entry_free(entry);
}

static void tar_close(tar_writer *t) {
  archive_write_close(t->a);
  archive_write_free(t->a);
}

// A 6x6 picture of one grey level, as PNG or JPEG.
static size_t make_picture(elbo_ctx *ctx, int value, bool jpeg, void **bytes) {
  picture p = {0};
  size_t size;
  assert_ok(ctx, picture_reserve(ctx, "test", 6, 6, 3, 8, &p));
  memset(p.data, value, 108);
  assert_ok(ctx, (jpeg ? jpeg_encode : png_encode)(ctx, "test", &p, bytes, &size));
  picture_free(&p);
  return size;
}

// n examples from `first`: grey level and class follow from the number; every 50th is no picture when `spoil`.
static void write_shard(elbo_ctx *ctx, const char *path, int first, int n, bool gzip, bool spoil) {
  tar_writer t;
  tar_create(&t, path, gzip);
  for (int i = first; i < first + n; i++) {
    char name[64], text[64];
    void *bytes;
    size_t size = make_picture(ctx, i % 250, i % 2, &bytes);
    snprintf(name, sizeof name, "dir.d/%06d.%s", i, i % 2 ? "jpg" : "png");
    if (spoil && i % 50 == 7)
      tar_add(&t, name, "spoiled", 7);
    else
      tar_add(&t, name, bytes, size);
    free(bytes);
    snprintf(name, sizeof name, "dir.d/%06d.%s", i, i % 3 ? "cls" : "json");
    snprintf(text, sizeof text, i % 3 ? "%d\n" : "{\"label\": %d, \"caption\": \"from json\"}", i % 4);
    tar_add(&t, name, text, strlen(text));
    if (i % 3) {
      snprintf(name, sizeof name, "dir.d/%06d.txt", i);
      snprintf(text, sizeof text, "number %d", i);
      tar_add(&t, name, text, strlen(text));
    }
  }
  tar_close(&t);
}

static const batch_field *field_of(const data_batch *b, const char *name) {
  for (int i = 0; i < b->n_fields; i++)
    if (!strcmp(b->field[i].name, name)) return &b->field[i];
  fail_msg("the batch has no field '%s'", name);
  return NULL;
}

static int level(const data_batch *b, int64_t j) { return (int)(((float *)field_of(b, "x")->data)[j * 108] * 255.0f + 0.5f); }

static void cached_and_streamed_agree(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(2);
  char pattern[512], path[512];
  snprintf(pattern, sizeof pattern, "%s/train-{000..002}.tar.gz", test_directory());
  for (int s = 0; s < 3; s++) {
    snprintf(path, sizeof path, "%s/train-%03d.tar.gz", test_directory(), s);
    write_shard(ctx, path, 40 * s, 40, true, false);
  }
  char hash[2][3][65];
  for (int streamed = 0; streamed < 2; streamed++) {
    elbo_dataset *ds;
    elbo_dataset_info info;
    const char *caption;
    const char *const options[] = {"holdout=20", streamed ? "cache=1000" : "cache=1MiB", "shuffle_buffer=16"};
    assert_ok(ctx, elbo_dataset_open(ctx, pattern, 3, options, &ds));
    elbo_dataset_get_info(ds, &info);
    assert_string_equal(info.format, "webdataset");
    assert_int_equal(info.count[0], 100);
    assert_int_equal(info.count[1], 20);
    assert_int_equal(info.count[2], 20);
    assert_int_equal(info.classes, 4);
    assert_int_equal(info.captions, 1);
    for (int s = 0; s < 3; s++) assert_ok(ctx, elbo_dataset_hash(ds, (elbo_split)s, hash[streamed][s]));
    int found = 0;
    for (int i = 0; i < 100; i++) {
      assert_ok(ctx, elbo_dataset_caption(ds, ELBO_SPLIT_TRAIN, i, &caption));
      found += !strcmp(caption, "from json") || !strncmp(caption, "number ", 7);
    }
    assert_int_equal(found, 100);
    // one epoch is a permutation; labels belong to their pictures
    loader *l;
    const data_batch *b;
    assert_ok(ctx, loader_create(ctx, ds, &(loader_config){.batch_size = 10, .shuffle = true, .seed = 5, .threads = 2}, &l));
    for (int epoch = 0; epoch < 2; epoch++) {
      int seen[100] = {0};
      for (int i = 0; i < 10; i++) {
        assert_ok(ctx, loader_next(l, &b));
        for (int j = 0; j < 10; j++) {
          seen[((int64_t *)field_of(b, "example")->data)[j]]++;
          assert_int_equal(((int32_t *)field_of(b, "label")->data)[j], level(b, j) % 4);
        }
      }
      for (int i = 0; i < 100; i++) assert_int_equal(seen[i], 1);
    }
    loader_destroy(&l);
    // file order, from the middle
    assert_ok(ctx, loader_create(ctx, ds, &(loader_config){.batch_size = 7, .split = ELBO_SPLIT_VALID}, &l));
    assert_ok(ctx, loader_seek(l, 14));
    assert_ok(ctx, loader_next(l, &b));
    assert_int_equal(b->count, 6);
    assert_int_equal(((int64_t *)field_of(b, "example")->data)[0], 14);
    elbo_array *x;
    assert_ok(ctx, elbo_dataset_read(ds, ELBO_SPLIT_VALID, 14, 6, 0, 0, &x, NULL));
    assert_memory_equal(x->data, field_of(b, "x")->data, elbo_array_bytes(x));
    elbo_array_destroy(&x);
    assert_ok(ctx, loader_next(l, &b));
    assert_null(b);
    loader_destroy(&l);
    elbo_dataset_destroy(&ds);
  }
  for (int s = 0; s < 3; s++) assert_string_equal(hash[0][s], hash[1][s]);
  elbo_ctx_destroy(&ctx);
}

static void streamed_order_is_the_seeds(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(2);
  char folder[512], path[600];
  snprintf(folder, sizeof folder, "%s/stream", test_directory());
  assert_ok(ctx, directory_make(ctx, folder));
  for (int s = 0; s < 3; s++) {
    snprintf(path, sizeof path, "%s/part-%d.tar", folder, s);
    write_shard(ctx, path, 50 * s, 50, false, true);
  }
  elbo_dataset *ds;
  const char *const options[] = {"holdout=0", "cache=1000", "shuffle_buffer=40", "max_skipped=0.05"};
  assert_ok(ctx, elbo_dataset_open(ctx, folder, 4, options, &ds));
  int64_t order[3][300];
  float weights = 0;
  for (int k = 0; k < 3; k++) {
    loader *l;
    const data_batch *b;
    assert_ok(
        ctx, loader_create(ctx, ds, &(loader_config){.batch_size = 25, .shuffle = true, .seed = k == 2 ? 8 : 7, .threads = 1 + 2 * k}, &l));
    for (int i = 0; i < 12; i++) {
      assert_ok(ctx, loader_next(l, &b));
      memcpy(order[k] + 25 * i, field_of(b, "example")->data, 25 * sizeof(int64_t));
      for (int j = 0; j < 25 && k == 0; j++) {
        float w = ((float *)field_of(b, "weight")->data)[j];
        int64_t e = order[k][25 * i + j];
        assert_near(w, e % 50 == 7 ? 0 : 1, 0); // an unreadable picture weighs nothing
        if (w > 0) assert_true(abs(level(b, j) - (int)(e % 250)) <= 1);
        weights += w;
      }
    }
    if (k == 0) { // seeking replays the same draws, in the second epoch too
      for (int at = 0; at < 12; at += 5) {
        assert_ok(ctx, loader_seek(l, 25 * at));
        for (int i = at; i < 12; i++) {
          assert_ok(ctx, loader_next(l, &b));
          assert_memory_equal(order[0] + 25 * i, field_of(b, "example")->data, 25 * sizeof(int64_t));
        }
      }
    }
    assert_true(loader_bytes(l) > 0);
    loader_destroy(&l);
  }
  elbo_dataset_info info;
  elbo_dataset_get_info(ds, &info);
  assert_int_equal(info.skipped, 3); // each counts once, however often it is met
  assert_near(weights, 294, 0);
  assert_memory_equal(order[0], order[1], sizeof order[0]);
  assert_true(memcmp(order[0], order[2], sizeof order[0]) != 0);
  elbo_dataset_destroy(&ds);
  // decoded at once they are left out, counted, and held against the limit
  assert_ok(ctx, elbo_dataset_open(ctx, folder, 2, (const char *const[]){"holdout=0", "max_skipped=0.02"}, &ds));
  elbo_dataset_get_info(ds, &info);
  assert_int_equal(info.count[0], 147);
  assert_int_equal(info.skipped, 3);
  assert_true(strstr(info.decoder, "islow") != NULL);
  elbo_dataset_destroy(&ds);
  assert_status(ctx, elbo_dataset_open(ctx, folder, 0, NULL, &ds), ELBO_ERROR_FORMAT,
                "3 of 150 pictures cannot be read, more than data.max_skipped = 0.01");
  // streamed, the limit stops the loader
  assert_ok(ctx, elbo_dataset_open(ctx, folder, 2, (const char *const[]){"holdout=0", "cache=1000"}, &ds));
  loader *l;
  const data_batch *b;
  assert_ok(ctx, loader_create(ctx, ds, &(loader_config){.batch_size = 150}, &l));
  assert_status(ctx, loader_next(l, &b), ELBO_ERROR_FORMAT, "more than data.max_skipped");
  loader_destroy(&l);
  elbo_dataset_destroy(&ds);
  elbo_ctx_destroy(&ctx);
}

static elbo_status open_one(elbo_ctx *ctx, const char *path) {
  elbo_dataset *ds;
  elbo_status status = elbo_dataset_open(ctx, path, 0, NULL, &ds);
  assert_true((status == ELBO_OK) == (ds != NULL));
  elbo_dataset_destroy(&ds);
  return status;
}

static void hostile_shards(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  char path[512];
  snprintf(path, sizeof path, "%s/hostile.tar", test_directory());
  void *bytes;
  size_t size = make_picture(ctx, 5, false, &bytes);
  tar_writer t;
  static const struct {
    const char *name, *text, *message;
  } BAD[] = {{"/etc/passwd.png", NULL, "member '/etc/passwd.png' has an absolute path"},
             {"a/../../b.png", NULL, "member 'a/../../b.png' points outside"},
             {"a.cls", "seven", "class 'seven'"},
             {"a.cls", "-1", "class '-1'"},
             {"a.json", "[1]", "not a JSON object"}};
  for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++) {
    tar_create(&t, path, false);
    tar_add(&t, "a.png", bytes, size);
    tar_add(&t, BAD[i].name, BAD[i].text ? BAD[i].text : bytes, BAD[i].text ? strlen(BAD[i].text) : size);
    tar_close(&t);
    assert_status(ctx, open_one(ctx, path), ELBO_ERROR_FORMAT, BAD[i].message);
  }
  tar_create(&t, path, false); // a label missing
  tar_add(&t, "a.png", bytes, size);
  tar_add(&t, "a.cls", "1", 1);
  tar_add(&t, "b.png", bytes, size);
  tar_close(&t);
  assert_status(ctx, open_one(ctx, path), ELBO_ERROR_FORMAT, "example 1 has no label");
  tar_create(&t, path, false); // sounds, no pictures
  tar_add(&t, "a.wav", "RIFF", 4);
  tar_add(&t, "a.cls", "1", 1);
  tar_close(&t);
  assert_status(ctx, open_one(ctx, path), ELBO_ERROR_FORMAT, "no readable examples");
  // cut off anywhere inside a member's data: refused by name
  char *file;
  size_t length;
  write_shard(ctx, path, 0, 3, false, false);
  assert_ok(ctx, file_read(ctx, path, 1 << 20, &file, &length));
  test_write_file(path, file, 512 + 40);
  assert_status(ctx, open_one(ctx, path), ELBO_ERROR_FORMAT, "dir.d/000000.png");
  for (size_t cut = 0; cut < length; cut += 97) {
    test_write_file(path, file, cut);
    (void)!open_one(ctx, path); // no crash, no hang; between members a cut cannot be told from an end
  }
  for (size_t at = 0; at < length; at += 61) { // a byte changed
    file[at] ^= 0x2a;
    test_write_file(path, file, length);
    (void)!open_one(ctx, path);
    file[at] ^= 0x2a;
  }
  free(file);
  snprintf(path, sizeof path, "%s/hostile.tar.gz", test_directory());
  write_shard(ctx, path, 0, 20, true, false);
  assert_ok(ctx, file_read(ctx, path, 1 << 20, &file, &length));
  for (size_t cut = length / 4; cut < length - 8; cut += length / 4) {
    test_write_file(path, file, cut);
    assert_status(ctx, open_one(ctx, path), ELBO_ERROR_FORMAT, "hostile.tar.gz");
  }
  free(file), free(bytes);
  // ranges
  elbo_dataset *ds;
  snprintf(path, sizeof path, "%s/none-{0..3}.tar", test_directory());
  assert_status(ctx, elbo_dataset_open(ctx, path, 0, NULL, &ds), ELBO_ERROR_IO, "none-0.tar: no such file");
  assert_status(ctx, elbo_dataset_open(ctx, "x{3..1}.tar", 0, NULL, &ds), ELBO_ERROR_ARGUMENT, "FIRST..LAST");
  assert_status(ctx, elbo_dataset_open(ctx, "x{a,b}.tar", 0, NULL, &ds), ELBO_ERROR_ARGUMENT, "range in the braces");
  elbo_ctx_destroy(&ctx);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(cached_and_streamed_agree),
      cmocka_unit_test(streamed_order_is_the_seeds),
      cmocka_unit_test(hostile_shards),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
