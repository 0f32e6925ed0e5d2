// Inception-v3 against PyTorch's operations on weights that both sides make from their names (tests/golden/make_inception.py), read from a
// file as the common weights are; and files that are something else.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/safetensors.h"
#include "models/feature_net.h"
#include "nn/inception.h"
#include "support/named_weights.h"

// The tensors of the file, by the convolutions that the network has.
static void make_weights(elbo_ctx *ctx, named_weights *f) {
  elbo_graph *g;
  elbo_store *store;
  memset(f, 0, sizeof *f);
  assert_ok(ctx, elbo_graph_create(ctx, "names", &g));
  assert_non_null(inception_features(elbo_input(g, "x", ELBO_F32, 4, (int64_t[]){1, 8, 8, 3})));
  assert_ok(ctx, elbo_store_create(ctx, 1, &g, 0, &store));
  for (int i = 0; i < elbo_store_count(store); i++) {
    elbo_param_info p;
    char stem[64];
    assert_ok(ctx, elbo_store_get(store, i, &p));
    if (p.rank != 4) continue;
    snprintf(stem, sizeof stem, "%.*s", (int)(strlen(p.name) - strlen(".conv.weight")), p.name);
    named_add(f, stem, ".conv.weight", 4, p.dim, sqrt(6.0 / (double)(p.count / p.dim[0])), 0);
    named_add(f, stem, ".bn.weight", 1, p.dim, 0.25, 1);
    named_add(f, stem, ".bn.bias", 1, p.dim, 0.25, 0);
    named_add(f, stem, ".bn.running_mean", 1, p.dim, 0.25, 0);
    named_add(f, stem, ".bn.running_var", 1, p.dim, 0.25, 1);
  }
  assert_int_equal(f->n, 94 * 5);
  elbo_store_destroy(&store);
  elbo_graph_destroy(&g);
}

static void compare(elbo_ctx *ctx, feature_net *net, safetensors *golden, const char *name, int64_t n, int64_t h, int64_t w, int64_t c) {
  elbo_array *x, *y;
  float *got = calloc((size_t)n * INCEPTION_FEATURES, sizeof *got);
  char key[64];
  snprintf(key, sizeof key, "features.%s", name);
  const tensor_view *want = safetensors_find(golden, key);
  assert_non_null(want);
  assert_ok(ctx, elbo_array_create(ctx, ELBO_F32, 4, (int64_t[]){n, h, w, c}, &x));
  for (int64_t i = 0; i < elbo_array_count(x); i++) // a little off the levels: rounding brings it back
    ((float *)x->data)[i] = (float)((floor((named_uniform(name, (uint32_t)i) + 1) * 128) + (i % 3 - 1) * 0.3) / 255);
  assert_ok(ctx, feature_net_run(net, x, NULL, NULL, &y));
  assert_true(y->dtype == ELBO_F64 && y->dim[0] == n && y->dim[1] == INCEPTION_FEATURES);
  for (int64_t i = 0; i < n * INCEPTION_FEATURES; i++) got[i] = (float)((double *)y->data)[i];
  assert_close(got, want->data, n * INCEPTION_FEATURES, 1e-4);
  free(got);
  elbo_array_destroy(&x), elbo_array_destroy(&y);
}

// A file of one tensor: what is wrong with it comes before all that is missing.
static void assert_refused(elbo_ctx *ctx, const char *name, int rank, const int64_t *dim, const char *part) {
  const char *path = test_path("refused.safetensors");
  feature_net *net;
  named_weights *f = calloc(1, sizeof *f);
  assert_non_null(f);
  named_add(f, name, "", rank, dim, 1, 0);
  named_write(ctx, f, path);
  assert_status(ctx, feature_net_open(ctx, path, &net), ELBO_ERROR_FORMAT, part);
  assert_null(net);
  named_free(f);
  free(f);
}

static void test_features(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(0);
  named_weights *f = malloc(sizeof *f);
  assert_non_null(f);
  const char *path = test_path("inception.safetensors");
  feature_net *net;
  safetensors *golden;
  make_weights(ctx, f);
  named_add(f, "fc", ".bias", 1, (int64_t[]){1008}, 1, 0); // passed over, as are the counters
  named_add(f, "Mixed_5b.branch1x1", ".bn.num_batches_tracked", 0, NULL, 1, 0);
  named_write(ctx, f, path);
  assert_ok(ctx, feature_net_open(ctx, path, &net));
  assert_string_equal(feature_net_name(net), "inception-v3");
  assert_int_equal(feature_net_dim(net), INCEPTION_FEATURES);
  assert_int_equal(strlen(feature_net_hash(net)), 64);
  assert_ok(ctx, safetensors_open(ctx, test_repository_file("tests/golden/inception.safetensors"), &golden));
  compare(ctx, net, golden, "rgb", 2, 40, 32, 3);
  compare(ctx, net, golden, "grey", 1, 28, 28, 1);
  float four[16] = {0};
  elbo_array alpha = {ELBO_F32, 4, {1, 2, 2, 4}, four}, *y;
  assert_status(ctx, feature_net_run(net, &alpha, NULL, NULL, &y), ELBO_ERROR_ARGUMENT, "float32 (1,2,2,4)");
  four[0] = NAN, alpha.dim[3] = 3;
  assert_status(ctx, feature_net_run(net, &alpha, NULL, NULL, &y), ELBO_ERROR_NUMERIC, "picture 0");
  safetensors_close(&golden);
  feature_net_close(&net);
  named_free(f);
  free(f);
  elbo_ctx_destroy(&ctx);
}

static void test_refused(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  feature_net *net;
  assert_status(ctx, feature_net_open(ctx, test_path("nowhere"), &net), ELBO_ERROR_IO, "nowhere");
  test_write_file(test_path("text.safetensors"), "no weights", 10);
  assert_status(ctx, feature_net_open(ctx, test_path("text.safetensors"), &net), ELBO_ERROR_FORMAT, "text.safetensors");
  assert_status(ctx, feature_net_open(ctx, test_directory(), &net), ELBO_ERROR_FORMAT, "model_index.json");
  assert_refused(ctx, "fc.weight", 2, (int64_t[]){1000, 4}, "fc.weight: 1000 classes");
  assert_refused(ctx, "AuxLogits.fc.weight", 1, (int64_t[]){3}, "AuxLogits.fc.weight");
  assert_refused(ctx, "Conv2d_1a_3x3.conv.weight", 4, (int64_t[]){32, 3, 3, 2}, "(32,3,3,2) where (32,3,3,3)");
  assert_refused(ctx, "Conv2d_1a_3x3.conv.weight", 4, (int64_t[]){32, 3, 3, 3}, "Conv2d_1a_3x3.bn.weight is missing");
  assert_refused(ctx, "Conv2d_1a_3x3.bn.weight", 1, (int64_t[]){32}, "Conv2d_1a_3x3.conv.weight is missing");
  elbo_ctx_destroy(&ctx);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_features), cmocka_unit_test(test_refused)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
