// A graph's outputs by its plans: of the reference, fused and not, poisoned, on each instruction set.
#ifndef SUPPORT_PLAN_RUNS_H
#define SUPPORT_PLAN_RUNS_H

#include "graph/plan.h"

typedef struct plan_options {
  elbo_backend_kind kind;
  int fuse, poison;
  int64_t limit;
} plan_options;

// All n outputs one after the other, *count numbers in all, after two runs on inputs drawn by their names; freed by the caller.
double *plan_values(elbo_ctx *c, elbo_graph *g, int n, elbo_tensor **out, plan_options o, elbo_store *store, elbo_plan_info *info,
                    int64_t *count);
// The same whatever the instruction set and the fusing, against the reference on `ctx`, which the graph belongs to. `seed` is for messages.
void plan_variants_agree(elbo_ctx *ctx, elbo_graph *g, int n, elbo_tensor **out, elbo_store *store, uint64_t seed);

#endif
