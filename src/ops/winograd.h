// Winograd convolution [Lavin16]: what one instruction set's kernels share. Only winograd_*_cpu.c files include this.
//
// F(m x m, r x r) makes m x m results of an r x r kernel from a tile of alpha x alpha pixels, alpha = m + r - 1, with alpha^2
// multiplications where the direct sum takes m^2 r^2. Pixels, kernel and result are polynomials; they are evaluated at alpha - 1 points and
// infinity, multiplied point by point, and the product is interpolated:
//     y = A [ (G w G^T) . (B^T x B) ] A^T
// B belongs to the points alone, G and A to the points and a length: the same functions serve F(m, r), and F(r, m), which is the gradient
// of the weights (an "r"-long result of an m-long "kernel", the other gradient).
//
// Points: alpha = 4: 0, 1, -1, inf. alpha = 5: 0, 1, -1, 1/2, inf. alpha = 6: 0, +-1/sqrt 2, +-sqrt 2, inf; their products are 1, which
// keeps the entries of the matrices within 2.9, where 0, +-1, +-2 have 8: the choice of points decides the error [Barabasz20]. alpha = 8:
// 0,
// +-1, +-2, +-1/2, inf (of the symmetric sets with products of 1 the least error; 4.5 times that of alpha = 6).
//
// A convolution of stride 2 is one of stride 1 over the four phases of x (rows and columns of either parity) as four times the channels,
// with kernels of 2x2; its transposed has four phases of the result, each a convolution of its own. Both are F(4x4, 2x2), alpha = 5.
#ifndef OPS_WINOGRAD_H
#define OPS_WINOGRAD_H

#include "ops/conv_cpu.h"
#include "ops/gemm_cpu.h"

#define WINOGRAD_INLINE static inline __attribute__((always_inline))
enum { WINOGRAD_MAX_ALPHA = 8, WINOGRAD_MAX_M = 6 };

#define ROOT2 1.41421356237309505f

// Before loops over a tile's rows, columns and points. Sanitizers do without: what they add to the whole of it takes minutes to compile.
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WINOGRAD_UNROLL
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) && !defined(WINOGRAD_UNROLL)
#define WINOGRAD_UNROLL
#endif
#ifndef WINOGRAD_UNROLL
#define WINOGRAD_UNROLL _Pragma("GCC unroll 8")
#endif

// The same pointer, of which the compiler knows nothing: otherwise a loop over alpha^2 streams keeps a pointer to each, more than there are
// registers, where a few and a distance are enough.
WINOGRAD_INLINE const float *winograd_row(const float *p) {
  __asm__("" : "+r"(p));
  return p;
}

// o = B^T d, alpha to alpha
WINOGRAD_INLINE void winograd_data(const int alpha, const vfloat *d, vfloat *o) {
  if (alpha == 4) {
    o[0] = d[0] - d[2];
    o[1] = d[2] + d[1];
    o[2] = d[2] - d[1];
    o[3] = d[3] - d[1];
  } else if (alpha == 5) {
    o[0] = d[0] - d[2] + 2.0f * (d[3] - d[1]);
    o[1] = d[3] + 0.5f * (d[2] - d[1]);
    o[2] = d[3] + (0.5f * d[1] - 1.5f * d[2]);
    o[3] = d[3] - d[1];
    o[4] = d[4] - d[2] + 0.5f * (d[1] - d[3]);
  } else if (alpha == 8) {
    vfloat even = d[2] + (d[6] - 4.25f * d[4]), odd = d[1] + (d[5] - 4.25f * d[3]);
    o[0] = d[0] - d[6] + 5.25f * (d[4] - d[2]);
    o[1] = even + odd;
    o[2] = even - odd;
    even = d[6] + (0.25f * d[2] - 1.25f * d[4]), odd = 0.5f * d[1] + (2.0f * d[5] - 2.5f * d[3]);
    o[3] = even + odd;
    o[4] = even - odd;
    even = d[6] + (4.0f * d[2] - 5.0f * d[4]), odd = 2.0f * d[1] + (0.5f * d[5] - 2.5f * d[3]);
    o[5] = even + odd;
    o[6] = even - odd;
    o[7] = d[7] - d[1] + 5.25f * (d[3] - d[5]);
  } else {
    vfloat even = d[4] - 2.0f * d[2], odd = 0.5f * d[3] - d[1];
    o[0] = d[0] + (d[4] - 2.5f * d[2]);
    o[1] = even + ROOT2 * odd;
    o[2] = even - ROOT2 * odd;
    even = d[4] - 0.5f * d[2], odd = d[3] - 0.5f * d[1];
    o[3] = even + ROOT2 * odd;
    o[4] = even - ROOT2 * odd;
    o[5] = d[1] + (d[5] - 2.5f * d[3]);
  }
}

// u = G g: n taps to alpha, n = 2 to 4 (alpha = 8: 3)
WINOGRAD_INLINE void winograd_taps(const int alpha, const int n, const vfloat *g, vfloat *u) {
  if (alpha == 4) {
    vfloat even = 0.5f * g[0], odd = 0.5f * g[1];
    if (n > 2) even += 0.5f * g[2];
    u[1] = even + odd;
    u[2] = even - odd;
    u[3] = g[n - 1];
  } else if (alpha == 5) {
    vfloat even = g[0], odd = g[1], half = g[0] + 0.5f * g[1];
    if (n > 2) even += g[2], odd += g[3], half += 0.25f * g[2] + 0.125f * g[3];
    u[1] = even + odd;
    u[2] = (1.0f / 3) * (odd - even);
    u[3] = (-8.0f / 3) * half;
    u[4] = g[n - 1];
  } else if (alpha == 8) {
    vfloat even = (-2.0f / 9) * (g[0] + g[2]), odd = (-2.0f / 9) * g[1];
    u[1] = even + odd;
    u[2] = even - odd;
    even = (1.0f / 90) * g[0] + (2.0f / 45) * g[2], odd = (1.0f / 45) * g[1];
    u[3] = even + odd;
    u[4] = even - odd;
    even = (32.0f / 45) * g[0] + (8.0f / 45) * g[2], odd = (16.0f / 45) * g[1];
    u[5] = even + odd;
    u[6] = even - odd;
    u[7] = g[2];
  } else {
    vfloat even = (-2.0f / 3) * g[0] - (1.0f / 3) * g[2], odd = (-ROOT2 / 3) * g[1];
    if (n > 3) odd -= (ROOT2 / 6) * g[3];
    u[1] = even + odd;
    u[2] = even - odd;
    even = (1.0f / 6) * g[0] + (1.0f / 3) * g[2], odd = (ROOT2 / 6) * g[1];
    if (n > 3) odd += (ROOT2 / 3) * g[3];
    u[3] = even + odd;
    u[4] = even - odd;
    u[5] = g[n - 1];
  }
  u[0] = g[0];
}

// o = A^T m: alpha to n results, n = 2 to 4 (alpha = 8: 6)
WINOGRAD_INLINE void winograd_result(const int alpha, const int n, const vfloat *m, vfloat *o) {
  vfloat even = m[1] + m[2], odd = m[1] - m[2];
  if (alpha == 4) {
    o[0] = m[0] + even;
    o[1] = odd;
    if (n > 2) o[2] = even;
  } else if (alpha == 5) {
    o[0] = m[0] + (even + m[3]);
    o[1] = odd + 0.5f * m[3];
    if (n > 2) o[2] = even + 0.25f * m[3], o[3] = odd + 0.125f * m[3];
  } else if (alpha == 8) {
    vfloat even2 = m[3] + m[4], odd2 = m[3] - m[4], even3 = m[5] + m[6], odd3 = m[5] - m[6];
    o[0] = m[0] + (even + (even2 + even3));
    o[1] = odd + (2.0f * odd2 + 0.5f * odd3);
    o[2] = even + (4.0f * even2 + 0.25f * even3);
    o[3] = odd + (8.0f * odd2 + 0.125f * odd3);
    o[4] = even + (16.0f * even2 + 0.0625f * even3);
    o[5] = odd + (32.0f * odd2 + 0.03125f * odd3);
  } else {
    vfloat even2 = m[3] + m[4], odd2 = m[3] - m[4];
    o[0] = m[0] + (even + even2);
    o[1] = (ROOT2 / 2) * odd + ROOT2 * odd2;
    o[2] = 0.5f * even + 2.0f * even2;
    if (n > 3) o[3] = (ROOT2 / 4) * odd + (2 * ROOT2) * odd2;
  }
  o[n - 1] += m[alpha - 1];
}

// What an alpha belongs to: results of a tile and taps of a kernel, along one axis.
static inline int winograd_m(int alpha) { return alpha == 4 ? 2 : alpha == 8 ? 6 : 4; }
static inline int winograd_r(int alpha) { return alpha == 5 ? 2 : 3; }

// The tiles of an image set: pixel (i, j) of tile (b, ty, tx) and phase (py, px) is at row origin + p + step (m ty + i), columns alike.
typedef struct winograd_image {
  int64_t H, W, C;
  int64_t tiles_y, tiles_x; // of an image
  int64_t origin[2];
  int step, phases, m; // phases: 1, or 4 in row-major order
} winograd_image;
static inline int64_t winograd_tiles(const winograd_image *g, int64_t B) { return B * g->tiles_y * g->tiles_x; }

// Evaluates tiles [t0, t0 + nt), vectors of channels [v0, v1) of every phase p: to[e * stride + ((p VC + v) * ld + t) * VW], with t counted
// from t0 and v from v0, VC = v1 - v0. Pixels outside of the image and lanes past C are zero. winograd_spread does the same for m x m tiles
// as "taps" (the other gradient of a weight gradient; one phase).
void ISA(winograd_gather)(int alpha, const winograd_image *g, const float *x, int64_t t0, int64_t nt, int64_t v0, int64_t v1, float *to,
                          int64_t ld, int64_t stride);
void ISA(winograd_spread)(int alpha, const winograd_image *g, const float *y, int64_t t0, int64_t nt, int64_t v0, int64_t v1, float *to,
                          int64_t ld, int64_t stride);

// A norm with its activation, applied to pixels as they are read: act((x ++ x2 - mean) scale + bias).
typedef struct winograd_norm {
  const float *x2;       // (B,H,W,C - first) or NULL
  const float *channels; // (B,3,C): mean, scale, bias
  int64_t first;         // channels of x, whole vectors of them where there is x2
  int64_t act;           // norm_act
  float slope;
  float *pixels; // scratch of winograd_norm_floats
} winograd_norm;
// As winograd_gather of all channels, of one phase and step 1: one rectangle of tiles after the other is normalised, some vectors of
// channels at a time, and its tiles evaluated from there, so that a pixel is normalised once though several of them have it.
void ISA(winograd_gather_normalised)(int alpha, const winograd_image *g, const winograd_norm *n, const float *x, int64_t t0, int64_t nt,
                                     float *to, int64_t ld, int64_t stride);
// For up to nt tiles.
int64_t ISA(winograd_norm_floats)(int alpha, const winograd_image *g, int64_t nt);

// Weights as a convolution reads them: tap of (result lane k, channel c) at k lane + c channel + tap, tap < side * side.
typedef struct winograd_weights {
  int64_t K, C, lane, channel;
  int alpha, side; // of the kernel, 3 or 4
  bool flipped;    // the transposed convolution's
  int64_t phase;   // floats from phase to phase of the result (alpha = 5)
} winograd_weights;
// Evaluates the panel of `vectors` (1 or 2) vectors of K at v, channels [c0, c1): to[e * stride + p phase + c * vectors VW]
void ISA(winograd_evaluate_weights)(const winograd_weights *g, const float *w, int64_t v, int vectors, int64_t c0, int64_t c1, float *to,
                                    int64_t stride);

// The same weights unevaluated: to[((c - c0) taps + tap) * vectors VW], taps reversed where g is flipped; and the evaluation of n channels
// of that, which `w` points to. (Not for transposed ones of stride 2.)
void ISA(winograd_pack_taps)(const winograd_weights *g, const float *w, int64_t v, int vectors, int64_t c0, int64_t c1, float *to);
void ISA(winograd_evaluate_packed)(const winograd_weights *g, const float *w, int vectors, int64_t n, float *to, int64_t stride);

extern const conv_kernel ISA(winograd2), ISA(winograd4), ISA(winograd_strided);                      // forward and transposed
extern const conv_kernel ISA(winograd6);                                                             // of constant weights, large images
extern const conv_kernel ISA(winograd2_weight), ISA(winograd4_weight), ISA(winograd_strided_weight); // weight gradients

// Floats from one point to the next: whole cache lines, an odd number of them, so that the alpha^2 streams of a transform do not meet in
// one set of a cache.
static inline int64_t winograd_point(int64_t floats) { return ((floats + 15) / 16 | 1) * 16; }

// Whether the problem is one of those of alpha, and may be computed so: one group, no dilation, and 3x3 of stride 1, or 3x3 or 4x4 of
// stride 2.
static inline bool winograd_fits(const conv_problem *p, int alpha) {
  const conv2d_attr *a = &p->attr;
  int stride = alpha == 5 ? 2 : 1;
  return !p->no_winograd && p->size.groups == 1 && a->dilation[0] == 1 && a->dilation[1] == 1 && a->stride[0] == stride &&
         a->stride[1] == stride && p->size.kh == p->size.kw && (p->size.kh == 3 || (p->size.kh == 4 && alpha == 5));
}

// An entry of the table of kernels, of a file's own supports, cost and prepare for any alpha.
#define WINOGRAD_KERNEL(which, alpha, text, normalises)                                    \
  static bool supports_##which(const conv_problem *p) { return supports(p, alpha); }       \
  static double cost_##which(const conv_problem *p) { return cost(p, alpha); }             \
  static elbo_status prepare_##which(compile_env *env, const conv_problem *p, kernel *k) { \
    k->name = "own:" text "." ISA_TEXT;                                                    \
    return prepare(env, p, k, alpha);                                                      \
  }                                                                                        \
  const conv_kernel ISA(which) = {text, supports_##which, cost_##which, prepare_##which, normalises};

#endif
