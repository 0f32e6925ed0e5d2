#include "nn/inception.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

// --- pieces ---

// Convolution, batch norm (folded into weight and bias), ReLU. Padding is the same on both sides of an axis.
static elbo_tensor *unit(elbo_tensor *x, const char *name, int64_t out, int kh, int kw, int stride, int ph, int pw) {
  if (!x) return NULL;
  elbo_graph *g = elbo_tensor_graph(x);
  char weight[64], bias[64];
  snprintf(weight, sizeof weight, "%s.conv.weight", name);
  snprintf(bias, sizeof bias, "%s.conv.bias", name);
  elbo_tensor *w = elbo_parameter(g, weight, 4, (int64_t[]){out, elbo_tensor_dim(x, -1), kh, kw}, ELBO_PARAM_FROZEN, ELBO_INIT_ZEROS);
  elbo_tensor *b = elbo_parameter(g, bias, 1, &out, ELBO_PARAM_FROZEN, ELBO_INIT_ZEROS);
  return elbo_relu(elbo_conv2d(x, w, b, &(elbo_conv2d_config){.stride = {stride, stride}, .pad = {ph, pw, ph, pw}}));
}

static elbo_tensor *point(elbo_tensor *x, const char *name, int64_t out) { return unit(x, name, out, 1, 1, 1, 0, 0); }
static elbo_tensor *square(elbo_tensor *x, const char *name, int64_t out) { return unit(x, name, out, 3, 3, 1, 1, 1); }
static elbo_tensor *halving(elbo_tensor *x, const char *name, int64_t out) { return unit(x, name, out, 3, 3, 2, 0, 0); }
static elbo_tensor *row(elbo_tensor *x, const char *name, int64_t out, int width) { return unit(x, name, out, 1, width, 1, 0, width / 2); }
static elbo_tensor *column(elbo_tensor *x, const char *name, int64_t out, int height) {
  return unit(x, name, out, height, 1, 1, height / 2, 0);
}

static elbo_tensor *max_halving(elbo_tensor *x) { return elbo_max_pool2d(x, (int[]){3, 3}, (int[]){2, 2}, NULL); }

// Mean over the part of each 3x3 window that lies in the picture: the sum, as a convolution of each channel with ones, over a map of
// counts.
static elbo_tensor *mean_of_neighbours(elbo_tensor *x) {
  if (!x) return NULL;
  elbo_graph *g = elbo_tensor_graph(x);
  int64_t h = elbo_tensor_dim(x, 1), w = elbo_tensor_dim(x, 2), c = elbo_tensor_dim(x, 3), most = 9 * c > h * w ? 9 * c : h * w;
  float *values = malloc((size_t)most * sizeof *values);
  if (!values) return NULL;
  for (int64_t i = 0; i < 9 * c; i++) values[i] = 1;
  elbo_tensor *ones = elbo_constant_array(g, 4, (int64_t[]){c, 1, 3, 3}, values);
  for (int64_t i = 0; i < h; i++)
    for (int64_t j = 0; j < w; j++) {
      int rows = 3 - (i == 0) - (i == h - 1), columns = 3 - (j == 0) - (j == w - 1);
      values[i * w + j] = 1.0f / (float)(rows * columns);
    }
  elbo_tensor *share = elbo_constant_array(g, 4, (int64_t[]){1, h, w, 1}, values);
  free(values);
  return elbo_mul(elbo_conv2d(x, ones, NULL, &(elbo_conv2d_config){.pad = {1, 1, 1, 1}, .groups = (int)c}), share);
}

static elbo_tensor *side_by_side(elbo_tensor *a, elbo_tensor *b, elbo_tensor *c, elbo_tensor *d) {
  elbo_tensor *part[4] = {a, b, c, d};
  return elbo_concat(d ? 4 : c ? 3 : 2, part, 3);
}

// --- blocks, by the letters of the PyTorch form ---

static elbo_tensor *block_a(elbo_tensor *x, const char *name, int64_t pooled) {
  if (!x) return NULL;
  elbo_scope_push(elbo_tensor_graph(x), name);
  elbo_tensor *one = point(x, "branch1x1", 64);
  elbo_tensor *five = unit(point(x, "branch5x5_1", 48), "branch5x5_2", 64, 5, 5, 1, 2, 2);
  elbo_tensor *three = square(square(point(x, "branch3x3dbl_1", 64), "branch3x3dbl_2", 96), "branch3x3dbl_3", 96);
  elbo_tensor *pool = point(mean_of_neighbours(x), "branch_pool", pooled);
  elbo_scope_pop(elbo_tensor_graph(x));
  return pool ? side_by_side(one, five, three, pool) : NULL;
}

static elbo_tensor *block_b(elbo_tensor *x, const char *name) {
  if (!x) return NULL;
  elbo_scope_push(elbo_tensor_graph(x), name);
  elbo_tensor *three = halving(x, "branch3x3", 384);
  elbo_tensor *twice = halving(square(point(x, "branch3x3dbl_1", 64), "branch3x3dbl_2", 96), "branch3x3dbl_3", 96);
  elbo_scope_pop(elbo_tensor_graph(x));
  elbo_tensor *pool = max_halving(x);
  return pool ? side_by_side(three, twice, pool, NULL) : NULL;
}

static elbo_tensor *block_c(elbo_tensor *x, const char *name, int64_t narrow) {
  if (!x) return NULL;
  elbo_scope_push(elbo_tensor_graph(x), name);
  elbo_tensor *one = point(x, "branch1x1", 192);
  elbo_tensor *seven = row(point(x, "branch7x7_1", narrow), "branch7x7_2", narrow, 7);
  seven = column(seven, "branch7x7_3", 192, 7);
  elbo_tensor *twice = column(point(x, "branch7x7dbl_1", narrow), "branch7x7dbl_2", narrow, 7);
  twice = column(row(twice, "branch7x7dbl_3", narrow, 7), "branch7x7dbl_4", narrow, 7);
  twice = row(twice, "branch7x7dbl_5", 192, 7);
  elbo_tensor *pool = point(mean_of_neighbours(x), "branch_pool", 192);
  elbo_scope_pop(elbo_tensor_graph(x));
  return pool ? side_by_side(one, seven, twice, pool) : NULL;
}

static elbo_tensor *block_d(elbo_tensor *x, const char *name) {
  if (!x) return NULL;
  elbo_scope_push(elbo_tensor_graph(x), name);
  elbo_tensor *three = halving(point(x, "branch3x3_1", 192), "branch3x3_2", 320);
  elbo_tensor *seven = row(point(x, "branch7x7x3_1", 192), "branch7x7x3_2", 192, 7);
  seven = halving(column(seven, "branch7x7x3_3", 192, 7), "branch7x7x3_4", 192);
  elbo_scope_pop(elbo_tensor_graph(x));
  elbo_tensor *pool = max_halving(x);
  return pool ? side_by_side(three, seven, pool, NULL) : NULL;
}

static elbo_tensor *block_e(elbo_tensor *x, const char *name, bool last) {
  if (!x) return NULL;
  elbo_scope_push(elbo_tensor_graph(x), name);
  elbo_tensor *one = point(x, "branch1x1", 320);
  elbo_tensor *h = point(x, "branch3x3_1", 384);
  elbo_tensor *three = side_by_side(row(h, "branch3x3_2a", 384, 3), column(h, "branch3x3_2b", 384, 3), NULL, NULL);
  h = square(point(x, "branch3x3dbl_1", 448), "branch3x3dbl_2", 384);
  elbo_tensor *twice = side_by_side(row(h, "branch3x3dbl_3a", 384, 3), column(h, "branch3x3dbl_3b", 384, 3), NULL, NULL);
  elbo_tensor *pool = last ? elbo_max_pool2d(x, (int[]){3, 3}, NULL, (int[]){1, 1, 1, 1}) : mean_of_neighbours(x);
  pool = point(pool, "branch_pool", 192);
  elbo_scope_pop(elbo_tensor_graph(x));
  return pool ? side_by_side(one, three, twice, pool) : NULL;
}

elbo_tensor *inception_features(elbo_tensor *x) {
  elbo_tensor *h = elbo_scale(elbo_resize_bilinear(x, INCEPTION_SIDE, INCEPTION_SIDE), 2, -1);
  h = halving(h, "Conv2d_1a_3x3", 32);
  h = square(unit(h, "Conv2d_2a_3x3", 32, 3, 3, 1, 0, 0), "Conv2d_2b_3x3", 64);
  h = point(max_halving(h), "Conv2d_3b_1x1", 80);
  h = max_halving(unit(h, "Conv2d_4a_3x3", 192, 3, 3, 1, 0, 0)); // (B,35,35,192)
  h = block_a(h, "Mixed_5b", 32);
  h = block_a(h, "Mixed_5c", 64);
  h = block_a(h, "Mixed_5d", 64);
  h = block_b(h, "Mixed_6a"); // (B,17,17,768)
  h = block_c(h, "Mixed_6b", 128);
  h = block_c(h, "Mixed_6c", 160);
  h = block_c(h, "Mixed_6d", 160);
  h = block_c(h, "Mixed_6e", 192);
  h = block_d(h, "Mixed_7a"); // (B,8,8,1280)
  h = block_e(h, "Mixed_7b", false);
  h = block_e(h, "Mixed_7c", true);
  return elbo_mean(h, 1u << 1 | 1u << 2, 0);
}
