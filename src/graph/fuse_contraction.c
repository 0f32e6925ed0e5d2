// conv2d, conv_transpose2d or linear, + residual, + activation: one node whose kernel does the rest while its tile is in registers.
#include <stdlib.h>

#include "graph/fuse.h"
#include "graph/rewrite.h"
#include "ops/contraction.h"
#include "ops/elementwise.h"

elbo_status count_uses(elbo_ctx *ctx, const elbo_graph *g, int n, elbo_tensor *const *tensors, bool updates, int **out) {
  int *uses = calloc((size_t)g->n_tensors + 1, sizeof *uses);
  if (!uses) return fail_memory(ctx, sizeof *uses * (size_t)g->n_tensors, "a graph pass");
  for (int64_t i = 0; i < g->n_nodes; i++)
    for (int k = 0; k < g->nodes[i]->n_in; k++)
      if (g->nodes[i]->in[k]) uses[g->nodes[i]->in[k]->id]++;
  for (int i = 0; i < n; i++) uses[tensors[i]->id]++;
  for (int64_t i = 0; updates && i < g->n_updates; i++) uses[g->updates[i].value->id]++;
  *out = uses;
  return ELBO_OK;
}

static bool activation_of(const node *n, contraction_epilogue *e) {
  elementwise_attr a;
  if (n->op != &op_unary) return false;
  a = *(const elementwise_attr *)n->attr;
  e->slope = 0;
  switch ((elementwise_code)a.code) {
  case EW_RELU: e->activation = CONTRACTION_RELU; return true;
  case EW_LEAKY_RELU:
    e->activation = CONTRACTION_LEAKY_RELU;
    e->slope = a.a;
    return true;
  case EW_SILU: e->activation = CONTRACTION_SILU; return true;
  case EW_GELU: e->activation = CONTRACTION_GELU; return true;
  case EW_TANH: e->activation = CONTRACTION_TANH; return true;
  case EW_SIGMOID: e->activation = CONTRACTION_SIGMOID; return true;
  case EW_SOFTPLUS: e->activation = CONTRACTION_SOFTPLUS; return true;
  default: return false;
  }
}

static bool is_contraction(const node *n) { return n->op == &op_linear || n->op == &op_conv2d || n->op == &op_conv_transpose2d; }

// The one node that reads t, when exactly one does.
typedef struct readers {
  node **only; // by tensor id
  int *uses;
} readers;

static elbo_status find_readers(elbo_ctx *ctx, const elbo_graph *g, int n, elbo_tensor *const *tensors, bool updates, readers *r) {
  TRY(count_uses(ctx, g, n, tensors, updates, &r->uses));
  r->only = calloc((size_t)g->n_tensors + 1, sizeof *r->only);
  if (!r->only) {
    free(r->uses);
    return fail_memory(ctx, sizeof *r->only * (size_t)g->n_tensors, "a graph pass");
  }
  for (int64_t i = 0; i < g->n_nodes; i++)
    for (int k = 0; k < g->nodes[i]->n_in; k++)
      if (g->nodes[i]->in[k]) r->only[g->nodes[i]->in[k]->id] = g->nodes[i];
  return ELBO_OK;
}

// What a contraction is fused with: a residual that is added to it and nothing else, an activation of the sum.
typedef struct match {
  const node *sum, *activation;
  elbo_tensor *residual;
  contraction_epilogue epilogue;
} match;

static bool find_match(const elbo_graph *g, const readers *r, const node *n, match *m) {
  *m = (match){.epilogue = CONTRACTION_EPILOGUE_NONE};
  const elbo_tensor *y = n->out[0];
  const node *next = r->uses[y->id] == 1 ? r->only[y->id] : NULL;
  if (next && next->op == &op_binary && ((const elementwise_attr *)next->attr)->code == EW_ADD && contraction_can_fuse(n, true)) {
    elbo_tensor *other = next->in[0] == y ? next->in[1] : next->in[0];
    if (other != y && shape_equal(&other->shape, &y->shape) && next->phase == n->phase) {
      m->sum = next;
      m->residual = other;
      y = next->out[0];
    }
  }
  // An activation that nobody shares the value with; if others read the value too, the kernel writes both. The residual, if there is one,
  // must be there first: the fused node stands where the sum stood, before every reader of it.
  for (int64_t i = y->producer->id + 1; i < g->n_nodes && !m->activation; i++) {
    const node *a = g->nodes[i];
    if (a->n_in == 1 && a->in[0] == y && a->phase == n->phase && activation_of(a, &m->epilogue)) m->activation = a;
    if (r->uses[y->id] == 1 && r->only[y->id] == a) break;
  }
  m->epilogue.keep_pre = m->activation && r->uses[y->id] > 1;
  return (m->sum || m->activation) && contraction_can_fuse(n, m->residual != NULL);
}

elbo_status fuse_contractions(elbo_ctx *ctx, const elbo_graph *from, int n, elbo_tensor **tensors, bool updates, elbo_graph **to) {
  rewrite r;
  readers reading = {0};
  match *at = NULL;          // by node id of the place of emission
  const node **plain = NULL; // the same: the contraction that is emitted there
  bool *done = NULL;         // by node id: emitted elsewhere
  elbo_status status = rewrite_begin(ctx, from, &r);
  if (status != ELBO_OK) return status;
  TRY_GOTO(find_readers(ctx, from, n, tensors, updates, &reading));
  TRY_GOTO(array_new(ctx, (size_t)from->n_nodes + 1, sizeof *at, "a graph pass", (void **)&at));
  TRY_GOTO(array_new(ctx, (size_t)from->n_nodes + 1, sizeof *plain, "a graph pass", (void **)&plain));
  TRY_GOTO(array_new(ctx, (size_t)from->n_nodes + 1, sizeof *done, "a graph pass", (void **)&done));
  for (int64_t i = 0; i < from->n_nodes; i++) {
    const node *k = from->nodes[i];
    match m;
    if (!is_contraction(k) || !find_match(from, &reading, k, &m)) continue;
    int place = m.sum ? m.sum->id : k->id;
    if (plain[place]) continue; // a sum of two contractions: the first took it, the other is its residual
    done[k->id] = true;
    if (m.activation) done[m.activation->id] = true;
    at[place] = m;
    plain[place] = k;
  }
  for (int64_t i = 0; i < from->n_nodes; i++) {
    const node *k = from->nodes[i];
    if (plain[i]) {
      // graph_add_fused reads the node's inputs: give it one whose inputs are those of the new graph.
      node moved = *plain[i];
      elbo_tensor *in[8];
      for (int q = 0; q < moved.n_in; q++) in[q] = moved.in[q] ? r.map[moved.in[q]->id] : NULL;
      moved.in = in;
      elbo_tensor *residual = at[i].residual ? r.map[at[i].residual->id] : NULL;
      node *fused = graph_add_fused(r.to, &moved, residual, &at[i].epilogue, plain[i]->name);
      if (!fused) {
        status = elbo_graph_check(r.to);
        goto fail;
      }
      fused->phase = plain[i]->phase;
      const elbo_tensor *pre = at[i].sum ? at[i].sum->out[0] : plain[i]->out[0];
      if (at[i].activation) r.map[at[i].activation->out[0]->id] = fused->out[0];
      if (!at[i].activation || at[i].epilogue.keep_pre) r.map[pre->id] = fused->out[at[i].activation ? 1 : 0];
    } else if (!done[i] && !rewrite_copy(&r, k)) {
      status = elbo_graph_check(r.to);
      goto fail;
    }
  }
  status = rewrite_end(&r, n, tensors, updates, to);
fail:
  rewrite_cancel(&r);
  free(reading.uses);
  free(reading.only);
  free(at);
  free(plain);
  free(done);
  return status;
}
