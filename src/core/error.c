#include "core/error.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/ctx.h"

enum { MESSAGE_BYTES = 2048, SLOTS_MAX = 1024 };

// The last message of one thread. A thread is known by a number of its own, which, unlike its pthread_t, is never given to another.
typedef struct message_slot message_slot;
struct message_slot {
  message_slot *next; // the most recently failed thread first
  uint64_t thread;
  char text[MESSAGE_BYTES];
};

struct message_board {
  pthread_mutex_t lock;
  pthread_mutex_t log_lock; // recursive: a log callback may call the library
  message_slot *first;
  int count;
};

static uint64_t this_thread(void) {
  static atomic_uint_fast64_t last;
  static _Thread_local uint64_t mine;
  if (!mine) mine = atomic_fetch_add(&last, 1) + 1;
  return mine;
}

message_board *message_board_create(void) {
  message_board *board = calloc(1, sizeof *board);
  pthread_mutexattr_t attr;
  if (!board) return NULL;
  // The creating thread's slot is made now, so that at least it can tell of a later shortage of memory.
  board->first = calloc(1, sizeof *board->first);
  if (!board->first) {
    free(board);
    return NULL;
  }
  board->first->thread = this_thread();
  board->count = 1;
  pthread_mutex_init(&board->lock, NULL);
  pthread_mutexattr_init(&attr);
  pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE);
  pthread_mutex_init(&board->log_lock, &attr);
  pthread_mutexattr_destroy(&attr);
  return board;
}

void message_board_destroy(message_board *board) {
  if (!board) return;
  while (board->first) {
    message_slot *next = board->first->next;
    free(board->first);
    board->first = next;
  }
  pthread_mutex_destroy(&board->lock);
  pthread_mutex_destroy(&board->log_lock);
  free(board);
}

// The calling thread's slot, moved to the front; made when `make` is set. Beyond SLOTS_MAX threads the one that failed longest ago, which
// has most likely ended, gives up its slot. Called under the lock.
static message_slot *find_slot(message_board *board, int make) {
  uint64_t thread = this_thread();
  message_slot **link = &board->first, **last = NULL;
  for (; *link; link = &(*link)->next) {
    if ((*link)->thread == thread) {
      message_slot *slot = *link;
      *link = slot->next;
      slot->next = board->first;
      return board->first = slot;
    }
    last = link;
  }
  if (!make) return NULL;
  message_slot *slot = board->count < SLOTS_MAX ? calloc(1, sizeof *slot) : NULL;
  if (slot) {
    board->count++;
  } else if (board->count == SLOTS_MAX && last) {
    slot = *last;
    *last = NULL;
  } else {
    return NULL;
  }
  slot->thread = thread;
  slot->text[0] = 0;
  slot->next = board->first;
  return board->first = slot;
}

static void set_message(elbo_ctx *ctx, const char *text) {
  if (!ctx) return;
  pthread_mutex_lock(&ctx->messages->lock);
  message_slot *slot = find_slot(ctx->messages, 1);
  if (slot) snprintf(slot->text, sizeof slot->text, "%s", text);
  pthread_mutex_unlock(&ctx->messages->lock);
}

const char *elbo_ctx_message(const elbo_ctx *ctx) {
  if (!ctx || !ctx->messages) return "";
  pthread_mutex_lock(&ctx->messages->lock);
  const message_slot *slot = find_slot(ctx->messages, 0);
  pthread_mutex_unlock(&ctx->messages->lock);
  return slot ? slot->text : "";
}

// The arguments may point into the present message, so the new one is made beside it.
elbo_status fail(elbo_ctx *ctx, elbo_status status, const char *format, ...) {
  char text[MESSAGE_BYTES];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  set_message(ctx, text);
  return status;
}

elbo_status fail_within(elbo_ctx *ctx, elbo_status status, const char *format, ...) {
  char text[2 * MESSAGE_BYTES];
  va_list args;
  va_start(args, format);
  int n = vsnprintf(text, MESSAGE_BYTES, format, args);
  va_end(args);
  if (n < 0) n = 0;
  if (n >= MESSAGE_BYTES) n = MESSAGE_BYTES - 1;
  snprintf(text + n, sizeof text - (size_t)n, ": %s", elbo_ctx_message(ctx));
  set_message(ctx, text);
  return status;
}

elbo_status fail_memory(elbo_ctx *ctx, size_t bytes, const char *what) {
  return fail(ctx, ELBO_ERROR_MEMORY, "out of memory: %zu bytes for %s", bytes, what);
}

elbo_status fail_errno(elbo_ctx *ctx, const char *path, const char *what) {
  char reason[128];
  int error = errno;
  return fail(ctx, ELBO_ERROR_IO, "%s: %s: %s", path, what, strerror_r(error, reason, sizeof reason));
}

const char *elbo_status_name(elbo_status status) {
  switch (status) {
  case ELBO_OK: return "ok";
  case ELBO_ERROR_ARGUMENT: return "argument";
  case ELBO_ERROR_MEMORY: return "memory";
  case ELBO_ERROR_IO: return "io";
  case ELBO_ERROR_FORMAT: return "format";
  case ELBO_ERROR_UNSUPPORTED: return "unsupported";
  case ELBO_ERROR_NUMERIC: return "numeric";
  case ELBO_ERROR_STATE: return "state";
  case ELBO_ERROR_STOPPED: return "stopped";
  case ELBO_ERROR_INTERNAL: return "internal";
  }
  return "unknown";
}

static void log_text(elbo_ctx *ctx, elbo_log_level level, const char *format, va_list args) {
  char text[MESSAGE_BYTES];
  if (!ctx || !ctx->log) return;
  vsnprintf(text, sizeof text, format, args);
  pthread_mutex_lock(&ctx->messages->log_lock);
  ctx->log(ctx->log_user, level, text);
  pthread_mutex_unlock(&ctx->messages->log_lock);
}

#define LOG_FUNCTION(name, level)                     \
  void name(elbo_ctx *ctx, const char *format, ...) { \
    va_list args;                                     \
    va_start(args, format);                           \
    log_text(ctx, level, format, args);               \
    va_end(args);                                     \
  }
LOG_FUNCTION(log_debug, ELBO_LOG_DEBUG)
LOG_FUNCTION(log_info, ELBO_LOG_INFO)
LOG_FUNCTION(log_warning, ELBO_LOG_WARNING)
