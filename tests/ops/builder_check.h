// Two checks beside op_check that the tests of the larger operations share: what a builder refuses, and bits that threads must not change.
#ifndef TESTS_OPS_BUILDER_CHECK_H
#define TESTS_OPS_BUILDER_CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ops/op.h"
#include "support/op_check.h"

// Building fails with ELBO_ERROR_ARGUMENT and a message that contains `part`.
static inline void assert_build_refused(op_build_fn build, const void *arg, const char *part) {
  elbo_ctx *ctx = test_ctx(1);
  elbo_graph *g = NULL;
  assert_ok(ctx, elbo_graph_create(ctx, "refused", &g));
  assert_null(build(g, arg));
  assert_status(ctx, elbo_graph_check(g), ELBO_ERROR_ARGUMENT, part);
  elbo_graph_destroy(&g);
  elbo_ctx_destroy(&ctx);
}

// Runs y and its gradients to all float inputs (random ones) with `threads` threads; the outputs are appended to *bytes (free it).
static inline size_t outputs_with_threads(int threads, op_build_fn build, const void *arg, char **bytes) {
  elbo_ctx *ctx = test_ctx(threads);
  elbo_graph *g = NULL;
  elbo_tensor *x[8], *out[9], *gradient[8];
  int n = 0, n_out = 0;
  size_t size = 0;
  test_random random = {.seed = test_seed()};
  assert_ok(ctx, elbo_graph_create(ctx, "threads", &g));
  out[n_out++] = build(g, arg);
  assert_non_null(out[0]);
  for (int64_t i = 0; i < g->n_nodes; i++)
    if (strcmp(g->nodes[i]->op->name, "input") == 0 && g->nodes[i]->out[0]->dtype == ELBO_F32) x[n++] = g->nodes[i]->out[0];
  elbo_tensor *w = elbo_input(g, "w", ELBO_F32, out[0]->shape.rank, out[0]->shape.dim);
  assert_ok(ctx, elbo_gradient(elbo_sum(elbo_mul(out[0], w), ELBO_ALL_AXES, 0), n, x, gradient));
  for (int i = 0; i < n; i++)
    if (gradient[i]) out[n_out++] = gradient[i];
  elbo_plan *plan = NULL;
  assert_ok(ctx, elbo_plan_create(ctx, g, n_out, out, NULL, &plan));
  x[n++] = w;
  for (int i = 0; i < n; i++) {
    int64_t count = shape_count(&x[i]->shape);
    test_fill_normal(&random, elbo_plan_input(plan, x[i]->producer->name), count, 1);
  }
  assert_ok(ctx, elbo_plan_run(plan, NULL));
  *bytes = NULL;
  for (int i = 0; i < n_out; i++) {
    size_t more = (size_t)shape_count(&out[i]->shape) * sizeof(float);
    *bytes = realloc(*bytes, size + more);
    assert_non_null(*bytes);
    memcpy(*bytes + size, elbo_plan_output(plan, i), more);
    size += more;
  }
  elbo_plan_destroy(&plan);
  elbo_graph_destroy(&g);
  elbo_ctx_destroy(&ctx);
  return size;
}

static inline void assert_threads_change_nothing(op_build_fn build, const void *arg) {
  char *one, *more;
  size_t size = outputs_with_threads(1, build, arg, &one);
  for (int threads = 2; threads <= 5; threads += 3) {
    assert_int_equal(outputs_with_threads(threads, build, arg, &more), size);
    assert_memory_equal(one, more, size);
    free(more);
  }
  free(one);
}

#endif
