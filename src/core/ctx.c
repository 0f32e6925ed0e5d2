#include "core/ctx.h"

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef ELBO_HAVE_X86_VARIANTS
#include <cpuid.h>
#ifdef __linux__
#include <sys/syscall.h>
#endif
#endif

#include "core/number.h"

enum { THREADS_MAX = 1024 };

#ifdef ELBO_HAVE_X86_VARIANTS
// The parts of x86-64-v3 that __builtin_cpu_supports does not name in every compiler: MOVBE and F16C (leaf 1), LZCNT (leaf 0x80000001).
static bool has_v3_extras(void) {
  unsigned a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & 1u << 22) || !(c & 1u << 29)) return false;
  return __get_cpuid(0x80000001u, &a, &b, &c, &d) && (c & 1u << 5);
}
static bool has_v2(void) { return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("ssse3") && __builtin_cpu_supports("popcnt"); }
static bool has_v3(void) {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
         __builtin_cpu_supports("bmi2") && has_v3_extras();
}
static bool has_v4(void) {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

isa_level isa_best(void) {
#ifdef ELBO_HAVE_X86_VARIANTS
  __builtin_cpu_init();
  if (!has_v3()) return ISA_BASE;
  return has_v4() ? ISA_V4 : ISA_V3;
#else
  return ISA_BASE;
#endif
}

#ifdef ELBO_HAVE_X86_VARIANTS
// Whether there is AMX's product of bfloat16 tiles and the system lets this process have their registers, which are large enough to be
// asked for (Linux 5.16).
static bool has_matrix_unit(void) {
#if defined(__linux__) && defined(SYS_arch_prctl)
  enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
  unsigned a, b, c, d;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d & 1u << 22) || !(d & 1u << 24)) return false; // AMX-BF16, AMX-TILE
  return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
#else
  return false;
#endif
}
#endif

bf16_unit cpu_bf16(void) {
#ifdef ELBO_HAVE_X86_VARIANTS
  unsigned a, b, c, d;
  if (isa_best() != ISA_V4 || !__get_cpuid_count(7, 1, &a, &b, &c, &d) || !(a & 1u << 5)) return BF16_NONE;
  // AMD's do it at the full rate. Intel's give their own matrix unit the rate: measured on Emerald Rapids, one every two cycles where two
  // float32 multiply-adds start in each.
  if (__builtin_cpu_is("amd")) return BF16_FULL_RATE;
  return has_matrix_unit() ? BF16_MATRIX : BF16_QUARTER_RATE;
#else
  return BF16_NONE;
#endif
}

bool cpu_half_rate(void) {
#ifdef ELBO_HAVE_X86_VARIANTS
  unsigned a, b, c, d;
  return isa_best() == ISA_V4 && __builtin_cpu_is("amd") && __get_cpuid(1, &a, &b, &c, &d) &&
         (a >> 8 & 15) + (a >> 20 & 255) == 0x19; // Zen 4
#else
  return false;
#endif
}

int64_t cpu_cache_bytes(int level) {
  long bytes = 0;
#ifdef _SC_LEVEL2_CACHE_SIZE
  bytes = sysconf(level == 2 ? _SC_LEVEL2_CACHE_SIZE : _SC_LEVEL3_CACHE_SIZE);
#endif
  return bytes > 0 ? bytes : level == 2 ? 512 << 10 : 8 << 20;
}

const char *isa_name(isa_level isa) {
  switch (isa) {
  case ISA_V3: return "v3";
  case ISA_V4: return "v4";
  default: break;
  }
#ifdef ELBO_HAVE_X86_VARIANTS
  return "v2";
#else
  return "base";
#endif
}

// Cores that this process may run on. A machine with more than 1024 needs a larger set than cpu_set_t.
static int available_cores(void) {
  for (int cpus = 1024; cpus <= 1 << 20; cpus *= 4) {
    cpu_set_t *set = CPU_ALLOC(cpus);
    if (!set) break;
    size_t bytes = CPU_ALLOC_SIZE(cpus);
    int count = sched_getaffinity(0, bytes, set) == 0 ? CPU_COUNT_S(bytes, set) : 0;
    CPU_FREE(set);
    if (count > 0) return count < THREADS_MAX ? count : THREADS_MAX;
  }
  long online = sysconf(_SC_NPROCESSORS_ONLN);
  return online > 0 && online < THREADS_MAX ? (int)online : 1;
}

void elbo_ctx_defaults(elbo_ctx_config *config) {
  if (!config) return;
  memset(config, 0, sizeof *config);
  config->size = sizeof *config;
}

static elbo_status choose_isa(elbo_ctx *ctx, const char *name) {
  ctx->isa = isa_best();
#ifdef ELBO_HAVE_X86_VARIANTS
  if (!has_v2()) return fail(ctx, ELBO_ERROR_UNSUPPORTED, "this processor lacks x86-64-v2 (SSE4.2), the least that this build runs on");
#endif
  if (!name || !name[0]) return ELBO_OK;
  for (int level = ISA_BASE; level < ISA_COUNT; level++) {
    if (strcmp(name, isa_name((isa_level)level)) != 0 && !(level == ISA_BASE && strcmp(name, "base") == 0)) continue;
    if ((isa_level)level > ctx->isa)
      return fail(ctx, ELBO_ERROR_UNSUPPORTED, "isa: %s is not on this machine; its best is %s", name, isa_name(ctx->isa));
    ctx->isa = (isa_level)level;
    return ELBO_OK;
  }
  return fail(ctx, ELBO_ERROR_ARGUMENT, "isa: no variant is called '%s'; there are v2, v3 and v4", name);
}

static elbo_status choose_winograd(elbo_ctx *ctx, const char *name) {
  if (name && strcmp(name, "auto") != 0 && strcmp(name, "off") != 0)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "winograd: '%s'; one of auto, off was expected", name);
  ctx->winograd = !name ? WINOGRAD_AS_ASKED : strcmp(name, "off") ? WINOGRAD_AUTO : WINOGRAD_OFF;
  return ELBO_OK;
}

static elbo_status choose_precision(elbo_ctx *ctx, const char *name) {
  static const char *const names[] = {"float32", "bfloat16", "bfloat16-emulated"}; // elbo_precision
  ctx->precision = -1;
  if (!name) return ELBO_OK;
  for (int i = 0; i < 3; i++)
    if (!strcmp(name, names[i])) return ctx->precision = i, ELBO_OK;
  return fail(ctx, ELBO_ERROR_ARGUMENT, "precision: '%s'; one of float32, bfloat16, bfloat16-emulated was expected", name);
}

static elbo_status choose_kept(elbo_ctx *ctx, const char *bytes) {
  ctx->keep_transformed = -1;
  if (!bytes || bytes_parse(bytes, &ctx->keep_transformed)) return ELBO_OK;
  return fail(ctx, ELBO_ERROR_ARGUMENT, "keep_transformed: '%s'; expected a size such as 0, 256MiB or 1GB", bytes);
}

static elbo_status choose_threads(elbo_ctx *ctx, int wanted) {
  int cores = available_cores();
  if (wanted < 0 || wanted > THREADS_MAX)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "threads: %d; expected 0 (one per core) to %d", wanted, THREADS_MAX);
  ctx->pool.threads = wanted ? wanted : cores;
  if (wanted > cores) log_warning(ctx, "%d threads on %d core%s will be slower than %d", wanted, cores, cores == 1 ? "" : "s", cores);
  return ELBO_OK;
}

static pthread_mutex_t *recursive_lock(void) {
  pthread_mutex_t *lock = malloc(sizeof *lock);
  pthread_mutexattr_t attr;
  if (!lock) return NULL;
  pthread_mutexattr_init(&attr);
  pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE);
  int error = pthread_mutex_init(lock, &attr);
  pthread_mutexattr_destroy(&attr);
  if (error) free(lock), lock = NULL;
  return lock;
}

elbo_status elbo_ctx_create(const elbo_ctx_config *config, char *message, size_t message_size, elbo_ctx **out) {
  elbo_ctx_config settings;
  elbo_status status = ELBO_ERROR_MEMORY;
  const char *reason = "out of memory for a context";
  elbo_ctx *ctx = NULL;
  if (message && message_size) message[0] = 0;
  if (out) *out = NULL;
  elbo_ctx_defaults(&settings);
  if (!out || (config && config->size != sizeof settings)) {
    reason = out ? "config: call elbo_ctx_defaults first (size is not that of this library's elbo_ctx_config)" : "out: NULL";
    status = ELBO_ERROR_ARGUMENT;
    goto fail;
  }
  if (config) settings = *config;
  ctx = calloc(1, sizeof *ctx);
  if (!ctx) goto fail;
  ctx->messages = message_board_create();
  ctx->pool.lock = recursive_lock();
  if (!ctx->messages || !ctx->pool.lock) goto fail;
  ctx->log = settings.log;
  ctx->log_user = settings.log_user;
  reason = NULL; // from here on the context's own message tells
  TRY_GOTO(choose_isa(ctx, settings.isa));
  TRY_GOTO(choose_winograd(ctx, settings.winograd));
  TRY_GOTO(choose_precision(ctx, settings.precision));
  TRY_GOTO(choose_kept(ctx, settings.keep_transformed));
  TRY_GOTO(choose_threads(ctx, settings.threads));
  ctx->l2_bytes = cpu_cache_bytes(2);
  ctx->last_cache_bytes = cpu_cache_bytes(3);
  ctx->half_rate = cpu_half_rate();
  *out = ctx;
  return ELBO_OK;

fail:
  if (message && message_size) snprintf(message, message_size, "%s", reason ? reason : elbo_ctx_message(ctx));
  elbo_ctx_destroy(&ctx);
  return status;
}

void elbo_ctx_destroy(elbo_ctx **ctx) {
  if (!ctx || !*ctx) return;
  message_board_destroy((*ctx)->messages);
  if ((*ctx)->pool.lock) pthread_mutex_destroy((*ctx)->pool.lock);
  free((*ctx)->pool.lock);
  free(*ctx);
  *ctx = NULL;
}

int elbo_ctx_threads(const elbo_ctx *ctx) { return ctx ? ctx->pool.threads : 0; }

const char *elbo_ctx_isa(const elbo_ctx *ctx) { return isa_name(ctx ? ctx->isa : isa_best()); }

const char *elbo_version(void) { return ELBO_VERSION; }
