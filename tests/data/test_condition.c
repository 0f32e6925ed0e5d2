// Conditions, vectors and sequences: they stay with their examples through hold-out, shuffling and the loader, from every place they can
// come from.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/loader.h"
#include "data/shapes.h"
#include "support/npz.h"

enum { N = 40, DIM = 3 };

// Example i: every pixel i, and the vector (i, -i, i/2).
static elbo_array *examples(elbo_ctx *ctx, int64_t n) {
  elbo_array *x;
  assert_ok(ctx, elbo_array_create(ctx, ELBO_F32, 4, (int64_t[]){n, 2, 2, 1}, &x));
  for (int64_t i = 0; i < n * 4; i++) ((float *)x->data)[i] = (float)(i / 4);
  return x;
}

static elbo_array *vectors(elbo_ctx *ctx, int64_t n, elbo_dtype dtype) {
  elbo_array *v, *out;
  assert_ok(ctx, elbo_array_create(ctx, ELBO_F32, 2, (int64_t[]){n, DIM}, &v));
  for (int64_t i = 0; i < n; i++) {
    float *at = (float *)v->data + i * DIM;
    at[0] = (float)i, at[1] = (float)-i, at[2] = (float)i / 2;
  }
  assert_ok(ctx, elbo_array_convert(ctx, v, dtype, &out));
  elbo_array_destroy(&v);
  return out;
}

static void assert_vector(const float *v, double i) {
  assert_near(v[0], i, 0);
  assert_near(v[1], -i, 0);
  assert_near(v[2], i / 2, 0);
}

static void check_set(elbo_ctx *ctx, elbo_dataset *ds) {
  elbo_dataset_info info;
  elbo_dataset_get_info(ds, &info);
  assert_int_equal(info.condition_dim, DIM);
  for (int split = 0; split < 3; split++)
    for (int shuffle = 0; shuffle < 2; shuffle++) {
      elbo_array *x, *v;
      if (!info.count[split]) continue;
      assert_ok(ctx, elbo_dataset_read(ds, (elbo_split)split, 1, 7, shuffle, 5, &x, NULL));
      assert_ok(ctx, elbo_dataset_read_condition(ds, (elbo_split)split, 1, 7, shuffle, 5, &v));
      assert_int_equal(v->dim[0], x->dim[0]);
      for (int64_t i = 0; i < x->dim[0]; i++) assert_vector((float *)v->data + i * DIM, (double)((float *)x->data)[i * 4]);
      elbo_array_destroy(&x), elbo_array_destroy(&v);
    }
  loader *l;
  const data_batch *b;
  assert_ok(ctx, loader_create(ctx, ds, &(loader_config){.batch_size = 8, .shuffle = true, .seed = 3, .threads = 2, .augment = true}, &l));
  for (int k = 0; k < 12; k++) {
    const float *x = NULL, *v = NULL;
    assert_ok(ctx, loader_next(l, &b));
    for (int f = 0; f < b->n_fields; f++) {
      if (!strcmp(b->field[f].name, "x")) x = b->field[f].data;
      if (!strcmp(b->field[f].name, "condition")) {
        v = b->field[f].data;
        assert_int_equal(b->field[f].rank, 2);
        assert_int_equal(b->field[f].dim[1], DIM);
      }
    }
    assert_true(x && v);
    for (int i = 0; i < 8; i++) assert_vector(v + i * DIM, (double)x[i * 4]);
  }
  loader_destroy(&l);
}

static void test_arrays(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(2);
  elbo_array *x = examples(ctx, N), *v = vectors(ctx, N, ELBO_F64);
  elbo_dataset *ds;
  assert_ok(ctx, elbo_dataset_from_arrays(ctx, x, v, 1, (const char *const[]){"holdout=9"}, &ds));
  check_set(ctx, ds);
  elbo_dataset_destroy(&ds);
  ((double *)v->data)[7] = NAN;
  assert_status(ctx, elbo_dataset_from_arrays(ctx, x, v, 0, NULL, &ds), ELBO_ERROR_NUMERIC, "example 2");
  v->dim[0] = N - 1;
  assert_status(ctx, elbo_dataset_from_arrays(ctx, x, v, 0, NULL, &ds), ELBO_ERROR_FORMAT, "(40,numbers)");
  elbo_array_destroy(&x), elbo_array_destroy(&v);
  elbo_ctx_destroy(&ctx);
}

// train.npy, test.npy and one file for the vectors of both.
static void test_files(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  elbo_array *x = examples(ctx, N), *v = vectors(ctx, N, ELBO_F32), part = *x;
  elbo_dataset *ds;
  char option[300];
  part.dim[0] = 30;
  assert_ok(ctx, elbo_npy_write(ctx, test_path("x_train.npy"), &part));
  part.dim[0] = 10, part.data = (float *)x->data + 30 * 4;
  assert_ok(ctx, elbo_npy_write(ctx, test_path("x_test.npy"), &part));
  char command[600];
  snprintf(command, sizeof command, "mkdir -p %s/set && mv %s %s %s/set", test_directory(), test_path("x_train.npy"),
           test_path("x_test.npy"), test_directory());
  assert_int_equal(test_run(command, NULL), 0);
  assert_ok(ctx, elbo_npy_write(ctx, test_path("v.npy"), v));
  snprintf(option, sizeof option, "condition=%s", test_path("v.npy"));
  const char *options[] = {option, "holdout=8"};
  assert_ok(ctx, elbo_dataset_open(ctx, test_path("set"), 2, options, &ds));
  check_set(ctx, ds);
  elbo_dataset_destroy(&ds);
  v->dim[0] = 30;
  assert_ok(ctx, elbo_npy_write(ctx, test_path("v.npy"), v));
  assert_status(ctx, elbo_dataset_open(ctx, test_path("set"), 2, options, &ds), ELBO_ERROR_FORMAT, "v.npy");
  assert_null(ds);
  options[0] = "condition=attributes";
  assert_status(ctx, elbo_dataset_open(ctx, test_path("set"), 2, options, &ds), ELBO_ERROR_ARGUMENT, "shapes");
  options[0] = "condition=nowhere.npy";
  assert_status(ctx, elbo_dataset_open(ctx, test_path("set"), 2, options, &ds), ELBO_ERROR_IO, "nowhere.npy");
  elbo_array_destroy(&x), elbo_array_destroy(&v);
  elbo_ctx_destroy(&ctx);
}

// --- sequences: example i is told (i + 100 n + d) in number d of embedding n ---

enum { TOKENS = 2 };

static elbo_array *sequences(elbo_ctx *ctx, int64_t first, int64_t n, int64_t tokens) {
  elbo_array *v;
  assert_ok(ctx, elbo_array_create(ctx, ELBO_F32, 3, (int64_t[]){n, tokens, DIM}, &v));
  for (int64_t k = 0; k < n * tokens * DIM; k++)
    ((float *)v->data)[k] = (float)(first + k / (tokens * DIM) + 100 * (k / DIM % tokens) + k % DIM);
  return v;
}

static void assert_sequence(const float *v, double i) {
  for (int k = 0; k < TOKENS * DIM; k++) assert_near(v[k], i + 100 * (k / DIM) + k % DIM, 0);
}

// Flipped pictures keep theirs; hold-out and shuffling move both.
static void check_sequences(elbo_ctx *ctx, elbo_dataset *ds) {
  elbo_dataset_info info;
  loader *l;
  const data_batch *b;
  elbo_dataset_get_info(ds, &info);
  assert_int_equal(info.condition_tokens, TOKENS);
  assert_int_equal(info.condition_dim, DIM);
  for (int split = 0; split < 3; split++)
    for (int shuffle = 0; shuffle < 2; shuffle++) {
      elbo_array *x, *v;
      if (!info.count[split]) continue;
      assert_ok(ctx, elbo_dataset_read(ds, (elbo_split)split, 1, 7, shuffle, 5, &x, NULL));
      assert_ok(ctx, elbo_dataset_read_condition(ds, (elbo_split)split, 1, 7, shuffle, 5, &v));
      assert_int_equal(v->rank, 3);
      for (int64_t i = 0; i < x->dim[0]; i++) assert_sequence((float *)v->data + i * TOKENS * DIM, (double)((float *)x->data)[i * 4]);
      elbo_array_destroy(&x), elbo_array_destroy(&v);
    }
  assert_ok(ctx, loader_create(ctx, ds, &(loader_config){.batch_size = 8, .shuffle = true, .seed = 3, .threads = 2, .augment = true}, &l));
  for (int k = 0; k < 12; k++) {
    const float *x = NULL, *v = NULL;
    assert_ok(ctx, loader_next(l, &b));
    for (int f = 0; f < b->n_fields; f++) {
      if (!strcmp(b->field[f].name, "x")) x = b->field[f].data;
      if (strcmp(b->field[f].name, "condition")) continue;
      v = b->field[f].data;
      assert_int_equal(b->field[f].rank, 3);
      assert_int_equal(b->field[f].dim[1], TOKENS);
      assert_int_equal(b->field[f].dim[2], DIM);
    }
    assert_true(x && v);
    for (int i = 0; i < 8; i++) assert_sequence(v + i * TOKENS * DIM, (double)x[i * 4]);
  }
  loader_destroy(&l);
}

static void test_sequences(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(2);
  elbo_array *x = examples(ctx, N), *v = sequences(ctx, 0, N, TOKENS), part = *x;
  elbo_dataset *ds;
  char option[300], command[600];
  assert_ok(ctx, elbo_dataset_from_arrays(ctx, x, v, 2, (const char *const[]){"holdout=9", "flip=true"}, &ds)); // in memory
  check_sequences(ctx, ds);
  elbo_dataset_destroy(&ds);
  part.dim[0] = 30; // a .npy for both parts
  snprintf(command, sizeof command, "mkdir -p %s/both", test_directory());
  assert_int_equal(test_run(command, NULL), 0);
  assert_ok(ctx, elbo_npy_write(ctx, test_path("both/x_train.npy"), &part));
  part.dim[0] = 10, part.data = (float *)x->data + 30 * 4;
  assert_ok(ctx, elbo_npy_write(ctx, test_path("both/x_test.npy"), &part));
  assert_ok(ctx, elbo_npy_write(ctx, test_path("e.npy"), v));
  snprintf(option, sizeof option, "condition=%s", test_path("e.npy"));
  const char *options[] = {option, "holdout=8"};
  assert_ok(ctx, elbo_dataset_open(ctx, test_path("both"), 2, options, &ds));
  check_sequences(ctx, ds);
  elbo_dataset_destroy(&ds);
  v->dim[0] = 39;
  assert_ok(ctx, elbo_npy_write(ctx, test_path("e.npy"), v));
  assert_status(ctx, elbo_dataset_open(ctx, test_path("both"), 2, options, &ds), ELBO_ERROR_FORMAT,
                "e.npy: conditions: an array (40,numbers) of vectors or (40,embeddings,numbers) of sequences");
  v->dim[0] = N;
  ((float *)v->data)[3 * TOKENS * DIM + 5] = INFINITY;
  assert_ok(ctx, elbo_npy_write(ctx, test_path("e.npy"), v));
  assert_status(ctx, elbo_dataset_open(ctx, test_path("both"), 2, options, &ds), ELBO_ERROR_NUMERIC,
                "the condition of example 3 holds an infinite value at element 5");
  elbo_array_destroy(&x), elbo_array_destroy(&v);
  elbo_ctx_destroy(&ctx);
}

// In an .npz beside the pictures, one array a part; both parts tell of the same shape.
static void test_sequences_npz(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  elbo_dataset *ds;
  for (int k = 0; k < 2; k++) {
    elbo_array *all[4] = {examples(ctx, 30), sequences(ctx, 0, 30, TOKENS), examples(ctx, 10),
                          sequences(ctx, 0, 10, k ? TOKENS + 1 : TOKENS)};
    static const char *const names[] = {"x_train", "condition_train", "x_test", "condition_test"};
    write_npz(ctx, test_path(k ? "set1.npz" : "set0.npz"), 4, names, all);
    for (int i = 0; i < 4; i++) elbo_array_destroy(&all[i]);
  }
  assert_ok(ctx, elbo_dataset_open(ctx, test_path("set0.npz"), 1, (const char *const[]){"holdout=6"}, &ds));
  check_sequences(ctx, ds);
  elbo_dataset_destroy(&ds);
  assert_status(ctx, elbo_dataset_open(ctx, test_path("set1.npz"), 0, NULL, &ds), ELBO_ERROR_FORMAT,
                "sequences of 3 embeddings of 3 numbers where the other part of the data has sequences of 2 embeddings of 3 numbers");
  elbo_ctx_destroy(&ctx);
}

// What the shapes say of themselves is what their captions say.
static void test_attributes(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  elbo_dataset *ds;
  elbo_array *v, *label, *x;
  assert_ok(ctx, elbo_dataset_open(ctx, "shapes:size=16,train=300,test=0,rotation=15", 2,
                                   (const char *const[]){"condition=attributes", "holdout=30"}, &ds));
  assert_ok(ctx, elbo_dataset_read(ds, ELBO_SPLIT_TRAIN, 0, 270, 0, 0, &x, &label));
  assert_ok(ctx, elbo_dataset_read_condition(ds, ELBO_SPLIT_TRAIN, 0, 270, 0, 0, &v));
  assert_int_equal(v->dim[1], SHAPE_ATTRIBUTES);
  double seen = 0;
  for (int64_t i = 0; i < 270; i++) {
    const float *at = (float *)v->data + i * SHAPE_ATTRIBUTES, *place = at + SHAPE_ATTRIBUTES - 4;
    const char *caption;
    double ones = 0;
    for (int j = 0; j < SHAPE_ATTRIBUTES - 4; j++) ones += (double)at[j];
    assert_near(ones, 3, 0);
    assert_near(at[((int32_t *)label->data)[i]], 1, 0);
    for (int j = 0; j < 4; j++) assert_true(fabsf(place[j]) <= 1.0001f);
    seen += (double)fabsf(place[3]);
    assert_ok(ctx, elbo_dataset_caption(ds, ELBO_SPLIT_TRAIN, i, &caption));
    assert_true(!!strstr(caption, "left") == (place[0] < -0.5f));
    assert_true(!!strstr(caption, "bottom") == (place[1] > 0.5f));
    assert_true(!!strstr(caption, "large") == (place[2] > 0.4f));
    assert_true(!!strstr(caption, "black background") == (at[SHAPE_KINDS + SHAPE_COLORS + 2] > 0.5f));
  }
  assert_true(seen > 100);
  elbo_array_destroy(&x), elbo_array_destroy(&label), elbo_array_destroy(&v);
  elbo_dataset_destroy(&ds);
  elbo_ctx_destroy(&ctx);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_arrays), cmocka_unit_test(test_files), cmocka_unit_test(test_sequences),
                                     cmocka_unit_test(test_sequences_npz), cmocka_unit_test(test_attributes)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
