// Trading time for memory, by stretches [Chen16, section 3], on graphs with connections that skip.
#include "graph/segments.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>

#include "graph/recompute.h"
#include "graph/rewrite.h"
#include "ops/op.h"

enum { SMALL = 64 }; // tensors of less than such a part of the largest stay: nothing is won by them

typedef struct finding {
  const elbo_graph *g;
  int turn; // id of the node that is the fullest step: what is made before it and read after it is what costs
  int count;
  int *segment; // by node id: of nodes before the turn, -1: of none (leaves, and what comes after)
  int *late;    // by tensor id: first reader after the turn (through views), INT_MAX: none
  bool *kept;   // by tensor id: stays in memory
  bool *again;  // by node id: runs twice
  int *point;   // by segment: id of the node in front of which it runs again, INT_MAX: never
} finding;

static int64_t bytes_of(const elbo_tensor *t) { return shape_count(&t->shape) * (int64_t)sizeof(float); }

static bool leaf(const node *n) { return (n->op->flags & OP_LEAF) != 0; }

static void find_late_readers(finding *d) {
  for (int64_t i = 0; i < d->g->n_tensors; i++) d->late[i] = INT_MAX;
  for (int64_t id = d->g->n_nodes - 1; id >= d->turn; id--) {
    const node *k = d->g->nodes[id];
    if (k->op->flags & OP_VIEW) continue; // whoever reads the view counts
    for (int i = 0; i < k->n_in; i++)
      if (k->in[i]) d->late[graph_base(k->in[i])->id] = (int)id;
  }
}

// cross[id]: bytes that a boundary in front of node id makes go across: made before it, read by an operation from there to the turn.
static void find_crossings(const finding *d, int64_t *cross, int *last) {
  const elbo_graph *g = d->g;
  for (int64_t i = 0; i < g->n_tensors; i++) last[i] = -1;
  for (int id = 0; id < d->turn; id++)
    for (int i = 0; i < g->nodes[id]->n_in; i++)
      if (g->nodes[id]->in[i]) last[graph_base(g->nodes[id]->in[i])->id] = id;
  for (int id = 0; id < d->turn; id++) {
    const node *n = g->nodes[id];
    if (leaf(n) || n->op->flags & OP_VIEW) continue;
    for (int i = 0; i < n->n_out; i++)
      if (last[n->out[i]->id] > id) cross[id + 1] += bytes_of(n->out[i]), cross[last[n->out[i]->id] + 1] -= bytes_of(n->out[i]);
  }
  for (int id = 1; id <= d->turn; id++) cross[id] += cross[id - 1];
}

// Boundaries where as many bytes have been left for later in each, moved by up to a quarter of a segment to where least goes across.
static void divide(finding *d, const int64_t *left, const int64_t *cross) {
  const int64_t all = left[d->turn];
  int from = 0;
  for (int s = 0; s < d->count; s++) {
    int best = d->turn;
    int64_t least = INT64_MAX;
    for (int id = from + 1; s + 1 < d->count && id < d->turn; id++) {
      const double at = (double)left[id] * d->count / (double)all - (s + 1); // in segments
      if (at < -0.25 || (at > 0.25 && best < d->turn)) continue;
      if (cross[id] < least) least = cross[id], best = id;
      if (at > 0.25) break;
    }
    for (int id = from; id < best; id++) d->segment[id] = leaf(d->g->nodes[id]) ? -1 : s;
    from = best;
  }
}

// Marks what segment s must run again for its tensors that are wanted late. Whatever it reads of other segments is to be kept.
static void close_segment(finding *d, int s) {
  const elbo_graph *g = d->g;
  d->point[s] = INT_MAX;
  for (int id = d->turn - 1; id >= 0; id--) {
    const node *n = g->nodes[id];
    if (d->segment[id] != s) continue;
    for (int i = 0; i < n->n_out; i++) {
      const int reader = d->late[n->out[i]->id];
      if (reader == INT_MAX || d->kept[n->out[i]->id]) continue;
      d->again[id] = true;
      if (reader < d->point[s]) d->point[s] = reader;
    }
    if (!d->again[id]) continue;
    for (int i = 0; i < n->n_in; i++) {
      if (!n->in[i]) continue;
      const elbo_tensor *t = graph_base(n->in[i]);
      if (leaf(t->producer) || d->kept[t->id]) continue;
      if (d->segment[t->producer->id] == s)
        d->again[t->producer->id] = true;
      else
        d->kept[t->id] = true;
    }
  }
}

static bool in_segment(const finding *d, const node *n, int s) {
  if (n->op->flags & OP_VIEW) n = graph_base(n->out[0])->producer; // views of what is made again, for whoever reads through them
  return d->again[n->id] && d->segment[n->id] == s;
}

// What goes from one segment into another and is wanted late too (the connections of a UNet that skip) stays: whoever wants it may do so
// long before its segment's turn comes.
static void keep_skips(finding *d, const int *last) {
  for (int64_t i = 0; i < d->g->n_tensors; i++) {
    const int made = d->g->tensors[i]->producer->id;
    if (made < d->turn && last[i] >= 0 && d->late[i] != INT_MAX && d->segment[made] >= 0 && d->segment[made] != d->segment[last[i]])
      d->kept[i] = true;
  }
}

// left[id]: bytes that the nodes before it leave for later.
static int64_t count_left(const finding *d, int64_t *left) {
  int64_t most = 0;
  for (int id = 0; id < d->turn; id++) {
    const node *n = d->g->nodes[id];
    left[id + 1] = left[id];
    if (leaf(n) || n->op->flags & OP_VIEW) continue;
    for (int i = 0; i < n->n_out; i++) {
      if (d->late[n->out[i]->id] == INT_MAX) continue;
      left[id + 1] += bytes_of(n->out[i]);
      if (bytes_of(n->out[i]) > most) most = bytes_of(n->out[i]);
    }
  }
  return most;
}

static elbo_status find_segments(const elbo_plan *p, finding *d, elbo_tensor *const *outputs) {
  const elbo_graph *g = d->g;
  int64_t *left = NULL, *cross = NULL;
  int *last = NULL;
  elbo_status status = ELBO_OK;
  TRY_GOTO(array_new(p->ctx, (size_t)d->turn + 2, sizeof *left, "recomputation", (void **)&left));
  TRY_GOTO(array_new(p->ctx, (size_t)d->turn + 2, sizeof *cross, "recomputation", (void **)&cross));
  TRY_GOTO(array_new(p->ctx, (size_t)g->n_tensors + 1, sizeof *last, "recomputation", (void **)&last));
  find_late_readers(d);
  find_crossings(d, cross, last);
  const int64_t small = count_left(d, left) / SMALL;
  for (int64_t i = 0; i < g->n_tensors; i++) d->kept[i] = bytes_of(g->tensors[i]) <= small;
  for (int i = 0; i < p->n_outputs; i++) d->kept[graph_base(outputs[i])->id] = true;
  for (int64_t i = 0; i < g->n_updates; i++) d->kept[graph_base(g->updates[i].value)->id] = true;
  if (left[d->turn] > 0) divide(d, left, cross);
  keep_skips(d, last);
  // Twice: what a later segment reads of an earlier one is known only when that has been closed, and is then not made again.
  for (int round = 0; round < 2; round++) {
    for (int id = 0; id < d->turn; id++) d->again[id] = false;
    for (int s = d->count - 2; s >= 0; s--) close_segment(d, s);
  }
fail:
  free(left);
  free(cross);
  free(last);
  return status;
}

static elbo_status run_again(const elbo_plan *p, const finding *d, elbo_tensor **tensors, elbo_graph **to) {
  rewrite r;
  TRY(rewrite_begin(p->ctx, d->g, &r));
  for (int64_t id = 0; id < d->g->n_nodes; id++) {
    for (int s = 0; s + 1 < d->count; s++)
      for (int k = 0; d->point[s] == id && k < id; k++)
        if (in_segment(d, d->g->nodes[k], s) && !rewrite_copy(&r, d->g->nodes[k])) goto fail;
    if (!rewrite_copy(&r, d->g->nodes[id])) goto fail;
  }
  return rewrite_end(&r, p->n_outputs, tensors, true, to);
fail:;
  elbo_status status = elbo_graph_check(r.to);
  rewrite_cancel(&r);
  return status != ELBO_OK ? status : fail(p->ctx, ELBO_ERROR_INTERNAL, "doubling a segment of graph %s failed", d->g->name);
}

// Leaves those `count` segments that win most bytes for their work.
static void choose(finding *d, int count) {
  int left = 0;
  for (int s = 0; s + 1 < d->count; s++) left += d->point[s] != INT_MAX; // others win nothing
  for (; left > count; left--) {
    int worst = -1;
    double least = HUGE_VAL;
    for (int s = 0; s + 1 < d->count; s++) {
      if (d->point[s] == INT_MAX) continue;
      double bytes = 0, work = 0;
      for (int id = 0; id < d->turn; id++) {
        const node *n = d->g->nodes[id];
        if (d->segment[id] != s || !d->again[id]) continue;
        work += recompute_work(n);
        for (int i = 0; i < n->n_out; i++) bytes += d->late[n->out[i]->id] < INT_MAX ? (double)bytes_of(n->out[i]) : 0;
      }
      if (bytes / work < least) least = bytes / work, worst = s;
    }
    if (worst < 0) return;
    d->point[worst] = INT_MAX;
    for (int id = 0; id < d->turn; id++)
      if (d->segment[id] == worst) d->again[id] = false;
  }
}

elbo_status recompute_segments(const elbo_plan *p, division *asked, elbo_tensor **tensors, elbo_graph **to) {
  finding d = {.g = p->graph, .count = asked->segments};
  const size_t nodes = (size_t)p->graph->n_nodes + 1, n_tensors = (size_t)p->graph->n_tensors + 1;
  elbo_status status = ELBO_OK;
  int at, step = 0;
  asked->doubled = 0, asked->work = 0;
  memory_lower_bound(p->n_buffers, p->buffers, p->n_steps, &at);
  while (d.turn < p->graph->n_nodes && (p->graph->nodes[d.turn]->op->flags & (OP_LEAF | OP_VIEW) || step++ < at)) d.turn++;
  TRY_GOTO(array_new(p->ctx, nodes, sizeof *d.segment, "recomputation", (void **)&d.segment));
  TRY_GOTO(array_new(p->ctx, nodes, sizeof *d.again, "recomputation", (void **)&d.again));
  TRY_GOTO(array_new(p->ctx, n_tensors, sizeof *d.late, "recomputation", (void **)&d.late));
  TRY_GOTO(array_new(p->ctx, n_tensors, sizeof *d.kept, "recomputation", (void **)&d.kept));
  TRY_GOTO(array_new(p->ctx, (size_t)d.count + 1, sizeof *d.point, "recomputation", (void **)&d.point));
  for (size_t i = 0; i < nodes; i++) d.segment[i] = -1;
  TRY_GOTO(find_segments(p, &d, tensors));
  choose(&d, asked->again);
  for (int id = 0; id < d.turn; id++)
    if (d.again[id]) asked->doubled++, asked->work += recompute_work(d.g->nodes[id]);
  if (to) TRY_GOTO(run_again(p, &d, tensors, to));
fail:
  free(d.segment);
  free(d.again);
  free(d.late);
  free(d.kept);
  free(d.point);
  return status;
}
