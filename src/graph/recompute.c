// Trading time for memory.
#include "graph/recompute.h"

#include "core/error.h"

elbo_status recompute_to_fit(compile_env *env, const backend *b, int64_t limit, int n, elbo_tensor **tensors, const unsigned char *external,
                             bool updates, elbo_graph **graph, int *recomputed) {
  (void)b, (void)limit, (void)n, (void)tensors, (void)external, (void)updates, (void)graph, (void)recomputed;
  return fail(env->ctx, ELBO_ERROR_UNSUPPORTED, "memory_limit is not built in");
}
