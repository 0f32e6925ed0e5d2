// Running a plan: bind the store, walk the steps, apply the state updates. Allocates nothing.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/clock.h"
#include "graph/plan.h"
#include "graph/store_memory.h"
#include "ops/op.h"

static bool keeps_doubles(const elbo_plan *p) { return p->backend->element_size(ELBO_F32) == sizeof(double); }

static elbo_status bind_store(elbo_plan *p, elbo_store *store) {
  if (p->n_params == 0) return ELBO_OK;
  if (!store) return fail(p->ctx, ELBO_ERROR_ARGUMENT, "the plan of graph %s has parameters and needs a store", p->graph->name);
  if (p->bound_store != store->identity) {
    for (int i = 0; i < p->n_params; i++) {
      const node *leaf = p->params[i].leaf;
      int e = store_index(store, leaf->name);
      char a[SHAPE_TEXT], b[SHAPE_TEXT];
      if (e < 0)
        return fail(p->ctx, ELBO_ERROR_ARGUMENT, "the store has no parameter %s, which graph %s needs", leaf->name, p->graph->name);
      if (!shape_equal(&store->entries[e].shape, &leaf->out[0]->shape))
        return fail(p->ctx, ELBO_ERROR_ARGUMENT, "parameter %s has shape %s in the store, graph %s expects %s", leaf->name,
                    shape_text(&store->entries[e].shape, a), p->graph->name, shape_text(&leaf->out[0]->shape, b));
      p->params[i].store_entry = e;
      p->params[i].seen = 0;
      if (!keeps_doubles(p)) p->memory_of[p->params[i].buffer] = store_data(store, e);
    }
    p->bound_store = store->identity;
    p->pointers_stale = true;
  }
  if (keeps_doubles(p))
    for (int i = 0; i < p->n_params; i++) {
      if (p->params[i].seen == store->version) continue;
      const float *from = store_data(store, p->params[i].store_entry);
      double *to = p->memory_of[p->params[i].buffer];
      int64_t count = store->entries[p->params[i].store_entry].count;
      for (int64_t k = 0; k < count; k++) to[k] = (double)from[k];
      p->params[i].seen = store->version;
    }
  return ELBO_OK;
}

static elbo_status resolve_pointers(elbo_plan *p) {
  for (int i = 0; i < p->n_outputs; i++)
    if (p->outputs[i].external && !p->outputs[i].bound)
      return fail(p->ctx, ELBO_ERROR_STATE, "output %d of graph %s is external and was never bound", i, p->graph->name);
  for (int s = 0; s < p->n_steps; s++) {
    plan_step *st = &p->steps[s];
    for (int i = 0; i < st->node->n_in; i++) st->in[i] = st->node->in[i] ? p->memory_of[plan_buffer(p, st->node->in[i])] : NULL;
    for (int i = 0; i < st->node->n_out; i++) st->out[i] = p->memory_of[plan_buffer(p, st->node->out[i])];
  }
  p->pointers_stale = false;
  return ELBO_OK;
}

// Parameters keep their store's version, constants theirs; everything else is new in every run.
static void set_versions(elbo_plan *p, const elbo_store *store) {
  uint64_t fresh = p->runs | (uint64_t)1 << 63;
  for (int s = 0; s < p->n_steps; s++) {
    const plan_step *st = &p->steps[s];
    for (int i = 0; i < st->node->n_in; i++) {
      const elbo_tensor *t = st->node->in[i];
      while (t && t->producer->op->flags & OP_VIEW) t = t->producer->in[0];
      st->version[i] = !t ? 0 : t->producer->op == &op_parameter ? store->version : t->producer->op == &op_constant ? 1 : fresh;
    }
  }
}

static void poison(const elbo_plan *p, int64_t b) {
  if (b >= 0 && p->buffers[b].in_arena) memset(p->memory_of[b], 0xff, (size_t)p->buffers[b].bytes);
}

static void poison_before(const elbo_plan *p, int s) {
  const plan_step *st = &p->steps[s];
  for (int i = 0; i < st->node->n_out; i++)
    if (plan_buffer(p, st->node->out[i]) != p->inplace[s]) poison(p, plan_buffer(p, st->node->out[i]));
  poison(p, st->scratch);
}

static void poison_after(const elbo_plan *p, int s) {
  for (int64_t b = 0; b < p->n_buffers; b++)
    if (p->buffers[b].last == s) poison(p, b);
}

static elbo_status run_step(elbo_plan *p, int s) {
  plan_step *st = &p->steps[s];
  kernel_args a = {.in = st->in,
                   .out = st->out,
                   .scratch = st->scratch >= 0 ? p->memory_of[st->scratch] : NULL,
                   .persist = st->persist >= 0 ? p->memory_of[st->persist] : NULL,
                   .version = st->version,
                   .pool = &p->ctx->pool,
                   .ctx = p->ctx};
  double begin = p->profile ? seconds_now() : 0;
  elbo_status status = st->kernel.run(&st->kernel, &a);
  if (p->profile) st->seconds += seconds_now() - begin, st->began = begin, st->runs++;
  if (status != ELBO_OK)
    return fail_within(p->ctx, status, "%s%s%s in graph %s", st->node->op->name, st->node->name[0] ? " " : "", st->node->name,
                       p->graph->name);
  return ELBO_OK;
}

// A kernel that has packed its weights reads them from the store no more, until they change.
static void forget_packed(const plan_step *st, const elbo_store *store) {
  if (st->persist < 0) return;
  for (int i = 0; i < st->node->n_in; i++) {
    const node *leaf = st->node->in[i] ? st->node->in[i]->producer : NULL;
    if (leaf && leaf->op == &op_parameter) store_forget_pages(store, store_index(store, leaf->name));
  }
}

static void apply_updates(elbo_plan *p, elbo_store *store) {
  elbo_graph *g = p->graph;
  for (int64_t i = 0; i < g->n_updates; i++) {
    int e = store_index(store, g->updates[i].state->producer->name);
    float *to = store_data(store, e);
    const void *from = p->memory_of[plan_buffer(p, g->updates[i].value)];
    int64_t count = store->entries[e].count;
    if (keeps_doubles(p))
      for (int64_t k = 0; k < count; k++) to[k] = (float)((const double *)from)[k];
    else
      p->backend->copy_out(to, from, sizeof(float) * (size_t)count);
  }
  if (g->n_updates) elbo_store_touch(store);
}

static elbo_status begin_run(elbo_plan *p, elbo_store *store) {
  TRY(bind_store(p, store));
  if (p->pointers_stale) TRY(resolve_pointers(p));
  p->runs++;
  set_versions(p, store);
  return ELBO_OK;
}

elbo_status elbo_plan_run(elbo_plan *p, elbo_store *store) {
  TRY(begin_run(p, store));
  for (int s = 0; s < p->n_steps; s++) {
    if (p->poison) poison_before(p, s);
    TRY(run_step(p, s));
    if (p->runs == 1) forget_packed(&p->steps[s], store);
    if (p->poison) poison_after(p, s);
  }
  p->backend->synchronize();
  for (int i = 0; i < p->n_outputs; i++)
    if (p->outputs[i].bound && !p->outputs[i].external)
      p->backend->copy_out(p->outputs[i].bound, p->memory_of[plan_buffer(p, p->outputs[i].tensor)],
                           plan_tensor_bytes(p, p->outputs[i].tensor));
  apply_updates(p, store);
  return ELBO_OK;
}

// --- looking for the first NaN ---

// The index of the first element that is not finite, or -1.
static int64_t first_nonfinite(const elbo_plan *p, const elbo_tensor *t, double *value) {
  if (t->dtype != ELBO_F32) return -1;
  const void *data = p->memory_of[plan_buffer(p, t)];
  int64_t count = shape_count(&t->shape);
  for (int64_t i = 0; i < count; i++) {
    *value = keeps_doubles(p) ? ((const double *)data)[i] : (double)((const float *)data)[i];
    if (!isfinite(*value)) return i;
  }
  return -1;
}

// The node's own name, or that of the nearest named thing that it was made of: most often a parameter, which says where in the network.
// *hops: how far away that is. Ways through computed tensors go before those to inputs, which say little.
static const char *nearest_name(const node *n, int *hops) {
  for (*hops = 0; *hops < 32 && n; ++*hops) {
    if (n->name[0]) return n->name;
    const node *computed = NULL, *leaf = NULL;
    for (int i = 0; i < n->n_in; i++) {
      const node *made = n->in[i] ? n->in[i]->producer : NULL;
      if (!made) continue;
      if (made->op == &op_parameter) return made->name;
      const node **side = made->op->flags & OP_LEAF ? &leaf : &computed;
      if (!*side || (!(*side)->name[0] && made->name[0])) *side = made;
    }
    n = computed ? computed : leaf;
  }
  return "";
}

static bool describe_nonfinite(const elbo_plan *p, const node *n, char *text, size_t size) {
  for (int i = 0; i < n->n_out; i++) {
    double value;
    int64_t at = first_nonfinite(p, n->out[i], &value);
    char s[SHAPE_TEXT];
    if (at < 0) continue;
    int hops;
    const char *name = nearest_name(n, &hops), *link = n->name[0] ? " " : hops ? " behind " : " of ";
    snprintf(text, size, "%s%s%s: element %lld of %s is %g", n->op->name, name[0] ? link : "", name, (long long)at,
             shape_text(&n->out[i]->shape, s), value);
    return true;
  }
  return false;
}

elbo_status plan_find_nonfinite(elbo_plan *p, elbo_store *store, char *text, size_t size) {
  text[0] = 0;
  TRY(begin_run(p, store));
  for (int64_t i = 0; i < p->graph->n_nodes; i++)
    if (p->graph->nodes[i]->op->flags & OP_LEAF && describe_nonfinite(p, p->graph->nodes[i], text, size)) return ELBO_OK;
  for (int s = 0; s < p->n_steps; s++) {
    TRY(run_step(p, s));
    if (describe_nonfinite(p, p->steps[s].node, text, size)) return ELBO_OK;
  }
  return ELBO_OK;
}
