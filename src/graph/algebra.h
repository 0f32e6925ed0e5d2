// Rules that make one node simpler while a graph is copied.
#ifndef GRAPH_ALGEBRA_H
#define GRAPH_ALGEBRA_H

#include "graph/rewrite.h"

// A tensor of r->to that equals k's only output, when k need not be computed as it stands (inputs are mapped already); NULL otherwise.
elbo_tensor *algebra_simplify(rewrite *r, const node *k);

#endif
