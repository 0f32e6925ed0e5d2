// The table of operations, made of ops/ops.def.
#include <string.h>

#include "ops/op.h"

#define OP(name) extern const cpu_op name##_cpu_base;
#define OP_GRAPH(name)
#include "ops/ops.def"
#undef OP
#undef OP_GRAPH
#ifdef ELBO_HAVE_X86_VARIANTS
#define OP(name) extern const cpu_op name##_cpu_v3, name##_cpu_v4;
#define OP_GRAPH(name)
#include "ops/ops.def"
#undef OP
#undef OP_GRAPH
#define VARIANTS(name) \
  { &name##_cpu_base, &name##_cpu_v3, &name##_cpu_v4 }
#else
#define VARIANTS(name) \
  { &name##_cpu_base, NULL, NULL }
#endif

typedef struct registered {
  const op_def *op;
  const cpu_op *cpu[ISA_COUNT];
} registered;

static const registered table[] = {
#define OP(name) {&op_##name, VARIANTS(name)},
#define OP_GRAPH(name) {&op_##name, {NULL, NULL, NULL}},
#include "ops/ops.def"
#undef OP
#undef OP_GRAPH
};

enum { TABLE_SIZE = sizeof table / sizeof table[0] };

const cpu_op *cpu_op_find(const op_def *op, isa_level isa) {
  for (int i = 0; i < TABLE_SIZE; i++)
    if (table[i].op == op) return table[i].cpu[isa];
  return NULL;
}

const op_def *op_find(const char *name) {
  for (int i = 0; i < TABLE_SIZE; i++)
    if (strcmp(table[i].op->name, name) == 0) return table[i].op;
  return NULL;
}

int op_count(void) { return TABLE_SIZE; }

const op_def *op_at(int i) { return table[i].op; }
