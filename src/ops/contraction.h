// What linear, matmul and the convolutions share: their attributes, and the fused form (prologue and epilogue) that the fuse pass makes.
//
// A fused contraction computes
//     pre = alpha * contraction(prologue(x), weight) + bias + residual,   out[0] = activation(pre),   out[1] = pre when keep_pre
// with alpha * contraction exactly what the plain operation (without bias) computes.
#ifndef OPS_CONTRACTION_H
#define OPS_CONTRACTION_H

#include "ops/op.h"

// The trilinear form behind the three convolution operations, [b: image; u, v: position in y; p, q: tap; i, o: channel in a group]
//     T(x, w, y) = sum x[b, u s0 + p d0 - top, v s1 + q d1 - left, i] w[o, i, p, q] y[b, u, v, o]        (x is zero outside of (H,W))
// conv2d = dT/dy, conv_transpose2d = dT/dx, conv2d_weight_grad = dT/dw: each is a derivative of the others, at any sizes.
typedef struct conv2d_attr {
  int stride[2], dilation[2]; // at least 1
  int pad[4];                 // top, left, bottom, right; bottom and right matter only to shape rules, which `size` has already obeyed
  int groups;
  int taps;        // of what a pass put this in the place of (conv_taps.h); else 0
  int64_t size[2]; // conv2d: height and width of the result; conv_transpose2d: the same; conv2d_weight_grad: the kernel's
} conv2d_attr;

typedef struct matmul_attr {
  int transpose_a, transpose_b;
} matmul_attr;

// x (B,H,W,I), weight (O,I/groups,kh,kw) -> (B,size,O)
elbo_tensor *conv2d_of(elbo_tensor *x, elbo_tensor *weight, elbo_tensor *bias, const conv2d_attr *attr);
// y (B,OH,OW,O), weight (O,I/groups,kh,kw) -> (B,size,I)
elbo_tensor *conv_transpose2d_of(elbo_tensor *y, elbo_tensor *weight, elbo_tensor *bias, const conv2d_attr *attr);
// x (B,H,W,I), y (B,OH,OW,O) -> (O,I/groups,size)
elbo_tensor *conv2d_weight_grad_of(elbo_tensor *x, elbo_tensor *y, const conv2d_attr *attr);

typedef enum contraction_activation {
  CONTRACTION_LINEAR, // none
  CONTRACTION_RELU,
  CONTRACTION_LEAKY_RELU, // slope
  CONTRACTION_SILU,
  CONTRACTION_GELU, // by erf
  CONTRACTION_TANH,
  CONTRACTION_SIGMOID,
  CONTRACTION_SOFTPLUS,
  CONTRACTION_ACTIVATIONS
} contraction_activation;

typedef struct contraction_epilogue {
  double alpha; // 1 unless a scale was folded in
  contraction_activation activation;
  double slope; // of leaky_relu
  int keep_pre; // also give the value before the activation, as output 1
} contraction_epilogue;
#define CONTRACTION_EPILOGUE_NONE ((contraction_epilogue){1.0, CONTRACTION_LINEAR, 0.0, 0})

// With FUSED_NORM, x as it is read: act((x ++ x2 - mean) scale + bias), never stored. fused_conv2d alone has it.
typedef struct contraction_prologue {
  int64_t act; // norm_act (norm.h)
  double slope;
} contraction_prologue;

// Inputs of a fused contraction, in this order; all but weight and x may be NULL.
enum {
  FUSED_WEIGHT,
  FUSED_BIAS,     // (O)
  FUSED_RESIDUAL, // the shape of the result
  FUSED_NORM,     // (B,3,C): the channels of group_norm_statistics
  FUSED_X,
  FUSED_X2, // with FUSED_NORM: the channels behind x's
  FUSED_INPUTS
};
#define FUSED_OPTIONAL (((1u << FUSED_INPUTS) - 1) & ~(1u << FUSED_WEIGHT | 1u << FUSED_X))

// Attribute of fused_linear, fused_conv2d, fused_conv_transpose2d.
typedef struct fused_contraction_attr {
  conv2d_attr conv; // zero for linear
  contraction_prologue prologue;
  contraction_epilogue epilogue;
} fused_contraction_attr;

extern const op_def op_linear, op_conv2d, op_conv_transpose2d;

// For fuse passes. `plain` is a linear, conv2d or conv_transpose2d node, or a fused one whose epilogue can still grow (no activation yet,
// no residual where one is given): its inputs and attributes are taken over, its alpha and bias are those of the result as well.
// `residual` (may be NULL) has the shape of the result. out[0] is activation(pre); out[1] is pre, of shape (0) unless keep_pre.
node *graph_add_fused(elbo_graph *g, const node *plain, elbo_tensor *residual, const contraction_epilogue *epilogue, const char *name);
// True when graph_add_fused would take `plain` with (or without) a residual.
bool contraction_can_fuse(const node *plain, bool with_residual);

// For the pass that lets a convolution normalise what it reads: the conv2d or fused_conv2d node `plain` with its inputs `in` in g, of which
// that of x is the norm's x. `norm`: a group norm with its activation, of which `channels` are the statistics; `x2` its second part, or
// NULL. NULL after an error.
node *graph_add_normalised_conv2d(elbo_graph *g, const node *plain, elbo_tensor *const *in, const node *norm, elbo_tensor *channels,
                                  elbo_tensor *x2);

// --- shared by the operations' files ---
double contraction_activate(contraction_activation activation, double slope, double x); // in double precision, for the references
// Shape and attribute checks; each records the graph's error and returns false. `bias` may be NULL.
bool check_float32(elbo_graph *g, const node *n, const elbo_tensor *t, const char *what);
bool check_bias(elbo_graph *g, const node *n, const elbo_tensor *bias, int64_t channels);
bool check_conv2d_attr(elbo_graph *g, const node *n, const conv2d_attr *a);
bool conv2d_shape(elbo_graph *g, const node *n, const conv2d_attr *a, const elbo_tensor *x, const elbo_tensor *w, shape *out);
bool conv_transpose2d_shape(elbo_graph *g, const node *n, const conv2d_attr *a, const elbo_tensor *y, const elbo_tensor *w, shape *out);
bool linear_shape(elbo_graph *g, const node *n, const elbo_tensor *x, const elbo_tensor *w, shape *out);
// Checks prologue, epilogue, bias and residual of a fused node whose result has shape `out`, and sets its outputs.
bool infer_fused(elbo_graph *g, node *n, const shape *out);
void set_output(node *n, int i, const shape *s); // float32

#endif
