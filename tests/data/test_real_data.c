// Real data: the digits of the repository, and MNIST, CIFAR-10 and the emoji where they are at hand (skipped by name where not).
#include <elbo/dataset.h>
#include <elbo/image.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "data/loader.h"
#include "support/test.h"

static void mean_and_deviation(const elbo_array *x, double *mean, double *deviation) {
  double sum = 0, square = 0;
  int64_t n = elbo_array_count(x);
  for (int64_t i = 0; i < n; i++) {
    double v = (double)((float *)x->data)[i];
    sum += v, square += v * v;
  }
  *mean = sum / (double)n;
  *deviation = sqrt(square / (double)n - *mean * *mean);
}

static void digits_are_there(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(2);
  elbo_dataset *ds;
  elbo_dataset_info info;
  elbo_array *x, *label;
  assert_ok(ctx, elbo_dataset_open(ctx, "digits", 0, NULL, &ds));
  elbo_dataset_get_info(ds, &info);
  assert_int_equal(info.count[0], 10000);
  assert_int_equal(info.count[2], 2000);
  assert_int_equal(info.classes, 10);
  assert_int_equal(info.height, 28);
  assert_ok(ctx, elbo_dataset_read(ds, ELBO_SPLIT_TRAIN, 0, 10000, 0, 0, &x, &label));
  double mean, deviation;
  int counts[10] = {0};
  mean_and_deviation(x, &mean, &deviation);
  assert_near(mean, 33.318 / 255, 0.002); // MNIST's own
  assert_near(deviation, 78.567 / 255, 0.002);
  for (int i = 0; i < 10000; i++) counts[((int32_t *)label->data)[i]]++;
  for (int c = 0; c < 10; c++) assert_near(counts[c], 1000, 150);
  elbo_array_destroy(&x), elbo_array_destroy(&label);
  elbo_dataset_destroy(&ds);
  elbo_ctx_destroy(&ctx);
}

// Every image of share/digits is one of MNIST's, of the same part and label, and none occurs twice.
static uint64_t image_key(const float *x) {
  uint64_t h = 14695981039346656037u;
  for (int i = 0; i < 784; i++) h = (h ^ (uint64_t)(x[i] * 255.0f + 0.5f)) * 1099511628211u;
  return h;
}

static int compare_keys(const void *a, const void *b) {
  const uint64_t *x = a, *y = b;
  return (x[0] > y[0]) - (x[0] < y[0]);
}

static void mnist_as_described(void **state) {
  (void)state;
  const char *path = test_shared_data("mnist");
  if (!path) {
    print_message("skipped: MNIST is not at hand\n");
    skip();
  }
  elbo_ctx *ctx = test_ctx(2);
  elbo_dataset *all, *few;
  elbo_dataset_info info;
  assert_ok(ctx, elbo_dataset_open(ctx, path, 1, (const char *const[]){"holdout=5000"}, &all));
  elbo_dataset_get_info(all, &info);
  assert_int_equal(info.count[0], 55000);
  assert_int_equal(info.count[1], 5000);
  assert_int_equal(info.count[2], 10000);
  elbo_dataset_destroy(&all);
  assert_ok(ctx, elbo_dataset_open(ctx, path, 0, NULL, &all));
  assert_ok(ctx, elbo_dataset_open(ctx, "digits", 0, NULL, &few));
  static const int FIRST[2][10] = {{5, 0, 4, 1, 9, 2, 1, 3, 1, 4}, {7, 2, 1, 0, 4, 1, 4, 9, 5, 9}};
  for (int k = 0; k < 2; k++) {
    elbo_split split = k ? ELBO_SPLIT_TEST : ELBO_SPLIT_TRAIN;
    elbo_array *x, *label, *y, *small;
    assert_ok(ctx, elbo_dataset_read(all, split, 0, 60000, 0, 0, &x, &label));
    assert_ok(ctx, elbo_dataset_read(few, split, 0, 60000, 0, 0, &y, &small));
    for (int i = 0; i < 10; i++) assert_int_equal(((int32_t *)label->data)[i], FIRST[k][i]);
    double mean, deviation;
    mean_and_deviation(x, &mean, &deviation);
    assert_near(mean * 255, k ? 33.791 : 33.318, 1e-3);
    assert_near(deviation * 255, k ? 79.172 : 78.567, 1e-3);
    int64_t n = x->dim[0], m = y->dim[0];
    uint64_t(*keys)[2] = malloc((size_t)n * sizeof *keys), before = 0;
    for (int64_t i = 0; i < n; i++) keys[i][0] = image_key((float *)x->data + i * 784), keys[i][1] = (uint64_t)((int32_t *)label->data)[i];
    qsort(keys, (size_t)n, sizeof *keys, compare_keys);
    for (int64_t i = 0; i < m; i++) {
      uint64_t key = image_key((float *)y->data + i * 784), *found = bsearch(&key, keys, (size_t)n, sizeof *keys, compare_keys);
      assert_non_null(found);
      assert_int_equal(found[1], ((int32_t *)small->data)[i]);
      assert_true(key != before);
      before = key;
    }
    free(keys);
    elbo_array_destroy(&x), elbo_array_destroy(&label), elbo_array_destroy(&y), elbo_array_destroy(&small);
  }
  elbo_dataset_destroy(&all), elbo_dataset_destroy(&few);
  elbo_ctx_destroy(&ctx);
}

static void cifar_as_described(void **state) {
  (void)state;
  const char *path = test_shared_data("cifar10/cifar10-test.tar");
  if (!path) {
    print_message("skipped: CIFAR-10 is not at hand\n");
    skip();
  }
  elbo_ctx *ctx = test_ctx(2);
  elbo_dataset *ds;
  elbo_dataset_info info;
  elbo_array *x, *label;
  assert_ok(ctx, elbo_dataset_open(ctx, path, 0, NULL, &ds));
  elbo_dataset_get_info(ds, &info);
  assert_int_equal(info.count[0], 0);
  assert_int_equal(info.count[2], 10000);
  assert_int_equal(info.skipped, 0);
  assert_true(strstr(info.decoder, "libjpeg-turbo") != NULL);
  assert_ok(ctx, elbo_dataset_read(ds, ELBO_SPLIT_TEST, 0, 10000, 0, 0, &x, &label));
  static const double MEAN[3] = {0.4941, 0.4851, 0.4504}, DEVIATION[3] = {0.2448, 0.2422, 0.2606};
  int counts[10] = {0};
  for (int c = 0; c < 3; c++) {
    double sum = 0, square = 0, n = 10000.0 * 1024;
    for (int64_t i = 0; i < 10000 * 1024; i++) {
      double v = (double)((float *)x->data)[3 * i + c];
      sum += v, square += v * v;
    }
    assert_near(sum / n, MEAN[c], 1e-4);
    assert_near(sqrt(square / n - sum / n * sum / n), DEVIATION[c], 1e-4);
  }
  for (int i = 0; i < 10000; i++) counts[((int32_t *)label->data)[i]]++;
  for (int c = 0; c < 10; c++) assert_int_equal(counts[c], 1000);
  elbo_array_destroy(&x), elbo_array_destroy(&label);
  elbo_dataset_destroy(&ds);
  elbo_ctx_destroy(&ctx);
}

static void emoji_have_captions(void **state) {
  (void)state;
  const char *path = test_shared_data("emoji/emoji.tar");
  if (!path) {
    print_message("skipped: the emoji are not at hand\n");
    skip();
  }
  elbo_ctx *ctx = test_ctx(2);
  char hash[2][65];
  for (int streamed = 0; streamed < 2; streamed++) {
    elbo_dataset *ds;
    elbo_dataset_info info;
    const char *const options[] = {"holdout=403", streamed ? "cache=1MB" : "cache=1GB"};
    assert_ok(ctx, elbo_dataset_open(ctx, path, 2, options, &ds));
    elbo_dataset_get_info(ds, &info);
    assert_int_equal(info.count[0], 3000);
    assert_int_equal(info.height, 64);
    assert_int_equal(info.captions, 1);
    int empty = 0;
    for (int64_t i = 0; i < 3000; i++) {
      const char *caption;
      assert_ok(ctx, elbo_dataset_caption(ds, ELBO_SPLIT_TRAIN, i, &caption));
      empty += !*caption;
    }
    assert_int_equal(empty, 0);
    assert_ok(ctx, elbo_dataset_hash(ds, ELBO_SPLIT_VALID, hash[streamed]));
    elbo_dataset_destroy(&ds);
  }
  assert_string_equal(hash[0], hash[1]);
  elbo_ctx_destroy(&ctx);
}

static void photos_are_read(void **state) {
  (void)state;
  static const struct {
    const char *name;
    int64_t h, w, c;
  } PHOTOS[] = {{"photos/camera.png", 512, 512, 1}, {"photos/chelsea.png", 300, 451, 3}, {"photos/hubble.png", 446, 512, 3}};
  elbo_ctx *ctx = test_ctx(1);
  int read = 0;
  for (int i = 0; i < 3; i++) {
    const char *path = test_shared_data(PHOTOS[i].name);
    if (!path) continue;
    elbo_array *a;
    assert_ok(ctx, elbo_image_read(ctx, path, &a));
    assert_int_equal(a->dim[0], PHOTOS[i].h);
    assert_int_equal(a->dim[1], PHOTOS[i].w);
    assert_int_equal(a->dim[2], PHOTOS[i].c);
    elbo_array_destroy(&a);
    read++;
  }
  elbo_ctx_destroy(&ctx);
  if (!read) {
    print_message("skipped: the photographs are not at hand\n");
    skip();
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(digits_are_there),    cmocka_unit_test(mnist_as_described), cmocka_unit_test(cifar_as_described),
      cmocka_unit_test(emoji_have_captions), cmocka_unit_test(photos_are_read),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
