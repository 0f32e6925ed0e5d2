// Copying graphs: the ground of every pass, and the first one (cleaning).
#include "graph/rewrite.h"

#include <stdlib.h>
#include <string.h>

#include "graph/algebra.h"
#include "ops/op.h"

elbo_status rewrite_begin(elbo_ctx *ctx, const elbo_graph *from, rewrite *r) {
  *r = (rewrite){.from = from};
  TRY(elbo_graph_create(ctx, from->name, &r->to));
  r->map = calloc((size_t)from->n_tensors + 1, sizeof *r->map);
  if (!r->map) {
    rewrite_cancel(r);
    return fail_memory(ctx, sizeof *r->map * (size_t)from->n_tensors, "copying a graph");
  }
  return ELBO_OK;
}

void rewrite_cancel(rewrite *r) {
  elbo_graph_destroy(&r->to);
  free(r->map);
  r->map = NULL;
}

node *rewrite_copy(rewrite *r, const node *n) {
  elbo_tensor *few[16], **in = few;
  if (n->n_in > 16) in = arena_alloc(r->to->arena, sizeof *in * (size_t)n->n_in);
  if (!in) return graph_fail(r->to, ELBO_ERROR_MEMORY, "out of memory while copying a graph");
  for (int i = 0; i < n->n_in; i++) in[i] = n->in[i] ? r->map[n->in[i]->id] : NULL;
  node *copy = graph_add_sized(r->to, n->op, n->attr, n->attr_bytes, n->n_in, in, n->name);
  if (copy) copy->phase = n->phase;
  if (copy)
    for (int i = 0; i < n->n_out; i++) r->map[n->out[i]->id] = copy->out[i];
  return copy;
}

elbo_status rewrite_end(rewrite *r, int n, elbo_tensor **tensors, bool updates, elbo_graph **to) {
  elbo_graph *g = r->to;
  for (int64_t i = 0; updates && i < r->from->n_updates; i++)
    elbo_state_update(r->map[r->from->updates[i].state->id], r->map[r->from->updates[i].value->id]);
  elbo_status status = elbo_graph_check(g);
  for (int i = 0; status == ELBO_OK && i < n; i++) {
    elbo_tensor *t = r->map[tensors[i]->id];
    if (!t)
      status =
          fail(g->ctx, ELBO_ERROR_INTERNAL, "a rewriting pass over graph %s lost a result of %s", g->name, tensors[i]->producer->op->name);
    else
      tensors[i] = t;
  }
  if (status != ELBO_OK) {
    rewrite_cancel(r);
    return status;
  }
  *to = g;
  r->to = NULL;
  rewrite_cancel(r);
  return ELBO_OK;
}

const elbo_tensor *graph_base(const elbo_tensor *t) {
  while (t->producer->op->flags & OP_VIEW) t = t->producer->in[0];
  return t;
}

elbo_status graph_needed(elbo_ctx *ctx, const elbo_graph *g, int n, elbo_tensor *const *tensors, bool updates, bool **out) {
  bool *needed = calloc((size_t)g->n_nodes + 1, sizeof *needed);
  if (!needed) return fail_memory(ctx, (size_t)g->n_nodes, "a graph pass");
  for (int i = 0; i < n; i++) needed[tensors[i]->producer->id] = true;
  for (int64_t i = 0; updates && i < g->n_updates; i++)
    needed[g->updates[i].state->producer->id] = needed[g->updates[i].value->producer->id] = true;
  for (int64_t id = g->n_nodes - 1; id >= 0; id--) {
    if (!needed[id]) continue;
    const node *k = g->nodes[id];
    int last = k->op == &op_scale_gradient ? 1 : k->n_in; // its factor matters to gradients alone
    for (int i = 0; i < last; i++)
      if (k->in[i]) needed[k->in[i]->producer->id] = true;
  }
  *out = needed;
  return ELBO_OK;
}

// --- joining equal nodes ---

typedef struct node_table {
  int *slot; // node id + 1
  uint64_t mask;
} node_table;

static uint64_t mix(uint64_t h, const void *data, size_t bytes) {
  const unsigned char *p = data;
  for (size_t i = 0; i < bytes; i++) h = (h ^ p[i]) * 1099511628211u;
  return h;
}

static uint64_t node_hash(const node *n) {
  uint64_t h = mix(1469598103934665603u, &n->op, sizeof n->op);
  h = mix(h, n->attr, n->attr_bytes);
  for (int i = 0; i < n->n_in; i++) {
    int id = n->in[i] ? n->in[i]->id : -1;
    h = mix(h, &id, sizeof id);
  }
  return h;
}

static bool node_same(const node *a, const node *b) {
  if (a->op != b->op || a->attr_bytes != b->attr_bytes || a->n_in != b->n_in || a->op->flags & OP_RANDOM) return false;
  for (int i = 0; i < a->n_in; i++)
    if (a->in[i] != b->in[i]) return false;
  if (a->op->flags & OP_LEAF && strcmp(a->name, b->name) != 0) return false;
  return memcmp(a->attr, b->attr, a->attr_bytes) == 0;
}

// The earlier node that computes the same as n, or NULL after remembering n.
static node *table_find(node_table *t, elbo_graph *g, node *n) {
  for (uint64_t at = node_hash(n);; at++) {
    int *slot = &t->slot[at & t->mask];
    if (*slot == 0) {
      *slot = n->id + 1;
      return NULL;
    }
    if (*slot != n->id + 1 && node_same(g->nodes[*slot - 1], n)) return g->nodes[*slot - 1];
  }
}

elbo_status graph_clean(elbo_ctx *ctx, const elbo_graph *from, int n, elbo_tensor **tensors, bool updates, elbo_graph **to) {
  *to = NULL;
  rewrite r;
  bool *needed = NULL;
  node_table table = {.mask = 1};
  elbo_status status = rewrite_begin(ctx, from, &r);
  if (status != ELBO_OK) return status;
  while (table.mask < (uint64_t)from->n_nodes * 4) table.mask *= 2;
  TRY_GOTO(array_new(ctx, table.mask, sizeof *table.slot, "a graph pass", (void **)&table.slot));
  table.mask--;
  TRY_GOTO(graph_needed(ctx, from, n, tensors, updates, &needed));
  for (int64_t id = 0; id < from->n_nodes; id++) {
    const node *k = from->nodes[id];
    if (!needed[id]) continue;
    if (k->op == &op_stop_gradient || k->op == &op_scale_gradient) {
      r.map[k->out[0]->id] = r.map[k->in[0]->id];
      continue;
    }
    elbo_tensor *simpler = algebra_simplify(&r, k);
    if (simpler) {
      r.map[k->out[0]->id] = simpler;
      continue;
    }
    int64_t before = r.to->n_nodes;
    node *copy = rewrite_copy(&r, k);
    if (!copy) {
      status = elbo_graph_check(r.to);
      if (status == ELBO_OK) status = fail(ctx, ELBO_ERROR_INTERNAL, "copying a node of graph %s failed", from->name);
      goto fail;
    }
    node *same = table_find(&table, r.to, copy);
    if (same) { // drop the copy: nothing refers to it yet
      r.to->n_nodes = before;
      r.to->n_tensors -= copy->n_out;
      for (int i = 0; i < k->n_out; i++) r.map[k->out[i]->id] = same->out[i];
    }
  }
  status = rewrite_end(&r, n, tensors, updates, to);
  free(needed);
  free(table.slot);
  return status;
fail:
  rewrite_cancel(&r);
  free(needed);
  free(table.slot);
  return status;
}
