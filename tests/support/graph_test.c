#include "support/graph_test.h"

elbo_ctx *ctx;

int graph_set_up(void **state) {
  (void)state;
  ctx = test_ctx(2);
  return 0;
}

int graph_tear_down(void **state) {
  (void)state;
  elbo_ctx_destroy(&ctx);
  return 0;
}

elbo_graph *new_graph(void) {
  elbo_graph *g;
  assert_ok(ctx, elbo_graph_create(ctx, "test", &g));
  return g;
}
