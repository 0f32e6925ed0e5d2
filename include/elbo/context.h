// Contexts, statuses and messages: the ground that every other header stands on.
//
// Nothing in libelbo is global: everything hangs on an elbo_ctx, and two contexts of one process are independent.
// The library never exits, aborts, prints or installs signal handlers.
#ifndef ELBO_CONTEXT_H
#define ELBO_CONTEXT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define ELBO_API __attribute__((visibility("default")))
#define ELBO_MUST_CHECK __attribute__((warn_unused_result))
#define ELBO_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define ELBO_API
#define ELBO_MUST_CHECK
#define ELBO_PRINTF(fmt, args)
#endif

// What a call came to. Everything but ELBO_OK leaves a message in the context (elbo_ctx_message).
typedef enum elbo_status {
  ELBO_OK = 0,
  ELBO_ERROR_ARGUMENT,    // the caller's argument, a recipe's key, a shape: the message names it and what was expected
  ELBO_ERROR_MEMORY,      // an allocation failed; the message says how many bytes were asked for
  ELBO_ERROR_IO,          // the operating system refused a file operation; the message names the file and the reason
  ELBO_ERROR_FORMAT,      // a file is not what it should be; the message names file, place and what was expected
  ELBO_ERROR_UNSUPPORTED, // well-formed, but not built in or not possible on this machine
  ELBO_ERROR_NUMERIC,     // a loss or a value became NaN or infinite
  ELBO_ERROR_STATE,       // calls in the wrong order, a directory in use, a checkpoint of another recipe
  ELBO_ERROR_STOPPED,     // a callback asked to stop; whatever had to be saved has been saved
  ELBO_ERROR_INTERNAL     // our own mistake
} elbo_status;

typedef enum elbo_log_level { ELBO_LOG_DEBUG, ELBO_LOG_INFO, ELBO_LOG_WARNING } elbo_log_level;

typedef struct elbo_ctx elbo_ctx;

// Receives every log line. `text` is borrowed for the call and has no newline. Calls may come from any thread of the library's, but never
// two of one context at once.
typedef void (*elbo_log_fn)(void *user, elbo_log_level level, const char *text);

typedef struct elbo_ctx_config {
  size_t size;           // sizeof(elbo_ctx_config), set by elbo_ctx_defaults
  int threads;           // worker threads, 0: one per core that this process may use; more than cores is allowed with a warning
  const char *isa;       // force a CPU kernel variant: NULL (the best there is), "v2", "v3" or "v4"; borrowed for the call
  const char *winograd;  // convolutions by Winograd's algorithm: "auto" or "off", whatever recipes say; NULL: as they say, or auto;
                         // borrowed for the call
  const char *precision; // of products: "float32", "bfloat16" or "bfloat16-emulated", whatever recipes say; NULL: as they say, or float32;
                         // borrowed for the call
  const char *keep_transformed; // elbo_plan_config.keep_transformed as "256MiB", whatever recipes say; NULL: as they say, or that; borrowed
                                // for the call
  elbo_log_fn log;              // may be NULL
  void *log_user;               // borrowed for the context's life
} elbo_ctx_config;

ELBO_API void elbo_ctx_defaults(elbo_ctx_config *config);

// Creates a context. `config` may be NULL (defaults) and is borrowed for the call. On failure *out is NULL; `message` (at least
// `message_size` bytes, may be NULL) then receives the reason, as there is no context to hold it.
ELBO_API ELBO_MUST_CHECK elbo_status elbo_ctx_create(const elbo_ctx_config *config, char *message, size_t message_size, elbo_ctx **out);

// Destroys *ctx and sets it to NULL; NULL is fine. Everything created from it must be destroyed before.
ELBO_API void elbo_ctx_destroy(elbo_ctx **ctx);

// The message of the last call on this context, made by the calling thread, that did not return ELBO_OK; "" when there was none.
// Borrowed, valid until that thread's next failing call.
ELBO_API const char *elbo_ctx_message(const elbo_ctx *ctx);

ELBO_API int elbo_ctx_threads(const elbo_ctx *ctx);

// The instruction-set variant in use: "v2", "v3", "v4" (x86-64 levels) or "base" on other processors.
ELBO_API const char *elbo_ctx_isa(const elbo_ctx *ctx);

ELBO_API const char *elbo_status_name(elbo_status status);

ELBO_API const char *elbo_version(void);

// Reports the progress of a long call; return false to stop it (it then returns ELBO_ERROR_STOPPED). `done` of `total` units, total 0
// when unknown. `text` is a short state of the work ("loss 103.2 kl 21.0"), borrowed for the call, never NULL.
typedef int (*elbo_progress_fn)(void *user, const char *what, int64_t done, int64_t total, const char *text);

#ifdef __cplusplus
}
#endif
#endif
