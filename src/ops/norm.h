// Normalisations, and the fused form of group norm with an activation.
#ifndef OPS_NORM_H
#define OPS_NORM_H

#include "ops/kernel_util.h"

typedef enum norm_act { NORM_ACT_NONE, NORM_ACT_RELU, NORM_ACT_LEAKY_RELU, NORM_ACT_SILU } norm_act;

// group_norm (act NONE) and fused_group_norm:
//   in  x (B,...,C), weight (C) or NULL, bias (C) or NULL
//       fused: x2 (B,...,C2) or NULL, the channels behind x's: then C below is the sum of both; factor and shift (B,1,...,1,C), as an
//       embedding of the time gives them, or both NULL
//   out y = act(((x - mean) rstd weight + bias) factor + shift) (B,...,C), mean (B,groups), rstd (B,groups) = 1/sqrt(variance + eps)
// group_norm_grad (act NONE) and fused_group_norm_grad, which computes the activation's input again from x:
//   in  x, weight or NULL, bias or NULL (fused; NULL in the plain form), mean, rstd, dy (B,...,C); fused: residual (B,...,C) or NULL,
//       x2 or NULL; the two do not go together
//   out dx + residual (B,...,C), dweight (C), dbias (C); fused: with `again` y (B,...,C) once more, as the forward pass made it, and with
//   `sums` those of out[0] (and dx2) over the pixels of an image (B,C); of shape (0) without; with x2 dx2, and out[0] is x's share
// group_norm_statistics: what a convolution needs to normalise x while it reads it (contraction.h)
//   in  those of fused_group_norm
//   out channels (B,3,C): of every channel the mean, rstd weight factor, bias factor + shift, as in act((x - mean) scale + bias); mean,
//   rstd
typedef struct group_norm_attr {
  int64_t groups;
  double eps;
  int64_t act;   // norm_act
  double slope;  // leaky_relu's
  int64_t again; // fused_group_norm_grad: 1 for y
  int64_t sums;  // fused_group_norm_grad: 1 for sums
} group_norm_attr;

// Inputs of fused_group_norm and group_norm_statistics behind x, weight and bias.
enum { NORM_X2 = 3, NORM_FACTOR, NORM_SHIFT, FUSED_NORM_INPUTS };

// For the fuse passes: norm and activation in one node (in: FUSED_NORM_INPUTS), and its gradient (`dy` is that of the activation's output;
// with `again`, out[3] is that output; `residual` may be NULL), which has no factor and shift. NULL after an error.
node *graph_add_fused_group_norm(elbo_graph *g, elbo_tensor *const *in, int64_t groups, double eps, norm_act act, double slope);
node *graph_add_fused_group_norm_grad(elbo_graph *g, elbo_tensor *x, elbo_tensor *weight, elbo_tensor *bias, elbo_tensor *mean,
                                      elbo_tensor *rstd, elbo_tensor *dy, elbo_tensor *residual, const group_norm_attr *attr);
// A copy in g of one of these two whose x was `x` ++ `x2`; `in` (n->n_in) holds its inputs in g, of which in[0] is not read.
node *graph_add_group_norm_of_two(elbo_graph *g, const node *n, elbo_tensor *const *in, elbo_tensor *x, elbo_tensor *x2);
// The statistics alone of the same norm, of inputs in g. NULL after an error.
node *graph_add_group_norm_statistics(elbo_graph *g, const node *norm, elbo_tensor *const *in);
// x2 of a norm or its gradient; NULL: there is none.
const elbo_tensor *group_norm_second(const node *n);

// layer_norm: in x (...,C), weight or NULL, bias or NULL; out y, mean (...), rstd (...)
// layer_norm_grad: in x, weight or NULL, mean, rstd, dy; out dx, dweight, dbias
// batch_norm: in x (B,...,C), weight or NULL, bias or NULL; out y, mean (C), var (C) (of the batch, biased)
// batch_norm_grad: in x, weight or NULL, mean, var, dy; out dx, dweight, dbias
typedef struct norm_attr {
  double eps;
} norm_attr;

// weight or bias (NULL passes) must be (C). Sets the graph's error.
bool norm_check_channels(elbo_graph *g, const char *op, const elbo_tensor *x, const elbo_tensor *w, const char *what);
// Marks the statistics of a norm as not differentiable: true when dy[1] and dy[2] are NULL.
bool norm_statistics_unused(elbo_graph *g, const node *n, elbo_tensor *const *dy);

// Fused forms for the oracle.
double norm_act_value(int64_t act, double slope, double v);
double norm_act_slope(int64_t act, double slope, double v);

OP_REFERENCE(group_norm);
OP_REFERENCE(group_norm_grad);
OP_REFERENCE(fused_group_norm);
OP_REFERENCE(fused_group_norm_grad);
OP_REFERENCE(group_norm_statistics);
OP_REFERENCE(layer_norm);
OP_REFERENCE(layer_norm_grad);
OP_REFERENCE(batch_norm);
OP_REFERENCE(batch_norm_grad);

#endif
