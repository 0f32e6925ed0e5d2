// Neighbouring element-wise operations of one iteration shape, with the sums at their ends, become programs.
//
// A cluster is a set of nodes that may run as one: no path leaves it and comes back. Nodes join the clusters of their producers in order,
// as long as that stays true and the program's limits hold. Then clusters and the other nodes are sorted again and emitted.
#include <stdlib.h>
#include <string.h>

#include "graph/fuse.h"
#include "graph/rewrite.h"
#include "ops/fused_elementwise.h"
#include "ops/reduce.h"

typedef struct clusters {
  const elbo_graph *g;
  int *of;         // by node id: the representative node's id (every node begins as its own cluster)
  int *next;       // by node id: next member, -1: last (members in ascending order)
  int *low, *high; // by representative: first and last member
  int *mark;       // by representative: visited in walk number ...
  int walk;
  int *stack;
  const bool *requested; // by tensor id: a result of the plan
  int **readers;         // by tensor id: ids of the nodes that read it, -1 ends
} clusters;

typedef struct member_info {
  bool element, sum;
  shape iteration;
  int sum_axis;
} member_info;

// What kind of member a node can be.
static member_info info_of(const node *n) {
  member_info m = {0};
  elementwise_instruction i;
  if (n->op == &op_constant) return m;
  if (elementwise_instruction_of(n, &i)) {
    m.element = true;
    m.iteration = n->out[0]->shape;
  } else if (sum_of_trailing_axes(n, &m.sum_axis)) {
    m.sum = true;
    m.iteration = n->in[0]->shape;
  }
  return m;
}

// Whether the set {cluster a, cluster b} (representatives; b may be a lone node) has a path out and back in: walks the inputs backwards
// from it, through clusters as wholes.
static bool would_cycle(clusters *c, int a, int b) {
  int low = c->low[a] < c->low[b] ? c->low[a] : c->low[b], top = 0;
  c->walk++;
  for (int part = 0; part < 2; part++)
    for (int id = part ? b : a; id >= 0; id = c->next[id]) {
      const node *n = c->g->nodes[id];
      for (int i = 0; i < n->n_in; i++) {
        int p = n->in[i] ? c->of[n->in[i]->producer->id] : -1;
        if (p < 0 || p == a || p == b || c->mark[p] == c->walk || c->high[p] < low) continue;
        c->mark[p] = c->walk;
        c->stack[top++] = p;
      }
    }
  while (top > 0) {
    int at = c->stack[--top];
    for (int id = at; id >= 0; id = c->next[id]) {
      const node *n = c->g->nodes[id];
      for (int i = 0; i < n->n_in; i++) {
        int p = n->in[i] ? c->of[n->in[i]->producer->id] : -1;
        if (p < 0) continue;
        if (p == a || p == b) return true;
        if (c->mark[p] == c->walk || c->high[p] < low) continue;
        c->mark[p] = c->walk;
        c->stack[top++] = p;
      }
    }
  }
  return false;
}

// Whether a member's value is wanted outside of clusters a and b.
static bool escapes(const clusters *c, const elbo_tensor *t, int a, int b) {
  if (c->requested[t->id]) return true;
  for (const int *r = c->readers[t->id]; *r >= 0; r++)
    if (c->of[*r] != a && c->of[*r] != b) return true;
  return false;
}

static bool is_scalar_constant(const elbo_tensor *t) {
  double value;
  return tensor_is_constant(t, &value);
}

// Whether the program of both clusters together is one that can be written.
static bool within_limits(const clusters *c, int a, int b) {
  const elbo_tensor *inputs[EW_MAX_INPUTS];
  int n_in = 0, n_code = 0, n_out = 0, sum_axis = -1;
  for (int part = 0; part < 2; part++)
    for (int id = part ? b : a; id >= 0; id = c->next[id]) {
      const node *n = c->g->nodes[id];
      member_info m = info_of(n);
      if (m.sum) {
        if (sum_axis >= 0 && sum_axis != m.sum_axis) return false;
        sum_axis = m.sum_axis;
      }
      n_code += m.element;
      for (int i = 0; i < n->n_in; i++) {
        const elbo_tensor *x = n->in[i];
        int p = c->of[x->producer->id], known = 0;
        if (p == a || p == b) {
          if (info_of(x->producer).sum) return false; // a sum is there when its program has ended
          continue;
        }
        if (is_scalar_constant(x)) {
          n_code++;
          continue;
        }
        while (known < n_in && inputs[known] != x) known++;
        if (known < n_in) continue;
        if (n_in == EW_MAX_INPUTS) return false;
        inputs[n_in++] = x;
      }
      n_out += m.sum || escapes(c, n->out[0], a, b);
    }
  return n_code <= EW_MAX_INSTRUCTIONS && n_out <= EW_MAX_OUTPUTS;
}

// Appends cluster b to cluster a (both lists stay ascending: they are merged).
static void join(clusters *c, int a, int b) {
  int into = a < b ? a : b, x = a, y = b, *tail = NULL;
  while (x >= 0 || y >= 0) {
    int *from = y < 0 || (x >= 0 && x < y) ? &x : &y;
    int id = *from;
    *from = c->next[id];
    if (tail) *tail = id;
    tail = &c->next[id];
    *tail = -1;
    c->of[id] = into;
  }
  int low = c->low[a] < c->low[b] ? c->low[a] : c->low[b], high = c->high[a] > c->high[b] ? c->high[a] : c->high[b];
  c->low[into] = low;
  c->high[into] = high;
}

static void try_join_producers(clusters *c, const node *n) {
  member_info m = info_of(n);
  if (!m.element && !m.sum) return;
  for (int i = 0; i < n->n_in; i++) {
    if (!n->in[i]) return;
    const node *p = n->in[i]->producer;
    int a = c->of[p->id], b = c->of[n->id];
    member_info pm = info_of(p);
    if (a == b || !pm.element || p->phase != n->phase || !shape_equal(&pm.iteration, &m.iteration)) continue;
    if (within_limits(c, a, b) && !would_cycle(c, a, b)) join(c, a, b);
  }
}

static elbo_status find_clusters(elbo_ctx *ctx, clusters *c, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    c->of[i] = c->low[i] = c->high[i] = (int)i;
    c->next[i] = -1;
  }
  (void)ctx;
  for (int64_t i = 0; i < n; i++) try_join_producers(c, c->g->nodes[i]);
  return ELBO_OK;
}

// --- emission ---

static int program_operand(const clusters *c, rewrite *r, elementwise_program *p, elbo_tensor **in, int *reg_of, int cluster,
                           const elbo_tensor *x) {
  double value;
  (void)r;
  if (c->of[x->producer->id] == cluster) return reg_of[x->producer->id];
  if (tensor_is_constant(x, &value)) return -1;
  for (int64_t i = 0; i < p->n_in; i++)
    if (in[i] == x) return (int)i;
  in[p->n_in] = (elbo_tensor *)x;
  return (int)p->n_in++;
}

// Builds the program of a cluster. Registers are numbered after the inputs, so these are gathered first.
static node *emit_program(const clusters *c, rewrite *r, int cluster, int *reg_of) {
  elementwise_program *p = arena_alloc(r->to->arena, sizeof *p);
  elbo_tensor *in[EW_MAX_INPUTS + 3];
  if (!p) return graph_fail(r->to, ELBO_ERROR_MEMORY, "out of memory while fusing");
  for (int id = cluster; id >= 0; id = c->next[id]) {
    const node *n = c->g->nodes[id];
    for (int i = 0; i < n->n_in; i++) program_operand(c, r, p, in, reg_of, cluster, n->in[i]);
  }
  for (int id = cluster; id >= 0; id = c->next[id]) {
    const node *n = c->g->nodes[id];
    member_info m = info_of(n);
    if (m.sum) {
      p->sum_axis = m.sum_axis;
      int reg = program_operand(c, r, p, in, reg_of, cluster, n->in[0]);
      p->out[p->n_out++] = (elementwise_output){reg, 1};
      continue;
    }
    elementwise_instruction code;
    if (!elementwise_instruction_of(n, &code)) return graph_fail(r->to, ELBO_ERROR_INTERNAL, "fusing %s", n->op->name);
    int16_t src[3] = {0};
    for (int i = 0; i < n->n_in; i++) {
      double value;
      if (c->of[n->in[i]->producer->id] != cluster && tensor_is_constant(n->in[i], &value)) {
        src[i] = (int16_t)(p->n_in + p->n_instructions);
        p->code[p->n_instructions++] = (elementwise_instruction){.code = EW_CONSTANT, .a = value};
      } else {
        src[i] = (int16_t)program_operand(c, r, p, in, reg_of, cluster, n->in[i]);
      }
    }
    memcpy(code.src, src, sizeof src);
    reg_of[id] = (int)(p->n_in + p->n_instructions);
    p->code[p->n_instructions++] = code;
    p->iteration = m.iteration;
    if (escapes(c, n->out[0], cluster, cluster)) p->out[p->n_out++] = (elementwise_output){reg_of[id], 0};
  }
  for (int64_t i = 0; i < p->n_in; i++) in[i] = r->map[in[i]->id];
  node *fused = graph_add_fused_elementwise(r->to, p, (int)p->n_in, in);
  if (!fused) return NULL;
  int out = 0;
  for (int id = cluster; id >= 0; id = c->next[id]) {
    const node *n = c->g->nodes[id];
    member_info m = info_of(n);
    if (m.sum || escapes(c, n->out[0], cluster, cluster)) r->map[n->out[0]->id] = fused->out[out++];
  }
  fused->phase = c->g->nodes[cluster]->phase;
  return fused;
}

// A sum keeps its axes as length 1 or drops them; the program drops them. A view mends the shape.
static bool mend_sums(const clusters *c, rewrite *r, int cluster) {
  for (int id = cluster; id >= 0; id = c->next[id]) {
    const node *n = c->g->nodes[id];
    elbo_tensor **slot = &r->map[n->out[0]->id];
    if (!info_of(n).sum || shape_equal(&(*slot)->shape, &n->out[0]->shape)) continue;
    shape s;
    memset(&s, 0, sizeof s);
    s.rank = n->out[0]->shape.rank;
    memcpy(s.dim, n->out[0]->shape.dim, sizeof s.dim[0] * (size_t)s.rank);
    *slot = graph_add(r->to, &op_reshape, &s, 1, slot, NULL);
    if (!*slot) return false;
  }
  return true;
}

static bool emit(const clusters *c, rewrite *r, int cluster, int *reg_of) {
  if (c->next[cluster] < 0) return rewrite_copy(r, c->g->nodes[cluster]) != NULL;
  return emit_program(c, r, cluster, reg_of) && mend_sums(c, r, cluster);
}

// Emits clusters so that producers come first; among those that are ready, the one with the lowest last member, which keeps the
// order of the user's graph where it can.
static elbo_status emit_all(elbo_ctx *ctx, clusters *c, rewrite *r) {
  int64_t n = c->g->n_nodes;
  int *waiting = NULL, *reg_of = NULL; // by representative: producers not emitted yet (counted once per read)
  bool *emitted = NULL;
  elbo_status status = ELBO_OK;
  TRY_GOTO(array_new(ctx, (size_t)n + 1, sizeof *waiting, "a graph pass", (void **)&waiting));
  TRY_GOTO(array_new(ctx, (size_t)n + 1, sizeof *reg_of, "a graph pass", (void **)&reg_of));
  TRY_GOTO(array_new(ctx, (size_t)n + 1, sizeof *emitted, "a graph pass", (void **)&emitted));
  for (int64_t i = 0; i < n; i++)
    for (int k = 0; k < c->g->nodes[i]->n_in; k++) {
      const elbo_tensor *x = c->g->nodes[i]->in[k];
      if (x && c->of[x->producer->id] != c->of[i]) waiting[c->of[i]]++;
    }
  // Walk the nodes in their order; a cluster is due at its last member, and pulls in what it still waits for.
  for (int64_t i = 0; i < n; i++) {
    int top = 0;
    if (c->high[c->of[i]] != i || emitted[c->of[i]]) continue;
    c->stack[top++] = c->of[i];
    while (top > 0) {
      int at = c->stack[top - 1], blocked = -1;
      if (emitted[at]) {
        top--;
        continue;
      }
      for (int id = at; id >= 0 && blocked < 0 && waiting[at] > 0; id = c->next[id])
        for (int k = 0; k < c->g->nodes[id]->n_in && blocked < 0; k++) {
          const elbo_tensor *x = c->g->nodes[id]->in[k];
          int p = x ? c->of[x->producer->id] : at;
          if (p != at && !emitted[p]) blocked = p;
        }
      if (blocked >= 0) {
        if (top > n) {
          status = fail(ctx, ELBO_ERROR_INTERNAL, "fusion made a cycle in graph %s", c->g->name);
          goto fail;
        }
        c->stack[top++] = blocked;
        continue;
      }
      top--;
      emitted[at] = true;
      if (!emit(c, r, at, reg_of)) {
        status = elbo_graph_check(r->to);
        if (status == ELBO_OK) status = fail(ctx, ELBO_ERROR_INTERNAL, "fusing a node of graph %s failed", c->g->name);
        goto fail;
      }
    }
  }
fail:
  free(waiting);
  free(reg_of);
  free(emitted);
  return status;
}

static elbo_status index_readers(elbo_ctx *ctx, const elbo_graph *g, int n, elbo_tensor *const *tensors, bool updates, clusters *c,
                                 int **storage, bool **requested) {
  int *uses = NULL;
  TRY(count_uses(ctx, g, n, tensors, updates, &uses));
  elbo_status status = ELBO_OK;
  int64_t total = 0;
  for (int64_t i = 0; i < g->n_tensors; i++) total += uses[i] + 1;
  TRY_GOTO(array_new(ctx, (size_t)total + 1, sizeof **storage, "a graph pass", (void **)storage));
  TRY_GOTO(array_new(ctx, (size_t)g->n_tensors + 1, sizeof **requested, "a graph pass", (void **)requested));
  TRY_GOTO(array_new(ctx, (size_t)g->n_tensors + 1, sizeof *c->readers, "a graph pass", (void **)&c->readers));
  int64_t at = 0;
  for (int64_t i = 0; i < g->n_tensors; i++) {
    c->readers[i] = *storage + at;
    at += uses[i] + 1;
    uses[i] = 0;
  }
  for (int64_t i = 0; i < g->n_nodes; i++)
    for (int k = 0; k < g->nodes[i]->n_in; k++)
      if (g->nodes[i]->in[k]) c->readers[g->nodes[i]->in[k]->id][uses[g->nodes[i]->in[k]->id]++] = (int)i;
  for (int64_t i = 0; i < g->n_tensors; i++) c->readers[i][uses[i]] = -1;
  for (int i = 0; i < n; i++) (*requested)[tensors[i]->id] = true;
  for (int64_t i = 0; updates && i < g->n_updates; i++) (*requested)[g->updates[i].value->id] = true;
  c->requested = *requested;
fail:
  free(uses);
  return status;
}

elbo_status fuse_elementwise(elbo_ctx *ctx, const elbo_graph *from, int n, elbo_tensor **tensors, bool updates, elbo_graph **to) {
  rewrite r;
  clusters c = {.g = from};
  int *storage = NULL, *block = NULL;
  bool *requested = NULL;
  elbo_status status = rewrite_begin(ctx, from, &r);
  if (status != ELBO_OK) return status;
  size_t size = (size_t)from->n_nodes + 2;
  TRY_GOTO(array_new(ctx, size * 6, sizeof *block, "a graph pass", (void **)&block));
  c.of = block;
  c.next = block + size;
  c.low = block + 2 * size;
  c.high = block + 3 * size;
  c.mark = block + 4 * size;
  c.stack = block + 5 * size;
  TRY_GOTO(index_readers(ctx, from, n, tensors, updates, &c, &storage, &requested));
  TRY_GOTO(find_clusters(ctx, &c, from->n_nodes));
  TRY_GOTO(emit_all(ctx, &c, &r));
  status = rewrite_end(&r, n, tensors, updates, to);
fail:
  rewrite_cancel(&r);
  free(block);
  free(storage);
  free(requested);
  free(c.readers);
  return status;
}
