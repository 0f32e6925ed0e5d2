// Winograd convolution [Winograd 1980; Lavin16]: what one instruction set's kernels share. Only winograd_*_cpu.c files include this.
//
// F(m x m, r x r) makes m x m results of an r x r kernel from a tile of alpha x alpha pixels, alpha = m + r - 1, with alpha^2
// multiplications where the direct sum takes m^2 r^2. Pixels, kernel and result are polynomials; they are evaluated at alpha - 1 points and
// infinity, multiplied point by point, and the product is interpolated:
//     y = A [ (G w G^T) . (B^T x B) ] A^T
// B belongs to the points alone, G and A to the points and a length: the same functions serve F(m, r), and F(r, m), which is the gradient
// of the weights (an "r"-long result of an m-long "kernel", the other gradient).
//
// Points: alpha = 4: 0, 1, -1, inf. alpha = 5: 0, 1, -1, 1/2 (scaled), inf. alpha = 6: 0, +-1/sqrt 2, +-sqrt 2, inf; their products are 1,
// which keeps the entries of all three matrices within 2.5 and the error about half of that of 0, +-1, +-2 [Barabasz20].
#ifndef OPS_WINOGRAD_H
#define OPS_WINOGRAD_H

#include "ops/conv_cpu.h"
#include "ops/gemm_cpu.h"

#define WINOGRAD_INLINE static inline __attribute__((always_inline))
enum { WINOGRAD_MAX_ALPHA = 6, WINOGRAD_MAX_POINTS = 36 };

#define ROOT2 1.41421356237309505f

// o = B^T d, alpha to alpha
WINOGRAD_INLINE void winograd_data(const int alpha, const vfloat *d, vfloat *o) {
  if (alpha == 4) {
    o[0] = d[0] - d[2];
    o[1] = d[2] + d[1];
    o[2] = d[2] - d[1];
    o[3] = d[3] - d[1];
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

// u = G g: n taps to alpha, n = 2 to 4
WINOGRAD_INLINE void winograd_taps(const int alpha, const int n, const vfloat *g, vfloat *u) {
  if (alpha == 4) {
    vfloat even = 0.5f * g[0], odd = 0.5f * g[1];
    if (n > 2) even += 0.5f * g[2];
    u[1] = even + odd;
    u[2] = even - odd;
    u[3] = g[n - 1];
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

// o = A^T m: alpha to n results, n = 2 to 4
WINOGRAD_INLINE void winograd_result(const int alpha, const int n, const vfloat *m, vfloat *o) {
  vfloat even = m[1] + m[2], odd = m[1] - m[2];
  if (alpha == 4) {
    o[0] = m[0] + even;
    o[1] = odd;
    if (n > 2) o[2] = even;
  } else {
    vfloat even2 = m[3] + m[4], odd2 = m[3] - m[4];
    o[0] = m[0] + (even + even2);
    o[1] = (ROOT2 / 2) * odd + ROOT2 * odd2;
    o[2] = 0.5f * even + 2.0f * even2;
    if (n > 3) o[3] = (ROOT2 / 4) * odd + (2 * ROOT2) * odd2;
  }
  o[n - 1] += m[alpha - 1];
}

// The tiles of an image set: tile t of B x th x tw covers pixels origin + m (ty, tx) + [0, alpha) of each image.
typedef struct winograd_image {
  int64_t H, W, C;
  int64_t tiles_y, tiles_x; // of an image
  int64_t origin[2];        // of tile (0,0)
  int m;                    // distance of tiles
} winograd_image;

// Evaluates tiles [t0, t0 + nt), vectors of channels [v0, v1): to[e * stride + (v * ld + t) * VW], with t counted from t0. Pixels outside
// of the image and lanes past C are zero. winograd_spread does the same for m x m tiles as "taps" (the other gradient of a weight
// gradient).
void ISA(winograd_gather)(int alpha, const winograd_image *g, const float *x, int64_t t0, int64_t nt, int64_t v0, int64_t v1, float *to,
                          int64_t ld, int64_t stride);
void ISA(winograd_spread)(int alpha, const winograd_image *g, const float *y, int64_t t0, int64_t nt, int64_t v0, int64_t v1, float *to,
                          int64_t ld, int64_t stride);

extern const conv_kernel ISA(winograd2), ISA(winograd4);               // forward and transposed, F(2x2,3x3) and F(4x4,3x3)
extern const conv_kernel ISA(winograd2_weight), ISA(winograd4_weight); // weight gradient, F(3x3,2x2) and F(3x3,4x4)

// Floats from one point to the next: whole cache lines, an odd number of them, so that the alpha^2 streams of a transform do not meet in
// one set of a cache.
static inline int64_t winograd_point(int64_t floats) { return ((floats + 15) / 16 | 1) * 16; }

// Whether the problem is one of those (3x3, stride 1, no dilation, one group), and may be computed so.
static inline bool winograd_fits(const conv_problem *p) {
  const conv2d_attr *a = &p->attr;
  return p->size.kh == 3 && p->size.kw == 3 && a->stride[0] == 1 && a->stride[1] == 1 && a->dilation[0] == 1 && a->dilation[1] == 1 &&
         p->size.groups == 1 && !p->no_winograd;
}

#endif
