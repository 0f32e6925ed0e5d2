// Every operation alone, with its gradient where it has one, at a size that a small convolutional model meets.
#include <elbo/ops.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "nn/likelihood.h"
#include "ops/op.h"
#include "tasks/bench.h"

typedef elbo_tensor *(*unary_fn)(elbo_tensor *x);
typedef elbo_tensor *(*binary_fn)(elbo_tensor *a, elbo_tensor *b);

static const struct {
  const char *name;
  unary_fn fn;
} unary[] = {{"exp", elbo_exp},           {"log", elbo_log},     {"log1p", elbo_log1p},     {"expm1", elbo_expm1},
             {"sqrt", elbo_sqrt},         {"rsqrt", elbo_rsqrt}, {"square", elbo_square},   {"reciprocal", elbo_reciprocal},
             {"sin", elbo_sin},           {"cos", elbo_cos},     {"tanh", elbo_tanh},       {"sigmoid", elbo_sigmoid},
             {"softplus", elbo_softplus}, {"relu", elbo_relu},   {"gelu", elbo_gelu},       {"gelu_tanh", elbo_gelu_tanh},
             {"silu", elbo_silu},         {"erf", elbo_erf},     {"softmax", elbo_softmax}, {"stop_gradient", elbo_stop_gradient}};
static const struct {
  const char *name;
  binary_fn fn;
} binary[] = {{"add", elbo_add}, {"sub", elbo_sub},         {"mul", elbo_mul},
              {"div", elbo_div}, {"maximum", elbo_maximum}, {"scale_gradient", elbo_scale_gradient}};

// One benchmark: makes its inputs, returns the tensor to compute.
typedef struct bench_case {
  const char *name;
  elbo_tensor *(*build)(elbo_graph *g, const void *arg);
  const void *arg;
} bench_case;

enum { B = 64, H = 28, W = 28, C = 32 };
static elbo_tensor *image(elbo_graph *g, const char *name, int channels) {
  return elbo_input(g, name, ELBO_F32, 4, (int64_t[]){B, H, W, channels});
}
static elbo_tensor *vector(elbo_graph *g, const char *name, int64_t n) { return elbo_input(g, name, ELBO_F32, 1, &n); }

static elbo_tensor *build_unary(elbo_graph *g, const void *arg) { return unary[*(const int *)arg].fn(image(g, "x", C)); }
static elbo_tensor *build_binary(elbo_graph *g, const void *arg) {
  return binary[*(const int *)arg].fn(image(g, "x", C), image(g, "y", C));
}
static elbo_tensor *build_broadcast(elbo_graph *g, const void *arg) {
  (void)arg;
  return elbo_add(image(g, "x", C), vector(g, "y", C));
}
static elbo_tensor *build_leaky_relu(elbo_graph *g, const void *arg) { return (void)arg, elbo_leaky_relu(image(g, "x", C), 0.2); }
static elbo_tensor *build_linear(elbo_graph *g, const void *arg) {
  (void)arg;
  return elbo_linear(elbo_input(g, "x", ELBO_F32, 2, (int64_t[]){128, 784}), elbo_input(g, "w", ELBO_F32, 2, (int64_t[]){400, 784}),
                     vector(g, "b", 400));
}
static elbo_tensor *build_matmul(elbo_graph *g, const void *arg) {
  (void)arg;
  return elbo_matmul(elbo_input(g, "x", ELBO_F32, 3, (int64_t[]){16, 128, 256}), elbo_input(g, "y", ELBO_F32, 3, (int64_t[]){16, 256, 128}),
                     0, 0);
}

typedef struct conv_case {
  int in, out, kernel, stride, pad, groups, transposed;
} conv_case;
static elbo_tensor *build_conv(elbo_graph *g, const void *arg) {
  const conv_case *c = arg;
  elbo_conv2d_config config = {.stride = {c->stride, c->stride}, .pad = {c->pad, c->pad, c->pad, c->pad}, .groups = c->groups};
  elbo_tensor *x = image(g, "x", c->in), *b = vector(g, "b", c->out);
  if (c->transposed)
    return elbo_conv_transpose2d(x, elbo_input(g, "w", ELBO_F32, 4, (int64_t[]){c->in, c->out, c->kernel, c->kernel}), b, &config,
                                 (int[2]){0, 0});
  return elbo_conv2d(x, elbo_input(g, "w", ELBO_F32, 4, (int64_t[]){c->out, c->in / c->groups, c->kernel, c->kernel}), b, &config);
}

static elbo_tensor *build_group_norm(elbo_graph *g, const void *arg) {
  return (void)arg, elbo_group_norm(image(g, "x", C), vector(g, "w", C), vector(g, "b", C), 8, 1e-5);
}
static elbo_tensor *build_layer_norm(elbo_graph *g, const void *arg) {
  return (void)arg, elbo_layer_norm(image(g, "x", C), vector(g, "w", C), vector(g, "b", C), 1e-5);
}
static elbo_tensor *build_batch_norm(elbo_graph *g, const void *arg) {
  (void)arg;
  int64_t c = C;
  elbo_tensor *mean = elbo_parameter(g, "mean", 1, &c, ELBO_PARAM_STATE, ELBO_INIT_ZEROS);
  elbo_tensor *variance = elbo_parameter(g, "variance", 1, &c, ELBO_PARAM_STATE, ELBO_INIT_ONES);
  return elbo_batch_norm(image(g, "x", C), vector(g, "w", C), vector(g, "b", C), mean, variance, 0.1, 1e-5, 1);
}
static elbo_tensor *build_attention(elbo_graph *g, const void *arg) {
  (void)arg;
  const int64_t dim[] = {8, 256, 128};
  return elbo_attention(elbo_input(g, "q", ELBO_F32, 3, dim), elbo_input(g, "k", ELBO_F32, 3, dim), elbo_input(g, "v", ELBO_F32, 3, dim),
                        NULL, 4, 0, 0);
}
static elbo_tensor *build_transpose(elbo_graph *g, const void *arg) {
  return (void)arg, elbo_transpose(image(g, "x", C), (int[]){0, 3, 1, 2});
}
static elbo_tensor *build_concat(elbo_graph *g, const void *arg) {
  elbo_tensor *both[] = {image(g, "x", C), image(g, "y", C)};
  return (void)arg, elbo_concat(2, both, 3);
}
static elbo_tensor *build_slice(elbo_graph *g, const void *arg) { return (void)arg, elbo_slice(image(g, "x", C), 3, 0, C / 2); }
static elbo_tensor *build_pad(elbo_graph *g, const void *arg) { return (void)arg, elbo_pad(image(g, "x", C), 1, 2, 2); }
static elbo_tensor *build_sum(elbo_graph *g, const void *arg) { return (void)arg, elbo_sum_per_example(image(g, "x", C)); }
static elbo_tensor *build_sum_batch(elbo_graph *g, const void *arg) { return (void)arg, elbo_sum(image(g, "x", C), 1u | 2u | 4u, 0); }
static elbo_tensor *build_logsumexp(elbo_graph *g, const void *arg) { return (void)arg, elbo_logsumexp(image(g, "x", C), 8u, 0); }
static elbo_tensor *build_max(elbo_graph *g, const void *arg) { return (void)arg, elbo_max(image(g, "x", C), 8u, 0); }
static elbo_tensor *build_where(elbo_graph *g, const void *arg) {
  return (void)arg, elbo_where(elbo_less(image(g, "x", C), image(g, "y", C)), image(g, "x", C), image(g, "y", C));
}
static elbo_tensor *build_cast(elbo_graph *g, const void *arg) {
  return (void)arg, elbo_cast(elbo_input(g, "i", ELBO_I32, 4, (int64_t[]){B, H, W, C}), ELBO_F32);
}
static elbo_tensor *build_pool(elbo_graph *g, const void *arg) { return (void)arg, elbo_avg_pool2d(image(g, "x", C), 2, 2); }
static elbo_tensor *build_nearest(elbo_graph *g, const void *arg) { return (void)arg, elbo_upsample_nearest(image(g, "x", C), 2, 2); }
static elbo_tensor *build_bilinear(elbo_graph *g, const void *arg) {
  return (void)arg, elbo_resize_bilinear(image(g, "x", C), 2 * H, 2 * W);
}
static elbo_tensor *build_embedding(elbo_graph *g, const void *arg) {
  (void)arg;
  return elbo_embedding(elbo_input(g, "i", ELBO_I32, 2, (int64_t[]){B, 64}), elbo_input(g, "w", ELBO_F32, 2, (int64_t[]){1000, 128}));
}
static elbo_tensor *build_normal(elbo_graph *g, const void *arg) {
  return (void)arg, elbo_random_normal(g, "noise", 4, (int64_t[]){B, H, W, C});
}
static elbo_tensor *build_uniform(elbo_graph *g, const void *arg) {
  return (void)arg, elbo_random_uniform(g, "noise", 4, (int64_t[]){B, H, W, C});
}
static elbo_tensor *build_dropout(elbo_graph *g, const void *arg) { return (void)arg, elbo_dropout(image(g, "x", C), "drop", 0.1); }

// log p(x|z) as training raises it; x is "target".
static elbo_tensor *build_likelihood(elbo_graph *g, const void *arg) {
  likelihood l = {.kind = *(const int *)arg, .sigma = 1, .mixtures = 5, .channels = 3};
  l.variance = likelihood_variance(l.kind, WIDTH_AUTO);
  return likelihood_log_prob(&l, image(g, "x", (int)likelihood_width(&l)), image(g, "target", 3), NULL);
}
// z = mean + std noise, and log q(z) - log p(z) of it.
static elbo_tensor *build_gaussian_code(elbo_graph *g, const void *arg) {
  (void)arg;
  const int64_t dim[] = {128, 256};
  elbo_tensor *mean = elbo_input(g, "x", ELBO_F32, 2, dim), *log_std = elbo_input(g, "y", ELBO_F32, 2, dim);
  elbo_tensor *z = elbo_add(mean, elbo_mul(elbo_exp(log_std), elbo_random_normal(g, "z", 2, dim)));
  elbo_tensor *zero = elbo_scale(z, 0, 0);
  return elbo_sum_per_example(elbo_sub(gaussian_log_density(z, mean, log_std), gaussian_log_density(z, zero, zero)));
}

static const int likelihood_kinds[] = {LIKELIHOOD_BERNOULLI,  LIKELIHOOD_CONTINUOUS_BERNOULLI, LIKELIHOOD_GAUSSIAN,
                                       LIKELIHOOD_LAPLACE,    LIKELIHOOD_DISCRETIZED_LOGISTIC, LIKELIHOOD_LOGISTIC_MIXTURE,
                                       LIKELIHOOD_CATEGORICAL};
static const conv_case conv_3x3 = {C, C, 3, 1, 1, 1, 0}, conv_1x1 = {C, 2 * C, 1, 1, 0, 1, 0}, conv_4x4 = {C, 2 * C, 4, 2, 1, 1, 0},
                       conv_depthwise = {C, C, 3, 1, 1, C, 0}, conv_first = {1, C, 4, 2, 1, 1, 0}, conv_up = {C, C, 4, 2, 1, 1, 1};
static const bench_case cases[] = {{"conv2d 3x3", build_conv, &conv_3x3},
                                   {"conv2d 1x1", build_conv, &conv_1x1},
                                   {"conv2d 4x4 stride 2", build_conv, &conv_4x4},
                                   {"conv2d 4x4 stride 2, 1 channel in", build_conv, &conv_first},
                                   {"conv2d 3x3 depthwise", build_conv, &conv_depthwise},
                                   {"conv_transpose2d 4x4 stride 2", build_conv, &conv_up},
                                   {"linear 128x784x400", build_linear, NULL},
                                   {"matmul 16x128x256x128", build_matmul, NULL},
                                   {"attention 8x256, 4 heads of 32", build_attention, NULL},
                                   {"group_norm", build_group_norm, NULL},
                                   {"layer_norm", build_layer_norm, NULL},
                                   {"batch_norm", build_batch_norm, NULL},
                                   {"leaky_relu", build_leaky_relu, NULL},
                                   {"add a channel vector", build_broadcast, NULL},
                                   {"transpose", build_transpose, NULL},
                                   {"concat", build_concat, NULL},
                                   {"slice", build_slice, NULL},
                                   {"pad", build_pad, NULL},
                                   {"sum per example", build_sum, NULL},
                                   {"sum per channel", build_sum_batch, NULL},
                                   {"logsumexp", build_logsumexp, NULL},
                                   {"avg_pool2d 2x2", build_pool, NULL},
                                   {"upsample_nearest 2x2", build_nearest, NULL},
                                   {"resize_bilinear to twice", build_bilinear, NULL},
                                   {"embedding", build_embedding, NULL},
                                   {"random_normal", build_normal, NULL},
                                   {"random_uniform", build_uniform, NULL},
                                   {"dropout", build_dropout, NULL},
                                   {"max", build_max, NULL},
                                   {"where", build_where, NULL},
                                   {"cast", build_cast, NULL},
                                   {"gaussian sample and KL", build_gaussian_code, NULL},
                                   {"likelihood bernoulli", build_likelihood, &likelihood_kinds[0]},
                                   {"likelihood continuous_bernoulli", build_likelihood, &likelihood_kinds[1]},
                                   {"likelihood gaussian", build_likelihood, &likelihood_kinds[2]},
                                   {"likelihood laplace", build_likelihood, &likelihood_kinds[3]},
                                   {"likelihood discretized_logistic", build_likelihood, &likelihood_kinds[4]},
                                   {"likelihood logistic_mixture", build_likelihood, &likelihood_kinds[5]},
                                   {"likelihood categorical256", build_likelihood, &likelihood_kinds[6]}};

enum { N_CASES = sizeof cases / sizeof *cases, N_UNARY = sizeof unary / sizeof *unary, N_BINARY = sizeof binary / sizeof *binary };
static const char *const input_names[] = {"x", "y", "w", "b", "q", "k", "v", "direction", "target"};
enum { N_INPUTS = sizeof input_names / sizeof *input_names, N_DIFFERENTIATED = N_INPUTS - 2 };

// Positive and away from zero, so that no logarithm or root meets the slow path of special values.
static void fill_inputs(elbo_plan *plan) {
  for (int i = 0; i < N_INPUTS; i++) {
    float *values = elbo_plan_input(plan, input_names[i]);
    size_t n = elbo_plan_input_bytes(plan, input_names[i]) / sizeof *values;
    uint32_t state = 12345u + (uint32_t)i;
    for (size_t j = 0; values && j < n; j++) {
      state = state * 1664525u + 1013904223u;
      values[j] = 0.1f + 0.8f * (float)(state >> 8) * 0x1p-24f;
    }
  }
}

static elbo_tensor *float_input(const elbo_graph *g, const char *name) {
  for (int64_t i = 0; i < g->n_nodes; i++)
    if (g->nodes[i]->op == &op_input && !strcmp(g->nodes[i]->name, name) && g->nodes[i]->out[0]->dtype == ELBO_F32)
      return g->nodes[i]->out[0];
  return NULL;
}

// y, and the gradient of (y . direction) with respect to every float input where there is one.
static elbo_status make_plan(elbo_ctx *ctx, elbo_graph *g, const bench_case *c, elbo_plan **plan, elbo_store **store) {
  elbo_tensor *outputs[1 + N_INPUTS] = {c->build(g, c->arg)}, *wrt[N_INPUTS], *gradient[N_INPUTS];
  TRY(elbo_graph_check(g));
  elbo_tensor *y = outputs[0];
  int n = 1, n_wrt = 0;
  bool random = !strncmp(c->name, "random", 6);
  int64_t dim[ELBO_MAX_RANK];
  for (int i = 0; i < elbo_tensor_rank(y); i++) dim[i] = elbo_tensor_dim(y, i);
  if (!random) {
    elbo_tensor *loss = elbo_sum(elbo_mul(y, elbo_input(g, "direction", ELBO_F32, elbo_tensor_rank(y), dim)), ELBO_ALL_AXES, 0);
    for (int i = 0; i < N_DIFFERENTIATED; i++)
      if (float_input(g, input_names[i])) wrt[n_wrt++] = float_input(g, input_names[i]);
    TRY(elbo_gradient(loss, n_wrt, wrt, gradient));
    for (int i = 0; i < n_wrt; i++)
      if (gradient[i]) outputs[n++] = gradient[i];
  }
  TRY(elbo_store_create(ctx, 1, &g, 0, store));
  return elbo_plan_create(ctx, g, n, outputs, NULL, plan);
}

static elbo_status bench_one(elbo_ctx *ctx, const bench_case *c, elbo_bench_result *out) {
  elbo_graph *g = NULL;
  elbo_plan *plan = NULL;
  elbo_store *store = NULL;
  elbo_status status;
  TRY_GOTO(elbo_graph_create(ctx, c->name, &g));
  TRY_GOTO(make_plan(ctx, g, c, &plan, &store));
  fill_inputs(plan);
  for (int i = 0; i < 2; i++) TRY_GOTO(elbo_plan_run(plan, store));
  elbo_plan_profile(plan, 1);
  double began = seconds_now();
  for (int runs = 0; runs < 3 || (seconds_now() - began < 0.1 && runs < 1000); runs++) TRY_GOTO(elbo_plan_run(plan, store));
  TRY_GOTO(bench_add_plan(ctx, plan, c->name, out));
fail:
  elbo_plan_destroy(&plan);
  elbo_store_destroy(&store);
  elbo_graph_destroy(&g);
  return status;
}

elbo_status elbo_bench_ops(elbo_ctx *ctx, const elbo_bench_config *config, elbo_bench_result *out) {
  int total = N_CASES + N_UNARY + N_BINARY, done = 0;
  *out = (elbo_bench_result){0};
  elbo_status status = elbo_bench_peak(ctx, &out->peak_gflops);
  for (int i = 0; i < total && status == ELBO_OK; i++) {
    int index = i < N_CASES ? i : i < N_CASES + N_UNARY ? i - N_CASES : i - N_CASES - N_UNARY;
    bench_case c = i < N_CASES             ? cases[i]
                   : i < N_CASES + N_UNARY ? (bench_case){unary[index].name, build_unary, &index}
                                           : (bench_case){binary[index].name, build_binary, &index};
    status = bench_one(ctx, &c, out);
    if (status == ELBO_OK && config && config->progress && !config->progress(config->progress_user, "bench", ++done, total, c.name))
      status = fail(ctx, ELBO_ERROR_STOPPED, "stopped while timing operations");
  }
  if (status != ELBO_OK) elbo_bench_free(out);
  return status;
}
