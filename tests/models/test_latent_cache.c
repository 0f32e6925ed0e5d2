// Codes of the training examples in a file: what is in it, when it is used again and when it is made anew, what stops it; which
// autoencoders fit which pictures.
#include "models/latent_cases.h"

#include <sys/stat.h>
#include <unistd.h>

#include "core/file.h"
#include "core/safetensors.h"
#include "data/dataset.h"
#include "graph/store.h"

static elbo_ctx *ctx;
static arena *memory;
static char logged[2048];

static void keep(void *user, elbo_log_level level, const char *text) {
  (void)user, (void)level;
  snprintf(logged, sizeof logged, "%s", text);
}

typedef struct fixture {
  elbo_model *autoencoder;
  elbo_dataset *data;
  elbo_array *x, *label;
  data_config transforms;
  latent_cache_request request;
  int calls, stop_at;
} fixture;

static int watch(void *user, const char *what, int64_t done, int64_t total, const char *text) {
  fixture *f = user;
  (void)text;
  assert_string_equal(what, "encode");
  assert_true(done > 0 && done <= total);
  return ++f->calls != f->stop_at;
}

static void open_data(fixture *f) {
  elbo_dataset_destroy(&f->data);
  const char *options[] = {"holdout=4"};
  assert_ok(ctx, elbo_dataset_from_arrays(ctx, f->x, f->label, 1, options, &f->data));
  f->request.data = f->data;
}

static fixture fixture_of(const char *kind, const char *name) {
  fixture f = {0};
  assert_ok(ctx, elbo_model_load(ctx, case_autoencoder(kind, name), NULL, &f.autoencoder));
  f.x = case_pictures(ctx, CASE_EXAMPLES), f.label = case_labels(ctx, CASE_EXAMPLES);
  f.request = (latent_cache_request){.progress = watch};
  assert_ok(ctx, latent_space_create(ctx, memory, f.autoencoder, &(picture_shape){CASE_SIDE, CASE_SIDE, 3}, 8, "test", &f.request.space));
  f.request.moments = f.request.space->posterior;
  open_data(&f);
  return f;
}

static void close_fixture(fixture *f) {
  elbo_array_destroy(&f->x), elbo_array_destroy(&f->label);
  elbo_dataset_destroy(&f->data);
  elbo_model_destroy(&f->autoencoder);
}

// How many batches were encoded.
static int open_cache(fixture *f, const char *run, elbo_dataset **out) {
  f->calls = 0, f->request.progress_user = f, f->request.transforms = &f->transforms, *logged = 0;
  assert_ok(ctx, latent_cache_open(ctx, run, &f->request, out));
  return f->calls;
}

static elbo_array *rows_of(elbo_dataset *codes, elbo_array **label) {
  elbo_array *x;
  assert_ok(ctx, elbo_dataset_read(codes, ELBO_SPLIT_TRAIN, 0, 1000, 0, 0, &x, label));
  return x;
}

// --- contents ---

// Mean and deviation of z of each channel over all rows
static void measure(const elbo_array *rows, int64_t channels, bool moments, double *mean, double *deviation) {
  const float *v = rows->data;
  int64_t wide = moments ? 2 * channels : channels, n = elbo_array_count(rows) / wide;
  for (int64_t k = 0; k < channels; k++) {
    double sum = 0, square = 0;
    for (int64_t p = 0; p < n; p++) {
      double m = (double)v[p * wide + k], d = moments ? (double)v[p * wide + channels + k] : 0;
      sum += m, square += m * m + d * d;
    }
    mean[k] = sum / (double)n, deviation[k] = sqrt(square / (double)n - mean[k] * mean[k]);
  }
}

// Rows are what the encoder says of each example, times one factor that gives all of them a deviation of 1.
static void test_rows(void **state) {
  (void)state;
  static const char *const kinds[] = {"kl", "vq", "tiny"};
  for (int i = 0; i < 3; i++) {
    fixture f = fixture_of(kinds[i], kinds[i]);
    elbo_dataset *codes;
    elbo_dataset_info info;
    elbo_array *label, *x, *told;
    elbo_named_array in = {"x", NULL}, out[2] = {{i ? "latents" : "mean", NULL}, {"logvar", NULL}};
    assert_int_equal(open_cache(&f, test_path("rows"), &codes), 1);
    elbo_array *rows = rows_of(codes, &label);
    elbo_dataset_get_info(codes, &info);
    assert_int_equal(info.classes, 3);
    assert_ok(ctx, elbo_dataset_read(f.data, ELBO_SPLIT_TRAIN, 0, 100, 0, 0, &x, &told));
    assert_int_equal(rows->dim[0], 20);
    assert_memory_equal(label->data, told->data, 20 * 4);
    for (int64_t k = 0; k < elbo_array_count(x); k++) ((float *)x->data)[k] = 2 * ((float *)x->data)[k] - 1;
    in.array = x;
    assert_ok(ctx, elbo_apply(ctx, test_path(kinds[i]), 1, &in, i ? 1 : 2, out));
    const int64_t c = out[0].array->dim[3], wide = rows->dim[3], n = elbo_array_count(out[0].array);
    assert_int_equal(wide, i ? c : 2 * c);
    double sum = 0, square = 0;
    const float *mean = out[0].array->data, *logvar = i ? NULL : out[1].array->data;
    for (int64_t k = 0; k < n; k++) sum += (double)mean[k], square += (double)mean[k] * (double)mean[k] + (i ? 0 : exp((double)logvar[k]));
    const double scale = 1 / sqrt(square / (double)n - sum / (double)n * sum / (double)n);
    assert_near((double)f.request.space->scale[0], scale, 1e-4 * scale);
    float *want = malloc(elbo_array_bytes(rows));
    for (int64_t k = 0; k < n; k++) {
      want[k / c * wide + k % c] = (float)((double)mean[k] * scale);
      if (!i) want[k / c * wide + c + k % c] = (float)(exp(0.5 * (double)logvar[k]) * scale);
    }
    assert_close(rows->data, want, elbo_array_count(rows), 1e-5);
    free(want);
    elbo_array_destroy(&rows), elbo_array_destroy(&label), elbo_array_destroy(&x), elbo_array_destroy(&told);
    elbo_array_destroy(&out[0].array), elbo_array_destroy(&out[1].array);
    elbo_dataset_destroy(&codes);
    close_fixture(&f);
    assert_ok(ctx, directory_remove(ctx, test_path("rows")));
  }
}

// Channel by channel: each about 0 with a deviation of 1, mirror images included, and back to pictures all the same.
static void test_channels(void **state) {
  (void)state;
  fixture f = fixture_of("kl", "channels-kl");
  elbo_dataset *codes;
  elbo_array *x, *again, *mean, *plain, *told;
  double m[2], d[2];
  f.request.scaling = LATENT_SCALE_CHANNEL, f.transforms.flip = true;
  assert_int_equal(open_cache(&f, NULL, &codes), 1);
  elbo_array *rows = rows_of(codes, &told);
  assert_int_equal(rows->dim[0], 40);
  measure(rows, 2, true, m, d);
  for (int k = 0; k < 2; k++) assert_near(m[k], 0, 1e-4), assert_near(d[k], 1, 1e-4);
  assert_true(fabs((double)(f.request.space->scale[0] - f.request.space->scale[1])) > 1e-3);
  assert_true(fabs((double)f.request.space->shift[0]) > 1e-3);
  // the second half are the codes of mirrored pictures, not mirrored codes
  assert_ok(ctx, elbo_dataset_read(f.data, ELBO_SPLIT_TRAIN, 0, 100, 0, 0, &x, NULL));
  float *v = x->data;
  for (int64_t r = 0; r < 20 * CASE_SIDE; r++)
    for (int64_t a = 0; a < CASE_SIDE / 2; a++)
      for (int64_t c = 0; c < 3; c++) {
        float *left = &v[(r * CASE_SIDE + a) * 3 + c], *right = &v[(r * CASE_SIDE + CASE_SIDE - 1 - a) * 3 + c], t = *left;
        *left = *right, *right = t;
      }
  assert_ok(ctx, latent_encode(f.request.space, x, &mean, NULL));
  float got[16 * 2];
  for (int64_t i = 0; i < 20; i++) {
    for (int64_t k = 0; k < 32; k++) got[k] = ((float *)rows->data)[((20 + i) * 16 + k / 2) * 4 + k % 2];
    assert_close(got, (float *)mean->data + i * 32, 32, 1e-5);
    assert_int_equal(((int32_t *)told->data)[i], ((int32_t *)told->data)[20 + i]);
  }
  assert_ok(ctx, latent_decode(f.request.space, mean, NULL, NULL, &again));
  for (int64_t k = 0; k < elbo_array_count(mean); k++) {
    float *z = (float *)mean->data + k;
    *z = *z / f.request.space->scale[k % 2] + f.request.space->shift[k % 2];
  }
  elbo_named_array in = {"z", mean}, out = {"sample", NULL};
  assert_ok(ctx, elbo_apply(ctx, test_path("channels-kl"), 1, &in, 1, &out));
  plain = out.array;
  for (int64_t k = 0; k < elbo_array_count(plain); k++) ((float *)plain->data)[k] = fminf(fmaxf(((float *)plain->data)[k], -1), 1);
  assert_close(again->data, plain->data, elbo_array_count(plain), 1e-5);
  elbo_array_destroy(&rows), elbo_array_destroy(&x), elbo_array_destroy(&mean), elbo_array_destroy(&again), elbo_array_destroy(&plain);
  elbo_array_destroy(&told);
  elbo_dataset_destroy(&codes);
  close_fixture(&f);
}

// What each example is told goes with its code.
static void test_conditions(void **state) {
  (void)state;
  fixture f = fixture_of("kl", "conditions-kl");
  elbo_dataset *codes;
  elbo_array *vectors, *got, *want;
  assert_ok(ctx, elbo_array_create(ctx, ELBO_F32, 2, (int64_t[]){CASE_EXAMPLES, 2}, &vectors));
  for (int64_t i = 0; i < 2 * CASE_EXAMPLES; i++) ((float *)vectors->data)[i] = (float)i;
  elbo_array_destroy(&f.label);
  f.label = vectors;
  open_data(&f);
  open_cache(&f, test_path("conditions"), &codes);
  assert_ok(ctx, elbo_dataset_read_condition(codes, ELBO_SPLIT_TRAIN, 0, 100, 0, 0, &got));
  assert_ok(ctx, elbo_dataset_read_condition(f.data, ELBO_SPLIT_TRAIN, 0, 100, 0, 0, &want));
  assert_int_equal(got->dim[0], 20);
  assert_memory_equal(got->data, want->data, elbo_array_bytes(want));
  elbo_array_destroy(&got), elbo_array_destroy(&want);
  elbo_dataset_destroy(&codes);
  close_fixture(&f);
}

// --- when it is made ---

static void expect_anew(fixture *f, const char *run, const char *why) {
  elbo_dataset *codes;
  int calls = open_cache(f, run, &codes);
  if (!calls || !strstr(logged, why)) fail_msg("%s: %d batches encoded, \"%s\"", why, calls, logged);
  elbo_dataset_destroy(&codes);
  calls = open_cache(f, run, &codes);
  if (calls) fail_msg("%s: encoded again, \"%s\"", why, logged);
  elbo_dataset_destroy(&codes);
}

static void test_stale(void **state) {
  (void)state;
  fixture f = fixture_of("kl", "stale-kl");
  char run[512], file[600];
  snprintf(run, sizeof run, "%s", test_path("stale"));
  snprintf(file, sizeof file, "%s/latents/train.safetensors", run);
  expect_anew(&f, run, "encoding the training examples once, codes (4,4,2) of pictures (8,8,3)");
  open_data(&f); // the same data, opened again
  elbo_dataset *codes;
  assert_int_equal(open_cache(&f, run, &codes), 0);
  elbo_dataset_destroy(&codes);
  ((uint8_t *)f.x->data)[5 * 192 + 3] ^= 1; // one pixel
  open_data(&f);
  expect_anew(&f, run, "made from another data");
  ((int32_t *)f.label->data)[5] = 2 - ((int32_t *)f.label->data)[5];
  open_data(&f);
  expect_anew(&f, run, "made from another data");
  f.transforms.flip = true;
  expect_anew(&f, run, "made from another transforms");
  f.request.moments = false;
  expect_anew(&f, run, "made from another options");
  f.request.scaling = LATENT_SCALE_CHANNEL;
  expect_anew(&f, run, "made from another options");
  elbo_model_destroy(&f.autoencoder); // one weight
  char shift[1200];
  snprintf(shift, sizeof shift,
           "printf '\\101' | dd of='%s/diffusion_pytorch_model.safetensors' bs=1 conv=notrunc seek=$(($(stat -c %%s "
           "'%s/diffusion_pytorch_model.safetensors') - 3)) 2>/dev/null",
           test_path("stale-kl"), test_path("stale-kl"));
  assert_int_equal(test_run(shift, NULL), 0);
  assert_ok(ctx, elbo_model_load(ctx, test_path("stale-kl"), NULL, &f.autoencoder));
  f.request.space->autoencoder = f.autoencoder;
  expect_anew(&f, run, "made from another autoencoder");
  elbo_model_destroy(&f.autoencoder); // the same weights, which do something else
  snprintf(shift, sizeof shift, "sed -i 's/\"act_fn\": \"silu\"/\"act_fn\": \"relu\"/' '%s/config.json'", test_path("stale-kl"));
  assert_int_equal(test_run(shift, NULL), 0);
  assert_ok(ctx, elbo_model_load(ctx, test_path("stale-kl"), NULL, &f.autoencoder));
  f.request.space->autoencoder = f.autoencoder;
  expect_anew(&f, run, "made from another autoencoder");
  assert_int_equal(truncate(file, 3000), 0);
  expect_anew(&f, run, "another file, which cannot be read,");
  close_fixture(&f);
}

// The file of a run again, with number `row` of one of its tensors replaced.
static void forge(const char *path, const char *name, int64_t row, double value) {
  static const char *const made[] = {"format", "autoencoder", "data", "transforms", "options"};
  safetensors *file;
  tensor_view view[5];
  const char *meta[10];
  char forged[700];
  int n = 0;
  assert_ok(ctx, safetensors_open(ctx, path, &file));
  for (int k = 0; k < 5; k++) meta[2 * k] = made[k], meta[2 * k + 1] = safetensors_metadata(file, made[k]);
  void *copy = NULL;
  for (int k = 0; k < 5; k++) {
    static const char *const names[] = {"codes", "example", "label", "scale", "shift"};
    const tensor_view *v = safetensors_find(file, names[k]);
    view[n] = *v;
    if (!strcmp(names[k], name)) {
      copy = malloc(v->bytes);
      memcpy(copy, v->data, v->bytes);
      if (v->dtype == ELBO_I64) ((int64_t *)copy)[row] = (int64_t)value;
      if (v->dtype == ELBO_I32) ((int32_t *)copy)[row] = (int32_t)value;
      if (v->dtype == ELBO_F32) ((float *)copy)[row] = (float)value;
      view[n].data = copy;
    }
    n++;
  }
  snprintf(forged, sizeof forged, "%s.forged", path);
  assert_ok(ctx, safetensors_write(ctx, forged, n, view, 5, meta));
  safetensors_close(&file);
  free(copy);
  assert_int_equal(rename(forged, path), 0);
}

// A file that says it is of the same, but whose rows lead out of the data: it is made anew, and nothing is read out of bounds.
static void test_forged(void **state) {
  (void)state;
  static const struct {
    const char *name;
    int64_t row;
    double value;
  } lies[] = {{"example", 3, 1e6}, {"example", 0, -1}, {"label", 19, 1e6},    {"label", 0, -1},
              {"scale", 1, 0},     {"scale", 0, NAN},  {"shift", 1, INFINITY}};
  fixture f = fixture_of("kl", "forged-kl");
  char run[512], file[600];
  snprintf(run, sizeof run, "%s", test_path("forged"));
  snprintf(file, sizeof file, "%s/latents/train.safetensors", run);
  expect_anew(&f, run, "encoding the training examples once");
  for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
    forge(file, lies[i].name, lies[i].row, lies[i].value);
    expect_anew(&f, run, "another file, which is of another form,");
  }
  close_fixture(&f);
}

static void test_stopped(void **state) {
  (void)state;
  fixture f = fixture_of("kl", "stopped-kl");
  elbo_dataset *codes = NULL;
  char command[700], *listed;
  f.stop_at = 1, f.request.progress_user = &f, f.request.transforms = &f.transforms;
  assert_status(ctx, latent_cache_open(ctx, test_path("stopped"), &f.request, &codes), ELBO_ERROR_STOPPED, "20 of 20 examples");
  assert_null(codes);
  snprintf(command, sizeof command, "find '%s' -type f", test_path("stopped"));
  assert_int_equal(test_run(command, &listed), 0);
  assert_string_equal(listed, "");
  free(listed);
  f.stop_at = 0;
  assert_int_equal(open_cache(&f, test_path("stopped"), &codes), 1);
  elbo_dataset_destroy(&codes);
  close_fixture(&f);
}

// --- which autoencoders ---

static void test_shapes(void **state) {
  (void)state;
  latent_space *s;
  elbo_model *kl, *vae = NULL;
  assert_ok(ctx, elbo_model_load(ctx, case_autoencoder("kl", "shapes-kl"), NULL, &kl));
  assert_status(ctx, latent_space_create(ctx, memory, kl, &(picture_shape){8, 8, 1}, 8, "here", &s), ELBO_ERROR_ARGUMENT,
                "here: this autoencoder is of pictures (8,8,3); these are (8,8,1)");
  assert_status(ctx, latent_space_create(ctx, memory, kl, &(picture_shape){9, 8, 3}, 8, "here", &s), ELBO_ERROR_ARGUMENT,
                "pictures (9,8,3) become codes (4,4,2), and those (8,8,3)");
  assert_ok(ctx, latent_space_create(ctx, memory, kl, &(picture_shape){12, 8, 3}, 8, "here", &s));
  assert_int_equal(s->code.height, 6);
  assert_near((double)s->scale[1], 0.18215, 1e-7);
  elbo_model_destroy(&kl);
  assert_ok(ctx, elbo_model_load(ctx, test_repository_file("tests/golden/pipelines/ddim"), NULL, &vae));
  assert_status(ctx, latent_space_create(ctx, memory, vae, &(picture_shape){8, 8, 1}, 8, "here", &s), ELBO_ERROR_UNSUPPORTED,
                "here: a model of another kind (diffusion); an autoencoder was expected");
  elbo_model_destroy(&vae);
  data_config t = {.crop = 4};
  assert_status(ctx, latent_cache_check(ctx, &t, "r.yaml"), ELBO_ERROR_ARGUMENT, "r.yaml: data.crop");
  t = (data_config){.binarize = BINARIZE_DYNAMIC};
  assert_status(ctx, latent_cache_check(ctx, &t, "r.yaml"), ELBO_ERROR_ARGUMENT, "r.yaml: data.binarize: dynamic");
  t = (data_config){.dequantize = DEQUANTIZE_UNIFORM};
  assert_status(ctx, latent_cache_check(ctx, &t, "r.yaml"), ELBO_ERROR_ARGUMENT, "r.yaml: data.dequantize: uniform");
}

static int set_up(void **state) {
  (void)state;
  elbo_ctx_config config;
  elbo_ctx_defaults(&config);
  config.threads = 1, config.log = keep;
  memory = arena_create(1 << 14);
  return elbo_ctx_create(&config, NULL, 0, &ctx) == ELBO_OK && memory ? 0 : -1;
}

static int tear_down(void **state) {
  (void)state;
  arena_destroy(&memory);
  elbo_ctx_destroy(&ctx);
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows),  cmocka_unit_test(test_channels), cmocka_unit_test(test_conditions),
                                     cmocka_unit_test(test_stale), cmocka_unit_test(test_forged),   cmocka_unit_test(test_stopped),
                                     cmocka_unit_test(test_shapes)};
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
