// Trading time for memory [Chen16, section 3]: at the fullest step of a plan, drop what can be had again.
#include "graph/recompute.h"

#include <limits.h>
#include <stdlib.h>

#include "graph/rewrite.h"
#include "ops/op.h"

// An operation whose results are kept across the fullest step for a later reader.
typedef struct candidate {
  const node *producer;
  int reader;    // id of the first node after the step that reads one of them (through views too)
  int64_t bytes; // won at that step: results dropped less inputs that must be kept instead
  double worth;  // what decides: the bytes, or where operations are dear the bytes for a FLOP
} candidate;

typedef struct search {
  const elbo_plan *p;
  int *step_of; // by node id, -1: leaf or view
  int at;       // the fullest step
  bool dear;    // any operation
} search;

double recompute_work(const node *n) {
  double count = 0;
  for (int i = 0; i < n->n_out; i++) count += (double)shape_count(&n->out[i]->shape);
  return n->op->flops ? count + (double)n->op->flops(n) : count;
}

static bool cheap(const node *n) { return (n->op->flags & (OP_CHEAP | OP_ELEMENTWISE)) != 0; }

// Bytes that reading n's inputs once more at step s would keep beyond the fullest step.
static int64_t inputs_kept(const search *f, const node *n, int s) {
  int64_t bytes = 0;
  for (int i = 0; i < n->n_in; i++) {
    if (!n->in[i]) continue;
    const elbo_tensor *b = graph_base(n->in[i]);
    const buffer *buf = &f->p->buffers[plan_buffer(f->p, b)];
    bool there = buf->last >= s && f->p->inplace[f->step_of[n->id]] != plan_buffer(f->p, b); // not written over
    if (!(b->producer->op->flags & OP_LEAF) && !there) bytes += buf->bytes;
  }
  return bytes;
}

// The first reader of t after the fullest step; -1 when there is none, or when that step reads it too.
static int late_reader(const search *f, const elbo_tensor *t) {
  const elbo_graph *g = f->p->graph;
  for (int64_t id = t->producer->id + 1; id < g->n_nodes; id++) {
    const node *k = g->nodes[id];
    if (f->step_of[id] < f->at) continue;
    for (int i = 0; i < k->n_in; i++)
      if (k->in[i] && graph_base(k->in[i]) == t) return f->step_of[id] == f->at ? -1 : (int)id;
  }
  return -1;
}

static bool consider(const search *f, const node *n, candidate *c) {
  if (f->step_of[n->id] < 0 || f->step_of[n->id] >= f->at || !(f->dear || cheap(n))) return false;
  *c = (candidate){.producer = n, .reader = INT_MAX};
  for (int i = 0; i < n->n_out; i++) {
    const buffer *buf = &f->p->buffers[plan_buffer(f->p, n->out[i])];
    if (!buf->in_arena || buf->last <= f->at || buf->last >= f->p->n_steps) continue;
    int reader = late_reader(f, n->out[i]);
    if (reader < 0) continue;
    c->bytes += buf->bytes;
    if (reader < c->reader) c->reader = reader;
  }
  if (c->bytes == 0) return false;
  c->bytes -= inputs_kept(f, n, f->step_of[c->reader]);
  c->worth = f->dear ? (double)c->bytes / recompute_work(n) : (double)c->bytes;
  return c->bytes > 0;
}

static int by_worth(const void *a, const void *b) {
  const candidate *x = a, *y = b;
  if (x->worth != y->worth) return x->worth < y->worth ? 1 : -1;
  return x->producer->id - y->producer->id;
}

// Copies the graph with each chosen producer doubled in front of its late reader.
static elbo_status double_producers(const elbo_plan *p, const candidate *chosen, int count, int n, elbo_tensor **tensors, elbo_graph **to) {
  rewrite r;
  const elbo_graph *g = p->graph;
  TRY(rewrite_begin(p->ctx, g, &r));
  for (int64_t id = 0; id < g->n_nodes; id++) {
    for (int i = 0; i < count; i++) {
      if (chosen[i].reader != id) continue;
      if (!rewrite_copy(&r, chosen[i].producer)) goto fail;
      // Views of the old value must be views of the new one from here on.
      for (int64_t v = chosen[i].producer->id + 1; v < id; v++)
        if (g->nodes[v]->op->flags & OP_VIEW && graph_base(g->nodes[v]->out[0])->producer == chosen[i].producer &&
            !rewrite_copy(&r, g->nodes[v]))
          goto fail;
    }
    if (!rewrite_copy(&r, g->nodes[id])) goto fail;
  }
  return rewrite_end(&r, n, tensors, true, to);
fail:;
  elbo_status status = elbo_graph_check(r.to);
  rewrite_cancel(&r);
  return status != ELBO_OK ? status : fail(p->ctx, ELBO_ERROR_INTERNAL, "doubling a node of graph %s failed", g->name);
}

elbo_status recompute_once(const elbo_plan *p, int64_t bytes, bool dear, int n, elbo_tensor **tensors, elbo_graph **to, int *count) {
  search f = {.p = p, .dear = dear};
  candidate *found = NULL;
  elbo_status status = ELBO_OK;
  int n_found = 0;
  *to = NULL;
  *count = 0;
  TRY_GOTO(array_new(p->ctx, (size_t)p->graph->n_nodes + 1, sizeof *f.step_of, "recomputation", (void **)&f.step_of));
  TRY_GOTO(array_new(p->ctx, (size_t)p->graph->n_nodes + 1, sizeof *found, "recomputation", (void **)&found));
  for (int64_t id = 0, step = 0; id < p->graph->n_nodes; id++)
    f.step_of[id] = p->graph->nodes[id]->op->flags & (OP_LEAF | OP_VIEW) ? -1 : (int)step++;
  memory_lower_bound(p->n_buffers, p->buffers, p->n_steps, &f.at);
  for (int64_t i = 0; i < p->graph->n_nodes; i++)
    if (consider(&f, p->graph->nodes[i], &found[n_found])) n_found++;
  if (n_found == 0) goto fail;
  qsort(found, (size_t)n_found, sizeof *found, by_worth);
  int take = 0;
  for (int64_t won = 0; take < n_found && won < bytes; take++) won += found[take].bytes;
  TRY_GOTO(double_producers(p, found, take, n, tensors, to));
  *count = take;
fail:
  free(f.step_of);
  free(found);
  return status;
}
