// Data sets of files: IDX, CIFAR-10 binary, .npy and .npz, folders of pictures; recognised by content, refused with reasons.
#include <elbo/dataset.h>
#include <elbo/image.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "core/file.h"
#include "data/dataset.h"
#include "support/test.h"

static void write_gzip(const char *path, const void *data, size_t size) {
  gzFile f = gzopen(path, "wb9");
  assert_int_equal(gzwrite(f, data, (unsigned)size), size);
  gzclose(f);
}

// An IDX file of bytes; returns its size.
static size_t make_idx(uint8_t *out, int type, int rank, const uint32_t *dim, const void *data, size_t bytes) {
  uint8_t *p = out;
  *p++ = 0, *p++ = 0, *p++ = (uint8_t)type, *p++ = (uint8_t)rank;
  for (int i = 0; i < rank; i++)
    for (int s = 24; s >= 0; s -= 8) *p++ = (uint8_t)(dim[i] >> s);
  memcpy(p, data, bytes);
  return (size_t)(p - out) + bytes;
}

static void idx_folder(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  static uint8_t file[4096], pixels[2000], labels[100];
  for (int i = 0; i < 2000; i++) pixels[i] = (uint8_t)(i * 31);
  for (int i = 0; i < 100; i++) labels[i] = (uint8_t)(i % 5);
  const char *folder = test_path("idx");
  char path[512];
  assert_ok(ctx, directory_make(ctx, folder));
  static const struct {
    const char *name;
    uint32_t n;
  } PARTS[] = {{"train", 50}, {"t10k", 20}};
  for (int k = 0; k < 2; k++) {
    snprintf(path, sizeof path, "%s/%s-images-idx3-ubyte%s", folder, PARTS[k].name, k ? "" : ".gz");
    size_t n = make_idx(file, 8, 3, (uint32_t[]){PARTS[k].n, 4, 5}, pixels, PARTS[k].n * 20);
    if (k)
      test_write_file(path, file, n);
    else
      write_gzip(path, file, n);
    snprintf(path, sizeof path, "%s/%s-labels-idx1-ubyte", folder, PARTS[k].name);
    test_write_file(path, file, make_idx(file, 8, 1, &PARTS[k].n, labels, PARTS[k].n));
  }
  elbo_dataset *ds;
  elbo_dataset_info info;
  elbo_array *x, *label;
  char prefix[512];
  snprintf(prefix, sizeof prefix, "%s/t", folder);
  const char *const ways[] = {folder, prefix};
  for (int w = 0; w < 2; w++) {
    assert_ok(ctx, elbo_dataset_open(ctx, ways[w], 1, (const char *const[]){"holdout=10"}, &ds));
    elbo_dataset_get_info(ds, &info);
    assert_string_equal(info.format, "idx");
    assert_int_equal(info.count[0], 40);
    assert_int_equal(info.count[1], 10);
    assert_int_equal(info.count[2], 20);
    assert_int_equal(info.classes, 5);
    assert_int_equal(info.bits, 8);
    assert_ok(ctx, elbo_dataset_read(ds, ELBO_SPLIT_TEST, 5, 100, 0, 0, &x, &label));
    assert_int_equal(x->dim[0], 15);
    assert_int_equal(x->dim[2], 5);
    assert_near(((float *)x->data)[3], (double)pixels[5 * 20 + 3] / 255, 1e-7);
    assert_int_equal(((int32_t *)label->data)[3], 3);
    elbo_array_destroy(&x), elbo_array_destroy(&label);
    elbo_dataset_destroy(&ds);
  }
  // one file brings its labels along and is what its name says
  snprintf(path, sizeof path, "%s/t10k-images-idx3-ubyte", folder);
  assert_ok(ctx, elbo_dataset_open(ctx, path, 0, NULL, &ds));
  elbo_dataset_get_info(ds, &info);
  assert_int_equal(info.count[0], 0);
  assert_int_equal(info.count[2], 20);
  assert_int_equal(info.classes, 5);
  char hash[65], again[65];
  assert_ok(ctx, elbo_dataset_hash(ds, ELBO_SPLIT_TEST, hash));
  elbo_dataset_destroy(&ds);
  assert_ok(ctx, elbo_dataset_open(ctx, folder, 0, NULL, &ds));
  assert_ok(ctx, elbo_dataset_hash(ds, ELBO_SPLIT_TEST, again));
  assert_string_equal(hash, again);
  elbo_dataset_destroy(&ds);
  // the hold-out is a function of the seed, and no prefix
  elbo_array *held[3];
  for (int k = 0; k < 3; k++) {
    assert_ok(ctx, elbo_dataset_open(ctx, folder, 2, (const char *const[]){"holdout=10", k == 2 ? "seed=7" : "seed=3"}, &ds));
    assert_ok(ctx, elbo_dataset_read(ds, ELBO_SPLIT_VALID, 0, 10, 0, 0, &held[k], NULL));
    elbo_dataset_destroy(&ds);
  }
  assert_memory_equal(held[0]->data, held[1]->data, elbo_array_bytes(held[0]));
  assert_true(memcmp(held[0]->data, held[2]->data, elbo_array_bytes(held[0])) != 0);
  for (int k = 0; k < 3; k++) elbo_array_destroy(&held[k]);
  // options that cannot be met
  assert_status(ctx, elbo_dataset_open(ctx, folder, 1, (const char *const[]){"holdout=50"}, &ds), ELBO_ERROR_ARGUMENT, "data.holdout = 50");
  assert_status(ctx, elbo_dataset_open(ctx, folder, 1, (const char *const[]){"crop=6"}, &ds), ELBO_ERROR_ARGUMENT, "data.crop = 6");
  assert_status(ctx, elbo_dataset_open(ctx, folder, 1, (const char *const[]){"classes=4"}, &ds), ELBO_ERROR_ARGUMENT, "data.classes = 4");
  assert_status(ctx, elbo_dataset_open(ctx, folder, 1, (const char *const[]){"hold_out=4"}, &ds), ELBO_ERROR_ARGUMENT, "holdout");
  assert_null(ds);
  elbo_ctx_destroy(&ctx);
}

static void idx_hostile(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  uint8_t file[256], pixels[100] = {0};
  elbo_array *a;
  elbo_dataset *ds;
  size_t n = make_idx(file, 8, 3, (uint32_t[]){5, 4, 5}, pixels, 100);
  assert_ok(ctx, idx_parse(ctx, "good", file, n, &a));
  elbo_array_destroy(&a);
  for (size_t cut = 0; cut < n; cut++) {
    assert_status(ctx, idx_parse(ctx, "cut.idx", file, cut, &a), ELBO_ERROR_FORMAT, "cut.idx");
    assert_null(a);
  }
  const char *path = test_path("train-images-idx3-ubyte.gz");
  write_gzip(path, file, n); // cut-off gzip, at every length
  char *bytes;
  size_t size;
  assert_ok(ctx, file_read(ctx, path, 1 << 20, &bytes, &size));
  for (size_t cut = 0; cut < size; cut++) assert_status(ctx, idx_parse(ctx, "cut.gz", bytes, cut, &a), ELBO_ERROR_FORMAT, "cut.gz");
  bytes[size / 2] ^= 0x7f;
  test_write_file(path, bytes, size);
  assert_status(ctx, elbo_dataset_open(ctx, path, 0, NULL, &ds), ELBO_ERROR_FORMAT, "train-images");
  free(bytes);
  file[0] = 1; // wrong magic, by name still IDX
  test_write_file(path, file, n);
  assert_status(ctx, elbo_dataset_open(ctx, path, 0, NULL, &ds), ELBO_ERROR_FORMAT, "wrong IDX magic 01000803");
  n = make_idx(file, 8, 3, (uint32_t[]){0xffffffff, 0xffffffff, 0xffffffff}, pixels, 10);
  assert_status(ctx, idx_parse(ctx, "huge", file, n, &a), ELBO_ERROR_FORMAT, "overflow");
  n = make_idx(file, 8, 3, (uint32_t[]){60000, 280, 280}, pixels, 10);
  assert_status(ctx, idx_parse(ctx, "huge", file, n, &a), ELBO_ERROR_FORMAT, "cut off");
  n = make_idx(file, 8, 9, (uint32_t[]){1, 1, 1, 1, 1, 1, 1, 1, 1}, pixels, 10);
  assert_status(ctx, idx_parse(ctx, "deep", file, n, &a), ELBO_ERROR_UNSUPPORTED, "9 dimensions");
  n = make_idx(file, 8, 3, (uint32_t[]){0, 4, 5}, pixels, 0);
  test_write_file(path, file, n);
  assert_status(ctx, elbo_dataset_open(ctx, path, 0, NULL, &ds), ELBO_ERROR_FORMAT, "holds no examples");
  test_write_file(path, "", 0);
  assert_status(ctx, elbo_dataset_open(ctx, path, 0, NULL, &ds), ELBO_ERROR_FORMAT, "train-images");
  // floats, and a NaN among them
  const uint8_t floats[] = {0x3f, 0, 0, 0, 0x3e, 0x80, 0, 0, 0x7f, 0xc0, 0, 0, 0, 0, 0, 0};
  n = make_idx(file, 13, 2, (uint32_t[]){2, 2}, floats, 16);
  assert_ok(ctx, idx_parse(ctx, "floats", file, n, &a));
  assert_near(((float *)a->data)[1], 0.25, 0);
  elbo_array_destroy(&a);
  test_write_file(path, file, n);
  assert_status(ctx, elbo_dataset_open(ctx, path, 0, NULL, &ds), ELBO_ERROR_NUMERIC, "example 1 holds NaN");
  elbo_ctx_destroy(&ctx);
}

static void cifar_binary(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  uint8_t *file = calloc(3, 3073);
  char path[512];
  const char *folder = test_path("cifar");
  assert_ok(ctx, directory_make(ctx, folder));
  for (int i = 0; i < 3; i++) {
    file[i * 3073] = (uint8_t)(3 * i);
    for (int p = 0; p < 3072; p++) file[i * 3073 + 1 + p] = (uint8_t)(p / 1024 * 50 + p % 7 + i);
  }
  static const char *const NAMES[] = {"data_batch_1.bin", "data_batch_2.bin", "test_batch.bin"};
  for (int i = 0; i < 3; i++) {
    snprintf(path, sizeof path, "%s/%s", folder, NAMES[i]);
    test_write_file(path, file, 3 * 3073);
  }
  elbo_dataset *ds;
  elbo_dataset_info info;
  elbo_array *x, *label;
  assert_ok(ctx, elbo_dataset_open(ctx, folder, 0, NULL, &ds));
  elbo_dataset_get_info(ds, &info);
  assert_string_equal(info.format, "cifar10");
  assert_int_equal(info.count[0], 6);
  assert_int_equal(info.count[2], 3);
  assert_string_equal(info.class_names[3], "cat");
  assert_ok(ctx, elbo_dataset_read(ds, ELBO_SPLIT_TEST, 1, 1, 0, 0, &x, &label));
  assert_int_equal(((int32_t *)label->data)[0], 3);
  for (int c = 0; c < 3; c++) assert_near(((float *)x->data)[(2 * 32 + 5) * 3 + c], (c * 50 + (c * 1024 + 69) % 7 + 1) / 255.0, 1e-7);
  elbo_array_destroy(&x), elbo_array_destroy(&label);
  elbo_dataset_destroy(&ds);
  snprintf(path, sizeof path, "%s/%s", folder, NAMES[1]);
  test_write_file(path, file, 3 * 3073 - 5);
  assert_status(ctx, elbo_dataset_open(ctx, folder, 0, NULL, &ds), ELBO_ERROR_FORMAT, "data_batch_2.bin");
  file[3073] = 10;
  test_write_file(path, file, 3 * 3073);
  assert_status(ctx, elbo_dataset_open(ctx, folder, 0, NULL, &ds), ELBO_ERROR_FORMAT, "label 10 of record 1");
  free(file);
  elbo_ctx_destroy(&ctx);
}

static void npy_sets(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  elbo_array *x, *y, *got;
  elbo_dataset *ds;
  elbo_dataset_info info;
  char path[512];
  const char *folder = test_path("npy");
  assert_ok(ctx, directory_make(ctx, folder));
  assert_ok(ctx, elbo_array_create(ctx, ELBO_U16, 4, (int64_t[]){20, 2, 4, 4}, &x)); // N,C,H,W
  assert_ok(ctx, elbo_array_create(ctx, ELBO_I64, 1, (int64_t[]){20}, &y));
  for (int i = 0; i < 20 * 32; i++) ((uint16_t *)x->data)[i] = (uint16_t)(i * 100);
  for (int i = 0; i < 20; i++) ((int64_t *)y->data)[i] = i % 4;
  snprintf(path, sizeof path, "%s/x_train.npy", folder);
  assert_ok(ctx, elbo_npy_write(ctx, path, x));
  snprintf(path, sizeof path, "%s/y_train.npy", folder);
  assert_ok(ctx, elbo_npy_write(ctx, path, y));
  snprintf(path, sizeof path, "%s/x_test.npy", folder);
  assert_ok(ctx, elbo_npy_write(ctx, path, x));
  assert_ok(ctx, elbo_dataset_open(ctx, folder, 1, (const char *const[]){"layout=nchw"}, &ds));
  elbo_dataset_get_info(ds, &info);
  assert_string_equal(info.format, "npy");
  assert_int_equal(info.bits, 16);
  assert_int_equal(info.channels, 2);
  assert_int_equal(info.count[2], 20);
  assert_int_equal(info.classes, 0); // the test part has no labels
  assert_ok(ctx, elbo_dataset_read(ds, ELBO_SPLIT_TRAIN, 0, 20, 0, 0, &got, NULL));
  assert_near(((float *)got->data)[((3 * 4 + 1) * 4 + 2) * 2 + 1], (((3 * 2 + 1) * 4 + 1) * 4 + 2) * 100 / 65535.0, 1e-7);
  elbo_array_destroy(&got);
  elbo_dataset_destroy(&ds);
  elbo_array_destroy(&x);
  // vectors from one file; a label file of another length
  assert_ok(ctx, elbo_array_create(ctx, ELBO_F64, 2, (int64_t[]){30, 3}, &x));
  assert_ok(ctx, elbo_npy_write(ctx, test_path("vectors.npy"), x));
  assert_ok(ctx, elbo_dataset_open(ctx, test_path("vectors.npy"), 0, NULL, &ds));
  elbo_dataset_get_info(ds, &info);
  assert_int_equal(info.height * info.width, 1);
  assert_int_equal(info.channels, 3);
  assert_int_equal(info.count[0], 27); // a tenth is held out, and stands in for the test set
  assert_int_equal(info.count[1], 3);
  assert_int_equal(info.count[2], 3);
  elbo_dataset_destroy(&ds);
  assert_status(ctx, elbo_dataset_from_arrays(ctx, x, y, 0, NULL, &ds), ELBO_ERROR_FORMAT, "30 examples, but labels of 20");
  ((double *)x->data)[30 * 3 - 1] = INFINITY;
  assert_status(ctx, elbo_dataset_from_arrays(ctx, x, NULL, 0, NULL, &ds), ELBO_ERROR_NUMERIC,
                "example 29 holds an infinite value at element 2");
  ((double *)x->data)[30 * 3 - 1] = 2;
  assert_status(ctx, elbo_dataset_from_arrays(ctx, x, NULL, 1, (const char *const[]){"binarize=dynamic"}, &ds), ELBO_ERROR_ARGUMENT,
                "0..1");
  ((int64_t *)y->data)[7] = -3;
  elbo_array_destroy(&x);
  assert_ok(ctx, elbo_array_create(ctx, ELBO_U8, 2, (int64_t[]){20, 3}, &x));
  assert_status(ctx, elbo_dataset_from_arrays(ctx, x, y, 0, NULL, &ds), ELBO_ERROR_FORMAT, "label -3 of example 7");
  assert_status(ctx, elbo_dataset_from_arrays(ctx, y, NULL, 0, NULL, &ds), ELBO_ERROR_FORMAT, "1 dimensions");
  elbo_array_destroy(&x), elbo_array_destroy(&y);
  assert_status(ctx, elbo_dataset_open(ctx, test_path("nowhere"), 0, NULL, &ds), ELBO_ERROR_IO, "nowhere");
  assert_status(ctx, elbo_dataset_open(ctx, "", 0, NULL, &ds), ELBO_ERROR_ARGUMENT, "data.path");
  test_write_file(test_path("noise.dat"), "\7\7\7\7\7\7\7\7", 8);
  assert_status(ctx, elbo_dataset_open(ctx, test_path("noise.dat"), 0, NULL, &ds), ELBO_ERROR_FORMAT, "not a data set");
  elbo_ctx_destroy(&ctx);
}

static void write_picture(elbo_ctx *ctx, const char *path, int side, int channels, int value) {
  elbo_array *a;
  assert_ok(ctx, elbo_array_create(ctx, ELBO_U8, 3, (int64_t[]){side, side, channels}, &a));
  memset(a->data, value, elbo_array_bytes(a));
  assert_ok(ctx, elbo_image_write(ctx, path, a));
  elbo_array_destroy(&a);
}

static void picture_folders(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(2);
  elbo_dataset *ds;
  elbo_dataset_info info;
  elbo_array *x, *label;
  const char *caption;
  char path[512], folder[256];
  snprintf(folder, sizeof folder, "%s", test_path("pictures"));
  static const char *const CLASSES[] = {"cat", "dog"}, *const ENDS[] = {"png", "webp", "png"};
  for (int c = 0; c < 2; c++) {
    snprintf(path, sizeof path, "%s/%s", folder, CLASSES[c]);
    assert_ok(ctx, directory_make(ctx, path));
    for (int i = 0; i < 3; i++) {
      snprintf(path, sizeof path, "%s/%s/%d.%s", folder, CLASSES[c], i, ENDS[i]);
      write_picture(ctx, path, 8, 3, 10 * (3 * c + i));
    }
  }
  snprintf(path, sizeof path, "%s/dog/1.txt", folder);
  test_write_file(path, "a good dog\n", 11);
  assert_ok(ctx, elbo_dataset_open(ctx, folder, 1, (const char *const[]){"holdout=0"}, &ds));
  elbo_dataset_get_info(ds, &info);
  assert_string_equal(info.format, "folder");
  assert_int_equal(info.count[0], 6);
  assert_int_equal(info.classes, 2);
  assert_string_equal(info.class_names[1], "dog");
  assert_int_equal(info.captions, 1);
  assert_ok(ctx, elbo_dataset_caption(ds, ELBO_SPLIT_TRAIN, 4, &caption));
  assert_string_equal(caption, "a good dog");
  assert_ok(ctx, elbo_dataset_caption(ds, ELBO_SPLIT_TRAIN, 0, &caption));
  assert_string_equal(caption, "");
  assert_ok(ctx, elbo_dataset_read(ds, ELBO_SPLIT_TRAIN, 0, 6, 0, 0, &x, &label));
  for (int i = 0; i < 6; i++) {
    assert_near(((float *)x->data)[i * 192], 10 * i / 255.0, 1e-7);
    assert_int_equal(((int32_t *)label->data)[i], i / 3);
  }
  elbo_array_destroy(&x), elbo_array_destroy(&label);
  elbo_dataset_destroy(&ds);
  // another size: refused with advice, accepted with data.size; the same with channels
  snprintf(path, sizeof path, "%s/dog/3.png", folder);
  write_picture(ctx, path, 12, 3, 60);
  assert_status(ctx, elbo_dataset_open(ctx, folder, 0, NULL, &ds), ELBO_ERROR_ARGUMENT,
                "3.png: 12 x 12 pixels where others have 8 x 8; set data.size");
  assert_ok(ctx, elbo_dataset_open(ctx, folder, 1, (const char *const[]){"size=6"}, &ds));
  elbo_dataset_get_info(ds, &info);
  assert_int_equal(info.height, 6);
  elbo_dataset_destroy(&ds);
  write_picture(ctx, path, 8, 1, 60);
  assert_status(ctx, elbo_dataset_open(ctx, folder, 0, NULL, &ds), ELBO_ERROR_ARGUMENT, "3.png: 1 channels where others have 3");
  assert_ok(ctx, elbo_dataset_open(ctx, folder, 1, (const char *const[]){"channels=1"}, &ds));
  elbo_dataset_destroy(&ds);
  // one unreadable picture of seven is too many for the usual limit
  test_write_file(path, "not a picture", 13);
  assert_status(ctx, elbo_dataset_open(ctx, folder, 0, NULL, &ds), ELBO_ERROR_FORMAT,
                "1 of 7 pictures cannot be read, more than data.max_skipped = 0.01");
  assert_ok(ctx, elbo_dataset_open(ctx, folder, 2, (const char *const[]){"max_skipped=0.2", "holdout=0"}, &ds));
  elbo_dataset_get_info(ds, &info);
  assert_int_equal(info.count[0], 6);
  assert_int_equal(info.skipped, 1);
  elbo_dataset_destroy(&ds);
  remove(path);
  // splits on top
  snprintf(path, sizeof path, "%s-split/train/b", folder);
  assert_ok(ctx, directory_make(ctx, path));
  snprintf(path, sizeof path, "%s-split/test/b", folder);
  assert_ok(ctx, directory_make(ctx, path));
  for (int i = 0; i < 4; i++) {
    snprintf(path, sizeof path, "%s-split/%s/b/%d.png", folder, i < 3 ? "train" : "test", i);
    write_picture(ctx, path, 4, 1, i);
  }
  snprintf(path, sizeof path, "%s-split", folder);
  assert_ok(ctx, elbo_dataset_open(ctx, path, 0, NULL, &ds));
  elbo_dataset_get_info(ds, &info);
  assert_int_equal(info.count[0], 3);
  assert_int_equal(info.count[2], 1);
  elbo_dataset_destroy(&ds);
  snprintf(path, sizeof path, "%s-empty", folder);
  assert_ok(ctx, directory_make(ctx, path));
  assert_status(ctx, elbo_dataset_open(ctx, path, 0, NULL, &ds), ELBO_ERROR_FORMAT, "no data in this folder");
  elbo_ctx_destroy(&ctx);
}

static void memory_sets_resize(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(2);
  elbo_array *x, *got;
  elbo_dataset *ds;
  assert_ok(ctx, elbo_array_create(ctx, ELBO_U8, 4, (int64_t[]){12, 4, 6, 3}, &x));
  for (int i = 0; i < 12; i++) memset((uint8_t *)x->data + i * 72, 20 * i, 72);
  assert_ok(ctx, elbo_dataset_from_arrays(ctx, x, NULL, 3, (const char *const[]){"size=8", "channels=1", "holdout=0"}, &ds));
  assert_ok(ctx, elbo_dataset_read(ds, ELBO_SPLIT_TRAIN, 0, 12, 0, 0, &got, NULL));
  assert_int_equal(got->dim[1], 8);
  assert_int_equal(got->dim[3], 1);
  for (int i = 0; i < 12; i++) assert_near(((float *)got->data)[i * 64 + 17], 20 * i / 255.0, 1e-7);
  elbo_array_destroy(&got);
  elbo_dataset_destroy(&ds);
  elbo_array_destroy(&x);
  elbo_ctx_destroy(&ctx);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(idx_folder), cmocka_unit_test(idx_hostile),     cmocka_unit_test(cifar_binary),
      cmocka_unit_test(npy_sets),   cmocka_unit_test(picture_folders), cmocka_unit_test(memory_sets_resize),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
