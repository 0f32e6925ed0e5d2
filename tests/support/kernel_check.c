#include "support/kernel_check.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/half.h"
#include "core/memory.h"
#include "ops/contraction.h"

enum { MAX_TENSORS = 12, GUARD = 64 };

typedef struct bench {
  const node *n;
  kernel k;
  float *in[MAX_TENSORS], *out[MAX_TENSORS];
  uint64_t version[MAX_TENSORS];
  void *scratch, *persist;
} bench;

static float guard_value(int i) { return (float)(12345678 + i); } // exact, whether a compiler folds it or not

static float *guarded_new(int64_t count, test_random *random) {
  float *p = NULL;
  if (aligned_new(NULL, (size_t)(count + 2 * GUARD) * sizeof *p, "a test", (void **)&p) != ELBO_OK) return NULL;
  for (int i = 0; i < GUARD; i++) p[i] = p[GUARD + count + i] = guard_value(i);
  for (int64_t i = 0; i < count; i++) p[GUARD + i] = random ? (float)test_normal(random) : NAN;
  return p + GUARD;
}

static bool guard_intact(const float *p, int64_t count) {
  for (int i = 0; i < GUARD; i++)
    if (p[i - GUARD] != guard_value(i) || p[count + i] != guard_value(i)) return false;
  return true;
}

static void guarded_free(float *p) {
  if (p) aligned_free(p - GUARD);
}

static void close_bench(bench *b) {
  if (b->k.destroy) b->k.destroy(&b->k);
  for (int i = 0; i < MAX_TENSORS; i++) guarded_free(b->in[i]), guarded_free(b->out[i]);
  aligned_free(b->scratch);
  aligned_free(b->persist);
  memset(b, 0, sizeof *b);
}

compile_env kernel_check_env(elbo_ctx *ctx, const kernel_check *c) {
  return (compile_env){.ctx = ctx,
                       .isa = ctx->isa,
                       .pool = &ctx->pool,
                       .weights_constant = c->weights_constant,
                       .weights_cached = c->weights_cached,
                       .making_shows = true,
                       .keep_bytes = c->keep_bytes,
                       .bf16 = c->bf16,
                       .bf16_unit = c->bf16_unit};
}

static bool open_bench(bench *b, elbo_ctx *ctx, const node *n, kernel_prepare_fn prepare, const void *arg, const kernel_check *c) {
  memset(b, 0, sizeof *b);
  compile_env env = kernel_check_env(ctx, c);
  test_random random = {c->seed, 0};
  b->n = n;
  if (prepare(&env, n, &b->k, arg) != ELBO_OK) return false;
  for (int i = 0; i < n->n_in; i++) {
    b->version[i] = 5;
    if (n->in[i] && !(b->in[i] = guarded_new(shape_count(&n->in[i]->shape), &random))) return false;
  }
  for (int i = 0; i < n->n_out; i++)
    if (!(b->out[i] = guarded_new(shape_count(&n->out[i]->shape), NULL))) return false;
  if (b->k.scratch_bytes && aligned_new(NULL, b->k.scratch_bytes, "a test", &b->scratch) != ELBO_OK) return false;
  if (b->k.persist_bytes && aligned_new(NULL, b->k.persist_bytes, "a test", &b->persist) != ELBO_OK) return false;
  if (b->scratch) memset(b->scratch, 0xff, b->k.scratch_bytes);
  return true;
}

static elbo_status run_bench(bench *b, elbo_ctx *ctx) {
  kernel_args a = {.in = (const void *const *)b->in,
                   .out = (void *const *)b->out,
                   .scratch = b->scratch,
                   .persist = b->persist,
                   .version = b->version,
                   .pool = &ctx->pool,
                   .ctx = ctx};
  return b->k.run(&b->k, &a);
}

// Whether input i is an operand of the product, not a bias or a residual.
static bool is_operand(const node *n, int i) {
  bool fused = n->op == &op_fused_linear || n->op == &op_fused_conv2d || n->op == &op_fused_conv_transpose2d;
  return fused ? i == FUSED_WEIGHT || i == FUSED_X : i < 2;
}

static bool compare_outputs(bench *b, elbo_ctx *ctx, const kernel_check *c, int run) {
  double *in[MAX_TENSORS] = {0}, *out[MAX_TENSORS] = {0}, tolerance = c->tolerance > 0 ? c->tolerance : 2e-5;
  bool ok = true;
  for (int i = 0; i < b->n->n_in; i++) {
    if (!b->in[i]) continue;
    int64_t count = shape_count(&b->n->in[i]->shape);
    in[i] = calloc((size_t)count + 1, sizeof(double));
    for (int64_t e = 0; e < count; e++)
      in[i][e] = (double)(c->bf16 && is_operand(b->n, i) ? bf16_to_f32(f32_to_bf16(b->in[i][e])) : b->in[i][e]);
    if (!guard_intact(b->in[i], count)) ok = false, print_error("%s: wrote around input %d\n", c->label, i);
  }
  for (int i = 0; i < b->n->n_out; i++) out[i] = calloc((size_t)shape_count(&b->n->out[i]->shape) + 1, sizeof(double));
  if (b->n->op->reference(ctx, b->n, (const void *const *)in, (void *const *)out) != ELBO_OK) ok = false;
  for (int i = 0; ok && i < b->n->n_out; i++) {
    int64_t count = shape_count(&b->n->out[i]->shape);
    double scale = 0;
    for (int64_t e = 0; e < count; e++) scale = fmax(scale, fabs(out[i][e]));
    for (int64_t e = 0; ok && e < count; e++)
      if (!(fabs((double)b->out[i][e] - out[i][e]) <= tolerance * (1 + scale))) {
        ok = false;
        print_error("%s (seed %llu), kernel %s, %s, run %d: output %d element %lld is %.9g, reference %.9g (largest %.3g)\n", c->label,
                    (unsigned long long)c->seed, b->k.name, isa_name(ctx->isa), run, i, (long long)e, (double)b->out[i][e], out[i][e],
                    scale);
      }
    if (!guard_intact(b->out[i], count)) ok = false, print_error("%s, kernel %s: wrote around output %d\n", c->label, b->k.name, i);
  }
  for (int i = 0; i < MAX_TENSORS; i++) free(in[i]), free(out[i]);
  return ok;
}

// Whether a second run with the same inputs gave the same bits.
static bool repeats(const bench *b, elbo_ctx *ctx, const kernel_check *c, float *const *before) {
  for (int i = 0; i < b->n->n_out; i++)
    if (memcmp(before[i], b->out[i], (size_t)shape_count(&b->n->out[i]->shape) * sizeof(float)) != 0) {
      print_error("%s (seed %llu), kernel %s, %s: output %d of a second run differs from the first\n", c->label,
                  (unsigned long long)c->seed, b->k.name, isa_name(ctx->isa), i);
      return false;
    }
  return true;
}

bool kernel_check_run(elbo_ctx *ctx, const kernel_check *c, const node *n, kernel_prepare_fn prepare, const void *arg) {
  bench b;
  float *first[MAX_TENSORS] = {0};
  bool ok = open_bench(&b, ctx, n, prepare, arg, c);
  if (!ok) print_error("%s: preparing the kernel: %s\n", c->label, elbo_ctx_message(ctx));
  for (int run = 0; ok && run < 3; run++) {
    if (run == 2)
      for (int i = 0; i < n->n_in; i++)
        if (b.in[i]) b.in[i][0] += 1, b.version[i]++;
    ok = run_bench(&b, ctx) == ELBO_OK && compare_outputs(&b, ctx, c, run);
    for (int i = 0; ok && run == 0 && i < n->n_out; i++) {
      size_t bytes = (size_t)shape_count(&n->out[i]->shape) * sizeof(float);
      first[i] = malloc(bytes + 1);
      memcpy(first[i], b.out[i], bytes);
    }
    if (ok && run == 1) ok = repeats(&b, ctx, c, first);
  }
  for (int i = 0; i < n->n_out; i++) free(first[i]);
  close_bench(&b);
  return ok;
}

// On one thread, the time that it ran: what others do to the machine then matters little.
static double now(elbo_ctx *ctx) {
  struct timespec t;
  clock_gettime(pool_threads(&ctx->pool) == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double kernel_check_time(elbo_ctx *ctx, const node *n, kernel_prepare_fn prepare, const void *arg, int runs, char name[64]) {
  bench b;
  double best = 0;
  if (name) name[0] = 0;
  if (open_bench(&b, ctx, n, prepare, arg, &(kernel_check){.seed = 1})) {
    if (name) snprintf(name, 64, "%s", b.k.name);
    for (int run = 0; run < runs; run++) {
      double begin = now(ctx);
      if (run_bench(&b, ctx) != ELBO_OK) break;
      double t = now(ctx) - begin;
      if (best == 0 || t < best) best = t;
    }
  }
  close_bench(&b);
  return best;
}
