// LPIPS on VGG-16 against PyTorch's operations, on weights that both sides make from their names (tests/golden/make_lpips.py), read from
// files as the common weights are; and files that are something else.
#include "models/lpips.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/perceptual.h"
#include "support/named_weights.h"

static const int convolutions[] = {0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28}; // torchvision's numbers
static const int64_t channels[] = {3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512};
enum { CONVOLUTIONS = 13 };

// net: the names of the lpips package instead of torchvision's; both come from the latter's in the golden file.
static void make_vgg(named_weights *w, bool net) {
  memset(w, 0, sizeof *w);
  for (int i = 0; i < CONVOLUTIONS; i++) {
    static const int last[] = {2, 7, 14, 21, 28};
    char stem[64];
    const int64_t dim[4] = {channels[i + 1], channels[i], 3, 3};
    int slice = 0;
    while (convolutions[i] > last[slice]) slice++;
    snprintf(stem, sizeof stem, "features.%d", convolutions[i]);
    named_add(w, stem, ".weight", 4, dim, sqrt(6.0 / (double)(9 * channels[i])), 0);
    named_add(w, stem, ".bias", 1, dim, 0.1, 0);
    for (int k = 0; net && k < 2; k++)
      snprintf(w->name[w->n - 2 + k], sizeof w->name[0], "net.slice%d.%d.%s", slice + 1, convolutions[i], k ? "bias" : "weight");
  }
}

static void add_linear(named_weights *w) {
  for (int l = 0; l < VGG_LEVELS; l++) {
    char stem[32];
    snprintf(stem, sizeof stem, "lin%d", l);
    named_add(w, stem, ".model.1.weight", 4, (int64_t[]){1, vgg_channels(l), 1, 1}, 0.5, 0.5);
  }
}

static void fill(float *to, int64_t n, const char *name) {
  for (int64_t i = 0; i < n; i++) to[i] = (float)named_uniform(name, (uint32_t)i) / 2 + 0.5f;
}

// The distance of two pictures by names, against the golden's; slope: NULL, or of its gradient by the second.
static void compare(elbo_ctx *ctx, const perceptual *p, int64_t n, const picture_shape *s, const char *pictures, const char *want,
                    const char *slope) {
  const int64_t dim[4] = {n, s->height, s->width, s->channels}, size = n * s->height * s->width * s->channels;
  float *a = malloc(2 * (size_t)size * sizeof *a), *b = a + size;
  elbo_graph *g;
  elbo_store *store;
  elbo_plan *plan;
  safetensors *golden;
  char name[64];
  assert_non_null(a);
  assert_ok(ctx, elbo_graph_create(ctx, "lpips", &g));
  elbo_tensor *x = elbo_input(g, "x", ELBO_F32, 4, dim), *y = elbo_input(g, "y", ELBO_F32, 4, dim);
  elbo_tensor *outputs[2] = {perceptual_distance(p, x, y), NULL};
  assert_ok(ctx, elbo_graph_check(g));
  assert_ok(ctx, elbo_gradient(outputs[0], 1, &y, &outputs[1]));
  assert_ok(ctx, elbo_store_create(ctx, 1, &g, 0, &store));
  assert_ok(ctx, perceptual_fill(p, store));
  assert_ok(ctx, elbo_plan_create(ctx, g, 2, outputs, NULL, &plan));
  snprintf(name, sizeof name, "%s.x", pictures);
  fill(a, size, name);
  snprintf(name, sizeof name, "%s.y", pictures);
  fill(b, size, name);
  assert_ok(ctx, elbo_plan_set(plan, "x", a, size));
  assert_ok(ctx, elbo_plan_set(plan, "y", b, size));
  assert_ok(ctx, elbo_plan_run(plan, store));
  assert_ok(ctx, safetensors_open(ctx, test_repository_file("tests/golden/lpips.safetensors"), &golden));
  assert_non_null(safetensors_find(golden, want));
  assert_close(elbo_plan_output(plan, 0), safetensors_find(golden, want)->data, n, 1e-4);
  if (slope) {
    float most = 0;
    const float *of = safetensors_find(golden, slope)->data, *got = elbo_plan_output(plan, 1);
    for (int64_t i = 0; i < size; i++) most = fmaxf(most, fabsf(of[i]));
    // rounding may open or close a gate of a ReLU next to zero, or turn a maximum: then the slopes of one patch around it differ
    int64_t apart = 0;
    for (int64_t i = 0; i < size; i++) apart += fabsf(got[i] - of[i]) > 2e-4f * most;
    for (int64_t i = 0; i < size; i++) assert_near(got[i], of[i], 0.1 * most);
    if (apart > size / 32) fail_msg("%lld of %lld slopes are off", (long long)apart, (long long)size);
  }
  safetensors_close(&golden);
  elbo_plan_destroy(&plan);
  elbo_store_destroy(&store);
  elbo_graph_destroy(&g);
  free(a);
}

static const picture_shape rgb = {24, 32, 3}, grey = {16, 20, 1};

static void test_distance(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(0);
  named_weights *w = calloc(1, sizeof *w);
  perceptual *p;
  char vgg[512], linear[512];
  assert_non_null(w);
  snprintf(vgg, sizeof vgg, "%s", test_path("vgg.safetensors"));
  snprintf(linear, sizeof linear, "%s", test_path("linear.safetensors"));
  add_linear(w);
  named_write(ctx, w, linear);
  named_free(w);
  make_vgg(w, false);
  named_add(w, "classifier.6", ".bias", 1, (int64_t[]){1000}, 1, 0); // passed over
  named_write(ctx, w, vgg);
  assert_ok(ctx, perceptual_open(ctx, "test", vgg, linear, &rgb, &p));
  assert_string_equal(perceptual_name(p), "LPIPS (VGG-16)");
  assert_int_equal(strlen(perceptual_hash(p)), 64);
  compare(ctx, p, 2, &rgb, "rgb", "lpips.rgb", "slope.rgb");
  perceptual_close(&p);
  assert_ok(ctx, perceptual_open(ctx, "test", vgg, "", &rgb, &p));
  assert_string_equal(perceptual_name(p), "VGG-16, its channels alike");
  compare(ctx, p, 2, &rgb, "rgb", "alike.rgb", NULL);
  perceptual_close(&p);
  named_free(w);
  make_vgg(w, true); // all in one file, by the package's names
  add_linear(w);
  named_write(ctx, w, vgg);
  assert_ok(ctx, perceptual_open(ctx, "test", vgg, "", &grey, &p));
  assert_string_equal(perceptual_name(p), "LPIPS (VGG-16)");
  compare(ctx, p, 1, &grey, "grey", "lpips.grey", NULL);
  perceptual_close(&p);
  named_free(w);
  free(w);
  elbo_ctx_destroy(&ctx);
}

// A file of one tensor more than VGG-16 has, or less, or another.
static void assert_refused(elbo_ctx *ctx, named_weights *w, const char *channels_of, const char *part) {
  const char *path = test_path("refused.safetensors");
  perceptual *p;
  named_write(ctx, w, path);
  assert_status(ctx, perceptual_open(ctx, "objective.perceptual", path, channels_of, &rgb, &p), ELBO_ERROR_FORMAT, part);
  assert_null(p);
}

static void test_refused(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  named_weights *w = calloc(1, sizeof *w);
  perceptual *p;
  char whole[512], part[512];
  assert_non_null(w);
  snprintf(whole, sizeof whole, "%s", test_path("vgg-only.safetensors"));
  snprintf(part, sizeof part, "%s", test_path("part.safetensors"));
  const picture_shape small = {15, 32, 3}, two = {32, 32, 2};
  make_vgg(w, false);
  named_write(ctx, w, whole);
  assert_status(ctx, perceptual_open(ctx, "objective.perceptual", whole, "", &small, &p), ELBO_ERROR_ARGUMENT,
                "at least 16x16; these are 15x32x3");
  assert_status(ctx, perceptual_open(ctx, "objective.perceptual", whole, "", &two, &p), ELBO_ERROR_ARGUMENT, "grey or coloured");
  assert_status(ctx, perceptual_open(ctx, "objective.perceptual", "/nowhere", "", &rgb, &p), ELBO_ERROR_IO, "/nowhere: not there");
  assert_status(ctx, perceptual_open(ctx, "objective.perceptual", whole, "/nowhere", &rgb, &p), ELBO_ERROR_IO, "/nowhere");
  named_add(w, "features.30", ".bias", 1, (int64_t[]){512}, 1, 0); // VGG-19's
  assert_refused(ctx, w, "", "tensor features.30.bias is not part of VGG-16");
  named_drop(w, 1);
  named_add(w, "lin2", ".model.1.weight", 4, (int64_t[]){1, 256, 1, 1}, 0.5, 0.5);
  assert_refused(ctx, w, "", "lin0.model.1.weight is missing");
  named_drop(w, 2);
  assert_refused(ctx, w, "", "tensor features.28.bias is missing");
  named_free(w);
  named_add(w, "features.0", ".weight", 4, (int64_t[]){64, 3, 5, 5}, 1, 0);
  assert_refused(ctx, w, "", "(64,3,5,5) where (64,3,3,3)");
  named_free(w);
  named_add(w, "lin0", ".model.1.weight", 4, (int64_t[]){1, 64, 1, 1}, 0.5, 0); // of both signs
  named_write(ctx, w, part);
  assert_status(ctx, perceptual_open(ctx, "objective.perceptual", whole, part, &rgb, &p), ELBO_ERROR_FORMAT, "none below zero");
  assert_status(ctx, perceptual_open(ctx, "objective.perceptual", whole, whole, &rgb, &p), ELBO_ERROR_FORMAT, "not part of LPIPS");
  named_free(w);
  free(w);
  elbo_ctx_destroy(&ctx);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_distance), cmocka_unit_test(test_refused)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
