// The weight gradient as products of gathered patches, transposed, and the rows of the other tensor: for every place, the outer product of
// its patch (tap, channel) and its row. Either tensor can be the one that is gathered: patches of x and rows of y over the output, or
// patches of y and rows of x over the input (the sets of a transposed convolution). The one with fewer padded lanes is taken.
#include <stdlib.h>

#include "core/memory.h"
#include "ops/conv_patch.h"
#include "ops/gemm_cpu.h"

typedef struct state {
  conv_problem problem;
  bool gather_y;
  gemm_precision precision;
  int64_t n_sets, N, columns; // columns: N rounded up to whole vectors
  conv_patches *sets;
  int64_t *store;
  int threads, m_parts, row_parts;
  int64_t acc_set; // accumulators of one set and row part: longest patch x columns
} state;

static void destroy(kernel *k) {
  state *s = k->state;
  if (!s) return;
  free(s->sets);
  free(s->store);
  free(s);
  k->state = NULL;
}

typedef struct region {
  const state *s;
  const float *patches, *rows; // the gathered tensor, the other
  float *out, *acc, *scratch;
} region;

static int64_t thread_floats(const state *s) { return PATCH_ROWS * (GEMM_LD + s->columns); }

// rows [r0, r0 + n) of the other tensor, panel by panel: dst[(v VW) PATCH_ROWS + r width + i]
static void pack_rows(const state *s, const conv_patches *set, const float *from, int64_t r0, int64_t n, float *dst) {
  int64_t offset[PATCH_ROWS];
  ISA(place_patches)(set, r0, n, offset);
  for (int64_t c = 0; c < s->columns; c += GEMM_NR) {
    int width = s->columns - c < GEMM_NR ? VW : GEMM_NR;
    float *to = dst + c * PATCH_ROWS;
    for (int64_t r = 0; r < n; r++, to += width)
      for (int v = 0; v < width; v += VW) vstore(to + v, vload_upto(from + offset[r] + c + v, s->N - c - v));
  }
}

// To bfloat16, where that is asked for: n rows of patches, `length` of each, and of the other tensor. Gives the steps of the products.
static int64_t round_operands(const state *s, int64_t n, int64_t length, float *block, float *panels) {
  if (s->precision == GEMM_FLOAT32) return n;
  bool dot = s->precision == GEMM_BF16_DOT;
  int64_t padded = (length + VW - 1) / VW * VW;
  if (dot) ISA(bf16_pair_rows)(block, GEMM_LD, n, padded, block, GEMM_LD);
  for (int64_t r = 0; r < n && !dot; r++) ISA(bf16_round_row)(block + r * GEMM_LD, length);
  for (int64_t c = 0; c < s->columns; c += GEMM_NR) {
    int width = s->columns - c < GEMM_NR ? VW : GEMM_NR;
    float *panel = panels + c * PATCH_ROWS;
    if (dot)
      ISA(bf16_pair_rows)(panel, width, n, width, panel, width);
    else
      ISA(bf16_round_row)(panel, n * width);
  }
  return dot ? (n + 1) / 2 : n;
}

static void multiply(void *arg, int id, int count) {
  const region *g = arg;
  const state *s = g->s;
  float *block = g->scratch + id * thread_floats(s), *panels = block + PATCH_ROWS * GEMM_LD;
  for (int64_t i = 0; i < s->n_sets; i++) {
    const conv_patches *set = s->sets + i;
    int64_t M = patch_length(set);
    for (int part = id; part < s->m_parts * s->row_parts; part += count) {
      int64_t m0, m1, r0, r1;
      split_range(M, part % s->m_parts, s->m_parts, &m0, &m1);
      split_range(set->rows, part / s->m_parts, s->row_parts, &r0, &r1);
      float *acc = g->acc + (i * s->row_parts + part / s->m_parts) * s->acc_set;
      clear_floats(acc + m0 * s->columns, (m1 - m0) * s->columns);
      int64_t chunks = (m1 - m0 + GEMM_KC - 1) / GEMM_KC;
      for (int64_t chunk = 0; chunk < chunks; chunk++) {
        int64_t c0, c1;
        split_range(m1 - m0, (int)chunk, (int)chunks, &c0, &c1);
        c0 += m0, c1 += m0;
        int tiles = gemm_tiles(c1 - c0);
        for (int64_t r = r0; r < r1; r += PATCH_ROWS) {
          int64_t n = r1 - r < PATCH_ROWS ? r1 - r : PATCH_ROWS;
          ISA(gather_patches)(set, g->patches, r, n, c0, c1 - c0, block);
          pack_rows(s, set, g->rows, r, n, panels);
          int64_t steps = round_operands(s, n, c1 - c0, block, panels);
          for (int t = 0; t < tiles; t++) { // a tile's column of the block comes to L1 once, for all panels
            int64_t t0, t1;
            split_range(c1 - c0, t, tiles, &t0, &t1);
            for (int64_t c = 0; c < s->columns; c += GEMM_NR) {
              int vectors = s->columns - c < GEMM_NR ? 1 : 2;
              (s->precision == GEMM_BF16_DOT ? ISA(gemm_dot_outer) : ISA(gemm_outer))((int)(t1 - t0), vectors, steps, block + t0, GEMM_LD,
                                                                                      panels + c * PATCH_ROWS, vectors * VW,
                                                                                      acc + (c0 + t0) * s->columns + c, s->columns, true);
            }
          }
        }
      }
    }
  }
}

// Sums the row parts and writes (O,I,kh,kw).
static void scatter(void *arg, int id, int count) {
  const region *g = arg;
  const state *s = g->s;
  for (int64_t i = 0; i < s->n_sets; i++) {
    const conv_patches *set = s->sets + i;
    const float *acc = g->acc + i * s->row_parts * s->acc_set;
    int64_t v0, v1, taps = (int64_t)set->tap_rows * set->tap_columns;
    split_range(s->columns / VW, id, count, &v0, &v1);
    for (int64_t n = v0 * VW; n < v1 * VW; n += VW) {
      int64_t lanes = s->N - n < VW ? s->N - n : VW;
      for (int64_t c = 0; c < set->channels; c++)
        for (int64_t t = 0; t < taps; t++) {
          const float *from = acc + (t * set->channels + c) * s->columns + n;
          vfloat sum = vload(from);
          for (int p = 1; p < s->row_parts; p++) sum += vload(from + p * s->acc_set);
          float lane[VW];
          vstore(lane, sum);
          float *to = g->out + set->weight0 + n * set->weight_n + c * set->weight_c + set->tap[t];
          for (int64_t l = 0; l < lanes; l++) to[l * set->weight_n] = lane[l];
        }
    }
  }
}

static elbo_status run(const kernel *k, const kernel_args *a) {
  const state *s = k->state;
  float *scratch = a->scratch;
  region g = {.s = s,
              .patches = a->in[s->gather_y ? s->problem.y : s->problem.x],
              .rows = a->in[s->gather_y ? s->problem.x : s->problem.y],
              .out = a->out[0],
              .scratch = scratch,
              .acc = scratch + s->threads * thread_floats(s)};
  if (s->gather_y) // taps that reach no place of x are in no set
    clear_floats(g.out, s->problem.size.groups * s->problem.size.O * s->problem.size.I * s->problem.size.kh * s->problem.size.kw);
  parallel_run(a->pool, multiply, &g);
  parallel_run(a->pool, scatter, &g);
  return ELBO_OK;
}

static bool supports(const conv_problem *p) { return p->direction == CONV_WEIGHT_GRAD; }

// gathering x, or y; a vector of the result takes as long as thirty multiply-adds to its place
static double cost_of(const conv_problem *p, bool gather_y) {
  const conv_sizes *z = &p->size;
  double rows =
      (double)z->B * (double)(gather_y ? (z->H * z->W) : (z->OH * z->OW)) / (gather_y ? p->attr.stride[0] * p->attr.stride[1] : 1);
  double M = (double)(z->kh * z->kw * (gather_y ? z->O : z->I)), vectors = (double)(((gather_y ? z->I : z->O) + VW - 1) / VW);
  return (double)z->groups * (rows * (M * (vectors * conv_product_cost(p) + 0.3) + 2 * vectors) + 30 * M * vectors);
}

static double cost(const conv_problem *p) {
  double x = cost_of(p, false), y = cost_of(p, true);
  return x <= y ? x : y;
}

static elbo_status prepare(compile_env *env, const conv_problem *p, kernel *k) {
  const conv_sizes *z = &p->size;
  bool gather_y = cost_of(p, true) < cost_of(p, false);
  int64_t sets = conv_patch_set_count(p, gather_y), groups = z->groups;
  k->destroy = destroy;
  TRY(array_new(env->ctx, 1, sizeof(state), "kernel state", (void **)&k->state));
  state *s = k->state;
  s->problem = *p;
  s->gather_y = gather_y;
  s->precision = gemm_precision_of(p->bf16, p->bf16_unit, INT64_MAX);
  TRY(array_new(env->ctx, (size_t)(sets * groups), sizeof *s->sets, "kernel state", (void **)&s->sets));
  TRY(array_new(env->ctx, (size_t)(patch_store_size(p, gather_y) * groups), sizeof *s->store, "kernel state", (void **)&s->store));
  int64_t *store = s->store, longest = 0;
  for (int64_t g = 0; g < groups; g++) s->n_sets += conv_patch_sets(p, gather_y, g, s->sets + s->n_sets, &store);
  for (int64_t i = 0; i < s->n_sets; i++)
    if (patch_length(s->sets + i) > longest) longest = patch_length(s->sets + i);
  s->N = gather_y ? z->I : z->O;
  s->columns = (s->N + VW - 1) / VW * VW;
  s->threads = pool_threads(env->pool);
  s->m_parts = s->threads; // parts of the patch need no second accumulator; places are split where the patch is short
  while (s->m_parts > 1 && (s->threads % s->m_parts || longest / s->m_parts < 4 * GEMM_MR)) s->m_parts--;
  s->row_parts = s->threads / s->m_parts;
  s->acc_set = longest * s->columns;
  k->scratch_bytes = (size_t)(s->threads * thread_floats(s) + s->n_sets * s->row_parts * s->acc_set) * sizeof(float);
  k->run = run;
  static const char *const names[][2] = {{"own:patch_gemm_weight." ISA_TEXT, "own:patch_gemm_weight_y." ISA_TEXT},
                                         {"own:patch_gemm_weight_bf16." ISA_TEXT, "own:patch_gemm_weight_y_bf16." ISA_TEXT},
                                         {"own:patch_gemm_weight_bf16_dot." ISA_TEXT, "own:patch_gemm_weight_y_bf16_dot." ISA_TEXT}};
  k->name = names[s->precision][gather_y];
  return ELBO_OK;
}

const conv_kernel ISA(conv_gemm_weight) = {"patch_gemm_weight", supports, cost, prepare, false};
