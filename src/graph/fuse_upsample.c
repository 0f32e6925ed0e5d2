// upsample_nearest 2x2 + conv2d 3x3 is one transposed convolution of 4x4 and stride 2, whose kernel is the 3x3 one summed over the blocks
// that pixels became: 4 products in place of 9 a result, and the upsampled map is never stored. In the backward pass the same holds for its
// two gradients: conv_transpose2d + avg_pool2d, and conv2d_weight_grad of an upsampled map.
#include <elbo/ops.h>
#include <stdlib.h>

#include "graph/fuse.h"
#include "graph/rewrite.h"
#include "ops/contraction.h"
#include "ops/resample.h"

enum {
  LEAST_TILES = 128,  // of 4x4 pixels before they are doubled: with fewer the kernels' weights, that have to be made anew, cost what is won
  LEAST_CHANNELS = 16 // kernels for few channels do as well without
};

static bool doubles(const node *n) {
  const window_attr *a = n->attr;
  return n->op == &op_upsample_nearest && a->fh == 2 && a->fw == 2 && a->factor == 1;
}

static bool sums_blocks(const node *n) {
  const window_attr *a = n->attr;
  return n->op == &op_avg_pool2d && a->fh == 2 && a->fw == 2 && a->factor == 1;
}

// 3x3 of stride 1, from maps to maps of one size; of a weight gradient that is known from the sizes of its operands.
static bool is_same_3x3(const node *n, const elbo_tensor *map, const elbo_tensor *other, int64_t kh, int64_t kw) {
  const conv2d_attr *a = n->attr;
  return kh == 3 && kw == 3 && a->stride[0] == 1 && a->stride[1] == 1 && a->dilation[0] == 1 && a->dilation[1] == 1 && a->groups == 1 &&
         a->pad[0] == 1 && a->pad[1] == 1 && map->shape.dim[1] == other->shape.dim[1] && map->shape.dim[2] == other->shape.dim[2];
}

static bool is_convolution(const node *n, const op_def *op) {
  return n->op == op && is_same_3x3(n, n->in[0], n->out[0], n->in[1]->shape.dim[2], n->in[1]->shape.dim[3]);
}

static bool is_weight_grad(const node *n, const elbo_tensor *x) {
  return n->op == &op_conv2d_weight_grad && n->in[0] == x && n->in[1] != x &&
         is_same_3x3(n, x, n->in[1], n->out[0]->shape.dim[2], n->out[0]->shape.dim[3]);
}

// `small`: the map that is doubled, or its gradient; `large`: the convolution's result, or its gradient
static bool is_worth(const elbo_tensor *small, const elbo_tensor *large) {
  const int64_t *s = small->shape.dim;
  return s[0] * ((s[1] + 3) / 4) * ((s[2] + 3) / 4) >= LEAST_TILES && s[3] >= LEAST_CHANNELS && large->shape.dim[3] >= LEAST_CHANNELS;
}

// What becomes of a node.
typedef enum fate { AS_IT_IS, DROPPED, CONVOLUTION, DATA_GRADIENT, WEIGHT_GRADIENT } fate;

// An upsampling whose readers are convolutions and weight gradients of these, all of them.
static void match_upsampling(const elbo_graph *g, const int *uses, const node *up, fate *fates) {
  const elbo_tensor *t = up->out[0];
  int found = 0;
  for (int pass = 0; pass < 2; pass++) {
    for (int64_t i = up->id + 1; i < g->n_nodes; i++) {
      const node *k = g->nodes[i];
      fate f = AS_IT_IS;
      if (is_convolution(k, &op_conv2d) && k->in[0] == t && is_worth(up->in[0], k->out[0])) f = CONVOLUTION;
      if (is_weight_grad(k, t) && is_worth(up->in[0], k->in[1])) f = WEIGHT_GRADIENT;
      if (f == AS_IT_IS) continue;
      if (pass == 0)
        found++;
      else
        fates[i] = f;
    }
    if (pass == 0 && (found == 0 || found != uses[t->id])) return;
  }
  fates[up->id] = DROPPED;
}

static void match_sums(const int *uses, const node *sums, fate *fates) {
  const node *c = sums->in[0]->producer;
  if (!is_convolution(c, &op_conv_transpose2d) || c->in[2] || uses[c->out[0]->id] != 1 || !is_worth(sums->out[0], c->in[0])) return;
  fates[c->id] = DROPPED;
  fates[sums->id] = DATA_GRADIENT;
}

static conv2d_attr stride_two(const elbo_tensor *like) {
  conv2d_attr a = {.stride = {2, 2}, .dilation = {1, 1}, .pad = {1, 1, 1, 1}, .groups = 1, .taps = 4 * 9};
  a.size[0] = like->shape.dim[1], a.size[1] = like->shape.dim[2];
  return a;
}

// (9,16), or its transposed: position (p, q) of the 3x3 kernel falls on positions 2 - p and 3 - p, 2 - q and 3 - q of the 4x4 one.
static elbo_tensor *positions(elbo_graph *g, bool transposed) {
  float m[9 * 16] = {0};
  for (int p = 0; p < 9; p++)
    for (int e = 0; e < 4; e++) {
      int k = (2 - p / 3 + e / 2) * 4 + 2 - p % 3 + e % 2;
      m[transposed ? k * 9 + p : p * 16 + k] = 1;
    }
  return elbo_constant_array(g, 2, transposed ? (int64_t[]){16, 9} : (int64_t[]){9, 16}, m);
}

// (O,I,3,3) to (I,O,4,4)
static elbo_tensor *spread_weight(elbo_tensor *w) {
  const int64_t *d = w->shape.dim;
  elbo_tensor *flat = elbo_reshape(w, 2, (int64_t[]){d[0] * d[1], 9});
  elbo_tensor *wide = elbo_matmul(flat, positions(w->graph, false), 0, 0);
  return elbo_transpose(elbo_reshape(wide, 4, (int64_t[]){d[0], d[1], 4, 4}), (int[]){1, 0, 2, 3});
}

// Its adjoint, (I,O,4,4) to (O,I,3,3)
static elbo_tensor *gather_weight(elbo_tensor *v) {
  if (!v) return NULL;
  const int64_t *d = v->shape.dim;
  elbo_tensor *flat = elbo_reshape(elbo_transpose(v, (int[]){1, 0, 2, 3}), 2, (int64_t[]){d[0] * d[1], 16});
  elbo_tensor *narrow = elbo_matmul(flat, positions(v->graph, true), 0, 0);
  return elbo_reshape(narrow, 4, (int64_t[]){d[1], d[0], 3, 3});
}

// Puts what stands for node k into the new graph; NULL after an error.
static elbo_tensor *emit(rewrite *r, const node *k, fate f) {
  elbo_tensor *y;
  conv2d_attr a = stride_two(k->out[0]);
  int64_t before = r->to->n_nodes;
  if (f == CONVOLUTION) {
    elbo_tensor *small = r->map[k->in[0]->producer->in[0]->id], *bias = k->in[2] ? r->map[k->in[2]->id] : NULL;
    elbo_tensor *in[] = {small, spread_weight(r->map[k->in[1]->id]), bias};
    y = in[1] ? graph_add(r->to, &op_conv_transpose2d, &a, 3, in, k->name) : NULL;
  } else if (f == DATA_GRADIENT) {
    const node *c = k->in[0]->producer;
    elbo_tensor *in[] = {r->map[c->in[0]->id], spread_weight(r->map[c->in[1]->id]), NULL};
    y = in[1] ? graph_add(r->to, &op_conv2d, &a, 3, in, c->name) : NULL;
  } else {
    elbo_tensor *small = r->map[k->in[0]->producer->in[0]->id];
    a.size[0] = a.size[1] = 4;
    y = gather_weight(conv2d_weight_grad_of(r->map[k->in[1]->id], small, &a));
  }
  for (int64_t i = before; i < r->to->n_nodes; i++) r->to->nodes[i]->phase = k->phase;
  return y;
}

elbo_status fuse_upsampling(elbo_ctx *ctx, const elbo_graph *from, int n, elbo_tensor **tensors, bool updates, elbo_graph **to) {
  rewrite r;
  int *uses = NULL;
  fate *fates = NULL; // by node id
  elbo_status status = rewrite_begin(ctx, from, &r);
  if (status != ELBO_OK) return status;
  TRY_GOTO(count_uses(ctx, from, n, tensors, updates, &uses));
  TRY_GOTO(array_new(ctx, (size_t)from->n_nodes + 1, sizeof *fates, "a graph pass", (void **)&fates));
  for (int64_t i = 0; i < from->n_nodes; i++) {
    if (doubles(from->nodes[i])) match_upsampling(from, uses, from->nodes[i], fates);
    if (sums_blocks(from->nodes[i])) match_sums(uses, from->nodes[i], fates);
  }
  for (int64_t i = 0; i < from->n_nodes; i++) {
    const node *k = from->nodes[i];
    if (fates[i] == DROPPED) continue;
    elbo_tensor *y = NULL;
    if (fates[i] == AS_IT_IS ? rewrite_copy(&r, k) != NULL : (y = emit(&r, k, fates[i])) != NULL) {
      if (y) r.map[k->out[0]->id] = y;
      continue;
    }
    status = elbo_graph_check(r.to);
    goto fail;
  }
  status = rewrite_end(&r, n, tensors, updates, to);
fail:
  rewrite_cancel(&r);
  free(uses);
  free(fates);
  return status;
}
