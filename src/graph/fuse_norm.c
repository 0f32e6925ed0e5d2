// group_norm + activation, and in training the gradient of both: one node each, so that the value between them is never stored. Nor is the
// activation kept for the backward pass: the gradient, which computes it on its way, gives it once more to those that read it there (the
// weight gradient of the convolution behind the norm), and these move behind it.
#include <stdlib.h>

#include "graph/fuse.h"
#include "graph/rewrite.h"
#include "ops/elementwise.h"
#include "ops/norm.h"

extern const op_def op_group_norm, op_group_norm_grad;

typedef struct view_of {
  const elbo_graph *g;
  const int *uses;
} view_of;

static const node *unary_node(const elbo_tensor *t, elementwise_code code, double a, double b) {
  const node *n = t->producer;
  if (n->op != &op_unary) return NULL;
  const elementwise_attr *e = n->attr;
  if (e->code != code) return NULL;
  return code != EW_SCALE || (e->a == a && e->b == b) ? n : NULL;
}

static const node *binary_node(const elbo_tensor *t, elementwise_code code) {
  const node *n = t->producer;
  return n->op == &op_binary && ((const elementwise_attr *)n->attr)->code == code ? n : NULL;
}

// What is fused: the norm, in inference what an embedding multiplies its result with and adds to it, its activation, and in training the
// gradient node whose dy is activation'(y) da.
typedef struct norm_match {
  const node *norm, *activation, *grad;
  const elbo_tensor *factor, *shift; // or NULL
  elbo_tensor *da;
  const node *drop[8]; // nodes that only made that dy, or what factor and shift make of the norm
  int n_drop;
  norm_act act;
  double slope;
  bool again; // grad gives the activation once more, for nodes moved behind it
} norm_match;

static void drop(norm_match *m, const node *n) { m->drop[m->n_drop++] = n; }

// t = da * (q * (1 + x (1 - q))), q = sigmoid(x): what differentiating silu builds (ops/elementwise.c), with x read by nothing else
static bool match_silu_gradient(const view_of *v, const elbo_tensor *t, const elbo_tensor *x, norm_match *m) {
  const node *product = binary_node(t, EW_MUL);
  for (int side = 0; product && side < 2; side++) {
    const node *slope = binary_node(product->in[side], EW_MUL);
    if (!slope) continue;
    const node *q = unary_node(slope->in[0], EW_SIGMOID, 0, 0), *plus = unary_node(slope->in[1], EW_SCALE, 1, 1);
    if (!q || !plus || q->in[0] != x) continue;
    const node *xr = binary_node(plus->in[0], EW_MUL);
    if (!xr || xr->in[0] != x) continue;
    const node *rest = unary_node(xr->in[1], EW_SCALE, -1, 1);
    if (!rest || rest->in[0] != q->out[0]) continue;
    if (v->uses[x->id] != 3 || v->uses[q->out[0]->id] != 2 || v->uses[rest->out[0]->id] != 1 || v->uses[xr->out[0]->id] != 1 ||
        v->uses[plus->out[0]->id] != 1 || v->uses[slope->out[0]->id] != 1)
      continue;
    m->da = product->in[1 - side];
    drop(m, product), drop(m, slope), drop(m, q), drop(m, plus), drop(m, xr), drop(m, rest);
    return true;
  }
  return false;
}

// t = where(0 < y, da, 0) for relu's result y, which others may read too
static bool match_relu_gradient(const view_of *v, const elbo_tensor *t, const elbo_tensor *x, const elbo_tensor *y, norm_match *m) {
  const node *where = t->producer;
  double zero;
  if (where->op != &op_where || !tensor_is_constant(where->in[2], &zero) || zero != 0) return false;
  const node *less = binary_node(where->in[0], EW_LESS);
  if (!less || less->in[1] != y || !tensor_is_constant(less->in[0], &zero) || zero != 0) return false;
  if (v->uses[x->id] != 1 || v->uses[less->out[0]->id] != 1) return false;
  m->da = where->in[1];
  drop(m, where), drop(m, less);
  return true;
}

static const node *find_reader(const elbo_graph *g, const elbo_tensor *t, const op_def *op, int input, int from) {
  for (int64_t i = from; i < g->n_nodes; i++)
    if (g->nodes[i]->op == op && g->nodes[i]->in[input] == t) return g->nodes[i];
  return NULL;
}

// t's only reader, if it is a binary operation that joins t and a number for each image and channel, *other.
static const node *modulating_node(const view_of *v, const elbo_tensor *t, elementwise_code code, const elbo_tensor **other) {
  const shape *s = &t->shape;
  if (v->uses[t->id] != 1) return NULL;
  for (int side = 0; side < 2; side++) {
    const node *n = find_reader(v->g, t, &op_binary, side, t->producer->id + 1);
    if (!n || ((const elementwise_attr *)n->attr)->code != code || n->phase != t->producer->phase) continue;
    *other = n->in[1 - side];
    const shape *o = &(*other)->shape;
    if (o->rank != s->rank || o->dim[0] != s->dim[0] || o->dim[o->rank - 1] != s->dim[s->rank - 1]) return NULL;
    return shape_product(o, 1, o->rank - 1) == 1 ? n : NULL;
  }
  return NULL;
}

// The activation of t that a norm can take, of the norm's phase; others may read t too.
static bool find_activation(const view_of *v, const elbo_tensor *t, norm_match *m) {
  const node *n = find_reader(v->g, t, &op_unary, 0, t->producer->id + 1);
  for (; n; n = find_reader(v->g, t, &op_unary, 0, n->id + 1)) {
    int64_t code = ((const elementwise_attr *)n->attr)->code;
    if (code != EW_SILU && code != EW_RELU) continue;
    m->activation = n, m->act = code == EW_SILU ? NORM_ACT_SILU : NORM_ACT_RELU;
    return n->phase == m->norm->phase;
  }
  return false;
}

// act(norm(x) factor + shift), nothing between which is read by anything else: a gradient would.
static bool match_modulated(const view_of *v, const node *norm, norm_match *m) {
  const node *product = modulating_node(v, norm->out[0], EW_MUL, &m->factor);
  const node *sum = product ? modulating_node(v, product->out[0], EW_ADD, &m->shift) : NULL;
  if (!sum || v->uses[sum->out[0]->id] != 1 || v->uses[norm->out[1]->id] || v->uses[norm->out[2]->id]) return false;
  if (!find_activation(v, sum->out[0], m)) return false;
  drop(m, norm), drop(m, product), drop(m, sum);
  return true;
}

static bool match_norm(const view_of *v, const node *norm, norm_match *m) {
  *m = (norm_match){.norm = norm};
  const elbo_tensor *x = norm->out[0];
  if (!find_activation(v, x, m)) return !m->activation && match_modulated(v, norm, m);
  m->grad = find_reader(v->g, norm->out[1], &op_group_norm_grad, 3, norm->id + 1);
  if (!m->grad) return v->uses[x->id] == 1; // inference
  const elbo_tensor *dy = m->grad->in[5];
  if (v->uses[dy->id] != 1 || v->uses[norm->out[1]->id] != 1) return false;
  return m->act == NORM_ACT_SILU ? match_silu_gradient(v, dy, x, m) : match_relu_gradient(v, dy, x, m->activation->out[0], m);
}

static node *emit_norm(rewrite *r, const norm_match *m, const node *at) {
  const group_norm_attr *a = m->norm->attr;
  const node *from = at == m->grad ? at : m->norm;
  elbo_tensor *in[FUSED_NORM_INPUTS] = {NULL};
  for (int i = 0; i < from->n_in; i++) in[i] = from->in[i] ? r->map[from->in[i]->id] : NULL;
  node *fused;
  if (at != m->grad) {
    if (m->factor) in[NORM_FACTOR] = r->map[m->factor->id], in[NORM_SHIFT] = r->map[m->shift->id];
    fused = graph_add_fused_group_norm(r->to, in, a->groups, a->eps, m->act, m->slope);
    if (!fused) return NULL;
    r->map[m->activation->out[0]->id] = fused->out[0];
    r->map[m->norm->out[1]->id] = fused->out[1];
    r->map[m->norm->out[2]->id] = fused->out[2];
  } else {
    elbo_tensor *bias = m->norm->in[2] ? r->map[m->norm->in[2]->id] : NULL;
    group_norm_attr attr = {.groups = a->groups, .eps = a->eps, .act = m->act, .slope = m->slope, .again = m->again};
    fused = graph_add_fused_group_norm_grad(r->to, in[0], in[1], bias, in[3], in[4], r->map[m->da->id], NULL, &attr);
    if (!fused) return NULL;
    for (int i = 0; i < 3; i++) r->map[at->out[i]->id] = fused->out[i];
    if (m->again) r->map[m->activation->out[0]->id] = fused->out[3]; // all that is copied from here on and reads it
  }
  fused->phase = at->phase;
  return fused;
}

// Whether a node before `grad`, but for dropped ones, reads a result of n.
static bool read_before(const elbo_graph *g, const node *n, const node *grad) {
  for (int64_t i = n->id + 1; i < grad->id; i++)
    for (int k = 0; k < g->nodes[i]->n_in; k++)
      for (int o = 0; o < n->n_out; o++)
        if (g->nodes[i]->in[k] == n->out[o]) return true;
  return false;
}

// Looks for the nodes of the backward pass that read the activation before the norm's gradient is there. When all of them can wait,
// they are marked in behind[] with the gradient's id, and the match gives the activation again. `taken`: nodes that this pass replaces.
static void find_waiting(const view_of *v, int n, elbo_tensor *const *tensors, const int *match_at, const bool *done, int *behind,
                         norm_match *m) {
  const elbo_tensor *y = m->activation->out[0];
  const node *waiting[8];
  int count = 0;
  bool late = false;
  if (!m->grad) return;
  for (int i = 0; i < n; i++)
    if (tensors[i] == y) return;
  for (int64_t i = 0; i < v->g->n_updates; i++)
    if (v->g->updates[i].value == y) return;
  for (int64_t i = m->activation->id + 1; i < v->g->n_nodes; i++) {
    const node *k = v->g->nodes[i];
    bool reads = false;
    for (int q = 0; q < k->n_in; q++) reads |= k->in[q] == y;
    if (!reads || k->phase == m->norm->phase) continue;
    if (k->op->flags & OP_VIEW || k->phase != m->grad->phase) return; // a view's readers are not looked for
    late = true;
    if (i > m->grad->id) continue;
    if (done[i] || match_at[i] || behind[i] || count == 8 || read_before(v->g, k, m->grad)) return;
    waiting[count++] = k;
  }
  m->again = late;
  for (int i = 0; i < count; i++) behind[waiting[i]->id] = m->grad->id;
}

elbo_status fuse_norms(elbo_ctx *ctx, const elbo_graph *from, int n, elbo_tensor **tensors, bool updates, elbo_graph **to) {
  rewrite r;
  int *uses = NULL, *match_at = NULL; // by node id: match + 1 emitted there
  int *behind = NULL;                 // by node id: the node that it has to wait for, 0: none
  bool *done = NULL;                  // by node id: part of a match
  norm_match *matches = NULL;
  int64_t n_matches = 0, cap = 0;
  elbo_status status = rewrite_begin(ctx, from, &r);
  if (status != ELBO_OK) return status;
  TRY_GOTO(count_uses(ctx, from, n, tensors, updates, &uses));
  TRY_GOTO(array_new(ctx, (size_t)from->n_nodes + 1, sizeof *match_at, "a graph pass", (void **)&match_at));
  TRY_GOTO(array_new(ctx, (size_t)from->n_nodes + 1, sizeof *behind, "a graph pass", (void **)&behind));
  TRY_GOTO(array_new(ctx, (size_t)from->n_nodes + 1, sizeof *done, "a graph pass", (void **)&done));
  const view_of v = {from, uses};
  for (int64_t i = 0; i < from->n_nodes; i++) {
    norm_match m;
    if (from->nodes[i]->op != &op_group_norm || !match_norm(&v, from->nodes[i], &m)) continue;
    TRY_GOTO(array_grow(ctx, &matches, &cap, n_matches + 1, sizeof *matches));
    matches[n_matches++] = m;
    match_at[m.factor ? m.activation->id : i] = (int)n_matches; // where factor and shift are there
    if (m.grad) match_at[m.grad->id] = (int)n_matches;
    done[m.activation->id] = !m.factor;
    for (int k = 0; k < m.n_drop; k++) done[m.drop[k]->id] = true;
  }
  for (int64_t i = 0; i < n_matches; i++) find_waiting(&v, n, tensors, match_at, done, behind, &matches[i]);
  for (int64_t i = 0; i < from->n_nodes; i++) {
    const node *k = from->nodes[i];
    if (done[i] || behind[i]) continue;
    bool copied = match_at[i] ? emit_norm(&r, &matches[match_at[i] - 1], k) : rewrite_copy(&r, k);
    for (int64_t w = 0; copied && match_at[i] && w < i; w++) // those that waited for this one
      if (behind[w] == i) copied = rewrite_copy(&r, from->nodes[w]);
    if (!copied) {
      status = elbo_graph_check(r.to);
      goto fail;
    }
  }
  status = rewrite_end(&r, n, tensors, updates, to);
fail:
  rewrite_cancel(&r);
  free(uses);
  free(match_at);
  free(behind);
  free(done);
  free(matches);
  return status;
}
