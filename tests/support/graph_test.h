// What tests of graphs begin and end with: one context of two threads for all of a program's tests.
#ifndef SUPPORT_GRAPH_TEST_H
#define SUPPORT_GRAPH_TEST_H

#include "graph/plan.h"
#include "support/test.h"

extern elbo_ctx *ctx;

int graph_set_up(void **state);
int graph_tear_down(void **state);
elbo_graph *new_graph(void);

#endif
