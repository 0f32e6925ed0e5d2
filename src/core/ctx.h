// What a context holds.
#ifndef CORE_CTX_H
#define CORE_CTX_H

#include <stdbool.h>

#include <elbo/context.h>

#include "core/error.h"
#include "core/threads.h"

typedef enum isa_level { ISA_BASE, ISA_V3, ISA_V4, ISA_COUNT } isa_level; // base is x86-64-v2 on x86

// The processor's own product of bfloat16 pairs, two multiply-adds in one instruction (vdpbf16ps): as often as float32's multiply-add, or
// a quarter as often, which is half as many multiply-adds. With a matrix unit (AMX) beside the latter, which oneDNN's kernels use.
typedef enum bf16_unit { BF16_NONE, BF16_QUARTER_RATE, BF16_FULL_RATE, BF16_MATRIX } bf16_unit;

typedef enum winograd_choice { WINOGRAD_AS_ASKED, WINOGRAD_AUTO, WINOGRAD_OFF } winograd_choice;

struct thread_pool {
  int threads;
  void *lock; // a recursive pthread mutex: one parallel region of a context at a time; NULL: none
};

typedef struct message_board message_board; // error.c: the last message of each thread, and the lock of the log callback

struct elbo_ctx {
  thread_pool pool;
  isa_level isa;
  winograd_choice winograd; // of all plans, unless it is left to those who make them
  int64_t l2_bytes;         // of a core: kernels cut their work by it. The machine's; tests set another
  int64_t last_cache_bytes; // the same, of all cores
  int precision;            // of all plans: an elbo_precision, or -1: as asked
  int64_t keep_transformed; // bytes (elbo_plan_config), or -1: as asked
  bool half_rate;           // 512-bit multiply-adds start once a cycle, half as often as elsewhere
  elbo_log_fn log;
  void *log_user;
  message_board *messages;
  uint64_t serial; // counts changes of stores: every value is given out once (atomically)
};

message_board *message_board_create(void); // NULL when out of memory
void message_board_destroy(message_board *board);

// The best level that both this build and this processor have.
isa_level isa_best(void);
const char *isa_name(isa_level isa);
bf16_unit cpu_bf16(void);
bool cpu_half_rate(void);
int64_t cpu_cache_bytes(int level); // 2: of a core, 3: shared; a modest guess where the system does not say

#endif
