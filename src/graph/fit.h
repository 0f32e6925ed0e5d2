// Making a plan fit into a limit.
#ifndef GRAPH_FIT_H
#define GRAPH_FIT_H

#include "graph/plan.h"

// Rewrites the placed plan's graph, running operations twice, until its arena takes at most config->memory_limit bytes. What is tried, and
// in which order, does not depend on the limit, so that every limit that is not below *config->least_bytes is kept.
elbo_status plan_fit(elbo_plan *p, compile_env *env, const elbo_plan_config *config, elbo_tensor **tensors);

#endif
