// What stands behind a norm's gradient, in the kernel that writes it: the sum with the gradient that came past the norm (a residual
// connection), and the sums over an image's pixels that gradients of biases, and of what is added to every pixel, are made of.
#include <elbo/ops.h>
#include <stdlib.h>

#include "graph/fuse.h"
#include "graph/rewrite.h"
#include "ops/elementwise.h"
#include "ops/norm.h"
#include "ops/reduce.h"

extern const op_def op_group_norm_grad, op_fused_group_norm_grad, op_sum;

typedef struct gradient_match {
  const node *grad, *add; // add: NULL, or the sum of grad's dx and residual, of which nothing else is
  elbo_tensor *residual;
  bool sums;
} gradient_match;

// Of one tensor: with two parts (fuse_concat.c) the sums are the convolutions'.
static bool is_norm_gradient(const node *n) {
  return (n->op == &op_group_norm_grad || n->op == &op_fused_group_norm_grad) && !group_norm_second(n);
}

// Whether n sums t (B,...,C) over its pixels, or over those of all images.
static bool sums_pixels(const node *n, const elbo_tensor *t) {
  if (n->op != &op_sum || n->in[0] != t) return false;
  const reduce_attr *a = n->attr;
  int64_t pixels = ((int64_t)1 << (t->shape.rank - 1)) - 2;
  return t->shape.rank > 2 && (a->axes | 1) == (pixels | 1);
}

static void find_behind(const elbo_graph *g, const int *uses, const node *grad, gradient_match *m) {
  *m = (gradient_match){.grad = grad};
  const elbo_tensor *dx = grad->out[0];
  for (int64_t i = grad->id + 1; uses[dx->id] == 1 && !m->add && i < g->n_nodes; i++) {
    const node *n = g->nodes[i];
    if (n->op != &op_binary || ((const elementwise_attr *)n->attr)->code != EW_ADD || n->phase != grad->phase) continue;
    elbo_tensor *other = n->in[0] == dx ? n->in[1] : n->in[0];
    if ((n->in[0] != dx && n->in[1] != dx) || other->producer->id > grad->id || !shape_equal(&other->shape, &dx->shape)) continue;
    m->add = n;
    m->residual = other;
  }
  const elbo_tensor *written = m->add ? m->add->out[0] : dx;
  for (int64_t i = grad->id + 1; !m->sums && i < g->n_nodes; i++) m->sums = sums_pixels(g->nodes[i], written);
}

static node *emit_gradient(rewrite *r, const gradient_match *m) {
  const node *n = m->grad;
  elbo_tensor *in[6];
  for (int i = 0; i < 6; i++) in[i] = n->in[i] ? r->map[n->in[i]->id] : NULL;
  group_norm_attr attr = *(const group_norm_attr *)n->attr;
  attr.sums = m->sums;
  node *fused =
      graph_add_fused_group_norm_grad(r->to, in[0], in[1], in[2], in[3], in[4], in[5], m->residual ? r->map[m->residual->id] : NULL, &attr);
  if (!fused) return NULL;
  fused->phase = n->phase;
  for (int i = 0; i < n->n_out; i++) r->map[n->out[i]->id] = fused->out[i];
  if (m->add) r->map[m->add->out[0]->id] = fused->out[0];
  return fused;
}

// The sum n out of the sums (B,C) of its images.
static bool emit_sum(rewrite *r, const node *n, elbo_tensor *sums) {
  const reduce_attr *a = n->attr;
  const shape *s = &n->out[0]->shape;
  int64_t first = r->to->n_nodes;
  elbo_tensor *t = a->axes & 1 ? elbo_sum(sums, 1u, 0) : sums;
  if (t && !shape_equal(&t->shape, s)) t = elbo_reshape(t, s->rank, s->dim);
  if (!t) return false;
  for (int64_t i = first; i < r->to->n_nodes; i++) r->to->nodes[i]->phase = n->phase;
  r->map[n->out[0]->id] = t;
  return true;
}

elbo_status fuse_norm_gradients(elbo_ctx *ctx, const elbo_graph *from, int n, elbo_tensor **tensors, bool updates, elbo_graph **to) {
  rewrite r;
  int *uses = NULL, *written_by = NULL; // by tensor id: match + 1 whose sums are those of it
  int *at = NULL;                       // by node id: match + 1 emitted there; -1: part of a match
  gradient_match *matches = NULL;
  int64_t n_matches = 0, cap = 0;
  elbo_status status = rewrite_begin(ctx, from, &r);
  if (status != ELBO_OK) return status;
  TRY_GOTO(count_uses(ctx, from, n, tensors, updates, &uses));
  TRY_GOTO(array_new(ctx, (size_t)from->n_tensors + 1, sizeof *written_by, "a graph pass", (void **)&written_by));
  TRY_GOTO(array_new(ctx, (size_t)from->n_nodes + 1, sizeof *at, "a graph pass", (void **)&at));
  for (int64_t i = 0; i < from->n_nodes; i++) {
    gradient_match m;
    if (!is_norm_gradient(from->nodes[i])) continue;
    find_behind(from, uses, from->nodes[i], &m);
    if ((!m.add && !m.sums) || (m.add && at[m.add->id])) continue;
    TRY_GOTO(array_grow(ctx, &matches, &cap, n_matches + 1, sizeof *matches));
    matches[n_matches++] = m;
    at[i] = (int)n_matches;
    if (m.add) at[m.add->id] = -1;
    if (m.sums) written_by[(m.add ? m.add : m.grad)->out[0]->id] = (int)n_matches;
  }
  for (int64_t i = 0; i < from->n_nodes; i++) {
    const node *k = from->nodes[i];
    if (at[i] < 0) continue;
    int by = k->n_in > 0 && k->in[0] ? written_by[k->in[0]->id] : 0;
    bool copied;
    if (at[i])
      copied = emit_gradient(&r, &matches[at[i] - 1]);
    else if (by && sums_pixels(k, k->in[0]))
      copied = emit_sum(&r, k, r.map[matches[by - 1].grad->out[0]->id]->producer->out[4]);
    else
      copied = rewrite_copy(&r, k);
    if (!copied) {
      status = elbo_graph_check(r.to);
      goto fail;
    }
  }
  status = rewrite_end(&r, n, tensors, updates, to);
fail:
  rewrite_cancel(&r);
  free(uses);
  free(written_by);
  free(at);
  free(matches);
  return status;
}
