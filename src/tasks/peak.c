// This machine's limits: multiply-adds in registers, and bytes from memory.
#include <math.h>
#include <unistd.h>

#include "core/ctx.h"
#include "core/memory.h"
#include "tasks/bench.h"
#include "tasks/peak.h"

typedef struct peak_work {
  isa_level isa;
  int64_t rounds;
  float results[64]; // written so that the loops cannot be dropped
} peak_work;

static void peak_body(void *arg, int id, int count) {
  peak_work *w = arg;
  (void)count;
  float result;
#ifdef ELBO_HAVE_X86_VARIANTS
  if (w->isa == ISA_V4)
    result = peak_loop_v4(w->rounds, 0.999f, 0.5f);
  else if (w->isa == ISA_V3)
    result = peak_loop_v3(w->rounds, 0.999f, 0.5f);
  else
#endif
    result = peak_loop_base(w->rounds, 0.999f, 0.5f);
  w->results[id % 64] = result;
}

static int flops_per_round(isa_level isa) {
#ifdef ELBO_HAVE_X86_VARIANTS
  if (isa == ISA_V4) return peak_flops_per_round_v4();
  if (isa == ISA_V3) return peak_flops_per_round_v3();
#endif
  (void)isa;
  return peak_flops_per_round_base();
}

elbo_status elbo_bench_peak(elbo_ctx *ctx, double *gflops) {
  peak_work work = {.isa = ctx->isa, .rounds = 200000};
  double best = 0, began = seconds_now();
  *gflops = 0;
  while (seconds_now() - began < 0.35) {
    double start = seconds_now();
    parallel_run(&ctx->pool, peak_body, &work);
    double taken = seconds_now() - start;
    double rate = (double)flops_per_round(ctx->isa) * (double)work.rounds * pool_threads(&ctx->pool) / taken * 1e-9;
    if (rate > best) best = rate;
    if (taken < 0.005) work.rounds *= 2; // long enough that starting the threads does not show
  }
  if (!isfinite((double)work.results[0])) return fail(ctx, ELBO_ERROR_INTERNAL, "the peak loop gave a value that is not finite");
  *gflops = best;
  return ELBO_OK;
}

// --- memory ---

typedef struct stream_work {
  isa_level isa;
  float *to, *from;
} stream_work;

static void touch_range(void *arg, int64_t begin, int64_t end) { // by the thread that will use it
  stream_work *w = arg;
  for (int64_t i = 16 * begin; i < 16 * end; i++) w->to[i] = w->from[i] = 1;
}

static void stream_range(void *arg, int64_t begin, int64_t end) {
  stream_work *w = arg;
  float *to = w->to + 16 * begin;
  const float *from = w->from + 16 * begin;
  int64_t count = 16 * (end - begin);
#ifdef ELBO_HAVE_X86_VARIANTS
  if (w->isa == ISA_V4) {
    stream_loop_v4(to, from, count);
    return;
  }
  if (w->isa == ISA_V3) {
    stream_loop_v3(to, from, count);
    return;
  }
#endif
  stream_loop_base(to, from, count);
}

// Bytes of the two arrays: four times the last cache, within an eighth of the memory.
static int64_t stream_bytes(void) {
  int64_t cache = sysconf(_SC_LEVEL3_CACHE_SIZE), memory = (int64_t)sysconf(_SC_PHYS_PAGES) * (int64_t)sysconf(_SC_PAGESIZE);
  int64_t bytes = 4 * (cache > 0 ? cache : 0);
  if (bytes < (int64_t)128 << 20) bytes = (int64_t)128 << 20;
  if (bytes > (int64_t)1 << 30) bytes = (int64_t)1 << 30;
  return bytes > memory / 8 && memory > 0 ? memory / 8 : bytes;
}

elbo_status elbo_bench_bandwidth(elbo_ctx *ctx, double *gbytes) {
  int64_t lines = stream_bytes() / 2 / 64;
  stream_work work = {.isa = ctx->isa};
  void *memory;
  *gbytes = 0;
  TRY(aligned_new(ctx, (size_t)lines * 128, "measuring the memory's bandwidth", &memory));
  work.to = memory, work.from = work.to + 16 * lines;
  parallel_for(&ctx->pool, lines, 1024, touch_range, &work);
  double began = seconds_now();
  for (int i = 0; i < 3 || seconds_now() - began < 0.3; i++) {
    double start = seconds_now();
    parallel_for(&ctx->pool, lines, 1024, stream_range, &work);
    double rate = 192e-9 * (double)lines / (seconds_now() - start); // three of 64 bytes a line
    if (rate > *gbytes) *gbytes = rate;
  }
  aligned_free(memory);
  return ELBO_OK;
}
