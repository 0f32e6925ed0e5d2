// What an operation is. One stem: NAME.c (builder, shape rule, gradient rule: `const op_def op_NAME`), NAME_ref.c (double-precision
// oracle: `NAME_ref`), NAME_cpu.c (compiled once per instruction set: `const cpu_op ISA(NAME_cpu)`), tests/ops/test_NAME.c, and one line
// in ops/ops.def.
#ifndef OPS_OP_H
#define OPS_OP_H

#include "backend/backend.h"
#include "backend/node.h"

enum {
  OP_LEAF = 1,        // input, parameter, constant: no kernel
  OP_VIEW = 2,        // output 0 is the memory of input 0 under another shape
  OP_ELEMENTWISE = 4, // an instruction of the element-wise family (ops/elementwise.h)
  OP_INPLACE = 8,     // output 0 may take the memory of input 0 when that is its last use
  OP_RANDOM = 16,     // depends on seed and sample index; never merged with another
  OP_CHEAP = 32       // worth recomputing to save memory
};

struct op_def {
  const char *name;
  size_t attr_size;
  int n_in, n_out;   // n_in -1: any number; n_out -1: the attribute begins with an int64_t, the number of outputs
  unsigned optional; // bit mask of inputs that may be NULL
  unsigned flags;
  // Checks input shapes and attributes, fills dtype and shape of every output (n->out[i] exists). On error calls graph_fail and
  // returns false.
  bool (*infer)(elbo_graph *g, node *n);
  // Given dy[i] = d loss / d out[i] (NULL: zero), sets dx[i] (preset to NULL: zero) by building plain operations. dx must have the
  // shape of in[i]. wanted[i] says which are asked for. NULL: not differentiable, refused by name. `no_gradient` for constant ones.
  bool (*gradient)(elbo_graph *g, const node *n, elbo_tensor *const *dy, const bool *wanted, elbo_tensor **dx);
  // Rebuilds the node from differentiable plain operations (same outputs). Used to differentiate what has no `gradient`.
  bool (*decompose)(elbo_graph *g, const node *n, elbo_tensor **out);
  // Multiply-adds count 2; NULL: one FLOP per output element.
  int64_t (*flops)(const node *n);
  // Oracle: float tensors are double, integer tensors as they are; in[i] NULL for absent inputs. Returns ELBO_OK or an error through
  // fail(n->out[0]->graph->ctx, ...) only for bad values (an index out of range).
  elbo_status (*reference)(elbo_ctx *ctx, const node *n, const void *const *in, void *const *out);
};

// A gradient rule for operations whose gradient is zero everywhere (sign, random draws): leaves dx NULL.
bool no_gradient(elbo_graph *g, const node *n, elbo_tensor *const *dy, const bool *wanted, elbo_tensor **dx);

// CPU kernels. prepare looks at shapes and fills `k` (zeroed before).
typedef struct cpu_op {
  elbo_status (*prepare)(compile_env *env, const node *n, kernel *k);
} cpu_op;

// --- the registry (ops/registry.c, made of ops/ops.def) ---
const cpu_op *cpu_op_find(const op_def *op, isa_level isa); // NULL when it has none
const op_def *op_find(const char *name);
int op_count(void);
const op_def *op_at(int i);

#define OP(name) extern const op_def op_##name;
#define OP_GRAPH(name) OP(name)
#include "ops/ops.def"
#undef OP
#undef OP_GRAPH

// The leaf of that operation and name, or NULL.
node *find_leaf(const elbo_graph *g, const op_def *op, const char *name);

#endif
