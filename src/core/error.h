// Statuses with messages, inside the library.
#ifndef CORE_ERROR_H
#define CORE_ERROR_H

#include <elbo/context.h>

// Sets the calling thread's message on ctx (printf style) and returns `status`. ctx may be NULL (the message is lost).
elbo_status fail(elbo_ctx *ctx, elbo_status status, const char *format, ...) ELBO_PRINTF(3, 4);
// Puts "text: " in front of the present message (where the failing call was made from) and returns `status`.
elbo_status fail_within(elbo_ctx *ctx, elbo_status status, const char *format, ...) ELBO_PRINTF(3, 4);
// "out of memory: N bytes for WHAT"
elbo_status fail_memory(elbo_ctx *ctx, size_t bytes, const char *what);
// "PATH: WHAT: strerror(errno)"
elbo_status fail_errno(elbo_ctx *ctx, const char *path, const char *what);

// Forwards a failure to the caller.
#define TRY(call)                                   \
  do {                                              \
    elbo_status try_status_ = (call);               \
    if (try_status_ != ELBO_OK) return try_status_; \
  } while (0)
// Forwards a failure to the function's one `fail:` label; needs a local `elbo_status status`.
#define TRY_GOTO(call)                \
  do {                                \
    status = (call);                  \
    if (status != ELBO_OK) goto fail; \
  } while (0)

void log_debug(elbo_ctx *ctx, const char *format, ...) ELBO_PRINTF(2, 3);
void log_info(elbo_ctx *ctx, const char *format, ...) ELBO_PRINTF(2, 3);
void log_warning(elbo_ctx *ctx, const char *format, ...) ELBO_PRINTF(2, 3);

#endif
