// The plain operations. Layout is N,H,W,C throughout (channels innermost); weights keep PyTorch's order (O,I,H,W).
// Every builder returns NULL after an error, and given NULL returns NULL; see graph.h. Shapes are given in the comments.
// Floats are float32 unless said. (B,...) marks the batch as the first axis. "refuses d2": no second derivative.
#ifndef ELBO_OPS_H
#define ELBO_OPS_H

#include <elbo/graph.h>

#ifdef __cplusplus
extern "C" {
#endif

// --- element-wise, one input: same shape out ---
ELBO_API elbo_tensor *elbo_neg(elbo_tensor *x);
ELBO_API elbo_tensor *elbo_abs(elbo_tensor *x);
ELBO_API elbo_tensor *elbo_sign(elbo_tensor *x); // -1, 0, 1; gradient 0
ELBO_API elbo_tensor *elbo_exp(elbo_tensor *x);
ELBO_API elbo_tensor *elbo_log(elbo_tensor *x);
ELBO_API elbo_tensor *elbo_log1p(elbo_tensor *x);
ELBO_API elbo_tensor *elbo_expm1(elbo_tensor *x);
ELBO_API elbo_tensor *elbo_sqrt(elbo_tensor *x);
ELBO_API elbo_tensor *elbo_rsqrt(elbo_tensor *x);
ELBO_API elbo_tensor *elbo_square(elbo_tensor *x);
ELBO_API elbo_tensor *elbo_reciprocal(elbo_tensor *x);
ELBO_API elbo_tensor *elbo_sin(elbo_tensor *x);
ELBO_API elbo_tensor *elbo_cos(elbo_tensor *x);
ELBO_API elbo_tensor *elbo_tanh(elbo_tensor *x);
ELBO_API elbo_tensor *elbo_sigmoid(elbo_tensor *x);
ELBO_API elbo_tensor *elbo_softplus(elbo_tensor *x); // log(1 + e^x), no overflow
ELBO_API elbo_tensor *elbo_relu(elbo_tensor *x);
ELBO_API elbo_tensor *elbo_leaky_relu(elbo_tensor *x, double slope);
ELBO_API elbo_tensor *elbo_gelu(elbo_tensor *x);      // x Phi(x), by erf
ELBO_API elbo_tensor *elbo_gelu_tanh(elbo_tensor *x); // the tanh approximation
ELBO_API elbo_tensor *elbo_silu(elbo_tensor *x);      // x sigmoid(x)
ELBO_API elbo_tensor *elbo_erf(elbo_tensor *x);
ELBO_API elbo_tensor *elbo_clamp(elbo_tensor *x, double low, double high);      // gradient 0 outside
ELBO_API elbo_tensor *elbo_scale(elbo_tensor *x, double factor, double offset); // factor x + offset

// --- element-wise, two inputs, shapes broadcast as in NumPy (aligned at the last axis) ---
ELBO_API elbo_tensor *elbo_add(elbo_tensor *a, elbo_tensor *b);
ELBO_API elbo_tensor *elbo_sub(elbo_tensor *a, elbo_tensor *b);
ELBO_API elbo_tensor *elbo_mul(elbo_tensor *a, elbo_tensor *b);
ELBO_API elbo_tensor *elbo_div(elbo_tensor *a, elbo_tensor *b);
ELBO_API elbo_tensor *elbo_maximum(elbo_tensor *a, elbo_tensor *b);
ELBO_API elbo_tensor *elbo_minimum(elbo_tensor *a, elbo_tensor *b);
ELBO_API elbo_tensor *elbo_less(elbo_tensor *a, elbo_tensor *b); // 1 where a < b, else 0; gradient 0
// where(c, a, b): a where c > 0.5, else b; broadcasts all three; no gradient to c
ELBO_API elbo_tensor *elbo_where(elbo_tensor *c, elbo_tensor *a, elbo_tensor *b);

// --- shape ---
ELBO_API elbo_tensor *elbo_reshape(elbo_tensor *x, int rank, const int64_t *dim); // one dim may be -1
ELBO_API elbo_tensor *elbo_transpose(elbo_tensor *x, const int *perm);            // axis i of the result is axis perm[i] of x
ELBO_API elbo_tensor *elbo_concat(int n, elbo_tensor *const *xs, int axis);
ELBO_API elbo_tensor *elbo_slice(elbo_tensor *x, int axis, int64_t begin, int64_t end);
ELBO_API int elbo_split_axis(elbo_tensor *x, int axis, int n, elbo_tensor **parts); // n equal slices; 0 and NULL parts on error, else n
ELBO_API elbo_tensor *elbo_pad(elbo_tensor *x, int axis, int64_t before, int64_t after); // with zeros
ELBO_API elbo_tensor *elbo_broadcast_to(elbo_tensor *x, int rank, const int64_t *dim);

// --- reductions over the axes in the bit mask (bit i: axis i); keep: leave axes of length 1 ---
ELBO_API elbo_tensor *elbo_sum(elbo_tensor *x, unsigned axes, int keep);
ELBO_API elbo_tensor *elbo_mean(elbo_tensor *x, unsigned axes, int keep);
ELBO_API elbo_tensor *elbo_max(elbo_tensor *x, unsigned axes, int keep); // gradient to the first largest; refuses d2
#define ELBO_ALL_AXES 0xffffffffu
ELBO_API elbo_tensor *elbo_logsumexp(elbo_tensor *x, unsigned axes, int keep);
ELBO_API elbo_tensor *elbo_sum_per_example(elbo_tensor *x); // (B,...) -> (B)

// --- products ---
ELBO_API elbo_tensor *elbo_linear(elbo_tensor *x, elbo_tensor *weight, elbo_tensor *bias); // (...,I), (O,I), (O) or NULL -> (...,O)
// (..., M, K) x (..., K, N) -> (..., M, N); leading axes equal or absent on one side; transpose_a: a is (..., K, M), the like for b
ELBO_API elbo_tensor *elbo_matmul(elbo_tensor *a, elbo_tensor *b, int transpose_a, int transpose_b);

typedef struct elbo_conv2d_config {
  int stride[2], dilation[2]; // 0 counts as 1
  int pad[4];                 // top, left, bottom, right
  int groups;                 // 0 counts as 1
} elbo_conv2d_config;
// (B,H,W,I), (O,I/groups,kh,kw), (O) or NULL -> (B,OH,OW,O), OH = floor((H + top + bottom - dilation (kh-1) - 1) / stride) + 1
ELBO_API elbo_tensor *elbo_conv2d(elbo_tensor *x, elbo_tensor *weight, elbo_tensor *bias, const elbo_conv2d_config *config);
// (B,H,W,I), (I,O/groups,kh,kw), (O) or NULL -> (B,OH,OW,O), the transpose of the conv2d of the same config;
// OH = (H-1) stride - top - bottom + dilation (kh-1) + 1 + output_padding[0], output_padding < max(stride, dilation)
ELBO_API elbo_tensor *elbo_conv_transpose2d(elbo_tensor *x, elbo_tensor *weight, elbo_tensor *bias, const elbo_conv2d_config *config,
                                            const int output_padding[2]);

// --- normalisation; weight and bias (C) or NULL ---
ELBO_API elbo_tensor *elbo_group_norm(elbo_tensor *x, elbo_tensor *weight, elbo_tensor *bias, int groups, double eps); // (B,...,C)
ELBO_API elbo_tensor *elbo_layer_norm(elbo_tensor *x, elbo_tensor *weight, elbo_tensor *bias, double eps); // over the last axis; refuses d2
// Training: batch statistics, running ones updated (state update): r = (1 - momentum) r + momentum batch, variance unbiased. Otherwise
// the running ones are used. running_mean, running_var: state parameters (C). refuses d2 in training.
ELBO_API elbo_tensor *elbo_batch_norm(elbo_tensor *x, elbo_tensor *weight, elbo_tensor *bias, elbo_tensor *running_mean,
                                      elbo_tensor *running_var, double momentum, double eps, int training);

// --- attention ---
ELBO_API elbo_tensor *elbo_softmax(elbo_tensor *x); // over the last axis
// q (B,Nq,heads*d), k, v (B,Nk,heads*d), bias NULL or broadcastable to (B,heads,Nq,Nk) -> (B,Nq,heads*d); softmax(scale q k^T + bias) v.
// causal: query i sees keys 0..i + Nk - Nq. scale 0: 1/sqrt(d). Never holds an Nq x Nk matrix. refuses d2.
ELBO_API elbo_tensor *elbo_attention(elbo_tensor *q, elbo_tensor *k, elbo_tensor *v, elbo_tensor *bias, int heads, double scale,
                                     int causal);

// --- resampling of (B,H,W,C) ---
ELBO_API elbo_tensor *elbo_avg_pool2d(elbo_tensor *x, int kh, int kw); // stride = window; H, W divisible
// The largest of each window of window[0] x window[1]; stride 0 or NULL counts as 1; padding (NULL: none; top, left, bottom, right, less
// than the window) never wins. (B,H,W,C) -> (B,OH,OW,C), OH = floor((H + top + bottom - window) / stride) + 1. Gradient to the first
// largest; refuses d2.
ELBO_API elbo_tensor *elbo_max_pool2d(elbo_tensor *x, const int window[2], const int stride[2], const int pad[4]);
ELBO_API elbo_tensor *elbo_upsample_nearest(elbo_tensor *x, int fh, int fw);      // whole factors
ELBO_API elbo_tensor *elbo_resize_bilinear(elbo_tensor *x, int64_t h, int64_t w); // align_corners = False, no antialiasing

// --- look-up ---
ELBO_API elbo_tensor *elbo_embedding(elbo_tensor *index, elbo_tensor *table); // int32 (...), (V,D) -> (...,D); out of range: error at run
ELBO_API elbo_tensor *elbo_cast(elbo_tensor *x, elbo_dtype dtype);            // int32/int64 <-> float32; no gradient through integers

// --- random; stream from `name` (and scope), index from input "sample_index", key from input "seed"; no gradient ---
ELBO_API elbo_tensor *elbo_random_normal(elbo_graph *graph, const char *name, int rank, const int64_t *dim);  // (B,...), N(0,1)
ELBO_API elbo_tensor *elbo_random_uniform(elbo_graph *graph, const char *name, int rank, const int64_t *dim); // (B,...), [0,1)
// (B,...) -> x / (1-p) or 0, the mask drawn from "seed" and "sample_index" (B) and never stored. Where the graph's "sample_index" has
// fewer rows, B is several draws of each of these, one after the other.
ELBO_API elbo_tensor *elbo_dropout(elbo_tensor *x, const char *name, double probability);

// --- routing of gradients ---
ELBO_API elbo_tensor *elbo_stop_gradient(elbo_tensor *x);
ELBO_API elbo_tensor *elbo_scale_gradient(elbo_tensor *x, elbo_tensor *factor); // identity forward; gradient times factor (broadcast)

#ifdef __cplusplus
}
#endif
#endif
