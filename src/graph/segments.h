// Trading time for memory, by stretches: what the first half of a step makes is computed again, a stretch at a time.
#ifndef GRAPH_SEGMENTS_H
#define GRAPH_SEGMENTS_H

#include "graph/plan.h"

typedef struct division {
  int segments; // what a plan does before its fullest step is divided into so many, each of which leaves as many bytes for later readers
  int again;    // so many of them run again right before the first of these, those with most bytes for their FLOPs; never the last
  int doubled;  // operations that run twice
  double work;  // theirs, as of recompute_work
} division;

// Copies the placed plan p's graph so divided: of what runs again, the tensors that go into other segments are kept [Chen16, section 3].
// Fills d->doubled and d->work. p stays as it is; `tensors`, its outputs, are mapped along. to NULL: only counts.
elbo_status recompute_segments(const elbo_plan *p, division *d, elbo_tensor **tensors, elbo_graph **to);

#endif
