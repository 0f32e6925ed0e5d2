// Decoding in bands: no seams, at any height of the bands; memory that is reckoned and kept; refusals.
#include "models/autoencoder_cases.h"

#include "models/tiled_decode.h"

static elbo_ctx *ctx;

#define CONFIG(WIDTHS, DOWN, UP)                                                                                               \
  "{\"_class_name\": \"AutoencoderKL\", \"block_out_channels\": " WIDTHS ", \"norm_num_groups\": 4, \"layers_per_block\": 1, " \
  "\"sample_size\": 16, \"down_block_types\": " DOWN ", \"up_block_types\": " UP "}"
#define DOWN "\"DownEncoderBlock2D\""
#define UP "\"UpDecoderBlock2D\""

// A model directory with random weights, from a configuration's text; weights of norms and biases are no ones and zeros either.
static elbo_model *model_of(const char *name, const char *config) {
  char path[4200];
  codec_config c;
  elbo_graph *g;
  elbo_store *store;
  elbo_model *m;
  arena *a = arena_create(1 << 12);
  const char *folder = test_path(name);
  assert_ok(ctx, directory_make(ctx, folder));
  snprintf(path, sizeof path, "%s/config.json", folder);
  test_write_file(path, config, strlen(config));
  assert_ok(ctx, codec_read(ctx, a, path, &c));
  assert_ok(ctx, autoencoder_graph(ctx, &c, &g));
  assert_ok(ctx, elbo_store_create(ctx, 1, &g, 1, &store));
  test_random r = {test_seed(), 17};
  for (int i = 0; i < store->n; i++)
    for (int64_t k = 0; k < store->entries[i].count; k++)
      if (store->entries[i].shape.rank == 1) store_data(store, i)[k] += (float)(0.4 * test_uniform(&r) - 0.2);
  assert_ok(ctx, autoencoder_write(ctx, folder, &c, "", store));
  elbo_store_destroy(&store);
  elbo_graph_destroy(&g);
  arena_destroy(&a);
  assert_ok(ctx, elbo_model_load(ctx, folder, NULL, &m));
  return m;
}

static elbo_array *codes_of(int64_t n, int64_t h, int64_t w, int64_t c) {
  elbo_array *z;
  test_random r = {test_seed(), 5};
  assert_ok(ctx, elbo_array_create(ctx, ELBO_F32, 4, (int64_t[]){n, h, w, c}, &z));
  for (int64_t i = 0; i < elbo_array_count(z); i++) ((float *)z->data)[i] = (float)(4 * test_uniform(&r) - 2);
  return z;
}

static double largest(const elbo_array *a, const elbo_array *b) {
  double most = 0;
  assert_int_equal(elbo_array_count(a), elbo_array_count(b));
  for (int64_t i = 0; i < elbo_array_count(a); i++) {
    double d = fabs((double)((float *)a->data)[i] - ((float *)b->data)[i]);
    if (!isfinite(d)) fail_msg("number %lld is %g and %g", (long long)i, ((float *)a->data)[i], ((float *)b->data)[i]);
    most = fmax(most, d);
  }
  return most;
}

static void check_tiles(elbo_model *m, const elbo_array *z, int64_t from, int64_t to) {
  elbo_array *whole, *tiled;
  assert_ok(ctx, elbo_decode(m, z, NULL, &whole));
  double spread = 0;
  for (int64_t i = 0; i < elbo_array_count(whole); i++) spread = fmax(spread, fabs((double)((float *)whole->data)[i]));
  assert_true(spread > 0.1);
  for (int64_t tile = from; tile <= to; tile++) {
    elbo_decode_config c;
    elbo_decode_defaults(&c);
    c.tile = tile;
    assert_ok(ctx, elbo_decode_tiled(m, z, &c, &tiled));
    for (int i = 0; i < 4; i++) assert_int_equal(tiled->dim[i], whole->dim[i]);
    const double off = largest(whole, tiled);
    if (!(off <= 1e-4)) fail_msg("bands of %lld rows: off by %g", (long long)tile, off);
    elbo_array_destroy(&tiled);
  }
  elbo_array_destroy(&whole);
}

static void test_seams(void **state) {
  (void)state;
  elbo_model *three = model_of("three", CONFIG("[8, 12, 16]", "[" DOWN ", " DOWN ", " DOWN "]", "[" UP ", " UP ", " UP "]")),
             *one = model_of("one", CONFIG("[8]", "[" DOWN "]", "[" UP "]")),
             *same = model_of("same", CONFIG("[8, 8]", "[" DOWN ", " DOWN "]", "[" UP ", " UP "]"));
  elbo_array *z = codes_of(2, 7, 5, 4); // rows that no band divides
  check_tiles(three, z, 2, 8);
  check_tiles(one, z, 2, 3);
  check_tiles(same, z, 2, 3);
  elbo_array_destroy(&z);
  z = codes_of(2, 1, 5, 4); // fewer rows than a band looks beyond itself
  check_tiles(three, z, 2, 2);
  check_tiles(one, z, 2, 2);
  check_tiles(same, z, 2, 2);
  elbo_array_destroy(&z);
  elbo_model_destroy(&three), elbo_model_destroy(&one), elbo_model_destroy(&same);
}

static void test_memory(void **state) {
  (void)state;
  elbo_model *m = model_of("memory", CONFIG("[16, 16]", "[" DOWN ", " DOWN "]", "[" UP ", " UP "]"));
  elbo_array *z = codes_of(1, 256, 32, 4), *x, *tiled;
  int64_t whole, last = INT64_MAX, planned;
  elbo_decode_config c;
  assert_ok(ctx, tiled_decode_bytes(m, 1, 256, 32, 0, &whole));
  for (int64_t rows = 128; rows >= 2; rows /= 2) { // smaller bands, less memory
    int64_t bytes, lean;
    assert_ok(ctx, tiled_decode_bytes(m, 1, 256, 32, rows, &bytes));
    assert_true(bytes <= last);
    ctx->keep_transformed = 0;
    assert_ok(ctx, tiled_decode_bytes(m, 1, 256, 32, rows, &lean));
    ctx->keep_transformed = -1;
    assert_int_equal(bytes, lean); // no weights are kept transformed
    last = bytes;
  }
  if (!((double)last < 0.7 * (double)whole)) fail_msg("%lld bytes in bands, %lld whole", (long long)last, (long long)whole);
  elbo_decode_defaults(&c);
  c.planned_bytes = &planned;
  c.memory_limit = whole;
  assert_ok(ctx, elbo_decode_tiled(m, z, &c, &x));
  assert_int_equal(planned, whole);
  c.memory_limit = (whole + last) / 2;
  assert_ok(ctx, elbo_decode_tiled(m, z, &c, &tiled));
  assert_true(planned <= c.memory_limit && planned >= last);
  assert_true(largest(x, tiled) <= 1e-4);
  elbo_array_destroy(&x), elbo_array_destroy(&tiled);
  c.memory_limit = last - 1;
  assert_status(ctx, elbo_decode_tiled(m, z, &c, &x), ELBO_ERROR_ARGUMENT, "codes of 256x32 take");
  elbo_array_destroy(&z);
  elbo_model_destroy(&m);
}

static int stop_at_three(void *user, const char *what, int64_t done, int64_t total, const char *text) {
  (void)user, (void)what, (void)text;
  assert_true(done <= total);
  return done < 3;
}

static int count_all(void *user, const char *what, int64_t done, int64_t total, const char *text) {
  (void)what, (void)text;
  *(int64_t *)user = total - done;
  return 1;
}

static void test_refused(void **state) {
  (void)state;
  elbo_model *m = model_of("plain", CONFIG("[8, 8]", "[" DOWN ", " DOWN "]", "[" UP ", " UP "]")),
             *attends = model_of("attends", CONFIG("[8]", "[" DOWN "]", "[\"AttnUpDecoderBlock2D\"]")), *vq;
  elbo_array *z = codes_of(1, 6, 6, 4), *x, *wrong = codes_of(1, 6, 6, 3);
  elbo_decode_config c;
  elbo_decode_defaults(&c);
  c.tile = 2;
  assert_status(ctx, elbo_decode_tiled(attends, z, &c, &x), ELBO_ERROR_UNSUPPORTED, "decode: tile: AttnUpDecoderBlock2D attends");
  assert_status(ctx, elbo_decode_tiled(m, wrong, &c, &x), ELBO_ERROR_ARGUMENT, "decode: (n,height,width,4)");
  assert_ok(ctx, elbo_model_load(ctx, test_repository_file("tests/golden/autoencoders/vq"), NULL, &vq));
  assert_status(ctx, elbo_decode_tiled(vq, wrong, &c, &x), ELBO_ERROR_UNSUPPORTED, "only an AutoencoderKL");
  c.progress = stop_at_three;
  assert_status(ctx, elbo_decode_tiled(m, z, &c, &x), ELBO_ERROR_STOPPED, "stopped");
  assert_null(x);
  int64_t left = -1;
  c.progress = count_all, c.progress_user = &left;
  assert_ok(ctx, elbo_decode_tiled(m, z, &c, &x));
  assert_int_equal(left, 0);
  elbo_array_destroy(&x);
  c.tile = 1;
  assert_status(ctx, elbo_decode_tiled(m, z, &c, &x), ELBO_ERROR_ARGUMENT, "tile: 1 rows; at least 2");
  c.tile = -3;
  assert_status(ctx, elbo_decode_tiled(m, z, &c, &x), ELBO_ERROR_ARGUMENT, "tile: -3 rows");
  elbo_array_destroy(&z), elbo_array_destroy(&wrong);
  elbo_model_destroy(&m), elbo_model_destroy(&attends), elbo_model_destroy(&vq);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_seams), cmocka_unit_test(test_memory), cmocka_unit_test(test_refused)};
  ctx = test_ctx(1);
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  elbo_ctx_destroy(&ctx);
  return failed;
}
