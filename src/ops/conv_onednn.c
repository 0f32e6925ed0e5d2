// oneDNN's convolutions in the table of kernels: those without activation, a residual added in a pass of its own. The same for every
// instruction set, as oneDNN looks at the processor itself.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/onednn.h"
#include "core/memory.h"
#include "ops/conv_cpu.h"

typedef struct state {
  conv_problem problem;
  onednn_conv *conv;
  size_t packed; // bytes, a multiple of 64
} state;

static void destroy(kernel *k) {
  state *s = k->state;
  if (!s) return;
  onednn_conv_destroy(&s->conv);
  free(s);
  k->state = NULL;
}

typedef struct residual_job {
  const float *residual;
  float *out;
} residual_job;

static void add_range(void *arg, int64_t begin, int64_t end) {
  typedef float line __attribute__((vector_size(64), aligned(4), may_alias)); // this file is compiled for no instruction set of its own
  const residual_job *j = arg;
  int64_t i = begin;
  for (; i + 16 <= end; i += 16) *(line *)(j->out + i) += *(const line *)(j->residual + i);
  for (; i < end; i++) j->out[i] += j->residual[i];
}

// Scratch, or the memory that stays: packed weights; then the library's own scratch.
static elbo_status run_convolution(const kernel *k, const kernel_args *a) {
  const state *s = k->state;
  const conv_problem *p = &s->problem;
  bool keep = p->weights_constant && p->direction != CONV_WEIGHT_GRAD && s->packed;
  float *packed = keep ? (float *)a->persist + 16 : a->scratch;
  void *scratch = keep || !s->packed ? a->scratch : (char *)a->scratch + s->packed;
  if (p->direction == CONV_WEIGHT_GRAD) {
    float *own = s->packed ? packed : a->out[0];
    TRY(onednn_conv_run(s->conv, a->pool, a->in[p->x], a->in[p->y], NULL, own, scratch));
    return s->packed ? onednn_conv_reorder(s->conv, a->pool, own, a->out[0]) : ELBO_OK;
  }
  uint64_t *version = a->persist;
  if (s->packed && !(keep && *version == a->version[p->w] + 1)) {
    TRY(onednn_conv_reorder(s->conv, a->pool, a->in[p->w], packed));
    if (keep) *version = a->version[p->w] + 1;
  }
  const float *w = s->packed ? packed : a->in[p->w];
  if (p->direction == CONV_FORWARD)
    return onednn_conv_run(s->conv, a->pool, a->in[p->x], w, p->bias >= 0 ? a->in[p->bias] : NULL, a->out[0], scratch);
  return onednn_conv_run(s->conv, a->pool, w, a->in[p->y], NULL, a->out[0], scratch);
}

static elbo_status run(const kernel *k, const kernel_args *a) {
  const conv_problem *p = &((const state *)k->state)->problem;
  const conv_sizes *z = &p->size;
  TRY(run_convolution(k, a));
  if (p->residual < 0) return ELBO_OK;
  residual_job job = {a->in[p->residual], a->out[0]};
  bool forward = p->direction == CONV_FORWARD;
  int64_t count = z->B * z->groups * (forward ? z->OH * z->OW * z->O : z->H * z->W * z->I);
  parallel_for(a->pool, count, 4096, add_range, &job);
  return ELBO_OK;
}

// Of operands rounded to bfloat16 where the processor multiplies such; emulated it would be the direct product in float32, which is not
// what was asked for.
static bool rounds(const conv_problem *p) { return p->bf16 && p->size.groups == 1; }

// A layer as networks have them. Of others, version 2.6.3 with AMX calls a kernel that it has not made (10x5 pixels, kernel 3x3, stride
// 3,2, padding 2,2,3,0), and with or without it forgets the weights that see nothing but padding (gradients of maps narrower than the
// stride).
static bool usual(const conv_problem *p) {
  const conv_sizes *z = &p->size;
  const conv2d_attr *a = &p->attr;
  bool is = z->kh == z->kw && z->kh <= 5 && a->stride[0] == a->stride[1] && a->stride[0] <= 2;
  for (int i = 0; i < 2; i++) {
    int64_t size = i ? z->W : z->H, out = i ? z->OW : z->OH, far = (out - 1) * a->stride[i] + z->kh - size - a->pad[i];
    is = is && a->dilation[i] == 1 && a->pad[i] <= z->kh / 2 && far <= z->kh / 2 && size >= z->kh;
  }
  return is;
}

static bool supports(const conv_problem *p) {
  if (rounds(p) && (p->bf16_unit == BF16_NONE || !usual(p))) return false;
  return (p->bias < 0 || p->direction == CONV_FORWARD) && p->epilogue.activation == CONTRACTION_LINEAR && !p->epilogue.keep_pre &&
         p->epilogue.alpha == 1;
}

// Where it was the faster, measured on Zen 4 by AVX-512 and held to AVX2 (batch 128, kernels 3x3 and 4x4 of stride 2): few channels on the
// side that is summed, where gathering costs as much as it gains; 64 channels or fewer; with AVX-512 nearly all that fills whole vectors.
// And grouped convolutions, for which ours run one narrow product a group. With a residual, which ours add while it is in registers, only
// by AVX-512 (batch 16, 32 to 256 channels: 38 and 52 GFLOP/s of one busy core).
static bool is_faster(const conv_problem *p) {
  const conv_sizes *z = &p->size;
  int64_t vector = p->isa == ISA_V4 ? 16 : 8, summed = p->direction == CONV_TRANSPOSED ? z->O : z->I, made = z->I + z->O - summed;
  if (p->isa == ISA_BASE || z->groups > 1) return z->groups > 1;
  if (p->residual >= 0 && p->isa != ISA_V4) return false;
  if (summed <= 4) return (p->isa == ISA_V4 || p->direction != CONV_FORWARD) && made % vector == 0;
  if (z->I % vector || z->O % vector) return false;
  return p->isa == ISA_V4 || (z->I <= 64 && z->O <= 64 && p->direction != CONV_FORWARD);
}

// In vector multiply-adds: the direct sum at nearly the limit of the hardware, below any of ours that computes it; and weights that change
// are brought into its layout (as long as 22 to 33 places took, 16 to 64 places of 256 and 512 channels), their gradient out of it (20 to
// 38).
//
// Rounded, only with a matrix unit, for channels that fill its tiles. It multiplies sixteen times as much as the others, of which it is
// trusted with half (not measured: no such processor was at hand); rounding reads and writes an operand.
static double cost(const conv_problem *p) {
  const conv_sizes *z = &p->size;
  bool matrix = rounds(p) && p->bf16_unit == BF16_MATRIX;
  if (matrix ? z->I % 16 || z->O % 16 : rounds(p) || !is_faster(p)) return INFINITY;
  if (p->size.groups > 1) return 0;
  bool t = p->direction == CONV_TRANSPOSED;
  int64_t vector = p->isa == ISA_V4 ? 16 : p->isa == ISA_V3 ? 8 : 4, made = t ? z->I : z->O, summed = z->I + z->O - made;
  double places = t ? (double)(z->B * z->H * z->W) / (p->attr.stride[0] * p->attr.stride[1]) : (double)(z->B * z->OH * z->OW);
  double rounding = 0;
  if (matrix) {
    double x = (double)(z->B * z->H * z->W * z->I), y = (double)(z->B * z->OH * z->OW * z->O);
    rounding = 4 / 16.0 * (p->direction == CONV_FORWARD ? x : t ? y : x + y);
    places /= 8;
  }
  if (p->direction == CONV_WEIGHT_GRAD) places += 20;
  if (!p->weights_constant && p->direction != CONV_WEIGHT_GRAD) places += 25;
  return rounding + places * (double)(z->kh * z->kw * summed * ((made + vector - 1) / vector));
}

static elbo_status prepare(compile_env *env, const conv_problem *p, kernel *k) {
  static const onednn_direction directions[] = {ONEDNN_FORWARD, ONEDNN_BACKWARD_DATA, ONEDNN_BACKWARD_WEIGHTS};
  const conv_sizes *z = &p->size;
  const conv2d_attr *a = &p->attr;
  onednn_conv_config config = {.direction = directions[p->direction],
                               .bias = p->bias >= 0,
                               .bf16 = rounds(p),
                               .B = z->B,
                               .H = z->H,
                               .W = z->W,
                               .I = z->I,
                               .O = z->O,
                               .kh = z->kh,
                               .kw = z->kw,
                               .OH = z->OH,
                               .OW = z->OW,
                               .groups = z->groups,
                               .stride = {a->stride[0], a->stride[1]},
                               .dilation = {a->dilation[0], a->dilation[1]},
                               .pad = {a->pad[0], a->pad[1]}};
  k->destroy = destroy;
  TRY(array_new(env->ctx, 1, sizeof(state), "kernel state", &k->state));
  state *s = k->state;
  s->problem = *p;
  TRY(onednn_conv_create(env->ctx, &config, &s->conv));
  bool by_tiles = strstr(onednn_conv_name(s->conv), "amx");
  if (rounds(p) && cpu_bf16() == BF16_MATRIX && !env->kernel && !by_tiles)
    return fail(env->ctx, ELBO_ERROR_UNSUPPORTED, "%s does without the matrix unit", onednn_conv_name(s->conv));
  s->packed = (onednn_conv_packed_bytes(s->conv) + 63) / 64 * 64;
  bool keep = p->weights_constant && p->direction != CONV_WEIGHT_GRAD && s->packed;
  k->scratch_bytes = onednn_conv_scratch_bytes(s->conv) + (keep ? 0 : s->packed);
  k->persist_bytes = keep ? s->packed + 64 : 0;
  k->run = run;
  k->name = onednn_conv_name(s->conv);
  return ELBO_OK;
}

const conv_kernel conv_onednn = {"onednn", supports, cost, prepare, false};

// Rows of so many pixels make an image; other numbers of rows are one of a single row.
enum { PRODUCT_SIDE = 8, PRODUCT_PIXELS = PRODUCT_SIDE * PRODUCT_SIDE };

// Tall products with AVX-512, where it reached 330 to 350 GFLOP/s of 360 and ours 200 to 270 (4096 rows, 128 to 256 channels, two cores).
// Rounded ones with a matrix unit, whatever their size, once its tiles are full.
bool conv_onednn_takes_product(const compile_env *env, int64_t rows, int64_t I, int64_t O) {
  if (env->isa != ISA_V4 || env->kernel || I % 16 || O % 16) return false;
  if (env->bf16) return env->bf16_unit == BF16_MATRIX && rows >= 16 && I >= 32;
  return rows >= 1024 && rows % PRODUCT_PIXELS == 0 && I >= 64 && O >= 64 && I <= 1024 && O <= 1024;
}

elbo_status conv_onednn_product(compile_env *env, const conv_product *m, kernel *k) {
  bool square = m->rows % PRODUCT_PIXELS == 0;
  int64_t height = square ? PRODUCT_SIDE : 1, width = square ? PRODUCT_SIDE : m->rows;
  conv_problem p = {.direction = m->direction,
                    .attr = {.stride = {1, 1}, .dilation = {1, 1}},
                    .size = {.B = m->rows / (height * width),
                             .H = height,
                             .W = width,
                             .OH = height,
                             .OW = width,
                             .I = m->I,
                             .O = m->O,
                             .kh = 1,
                             .kw = 1,
                             .groups = 1},
                    .epilogue = CONTRACTION_EPILOGUE_NONE,
                    .x = m->x,
                    .w = m->w,
                    .y = m->y,
                    .bias = m->bias,
                    .residual = m->residual,
                    .norm = -1,
                    .x2 = -1,
                    .weights_constant = env->weights_constant && m->constant,
                    .bf16 = env->bf16,
                    .bf16_unit = env->bf16_unit,
                    .isa = env->isa,
                    .threads = pool_threads(env->pool)};
  elbo_status status = prepare(env, &p, k);
  if (status == ELBO_OK) return status;
  if (status == ELBO_ERROR_UNSUPPORTED) log_debug(env->ctx, "product by a kernel of our own: %s", elbo_ctx_message(env->ctx));
  destroy(k);
  *k = (kernel){0};
  return status;
}
