// Forces the one kernel of a product on nodes made of random shapes.
#ifndef TESTS_OPS_PRODUCT_CASES_H
#define TESTS_OPS_PRODUCT_CASES_H

#include <stdio.h>

#include "ops/contraction.h"
#include "support/kernel_check.h"
#include "support/op_check.h"

static inline elbo_status prepare_registered(compile_env *env, const node *n, kernel *k, const void *arg) {
  (void)arg;
  return cpu_op_find(n->op, env->isa)->prepare(env, n, k);
}

// An epilogue drawn at random on the node that made y; also says with which residual. Returns the fused node.
static inline const node *fused_at_random(elbo_graph *g, test_random *r, elbo_tensor *y) {
  contraction_epilogue e = {.alpha = test_below(r, 0, 1) ? 1.0 : 0.5,
                            .activation = (contraction_activation)test_below(r, 0, CONTRACTION_ACTIVATIONS - 1),
                            .slope = 0.1,
                            .keep_pre = (int)test_below(r, 0, 1)};
  elbo_tensor *residual = test_below(r, 0, 1) ? elbo_input(g, "residual", ELBO_F32, y->shape.rank, y->shape.dim) : NULL;
  return graph_add_fused(g, y->producer, residual, &e, NULL);
}

#endif
