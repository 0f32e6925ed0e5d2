// The fuse pass: contractions first, because their epilogues take what element-wise programs would.
#include "graph/fuse.h"

#include "graph/rewrite.h"

elbo_status fuse_graph(elbo_ctx *ctx, unsigned patterns, const elbo_graph *from, int n, elbo_tensor **tensors, bool updates,
                       elbo_graph **to) {
  elbo_graph *contracted = NULL;
  if (patterns & FUSE_CONTRACTION)
    TRY(fuse_contractions(ctx, from, n, tensors, updates, &contracted));
  else
    TRY(graph_clean(ctx, from, n, tensors, updates, &contracted));
  if (!(patterns & FUSE_ELEMENTWISE)) {
    *to = contracted;
    return ELBO_OK;
  }
  elbo_status status = fuse_elementwise(ctx, contracted, n, tensors, updates, to);
  elbo_graph_destroy(&contracted);
  return status;
}
