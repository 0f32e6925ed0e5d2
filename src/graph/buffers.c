// Which tensors share memory, and when each block is live.
#include <stdlib.h>
#include <string.h>

#include "graph/plan.h"
#include "ops/op.h"

static elbo_status add_buffer(elbo_plan *p, int64_t bytes, int first, int last, bool in_arena, int64_t *out) {
  TRY(array_grow(p->ctx, &p->buffers, &p->cap_buffers, p->n_buffers + 1, sizeof *p->buffers));
  p->buffers[p->n_buffers] = (buffer){.bytes = (bytes + 63) / 64 * 64, .first = first, .last = last, .offset = -1, .in_arena = in_arena};
  *out = p->n_buffers++;
  return ELBO_OK;
}

// An input whose memory output 0 of the step may take, or -1.
static int inplace_input(const elbo_plan *p, const node *n, int step, const int *last_use, const int64_t *tenant, const int *base) {
  const elbo_tensor *y = n->out[0];
  if (!(n->op->flags & (OP_INPLACE | OP_ELEMENTWISE))) return -1;
  int limit = n->op->flags & OP_ELEMENTWISE ? n->n_in : 1;
  for (int i = 0; i < limit; i++) {
    const elbo_tensor *x = n->in[i];
    if (!x || x->dtype != y->dtype || shape_count(&x->shape) != shape_count(&y->shape)) continue;
    int b = base[x->id];
    int64_t buf = p->buffer_of[b];
    if (last_use[b] != step || !p->buffers[buf].in_arena || p->buffers[buf].first < 0 || tenant[buf] != b) continue;
    bool alone = true; // no other input may see the same memory under another shape
    for (int k = 0; k < n->n_in; k++) alone &= k == i || !n->in[k] || n->in[k] == x || base[n->in[k]->id] != b;
    if (alone) return i;
  }
  return -1;
}

static elbo_status place_node(elbo_plan *p, const node *n, int step, int *last_use, int64_t *tenant, const int *base,
                              const bool *external) {
  int64_t b;
  if (n->op->flags & OP_VIEW) {
    p->buffer_of[n->out[0]->id] = p->buffer_of[n->in[0]->id];
    return ELBO_OK;
  }
  for (int i = 0; i < n->n_out; i++) {
    const elbo_tensor *t = n->out[i];
    int64_t bytes = (int64_t)plan_tensor_bytes(p, t);
    if (n->op->flags & OP_LEAF) {
      bool own = n->op != &op_parameter || p->backend->element_size(ELBO_F32) != sizeof(float);
      TRY(add_buffer(p, bytes, -1, p->n_steps, own, &b));
    } else {
      int take = i == 0 && !external[t->id] ? inplace_input(p, n, step, last_use, tenant, base) : -1;
      int end = last_use[t->id] > step ? last_use[t->id] : step;
      if (take >= 0) {
        b = p->buffer_of[n->in[take]->id];
        p->inplace[step] = b;
        if (p->buffers[b].last < end) p->buffers[b].last = end;
      } else {
        TRY(add_buffer(p, bytes, step, end, !external[t->id], &b));
      }
      if (tenant) tenant[b] = t->id;
    }
    p->buffer_of[t->id] = b;
  }
  return ELBO_OK;
}

elbo_status plan_assign_buffers(elbo_plan *p) {
  elbo_graph *g = p->graph;
  elbo_status status = ELBO_OK;
  int *base = NULL, *last_use = NULL;
  int64_t *tenant = NULL;
  bool *external = NULL;
  size_t n = (size_t)g->n_tensors + 1;
  TRY_GOTO(array_new(p->ctx, n, sizeof *base, "the memory plan", (void **)&base));
  TRY_GOTO(array_new(p->ctx, n, sizeof *last_use, "the memory plan", (void **)&last_use));
  TRY_GOTO(array_new(p->ctx, n * 2 + (size_t)p->n_steps * 2, sizeof *tenant, "the memory plan", (void **)&tenant));
  TRY_GOTO(array_new(p->ctx, n, sizeof *external, "the memory plan", (void **)&external));
  for (int64_t i = 0; i < g->n_tensors; i++) base[i] = (int)i, last_use[i] = -2;
  for (int64_t id = 0, step = 0; id < g->n_nodes; id++) {
    const node *k = g->nodes[id];
    if (k->op->flags & OP_VIEW) {
      base[k->out[0]->id] = base[k->in[0]->id];
    } else if (!(k->op->flags & OP_LEAF)) {
      for (int i = 0; i < k->n_in; i++)
        if (k->in[i]) last_use[base[k->in[i]->id]] = (int)step;
      step++;
    }
  }
  for (int i = 0; i < p->n_outputs; i++) {
    const elbo_tensor *t = p->outputs[i].tensor;
    int b = base[t->id];
    last_use[b] = p->n_steps; // past every step: never written over
    if (p->outputs[i].external) {
      // Only a tensor that a kernel makes, and only once, can live in the caller's memory; others are copied.
      if (b == t->id && !(t->producer->op->flags & OP_LEAF) && !external[b])
        external[b] = true;
      else
        p->outputs[i].external = false;
    }
  }
  for (int64_t i = 0; i < g->n_updates; i++) last_use[base[g->updates[i].value->id]] = p->n_steps;
  for (int64_t id = 0, step = 0; id < g->n_nodes; id++) {
    const node *k = g->nodes[id];
    TRY_GOTO(place_node(p, k, (int)step, last_use, tenant, base, external));
    if (!(k->op->flags & (OP_VIEW | OP_LEAF))) step++;
  }
  for (int s = 0; s < p->n_steps; s++) {
    plan_step *st = &p->steps[s];
    st->scratch = st->persist = -1;
    if (st->kernel.scratch_bytes) TRY_GOTO(add_buffer(p, (int64_t)st->kernel.scratch_bytes, s, s, true, &st->scratch));
    if (st->kernel.persist_bytes) TRY_GOTO(add_buffer(p, (int64_t)st->kernel.persist_bytes, -1, p->n_steps, true, &st->persist));
  }
fail:
  free(base);
  free(last_use);
  free(tenant);
  free(external);
  return status;
}
