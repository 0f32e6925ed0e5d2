// Passes over graphs. Each makes a new graph out of an old one, so that a plan never touches the graph that its user built.
#ifndef GRAPH_REWRITE_H
#define GRAPH_REWRITE_H

#include "backend/node.h"

// A copy under way: `map` gives, by id of a tensor of `from`, what stands for it in `to`.
typedef struct rewrite {
  const elbo_graph *from;
  elbo_graph *to;
  elbo_tensor **map;
} rewrite;

elbo_status rewrite_begin(elbo_ctx *ctx, const elbo_graph *from, rewrite *r);
// Copies node n with its inputs mapped; maps its outputs.
node *rewrite_copy(rewrite *r, const node *n);
// Maps `tensors` and the state updates, hands over the new graph. On failure too, nothing is left of r.
elbo_status rewrite_end(rewrite *r, int n, elbo_tensor **tensors, bool updates, elbo_graph **to);
void rewrite_cancel(rewrite *r); // frees what there is; does nothing after rewrite_end

// The tensor whose memory t is, through any number of views; t itself where it is none.
const elbo_tensor *graph_base(const elbo_tensor *t);

// by node id: needed for `tensors` (and the state updates when `updates`). Freed by the caller.
elbo_status graph_needed(elbo_ctx *ctx, const elbo_graph *g, int n, elbo_tensor *const *tensors, bool updates, bool **needed);

// Removes what nobody needs and what does nothing (routing of gradients, x + 0, x * 1, broadcasts to the same shape), joins nodes that
// compute the same. `tensors`: of `from` on entry, what stands for them in *to afterwards.
elbo_status graph_clean(elbo_ctx *ctx, const elbo_graph *from, int n, elbo_tensor **tensors, bool updates, elbo_graph **to);

#endif
