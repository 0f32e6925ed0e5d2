// The fuse pass: upsampling, norms and contractions first, because they take what element-wise programs would.
#include "graph/fuse.h"

typedef elbo_status (*fuse_part)(elbo_ctx *ctx, const elbo_graph *from, int n, elbo_tensor **tensors, bool updates, elbo_graph **to);

elbo_status fuse_graph(const compile_env *env, const backend *b, elbo_graph *from, int n, elbo_tensor **tensors, bool updates,
                       elbo_graph **to) {
  static const struct {
    unsigned pattern;
    fuse_part run;
  } parts[] = {{FUSE_CONTRACTION, fuse_upsampling},
               {FUSE_NORM, fuse_norms},
               {FUSE_NORM, fuse_concats}, // of fused norms; before contractions take what it adds
               {FUSE_CONTRACTION, fuse_contractions},
               {FUSE_NORM, fuse_norm_gradients},
               {FUSE_ELEMENTWISE, fuse_elementwise}};
  *to = NULL;
  for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
    elbo_graph *next = NULL;
    if (!(b->fuses & parts[i].pattern)) continue;
    elbo_status status = parts[i].run(env->ctx, from, n, tensors, updates, &next);
    elbo_graph_destroy(&from);
    if (status != ELBO_OK) return status;
    from = next;
  }
  if (!b->normalises) {
    *to = from;
    return ELBO_OK;
  }
  elbo_status status = fuse_norm_reads(env, b, from, n, tensors, updates, to);
  elbo_graph_destroy(&from);
  return status;
}
