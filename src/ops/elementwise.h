// The element-wise family: one table of instructions, shared by the plain operations (one instruction each) and by the programs that
// the fuse pass makes of them (ops/fused_elementwise.h).
#ifndef OPS_ELEMENTWISE_H
#define OPS_ELEMENTWISE_H

#include "ops/op.h"

typedef enum elementwise_code {
  // one operand: op_unary
  EW_NEG,
  EW_ABS,
  EW_SIGN,
  EW_EXP,
  EW_LOG,
  EW_LOG1P,
  EW_EXPM1,
  EW_SQRT,
  EW_RSQRT,
  EW_SQUARE,
  EW_RECIPROCAL,
  EW_SIN,
  EW_COS,
  EW_TANH,
  EW_SIGMOID,
  EW_SOFTPLUS,
  EW_RELU,
  EW_LEAKY_RELU, // a: slope
  EW_GELU,
  EW_GELU_TANH,
  EW_SILU,
  EW_ERF,
  EW_CLAMP, // a: low, b: high
  EW_SCALE, // a x + b
  // two: op_binary
  EW_ADD,
  EW_SUB,
  EW_MUL,
  EW_DIV,
  EW_MAXIMUM,
  EW_MINIMUM,
  EW_LESS,
  // three: op_where
  EW_WHERE, // condition, value where it is above 0.5, value elsewhere
  // the rest
  EW_COPY,           // op_broadcast_to: its operand, broadcast
  EW_CONSTANT,       // a; no operand
  EW_RANDOM_NORMAL,  // operands seed, sample_index; stream
  EW_RANDOM_UNIFORM, // the same
  EW_DROPOUT,        // operands x, seed, sample_index; stream; a: probability of 0
  EW_CODE_COUNT
} elementwise_code;

// Attribute of op_unary, op_binary and op_where. No padding, so that attributes compare by their bytes.
typedef struct elementwise_attr {
  int64_t code;
  double a, b;
} elementwise_attr;

// Attribute of op_random_normal and op_random_uniform.
typedef struct random_attr {
  int64_t stream; // philox_stream of the scoped name
  int64_t rank;
  int64_t dim[ELBO_MAX_RANK]; // (B,...)
} random_attr;

// Attribute of op_dropout.
typedef struct dropout_attr {
  int64_t stream;
  double probability;
} dropout_attr;

// Attribute of op_broadcast_to.
typedef struct broadcast_attr {
  int64_t rank;
  int64_t dim[ELBO_MAX_RANK];
} broadcast_attr;

extern const op_def op_unary, op_binary, op_where, op_broadcast_to;

// "exp", "add": the instruction's own name; op->name for nodes that are not of the family.
const char *elementwise_name(const node *n);
const char *elementwise_code_name(elementwise_code code);
int elementwise_operands(elementwise_code code);

// One instruction in double precision; x: elementwise_operands(code) numbers. Not for the random ones.
double elementwise_evaluate(elementwise_code code, double a, double b, const double *x);

// Sums t over the axes along which `target` was broadcast to t's shape and gives it that shape: the gradient of broadcasting.
elbo_tensor *sum_to_shape(elbo_tensor *t, const shape *target);

// The inputs that every random operation reads: "seed" and "sample_index" (B), whatever the scope. false on error.
bool random_inputs(elbo_graph *g, int64_t batch, elbo_tensor **seed, elbo_tensor **sample_index);

#endif
