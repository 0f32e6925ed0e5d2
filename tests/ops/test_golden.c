// Every layer of ops.h against PyTorch, forward and gradients, in every instruction set, fused and not, and on the reference.
// tests/golden/make_layers.py wrote the numbers.
#include <elbo/ops.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/safetensors.h"
#include "support/test.h"

enum { MAX_INPUTS = 5 };

typedef elbo_tensor *(*layer_fn)(elbo_tensor *const *in);

typedef struct layer {
  const char *name;
  const char *inputs[MAX_INPUTS + 1]; // as in the file
  layer_fn build;
} layer;

// --- the layers ---
#define ELEMENTWISE(name) \
  static elbo_tensor *build_##name(elbo_tensor *const *in) { return elbo_##name(in[0]); }
#define TWO(name) \
  static elbo_tensor *build_##name(elbo_tensor *const *in) { return elbo_##name(in[0], in[1]); }
#define BUILD(name, expression) \
  static elbo_tensor *build_##name(elbo_tensor *const *in) { return expression; }
#define DIMS(...) \
  (const int64_t[]) { __VA_ARGS__ }

ELEMENTWISE(neg)
ELEMENTWISE(abs)
ELEMENTWISE(exp)
ELEMENTWISE(expm1)
ELEMENTWISE(square)
ELEMENTWISE(sin)
ELEMENTWISE(cos)
ELEMENTWISE(tanh)
ELEMENTWISE(sigmoid)
ELEMENTWISE(softplus)
ELEMENTWISE(relu)
ELEMENTWISE(gelu)
ELEMENTWISE(gelu_tanh)
ELEMENTWISE(silu)
ELEMENTWISE(erf)
ELEMENTWISE(reciprocal)
ELEMENTWISE(log)
ELEMENTWISE(log1p)
ELEMENTWISE(sqrt)
ELEMENTWISE(rsqrt)
ELEMENTWISE(softmax)
BUILD(leaky_relu, elbo_leaky_relu(in[0], 0.2))
BUILD(clamp, elbo_clamp(in[0], -0.5, 0.75))
BUILD(scale, elbo_scale(in[0], 1.5, -0.25))
TWO(add)
TWO(sub)
TWO(mul)
TWO(div)
TWO(maximum)
TWO(minimum)
BUILD(where, elbo_where(in[0], in[1], in[2]))

BUILD(transpose, elbo_transpose(in[0], (const int[]){2, 0, 3, 1}))
BUILD(concat, elbo_concat(2, in, 2))
BUILD(slice, elbo_slice(in[0], 1, 1, 4))
BUILD(pad, elbo_pad(in[0], 1, 2, 1))
BUILD(broadcast_to, elbo_broadcast_to(in[0], 3, DIMS(2, 3, 4)))
BUILD(sum, elbo_sum(in[0], 1u << 0 | 1u << 2, 0))
BUILD(mean, elbo_mean(in[0], 1u << 1, 1))
BUILD(max, elbo_max(in[0], 1u << 2, 0))
BUILD(logsumexp, elbo_logsumexp(in[0], 1u << 1, 0))

BUILD(linear, elbo_linear(in[0], in[1], in[2]))
BUILD(linear_tokens, elbo_linear(in[0], in[1], NULL))
BUILD(matmul_00, elbo_matmul(in[0], in[1], 0, 0))
BUILD(matmul_01, elbo_matmul(in[0], in[1], 0, 1))
BUILD(matmul_10, elbo_matmul(in[0], in[1], 1, 0))
BUILD(matmul_11, elbo_matmul(in[0], in[1], 1, 1))

static const elbo_conv2d_config plain = {0}, same = {.pad = {1, 1, 1, 1}}, halve = {.stride = {2, 2}, .pad = {1, 1, 1, 1}},
                                grouped = {.stride = {2, 1}, .dilation = {1, 2}, .pad = {1, 2, 1, 2}, .groups = 2},
                                depthwise = {.pad = {1, 1, 1, 1}, .groups = 6}, odd = {.stride = {2, 3}, .pad = {1, 0, 1, 0}, .groups = 2};
BUILD(conv2d_3x3, elbo_conv2d(in[0], in[1], in[2], &same))
BUILD(conv2d_4x4_s2, elbo_conv2d(in[0], in[1], in[2], &halve))
BUILD(conv2d_1x1, elbo_conv2d(in[0], in[1], NULL, &plain))
BUILD(conv2d_groups, elbo_conv2d(in[0], in[1], in[2], &grouped))
BUILD(conv2d_depthwise, elbo_conv2d(in[0], in[1], in[2], &depthwise))
BUILD(conv_transpose2d_4x4_s2, elbo_conv_transpose2d(in[0], in[1], in[2], &halve, (const int[]){0, 0}))
BUILD(conv_transpose2d_odd, elbo_conv_transpose2d(in[0], in[1], NULL, &odd, (const int[]){1, 2}))

BUILD(group_norm, elbo_group_norm(in[0], in[1], in[2], 3, 1e-5))
BUILD(group_norm_silu, elbo_silu(elbo_group_norm(in[0], in[1], in[2], 4, 1e-6)))
BUILD(layer_norm, elbo_layer_norm(in[0], in[1], in[2], 1e-5))
BUILD(batch_norm_eval, elbo_batch_norm(in[0], in[1], in[2], in[3], in[4], 0.1, 1e-5, 0))

static elbo_tensor *build_batch_norm_train(elbo_tensor *const *in) {
  elbo_graph *g = elbo_tensor_graph(in[0]);
  int64_t c = elbo_tensor_dim(in[1], 0);
  elbo_tensor *mean = elbo_parameter(g, "mean", 1, &c, ELBO_PARAM_STATE, ELBO_INIT_ZEROS);
  return elbo_batch_norm(in[0], in[1], in[2], mean, elbo_parameter(g, "var", 1, &c, ELBO_PARAM_STATE, ELBO_INIT_ONES), 0.1, 1e-5, 1);
}

BUILD(attention, elbo_attention(in[0], in[1], in[2], NULL, 2, 0, 0))
BUILD(attention_cross, elbo_attention(in[0], in[1], in[2], NULL, 3, 0.3, 0))
BUILD(attention_bias, elbo_attention(in[0], in[1], in[2], in[3], 2, 0, 0))
BUILD(attention_causal, elbo_attention(in[0], in[1], in[2], NULL, 1, 0, 1))

BUILD(avg_pool2d, elbo_avg_pool2d(in[0], 2, 3))
BUILD(upsample_nearest, elbo_upsample_nearest(in[0], 2, 3))
BUILD(resize_bilinear_up, elbo_resize_bilinear(in[0], 7, 8))
BUILD(resize_bilinear_down, elbo_resize_bilinear(in[0], 2, 3))
BUILD(resize_bilinear_mixed, elbo_resize_bilinear(in[0], 9, 2))
BUILD(embedding, elbo_embedding(in[0], in[1]))

BUILD(squared_error, elbo_sum_per_example(elbo_square(elbo_sub(in[0], in[1]))))
BUILD(bernoulli, elbo_sum_per_example(elbo_sub(elbo_softplus(in[0]), elbo_mul(in[0], in[1]))))
BUILD(categorical, elbo_sum_per_example(elbo_mul(elbo_sub(elbo_logsumexp(in[0], 1u << 1, 1), in[0]), in[1])))
// (x - mu)^2 / (2 var) + logvar / 2 + log(2 pi) / 2
BUILD(gaussian, elbo_sum_per_example(elbo_scale(elbo_add(elbo_mul(elbo_square(elbo_sub(in[0], in[1])), elbo_exp(elbo_neg(in[2]))), in[2]),
                                                0.5, 0.91893853320467274)))
// (mu^2 + var - logvar - 1) / 2
BUILD(gaussian_kl, elbo_sum_per_example(elbo_scale(elbo_sub(elbo_add(elbo_square(in[0]), elbo_exp(in[1])), in[1]), 0.5, -0.5)))

#define X(name) \
  { #name, {"x" }, build_##name }
#define AB(name) \
  { #name, {"a", "b" }, build_##name }
#define LAYER(name, ...) \
  { #name, {__VA_ARGS__ }, build_##name }

static const layer layers[] = {
    X(neg),
    X(abs),
    X(exp),
    X(expm1),
    X(square),
    X(sin),
    X(cos),
    X(tanh),
    X(sigmoid),
    X(softplus),
    X(relu),
    X(gelu),
    X(gelu_tanh),
    X(silu),
    X(erf),
    X(reciprocal),
    X(log),
    X(log1p),
    X(sqrt),
    X(rsqrt),
    X(softmax),
    X(leaky_relu),
    X(clamp),
    X(scale),
    AB(add),
    AB(sub),
    AB(mul),
    AB(div),
    AB(maximum),
    AB(minimum),
    LAYER(where, "c", "a", "b"),
    X(transpose),
    AB(concat),
    X(slice),
    X(pad),
    X(broadcast_to),
    X(sum),
    X(mean),
    X(max),
    X(logsumexp),
    LAYER(linear, "input", "weight", "bias"),
    LAYER(linear_tokens, "input", "weight"),
    AB(matmul_00),
    AB(matmul_01),
    AB(matmul_10),
    AB(matmul_11),
    LAYER(conv2d_3x3, "x", "weight", "bias"),
    LAYER(conv2d_4x4_s2, "x", "weight", "bias"),
    LAYER(conv2d_1x1, "x", "weight"),
    LAYER(conv2d_groups, "x", "weight", "bias"),
    LAYER(conv2d_depthwise, "x", "weight", "bias"),
    LAYER(conv_transpose2d_4x4_s2, "x", "weight", "bias"),
    LAYER(conv_transpose2d_odd, "x", "weight"),
    LAYER(group_norm, "x", "weight", "bias"),
    LAYER(group_norm_silu, "x", "weight", "bias"),
    LAYER(layer_norm, "x", "weight", "bias"),
    LAYER(batch_norm_train, "x", "weight", "bias"),
    LAYER(batch_norm_eval, "x", "weight", "bias", "mean", "var"),
    LAYER(attention, "q", "k", "v"),
    LAYER(attention_cross, "q", "k", "v"),
    LAYER(attention_bias, "q", "k", "v", "bias"),
    LAYER(attention_causal, "q", "k", "v"),
    X(avg_pool2d),
    X(upsample_nearest),
    X(resize_bilinear_up),
    X(resize_bilinear_down),
    X(resize_bilinear_mixed),
    LAYER(embedding, "input", "weight"),
    LAYER(squared_error, "x", "t"),
    LAYER(bernoulli, "x", "t"),
    LAYER(categorical, "x", "t"),
    LAYER(gaussian, "x", "mu", "logvar"),
    LAYER(gaussian_kl, "mu", "logvar"),
};
enum { LAYERS = sizeof layers / sizeof layers[0] };

// --- the comparison ---
static const tensor_view *golden(const safetensors *file, const char *layer_name, const char *prefix, const char *name) {
  char key[96];
  snprintf(key, sizeof key, "%s.%s%s", layer_name, prefix, name);
  return safetensors_find(file, key);
}

static void fill(elbo_ctx *ctx, elbo_plan *plan, const char *name, const tensor_view *from) {
  size_t bytes = elbo_plan_input_bytes(plan, name);
  if (bytes == 0) return; // nothing depends on it
  if (from->dtype == ELBO_F32)
    assert_ok(ctx, elbo_plan_set(plan, name, from->data, (int64_t)(from->bytes / sizeof(float))));
  else
    memcpy(elbo_plan_input(plan, name), from->data, bytes);
}

static bool check_output(const elbo_plan *plan, int i, const tensor_view *expected, const char *what, const char *where, bool doubles,
                         float planted) {
  int64_t n = (int64_t)(expected->bytes / sizeof(float)), worst = 0;
  float *y = malloc((size_t)n * sizeof *y);
  assert_non_null(y);
  for (int64_t k = 0; k < n; k++)
    y[k] = doubles ? (float)((const double *)elbo_plan_output(plan, i))[k] : ((const float *)elbo_plan_output(plan, i))[k];
  y[n / 2] += planted;
  bool ok = test_close(y, expected->data, n, 2e-5, &worst);
  if (!ok && planted == 0)
    print_error("%s, %s: element %lld is %.9g, PyTorch has %.9g\n", what, where, (long long)worst, (double)y[worst],
                (double)((const float *)expected->data)[worst]);
  free(y);
  return ok;
}

// One layer on one backend; `planted` is added to an element of everything that is compared.
static bool check_layer(elbo_ctx *ctx, const safetensors *file, const layer *l, elbo_backend_kind backend, int fuse, float planted) {
  elbo_graph *g = NULL;
  elbo_plan *plan = NULL;
  elbo_store *store = NULL;
  elbo_plan_config config;
  elbo_tensor *in[MAX_INPUTS] = {NULL}, *wrt[MAX_INPUTS], *gradient[MAX_INPUTS], *out[1 + MAX_INPUTS];
  const tensor_view *expected[1 + MAX_INPUTS], *y = golden(file, l->name, "", "y"), *dy = golden(file, l->name, "", "dy");
  int n_wrt = 0, n_out = 0;
  char where[64];
  snprintf(where, sizeof where, "%s%s", backend == ELBO_BACKEND_REFERENCE ? "reference" : elbo_ctx_isa(ctx), fuse ? ", fused" : "");
  assert_ok(ctx, elbo_graph_create(ctx, l->name, &g));
  for (int i = 0; l->inputs[i]; i++) {
    const tensor_view *v = golden(file, l->name, "", l->inputs[i]);
    assert_non_null(v);
    in[i] = elbo_input(g, l->inputs[i], v->dtype, v->rank, v->dim);
    if (golden(file, l->name, "d", l->inputs[i])) wrt[n_wrt++] = in[i];
  }
  out[n_out] = l->build(in), expected[n_out++] = y;
  assert_ok(ctx, elbo_graph_check(g));
  assert_int_equal(elbo_tensor_rank(out[0]), y->rank);
  for (int d = 0; d < y->rank; d++) assert_int_equal(elbo_tensor_dim(out[0], d), y->dim[d]);
  elbo_tensor *weighed = elbo_sum(elbo_mul(out[0], elbo_input(g, "dy", ELBO_F32, dy->rank, dy->dim)), ELBO_ALL_AXES, 0);
  assert_ok(ctx, elbo_gradient(weighed, n_wrt, wrt, gradient));
  for (int i = 0, k = 0; l->inputs[i]; i++) {
    const tensor_view *v = golden(file, l->name, "d", l->inputs[i]);
    if (!v) continue;
    assert_non_null(gradient[k]);
    out[n_out] = gradient[k++], expected[n_out++] = v;
  }
  elbo_plan_defaults(&config);
  config.backend = backend, config.fuse = fuse, config.poison = 1;
  assert_ok(ctx, elbo_store_create(ctx, 1, &g, 0, &store));
  assert_ok(ctx, elbo_plan_create(ctx, g, n_out, out, &config, &plan));
  for (int i = 0; l->inputs[i]; i++) fill(ctx, plan, l->inputs[i], golden(file, l->name, "", l->inputs[i]));
  fill(ctx, plan, "dy", dy);
  assert_ok(ctx, elbo_plan_run(plan, store));
  bool ok = true;
  for (int i = 0; i < n_out; i++) {
    bool close = check_output(plan, i, expected[i], expected[i]->name, where, backend == ELBO_BACKEND_REFERENCE, planted);
    ok = planted == 0 ? ok && close : !close && ok;
  }
  elbo_plan_destroy(&plan);
  elbo_store_destroy(&store);
  elbo_graph_destroy(&g);
  return ok;
}

static safetensors *open_golden(elbo_ctx *ctx) {
  safetensors *file = NULL;
  assert_ok(ctx, safetensors_open(ctx, test_repository_file("tests/golden/layers.safetensors"), &file));
  return file;
}

static void test_reference(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(0);
  safetensors *file = open_golden(ctx);
  int failed = 0;
  for (int i = 0; i < LAYERS; i++) failed += !check_layer(ctx, file, &layers[i], ELBO_BACKEND_REFERENCE, 0, 0);
  assert_int_equal(failed, 0);
  safetensors_close(&file);
  elbo_ctx_destroy(&ctx);
}

static void test_variants(void **state) {
  (void)state;
  int failed = 0;
  for (int isa = 0; isa < ISA_COUNT; isa++) {
    elbo_ctx *ctx = test_ctx_isa(0, (isa_level)isa);
    if (!ctx) continue;
    safetensors *file = open_golden(ctx);
    for (int fuse = 0; fuse < 2; fuse++)
      for (int i = 0; i < LAYERS; i++) failed += !check_layer(ctx, file, &layers[i], ELBO_BACKEND_CPU, fuse, 0);
    safetensors_close(&file);
    elbo_ctx_destroy(&ctx);
  }
  assert_int_equal(failed, 0);
}

// Every tensor of the file belongs to a layer of the table, so none goes unchecked.
static void test_all_named(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(0);
  safetensors *file = open_golden(ctx);
  for (int64_t i = 0; i < safetensors_count(file); i++) {
    const char *name = safetensors_at(file, i)->name, *dot = strchr(name, '.');
    bool found = false;
    for (int k = 0; k < LAYERS && dot; k++)
      found |= strlen(layers[k].name) == (size_t)(dot - name) && !strncmp(layers[k].name, name, (size_t)(dot - name));
    if (!found) fail_msg("%s is in the file and not in the test", name);
  }
  safetensors_close(&file);
  elbo_ctx_destroy(&ctx);
}

// A small error in one element of any result is seen.
static void test_planted(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(0);
  safetensors *file = open_golden(ctx);
  for (int i = 0; i < LAYERS; i++)
    if (!check_layer(ctx, file, &layers[i], ELBO_BACKEND_CPU, 1, 0.05f)) fail_msg("%s: an error of 0.05 went unseen", layers[i].name);
  safetensors_close(&file);
  elbo_ctx_destroy(&ctx);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_all_named),
      cmocka_unit_test(test_reference),
      cmocka_unit_test(test_variants),
      cmocka_unit_test(test_planted),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
