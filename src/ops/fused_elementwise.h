// Programs of element-wise instructions: what the fuse pass makes of neighbouring element-wise operations, and what every plain one is
// compiled to (a program of one instruction). One pass over memory, whatever the number of instructions.
//
// Registers: 0..n_in-1 are the inputs, n_in + i is the result of instruction i (single assignment: instruction i reads registers below
// n_in + i). All have the iteration shape; inputs are broadcast into it as in NumPy (aligned at the last axis) and never materialised.
// The int64 inputs "seed" and "sample_index" are named only by random instructions, as operands, and are not broadcast; with a random
// instruction in it the iteration shape is that of the draw, (B,...).
#ifndef OPS_FUSED_ELEMENTWISE_H
#define OPS_FUSED_ELEMENTWISE_H

#include "ops/elementwise.h"

enum { EW_MAX_INPUTS = 16, EW_MAX_INSTRUCTIONS = 96, EW_MAX_OUTPUTS = 8, EW_MAX_REGISTERS = EW_MAX_INPUTS + EW_MAX_INSTRUCTIONS };

typedef struct elementwise_instruction {
  int16_t code;    // elementwise_code
  int16_t src[3];  // operand registers; unused ones 0
  uint32_t stream; // of random instructions
  uint32_t unused;
  double a, b;
} elementwise_instruction;

typedef struct elementwise_output {
  int32_t reg;
  int32_t sum; // 0: the register itself, iteration shape; 1: summed over the axes from sum_axis on, shape iteration[0..sum_axis-1]
} elementwise_output;

// Zero it before filling: nodes are compared by the bytes of their attributes.
typedef struct elementwise_program {
  int64_t n_out; // first: see op_def.n_out
  int64_t n_in, n_instructions;
  int64_t sum_axis; // 0..rank; only read when an output is a sum
  shape iteration;
  elementwise_output out[EW_MAX_OUTPUTS];
  elementwise_instruction code[EW_MAX_INSTRUCTIONS];
} elementwise_program;

// Adds a node that runs the program; checks all of it. Output i is node->out[i]. NULL after an error.
node *graph_add_fused_elementwise(elbo_graph *g, const elementwise_program *p, int n_in, elbo_tensor *const *in);

// What node n is as one instruction, operands in the order of n->in as registers 0, 1, 2; false when it is not of the family. Covers
// unary, binary, where, broadcast_to, random_normal, random_uniform and dropout. (A constant: EW_CONSTANT with its value in a.)
bool elementwise_instruction_of(const node *n, elementwise_instruction *out);

// Fills the one-instruction program of node n; false when it is not of the family.
bool elementwise_program_of(const node *n, elementwise_program *out);

// Strides, in elements, of a dense tensor of shape `s` broadcast into `iteration` (0 along broadcast axes); false when it does not fit.
bool broadcast_strides(const shape *s, const shape *iteration, int64_t stride[ELBO_MAX_RANK]);

// The oracle: runs a program in double precision. in: doubles, or int64_t for seed and sample_index.
elbo_status elementwise_program_reference(elbo_ctx *ctx, const elementwise_program *p, elbo_tensor *const *in_tensor, const void *const *in,
                                          void *const *out);
// The same of a node of the family: op_def.reference of all of them.
elbo_status elementwise_reference(elbo_ctx *ctx, const node *n, const void *const *in, void *const *out);

// The CPU kernel of a program, in the variant of the calling file (fused_elementwise_cpu.c).
elbo_status elementwise_program_prepare_base(compile_env *env, const elementwise_program *p, const node *n, kernel *k);
elbo_status elementwise_program_prepare_v3(compile_env *env, const elementwise_program *p, const node *n, kernel *k);
elbo_status elementwise_program_prepare_v4(compile_env *env, const elementwise_program *p, const node *n, kernel *k);

#endif
