// The operations that can be measured alone, and the graphs that hold them.
#include <stdio.h>
#include <string.h>

#include "ops/elementwise.h"
#include "tasks/bench_spec.h"

static elbo_tensor *input(elbo_graph *g, const char *name, int rank, const int64_t *dim) {
  return elbo_input(g, name, ELBO_F32, rank, dim);
}
static elbo_tensor *image(elbo_graph *g, const char *name, const bench_spec *s) {
  return input(g, name, 4, (int64_t[]){s->at[KEY_N], s->at[KEY_H], s->at[KEY_W], s->at[KEY_C]});
}
static elbo_tensor *weight(elbo_graph *g, const char *name, int rank, const int64_t *dim) {
  return elbo_parameter(g, name, rank, dim, ELBO_PARAM_TRAINED, ELBO_INIT_FAN_IN);
}
static elbo_tensor *channels(elbo_graph *g, const char *name, int64_t n) {
  return elbo_parameter(g, name, 1, &n, ELBO_PARAM_TRAINED, (elbo_init){ELBO_INIT_KIND_UNIFORM, 1.0, 0});
}

// What conv2d and linear may have behind them.
static elbo_tensor *finish(elbo_graph *g, const bench_spec *s, elbo_tensor *y) {
  int64_t dim[ELBO_MAX_RANK];
  if (!y) return NULL;
  for (int i = 0; i < elbo_tensor_rank(y); i++) dim[i] = elbo_tensor_dim(y, i);
  if (s->at[KEY_RESIDUAL]) y = elbo_add(y, input(g, "residual", elbo_tensor_rank(y), dim));
  return s->at[KEY_SILU] ? elbo_silu(y) : y;
}

static elbo_conv2d_config conv_config(const bench_spec *s) {
  int stride = (int)s->at[KEY_STRIDE], dilation = (int)s->at[KEY_DILATION], pad = (int)s->at[KEY_PAD];
  return (elbo_conv2d_config){{stride, stride}, {dilation, dilation}, {pad, pad, pad, pad}, (int)s->at[KEY_GROUPS]};
}
static elbo_tensor *build_conv2d(elbo_graph *g, const bench_spec *s) {
  const int64_t *at = s->at, dim[] = {at[KEY_K], at[KEY_C] / at[KEY_GROUPS], at[KEY_R], at[KEY_S]};
  elbo_conv2d_config config = conv_config(s);
  return finish(g, s, elbo_conv2d(image(g, "x", s), weight(g, "w", 4, dim), at[KEY_BIAS] ? channels(g, "b", at[KEY_K]) : NULL, &config));
}
static elbo_tensor *build_conv_transpose2d(elbo_graph *g, const bench_spec *s) {
  const int64_t *at = s->at, dim[] = {at[KEY_C], at[KEY_K] / at[KEY_GROUPS], at[KEY_R], at[KEY_S]};
  elbo_conv2d_config config = conv_config(s);
  return finish(g, s,
                elbo_conv_transpose2d(image(g, "x", s), weight(g, "w", 4, dim), at[KEY_BIAS] ? channels(g, "b", at[KEY_K]) : NULL, &config,
                                      (int[]){0, 0}));
}
static elbo_tensor *build_linear(elbo_graph *g, const bench_spec *s) {
  const int64_t *at = s->at;
  return finish(g, s,
                elbo_linear(input(g, "x", 2, (int64_t[]){at[KEY_N], at[KEY_C]}), weight(g, "w", 2, (int64_t[]){at[KEY_K], at[KEY_C]}),
                            at[KEY_BIAS] ? channels(g, "b", at[KEY_K]) : NULL));
}
static elbo_tensor *build_matmul(elbo_graph *g, const bench_spec *s) {
  const int64_t *at = s->at, n = at[KEY_N], m = at[KEY_M], c = at[KEY_C], k = at[KEY_K];
  bool ta = at[KEY_TRANSPOSE_A], tb = at[KEY_TRANSPOSE_B];
  return elbo_matmul(input(g, "x", 3, (int64_t[]){n, ta ? c : m, ta ? m : c}), input(g, "y", 3, (int64_t[]){n, tb ? k : c, tb ? c : k}), ta,
                     tb);
}
static elbo_tensor *build_attention(elbo_graph *g, const bench_spec *s) {
  const int64_t *at = s->at, width = at[KEY_HEADS] * at[KEY_D];
  const int64_t q[] = {at[KEY_N], at[KEY_Q], width}, kv[] = {at[KEY_N], at[KEY_KV], width};
  return elbo_attention(input(g, "x", 3, q), input(g, "y", 3, kv), input(g, "z", 3, kv), NULL, (int)at[KEY_HEADS], 0, (int)at[KEY_CAUSAL]);
}

static elbo_tensor *build_group_norm(elbo_graph *g, const bench_spec *s) {
  int64_t c = s->at[KEY_C];
  elbo_tensor *y = elbo_group_norm(image(g, "x", s), channels(g, "w", c), channels(g, "b", c), (int)s->at[KEY_GROUPS], 1e-5);
  return s->at[KEY_SILU] ? elbo_silu(y) : y;
}
static elbo_tensor *build_layer_norm(elbo_graph *g, const bench_spec *s) {
  return elbo_layer_norm(image(g, "x", s), channels(g, "w", s->at[KEY_C]), channels(g, "b", s->at[KEY_C]), 1e-5);
}
static elbo_tensor *build_batch_norm(elbo_graph *g, const bench_spec *s) {
  const int64_t *c = &s->at[KEY_C];
  elbo_tensor *mean = elbo_parameter(g, "mean", 1, c, ELBO_PARAM_STATE, ELBO_INIT_ZEROS);
  elbo_tensor *variance = elbo_parameter(g, "variance", 1, c, ELBO_PARAM_STATE, ELBO_INIT_ONES);
  return elbo_batch_norm(image(g, "x", s), channels(g, "w", *c), channels(g, "b", *c), mean, variance, 0.1, 1e-5, 1);
}
static elbo_tensor *build_softmax(elbo_graph *g, const bench_spec *s) { return elbo_softmax(image(g, "x", s)); }

static elbo_tensor *build_avg_pool2d(elbo_graph *g, const bench_spec *s) {
  return elbo_avg_pool2d(image(g, "x", s), (int)s->at[KEY_R], (int)s->at[KEY_S]);
}
static elbo_tensor *build_max_pool2d(elbo_graph *g, const bench_spec *s) {
  int stride = (int)s->at[KEY_STRIDE], pad = (int)s->at[KEY_PAD];
  return elbo_max_pool2d(image(g, "x", s), (int[]){(int)s->at[KEY_R], (int)s->at[KEY_S]}, (int[]){stride, stride},
                         (int[]){pad, pad, pad, pad});
}
static elbo_tensor *build_upsample_nearest(elbo_graph *g, const bench_spec *s) {
  return elbo_upsample_nearest(image(g, "x", s), (int)s->at[KEY_FACTOR], (int)s->at[KEY_FACTOR]);
}
static elbo_tensor *build_resize_bilinear(elbo_graph *g, const bench_spec *s) {
  return elbo_resize_bilinear(image(g, "x", s), s->at[KEY_H] * s->at[KEY_FACTOR], s->at[KEY_W] * s->at[KEY_FACTOR]);
}
static elbo_tensor *build_embedding(elbo_graph *g, const bench_spec *s) {
  return elbo_embedding(elbo_input(g, "index", ELBO_I32, 1, &s->at[KEY_N]), weight(g, "w", 2, (int64_t[]){s->at[KEY_K], s->at[KEY_C]}));
}

static elbo_tensor *build_transpose(elbo_graph *g, const bench_spec *s) { return elbo_transpose(image(g, "x", s), (int[]){0, 3, 1, 2}); }
static elbo_tensor *build_concat(elbo_graph *g, const bench_spec *s) {
  elbo_tensor *y = input(g, "y", 4, (int64_t[]){s->at[KEY_N], s->at[KEY_H], s->at[KEY_W], s->at[KEY_K]});
  return elbo_concat(2, (elbo_tensor *[]){image(g, "x", s), y}, 3);
}
static elbo_tensor *build_slice(elbo_graph *g, const bench_spec *s) { return elbo_slice(image(g, "x", s), 3, 0, (s->at[KEY_C] + 1) / 2); }
static elbo_tensor *build_pad(elbo_graph *g, const bench_spec *s) { return elbo_pad(image(g, "x", s), 1, s->at[KEY_PAD], s->at[KEY_PAD]); }
static elbo_tensor *build_broadcast_to(elbo_graph *g, const bench_spec *s) {
  const int64_t *at = s->at, from[] = {at[KEY_N], 1, 1, at[KEY_C]}, to[] = {at[KEY_N], at[KEY_H], at[KEY_W], at[KEY_C]};
  return elbo_broadcast_to(input(g, "x", 4, from), 4, to);
}
static elbo_tensor *build_cast(elbo_graph *g, const bench_spec *s) {
  const int64_t *at = s->at, dim[] = {at[KEY_N], at[KEY_H], at[KEY_W], at[KEY_C]};
  return elbo_cast(elbo_input(g, "index", ELBO_I32, 4, dim), ELBO_F32);
}
static elbo_tensor *build_where(elbo_graph *g, const bench_spec *s) {
  return elbo_where(image(g, "z", s), image(g, "x", s), image(g, "y", s));
}

static elbo_tensor *build_sum(elbo_graph *g, const bench_spec *s) { return elbo_sum(image(g, "x", s), 1u << 3, 0); }
static elbo_tensor *build_sum_per_channel(elbo_graph *g, const bench_spec *s) { return elbo_sum(image(g, "x", s), 1u | 2u | 4u, 0); }
static elbo_tensor *build_sum_per_example(elbo_graph *g, const bench_spec *s) { return elbo_sum_per_example(image(g, "x", s)); }
static elbo_tensor *build_max(elbo_graph *g, const bench_spec *s) { return elbo_max(image(g, "x", s), 1u << 3, 0); }
static elbo_tensor *build_logsumexp(elbo_graph *g, const bench_spec *s) { return elbo_logsumexp(image(g, "x", s), 1u << 3, 0); }

static elbo_tensor *build_random_normal(elbo_graph *g, const bench_spec *s) {
  const int64_t *at = s->at, dim[] = {at[KEY_N], at[KEY_H], at[KEY_W], at[KEY_C]};
  return elbo_random_normal(g, "noise", 4, dim);
}
static elbo_tensor *build_random_uniform(elbo_graph *g, const bench_spec *s) {
  const int64_t *at = s->at, dim[] = {at[KEY_N], at[KEY_H], at[KEY_W], at[KEY_C]};
  return elbo_random_uniform(g, "noise", 4, dim);
}
static elbo_tensor *build_dropout(elbo_graph *g, const bench_spec *s) { return elbo_dropout(image(g, "x", s), "drop", 0.1); }

// One instruction of the element-wise family.
static elbo_tensor *build_elementwise(elbo_graph *g, const bench_spec *s) {
  elementwise_code code = (elementwise_code)s->op->code;
  elementwise_attr attr = {.code = code};
  if (code == EW_LEAKY_RELU) attr.a = 0.2;
  if (code == EW_CLAMP) attr.a = -0.5, attr.b = 0.5;
  if (code == EW_SCALE) attr.a = 2, attr.b = 1;
  elbo_tensor *in[] = {image(g, "x", s), elementwise_operands(code) > 1 ? image(g, "y", s) : NULL};
  if (!in[0]) return NULL;
  return graph_add(g, in[1] ? &op_binary : &op_unary, &attr, in[1] ? 2 : 1, in, NULL);
}

#define IMAGE ":n=16,h=32,w=auto,c=128"
#define CONV(stride_, r_)                                                                             \
  ",k=auto,r=" r_ ",s=auto,stride=" stride_ ",pad=auto,dilation=1,groups=1,bias=0,residual=0,silu=0," \
  "constant=auto"
#define WISE(name, code) \
  { name IMAGE, HAS_DATA, build_elementwise, code }
#define WISE_POSITIVE(name, code) \
  { name IMAGE, HAS_DATA | FROM_POSITIVE, build_elementwise, code }
static const bench_op ops[] = {
    {"conv2d:n=1,h=32,w=auto,c=64" CONV("1", "3"), HAS_DATA | HAS_WEIGHTS, build_conv2d, 0},
    {"conv_transpose2d:n=1,h=16,w=auto,c=64" CONV("2", "4"), HAS_DATA | HAS_WEIGHTS, build_conv_transpose2d, 0},
    {"linear:n=128,c=512,k=auto,bias=0,residual=0,silu=0,constant=auto", HAS_DATA | HAS_WEIGHTS, build_linear, 0},
    {"matmul:n=16,m=128,c=256,k=128,transpose_a=0,transpose_b=0", HAS_DATA, build_matmul, 0},
    {"attention:n=1,q=256,kv=auto,heads=4,d=32,causal=0", HAS_DATA, build_attention, 0},
    {"group_norm" IMAGE ",groups=32,silu=0", HAS_DATA | HAS_WEIGHTS, build_group_norm, 0},
    {"layer_norm" IMAGE, HAS_DATA | HAS_WEIGHTS, build_layer_norm, 0},
    {"batch_norm" IMAGE, HAS_DATA | HAS_WEIGHTS, build_batch_norm, 0},
    {"softmax" IMAGE, HAS_DATA, build_softmax, 0},
    {"avg_pool2d" IMAGE ",r=2,s=auto", HAS_DATA, build_avg_pool2d, 0},
    {"max_pool2d" IMAGE ",r=2,s=auto,stride=2,pad=0", HAS_DATA, build_max_pool2d, 0},
    {"upsample_nearest" IMAGE ",factor=2", HAS_DATA, build_upsample_nearest, 0},
    {"resize_bilinear" IMAGE ",factor=2", HAS_DATA, build_resize_bilinear, 0},
    {"embedding:n=4096,k=1000,c=128", HAS_WEIGHTS, build_embedding, 0},
    {"transpose" IMAGE, HAS_DATA, build_transpose, 0},
    {"concat" IMAGE ",k=auto", HAS_DATA, build_concat, 0},
    {"slice" IMAGE, HAS_DATA, build_slice, 0},
    {"pad" IMAGE ",pad=1", HAS_DATA, build_pad, 0},
    {"broadcast_to" IMAGE, HAS_DATA, build_broadcast_to, 0},
    {"cast" IMAGE, 0, build_cast, 0},
    {"sum" IMAGE, HAS_DATA, build_sum, 0},
    {"sum_per_channel" IMAGE, HAS_DATA, build_sum_per_channel, 0},
    {"sum_per_example" IMAGE, HAS_DATA, build_sum_per_example, 0},
    {"max" IMAGE, HAS_DATA, build_max, 0},
    {"logsumexp" IMAGE, HAS_DATA, build_logsumexp, 0},
    {"random_normal" IMAGE, 0, build_random_normal, 0},
    {"random_uniform" IMAGE, 0, build_random_uniform, 0},
    {"dropout" IMAGE, HAS_DATA, build_dropout, 0},
    {"where" IMAGE, HAS_DATA, build_where, 0},
    WISE("neg", EW_NEG),
    WISE("abs", EW_ABS),
    {"sign" IMAGE, 0, build_elementwise, EW_SIGN},
    WISE("exp", EW_EXP),
    WISE_POSITIVE("log", EW_LOG),
    WISE_POSITIVE("log1p", EW_LOG1P),
    WISE("expm1", EW_EXPM1),
    WISE_POSITIVE("sqrt", EW_SQRT),
    WISE_POSITIVE("rsqrt", EW_RSQRT),
    WISE("square", EW_SQUARE),
    WISE_POSITIVE("reciprocal", EW_RECIPROCAL),
    WISE("sin", EW_SIN),
    WISE("cos", EW_COS),
    WISE("tanh", EW_TANH),
    WISE("sigmoid", EW_SIGMOID),
    WISE("softplus", EW_SOFTPLUS),
    WISE("relu", EW_RELU),
    WISE("leaky_relu", EW_LEAKY_RELU),
    WISE("gelu", EW_GELU),
    WISE("gelu_tanh", EW_GELU_TANH),
    WISE("silu", EW_SILU),
    WISE("erf", EW_ERF),
    WISE("clamp", EW_CLAMP),
    WISE("scale", EW_SCALE),
    WISE("add", EW_ADD),
    WISE("sub", EW_SUB),
    WISE("mul", EW_MUL),
    WISE_POSITIVE("div", EW_DIV),
    WISE("maximum", EW_MAXIMUM),
    WISE("minimum", EW_MINIMUM),
    {"less" IMAGE, 0, build_elementwise, EW_LESS},
};

const bench_op *bench_op_at(int i) { return i >= 0 && i < (int)(sizeof ops / sizeof *ops) ? &ops[i] : NULL; }
