// The machine that Python's pickles are programs for, without the instructions' power: a pickle may name and call nothing but what a table
// lists (pickle_calls.c), and what it calls are functions of ours that make tensors and plain containers. Nothing is imported or executed.
#ifndef CORE_PICKLE_MACHINE_H
#define CORE_PICKLE_MACHINE_H

#include <elbo/array.h>
#include <stdbool.h>

#include "core/memory.h"

enum { PICKLE_RANK_MAX = 8 };
#define PICKLE_BYTES_MAX ((size_t)16 << 20)  // of one pickle; storages lie outside of it
#define PICKLE_VALUES_MAX ((int64_t)8 << 20) // objects, and items put into containers, while it runs

typedef enum pickle_kind {
  PICKLE_NONE,
  PICKLE_BOOL,
  PICKLE_INT,
  PICKLE_FLOAT,
  PICKLE_LONG,  // an integer of more than 64 bits: text holds its bytes, little-endian
  PICKLE_TEXT,  // UTF-8, not NUL-terminated
  PICKLE_BYTES, // str of Python 2, bytes, bytearray
  PICKLE_TUPLE,
  PICKLE_LIST,
  PICKLE_SET,
  PICKLE_DICT,   // list holds key, value, key, value, ... in the order of their setting
  PICKLE_GLOBAL, // one of the table's
  PICKLE_STORAGE,
  PICKLE_TENSOR,
  PICKLE_PLAIN // something harmless that holds no tensor (a NumPy number, a device, a slice)
} pickle_kind;

typedef struct pickle_value pickle_value;
typedef struct pickle_global pickle_global; // pickle_calls.c

typedef struct pickle_text {
  const char *at; // in the pickle
  size_t length;
} pickle_text;

typedef struct pickle_list {
  pickle_value **at;
  int64_t count, capacity;
} pickle_list;

typedef struct pickle_storage {
  pickle_text key;
  elbo_dtype dtype; // U8 when untyped
  bool untyped;
  int64_t count; // elements (bytes when untyped)
} pickle_storage;

typedef struct pickle_tensor {
  const pickle_storage *storage;
  elbo_dtype dtype;
  int64_t offset; // elements, as are strides
  int rank;
  int64_t dim[PICKLE_RANK_MAX], stride[PICKLE_RANK_MAX];
} pickle_tensor;

struct pickle_value {
  pickle_kind kind;
  union {
    int64_t integer;
    double real;
    pickle_text text;
    pickle_list list;
    const pickle_global *global;
    pickle_storage *storage;
    pickle_tensor *tensor;
  } as;
};

typedef struct pickle_machine {
  elbo_ctx *ctx;
  const char *path;
  arena *arena; // of all values; borrowed
  const uint8_t *begin, *at, *end;
  pickle_value **stack, **memo;
  int64_t depth, stack_capacity, memo_count, memo_capacity;
  int64_t *marks; // depths of the stack
  int64_t n_marks, marks_capacity;
  int64_t values;
} pickle_machine;

// Runs the pickle at the beginning of `bytes`. *out lives in the arena, texts in it point into `bytes`; *used: the pickle's length.
elbo_status pickle_run(elbo_ctx *ctx, const char *path, arena *a, const void *bytes, size_t size, pickle_value **out, size_t *used);

// --- between the machine and what it may call ---
elbo_status pickle_new(pickle_machine *m, pickle_kind kind, pickle_value **out);
elbo_status pickle_append(pickle_machine *m, pickle_list *list, pickle_value *value);
elbo_status pickle_damaged(const pickle_machine *m, const char *what);
// "module.name" or the like as it can be shown: at most 120 characters, printable ASCII.
enum { PICKLE_SHOWN = 128 };
const char *pickle_show(pickle_text text, char buffer[PICKLE_SHOWN]);

elbo_status pickle_find_global(pickle_machine *m, pickle_text module, pickle_text name, pickle_value **out);
elbo_status pickle_call(pickle_machine *m, const pickle_value *function, pickle_value *arguments, pickle_value **out);
elbo_status pickle_set_state(pickle_machine *m, const pickle_value *object);
elbo_status pickle_load_persistent(pickle_machine *m, const pickle_value *id, pickle_value **out);

#endif
