// Built-in sets with a known truth: the shapes are what their captions say, the densities integrate to one and their samples follow them.
#include <elbo/dataset.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/philox.h"
#include "data/shapes.h"
#include "support/test.h"

// Pictures whose six attributes the reader all gets right, of n.
static int read_right(int n, int side, double rotation, const char *stream, bool lie) {
  float *scratch = malloc((size_t)(2 * side * side) * sizeof *scratch);
  uint8_t *rgb = malloc((size_t)(3 * side * side));
  int right = 0;
  for (int i = 0; i < n; i++) {
    shape_scene scene, got = {0};
    shape_scene_draw(test_seed(), philox_stream(stream), (uint64_t)i, rotation, &scene);
    shape_render(&scene, side, 3, scratch, rgb);
    if (lie) scene.column = (scene.column + 1) % 3;
    right += shape_read(rgb, side, rotation, scratch, &got) && got.kind == scene.kind && got.size == scene.size && got.row == scene.row &&
             got.column == scene.column && got.color == scene.color && got.background == scene.background;
  }
  free(scratch), free(rgb);
  return right;
}

static void reader_is_right(void **state) {
  (void)state;
  assert_true(read_right(1000, 64, 0, "shapes.test", false) >= 990);
  assert_true(read_right(300, 64, 12, "shapes.test", false) >= 297);
  assert_true(read_right(500, 32, 0, "shapes.valid", false) >= 495);
  assert_int_equal(read_right(100, 64, 0, "shapes.test", true), 0); // a wrong attribute is seen
}

static void scenes_are_as_documented(void **state) {
  (void)state;
  int kinds[SHAPE_KINDS] = {0}, sizes[3] = {0}, cells[9] = {0}, colors[SHAPE_COLORS] = {0}, grounds[SHAPE_BACKGROUNDS] = {0};
  int n = 9000;
  for (int i = 0; i < n; i++) {
    shape_scene s;
    double low, high;
    shape_scene_draw(test_seed(), 1, (uint64_t)i, 10, &s);
    shape_size_range(s.size, &low, &high);
    assert_true(s.radius >= low && s.radius <= high);
    assert_true(s.x - s.radius >= 0 && s.x + s.radius <= 1 && s.y - s.radius >= 0 && s.y + s.radius <= 1); // inside the picture
    assert_true(fabs(s.x - shape_cell_center(s.column)) <= 0.03 && fabs(s.y - shape_cell_center(s.row)) <= 0.03);
    assert_true(fabs(s.angle) <= 10 * 3.1416 / 180);
    kinds[s.kind]++, sizes[s.size]++, cells[s.row * 3 + s.column]++, colors[s.color]++, grounds[s.background]++;
  }
  for (int k = 0; k < SHAPE_KINDS; k++) assert_near(kinds[k], n / 6.0, 5 * sqrt(n / 6.0));
  for (int k = 0; k < 3; k++) assert_near(sizes[k], n / 3.0, 5 * sqrt(n / 3.0));
  for (int k = 0; k < 9; k++) assert_near(cells[k], n / 9.0, 5 * sqrt(n / 9.0));
  for (int k = 0; k < SHAPE_COLORS; k++) assert_near(colors[k], n / 8.0, 5 * sqrt(n / 8.0));
  for (int k = 0; k < SHAPE_BACKGROUNDS; k++) assert_near(grounds[k], n / 3.0, 5 * sqrt(n / 3.0));
}

// The covered pixels add up to the area of the figure: what anti-aliasing is for.
static void coverage_is_area(void **state) {
  (void)state;
  float coverage[64 * 64];
  for (int kind = 0; kind < SHAPE_KINDS; kind++)
    for (int i = 0; i < 5; i++) {
      shape_scene s = {.kind = kind, .x = 0.5 + 0.003 * i, .y = 0.47, .radius = 0.2, .angle = 0.04 * i};
      double sum = 0, exact = shape_unit_area(kind) * 0.2 * 0.2 * 64 * 64;
      shape_coverage(&s, 64, coverage);
      for (int p = 0; p < 64 * 64; p++) sum += (double)coverage[p];
      assert_near(sum / exact, 1, 0.01);
    }
}

static void shapes_are_a_data_set(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(2);
  elbo_dataset *ds;
  elbo_dataset_info info;
  elbo_array *x, *label, *again;
  const char *caption;
  assert_ok(ctx, elbo_dataset_open(ctx, "shapes:size=32,train=40,test=30", 1, (const char *const[]){"holdout=20"}, &ds));
  elbo_dataset_get_info(ds, &info);
  assert_string_equal(info.format, "shapes");
  assert_int_equal(info.height, 32);
  assert_int_equal(info.count[0], 40);
  assert_int_equal(info.count[1], 20);
  assert_int_equal(info.count[2], 30);
  assert_int_equal(info.classes, 6);
  assert_int_equal(info.captions, 1);
  assert_ok(ctx, elbo_dataset_read(ds, ELBO_SPLIT_TEST, 0, 30, 0, 0, &x, &label));
  assert_ok(ctx, elbo_dataset_read(ds, ELBO_SPLIT_TRAIN, 0, 30, 0, 0, &again, NULL));
  assert_true(memcmp(x->data, again->data, elbo_array_bytes(x)) != 0);
  elbo_array_destroy(&again);
  elbo_array *picture;
  assert_ok(ctx, elbo_array_create(ctx, ELBO_U8, 3, (int64_t[]){32, 32, 3}, &picture));
  for (int i = 0; i < 30; i++) {
    char text[128];
    for (int p = 0; p < 3072; p++) ((uint8_t *)picture->data)[p] = (uint8_t)(((float *)x->data)[i * 3072 + p] * 255 + 0.5f);
    assert_ok(ctx, elbo_dataset_caption(ds, ELBO_SPLIT_TEST, i, &caption));
    assert_ok(ctx, elbo_shapes_read(ctx, picture, text, sizeof text));
    assert_string_equal(text, caption);
    assert_non_null(strstr(caption, info.class_names[((int32_t *)label->data)[i]]));
  }
  memset(picture->data, 128, 3072);
  char text[128];
  assert_status(ctx, elbo_shapes_read(ctx, picture, text, sizeof text), ELBO_ERROR_FORMAT, "nothing differs");
  elbo_array_destroy(&picture), elbo_array_destroy(&x), elbo_array_destroy(&label);
  elbo_dataset_destroy(&ds);
  assert_ok(ctx, elbo_dataset_open(ctx, "shapes:train=5", 2, (const char *const[]){"size=16", "channels=1"}, &ds));
  elbo_dataset_get_info(ds, &info);
  assert_int_equal(info.height * info.channels, 16);
  elbo_dataset_destroy(&ds);
  assert_status(ctx, elbo_dataset_open(ctx, "shapes:colour=red", 0, NULL, &ds), ELBO_ERROR_ARGUMENT, "colour");
  assert_status(ctx, elbo_dataset_open(ctx, "shapes:size=4", 0, NULL, &ds), ELBO_ERROR_ARGUMENT, "size");
  elbo_ctx_destroy(&ctx);
}

// Integrals of p and of -p log p over [-5,5]^2 (rings have a pole-free, wide enough range) by the midpoint rule, against 1 and against the
// mean of -log p over samples.
static void densities_are_densities(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  static const struct {
    const char *spec;
    int grid;
    double tol;
  } CASES[] = {
      {"rings:width=0.15", 300, 1e-3}, {"spirals:width=0.2", 80, 1e-3}, {"checkerboard", 200, 1e-9}, {"gaussians8:width=0.25", 200, 1e-6}};
  for (size_t k = 0; k < 4; k++) {
    int grid = CASES[k].grid;
    int64_t n = (int64_t)grid * grid, m = 4000;
    elbo_array *x, *p, *s, *q;
    assert_ok(ctx, elbo_array_create(ctx, ELBO_F32, 2, (int64_t[]){n, 2}, &x));
    for (int64_t i = 0; i < n; i++) {
      ((float *)x->data)[2 * i] = (float)(10 * ((double)(i % grid) + 0.5) / grid - 5);
      ((float *)x->data)[2 * i + 1] = (float)(10 * ((double)(i / grid) + 0.5) / grid - 5);
    }
    assert_ok(ctx, elbo_density_log_prob(ctx, CASES[k].spec, x, &p));
    double total = 0, entropy = 0, cell = 100.0 / (double)n, mean = 0, square = 0;
    for (int64_t i = 0; i < n; i++) {
      double v = ((double *)p->data)[i];
      total += exp(v) * cell;
      if (v > -700) entropy -= exp(v) * v * cell;
    }
    print_message("%s: integral %.9f entropy %.6f nats\n", CASES[k].spec, total, entropy);
    assert_near(total, 1, CASES[k].tol);
    assert_ok(ctx, elbo_density_sample(ctx, CASES[k].spec, m, test_seed(), &s));
    assert_ok(ctx, elbo_density_log_prob(ctx, CASES[k].spec, s, &q));
    for (int64_t i = 0; i < m; i++) {
      double v = -((double *)q->data)[i];
      mean += v / (double)m, square += v * v / (double)m;
    }
    assert_near(mean, entropy, 5 * sqrt(fmax(0, square - mean * mean) / (double)m) + 2e-3);
    elbo_array_destroy(&x), elbo_array_destroy(&p), elbo_array_destroy(&s), elbo_array_destroy(&q);
  }
  elbo_dataset *ds;
  elbo_dataset_info info;
  assert_ok(ctx, elbo_dataset_open(ctx, "rings:train=100,width=0.05", 0, NULL, &ds));
  elbo_dataset_get_info(ds, &info);
  assert_int_equal(info.channels, 2);
  assert_int_equal(info.bits, 0);
  assert_int_equal(info.count[2], 10000);
  elbo_dataset_destroy(&ds);
  elbo_array *bad;
  assert_status(ctx, elbo_density_sample(ctx, "moons", 5, 0, &bad), ELBO_ERROR_ARGUMENT, "moons");
  assert_status(ctx, elbo_density_sample(ctx, "rings:width=9", 5, 0, &bad), ELBO_ERROR_ARGUMENT, "width");
  elbo_ctx_destroy(&ctx);
}

// How densities differ from a wrong one must show: samples of one width judged by another do not give that width's entropy.
static void wrong_densities_are_noticed(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  elbo_array *s, *right, *wrong;
  double a = 0, b = 0;
  assert_ok(ctx, elbo_density_sample(ctx, "gaussians8:width=0.2", 4000, test_seed(), &s));
  assert_ok(ctx, elbo_density_log_prob(ctx, "gaussians8:width=0.2", s, &right));
  assert_ok(ctx, elbo_density_log_prob(ctx, "gaussians8:width=0.25", s, &wrong));
  for (int i = 0; i < 4000; i++) a += ((double *)right->data)[i] / 4000, b += ((double *)wrong->data)[i] / 4000;
  assert_true(a > b + 0.02);
  elbo_array_destroy(&s), elbo_array_destroy(&right), elbo_array_destroy(&wrong);
  elbo_ctx_destroy(&ctx);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(reader_is_right),       cmocka_unit_test(scenes_are_as_documented), cmocka_unit_test(coverage_is_area),
      cmocka_unit_test(shapes_are_a_data_set), cmocka_unit_test(densities_are_densities),  cmocka_unit_test(wrong_densities_are_noticed),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
