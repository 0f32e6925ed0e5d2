// Reverse-mode differentiation: the gradient is more graph, built from plain operations, so it can be differentiated again.
#include <stdlib.h>
#include <string.h>

#include <elbo/ops.h>

#include "ops/op.h"

typedef struct pass {
  elbo_graph *g;
  elbo_tensor **gradient; // by tensor id, NULL: zero so far
  bool *depends;          // by tensor id: depends on some wrt
  int64_t n;              // tensors known when the pass began
} pass;

static elbo_tensor *sum_two(elbo_tensor *a, elbo_tensor *b) { return !a ? b : !b ? a : elbo_add(a, b); }

static bool differentiable_dtype(elbo_dtype d) { return d == ELBO_F32 || d == ELBO_F64 || d == ELBO_BF16 || d == ELBO_F16; }

static bool backward(elbo_graph *g, int n_y, elbo_tensor *const *y, elbo_tensor *const *dy, int n_wrt, elbo_tensor *const *wrt,
                     int first_node, elbo_tensor **dwrt);

// The gradient of one node through its decomposition into plain operations.
static bool backward_decomposed(elbo_graph *g, const node *n, elbo_tensor *const *dy, const bool *wanted, elbo_tensor **dx) {
  elbo_tensor *out[8] = {NULL}, *ys[8], *dys[8], *wrt[32], *grads[32] = {NULL};
  int first = (int)g->n_nodes, n_y = 0, n_wrt = 0, which[32];
  if (n->n_out > 8 || n->n_in > 32) return graph_fail(g, ELBO_ERROR_INTERNAL, "%s has too many inputs to be decomposed", n->op->name);
  if (!n->op->decompose(g, n, out)) return false;
  for (int i = 0; i < n->n_out; i++)
    if (dy[i] && out[i]) ys[n_y] = out[i], dys[n_y++] = dy[i];
  for (int i = 0; i < n->n_in; i++)
    if (wanted[i]) which[n_wrt] = i, wrt[n_wrt++] = n->in[i];
  if (!backward(g, n_y, ys, dys, n_wrt, wrt, first, grads)) return false;
  // The same tensor may stand at two inputs: its whole gradient is then in each entry and must count once.
  for (int i = 0; i < n_wrt; i++) {
    bool seen = false;
    for (int j = 0; j < i; j++) seen |= wrt[j] == wrt[i];
    if (!seen) dx[which[i]] = grads[i];
  }
  return true;
}

// Gradients of sum_i <y_i, dy_i> to each wrt, through nodes with id >= first_node only.
static bool backward(elbo_graph *g, int n_y, elbo_tensor *const *y, elbo_tensor *const *dy, int n_wrt, elbo_tensor *const *wrt,
                     int first_node, elbo_tensor **dwrt) {
  pass p = {.g = g, .n = g->n_tensors};
  bool ok = false;
  p.gradient = calloc((size_t)p.n + 1, sizeof *p.gradient);
  p.depends = calloc((size_t)p.n + 1, sizeof *p.depends);
  if (!p.gradient || !p.depends) {
    graph_fail(g, ELBO_ERROR_MEMORY, "out of memory while differentiating");
    goto done;
  }
  int last = -1;
  for (int i = 0; i < n_wrt; i++) p.depends[wrt[i]->id] = true;
  for (int i = 0; i < n_y; i++)
    if (y[i]->producer->id > last) last = y[i]->producer->id;
  for (int id = first_node; id <= last; id++) {
    const node *n = g->nodes[id];
    bool any = false;
    for (int i = 0; i < n->n_in; i++) any |= n->in[i] && p.depends[n->in[i]->id] && differentiable_dtype(n->in[i]->dtype);
    for (int i = 0; i < n->n_out; i++) p.depends[n->out[i]->id] |= any && differentiable_dtype(n->out[i]->dtype);
  }
  for (int i = 0; i < n_y; i++)
    if (p.depends[y[i]->id]) {
      p.gradient[y[i]->id] = sum_two(p.gradient[y[i]->id], dy[i]);
      if (!p.gradient[y[i]->id]) goto done;
    }
  for (int id = last; id >= first_node; id--) {
    const node *n = g->nodes[id];
    bool any_dy = false, any_wanted = false, wanted[64] = {false};
    elbo_tensor *out_gradient[16] = {NULL}, *dx[64] = {NULL};
    if (n->n_out > 16 || n->n_in > 64) {
      graph_fail(g, ELBO_ERROR_INTERNAL, "%s has too many inputs or outputs to be differentiated", n->op->name);
      goto done;
    }
    for (int i = 0; i < n->n_out; i++) {
      out_gradient[i] = p.gradient[n->out[i]->id];
      any_dy |= out_gradient[i] != NULL;
    }
    for (int i = 0; i < n->n_in; i++) {
      wanted[i] = n->in[i] && p.depends[n->in[i]->id] && differentiable_dtype(n->in[i]->dtype);
      any_wanted |= wanted[i];
    }
    if (!any_dy || !any_wanted || n->op->flags & OP_LEAF) continue;
    if (n->op->gradient) {
      if (!n->op->gradient(g, n, out_gradient, wanted, dx)) {
        if (g->error == ELBO_OK) graph_fail(g, ELBO_ERROR_INTERNAL, "the gradient of %s failed without a reason", n->op->name);
        goto done;
      }
    } else if (n->op->decompose) {
      if (!backward_decomposed(g, n, out_gradient, wanted, dx)) goto done;
    } else {
      graph_fail(g, ELBO_ERROR_UNSUPPORTED, "%s%s%s cannot be differentiated: the operation has no gradient rule", n->op->name,
                 n->name[0] ? " " : "", n->name);
      goto done;
    }
    for (int i = 0; i < n->n_in; i++) {
      if (!wanted[i] || !dx[i]) continue;
      if (!shape_equal(&dx[i]->shape, &n->in[i]->shape)) {
        char a[SHAPE_TEXT], b[SHAPE_TEXT];
        graph_fail(g, ELBO_ERROR_INTERNAL, "the gradient of %s to input %d has shape %s, not %s", n->op->name, i,
                   shape_text(&dx[i]->shape, a), shape_text(&n->in[i]->shape, b));
        goto done;
      }
      elbo_tensor **slot = &p.gradient[n->in[i]->id];
      *slot = sum_two(*slot, dx[i]);
      if (!*slot) goto done;
    }
  }
  for (int i = 0; i < n_wrt; i++) dwrt[i] = p.gradient[wrt[i]->id];
  ok = g->error == ELBO_OK;
done:
  free(p.gradient);
  free(p.depends);
  return ok;
}

elbo_status elbo_gradient(elbo_tensor *y, int n, elbo_tensor *const *wrt, elbo_tensor **gradient) {
  for (int i = 0; i < n; i++) gradient[i] = NULL;
  if (!y) {
    for (int i = 0; i < n; i++)
      if (wrt[i]) return elbo_graph_check(wrt[i]->graph);
    return ELBO_ERROR_ARGUMENT;
  }
  elbo_graph *g = y->graph;
  TRY(elbo_graph_check(g));
  for (int i = 0; i < n; i++)
    if (!wrt[i] || wrt[i]->graph != g)
      return fail(g->ctx, ELBO_ERROR_ARGUMENT, "elbo_gradient: wrt[%d] is not a tensor of graph %s", i, g->name);
  g->phase++; // nodes of this call
  // The sum of y: every element weighs one.
  elbo_tensor *one = elbo_constant(g, 1.0);
  if (y->shape.rank > 0) one = elbo_broadcast_to(one, y->shape.rank, y->shape.dim);
  if (one && backward(g, 1, &y, &one, n, wrt, 0, gradient)) g->phase++; // and of what follows it
  return elbo_graph_check(g);
}
