// Float vectors of the calling file's instruction set, and elementary functions on them. Only *_cpu.c files include this.
//
// Plain C with vector extensions, so every processor has them; three lines use an instruction that the extensions cannot say. All
// functions propagate NaN and treat infinities and denormals as the C library does. Largest errors, measured against libm in double over
// all of float (tests/ops/test_elementwise.c holds them), in units in the last place of the result:
//   vexp 1.5   vlog 1.5   vlog1p 2.5   vexpm1 2.5   vtanh 3   vsigmoid 2.5   vsoftplus 3   verf 2   vsin, vcos 2 (|x| <= 1e4; libm beyond)
//
// Polynomials are minimax fits (Remez) in the stated interval.
#ifndef OPS_VEC_H
#define OPS_VEC_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define VW 16
#elif defined(__AVX2__)
#define VW 8
#else
#define VW 4
#endif

typedef float vfloat __attribute__((vector_size(4 * VW)));
typedef int32_t vint __attribute__((vector_size(4 * VW)));
typedef uint32_t vuint __attribute__((vector_size(4 * VW)));
typedef uint64_t vuint64 __attribute__((vector_size(4 * VW)));
typedef float vfloat_unaligned __attribute__((vector_size(4 * VW), aligned(4), may_alias));

static inline vfloat vload(const float *p) { return *(const vfloat_unaligned *)p; }
static inline void vstore(float *p, vfloat v) { *(vfloat_unaligned *)p = v; }
static inline vfloat vsplat(float x) { return x - (vfloat){0}; } // x - 0 is x for every x: no instruction is left of it, unlike x + 0

// a where the mask is all ones, b where it is zero
static inline vfloat vselect(vint mask, vfloat a, vfloat b) { return (vfloat)((mask & (vint)a) | (~mask & (vint)b)); }
static inline vfloat vabs(vfloat x) { return (vfloat)((vint)x & 0x7fffffff); }
static inline vfloat vcopysign(vfloat magnitude, vfloat sign) {
  return (vfloat)(((vint)magnitude & 0x7fffffff) | ((vint)sign & (vint)((vuint){0} + 0x80000000u)));
}
// NaN in either operand comes through
static inline vfloat vmax(vfloat a, vfloat b) { return vselect((a > b) | (a != a), a, b); }
static inline vfloat vmin(vfloat a, vfloat b) { return vselect((a < b) | (a != a), a, b); }
// One instruction; a NaN in a is lost
static inline vfloat vmax_number(vfloat a, vfloat b) {
#if defined(__AVX512F__)
  return (vfloat)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
  return (vfloat)_mm256_max_ps((__m256)a, (__m256)b);
#elif defined(__SSE__)
  return (vfloat)_mm_max_ps((__m128)a, (__m128)b);
#else
  return vselect(a > b, a, b);
#endif
}
static inline vfloat vclamp(vfloat x, float low, float high) {
  x = vselect(x < low, vsplat(low), x);
  return vselect(x > high, vsplat(high), x);
}

static inline vfloat vsqrt(vfloat x) {
#if defined(__AVX512F__)
  return (vfloat)_mm512_sqrt_ps((__m512)x);
#elif defined(__AVX2__)
  return (vfloat)_mm256_sqrt_ps((__m256)x);
#elif defined(__SSE__)
  return (vfloat)_mm_sqrt_ps((__m128)x);
#else
  for (int l = 0; l < VW; l++) x[l] = sqrtf(x[l]);
  return x;
#endif
}

// Sum of the lanes, pairwise.
static inline float vsum(vfloat v) {
  float lane[VW];
  memcpy(lane, &v, sizeof lane);
  for (int width = VW / 2; width > 0; width /= 2)
    for (int l = 0; l < width; l++) lane[l] += lane[l + width];
  return lane[0];
}
static inline float vmax_lanes(vfloat v) {
  float best = v[0];
  for (int l = 1; l < VW; l++) best = v[l] > best || v[l] != v[l] ? v[l] : best;
  return best;
}
static inline int vany(vint mask) { // lanes all ones or zero
#if defined(__AVX512F__)
  return _mm512_test_epi32_mask((__m512i)mask, (__m512i)mask) != 0;
#elif defined(__AVX2__)
  return _mm256_movemask_ps((__m256)mask) != 0;
#else
  int any = 0;
  for (int l = 0; l < VW; l++) any |= mask[l];
  return any;
#endif
}

// Nearest whole number of |x| < 2^22, as float and as integer: the sum with 1.5 * 2^23 leaves it in the low bits of the mantissa.
static inline vfloat vround(vfloat x, vint *whole) {
  vfloat shifted = x + 12582912.0f;
  *whole = (vint)((vuint)shifted - 0x4b400000u);
  return shifted - 12582912.0f;
}
static inline vfloat vpow2(vint n) { return (vfloat)(((vuint)n + 127u) << 23); } // -126 <= n <= 127

// ln 2 in two parts; the first has ten bits, so that its product with a small whole number is exact
#define VEC_LN2_HIGH 0.693359375f
#define VEC_LN2_LOW (-2.12194440055e-4f)

static inline vfloat vexp(vfloat x) {
  vint n;
  x = vclamp(x, -104.0f, 89.0f); // the exponential is 0 and infinite there
  vfloat nf = vround(x * 1.44269504f, &n);
  vfloat r = (x - nf * VEC_LN2_HIGH) - nf * VEC_LN2_LOW; // |r| <= ln(2)/2
  vfloat p = 0.00138197739969f * r + 0.00836954934289f;
  p = p * r + 0.0416683781935f;
  p = p * r + 0.166665136985f;
  p = p * r + 0.499999932159f;
  p = (p * (r * r) + r) + 1.0f;
  vint half = n >> 1; // two factors: 2^n itself may be no float
  return p * vpow2(half) * vpow2(n - half);
}

// 2^x of x < 126, within 1.5e-7 of it; 0 from -126 or so down, minus infinity included. Softmax's own: everything that those bounds allow
// is left out. AVX-512 takes the fraction and scales by the whole number with an instruction each.
static inline vfloat vexp2_below(vfloat x) {
#if defined(__AVX512F__)
  vfloat r = (vfloat)_mm512_reduce_ps((__m512)x, _MM_FROUND_TO_NEG_INF); // 0 <= r < 1; 0 of an infinity
  vfloat p = 0.0018671300495f * r + 0.00901703070849f;
  p = p * r + 0.0557999126613f;
  p = p * r + 0.240164443851f;
  p = p * r + 0.693151295185f;
  p = p * r + 1.0f;
  return (vfloat)_mm512_scalef_ps((__m512)p, (__m512)x);
#else
  vfloat shifted = x + 12582912.0f;
  vfloat r = x - (shifted - 12582912.0f); // |r| <= 1/2
  vfloat p = 0.00132647271974f * r + 0.00967151263966f;
  p = p * r + 0.0555073374325f;
  p = p * r + 0.240222420854f;
  p = p * r + 0.693146977599f;
  p = p * r + 1.0f;
  p = (vfloat)((vuint)p + ((vuint)shifted << 23)); // the whole number into the exponent
  return (vfloat)(~(x <= -126.0f) & (vint)p);      // NaN stays
#endif
}

static inline vfloat vexpm1(vfloat x) {
  vint n;
  x = vclamp(x, -30.0f, 89.0f);
  vfloat nf = vround(x * 1.44269504f, &n);
  vfloat r = (x - nf * VEC_LN2_HIGH) - nf * VEC_LN2_LOW;
  vfloat p = 0.000199240601175f * r + 0.00139421645671f;
  p = p * r + 0.00833325818804f;
  p = p * r + 0.0416663408494f;
  p = p * r + 0.166666668663f;
  p = p * r + 0.500000004943f;
  p = p * (r * r) + r;
  vfloat s = vpow2(n - 1); // 2^n (p + 1) - 1
  return 2.0f * (s * p + (s - 0.5f));
}

// P with log(1 + f) = f - f^2/2 + f^3 P(f), sqrt(1/2) <= 1 + f <= sqrt(2)
static inline vfloat vlog_polynomial(vfloat f) {
  vfloat p = 0.0674666340312f * f - 0.116756401967f;
  p = p * f + 0.118881450518f;
  p = p * f - 0.124055895819f;
  p = p * f + 0.14219554878f;
  p = p * f - 0.166679959337f;
  p = p * f + 0.20002118537f;
  p = p * f - 0.250000095954f;
  p = p * f + 0.333333126057f;
  return p;
}

static inline vfloat vlog(vfloat x) {
  vint tiny = x < 1.17549435e-38f;
  vfloat scaled = vselect(tiny, x * 0x1p25f, x);
  vint e = (vint)((vuint)scaled - 0x3f3504f3u) >> 23; // scaled = 2^e m, sqrt(1/2) <= m < sqrt(2)
  vfloat f = (vfloat)((vuint)scaled - ((vuint)e << 23)) - 1.0f;
  vfloat ef = __builtin_convertvector(e, vfloat) - (vfloat)(tiny & (vint)vsplat(25.0f));
  vfloat z = f * f;
  vfloat y = vlog_polynomial(f) * (z * f) + ef * VEC_LN2_LOW;
  y = f + (y - 0.5f * z);
  y = y + ef * VEC_LN2_HIGH;
  y = vselect(x == INFINITY, x, y);
  y = vselect(x == 0.0f, vsplat(-INFINITY), y);
  return vselect(x >= 0.0f, y, vsplat(NAN));
}

// log u plus what u = 1 + x lost in rounding
static inline vfloat vlog1p(vfloat x) {
  vfloat u = x + 1.0f;
  vfloat lost = (x - (u - 1.0f)) / u;
  return vlog(u) + (vfloat)((u > 0.0f) & (u < INFINITY) & (vint)lost);
}

static inline vfloat vtanh(vfloat x) {
  vfloat e = vexpm1(2.0f * vclamp(vabs(x), 0.0f, 10.0f));
  return vcopysign(e / (e + 2.0f), x);
}

static inline vfloat vsigmoid(vfloat x) {
  vfloat e = vexp(-vabs(x));
  return vselect(x >= 0.0f, vsplat(1.0f), e) / (1.0f + e);
}

// Within 1e-7 of the sigmoid: what normalisations apply, where a division would take longer than all else. The quotient is by
// three of Newton's steps from a line through the exponent's bits, the same on every processor. Far below, 2^-100 is left instead of less.
static inline vfloat vsigmoid_near(vfloat x) {
  vfloat t = x * -1.44269504f;
#if defined(__AVX512F__)
  t = (vfloat)_mm512_min_ps(_mm512_set1_ps(100.0f), (__m512)t); // NaN stays
#else
  t = vselect(t > 100.0f, vsplat(100.0f), t);
#endif
  vfloat d = 1.0f + vexp2_below(t);
  vfloat q = (vfloat)(0x7ef311c7u - (vuint)d);
  q = q * (2.0f - d * q);
  q = q * (2.0f - d * q);
  q = q * (2.0f - d * q);
  return q;
}

// max(x, 0) + log1p(e), e = exp(-|x|) in (0,1]; where e is large, log1p(e) = ln 2 + log1p((e-1)/2), so that the fit of vlog holds
static inline vfloat vsoftplus(vfloat x) {
  vfloat e = vexp(-vabs(x));
  vint large = e > 0.414213562f;
  vfloat f = vselect(large, 0.5f * (e - 1.0f), e), z = f * f;
  vfloat y = vlog_polynomial(f) * (z * f) + (vfloat)(large & (vint)vsplat(VEC_LN2_LOW));
  y = f + (y - 0.5f * z);
  y = y + (vfloat)(large & (vint)vsplat(VEC_LN2_HIGH));
  return (vfloat)((x > 0.0f) & (vint)x) + y;
}

static inline vfloat verf(vfloat x) {
  vfloat a = vabs(x), z = x * x; // |x| <= 0.95: x + x P(x^2)
  vfloat p = 8.21540159621e-5f * z - 0.000810595878208f;
  p = p * z + 0.00519779647586f;
  p = p * z - 0.0268581039358f;
  p = p * z + 0.112836725374f;
  p = p * z - 0.376126322851f;
  p = p * z + 0.128379166495f;
  vfloat c = vclamp(a, 0.0f, 4.0f); // 0.9 <= |x| <= 4: 1 - exp(G(|x|))
  vfloat g = 0.000197175472027f * c - 0.00305554772253f;
  g = g * c + 0.0222768545232f;
  g = g * c - 0.104036889744f;
  g = g * c - 0.637060273699f;
  g = g * c - 1.12774926257f;
  g = g * c - 0.000177564872692f;
  return vselect(a < 0.92f, x + x * p, vcopysign(1.0f - vexp(g), x));
}

// sin for quadrant offset 0, cos for 1. r = x - n pi/2 with pi/2 in four parts, the first three short enough for exact products
// (Cody and Waite).
static inline vfloat vsin_quadrant(vfloat x, int offset) {
  vfloat far = vabs(x);
  if (vany(~(far <= 1e4f))) {
    for (int l = 0; l < VW; l++) x[l] = offset ? cosf(x[l]) : sinf(x[l]);
    return x;
  }
  vint n;
  vfloat nf = vround(x * 0.636619772f, &n);
  vfloat r = ((x - nf * 0x1.92p+0f) - nf * 0x1.fb4p-12f) - nf * 0x1.444p-24f;
  r = r - nf * 0x1.68c234p-39f;
  vfloat z = r * r;
  vfloat s = -0.000195108421197f * z + 0.00833213152446f;
  s = s * z - 0.166666542261f;
  s = s * (z * r) + r;
  vfloat c = 2.44312099925e-5f * z - 0.00138873060924f;
  c = c * z + 0.041666645654f;
  c = c * (z * z) + (1.0f - 0.5f * z);
  n += offset;
  vfloat y = vselect((n & 1) == 0, s, c);
  return (vfloat)((vint)y ^ (vint)((vuint)(n & 2) << 30));
}
static inline vfloat vsin(vfloat x) { return vsin_quadrant(x, 0); }
static inline vfloat vcos(vfloat x) { return vsin_quadrant(x, 1); }

// cos and sin of 2 pi u, 0 <= u < 1; the reduction to r quarter turns, |r| <= 1/2, is exact
static inline void vcos_sin_turns(vfloat u, vfloat *cosine, vfloat *sine) {
  vint n;
  vfloat t = 4.0f * u, r = t - vround(t, &n), z = r * r;
  vfloat s = -0.00460214538785f * z + 0.0796802181893f;
  s = s * z - 0.645963477901f;
  s = (s * z + 1.57079632196f) * r;
  vfloat c = 0.000903625534923f * z - 0.0208600686223f;
  c = c * z + 0.253669203578f;
  c = c * z - 1.23370054063f;
  c = c * z + 1.0f;
  vint odd = (n & 1) != 0;
  *sine = (vfloat)((vint)vselect(odd, c, s) ^ (vint)((vuint)(n & 2) << 30));
  *cosine = (vfloat)((vint)vselect(odd, s, c) ^ (vint)((vuint)((n + 1) & 2) << 30));
}

static inline vfloat vsilu(vfloat x) { return x * vsigmoid(x); }
static inline vfloat vgelu(vfloat x) { return 0.5f * x * (1.0f + verf(x * 0.707106781f)); }
// 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), by 0.5 (1 + tanh t) = sigmoid(2 t)
static inline vfloat vgelu_tanh(vfloat x) { return x * vsigmoid(1.59576912f * (x + 0.044715f * (x * x * x))); }

// --- Philox4x32-10 (core/philox.h), a counter in each lane ---

// High and low words of the 64-bit products of the lanes with m.
static inline vuint vmul_wide(vuint a, uint32_t m, vuint *high) {
#if defined(__AVX512F__)
  __m512i x = (__m512i)a, k = _mm512_set1_epi32((int)m);
  vuint64 even = (vuint64)_mm512_mul_epu32(x, k), odd = (vuint64)_mm512_mul_epu32(_mm512_srli_epi64(x, 32), k);
#elif defined(__AVX2__)
  __m256i x = (__m256i)a, k = _mm256_set1_epi32((int)m);
  vuint64 even = (vuint64)_mm256_mul_epu32(x, k), odd = (vuint64)_mm256_mul_epu32(_mm256_srli_epi64(x, 32), k);
#elif defined(__SSE2__)
  __m128i x = (__m128i)a, k = _mm_set1_epi32((int)m);
  vuint64 even = (vuint64)_mm_mul_epu32(x, k), odd = (vuint64)_mm_mul_epu32(_mm_srli_epi64(x, 32), k);
#else
  vuint low;
  for (int l = 0; l < VW; l++) {
    uint64_t product = (uint64_t)a[l] * m;
    low[l] = (uint32_t)product;
    (*high)[l] = (uint32_t)(product >> 32);
  }
  return low;
#endif
#if defined(__SSE2__)
  *high = (vuint)((even >> 32) | (odd & 0xffffffff00000000u));
  return (vuint)((even & 0xffffffffu) | (odd << 32));
#endif
}

static inline void vphilox(vuint c[4], uint64_t seed) {
  uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
  for (int round = 0; round < 10; round++) {
    vuint h0, h1;
    vuint l0 = vmul_wide(c[0], 0xd2511f53u, &h0), l1 = vmul_wide(c[2], 0xcd9e8d57u, &h1);
    c[0] = h1 ^ c[1] ^ k0;
    c[2] = h0 ^ c[3] ^ k1;
    c[1] = l1;
    c[3] = l0;
    k0 += 0x9e3779b9u;
    k1 += 0xbb67ae85u;
  }
}

static inline vfloat vuniform(vuint bits) { return __builtin_convertvector((vint)(bits >> 8), vfloat) * 0x1p-24f; } // [0,1)
// Box and Muller: two normals of two words.
static inline void vnormal2(vuint a, vuint b, vfloat *first, vfloat *second) {
  vfloat u = __builtin_convertvector((vint)(a >> 8) + 1, vfloat) * 0x1p-24f; // (0,1]
  vfloat radius = vsqrt(-2.0f * vlog(u)), cosine, sine;
  vcos_sin_turns(vuniform(b), &cosine, &sine);
  *first = radius * cosine;
  *second = radius * sine;
}

#endif
