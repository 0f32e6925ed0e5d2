// A concatenation of two maps over channels that only norms with their activations and 1x1 convolutions read, with all gradients of
// these, as in a UNet's blocks on the way up in training: the norm reads both maps where they lie and gives two gradients, the convolution
// is the sum of two with parts of the weight. Neither the map nor the gradient that would be cut in two is made.
#include <elbo/ops.h>
#include <stdlib.h>

#include "graph/fuse.h"
#include "graph/rewrite.h"
#include "ops/contraction.h"
#include "ops/elementwise.h"
#include "ops/layout.h"
#include "ops/norm.h"

extern const op_def op_fused_group_norm, op_fused_group_norm_grad;

// Pixels for each result channel of a convolution from which on its parts, whose weights are copied in every step, cost less than the map.
enum { LEAST_PIXELS = 16 };

// What becomes of a node.
typedef enum fate { AS_IT_IS, DROPPED, NORM, CONVOLUTION, WEIGHT_GRADIENT, DATA_GRADIENT, PART } fate;

// What is found around one concatenation; more nodes than this are no block of a UNet.
typedef struct concat_match {
  const elbo_graph *g;
  const int *uses;
  const node *concat;
  const node *at[16];
  fate fates[16];
  int n;
} concat_match;

static bool found(concat_match *m, const node *n, fate f) {
  if (m->n == 16 || f == AS_IT_IS) return false;
  m->at[m->n] = n;
  m->fates[m->n++] = f;
  return true;
}

static bool joins_channels(const node *n) {
  if (n->op != &op_concat || n->n_in != 2 || n->in[0]->dtype != ELBO_F32) return false;
  return n->out[0]->shape.rank == 4 && ((const concat_attr *)n->attr)->axis == 3;
}

// y: the map on the other side
static bool is_worth(const node *n, const shape *weight, const shape *y) {
  const conv2d_attr *a = n->attr;
  bool plain = weight->dim[2] == 1 && weight->dim[3] == 1 && a->stride[0] == 1 && a->stride[1] == 1 && a->groups == 1 &&
               !(a->pad[0] | a->pad[1] | a->pad[2] | a->pad[3]);
  return plain && shape_product(y, 0, 3) >= LEAST_PIXELS * y->dim[3];
}

static fate reads(const node *k, const elbo_tensor *t) {
  if (k->op == &op_fused_group_norm || k->op == &op_fused_group_norm_grad) return NORM;
  if (k->op == &op_conv2d && is_worth(k, &k->in[1]->shape, &k->out[0]->shape)) return CONVOLUTION;
  if (k->op == &op_conv2d_weight_grad && k->in[1] != t && is_worth(k, &k->out[0]->shape, &k->in[1]->shape)) return WEIGHT_GRADIENT;
  return AS_IT_IS;
}

static const elbo_tensor *other_operand(const node *add, const elbo_tensor *t) { return add->in[0] == t ? add->in[1] : add->in[0]; }

static bool is_part(const node *k, const elbo_tensor *t, int64_t first) {
  const slice_attr *a = k->attr;
  return k->op == &op_slice && k->in[0] == t && a->axis == 3 && (a->begin == 0 ? a->end : a->begin) == first &&
         (a->begin == 0 || a->end == t->shape.dim[3]);
}

// The gradient of the concatenation: a norm's, plus those of convolutions that nothing else reads, cut in two and read no other way.
static bool match_gradient(concat_match *m, const elbo_tensor *dx) {
  int64_t first = m->concat->in[0]->shape.dim[3];
  int phase = dx->producer->phase, parts = 0;
  for (int64_t i = dx->producer->id + 1; i < m->g->n_nodes; i++) {
    const node *k = m->g->nodes[i];
    if (is_part(k, dx, first)) {
      if (!found(m, k, PART)) return false;
      parts++;
    } else if (k->op == &op_binary && ((const elementwise_attr *)k->attr)->code == EW_ADD && (k->in[0] == dx || k->in[1] == dx)) {
      const node *c = other_operand(k, dx)->producer;
      if (m->uses[dx->id] != 1 || c->op != &op_conv_transpose2d || c->in[2] || m->uses[c->out[0]->id] != 1 || c->phase != phase ||
          !is_worth(c, &c->in[1]->shape, &c->in[0]->shape))
        return false;
      if (!found(m, c, DROPPED) || !found(m, k, DATA_GRADIENT)) return false;
      dx = k->out[0];
    }
  }
  return parts == m->uses[dx->id];
}

static bool match_concat(concat_match *m) {
  const elbo_tensor *t = m->concat->out[0];
  int readers = 0;
  bool training = false; // without a gradient nothing is kept, and the map, read at once, costs less than weights in parts
  for (int64_t i = m->concat->id + 1; i < m->g->n_nodes; i++) {
    const node *k = m->g->nodes[i];
    if (k->n_in < 1 || k->in[0] != t) continue;
    if (!found(m, k, reads(k, t))) return false;
    if (k->op == &op_fused_group_norm_grad) {
      if (!match_gradient(m, k->out[0])) return false;
      training = true;
    }
    readers++;
  }
  return training && readers == m->uses[t->id] && found(m, m->concat, DROPPED);
}

// A pass under way. What was one tensor and is two now stands in r.map and in `second`.
typedef struct split_rewrite {
  rewrite r;
  elbo_tensor **second; // by tensor id
} split_rewrite;

static elbo_tensor *part_of(const split_rewrite *s, const elbo_tensor *t, int i) { return i ? s->second[t->id] : s->r.map[t->id]; }

// The part of a weight (O,I,1,1) that meets part i of the channels, of which the first has `first`.
static elbo_tensor *weight_part(const split_rewrite *s, const elbo_tensor *w, int64_t first, int i) {
  return elbo_slice(s->r.map[w->id], 1, i ? first : 0, i ? w->shape.dim[1] : first);
}

static bool emit_norm(split_rewrite *s, const node *k) {
  elbo_tensor *in[8] = {NULL};
  for (int i = 1; i < k->n_in; i++) in[i] = k->in[i] ? s->r.map[k->in[i]->id] : NULL;
  node *n = graph_add_group_norm_of_two(s->r.to, k, in, part_of(s, k->in[0], 0), part_of(s, k->in[0], 1));
  if (!n) return false;
  for (int i = 0; i < k->n_out; i++) s->r.map[k->out[i]->id] = n->out[i];
  if (k->op == &op_fused_group_norm_grad) s->second[k->out[0]->id] = n->out[5];
  return true;
}

static bool emit(split_rewrite *s, const node *k, fate f) {
  elbo_graph *g = s->r.to;
  elbo_tensor **map = s->r.map, *y[2] = {NULL, NULL};
  if (f == NORM) return emit_norm(s, k);
  if (f == PART) {
    map[k->out[0]->id] = part_of(s, k->in[0], ((const slice_attr *)k->attr)->begin > 0);
    return true;
  }
  if (f == DATA_GRADIENT) {
    int c = k->in[0]->producer->op == &op_conv_transpose2d ? 0 : 1;
    const node *conv = k->in[c]->producer;
    int64_t first = part_of(s, k->in[1 - c], 0)->shape.dim[3];
    for (int i = 0; i < 2; i++) {
      elbo_tensor *in[] = {map[conv->in[0]->id], weight_part(s, conv->in[1], first, i), NULL};
      y[i] = in[1] ? graph_add(g, conv->op, conv->attr, 3, in, conv->name) : NULL;
      y[i] = elbo_add(y[i], part_of(s, k->in[1 - c], i));
    }
    map[k->out[0]->id] = y[0], s->second[k->out[0]->id] = y[1];
    return y[0] && y[1];
  }
  for (int i = 0; i < 2; i++) {
    elbo_tensor *x = part_of(s, k->in[0], i), *second = map[k->in[1]->id];
    if (f == CONVOLUTION) second = weight_part(s, k->in[1], part_of(s, k->in[0], 0)->shape.dim[3], i);
    elbo_tensor *in[] = {x, second, f == CONVOLUTION && i == 0 && k->in[2] ? map[k->in[2]->id] : NULL};
    y[i] = second ? graph_add(g, k->op, k->attr, k->n_in, in, k->name) : NULL;
  }
  return (map[k->out[0]->id] = f == CONVOLUTION ? elbo_add(y[0], y[1]) : elbo_concat(2, y, 1)) != NULL;
}

elbo_status fuse_concats(elbo_ctx *ctx, const elbo_graph *from, int n, elbo_tensor **tensors, bool updates, elbo_graph **to) {
  split_rewrite s = {.second = NULL};
  int *uses = NULL;
  fate *fates = NULL; // by node id
  elbo_status status = rewrite_begin(ctx, from, &s.r);
  if (status != ELBO_OK) return status;
  TRY_GOTO(count_uses(ctx, from, n, tensors, updates, &uses));
  TRY_GOTO(array_new(ctx, (size_t)from->n_nodes + 1, sizeof *fates, "a graph pass", (void **)&fates));
  TRY_GOTO(array_new(ctx, (size_t)from->n_tensors + 1, sizeof *s.second, "a graph pass", (void **)&s.second));
  for (int64_t i = 0; i < from->n_nodes; i++) {
    concat_match m = {.g = from, .uses = uses, .concat = from->nodes[i]};
    if (!joins_channels(from->nodes[i]) || !match_concat(&m)) continue;
    for (int q = 0; q < m.n; q++) fates[m.at[q]->id] = m.fates[q];
  }
  for (int64_t i = 0; i < from->n_nodes; i++) {
    const node *k = from->nodes[i];
    int64_t before = s.r.to->n_nodes;
    bool done = true;
    if (fates[i] == AS_IT_IS)
      done = rewrite_copy(&s.r, k) != NULL;
    else if (fates[i] != DROPPED)
      done = emit(&s, k, fates[i]);
    else if (k->op == &op_concat)
      s.r.map[k->out[0]->id] = s.r.map[k->in[0]->id], s.second[k->out[0]->id] = s.r.map[k->in[1]->id];
    if (!done) {
      status = elbo_graph_check(s.r.to);
      goto fail;
    }
    for (int64_t q = before; fates[i] != AS_IT_IS && q < s.r.to->n_nodes; q++) s.r.to->nodes[q]->phase = k->phase;
  }
  status = rewrite_end(&s.r, n, tensors, updates, to);
fail:
  rewrite_cancel(&s.r);
  free(uses);
  free(fates);
  free(s.second);
  return status;
}
