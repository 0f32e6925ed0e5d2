// A store's insides: parameters sorted by (kind, name), so that trained ones are one flat buffer and a name prefix is one range of it.
#ifndef GRAPH_STORE_H
#define GRAPH_STORE_H

#include "backend/node.h"

typedef struct store_entry {
  const char *name;
  elbo_param_kind kind;
  shape shape;
  int64_t count;
  int64_t offset; // floats into the buffer of its kind
  float *at;      // its values: there, or wherever a store that is no store to train has them
  bool mapped;    // they are pages of a file, which come back when they are read again
} store_entry;

typedef struct store_memory store_memory;

struct elbo_store {
  elbo_ctx *ctx;
  arena *arena; // names, entries
  int n;
  store_entry *entries;     // TRAINED, then FROZEN, then STATE, each in name order
  float *data[3];           // by kind, 64-byte aligned; NULL in a store whose values lie elsewhere
  int64_t count[3];         // floats, every parameter rounded up to 16 so that each begins on a cache line; padding is zero
  uint64_t version;         // changes with every change of values, unique in the context
  uint64_t identity;        // of this store, unique in the context
  bool no_winograd;         // for those who make plans over it (elbo_plan_config.no_winograd)
  int precision;            // the same (elbo_plan_config.precision)
  int64_t keep_transformed; // the same
  store_memory *memory;     // what the values that lie elsewhere belong to
};

enum { KEEP_TRANSFORMED = 256 << 20 }; // elbo_plan_config.keep_transformed where nothing else is said

// Index into entries, or -1.
int store_index(const elbo_store *s, const char *name);
static inline float *store_data(const elbo_store *s, int i) { return s->entries[i].at; }
// The range [*begin, *end) of data[ELBO_PARAM_TRAINED] that holds the trained parameters whose names begin with `prefix` ("": all); empty
// when there are none.
void store_trained_range(const elbo_store *s, const char *prefix, int64_t *begin, int64_t *end);
// Copies all values between stores of one layout.
void store_assign(elbo_store *to, const elbo_store *from);
bool store_same_layout(const elbo_store *a, const elbo_store *b);

#endif
