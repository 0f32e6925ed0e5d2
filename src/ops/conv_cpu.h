// Convolution kernels of one instruction set, and the table from which one is chosen by shape. Only *_cpu.c files and tests include this.
#ifndef OPS_CONV_CPU_H
#define OPS_CONV_CPU_H

#include "ops/conv2d.h"
#include "ops/isa.h"

typedef enum conv_direction { CONV_FORWARD, CONV_TRANSPOSED, CONV_WEIGHT_GRAD } conv_direction;

// One convolution as a kernel sees it. The plain and the fused operations differ only in where their inputs are.
typedef struct conv_problem {
  conv_direction direction;
  conv2d_attr attr;
  conv_sizes size;
  contraction_epilogue epilogue;
  contraction_prologue prologue; // with norm
  int64_t first;                 // channels of x, where x2 has the others
  int x, w, y, bias, residual;   // indices of inputs, -1 for none; forward: x and w in, transposed: y and w, weight gradient: x and y
  int norm, x2;
  bool weights_constant, weights_cached, making_shows, no_winograd, bf16; // compile_env's
  bool half_rate;                                                         // the context's, of AVX-512
  bf16_unit bf16_unit;
  isa_level isa;
  int threads;
  int64_t l2_bytes, keep_bytes;
} conv_problem;
conv_problem conv_problem_of(const compile_env *env, const node *n);

// What a multiply-add of our direct kernels costs beside one of float32; on Zen 4, beside Winograd's kernels: half with constant weights,
// which are half the bytes. Emulated bfloat16 is to choose what these would.
static inline double conv_product_cost(const conv_problem *p) {
  if (!p->bf16 || p->bf16_unit == BF16_QUARTER_RATE || p->bf16_unit == BF16_MATRIX) return 1;
  return p->direction == CONV_WEIGHT_GRAD ? 1 : p->weights_constant ? 0.5 : 0.8;
}

// A way to compute some convolutions. The cheapest of those that support a problem is taken, so the choice is a function of shape,
// instruction set, thread count, caches and, of constant weights, the room to keep them.
typedef struct conv_kernel {
  const char *name;
  bool (*supports)(const conv_problem *p);
  double (*cost)(const conv_problem *p); // in vector multiply-adds; infinite: only when asked for by name
  elbo_status (*prepare)(compile_env *env, const conv_problem *p, kernel *k);
  bool normalises; // with `norm` too, where `supports` says so; others are not asked
} conv_kernel;
extern const conv_kernel *const ISA(conv_kernels)[];                               // NULL at the end
elbo_status ISA(conv_prepare)(compile_env *env, const conv_problem *p, kernel *k); // chooses
static inline bool conv_supports(const conv_kernel *c, const conv_problem *p) { return (p->norm < 0 || c->normalises) && c->supports(p); }

// The table's entries, each in a file of its own.
extern const conv_kernel ISA(conv_gemm);            // forward and transposed: gather patches, multiply
extern const conv_kernel ISA(conv_dot);             // forward and transposed with few result channels
extern const conv_kernel ISA(conv_gemm_weight);     // weight gradient: the like
extern const conv_kernel ISA(conv_few);             // forward, stride 1, to at most four channels
extern const conv_kernel ISA(conv_few_weight);      // weight gradient of that
extern const conv_kernel ISA(conv_from_few);        // forward, and transposed of stride 1, from at most four channels
extern const conv_kernel ISA(conv_from_few_weight); // weight gradient of the former
extern const conv_kernel conv_onednn;               // all three; may refuse in prepare

// A product of matrices as a convolution of 1x1 by oneDNN: x (rows,I), w (O,I), y = x w' (rows,O) or what is made of the other two.
typedef struct conv_product {
  conv_direction direction;
  int64_t rows, I, O;
  int x, w, y, bias, residual; // indices of inputs, -1 for none
  bool constant;               // w is a parameter
} conv_product;
bool conv_onednn_takes_product(const compile_env *env, int64_t rows, int64_t I, int64_t O);
elbo_status conv_onednn_product(compile_env *env, const conv_product *p, kernel *k); // ELBO_ERROR_UNSUPPORTED leaves *k empty

#endif
