#include "ops/elementwise.h"

#include <elbo/ops.h>
#include <string.h>

#include "ops/fused_elementwise.h"

// --- the table ------------------------------------------------------------------------------------------------------------------

static const struct {
  const char *name;
  int operands;
} code_table[EW_CODE_COUNT] = {
    [EW_NEG] = {"neg", 1},
    [EW_ABS] = {"abs", 1},
    [EW_SIGN] = {"sign", 1},
    [EW_EXP] = {"exp", 1},
    [EW_LOG] = {"log", 1},
    [EW_LOG1P] = {"log1p", 1},
    [EW_EXPM1] = {"expm1", 1},
    [EW_SQRT] = {"sqrt", 1},
    [EW_RSQRT] = {"rsqrt", 1},
    [EW_SQUARE] = {"square", 1},
    [EW_RECIPROCAL] = {"reciprocal", 1},
    [EW_SIN] = {"sin", 1},
    [EW_COS] = {"cos", 1},
    [EW_TANH] = {"tanh", 1},
    [EW_SIGMOID] = {"sigmoid", 1},
    [EW_SOFTPLUS] = {"softplus", 1},
    [EW_RELU] = {"relu", 1},
    [EW_LEAKY_RELU] = {"leaky_relu", 1},
    [EW_GELU] = {"gelu", 1},
    [EW_GELU_TANH] = {"gelu_tanh", 1},
    [EW_SILU] = {"silu", 1},
    [EW_ERF] = {"erf", 1},
    [EW_CLAMP] = {"clamp", 1},
    [EW_SCALE] = {"scale", 1},
    [EW_ADD] = {"add", 2},
    [EW_SUB] = {"sub", 2},
    [EW_MUL] = {"mul", 2},
    [EW_DIV] = {"div", 2},
    [EW_MAXIMUM] = {"maximum", 2},
    [EW_MINIMUM] = {"minimum", 2},
    [EW_LESS] = {"less", 2},
    [EW_WHERE] = {"where", 3},
    [EW_COPY] = {"broadcast_to", 1},
    [EW_CONSTANT] = {"constant", 0},
    [EW_RANDOM_NORMAL] = {"random_normal", 2},
    [EW_RANDOM_UNIFORM] = {"random_uniform", 2},
    [EW_DROPOUT] = {"dropout", 3},
};

const char *elementwise_code_name(elementwise_code code) { return code_table[code].name; }
int elementwise_operands(elementwise_code code) { return code_table[code].operands; }

const char *elementwise_name(const node *n) {
  if (n->op != &op_unary && n->op != &op_binary && n->op != &op_where) return n->op->name;
  return code_table[((const elementwise_attr *)n->attr)->code].name;
}

// --- shape rules ----------------------------------------------------------------------------------------------------------------

static bool infer_elementwise(elbo_graph *g, node *n) {
  shape s = n->in[0]->shape;
  for (int i = 0; i < n->n_in; i++) {
    char have[SHAPE_TEXT], other[SHAPE_TEXT];
    if (n->in[i]->dtype != ELBO_F32) {
      graph_fail(g, ELBO_ERROR_ARGUMENT, "%s: operand %d is %s, expected float32", elementwise_name(n), i,
                 elbo_dtype_name(n->in[i]->dtype));
      return false;
    }
    if (!shape_broadcast(&s, &n->in[i]->shape, &s)) {
      graph_fail(g, ELBO_ERROR_ARGUMENT, "%s: shapes %s and %s do not broadcast together", elementwise_name(n), shape_text(&s, have),
                 shape_text(&n->in[i]->shape, other));
      return false;
    }
  }
  n->out[0]->dtype = ELBO_F32;
  n->out[0]->shape = s;
  return true;
}

elbo_tensor *sum_to_shape(elbo_tensor *t, const shape *target) {
  elbo_graph *g = graph_of(1, &t);
  if (!g) return NULL;
  unsigned axes = 0;
  int lead = t->shape.rank - target->rank;
  for (int i = 0; i < t->shape.rank; i++) {
    int64_t kept = i < lead ? 1 : target->dim[i - lead];
    if (t->shape.dim[i] != kept || i < lead) axes |= 1u << i;
  }
  if (axes) t = elbo_sum(t, axes, 1);
  if (!t || shape_equal(&t->shape, target)) return t;
  return elbo_reshape(t, target->rank, target->dim);
}

// --- gradients ------------------------------------------------------------------------------------------------------------------
// Built of the family's own instructions, so that every one is differentiable any number of times. Where the result serves as well as the
// operand, it is used: the operand's memory is then free.

// a where x > 0, b elsewhere
static elbo_tensor *where_positive(elbo_graph *g, elbo_tensor *x, elbo_tensor *a, elbo_tensor *b) {
  return elbo_where(elbo_less(elbo_constant(g, 0.0), x), a, b);
}

// d silu(s x)/dx for silu_s(x) = x sigmoid(s x) is q (1 + s x (1 - q)), q = sigmoid(s x)
static elbo_tensor *silu_slope(elbo_tensor *x) {
  elbo_tensor *q = elbo_sigmoid(x);
  return elbo_mul(q, elbo_scale(elbo_mul(x, elbo_scale(q, -1.0, 1.0)), 1.0, 1.0));
}

// Phi(x) + x phi(x)
static elbo_tensor *gelu_slope(elbo_tensor *x) {
  elbo_tensor *cdf = elbo_scale(elbo_erf(elbo_scale(x, 0.70710678118654752, 0.0)), 0.5, 0.5);
  elbo_tensor *pdf = elbo_scale(elbo_exp(elbo_scale(elbo_square(x), -0.5, 0.0)), 0.39894228040143268, 0.0);
  return elbo_add(cdf, elbo_mul(x, pdf));
}

// x sigmoid(u), u = 2 sqrt(2/pi) (x + 0.044715 x^3)
static elbo_tensor *gelu_tanh_slope(elbo_tensor *x) {
  const double c = 1.5957691216057308;
  elbo_tensor *xx = elbo_square(x);
  elbo_tensor *q = elbo_sigmoid(elbo_mul(x, elbo_scale(xx, c * 0.044715, c)));
  elbo_tensor *x_du = elbo_mul(x, elbo_scale(xx, 3 * c * 0.044715, c));
  return elbo_mul(q, elbo_scale(elbo_mul(x_du, elbo_scale(q, -1.0, 1.0)), 1.0, 1.0));
}

static elbo_tensor *unary_derivative(elbo_graph *g, const elementwise_attr *attr, elbo_tensor *x, elbo_tensor *y, elbo_tensor *dy) {
  elbo_tensor *zero;
  switch ((elementwise_code)attr->code) {
  case EW_NEG: return elbo_neg(dy);
  case EW_ABS: return elbo_mul(dy, elbo_sign(x));
  case EW_EXP: return elbo_mul(dy, y);
  case EW_LOG: return elbo_div(dy, x);
  case EW_LOG1P: return elbo_div(dy, elbo_scale(x, 1.0, 1.0));
  case EW_EXPM1: return elbo_mul(dy, elbo_scale(y, 1.0, 1.0));
  case EW_SQRT: return elbo_div(elbo_scale(dy, 0.5, 0.0), y);
  case EW_RSQRT: return elbo_mul(dy, elbo_scale(elbo_mul(elbo_square(y), y), -0.5, 0.0));
  case EW_SQUARE: return elbo_mul(dy, elbo_scale(x, 2.0, 0.0));
  case EW_RECIPROCAL: return elbo_neg(elbo_mul(dy, elbo_square(y)));
  case EW_SIN: return elbo_mul(dy, elbo_cos(x));
  case EW_COS: return elbo_neg(elbo_mul(dy, elbo_sin(x)));
  case EW_TANH: return elbo_mul(dy, elbo_scale(elbo_square(y), -1.0, 1.0));
  case EW_SIGMOID: return elbo_mul(dy, elbo_mul(y, elbo_scale(y, -1.0, 1.0)));
  case EW_SOFTPLUS: return elbo_mul(dy, elbo_sigmoid(x));
  case EW_RELU: return where_positive(g, y, dy, elbo_constant(g, 0.0));
  case EW_LEAKY_RELU: return where_positive(g, attr->a > 0.0 ? y : x, dy, elbo_scale(dy, attr->a, 0.0));
  case EW_GELU: return elbo_mul(dy, gelu_slope(x));
  case EW_GELU_TANH: return elbo_mul(dy, gelu_tanh_slope(x));
  case EW_SILU: return elbo_mul(dy, silu_slope(x));
  case EW_ERF: return elbo_mul(dy, elbo_scale(elbo_exp(elbo_neg(elbo_square(x))), 1.1283791670955126, 0.0));
  case EW_CLAMP:
    zero = elbo_constant(g, 0.0);
    dy = elbo_where(elbo_less(x, elbo_constant(g, attr->a)), zero, dy);
    return elbo_where(elbo_less(elbo_constant(g, attr->b), x), zero, dy);
  case EW_SCALE: return elbo_scale(dy, attr->a, 0.0);
  default: return NULL; // sign
  }
}

static bool unary_gradient(elbo_graph *g, const node *n, elbo_tensor *const *dy, const bool *wanted, elbo_tensor **dx) {
  if (wanted[0] && dy[0]) dx[0] = unary_derivative(g, n->attr, n->in[0], n->out[0], dy[0]);
  return g->error == ELBO_OK;
}

static bool binary_gradient(elbo_graph *g, const node *n, elbo_tensor *const *dys, const bool *wanted, elbo_tensor **dx) {
  elementwise_code code = (elementwise_code)((const elementwise_attr *)n->attr)->code;
  elbo_tensor *a = n->in[0], *b = n->in[1], *dy = dys[0], *da = NULL, *db = NULL, *zero, *second;
  if (!dy || code == EW_LESS) return true;
  switch (code) {
  case EW_ADD: da = db = dy; break;
  case EW_SUB:
    da = dy;
    if (wanted[1]) db = elbo_neg(dy);
    break;
  case EW_MUL:
    if (wanted[0]) da = elbo_mul(dy, b);
    if (wanted[1]) db = elbo_mul(dy, a);
    break;
  case EW_DIV:
    if (wanted[0]) da = elbo_div(dy, b);
    if (wanted[1]) db = elbo_neg(elbo_mul(dy, elbo_div(n->out[0], b)));
    break;
  case EW_MAXIMUM:
  case EW_MINIMUM: // the first operand wins a tie
    zero = elbo_constant(g, 0.0);
    second = code == EW_MAXIMUM ? elbo_less(a, b) : elbo_less(b, a);
    if (wanted[0]) da = elbo_where(second, zero, dy);
    if (wanted[1]) db = elbo_where(second, dy, zero);
    break;
  default: break;
  }
  if (wanted[0]) dx[0] = sum_to_shape(da, &a->shape);
  if (wanted[1]) dx[1] = sum_to_shape(db, &b->shape);
  return g->error == ELBO_OK;
}

static bool where_gradient(elbo_graph *g, const node *n, elbo_tensor *const *dy, const bool *wanted, elbo_tensor **dx) {
  if (!dy[0]) return true;
  elbo_tensor *zero = elbo_constant(g, 0.0);
  if (wanted[1]) dx[1] = sum_to_shape(elbo_where(n->in[0], dy[0], zero), &n->in[1]->shape);
  if (wanted[2]) dx[2] = sum_to_shape(elbo_where(n->in[0], zero, dy[0]), &n->in[2]->shape);
  return g->error == ELBO_OK;
}

const op_def op_unary = {.name = "unary",
                         .attr_size = sizeof(elementwise_attr),
                         .n_in = 1,
                         .n_out = 1,
                         .flags = OP_ELEMENTWISE | OP_INPLACE | OP_CHEAP,
                         .infer = infer_elementwise,
                         .gradient = unary_gradient,
                         .reference = elementwise_reference};
const op_def op_binary = {.name = "binary",
                          .attr_size = sizeof(elementwise_attr),
                          .n_in = 2,
                          .n_out = 1,
                          .flags = OP_ELEMENTWISE | OP_INPLACE | OP_CHEAP,
                          .infer = infer_elementwise,
                          .gradient = binary_gradient,
                          .reference = elementwise_reference};
const op_def op_where = {.name = "where",
                         .attr_size = sizeof(elementwise_attr),
                         .n_in = 3,
                         .n_out = 1,
                         .flags = OP_ELEMENTWISE | OP_INPLACE | OP_CHEAP,
                         .infer = infer_elementwise,
                         .gradient = where_gradient,
                         .reference = elementwise_reference};

// --- builders -------------------------------------------------------------------------------------------------------------------

static elbo_tensor *add_unary(elementwise_code code, elbo_tensor *x, double a, double b) {
  elbo_graph *g = graph_of(1, &x);
  if (!g) return NULL;
  elementwise_attr attr = {code, a, b};
  return graph_add(g, &op_unary, &attr, 1, &x, NULL);
}

static elbo_tensor *add_binary(elementwise_code code, elbo_tensor *a, elbo_tensor *b) {
  elbo_tensor *in[2] = {a, b};
  elbo_graph *g = graph_of(2, in);
  if (!g) return NULL;
  elementwise_attr attr = {code, 0.0, 0.0};
  return graph_add(g, &op_binary, &attr, 2, in, NULL);
}

elbo_tensor *elbo_neg(elbo_tensor *x) { return add_unary(EW_NEG, x, 0, 0); }
elbo_tensor *elbo_abs(elbo_tensor *x) { return add_unary(EW_ABS, x, 0, 0); }
elbo_tensor *elbo_sign(elbo_tensor *x) { return add_unary(EW_SIGN, x, 0, 0); }
elbo_tensor *elbo_exp(elbo_tensor *x) { return add_unary(EW_EXP, x, 0, 0); }
elbo_tensor *elbo_log(elbo_tensor *x) { return add_unary(EW_LOG, x, 0, 0); }
elbo_tensor *elbo_log1p(elbo_tensor *x) { return add_unary(EW_LOG1P, x, 0, 0); }
elbo_tensor *elbo_expm1(elbo_tensor *x) { return add_unary(EW_EXPM1, x, 0, 0); }
elbo_tensor *elbo_sqrt(elbo_tensor *x) { return add_unary(EW_SQRT, x, 0, 0); }
elbo_tensor *elbo_rsqrt(elbo_tensor *x) { return add_unary(EW_RSQRT, x, 0, 0); }
elbo_tensor *elbo_square(elbo_tensor *x) { return add_unary(EW_SQUARE, x, 0, 0); }
elbo_tensor *elbo_reciprocal(elbo_tensor *x) { return add_unary(EW_RECIPROCAL, x, 0, 0); }
elbo_tensor *elbo_sin(elbo_tensor *x) { return add_unary(EW_SIN, x, 0, 0); }
elbo_tensor *elbo_cos(elbo_tensor *x) { return add_unary(EW_COS, x, 0, 0); }
elbo_tensor *elbo_tanh(elbo_tensor *x) { return add_unary(EW_TANH, x, 0, 0); }
elbo_tensor *elbo_sigmoid(elbo_tensor *x) { return add_unary(EW_SIGMOID, x, 0, 0); }
elbo_tensor *elbo_softplus(elbo_tensor *x) { return add_unary(EW_SOFTPLUS, x, 0, 0); }
elbo_tensor *elbo_relu(elbo_tensor *x) { return add_unary(EW_RELU, x, 0, 0); }
elbo_tensor *elbo_leaky_relu(elbo_tensor *x, double slope) { return add_unary(EW_LEAKY_RELU, x, slope, 0); }
elbo_tensor *elbo_gelu(elbo_tensor *x) { return add_unary(EW_GELU, x, 0, 0); }
elbo_tensor *elbo_gelu_tanh(elbo_tensor *x) { return add_unary(EW_GELU_TANH, x, 0, 0); }
elbo_tensor *elbo_silu(elbo_tensor *x) { return add_unary(EW_SILU, x, 0, 0); }
elbo_tensor *elbo_erf(elbo_tensor *x) { return add_unary(EW_ERF, x, 0, 0); }
elbo_tensor *elbo_clamp(elbo_tensor *x, double low, double high) {
  elbo_graph *g = graph_of(1, &x);
  if (g && !(low <= high)) return graph_fail(g, ELBO_ERROR_ARGUMENT, "clamp: low %g is above high %g", low, high);
  return add_unary(EW_CLAMP, x, low, high);
}
elbo_tensor *elbo_scale(elbo_tensor *x, double factor, double offset) { return add_unary(EW_SCALE, x, factor, offset); }

elbo_tensor *elbo_add(elbo_tensor *a, elbo_tensor *b) { return add_binary(EW_ADD, a, b); }
elbo_tensor *elbo_sub(elbo_tensor *a, elbo_tensor *b) { return add_binary(EW_SUB, a, b); }
elbo_tensor *elbo_mul(elbo_tensor *a, elbo_tensor *b) { return add_binary(EW_MUL, a, b); }
elbo_tensor *elbo_div(elbo_tensor *a, elbo_tensor *b) { return add_binary(EW_DIV, a, b); }
elbo_tensor *elbo_maximum(elbo_tensor *a, elbo_tensor *b) { return add_binary(EW_MAXIMUM, a, b); }
elbo_tensor *elbo_minimum(elbo_tensor *a, elbo_tensor *b) { return add_binary(EW_MINIMUM, a, b); }
elbo_tensor *elbo_less(elbo_tensor *a, elbo_tensor *b) { return add_binary(EW_LESS, a, b); }

elbo_tensor *elbo_where(elbo_tensor *c, elbo_tensor *a, elbo_tensor *b) {
  elbo_tensor *in[3] = {c, a, b};
  elbo_graph *g = graph_of(3, in);
  if (!g) return NULL;
  elementwise_attr attr = {EW_WHERE, 0.0, 0.0};
  return graph_add(g, &op_where, &attr, 3, in, NULL);
}
