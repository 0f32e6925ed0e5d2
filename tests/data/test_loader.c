// The loader: its order depends on the seed alone, seeking is exact, epochs are permutations, padding weighs nothing.
#include "data/loader.h"

#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/philox.h"
#include "support/test.h"

// n examples of (4,3,1) uint8 whose first pixel is the example's number modulo 251, labels n % 7.
static elbo_dataset *make_set(elbo_ctx *ctx, int64_t n, int n_options, const char *const *options) {
  elbo_array *x, *label;
  elbo_dataset *ds;
  assert_ok(ctx, elbo_array_create(ctx, ELBO_U8, 4, (int64_t[]){n, 4, 3, 1}, &x));
  assert_ok(ctx, elbo_array_create(ctx, ELBO_I64, 1, &n, &label));
  for (int64_t i = 0; i < n; i++) {
    for (int j = 0; j < 12; j++) ((uint8_t *)x->data)[i * 12 + j] = (uint8_t)((i * (j + 1)) % 251);
    ((int64_t *)label->data)[i] = i % 7;
  }
  assert_ok(ctx, elbo_dataset_from_arrays(ctx, x, label, n_options, options, &ds));
  elbo_array_destroy(&x), elbo_array_destroy(&label);
  return ds;
}

static const batch_field *field_of(const data_batch *b, const char *name) {
  for (int i = 0; i < b->n_fields; i++)
    if (!strcmp(b->field[i].name, name)) return &b->field[i];
  fail_msg("the batch has no field '%s'", name);
  return NULL;
}

static size_t field_bytes(const batch_field *f) {
  size_t n = elbo_dtype_size(f->dtype);
  for (int i = 0; i < f->rank; i++) n *= (size_t)f->dim[i];
  return n;
}

// All fields of `batches` batches, end to end.
static char *record(elbo_ctx *ctx, loader *l, int batches, size_t *size) {
  char *all = NULL;
  *size = 0;
  for (int i = 0; i < batches; i++) {
    const data_batch *b;
    assert_ok(ctx, loader_next(l, &b));
    assert_non_null(b);
    for (int f = 0; f < b->n_fields; f++) {
      size_t bytes = field_bytes(&b->field[f]);
      all = realloc(all, *size + bytes);
      memcpy(all + *size, b->field[f].data, bytes);
      *size += bytes;
    }
  }
  return all;
}

static void order_ignores_threads(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(2);
  elbo_dataset *ds = make_set(ctx, 103, 4, (const char *const[]){"binarize=dynamic", "flip=true", "crop=3", "pad=1"});
  char *first = NULL;
  size_t first_size = 0;
  for (int threads = 1; threads <= 5; threads += 2) {
    loader *l;
    assert_ok(ctx, loader_create(ctx, ds,
                                 &(loader_config){
                                     .batch_size = 8, .shuffle = true, .seed = 3, .threads = threads, .prefetch = threads, .augment = true},
                                 &l));
    size_t size;
    char *all = record(ctx, l, 40, &size);
    if (first) {
      assert_int_equal(size, first_size);
      assert_memory_equal(all, first, size);
      free(all);
    } else {
      first = all, first_size = size;
    }
    loader_destroy(&l);
    assert_null(l);
  }
  free(first);
  elbo_dataset_destroy(&ds);
  elbo_ctx_destroy(&ctx);
}

static void seek_is_exact(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(2);
  elbo_dataset *ds = make_set(ctx, 50, 1, (const char *const[]){"binarize=dynamic"});
  loader_config config = {.batch_size = 7, .shuffle = true, .seed = 9, .threads = 2, .augment = true};
  loader *l;
  assert_ok(ctx, loader_create(ctx, ds, &config, &l));
  size_t size, tail_size;
  char *all = record(ctx, l, 30, &size);
  for (int at = 0; at < 30; at += 7) {
    assert_ok(ctx, loader_seek(l, 7 * at));
    char *tail = record(ctx, l, 30 - at, &tail_size);
    assert_int_equal(tail_size, size / 30 * (size_t)(30 - at));
    assert_memory_equal(tail, all + size / 30 * (size_t)at, tail_size);
    free(tail);
  }
  free(all);
  loader_destroy(&l);
  elbo_dataset_destroy(&ds);
  elbo_ctx_destroy(&ctx);
}

static void epochs_are_permutations(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(2);
  elbo_dataset *ds = make_set(ctx, 45, 1, (const char *const[]){"holdout=0"});
  loader *l;
  assert_ok(ctx, loader_create(ctx, ds, &(loader_config){.batch_size = 10, .shuffle = true, .seed = 1}, &l));
  int seen[4][45] = {{0}};
  int64_t position = 0, same = 0, order[4][45];
  for (int i = 0; i < 18; i++) {
    const data_batch *b;
    assert_ok(ctx, loader_next(l, &b));
    for (int j = 0; j < 10; j++, position++) {
      int64_t e = ((int64_t *)field_of(b, "example")->data)[j];
      assert_int_equal(((int64_t *)field_of(b, "sample_index")->data)[j], position);
      assert_int_equal(((int32_t *)field_of(b, "label")->data)[j], e % 7);
      assert_near(((float *)field_of(b, "x")->data)[j * 12], (double)(e % 251) / 255, 1e-7);
      seen[position / 45][e]++;
      order[position / 45][position % 45] = e;
    }
  }
  for (int e = 0; e < 4; e++)
    for (int i = 0; i < 45; i++) assert_int_equal(seen[e][i], 1);
  for (int i = 0; i < 45; i++) same += order[0][i] == order[1][i];
  assert_true(same < 15);
  loader_destroy(&l);
  elbo_dataset_destroy(&ds);
  elbo_ctx_destroy(&ctx);
}

static void last_batch_is_padded(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(2);
  elbo_dataset *ds = make_set(ctx, 23, 1, (const char *const[]){"holdout=0"});
  loader *l;
  const data_batch *b;
  assert_ok(ctx, loader_create(ctx, ds, &(loader_config){.batch_size = 10, .threads = 2}, &l));
  for (int round = 0; round < 2; round++) {
    int64_t total = 0;
    for (int i = 0; i < 3; i++) {
      assert_ok(ctx, loader_next(l, &b));
      assert_non_null(b);
      for (int j = 0; j < 10; j++) {
        bool real = i * 10 + j < 23;
        assert_near(((float *)field_of(b, "weight")->data)[j], real ? 1 : 0, 0);
        if (real) assert_int_equal(((int64_t *)field_of(b, "example")->data)[j], i * 10 + j);
      }
      total += b->count;
    }
    assert_int_equal(total, 23);
    for (int i = 0; i < 2; i++) {
      assert_ok(ctx, loader_next(l, &b));
      assert_null(b);
    }
    assert_ok(ctx, loader_seek(l, 0));
  }
  // larger than the data: fine when padded, refused when shuffled
  loader_destroy(&l);
  assert_ok(ctx, loader_create(ctx, ds, &(loader_config){.batch_size = 64}, &l));
  assert_ok(ctx, loader_next(l, &b));
  assert_int_equal(b->count, 23);
  loader_destroy(&l);
  assert_status(ctx, loader_create(ctx, ds, &(loader_config){.batch_size = 64, .shuffle = true}, &l), ELBO_ERROR_ARGUMENT,
                "larger than the 23 examples");
  assert_null(l);
  assert_status(ctx, loader_create(ctx, ds, &(loader_config){.batch_size = 4, .split = ELBO_SPLIT_TEST}, &l), ELBO_ERROR_ARGUMENT,
                "no examples in its test part");
  elbo_dataset_destroy(&ds);
  elbo_ctx_destroy(&ctx);
}

// Pixel values 0..250 / 255: the share of ones per level is a binomial's.
static void binarization_statistics(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(2);
  const char *const modes[] = {"binarize=dynamic", "binarize=fixed"};
  for (int m = 0; m < 2; m++) {
    elbo_dataset *ds = make_set(ctx, 40, 2, (const char *const[]){modes[m], "holdout=0"});
    loader *l;
    assert_ok(ctx, loader_create(ctx, ds, &(loader_config){.batch_size = 40, .shuffle = true, .seed = 5, .augment = true}, &l));
    float ones[40][12] = {{0}};
    int epochs = 400;
    for (int e = 0; e < epochs; e++) {
      const data_batch *b;
      assert_ok(ctx, loader_next(l, &b));
      for (int j = 0; j < 40; j++)
        for (int p = 0; p < 12; p++) {
          float v = ((float *)field_of(b, "x")->data)[j * 12 + p];
          assert_true(v == 0.0f || v == 1.0f);
          ones[((int64_t *)field_of(b, "example")->data)[j]][p] += v;
        }
    }
    double chi2 = 0, mean = 0, expected = 0;
    for (int i = 0; i < 40; i++)
      for (int p = 0; p < 12; p++) {
        double q = (double)((i * (p + 1)) % 251) / 255;
        mean += ones[i][p] / epochs / 480, expected += q / 480;
        if (m == 1)
          assert_true(ones[i][p] == 0 || ones[i][p] == (float)epochs);
        else if (q > 0)
          chi2 += (ones[i][p] - epochs * q) * (ones[i][p] - epochs * q) / (epochs * q * (1 - q)) / 480;
      }
    assert_near(mean, expected, m ? 0.06 : 0.004);
    if (m == 0) assert_near(chi2, 1, 0.25);
    loader_destroy(&l);
    elbo_dataset_destroy(&ds);
  }
  elbo_ctx_destroy(&ctx);
}

// Evaluation binarises by (seed, example): whatever the batch size, and differently for another seed.
static void evaluation_binarizes_once(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(2);
  elbo_dataset *ds = make_set(ctx, 60, 2, (const char *const[]){"binarize=dynamic", "holdout=30"});
  float x[3][30 * 12];
  for (int k = 0; k < 3; k++) {
    loader *l;
    const data_batch *b;
    int64_t batch = k == 0 ? 30 : 7;
    assert_ok(ctx,
              loader_create(ctx, ds,
                            &(loader_config){.split = ELBO_SPLIT_TEST, .batch_size = batch, .seed = k == 2 ? 1 : 0, .threads = k + 1}, &l));
    for (int64_t at = 0;; at += batch) {
      assert_ok(ctx, loader_next(l, &b));
      if (!b) break;
      memcpy(x[k] + at * 12, field_of(b, "x")->data, (size_t)b->count * 12 * sizeof(float));
    }
    loader_destroy(&l);
  }
  assert_memory_equal(x[0], x[1], sizeof x[0]);
  assert_true(memcmp(x[0], x[2], sizeof x[0]) != 0);
  elbo_dataset_destroy(&ds);
  elbo_ctx_destroy(&ctx);
}

// Bytes take a shorter way than floats and come to the same pixels.
static void bytes_and_floats_binarize_alike(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  static const char *const MODES[] = {"binarize=dynamic", "binarize=fixed"};
  for (int m = 0; m < 2; m++) {
    elbo_array *bytes, *floats;
    float seen[2][2][15 * 35];
    assert_ok(ctx, elbo_array_create(ctx, ELBO_U8, 4, (int64_t[]){15, 5, 7, 1}, &bytes));
    for (int i = 0; i < 15 * 35; i++) ((uint8_t *)bytes->data)[i] = i % 17 < 9 ? 0 : (uint8_t)(i * 37);
    assert_ok(ctx, elbo_array_convert(ctx, bytes, ELBO_F32, &floats));
    for (int i = 0; i < 15 * 35; i++) ((float *)floats->data)[i] /= 255.0f;
    for (int k = 0; k < 2; k++) {
      elbo_dataset *ds;
      assert_ok(ctx, elbo_dataset_from_arrays(ctx, k ? floats : bytes, NULL, 2, (const char *const[]){MODES[m], "holdout=0"}, &ds));
      for (int augment = 0; augment < 2; augment++) {
        loader *l;
        const data_batch *b;
        assert_ok(ctx, loader_create(ctx, ds, &(loader_config){.batch_size = 15, .shuffle = augment, .augment = augment, .seed = 3}, &l));
        assert_ok(ctx, loader_next(l, &b));
        memcpy(seen[k][augment], field_of(b, "x")->data, sizeof seen[0][0]);
        loader_destroy(&l);
      }
      elbo_dataset_destroy(&ds);
    }
    assert_memory_equal(seen[0], seen[1], sizeof seen[0]);
    elbo_array_destroy(&bytes), elbo_array_destroy(&floats);
  }
  elbo_ctx_destroy(&ctx);
}

static void limits_are_random_subsets(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(2);
  elbo_dataset *ds = make_set(ctx, 200, 2, (const char *const[]){"holdout=40", "limit=100"});
  elbo_dataset_info info;
  elbo_dataset_get_info(ds, &info);
  assert_int_equal(info.count[ELBO_SPLIT_TRAIN], 100);
  assert_int_equal(info.count[ELBO_SPLIT_VALID], 40);
  loader *l;
  const data_batch *b;
  assert_ok(ctx, loader_create(ctx, ds, &(loader_config){.batch_size = 50, .limit = 30, .seed = 4}, &l));
  assert_ok(ctx, loader_next(l, &b));
  assert_int_equal(b->count, 30);
  int64_t before = -1, gaps = 0;
  for (int j = 0; j < 30; j++) {
    int64_t e = ((int64_t *)field_of(b, "example")->data)[j];
    assert_true(e > before && e < 100);
    gaps += e != before + 1;
    before = e;
  }
  assert_true(gaps > 5);
  assert_true(loader_bytes(l) >= 200 * 12 + 3 * 50 * 12 * 4 && loader_bytes(l) < 200 * 12 + 3 * 50 * 12 * 4 + 16384);
  loader_destroy(&l);
  elbo_dataset_destroy(&ds);
  elbo_ctx_destroy(&ctx);
}

static void dequantized_values(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  elbo_dataset *ds = make_set(ctx, 60, 2, (const char *const[]){"dequantize=uniform", "holdout=0"});
  loader *l;
  const data_batch *b;
  assert_ok(ctx, loader_create(ctx, ds, &(loader_config){.batch_size = 60, .shuffle = true, .augment = true}, &l));
  assert_ok(ctx, loader_next(l, &b));
  double mean = 0;
  for (int j = 0; j < 60; j++)
    for (int p = 0; p < 12; p++) {
      int64_t v = ((int64_t *)field_of(b, "example")->data)[j] * (p + 1) % 251;
      double u = (double)((float *)field_of(b, "x")->data)[j * 12 + p] * 256 - (double)v;
      assert_true(u >= 0 && u < 1);
      mean += u / 720;
    }
  assert_near(mean, 0.5, 0.05);
  loader_destroy(&l);
  elbo_dataset_destroy(&ds);
  elbo_ctx_destroy(&ctx);
}

static int bad_example(void *user, int64_t index, float *x, int32_t *label) {
  (void)user;
  for (int i = 0; i < 4; i++) x[i] = (float)index;
  *label = (int32_t)(index % 3);
  return index == 17 ? 5 : 0;
}

// An error in a worker reaches the reader with its message, again and again, and the loader can still be destroyed.
static void worker_errors_are_forwarded(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(2);
  elbo_dataset *ds;
  loader *l;
  const data_batch *b;
  assert_ok(ctx, elbo_dataset_from_callback(ctx, 40, 2, 2, 1, 3, bad_example, NULL, &ds));
  assert_ok(ctx, loader_create(ctx, ds, &(loader_config){.batch_size = 8, .threads = 3}, &l));
  for (int i = 0; i < 2; i++) assert_ok(ctx, loader_next(l, &b));
  for (int i = 0; i < 3; i++) assert_status(ctx, loader_next(l, &b), ELBO_ERROR_STOPPED, "example 17");
  assert_ok(ctx, loader_seek(l, 24));
  assert_ok(ctx, loader_next(l, &b));
  assert_near(((float *)field_of(b, "x")->data)[0], 24, 0);
  loader_destroy(&l);
  elbo_dataset_destroy(&ds);
  elbo_ctx_destroy(&ctx);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(order_ignores_threads),
      cmocka_unit_test(seek_is_exact),
      cmocka_unit_test(epochs_are_permutations),
      cmocka_unit_test(last_batch_is_padded),
      cmocka_unit_test(binarization_statistics),
      cmocka_unit_test(evaluation_binarizes_once),
      cmocka_unit_test(bytes_and_floats_binarize_alike),
      cmocka_unit_test(limits_are_random_subsets),
      cmocka_unit_test(dequantized_values),
      cmocka_unit_test(worker_errors_are_forwarded),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
