// Networks inside a graph whose weights come from elsewhere and stay.
#ifndef OPS_FREEZE_H
#define OPS_FREEZE_H

#include <elbo/graph.h>

// Trained parameters made so far whose names begin with `prefix` are frozen ones from now on. They cannot be asked for again as trained.
void graph_freeze(elbo_graph *g, const char *prefix);

#endif
