// Trading time for memory: what can be computed again need not be kept from the forward to the backward pass.
#ifndef GRAPH_RECOMPUTE_H
#define GRAPH_RECOMPUTE_H

#include "graph/plan.h"

// Looks at the placed plan p and rewrites its graph so that fewer bytes are live at its fullest step, by `bytes` or what can be had:
// tensors that are kept across it only for a later reader are computed again right before that reader. `tensors` (the outputs) are mapped
// along. *count: operations that were doubled, 0 when there is nothing left to win; *to is then NULL. dear: not only what is as good as
// free to compute again, but any operation, those that win most for their FLOPs first.
elbo_status recompute_once(const elbo_plan *p, int64_t bytes, bool dear, int n, elbo_tensor **tensors, elbo_graph **to, int *count);

// What running n again costs: its FLOPs, and one for every number that it writes.
double recompute_work(const node *n);

#endif
