// A group norm with its activation that one convolution alone reads: the norm gives its statistics, and the convolution, where the backend
// has a kernel that can, normalises x while it reads it. The normalised map is never stored, and x is read once more in its place.
#include <stdlib.h>

#include "graph/fuse.h"
#include "graph/rewrite.h"
#include "ops/contraction.h"
#include "ops/norm.h"

extern const op_def op_fused_group_norm, op_fused_conv2d;

// The input of a convolution that is its map; -1 of another node.
static int map_input(const node *n) { return n->op == &op_conv2d ? 0 : n->op == &op_fused_conv2d ? FUSED_X : -1; }

// The one reader of the norm's result, if it is a convolution of the same pass.
static const node *reading_convolution(const elbo_graph *g, const int *uses, const node *norm) {
  const elbo_tensor *y = norm->out[0];
  if (uses[y->id] != 1) return NULL;
  for (int64_t i = norm->id + 1; i < g->n_nodes; i++) {
    const node *n = g->nodes[i];
    for (int k = 0; k < n->n_in; k++)
      if (n->in[k] == y) return k == map_input(n) && n->phase == norm->phase && y->shape.rank == 4 ? n : NULL;
  }
  return NULL;
}

static bool emit_statistics(rewrite *r, const node *norm) {
  elbo_tensor *in[FUSED_NORM_INPUTS];
  for (int i = 0; i < FUSED_NORM_INPUTS; i++) in[i] = norm->in[i] ? r->map[norm->in[i]->id] : NULL;
  node *n = graph_add_group_norm_statistics(r->to, norm, in);
  if (!n) return false;
  n->phase = norm->phase;
  for (int i = 0; i < 3; i++) r->map[norm->out[i]->id] = n->out[i]; // out[0], which the convolution alone reads, is not y
  return true;
}

static bool emit_convolution(rewrite *r, const node *conv, const node *norm) {
  elbo_tensor *in[FUSED_INPUTS] = {NULL}, *channels = r->map[norm->out[0]->id],
              *x2 = norm->in[NORM_X2] ? r->map[norm->in[NORM_X2]->id] : NULL;
  for (int i = 0; i < conv->n_in; i++) in[i] = conv->in[i] ? r->map[conv->in[i]->id] : NULL;
  in[map_input(conv)] = r->map[norm->in[0]->id];
  node *n = graph_add_normalised_conv2d(r->to, conv, in, norm, channels, x2);
  if (!n) return false;
  n->phase = conv->phase;
  for (int i = 0; i < conv->n_out; i++) r->map[conv->out[i]->id] = n->out[i];
  return true;
}

elbo_status fuse_norm_reads(const compile_env *env, const backend *b, const elbo_graph *from, int n, elbo_tensor **tensors, bool updates,
                            elbo_graph **to) {
  rewrite r;
  int *uses = NULL;
  const node **norm_of = NULL; // by node id: of a convolution the norm that it takes over, of such a norm itself
  elbo_status status = rewrite_begin(env->ctx, from, &r);
  if (status != ELBO_OK) return status;
  TRY_GOTO(count_uses(env->ctx, from, n, tensors, updates, &uses));
  TRY_GOTO(array_new(env->ctx, (size_t)from->n_nodes + 1, sizeof *norm_of, "a graph pass", (void **)&norm_of));
  for (int64_t i = 0; i < from->n_nodes; i++) {
    const node *k = from->nodes[i], *conv = k->op == &op_fused_group_norm ? reading_convolution(from, uses, k) : NULL;
    if (conv && b->normalises(env, conv, k)) norm_of[i] = norm_of[conv->id] = k;
  }
  for (int64_t i = 0; i < from->n_nodes; i++) {
    const node *k = from->nodes[i];
    bool copied = !norm_of[i]       ? rewrite_copy(&r, k) != NULL
                  : norm_of[i] == k ? emit_statistics(&r, k)
                                    : emit_convolution(&r, k, norm_of[i]);
    if (copied) continue;
    status = elbo_graph_check(r.to);
    goto fail;
  }
  status = rewrite_end(&r, n, tensors, updates, to);
fail:
  rewrite_cancel(&r);
  free(uses);
  free(norm_of);
  return status;
}
